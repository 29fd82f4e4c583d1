/*
 * Purpose: the type Stream: results one by one, in the order of the input or as they come.
 *
 * Layout: private memory. A ring of places, a power of two of them; the result number n is in place n % room:
 *
 *     taken              top
 *       v                 v
 *     | n | - | n+2 | n+3 |   ...      - : not in yet (ordered only)
 *
 * States: open -> ready (all pieces are in, or finish() was called); then exhausted when what is in has been taken.
 *
 * Invariants: a place between taken and top holds a result or NULL; all others are NULL. An unordered stream numbers results
 * as they come, so it has no gaps.
 *
 * Callers: attached to the interpreter; the fields are guarded by the stream (guard.h).
 *
 * Death of the caller: nothing is shared.
 */
#include <stddef.h>
#include <string.h>

#include "objects/crew.h"
#include "objects/guard.h"
#include "objects/receiver.h"
#include "objects/shared.h"
#include "objects/types.h"
#include "objects/wait.h"

#define STREAM_FIRST 16

struct stream_result {
    PyObject *value; /* owned, or NULL */
    bool ok;
};

struct mpf_stream {
    struct mpf_receiver base;
    struct stream_result *ring; /* or NULL */
    size_t room;
    int64_t taken; /* number of the next result to be given out */
    int64_t top;   /* one above the highest that is in */
    int64_t arrived; /* results that are in the ring */
    PyObject *piece; /* owned, or NULL: list that is being given out item by item */
    Py_ssize_t at;   /* next of its items */
    PyObject *error; /* owned, or NULL: raised once, after everything else */
    bool ordered;
    bool flat;
    bool finished; /* by finish(): results that are missing will not come */
};

static inline struct mpf_stream *stream_of(void *op) { return op; }

/* ---- putting in ---- */

static int
stream_grow(struct mpf_stream *stream, int64_t number)
{
    size_t room = stream->room != 0 ? stream->room : STREAM_FIRST;
    while ((uint64_t)(number - stream->taken) >= room) {
        room *= 2;
    }
    if (room == stream->room) {
        return 0;
    }
    struct stream_result *ring = PyMem_Calloc(room, sizeof *ring);
    if (ring == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (int64_t i = stream->taken; i < stream->top; i++) {
        ring[(size_t)i & (room - 1)] = stream->ring[(size_t)i & (stream->room - 1)];
    }
    PyMem_Free(stream->ring);
    stream->ring = ring;
    stream->room = room;
    return 0;
}

/* Steals value unless it fails. */
static int
stream_store(struct mpf_stream *stream, int64_t number, bool ok, PyObject *value)
{
    if (number < stream->taken) { /* given out before: cannot be, unless an index was used twice */
        PyErr_SetString(PyExc_ValueError, "that piece is in already");
        return -1;
    }
    if (stream_grow(stream, number) < 0) {
        return -1;
    }
    struct stream_result *place = &stream->ring[(size_t)number & (stream->room - 1)];
    if (place->value != NULL) {
        PyErr_SetString(PyExc_ValueError, "that piece is in already");
        return -1;
    }
    *place = (struct stream_result){value, ok};
    stream->arrived++;
    if (number >= stream->top) {
        stream->top = number + 1;
    }
    return 0;
}

#define STREAM_NEEDS 4 /* references that it has until it is ready */

/* Ready if everything is in. What it needed until then is moved to needs[], to be dropped outside the guard; whether it is ready now
 * and was not before. Guarded by the caller. */
static bool
stream_settle(struct mpf_stream *stream, PyObject *needs[STREAM_NEEDS])
{
    struct mpf_receiver *base = &stream->base;
    bool settled = !base->ready && (stream->finished || (base->pieces >= 0 && base->received >= base->pieces));
    memset(needs, 0, STREAM_NEEDS * sizeof *needs);
    if (settled) {
        base->ready = base->complete = true;
        base->ok = stream->error == NULL;
        needs[0] = base->crew;
        needs[1] = base->owner;
        needs[2] = base->func;
        base->crew = base->owner = base->func = NULL;
        if (base->received >= base->sent) { /* else a worker may have yet to open it */
            needs[3] = base->job;
            base->job = NULL;
        }
    }
    return settled;
}

static void
stream_drop(PyObject *const needs[STREAM_NEEDS])
{
    for (int i = 0; i < STREAM_NEEDS; i++) {
        Py_XDECREF(needs[i]);
    }
}

void
mpf_stream_push(struct mpf_receiver *base, int64_t index, bool ok, PyObject *value)
{
    struct mpf_stream *stream = stream_of(base);
    PyObject *needs[STREAM_NEEDS], *job, *dropped = NULL, *error = NULL;
    MPF_GUARD(base);
    job = mpf_receiver_count(base);
    if (stream->finished) {
        dropped = value;
    } else if (stream_store(stream, stream->ordered ? index : stream->top, ok, value) < 0) {
        dropped = value;
        error = mpf_receiver_take_error();
    }
    (void)stream_settle(stream, needs);
    MPF_UNGUARD();
    Py_XDECREF(job);
    Py_XDECREF(dropped);
    stream_drop(needs);
    if (error != NULL) {
        mpf_stream_finish(base, false, error);
    }
}

void
mpf_stream_finish(struct mpf_receiver *base, bool ok, PyObject *value)
{
    struct mpf_stream *stream = stream_of(base);
    PyObject *needs[STREAM_NEEDS], *former = value;
    MPF_GUARD(base);
    if (!base->ready) {
        stream->finished = true;
        if (!ok) {
            former = stream->error;
            stream->error = value;
        }
    }
    (void)stream_settle(stream, needs);
    MPF_UNGUARD();
    Py_XDECREF(former);
    if (needs[0] != NULL) {
        mpf_crew_collect_bump(needs[0]);
    }
    stream_drop(needs);
}

/* ---- taking out ---- */

static bool
stream_has_next(void *context)
{
    const struct mpf_stream *stream = context;
    return stream->piece != NULL || stream->base.ready ||
           (stream->taken < stream->top && stream->ring[(size_t)stream->taken & (stream->room - 1)].value != NULL);
}

static uint32_t
stream_wanted(void *Py_UNUSED(context))
{
    return 1;
}

/* The next result, into *result (a reference). 1; 0 there is none now; -1 there will be none. Guarded by the caller. */
static int
stream_take(struct mpf_stream *stream, struct stream_result *result)
{
    if (stream->piece != NULL) {
        *result = (struct stream_result){Py_NewRef(PyList_GET_ITEM(stream->piece, stream->at)), true};
        if (++stream->at == PyList_GET_SIZE(stream->piece)) {
            Py_CLEAR(stream->piece);
        }
        return 1;
    }
    while (stream->taken < stream->top) {
        struct stream_result *place = &stream->ring[(size_t)stream->taken & (stream->room - 1)];
        if (place->value == NULL) {
            break;
        }
        *result = *place;
        place->value = NULL;
        stream->taken++;
        stream->arrived--;
        if (!stream->flat || !result->ok || stream->base.chunksize == 1 || !PyList_CheckExact(result->value)) {
            return 1;
        }
        if (PyList_GET_SIZE(result->value) != 0) {
            stream->piece = result->value;
            stream->at = 0;
            return stream_take(stream, result);
        }
        Py_DECREF(result->value);
    }
    if (!stream->base.ready) {
        return 0;
    }
    if (stream->error != NULL) {
        *result = (struct stream_result){stream->error, false};
        stream->error = NULL;
        return 1;
    }
    return -1;
}

/* A reference, or NULL with an exception; NULL without one at the end. */
static PyObject *
stream_next_until(struct mpf_stream *stream, int64_t deadline)
{
    const struct mpf_crew_until until = {stream_has_next, stream_wanted, stream};
    struct stream_result result;
    PyObject *crew;
    for (bool last = false;; ) {
        int taken;
        MPF_GUARD(stream);
        taken = stream_take(stream, &result);
        crew = taken == 0 ? Py_XNewRef(stream->base.crew) : NULL;
        MPF_UNGUARD();
        if (taken > 0) {
            break;
        }
        if (taken < 0) {
            return NULL;
        }
        if (last) {
            Py_XDECREF(crew);
            return mpf_receiver_raise_timeout(stream->base.state);
        }
        if (crew == NULL) {
            PyErr_SetString(PyExc_RuntimeError, "nothing was submitted for this receiver");
            return NULL;
        }
        int done = mpf_crew_collect_until(crew, &until, deadline);
        Py_DECREF(crew);
        if (done < 0) {
            return NULL;
        }
        last = done == 0;
    }
    if (!result.ok) {
        mpf_receiver_raise(result.value);
        Py_CLEAR(result.value);
    }
    return result.value;
}

static PyObject *
stream_iternext(PyObject *op)
{
    return stream_next_until(stream_of(op), MPF_FOREVER);
}

static PyObject *
stream_next(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *timeout; /* borrowed */
    int64_t deadline;
    if (mpf_wait_parse_timeout("next", args, nargs, kwnames, &timeout) < 0 ||
        mpf_wait_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    PyObject *value = stream_next_until(stream_of(op), deadline);
    if (value == NULL && !PyErr_Occurred()) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return value;
}

/* ---- from Python ---- */

void
mpf_stream_set_length(struct mpf_receiver *base, int64_t pieces)
{
    PyObject *needs[STREAM_NEEDS];
    MPF_GUARD(base);
    base->pieces = pieces;
    (void)stream_settle(stream_of(base), needs);
    MPF_UNGUARD();
    if (needs[0] != NULL) {
        mpf_crew_collect_bump(needs[0]);
    }
    stream_drop(needs);
}

static PyObject *
stream_end(PyObject *op, PyObject *error)
{
    struct mpf_receiver *base = mpf_receiver_of(op);
    PyObject *former = error;
    Py_INCREF(error);
    MPF_GUARD(base);
    if (!base->ready) {
        former = stream_of(base)->error;
        stream_of(base)->error = error;
    }
    MPF_UNGUARD();
    Py_XDECREF(former);
    mpf_stream_set_length(base, base->sent);
    Py_RETURN_NONE;
}

static PyObject *
stream_set_length(PyObject *op, PyObject *arg)
{
    long long pieces = PyLong_AsLongLong(arg);
    if (pieces == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (pieces < mpf_receiver_of(op)->sent) {
        PyErr_SetString(PyExc_ValueError, "more pieces than that were submitted");
        return NULL;
    }
    mpf_stream_set_length(mpf_receiver_of(op), pieces);
    Py_RETURN_NONE;
}

static PyObject *
stream_push(PyObject *op, PyObject *args)
{
    struct mpf_receiver *base = mpf_receiver_of(op);
    PyObject *value, *crew; /* value is borrowed */
    long long index;
    int ok;
    if (!PyArg_ParseTuple(args, "LpO:push", &index, &ok, &value)) {
        return NULL;
    }
    MPF_GUARD(base);
    base->sent++;
    crew = Py_XNewRef(base->crew);
    MPF_UNGUARD();
    mpf_stream_push(base, index, ok, Py_NewRef(value));
    if (crew != NULL) {
        mpf_crew_collect_bump(crew);
        Py_DECREF(crew);
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_get_flag(PyObject *op, void *closure)
{
    return PyBool_FromLong(*(bool *)((char *)op + (size_t)closure));
}

static int
stream_set_flag(PyObject *op, PyObject *value, void *closure)
{
    int flag = value != NULL ? PyObject_IsTrue(value) : 0;
    if (flag < 0) {
        return -1;
    }
    if (mpf_receiver_of(op)->sent != 0) {
        PyErr_SetString(PyExc_ValueError, "something was submitted already");
        return -1;
    }
    *(bool *)((char *)op + (size_t)closure) = flag;
    return 0;
}

static PyObject *
stream_get_arrived(PyObject *op, void *Py_UNUSED(closure))
{
    struct mpf_stream *stream = stream_of(op);
    int64_t arrived = 0;
    MPF_GUARD(op);
    while (stream->taken + arrived < stream->top &&
           stream->ring[(size_t)(stream->taken + arrived) & (stream->room - 1)].value != NULL) {
        arrived++;
    }
    MPF_UNGUARD();
    return PyLong_FromLongLong(arrived);
}

static PyObject *
stream_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *made;
    if (mpf_receiver_new(type, MPF_RECEIVER_STREAM, &made) < 0) {
        return NULL;
    }
    stream_of(made)->ordered = true;
    return made;
}

static int
stream_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct mpf_stream *stream = stream_of(op);
    for (size_t i = 0; i < stream->room; i++) {
        Py_VISIT(stream->ring[i].value);
    }
    Py_VISIT(stream->piece);
    Py_VISIT(stream->error);
    return mpf_receiver_traverse(op, visit, arg);
}

static int
stream_clear(PyObject *op)
{
    struct mpf_stream *stream = stream_of(op);
    for (size_t i = 0; i < stream->room; i++) {
        Py_CLEAR(stream->ring[i].value);
    }
    stream->top = stream->taken;
    Py_CLEAR(stream->piece);
    Py_CLEAR(stream->error);
    return mpf_receiver_clear(op);
}

static void
stream_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)stream_clear(op);
    PyMem_Free(stream_of(op)->ring);
    type->tp_free(op);
    Py_DECREF(type);
}

PyDoc_STRVAR(next_doc,
"next($self, /, timeout=None)\n--\n\n"
"Return the next result, or raise the error of its piece, after which the stream goes on.\n\n"
"Raises StopIteration at the end, multiprocessing.TimeoutError when timeout seconds pass before there is one.");
PyDoc_STRVAR(set_length_doc,
"set_length($self, pieces, /)\n--\n\n"
"Say how many pieces there are in all.");
PyDoc_STRVAR(end_doc,
"end($self, error, /)\n--\n\n"
"Say that there are no more pieces than were submitted, because of an exception: it is raised after their results.");
PyDoc_STRVAR(push_doc,
"push($self, index, ok, value, /)\n--\n\n"
"Give the result of a piece that no worker does: one that was cancelled, say.");

static PyMethodDef stream_methods[] = {
    {"next", (PyCFunction)(void (*)(void))stream_next, METH_FASTCALL | METH_KEYWORDS, next_doc},
    {"set_length", stream_set_length, METH_O, set_length_doc},
    {"end", stream_end, METH_O, end_doc},
    {"push", stream_push, METH_VARARGS, push_doc},
    {NULL, NULL, 0, NULL},
};

#define STREAM_AT(field) ((void *)offsetof(struct mpf_stream, field))

static PyGetSetDef stream_attributes[] = {
    {"ordered", stream_get_flag, stream_set_flag, "Whether results come in the order of the input.", STREAM_AT(ordered)},
    {"flat", stream_get_flag, stream_set_flag, "Whether items are given out, not pieces.", STREAM_AT(flat)},
    {"arrived", stream_get_arrived, NULL, "Pieces that can be given out without waiting.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, "The results of tasks one by one: an iterator that waits."},
    {Py_tp_new, stream_new},
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, stream_iternext},
    {Py_tp_methods, stream_methods},
    {Py_tp_getset, stream_attributes},
    {0, NULL},
};

static PyType_Spec stream_spec = {
    .name = "mpfast._core.Stream",
    .basicsize = sizeof(struct mpf_stream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = stream_slots,
};

int
mpf_stream_register(PyObject *module)
{
    struct mpf_state *state = mpf_state_of(module);
    return mpf_state_add_type(module, &stream_spec, state->receiver_type, &state->stream_type);
}
