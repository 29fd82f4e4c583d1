/*
 * Purpose: the type Condition, over a Lock or an RLock of mpfast or any object with acquire() and release().
 *
 * Layout: the block is a struct mpf_condition_shm. The object also has, in private memory, the lock.
 *
 * States of one wait(): has the lock -> enlisted -> lock released as often as it was held -> notified, timed out or
 * interrupted (no longer enlisted in either case) -> has the lock again, as often.
 *
 * Invariants: whoever calls notify() has the lock, and a waiter is enlisted before it lets go of it: no notification
 * falls in between. wait() returns with the lock taken again, also when it raises, unless a signal handler raises
 * while it waits for the lock itself.
 *
 * Callers: Python code, attached to the interpreter.
 *
 * Death of the caller: a notification that a killed waiter has not used goes on to the next one (condition.c in sync/).
 */
#include "objects/errors.h"

#include <errno.h>
#include <stdbool.h>

#include "objects/lock.h"
#include "objects/shared.h"
#include "objects/types.h"
#include "objects/wait.h"
#include "sync/condition.h"

struct condition_object {
    struct mpf_shared base;
    PyObject *lock; /* owned */
    bool native;    /* lock.h's functions serve for it */
};

static inline struct condition_object *
condition_cast(PyObject *op)
{
    return (struct condition_object *)op;
}

/* lock.name() without arguments; new reference or NULL. */
static PyObject *
condition_call(PyObject *op, const char *name)
{
    return PyObject_CallMethod(condition_cast(op)->lock, name, NULL);
}

/* lock._semlock.name() as a number; -1 with an exception, AttributeError where the lock has none. */
static long
condition_ask_semlock(PyObject *lock, const char *name)
{
    PyObject *semlock = PyObject_GetAttrString(lock, "_semlock");
    if (semlock == NULL) {
        return -1;
    }
    long number = -1;
    PyObject *answer = PyObject_CallMethod(semlock, name, NULL);
    if (answer != NULL) {
        number = PyLong_AsLong(answer);
        Py_DECREF(answer);
    }
    Py_DECREF(semlock);
    return number;
}

/* Whether a lock that tells nothing about itself is taken: by trying it. -1 with an exception. */
static int
condition_probe(PyObject *lock)
{
    PyObject *got = PyObject_CallMethod(lock, "acquire", "O", Py_False);
    int free = got != NULL ? PyObject_IsTrue(got) : -1;
    Py_XDECREF(got);
    if (free <= 0) {
        return free < 0 ? -1 : 1;
    }
    PyObject *released = PyObject_CallMethod(lock, "release", NULL);
    Py_XDECREF(released);
    return released != NULL ? 0 : -1;
}

/* How often the calling thread has the lock; -1 with an exception. */
static long
condition_held(PyObject *op)
{
    struct condition_object *self = condition_cast(op);
    if (self->native) {
        return mpf_lock_held(self->lock);
    }
    long mine = condition_ask_semlock(self->lock, "_is_mine");
    if (mine > 0) {
        return condition_ask_semlock(self->lock, "_count");
    }
    if (mine == 0 || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return mine;
    }
    PyErr_Clear();
    PyObject *owned = condition_call(op, "_is_owned");
    if (owned != NULL) {
        mine = PyObject_IsTrue(owned);
        Py_DECREF(owned);
        return mine;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return condition_probe(self->lock);
}

/* Releases the lock `held` times; 0, or -1 with an exception. */
static int
condition_suspend(PyObject *op, long held)
{
    struct condition_object *self = condition_cast(op);
    if (self->native) {
        mpf_lock_suspend(self->lock, (uint32_t)held);
        return 0;
    }
    while (held-- > 0) {
        PyObject *released = condition_call(op, "release");
        if (released == NULL) {
            return -1;
        }
        Py_DECREF(released);
    }
    return 0;
}

/* Takes the lock `held` times again. Keeps an exception that is set, unless this ends in one of its own. */
static int
condition_restore(PyObject *op, long held)
{
    struct condition_object *self = condition_cast(op);
    PyObject *type, *value, *traceback; /* owned */
    int done = 0;
    PyErr_Fetch(&type, &value, &traceback);
    if (self->native) {
        done = mpf_lock_restore(self->lock, (uint32_t)held);
    } else {
        while (done == 0 && held-- > 0) {
            PyObject *taken = condition_call(op, "acquire");
            done = taken != NULL ? 0 : -1;
            Py_XDECREF(taken);
        }
    }
    return mpf_errors_finally(done, type, value, traceback);
}

static PyObject *
condition_wait(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    MPF_SHARED_CHECK(op);
    struct condition_object *self = condition_cast(op);
    PyObject *timeout; /* borrowed */
    if (mpf_wait_parse_timeout("wait", args, nargs, kwnames, &timeout) < 0) {
        return NULL;
    }
    long held = condition_held(op);
    if (held <= 0) {
        if (held == 0) {
            PyErr_SetString(PyExc_AssertionError, "must acquire() condition before using wait()");
        }
        return NULL;
    }
    int64_t deadline;
    if (mpf_wait_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    uint32_t ticket;
    int got = mpf_condition_enlist(self->base.ref.arena, self->base.shm, &ticket);
    if (got < 0) {
        return mpf_errors_raise(got);
    }
    if (condition_suspend(op, held) < 0) {
        mpf_condition_withdraw(self->base.ref.arena, self->base.shm, ticket);
        return NULL; /* its release() raised: there is no telling what could be taken again */
    }
    struct mpf_wait wait;
    mpf_wait_init(&wait, self->base.ref.arena, deadline);
    got = mpf_condition_await(&wait.park, self->base.shm, ticket);
    if (got < 0 && got != -ETIMEDOUT) {
        mpf_errors_raise(got);
    }
    if (condition_restore(op, held) < 0 || (got < 0 && got != -ETIMEDOUT)) {
        return NULL;
    }
    return PyBool_FromLong(got == 0);
}

static PyObject *
condition_do_notify(PyObject *op, uint32_t count)
{
    struct condition_object *self = condition_cast(op);
    long held = condition_held(op);
    if (held <= 0) {
        if (held == 0) {
            PyErr_SetString(PyExc_AssertionError, "lock is not owned");
        }
        return NULL;
    }
    if (count > 0) {
        (void)mpf_condition_notify(self->base.ref.arena, self->base.shm, count);
    }
    Py_RETURN_NONE;
}

static PyObject *
condition_notify(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"n", NULL};
    PyObject *number = NULL; /* borrowed */
    MPF_SHARED_CHECK(op);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:notify", names, &number)) {
        return NULL;
    }
    uint32_t count = 1;
    if (number != NULL) {
        int overflow;
        long long n = PyLong_AsLongLongAndOverflow(number, &overflow);
        if (n == -1 && PyErr_Occurred()) {
            return NULL;
        }
        count = overflow > 0 || n > UINT32_MAX ? UINT32_MAX : overflow < 0 || n < 0 ? 0 : (uint32_t)n;
    }
    return condition_do_notify(op, count);
}

static PyObject *
condition_notify_all(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    return condition_do_notify(op, UINT32_MAX);
}

static PyObject *
condition_waiters(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    struct mpf_shared *self = (struct mpf_shared *)op;
    return PyLong_FromUnsignedLong(mpf_condition_waiters(self->shm));
}

/* The lock's own methods. */

static PyObject *
condition_acquire(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    MPF_SHARED_CHECK(op);
    struct condition_object *self = condition_cast(op);
    if (self->native && nargs == 0 && kwnames == NULL) {
        return mpf_lock_enter(self->lock);
    }
    PyObject *method = PyObject_GetAttrString(self->lock, "acquire");
    if (method == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(method, args, (size_t)nargs, kwnames);
    Py_DECREF(method);
    return result;
}

static PyObject *
condition_release(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    struct condition_object *self = condition_cast(op);
    return self->native ? mpf_lock_exit(self->lock) : condition_call(op, "release");
}

static PyObject *
condition_enter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    struct condition_object *self = condition_cast(op);
    return self->native ? mpf_lock_enter(self->lock) : condition_call(op, "__enter__");
}

static PyObject *
condition_exit(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    MPF_SHARED_CHECK(op);
    struct condition_object *self = condition_cast(op);
    if (self->native) {
        return mpf_lock_exit(self->lock);
    }
    PyObject *method = PyObject_GetAttrString(self->lock, "__exit__");
    if (method == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(method, args, (size_t)nargs, NULL);
    Py_DECREF(method);
    return result;
}

/* Life. */

static void
condition_adopt(PyObject *op, PyObject *lock) /* steals lock */
{
    struct condition_object *self = condition_cast(op);
    self->native = mpf_lock_is_native(self->base.state, lock);
    Py_XSETREF(self->lock, lock);
}

static int
condition_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"lock", "ctx", NULL};
    PyObject *lock = Py_None, *ctx = NULL; /* borrowed */
    struct mpf_shared *self = (struct mpf_shared *)op;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:__init__", names, &lock, &ctx)) {
        return -1;
    }
    if (ctx == NULL) {
        PyErr_SetString(PyExc_TypeError, "__init__() missing 1 required keyword-only argument: 'ctx'");
        return -1;
    }
    struct mpf_state *state = mpf_state_of_type(Py_TYPE(op));
    if (state == NULL) {
        return -1;
    }
    int given = lock == Py_None ? 0 : PyObject_IsTrue(lock);
    if (given < 0) {
        return -1;
    }
    lock = given ? Py_NewRef(lock) : PyObject_CallMethodNoArgs(ctx, state->name_rlock);
    if (lock == NULL) {
        return -1;
    }
    if (mpf_shared_create(self, mpf_condition_bytes(), MPF_BLOCK_CONDITION) < 0) {
        Py_DECREF(lock);
        return -1;
    }
    mpf_condition_init(self->shm);
    condition_adopt(op, lock);
    return 0;
}

static PyObject *
condition_getstate(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *handle = mpf_shared_dump((struct mpf_shared *)op);
    return handle != NULL ? Py_BuildValue("(ON)", condition_cast(op)->lock, handle) : NULL;
}

static PyObject *
condition_setstate(PyObject *op, PyObject *state)
{
    PyObject *lock, *handle; /* borrowed */
    if (!PyArg_Parse(state, "(OO);state of a Condition expected", &lock, &handle) ||
        mpf_shared_load((struct mpf_shared *)op, handle, MPF_BLOCK_CONDITION) < 0) {
        return NULL;
    }
    condition_adopt(op, Py_NewRef(lock));
    Py_RETURN_NONE;
}

static int
condition_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(condition_cast(op)->lock);
    return mpf_shared_traverse(op, visit, arg);
}

/* No tp_clear: a lock that refers back to its Condition is cleared by the dictionary that it does so through. */
static void
condition_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    Py_CLEAR(condition_cast(op)->lock);
    mpf_shared_dealloc(op);
}

PyDoc_STRVAR(acquire_doc, "acquire($self, /, *args, **kwargs)\n--\n\nAcquire the lock; see its acquire().");
PyDoc_STRVAR(release_doc, "release($self, /)\n--\n\nRelease the lock; see its release().");
PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Release the lock, wait to be notified, take the lock again; True, or False after timeout seconds without a notification.\n\n"
"AssertionError: the calling thread does not have the lock.");
PyDoc_STRVAR(notify_doc,
"notify($self, /, n=1)\n--\n\n"
"Wake up to n of those who wait, the longest waiting first.  AssertionError: the calling thread does not have the lock.");
PyDoc_STRVAR(notify_all_doc,
"notify_all($self, /)\n--\n\n"
"Wake all who wait.  AssertionError: the calling thread does not have the lock.");
PyDoc_STRVAR(waiters_doc, "_waiters($self, /)\n--\n\nHow many wait and have not been notified.");

MPF_SHARED_INIT_METHOD(condition_init)

static PyMethodDef condition_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))condition_acquire, METH_FASTCALL | METH_KEYWORDS, acquire_doc},
    {"release", condition_release, METH_NOARGS, release_doc},
    {"__enter__", condition_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))condition_exit, METH_FASTCALL, NULL},
    {"wait", (PyCFunction)(void (*)(void))condition_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"notify", (PyCFunction)(void (*)(void))condition_notify, METH_VARARGS | METH_KEYWORDS, notify_doc},
    {"notify_all", condition_notify_all, METH_NOARGS, notify_all_doc},
    {"_waiters", condition_waiters, METH_NOARGS, waiters_doc},
    MPF_SHARED_INIT_ENTRY(condition_init, "lock=None, *, ctx"),
    {"__getstate__", condition_getstate, METH_NOARGS, NULL},
    {"__setstate__", condition_setstate, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef condition_members[] = {
    {"_lock", Py_T_OBJECT_EX, offsetof(struct condition_object, lock), Py_READONLY, "The lock."},
    {"_offset", Py_T_ULONGLONG, offsetof(struct mpf_shared, ref.off), Py_READONLY, "Where it is in its arena, in bytes."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot condition_slots[] = {
    {Py_tp_doc, "A condition variable for threads of any number of processes."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, condition_init},
    {Py_tp_dealloc, condition_dealloc},
    {Py_tp_traverse, condition_traverse},
    {Py_tp_methods, condition_methods},
    {Py_tp_members, condition_members},
    {0, NULL},
};

static PyType_Spec condition_spec = {
    .name = "mpfast._core.Condition",
    .basicsize = sizeof(struct condition_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = condition_slots,
};

int
mpf_condition_register(PyObject *module)
{
    return mpf_state_add_type(module, &condition_spec, NULL, NULL);
}
