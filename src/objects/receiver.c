/*
 * Purpose: the type Receiver: where the results of tasks go, as one value or as a list that pieces of a map fill.
 *
 * Layout: private memory of the process that submits.
 *
 * States: open -> complete (everything is in) -> ready; without `background` the last two are one step. submit() opens a
 * complete receiver of one value again.
 *
 * Invariants: `crew`, `owner` and `func` are dropped with ready, so that a result that is kept keeps no pool. What results do is
 * in receiver_result.c.
 *
 * Callers: attached to the interpreter; the fields are guarded by the receiver (guard.h).
 *
 * Death of the caller: nothing is shared; the job (crew_submit.c) comes back with the process's references.
 */
#include "objects/receiver.h"

#include <stddef.h>

#include "objects/crew.h"
#include "objects/guard.h"
#include "objects/shared.h"
#include "objects/types.h"
#include "objects/wait.h"

/* ---- waiting ---- */

static bool
receiver_is_ready(void *context)
{
    return ((struct mpf_receiver *)context)->ready;
}

/* How many results have to come before it can be ready. */
static uint32_t
receiver_wanted(void *context)
{
    const struct mpf_receiver *receiver = context;
    int64_t missing = receiver->kind == MPF_RECEIVER_LIST ? receiver->pieces - receiver->received : 1;
    return missing < 1 ? 1 : missing > UINT32_MAX ? UINT32_MAX : (uint32_t)missing;
}

int
mpf_receiver_wait_with(struct mpf_receiver *receiver, PyObject *crew, int64_t deadline)
{
    const struct mpf_crew_until until = {receiver_is_ready, receiver_wanted, receiver};
    return receiver->ready ? 1 : mpf_crew_collect_until(crew, &until, deadline);
}

/* Waits with the crew that it was submitted to. 1 ready, 0 the time is up, -1 with an exception. */
static int
receiver_wait_until(struct mpf_receiver *receiver, int64_t deadline)
{
    PyObject *crew;
    bool ready;
    MPF_GUARD(receiver);
    ready = receiver->ready;
    crew = Py_XNewRef(receiver->crew);
    MPF_UNGUARD();
    int done = ready;
    if (!ready && crew != NULL) {
        done = mpf_receiver_wait_with(receiver, crew, deadline);
    } else if (!ready && deadline != 0) {
        PyErr_SetString(PyExc_RuntimeError, "nothing was submitted for this receiver");
        done = -1;
    }
    Py_XDECREF(crew);
    return done;
}

static PyObject *
receiver_wait(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *timeout; /* borrowed */
    int64_t deadline;
    if (mpf_wait_parse_timeout("wait", args, nargs, kwnames, &timeout) < 0 ||
        mpf_wait_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    int done = receiver_wait_until(mpf_receiver_of(op), deadline);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

static PyObject *
receiver_get(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct mpf_receiver *receiver = mpf_receiver_of(op);
    PyObject *timeout, *value; /* timeout is borrowed */
    int64_t deadline;
    bool ok;
    if (mpf_wait_parse_timeout("get", args, nargs, kwnames, &timeout) < 0 ||
        mpf_wait_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    int done = receiver_wait_until(receiver, deadline);
    if (done <= 0) {
        return done == 0 ? mpf_receiver_raise_timeout(receiver->state) : NULL;
    }
    MPF_GUARD(receiver);
    ok = receiver->ok;
    value = Py_XNewRef(receiver->value);
    MPF_UNGUARD();
    if (value == NULL) {
        value = Py_NewRef(Py_None);
    }
    if (!ok) {
        mpf_receiver_raise(value);
        Py_CLEAR(value);
    }
    return value;
}

/* ---- the other methods ---- */

static PyObject *
receiver_finish(PyObject *op, PyObject *args)
{
    struct mpf_receiver *receiver = mpf_receiver_of(op);
    PyObject *value; /* borrowed */
    int ok;
    if (!PyArg_ParseTuple(args, "pO:finish", &ok, &value)) {
        return NULL;
    }
    if (receiver->kind == MPF_RECEIVER_STREAM) {
        bool first = !receiver->complete;
        mpf_stream_finish(receiver, ok, Py_NewRef(value));
        return PyBool_FromLong(first);
    }
    return PyBool_FromLong(mpf_receiver_finish(receiver, ok, value));
}

static PyObject *
receiver_expect_list(PyObject *op, PyObject *args)
{
    struct mpf_receiver *receiver = mpf_receiver_of(op);
    Py_ssize_t length, chunksize;
    if (!PyArg_ParseTuple(args, "nn:expect_list", &length, &chunksize)) {
        return NULL;
    }
    if (receiver->kind == MPF_RECEIVER_STREAM || receiver->sent != 0 || receiver->complete) {
        PyErr_SetString(PyExc_ValueError, "expect_list() comes before everything else");
        return NULL;
    }
    if (length < 0 || (chunksize < 1 && length > 0)) {
        PyErr_SetString(PyExc_ValueError, "a list has no negative length, and its pieces are of one item at least");
        return NULL;
    }
    PyObject *list = PyList_New(length);
    if (list == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < length; i++) {
        PyList_SET_ITEM(list, i, Py_NewRef(Py_None));
    }
    receiver->kind = MPF_RECEIVER_LIST;
    receiver->chunksize = chunksize;
    receiver->pieces = length == 0 ? 0 : (length - 1) / chunksize + 1;
    if (length == 0) {
        mpf_receiver_complete(receiver, true, list);
    } else {
        Py_XSETREF(receiver->value, list);
    }
    Py_RETURN_NONE;
}

static PyObject *
receiver_set_pieces(PyObject *op, PyObject *args)
{
    struct mpf_receiver *receiver = mpf_receiver_of(op);
    long long pieces;
    if (!PyArg_ParseTuple(args, "L:set_pieces", &pieces)) {
        return NULL;
    }
    if (receiver->kind != MPF_RECEIVER_LIST || pieces < receiver->sent) {
        PyErr_SetString(PyExc_ValueError, "set_pieces() is for lists, and counts the pieces that were sent");
        return NULL;
    }
    mpf_receiver_set_pieces(receiver, pieces);
    Py_RETURN_NONE;
}

static PyObject *
receiver_resolve_default(PyObject *op, PyObject *args)
{
    return receiver_finish(op, args);
}

/* ---- attributes ---- */

static PyObject *
receiver_get_value(PyObject *op, void *Py_UNUSED(closure))
{
    struct mpf_receiver *receiver = mpf_receiver_of(op);
    PyObject *value;
    MPF_GUARD(receiver);
    value = receiver->ready && receiver->value != NULL ? Py_NewRef(receiver->value) : Py_NewRef(Py_None);
    MPF_UNGUARD();
    return value;
}

static PyObject *
receiver_get_object(PyObject *op, void *closure)
{
    PyObject *value;
    MPF_GUARD(op);
    value = *(PyObject **)((char *)op + (size_t)closure);
    value = Py_NewRef(value != NULL ? value : Py_None);
    MPF_UNGUARD();
    return value;
}

static int
receiver_set_crew(PyObject *op, PyObject *crew, void *Py_UNUSED(closure))
{
    struct mpf_receiver *receiver = mpf_receiver_of(op);
    if (crew == NULL || !PyObject_TypeCheck(crew, receiver->state->crew_type)) {
        PyErr_SetString(PyExc_TypeError, "crew must be a Crew");
        return -1;
    }
    PyObject *former = NULL;
    MPF_GUARD(receiver);
    if (!receiver->ready) {
        former = receiver->crew;
        receiver->crew = Py_NewRef(crew);
    }
    MPF_UNGUARD();
    Py_XDECREF(former);
    return 0;
}

static int
receiver_set_owner(PyObject *op, PyObject *owner, void *Py_UNUSED(closure))
{
    struct mpf_receiver *receiver = mpf_receiver_of(op);
    PyObject *former = owner;
    Py_XINCREF(owner);
    MPF_GUARD(receiver);
    if (!receiver->ready) {
        former = receiver->owner;
        receiver->owner = owner;
    }
    MPF_UNGUARD();
    Py_XDECREF(former);
    return 0;
}

static PyObject *
receiver_get_ordinal(PyObject *op, void *Py_UNUSED(closure))
{
    struct mpf_receiver *receiver = mpf_receiver_of(op);
    if (!receiver->has_ordinal) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLongLong(receiver->ordinal);
}

static PyObject *
receiver_get_remaining(PyObject *op, void *Py_UNUSED(closure))
{
    struct mpf_receiver *receiver = mpf_receiver_of(op);
    if (receiver->ready) {
        return PyLong_FromLong(0);
    }
    if (receiver->pieces < 0) {
        return PyLong_FromLongLong(receiver->kind == MPF_RECEIVER_ONE ? 1 : receiver->sent - receiver->received);
    }
    return PyLong_FromLongLong(receiver->pieces - receiver->received);
}

static PyObject *
receiver_get_count(PyObject *op, void *closure)
{
    return PyLong_FromLongLong(*(int64_t *)((char *)op + (size_t)closure));
}

static PyObject *
receiver_get_flag(PyObject *op, void *closure)
{
    return PyBool_FromLong(*(bool *)((char *)op + (size_t)closure));
}

static int
receiver_set_background(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    int flag = value != NULL ? PyObject_IsTrue(value) : 0;
    if (flag < 0) {
        return -1;
    }
    MPF_GUARD(op);
    mpf_receiver_of(op)->background = flag;
    MPF_UNGUARD();
    return 0;
}

/* ---- life ---- */

int
mpf_receiver_new(PyTypeObject *type, enum mpf_receiver_kind kind, PyObject **made)
{
    struct mpf_state *state = mpf_state_of_type(type);
    PyObject *op = state != NULL ? type->tp_alloc(type, 0) : NULL;
    if (op == NULL) {
        return -1;
    }
    struct mpf_receiver *receiver = mpf_receiver_of(op);
    receiver->state = state;
    receiver->kind = (uint8_t)kind;
    receiver->pieces = -1;
    *made = op;
    return 0;
}

static PyObject *
receiver_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *made;
    return mpf_receiver_new(type, MPF_RECEIVER_ONE, &made) == 0 ? made : NULL;
}

int
mpf_receiver_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct mpf_receiver *receiver = mpf_receiver_of(op);
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(receiver->crew);
    Py_VISIT(receiver->value);
    Py_VISIT(receiver->func);
    Py_VISIT(receiver->job);
    Py_VISIT(receiver->owner);
    return 0;
}

int
mpf_receiver_clear(PyObject *op)
{
    struct mpf_receiver *receiver = mpf_receiver_of(op);
    Py_CLEAR(receiver->crew);
    Py_CLEAR(receiver->value);
    Py_CLEAR(receiver->func);
    Py_CLEAR(receiver->job);
    Py_CLEAR(receiver->owner);
    return 0;
}

static void
receiver_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)mpf_receiver_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Collect results of the crew until this receiver is ready; True, or False when timeout seconds have passed before.");
PyDoc_STRVAR(get_doc,
"get($self, /, timeout=None)\n--\n\n"
"Wait as wait() does; the value, or the exception raised.  Raises multiprocessing.TimeoutError.");
PyDoc_STRVAR(finish_doc,
"finish($self, ok, value, /)\n--\n\n"
"Make the receiver ready with this value (an exception where ok is false) and wake everybody who waits for it.\n\n"
"Results that come later are dropped.  Returns False, having done nothing, if it was ready.");
PyDoc_STRVAR(resolve_doc,
"_resolve($self, ok, value, /)\n--\n\n"
"Called when everything is in and `background` is set; a subclass's own sees to it that finish() is called.");
PyDoc_STRVAR(expect_list_doc,
"expect_list($self, length, chunksize, /)\n--\n\n"
"Become the receiver of a map of length items in pieces of chunksize: the value is the list of results.\n\n"
"If a piece fails the value is the first such exception, once all pieces are in.");
PyDoc_STRVAR(set_pieces_doc,
"set_pieces($self, pieces, /)\n--\n\n"
"Say that there are only so many pieces after all.");

static PyMethodDef receiver_methods[] = {
    {"wait", (PyCFunction)(void (*)(void))receiver_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"get", (PyCFunction)(void (*)(void))receiver_get, METH_FASTCALL | METH_KEYWORDS, get_doc},
    {"finish", receiver_finish, METH_VARARGS, finish_doc},
    {"_resolve", receiver_resolve_default, METH_VARARGS, resolve_doc},
    {"expect_list", receiver_expect_list, METH_VARARGS, expect_list_doc},
    {"set_pieces", receiver_set_pieces, METH_VARARGS, set_pieces_doc},
    {NULL, NULL, 0, NULL},
};

#define RECEIVER_AT(field) ((void *)offsetof(struct mpf_receiver, field))

static PyGetSetDef receiver_attributes[] = {
    {"ready", receiver_get_flag, NULL, "Whether the value is there.", RECEIVER_AT(ready)},
    {"ok", receiver_get_flag, NULL, "Whether it is a result, not an exception.", RECEIVER_AT(ok)},
    {"value", receiver_get_value, NULL, "The result or the exception; None before.", NULL},
    {"func", receiver_get_object, NULL, "The function that was submitted; None when it is ready.", RECEIVER_AT(func)},
    {"owner", receiver_get_object, receiver_set_owner, "Any object, kept until it is ready.", RECEIVER_AT(owner)},
    {"crew", receiver_get_object, receiver_set_crew, "Whose results are waited for; None when it is ready.", RECEIVER_AT(crew)},
    {"ordinal", receiver_get_ordinal, NULL, "Of the task submitted last, or None.", NULL},
    {"remaining", receiver_get_remaining, NULL, "Tasks or pieces that are not in.", NULL},
    {"sent", receiver_get_count, NULL, "Tasks or pieces that were submitted.", RECEIVER_AT(sent)},
    {"received", receiver_get_count, NULL, "Tasks or pieces that are in.", RECEIVER_AT(received)},
    {"background", receiver_get_flag, receiver_set_background, "Whether _resolve() is called before it is ready.", RECEIVER_AT(background)},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot receiver_slots[] = {
    {Py_tp_doc, "Where the results of tasks go: one value, or the list that the pieces of a map fill."},
    {Py_tp_new, receiver_new},
    {Py_tp_dealloc, receiver_dealloc},
    {Py_tp_traverse, mpf_receiver_traverse},
    {Py_tp_clear, mpf_receiver_clear},
    {Py_tp_methods, receiver_methods},
    {Py_tp_getset, receiver_attributes},
    {0, NULL},
};

static PyType_Spec receiver_spec = {
    .name = "mpfast._core.Receiver",
    .basicsize = sizeof(struct mpf_receiver),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = receiver_slots,
};

int
mpf_receiver_register(PyObject *module)
{
    return mpf_state_add_type(module, &receiver_spec, NULL, &mpf_state_of(module)->receiver_type);
}
