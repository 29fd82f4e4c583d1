/*
 * Purpose: calls in which no wait goes on when somebody else is gone, a manager for instance: each such somebody has an event,
 * which is set when that is so.
 *
 * Layout: the events' words in shared memory; a list of them on the stack of the call, which waits that begin in it note.
 *
 * States: of an event: not set -> set, for good.
 *
 * Invariants: who sets an event rouses all sleepers afterwards, so that a wait which has begun finds out at once, and one that
 * begins later when its short sleeps are over. What is there to be had is still given: only a wait ends.
 *
 * Callers: Python code, attached to the interpreter.
 *
 * Death of the caller: between set and rousing: the reaping of the dead rouses the sleepers.
 */
#include "memory/participant.h"
#include "objects/shared.h"
#include "objects/types.h"
#include "objects/until.h"

/* The memory of an Event; NULL with an exception. */
static struct mpf_shared *
until_event(struct mpf_state *state, PyObject *object)
{
    if (!PyObject_TypeCheck(object, state->event_type)) {
        PyErr_Format(PyExc_TypeError, "an Event is needed, not %.200s", Py_TYPE(object)->tp_name);
        return NULL;
    }
    struct mpf_shared *event = (struct mpf_shared *)object;
    return event->shm != NULL ? event : (struct mpf_shared *)mpf_shared_missing(object);
}

int
mpf_until_parse(struct mpf_state *state, PyObject *events, PyObject *one_more, struct mpf_wait_ends *ends)
{
    Py_ssize_t most = MPF_WAIT_ENDS - (one_more != NULL);
    *ends = (struct mpf_wait_ends){{NULL}};
    if (!PyTuple_Check(events) || PyTuple_GET_SIZE(events) > most) {
        PyErr_Format(PyExc_TypeError, "a tuple of at most %zd events is needed", most);
        return -1;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(events);
    for (Py_ssize_t i = 0; i < count + (one_more != NULL); i++) {
        struct mpf_shared *event = until_event(state, i < count ? PyTuple_GET_ITEM(events, i) : one_more); /* borrowed */
        if (event == NULL) {
            return -1;
        }
        ends->event[i] = event->shm;
    }
    return 0;
}

static PyObject *
until_call(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct mpf_wait_ends ends;
    if (nargs < 2) {
        PyErr_SetString(PyExc_TypeError, "call_until expected at least 2 arguments");
        return NULL;
    }
    if (mpf_until_parse(mpf_state_of(module), args[0], NULL, &ends) < 0) {
        return NULL;
    }
    const struct mpf_wait_ends *former = mpf_wait_until(&ends);
    PyObject *result = PyObject_Vectorcall(args[1], args + 2, (size_t)(nargs - 2), NULL);
    mpf_wait_until(former);
    return result;
}

static PyObject *
until_end(PyObject *module, PyObject *object)
{
    struct mpf_shared *event = until_event(mpf_state_of(module), object);
    if (event == NULL) {
        return NULL;
    }
    mpf_event_set(event->shm);
    mpf_participant_rouse(event->ref.arena);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(call_until_doc,
"call_until($module, events, function, /, *args)\n--\n\n"
"What function(*args) returns.  A wait in it ends with EOFError when one of the events, a tuple, is set by end().");
PyDoc_STRVAR(end_doc, "end($module, event, /)\n--\n\nSet the event, and end all waits that go on until it is.");

static PyMethodDef until_functions[] = {
    {"call_until", (PyCFunction)(void (*)(void))until_call, METH_FASTCALL, call_until_doc},
    {"end", until_end, METH_O, end_doc},
    {NULL, NULL, 0, NULL},
};

int
mpf_until_register(PyObject *module)
{
    return PyModule_AddFunctions(module, until_functions);
}
