/*
 * Purpose: the types Semaphore and BoundedSemaphore.
 *
 * Layout: the block is a struct mpf_semaphore_shm, or a struct mpf_bounded_shm. The object adds, in private memory, how
 * often this process acquired and which thread did last: the stdlib's _count() and _is_mine(), of use to repr() and to
 * a Condition over a semaphore. A forked child starts from zero.
 *
 * States: those of semaphore.c in sync/.
 *
 * Invariants: the GIL is given up around sleeps only; an uncontended call makes no system call. The private figures
 * are hints, written without order.
 *
 * Callers: Python code, attached to the interpreter.
 *
 * Death of the caller: a plain semaphore is a counter and keeps its value; a bounded one gets the permits back.
 */
#include "objects/errors.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>

#include "objects/shared.h"
#include "objects/types.h"
#include "objects/wait.h"
#include "sync/bounded.h"
#include "sync/semaphore.h"

struct semaphore_object {
    struct mpf_shared base;
    _Atomic long count;
    _Atomic unsigned long thread;      /* that acquired last */
    _Atomic uint32_t participant;      /* for which the two above hold */
};

static inline struct semaphore_object *
semaphore_cast(PyObject *op)
{
    return (struct semaphore_object *)op;
}

static inline struct mpf_arena *
semaphore_arena(PyObject *op)
{
    return semaphore_cast(op)->base.ref.arena;
}

static inline void
semaphore_note(PyObject *op, long change)
{
    struct semaphore_object *self = semaphore_cast(op);
    uint32_t participant = semaphore_arena(op)->self;
    long count = atomic_load_explicit(&self->count, memory_order_relaxed);
    if (atomic_load_explicit(&self->participant, memory_order_relaxed) != participant) {
        atomic_store_explicit(&self->participant, participant, memory_order_relaxed);
        count = 0;
    }
    atomic_store_explicit(&self->count, count + change, memory_order_relaxed);
    if (change > 0) {
        atomic_store_explicit(&self->thread, (unsigned long)pthread_self(), memory_order_relaxed);
    }
}

static long
semaphore_noted(PyObject *op)
{
    struct semaphore_object *self = semaphore_cast(op);
    bool ours = atomic_load_explicit(&self->participant, memory_order_relaxed) == semaphore_arena(op)->self;
    return ours ? atomic_load_explicit(&self->count, memory_order_relaxed) : 0;
}

static inline int
semaphore_try(PyObject *op, bool bounded)
{
    void *shm = semaphore_cast(op)->base.shm;
    return bounded ? mpf_bounded_try(semaphore_arena(op), shm) : mpf_semaphore_try(shm);
}

static inline uint32_t
semaphore_value(PyObject *op, bool bounded)
{
    void *shm = semaphore_cast(op)->base.shm;
    return bounded ? mpf_bounded_value(shm) : mpf_semaphore_value(shm);
}

/* Sleeps for a permit: 0, -ETIMEDOUT, -EINTR. */
static Py_NO_INLINE int
semaphore_wait(PyObject *op, bool bounded, int64_t deadline)
{
    void *shm = semaphore_cast(op)->base.shm;
    struct mpf_wait wait;
    mpf_wait_init(&wait, semaphore_arena(op), deadline);
    return bounded ? mpf_bounded_acquire(&wait.park, shm) : mpf_semaphore_acquire(&wait.park, shm);
}

static inline PyObject *
semaphore_do_acquire(PyObject *op, bool bounded, int64_t deadline)
{
    int got = semaphore_try(op, bounded);
    if (got == -EAGAIN && deadline != 0) {
        got = semaphore_wait(op, bounded, deadline);
    }
    if (got == 0) {
        semaphore_note(op, 1);
        Py_RETURN_TRUE;
    }
    if (got == -EAGAIN || got == -ETIMEDOUT) {
        Py_RETURN_FALSE;
    }
    return mpf_errors_raise(got);
}

static inline PyObject *
semaphore_do_release(PyObject *op, bool bounded)
{
    void *shm = semaphore_cast(op)->base.shm;
    int done = bounded ? mpf_bounded_release(semaphore_arena(op), shm) : mpf_semaphore_release(shm, 1);
    if (done == -EOVERFLOW) {
        PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
        return NULL;
    }
    if (done < 0) {
        return mpf_errors_raise(done);
    }
    semaphore_note(op, -1);
    Py_RETURN_NONE;
}

#define SEMAPHORE_METHODS(prefix, bounded) \
    static PyObject *prefix##_acquire(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) \
    { \
        MPF_SHARED_CHECK(op); \
        int64_t deadline = MPF_FOREVER; \
        if ((nargs != 0 || kwnames != NULL) && mpf_wait_parse_acquire(args, nargs, kwnames, &deadline) < 0) { \
            return NULL; \
        } \
        return semaphore_do_acquire(op, bounded, deadline); \
    } \
    static PyObject *prefix##_release(PyObject *op, PyObject *Py_UNUSED(ignored)) \
    { \
        MPF_SHARED_CHECK(op); \
        return semaphore_do_release(op, bounded); \
    } \
    static PyObject *prefix##_enter(PyObject *op, PyObject *Py_UNUSED(ignored)) \
    { \
        MPF_SHARED_CHECK(op); \
        return semaphore_do_acquire(op, bounded, MPF_FOREVER); \
    } \
    static PyObject *prefix##_exit(PyObject *op, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs)) \
    { \
        MPF_SHARED_CHECK(op); \
        return semaphore_do_release(op, bounded); \
    } \
    static PyObject *prefix##_get_value(PyObject *op, PyObject *Py_UNUSED(ignored)) \
    { \
        MPF_SHARED_CHECK(op); \
        return PyLong_FromUnsignedLong(semaphore_value(op, bounded)); \
    } \
    static PyObject *prefix##_is_zero(PyObject *op, PyObject *Py_UNUSED(ignored)) \
    { \
        MPF_SHARED_CHECK(op); \
        return PyBool_FromLong(semaphore_value(op, bounded) == 0); \
    }

SEMAPHORE_METHODS(semaphore, false)
SEMAPHORE_METHODS(bounded, true)

static PyObject *
semaphore_count(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    return PyLong_FromLong(semaphore_noted(op));
}

static PyObject *
semaphore_is_mine(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    unsigned long thread = atomic_load_explicit(&semaphore_cast(op)->thread, memory_order_relaxed);
    return PyBool_FromLong(semaphore_noted(op) > 0 && thread == (unsigned long)pthread_self());
}

static PyObject *
semaphore_maxvalue(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    return PyLong_FromUnsignedLong(MPF_SEMAPHORE_VALUE_MAX);
}

static PyObject *
bounded_maxvalue(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    return PyLong_FromUnsignedLong(mpf_bounded_bound(semaphore_cast(op)->base.shm));
}

/* Life. */

/* (value=1, *, ctx): *value as a C int. 0, or -1 with the stdlib's exception. */
static int
semaphore_parse(PyObject *args, PyObject *kwargs, int *value)
{
    static char *names[] = {"value", "ctx", NULL};
    PyObject *number = NULL, *ctx = NULL; /* borrowed */
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:__init__", names, &number, &ctx)) {
        return -1;
    }
    if (ctx == NULL) {
        PyErr_SetString(PyExc_TypeError, "__init__() missing 1 required keyword-only argument: 'ctx'");
        return -1;
    }
    int overflow = 0;
    long given = number != NULL ? PyLong_AsLongAndOverflow(number, &overflow) : 1;
    if (given == -1 && overflow == 0 && PyErr_Occurred()) {
        return -1;
    }
    if (overflow != 0 || given > INT_MAX || given < INT_MIN) {
        PyErr_SetString(PyExc_OverflowError, "Python int too large to convert to C int");
        return -1;
    }
    if (given < 0) {
        mpf_errors_raise(-EINVAL);
        return -1;
    }
    *value = (int)given;
    return 0;
}

static int
semaphore_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    struct mpf_shared *self = (struct mpf_shared *)op;
    int value;
    if (semaphore_parse(args, kwargs, &value) < 0 ||
        mpf_shared_create(self, sizeof(struct mpf_semaphore_shm), MPF_BLOCK_SEMAPHORE) < 0) {
        return -1;
    }
    mpf_semaphore_init(self->shm, (uint32_t)value);
    return 0;
}

static int
bounded_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    struct mpf_shared *self = (struct mpf_shared *)op;
    int value;
    if (semaphore_parse(args, kwargs, &value) < 0 ||
        mpf_shared_create(self, mpf_bounded_bytes(), MPF_BLOCK_BOUNDED_SEMAPHORE) < 0) {
        return -1;
    }
    mpf_bounded_init(self->shm, (uint32_t)value);
    return 0;
}

static PyObject *
semaphore_getstate(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return mpf_shared_dump((struct mpf_shared *)op);
}

static PyObject *
semaphore_setstate(PyObject *op, PyObject *handle)
{
    if (mpf_shared_load((struct mpf_shared *)op, handle, MPF_BLOCK_SEMAPHORE) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
bounded_setstate(PyObject *op, PyObject *handle)
{
    if (mpf_shared_load((struct mpf_shared *)op, handle, MPF_BLOCK_BOUNDED_SEMAPHORE) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(acquire_doc,
"acquire($self, /, block=True, timeout=None)\n--\n\n"
"Take a permit; True, or False when none could be had at once (block=False) or within timeout seconds.");
PyDoc_STRVAR(semaphore_release_doc,
"release($self, /)\n--\n\n"
"Give a permit; any thread of any process may.  ValueError: the value is at its greatest.");
PyDoc_STRVAR(bounded_release_doc,
"release($self, /)\n--\n\n"
"Give a permit back; any thread of any process may.  ValueError: none is out.\n\n"
"The permits of a process that is killed come back by themselves.");
PyDoc_STRVAR(is_mine_doc, "_is_mine($self, /)\n--\n\nWhether this thread was the last of its process to take a permit that is out.");
PyDoc_STRVAR(count_doc, "_count($self, /)\n--\n\nPermits taken less permits given by this process.");
PyDoc_STRVAR(get_value_doc, "_get_value($self, /)\n--\n\nThe number of permits.");
PyDoc_STRVAR(is_zero_doc, "_is_zero($self, /)\n--\n\nWhether there is no permit.");
PyDoc_STRVAR(maxvalue_doc, "_maxvalue($self, /)\n--\n\nThe greatest value.");

MPF_SHARED_INIT_METHOD(semaphore_init)
MPF_SHARED_INIT_METHOD(bounded_init)

#define SEMAPHORE_TYPE(prefix, name_, doc) \
    static PyMethodDef prefix##_methods[] = { \
        {"acquire", (PyCFunction)(void (*)(void))prefix##_acquire, METH_FASTCALL | METH_KEYWORDS, acquire_doc}, \
        {"release", prefix##_release, METH_NOARGS, prefix##_release_doc}, \
        {"__enter__", prefix##_enter, METH_NOARGS, NULL}, \
        {"__exit__", (PyCFunction)(void (*)(void))prefix##_exit, METH_FASTCALL, NULL}, \
        {"_is_mine", semaphore_is_mine, METH_NOARGS, is_mine_doc}, \
        {"_count", semaphore_count, METH_NOARGS, count_doc}, \
        {"_get_value", prefix##_get_value, METH_NOARGS, get_value_doc}, \
        {"_is_zero", prefix##_is_zero, METH_NOARGS, is_zero_doc}, \
        {"_maxvalue", prefix##_maxvalue, METH_NOARGS, maxvalue_doc}, \
        MPF_SHARED_INIT_ENTRY(prefix##_init, "value=1, *, ctx"), \
        {"__getstate__", semaphore_getstate, METH_NOARGS, NULL}, \
        {"__setstate__", prefix##_setstate, METH_O, NULL}, \
        {NULL, NULL, 0, NULL}, \
    }; \
    static PyType_Slot prefix##_slots[] = { \
        {Py_tp_doc, doc}, \
        {Py_tp_new, PyType_GenericNew}, \
        {Py_tp_init, prefix##_init}, \
        {Py_tp_dealloc, mpf_shared_dealloc}, \
        {Py_tp_traverse, mpf_shared_traverse}, \
        {Py_tp_methods, prefix##_methods}, \
        {Py_tp_members, mpf_shared_members}, \
        {0, NULL}, \
    }; \
    static PyType_Spec prefix##_spec = { \
        .name = "mpfast._core." name_, \
        .basicsize = sizeof(struct semaphore_object), \
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, \
        .slots = prefix##_slots, \
    }

SEMAPHORE_TYPE(semaphore, "Semaphore", "A counting semaphore for threads of any number of processes.");
SEMAPHORE_TYPE(bounded, "BoundedSemaphore", "A semaphore whose value cannot exceed what it started with.");

int
mpf_semaphore_register(PyObject *module)
{
    PyTypeObject *semaphore = NULL;
    if (mpf_state_add_type(module, &semaphore_spec, NULL, &semaphore) < 0) {
        return -1;
    }
    int done = mpf_state_add_type(module, &bounded_spec, semaphore, NULL);
    Py_DECREF(semaphore);
    return done;
}
