/*
 * Purpose: the type Event.
 *
 * Layout: the block is one struct mpf_event_shm.
 *
 * States: set, unset; see event.c in sync/.
 *
 * Invariants: set() is one step that never waits, so that a signal handler may call it while this thread is in wait().
 *
 * Callers: Python code, attached to the interpreter.
 *
 * Death of the caller: event.c in sync/ answers for it; a sleeper leaves nothing that another one needs.
 */
#include "objects/errors.h"

#include <errno.h>

#include "objects/shared.h"
#include "objects/types.h"
#include "objects/wait.h"
#include "sync/event.h"

static inline struct mpf_event_shm *
event_shm(PyObject *op)
{
    return ((struct mpf_shared *)op)->shm;
}

static PyObject *
event_is_set(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    return PyBool_FromLong(mpf_event_is_set(event_shm(op)));
}

static PyObject *
event_set(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    mpf_event_set(event_shm(op));
    Py_RETURN_NONE;
}

static PyObject *
event_clear(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    mpf_event_clear(event_shm(op));
    Py_RETURN_NONE;
}

static PyObject *
event_wait(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    MPF_SHARED_CHECK(op);
    PyObject *timeout; /* borrowed */
    int64_t deadline;
    if (mpf_wait_parse_timeout("wait", args, nargs, kwnames, &timeout) < 0 ||
        mpf_wait_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    if (mpf_event_is_set(event_shm(op))) {
        Py_RETURN_TRUE;
    }
    if (deadline == 0) {
        Py_RETURN_FALSE;
    }
    struct mpf_wait wait;
    mpf_wait_init(&wait, ((struct mpf_shared *)op)->ref.arena, deadline);
    int got = mpf_event_wait(&wait.park, event_shm(op));
    if (got == 0) {
        Py_RETURN_TRUE;
    }
    if (got == -ETIMEDOUT) {
        Py_RETURN_FALSE;
    }
    return mpf_errors_raise(got);
}

/* Life. */

static int
event_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    if (mpf_shared_parse_ctx(op, args, kwargs) < 0) {
        return -1;
    }
    return mpf_shared_create((struct mpf_shared *)op, sizeof(struct mpf_event_shm), MPF_BLOCK_EVENT);
}

static PyObject *
event_getstate(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return mpf_shared_dump((struct mpf_shared *)op);
}

static PyObject *
event_setstate(PyObject *op, PyObject *handle)
{
    if (mpf_shared_load((struct mpf_shared *)op, handle, MPF_BLOCK_EVENT) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(is_set_doc, "is_set($self, /)\n--\n\nWhether the event is set.");
PyDoc_STRVAR(set_doc, "set($self, /)\n--\n\nSet the event and wake all who wait for it; never blocks.");
PyDoc_STRVAR(clear_doc, "clear($self, /)\n--\n\nUnset the event.");
PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Wait until the event is set; True, or False when timeout seconds have passed before.");

MPF_SHARED_INIT_METHOD(event_init)

static PyMethodDef event_methods[] = {
    {"is_set", event_is_set, METH_NOARGS, is_set_doc},
    {"set", event_set, METH_NOARGS, set_doc},
    {"clear", event_clear, METH_NOARGS, clear_doc},
    {"wait", (PyCFunction)(void (*)(void))event_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    MPF_SHARED_INIT_ENTRY(event_init, "*, ctx"),
    {"__getstate__", event_getstate, METH_NOARGS, NULL},
    {"__setstate__", event_setstate, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot event_slots[] = {
    {Py_tp_doc, "A flag that threads of any number of processes can wait for."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, event_init},
    {Py_tp_dealloc, mpf_shared_dealloc},
    {Py_tp_traverse, mpf_shared_traverse},
    {Py_tp_methods, event_methods},
    {Py_tp_members, mpf_shared_members},
    {0, NULL},
};

static PyType_Spec event_spec = {
    .name = "mpfast._core.Event",
    .basicsize = sizeof(struct mpf_shared),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = event_slots,
};

int
mpf_event_register(PyObject *module)
{
    return mpf_state_add_type(module, &event_spec, NULL, &mpf_state_of(module)->event_type);
}
