/*
 * Purpose: what results do to a receiver: one value, or pieces that fill a list, until it is ready.
 *
 * Layout, states: see receiver.c.
 *
 * Invariants: a result that comes after `complete` is dropped. A list is nobody else's until it is ready: pieces are moved into
 * it by swapping pointers.
 * `background` is looked at in the same step that makes the receiver ready: who sets it and then finds the receiver not
 * ready will be called.
 *
 * Callers: crew_collect.c and the methods of receivers, attached to the interpreter; the fields are guarded by the receiver
 * (guard.h). References that are dropped are dropped outside the guard.
 *
 * Death of the caller: nothing is shared.
 */
#include "objects/crew.h"
#include "objects/guard.h"
#include "objects/receiver.h"

/* ---- completion ---- */

PyObject *
mpf_receiver_raise_timeout(struct mpf_state *state)
{
    (void)state;
    PyObject *context = PyImport_ImportModule("multiprocessing.context");
    PyObject *type = context != NULL ? PyObject_GetAttrString(context, "TimeoutError") : NULL;
    if (type != NULL) {
        PyErr_SetNone(type);
    }
    Py_XDECREF(type);
    Py_XDECREF(context);
    return NULL;
}

PyObject *
mpf_receiver_raise(PyObject *value)
{
    if (!PyExceptionInstance_Check(value)) {
        PyErr_Format(PyExc_TypeError, "exceptions must derive from BaseException, not '%s'", Py_TYPE(value)->tp_name);
        return NULL;
    }
    PyErr_SetObject((PyObject *)Py_TYPE(value), value);
    return NULL;
}

/* Sets the fields; what is dropped is put into dropped[4]. */
static void
result_settle(struct mpf_receiver *receiver, bool ok, PyObject *value, PyObject *dropped[4])
{
    dropped[0] = receiver->value;
    dropped[1] = receiver->func;
    dropped[2] = receiver->crew;
    dropped[3] = receiver->owner;
    receiver->value = value; /* the reference moves here */
    receiver->func = NULL;
    receiver->crew = NULL;
    receiver->owner = NULL;
    receiver->ok = ok;
    receiver->complete = true;
    receiver->ready = true;
}

static void
result_call_resolve(struct mpf_receiver *receiver, bool ok, PyObject *value)
{
    PyObject *done = PyObject_CallMethod((PyObject *)receiver, "_resolve", "OO", ok ? Py_True : Py_False, value);
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)receiver);
    }
    Py_XDECREF(done);
}

void
mpf_receiver_complete(struct mpf_receiver *receiver, bool ok, PyObject *value)
{
    PyObject *dropped[4] = {NULL, NULL, NULL, NULL};
    bool call = false, late = false;
    MPF_GUARD(receiver);
    if (receiver->complete) {
        late = true;
    } else if (receiver->background) {
        receiver->complete = true;
        call = true;
    } else {
        result_settle(receiver, ok, value, dropped);
    }
    MPF_UNGUARD();
    if (call) {
        result_call_resolve(receiver, ok, value);
    }
    if (call || late) {
        Py_DECREF(value);
    }
    for (int i = 0; i < 4; i++) {
        Py_XDECREF(dropped[i]);
    }
}

bool
mpf_receiver_finish(struct mpf_receiver *receiver, bool ok, PyObject *value)
{
    PyObject *dropped[4] = {NULL, NULL, NULL, NULL};
    PyObject *crew = NULL;
    bool first;
    MPF_GUARD(receiver);
    first = !receiver->ready;
    if (first) {
        crew = Py_XNewRef(receiver->crew);
        result_settle(receiver, ok, Py_NewRef(value), dropped);
    }
    MPF_UNGUARD();
    for (int i = 0; i < 4; i++) {
        Py_XDECREF(dropped[i]);
    }
    if (crew != NULL) {
        mpf_crew_collect_bump(crew);
        Py_DECREF(crew);
    }
    return first;
}

/* ---- results ---- */

/* Moves the items of a piece into the list at index * chunksize. 0 or -1 with an exception. */
static int
result_fill(struct mpf_receiver *receiver, int64_t index, PyObject *piece)
{
    PyObject *list = receiver->value;
    Py_ssize_t at = (Py_ssize_t)index * receiver->chunksize;
    if (receiver->chunksize == 1 && at < PyList_GET_SIZE(list)) {
        PyObject *former = PyList_GET_ITEM(list, at); /* ours now */
        PyList_SET_ITEM(list, at, Py_NewRef(piece));
        Py_DECREF(former);
        return 0;
    }
    if (!PyList_CheckExact(piece)) {
        PyErr_Format(PyExc_SystemError, "a piece's result is a list, not '%s'", Py_TYPE(piece)->tp_name);
        return -1;
    }
    Py_ssize_t count = PyList_GET_SIZE(piece);
    if (at + count > PyList_GET_SIZE(list) || count > receiver->chunksize) {
        return PyList_SetSlice(list, at, at + receiver->chunksize, piece); /* the input was longer than it had said */
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyList_GET_ITEM(piece, i); /* the two lists swap what they have */
        PyList_SET_ITEM(piece, i, PyList_GET_ITEM(list, at + i));
        PyList_SET_ITEM(list, at + i, item);
    }
    return 0;
}

/* The exception that is set, as an instance; new reference. */
PyObject *
mpf_receiver_take_error(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL && value != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value != NULL ? value : Py_NewRef(Py_None);
}

/* The list's last piece is in: what it is complete with. New reference. */
static PyObject *
result_detach_list(struct mpf_receiver *receiver)
{
    PyObject *value = receiver->value;
    receiver->value = NULL;
    return value;
}

/* Counts a result in. New reference to the job if no worker needs it any more. Guarded by the caller. */
PyObject *
mpf_receiver_count(struct mpf_receiver *receiver)
{
    PyObject *job = NULL;
    receiver->received++;
    if (receiver->received == receiver->pieces) {
        job = receiver->job;
        receiver->job = NULL;
    }
    return job;
}

static void
result_resolve_piece(struct mpf_receiver *receiver, int64_t index, bool ok, PyObject *value)
{
    PyObject *dropped = NULL, *all = NULL, *job;
    bool failed = false;
    MPF_GUARD(receiver);
    job = mpf_receiver_count(receiver);
    if (!receiver->complete && ok && !receiver->failed && result_fill(receiver, index, value) < 0) {
        Py_SETREF(value, mpf_receiver_take_error());
        ok = false;
    }
    if (!receiver->complete && !ok && !receiver->failed) {
        receiver->failed = true;
        dropped = receiver->value;
        receiver->value = Py_NewRef(value);
    }
    if (!receiver->complete && receiver->received == receiver->pieces) {
        failed = receiver->failed;
        all = result_detach_list(receiver);
    }
    MPF_UNGUARD();
    Py_XDECREF(job);
    Py_XDECREF(dropped);
    Py_DECREF(value);
    if (all != NULL) {
        mpf_receiver_complete(receiver, !failed, all);
    }
}

void
mpf_receiver_resolve(struct mpf_receiver *receiver, int64_t index, bool ok, PyObject *value)
{
    if (receiver->kind == MPF_RECEIVER_STREAM) {
        mpf_stream_push(receiver, index, ok, value);
    } else if (receiver->kind == MPF_RECEIVER_LIST && index != MPF_RECEIVER_SINGLE) {
        result_resolve_piece(receiver, index, ok, value);
    } else {
        MPF_GUARD(receiver);
        receiver->received++;
        MPF_UNGUARD();
        mpf_receiver_complete(receiver, ok, value);
    }
}

static void
result_reopen(struct mpf_receiver *receiver)
{
    receiver->ready = receiver->complete = receiver->failed = false;
    Py_CLEAR(receiver->value);
}

int
mpf_receiver_begin(struct mpf_receiver *receiver, PyObject *crew, PyObject *func)
{
    if (receiver->complete && receiver->kind != MPF_RECEIVER_ONE) {
        PyErr_SetString(PyExc_ValueError, "the receiver has its results already");
        return -1;
    }
    PyObject *former_crew, *former_func;
    MPF_GUARD(receiver);
    if (receiver->complete) {
        result_reopen(receiver);
    }
    former_crew = receiver->crew;
    former_func = receiver->func;
    receiver->crew = Py_NewRef(crew);
    receiver->func = Py_NewRef(func);
    MPF_UNGUARD();
    Py_XDECREF(former_crew);
    Py_XDECREF(former_func);
    return 0;
}

void
mpf_receiver_set_pieces(struct mpf_receiver *receiver, int64_t pieces)
{
    PyObject *all = NULL, *job = NULL, *crew = NULL;
    bool failed = false;
    MPF_GUARD(receiver);
    receiver->pieces = pieces;
    if (!receiver->complete && receiver->received >= pieces) {
        failed = receiver->failed;
        all = result_detach_list(receiver);
        job = receiver->job;
        receiver->job = NULL;
        crew = Py_XNewRef(receiver->crew);
    }
    MPF_UNGUARD();
    Py_XDECREF(job);
    if (all != NULL) {
        mpf_receiver_complete(receiver, !failed, all);
    }
    if (crew != NULL) {
        mpf_crew_collect_bump(crew);
        Py_DECREF(crew);
    }
}
