/*
 * Purpose: the type Barrier.
 *
 * Layout: the block is a struct mpf_barrier_shm. The object also has, in private memory, the action and the default timeout.
 *
 * States: those of barrier.c in sync/. The party that has to run the action does so between two calls to that layer,
 * while the others wait.
 *
 * Invariants: whoever was told to lead opens the barrier or fails it.
 *
 * Callers: Python code, attached to the interpreter.
 *
 * Death of the caller: breaks the barrier.
 */
#include "objects/errors.h"

#include <errno.h>
#include <stdbool.h>

#include "memory/participant.h"
#include "objects/shared.h"
#include "objects/types.h"
#include "objects/wait.h"
#include "sync/barrier.h"

struct barrier_object {
    struct mpf_shared base;
    PyObject *action;  /* owned */
    PyObject *timeout; /* owned: seconds or None */
};

static inline struct barrier_object *
barrier_cast(PyObject *op)
{
    return (struct barrier_object *)op;
}

/* Runs the action and lets the others go. 0, or -1 with the action's exception: the barrier is broken. */
static int
barrier_lead(PyObject *op)
{
    struct mpf_shared *self = (struct mpf_shared *)op;
    PyObject *result = PyObject_CallNoArgs(barrier_cast(op)->action);
    if (result == NULL) {
        mpf_barrier_fail(self->ref.arena, self->shm);
        return -1;
    }
    Py_DECREF(result);
    mpf_barrier_open(self->ref.arena, self->shm);
    return 0;
}

/* Learns of parties that were killed: nobody else may have noticed yet. */
static inline void
barrier_look_for_dead(PyObject *op)
{
    (void)mpf_participant_reap(((struct mpf_shared *)op)->ref.arena);
}

static PyObject *
barrier_wait(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    MPF_SHARED_CHECK(op);
    struct barrier_object *self = barrier_cast(op);
    PyObject *timeout; /* borrowed */
    if (mpf_wait_parse_timeout("wait", args, nargs, kwnames, &timeout) < 0) {
        return NULL;
    }
    if (timeout == NULL || timeout == Py_None) {
        timeout = self->timeout;
    }
    int64_t deadline;
    int has_action = PyObject_IsTrue(self->action);
    if (has_action < 0 || mpf_wait_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    struct mpf_wait wait;
    bool leader = false;
    mpf_wait_init(&wait, self->base.ref.arena, deadline);
    barrier_look_for_dead(op);
    int index = mpf_barrier_wait(&wait.park, self->base.shm, has_action, &leader);
    if (index == -EPIPE) {
        PyErr_SetNone(self->base.state->broken_barrier_error);
        return NULL;
    }
    if (index < 0) {
        return mpf_errors_raise(index);
    }
    if (leader && barrier_lead(op) < 0) {
        return NULL;
    }
    return PyLong_FromLong(index);
}

static PyObject *
barrier_reset(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    struct mpf_shared *self = (struct mpf_shared *)op;
    mpf_barrier_reset(self->ref.arena, self->shm);
    Py_RETURN_NONE;
}

static PyObject *
barrier_abort(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    struct mpf_shared *self = (struct mpf_shared *)op;
    mpf_barrier_abort(self->ref.arena, self->shm);
    Py_RETURN_NONE;
}

static PyObject *
barrier_get_parties(PyObject *op, void *Py_UNUSED(closure))
{
    MPF_SHARED_CHECK(op);
    return PyLong_FromUnsignedLong(mpf_barrier_parties(((struct mpf_shared *)op)->shm));
}

static PyObject *
barrier_get_waiting(PyObject *op, void *Py_UNUSED(closure))
{
    MPF_SHARED_CHECK(op);
    barrier_look_for_dead(op);
    return PyLong_FromUnsignedLong(mpf_barrier_waiting(((struct mpf_shared *)op)->shm));
}

static PyObject *
barrier_get_broken(PyObject *op, void *Py_UNUSED(closure))
{
    MPF_SHARED_CHECK(op);
    barrier_look_for_dead(op);
    return PyBool_FromLong(mpf_barrier_broken(((struct mpf_shared *)op)->shm));
}

/* Life. */

static void
barrier_adopt(PyObject *op, PyObject *action, PyObject *timeout)
{
    Py_XSETREF(barrier_cast(op)->action, Py_NewRef(action));
    Py_XSETREF(barrier_cast(op)->timeout, Py_NewRef(timeout));
}

/* The number of parties; 0 with an exception. */
static uint32_t
barrier_parse_parties(PyObject *number)
{
    int overflow;
    long long parties = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (parties == -1 && PyErr_Occurred()) {
        return 0;
    }
    if (overflow < 0 || (overflow == 0 && parties < 1)) {
        PyErr_SetString(PyExc_ValueError, "parties must be > 0");
        return 0;
    }
    if (overflow > 0 || parties > INT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "too many parties");
        return 0;
    }
    return (uint32_t)parties;
}

static int
barrier_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"parties", "action", "timeout", "ctx", NULL};
    PyObject *number, *action = Py_None, *timeout = Py_None, *ctx = NULL; /* borrowed */
    struct mpf_shared *self = (struct mpf_shared *)op;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO$O:__init__", names, &number, &action, &timeout, &ctx)) {
        return -1;
    }
    if (ctx == NULL) {
        PyErr_SetString(PyExc_TypeError, "__init__() missing 1 required keyword-only argument: 'ctx'");
        return -1;
    }
    uint32_t parties = barrier_parse_parties(number);
    if (parties == 0 || mpf_shared_create(self, mpf_barrier_bytes(), MPF_BLOCK_BARRIER) < 0) {
        return -1;
    }
    mpf_barrier_init(self->shm, parties);
    barrier_adopt(op, action, timeout);
    return 0;
}

static PyObject *
barrier_getstate(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct barrier_object *self = barrier_cast(op);
    PyObject *handle = mpf_shared_dump(&self->base);
    return handle != NULL ? Py_BuildValue("(NOO)", handle, self->action, self->timeout) : NULL;
}

static PyObject *
barrier_setstate(PyObject *op, PyObject *state)
{
    PyObject *handle, *action, *timeout; /* borrowed */
    if (!PyArg_Parse(state, "(OOO);state of a Barrier expected", &handle, &action, &timeout) ||
        mpf_shared_load((struct mpf_shared *)op, handle, MPF_BLOCK_BARRIER) < 0) {
        return NULL;
    }
    barrier_adopt(op, action, timeout);
    Py_RETURN_NONE;
}

static int
barrier_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(barrier_cast(op)->action);
    Py_VISIT(barrier_cast(op)->timeout);
    return mpf_shared_traverse(op, visit, arg);
}

static int
barrier_clear(PyObject *op)
{
    if (barrier_cast(op)->action != NULL) {
        Py_SETREF(barrier_cast(op)->action, Py_NewRef(Py_None));
    }
    return 0;
}

static void
barrier_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    Py_CLEAR(barrier_cast(op)->action);
    Py_CLEAR(barrier_cast(op)->timeout);
    mpf_shared_dealloc(op);
}

PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Wait until all parties have called this; the order of arrival, from 0 to parties - 1.\n\n"
"timeout: seconds, the barrier's own when None.  BrokenBarrierError: it passed (this breaks the barrier for all), or the\n"
"barrier is broken, or was reset meanwhile, or a process that has used it was killed.");
PyDoc_STRVAR(reset_doc,
"reset($self, /)\n--\n\nMake the barrier as new.  Whoever waits gets BrokenBarrierError.");
PyDoc_STRVAR(abort_doc,
"abort($self, /)\n--\n\nBreak the barrier.  Whoever waits, or will, gets BrokenBarrierError.");

MPF_SHARED_INIT_METHOD(barrier_init)

static PyMethodDef barrier_methods[] = {
    {"wait", (PyCFunction)(void (*)(void))barrier_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"reset", barrier_reset, METH_NOARGS, reset_doc},
    {"abort", barrier_abort, METH_NOARGS, abort_doc},
    MPF_SHARED_INIT_ENTRY(barrier_init, "parties, action=None, timeout=None, *, ctx"),
    {"__getstate__", barrier_getstate, METH_NOARGS, NULL},
    {"__setstate__", barrier_setstate, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef barrier_getset[] = {
    {"parties", barrier_get_parties, NULL, "How many have to wait for the barrier to open.", NULL},
    {"n_waiting", barrier_get_waiting, NULL, "How many wait.", NULL},
    {"broken", barrier_get_broken, NULL, "Whether the barrier is broken.", NULL},
    {"_parties", barrier_get_parties, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef barrier_members[] = {
    {"_action", Py_T_OBJECT_EX, offsetof(struct barrier_object, action), 0, "Called by one of the parties, or None."},
    {"_timeout", Py_T_OBJECT_EX, offsetof(struct barrier_object, timeout), 0, "Of a wait() without one, in seconds, or None."},
    {"_offset", Py_T_ULONGLONG, offsetof(struct mpf_shared, ref.off), Py_READONLY, "Where it is in its arena, in bytes."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot barrier_slots[] = {
    {Py_tp_doc, "A barrier for threads of any number of processes."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, barrier_init},
    {Py_tp_dealloc, barrier_dealloc},
    {Py_tp_traverse, barrier_traverse},
    {Py_tp_clear, barrier_clear},
    {Py_tp_methods, barrier_methods},
    {Py_tp_getset, barrier_getset},
    {Py_tp_members, barrier_members},
    {0, NULL},
};

static PyType_Spec barrier_spec = {
    .name = "mpfast._core.Barrier",
    .basicsize = sizeof(struct barrier_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = barrier_slots,
};

int
mpf_barrier_register(PyObject *module)
{
    return mpf_state_add_type(module, &barrier_spec, NULL, NULL);
}
