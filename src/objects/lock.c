/*
 * Purpose: the types Lock and RLock.
 *
 * Layout: the block is one struct mpf_mutex_shm; the object holds a reference and a pointer to it.
 *
 * States: those of mutex.c. What is added here: a lock that came from a killed owner is announced by OwnerDiedWarning, and
 * the caller has it; where that ends in an exception (strict mode, a filter), the lock is released first.
 *
 * Invariants: the GIL is given up around sleeps only; an uncontended call makes no system call.
 *
 * Callers: Python code; condition.c through lock.h. Attached to the interpreter.
 *
 * Death of the caller: mutex.c answers for every step.
 */
#include "objects/lock.h"

#include <errno.h>
#include <pthread.h>

#include "objects/errors.h"
#include "objects/shared.h"
#include "objects/types.h"
#include "objects/wait.h"
#include "sync/mutex.h"

static inline struct mpf_arena *
lock_arena(PyObject *op)
{
    return ((struct mpf_shared *)op)->ref.arena;
}

static inline struct mpf_mutex_shm *
lock_mutex(PyObject *op)
{
    return ((struct mpf_shared *)op)->shm;
}

/* The value of PyThread_get_thread_ident(), without its way there. */
static inline uint64_t
lock_thread(void)
{
    return (uint64_t)pthread_self();
}

static inline bool
lock_is_recursive(PyObject *op)
{
    struct mpf_state *state = ((struct mpf_shared *)op)->state;
    return PyObject_TypeCheck(op, state->rlock_type);
}

/* Sleeps for it. 1 taken, 0 the deadline has passed, -1 exception; *inherited: taken from a killed owner. */
static Py_NO_INLINE int
lock_wait(PyObject *op, bool recursive, int64_t deadline, bool *inherited)
{
    struct mpf_wait wait;
    mpf_wait_init(&wait, lock_arena(op), deadline);
    int got = recursive ? mpf_rmutex_acquire(&wait.park, lock_mutex(op), lock_thread())
                        : mpf_mutex_acquire(&wait.park, lock_mutex(op), lock_thread());
    *inherited = got == 1;
    if (got >= 0) {
        return 1;
    }
    if (got == -ETIMEDOUT || got == -EAGAIN) {
        return 0;
    }
    mpf_errors_raise(got);
    return -1;
}

/* 1 taken, 0 not in time, -1 exception. Inlined with a constant `recursive`. */
static inline int
lock_take(PyObject *op, bool recursive, int64_t deadline, bool *inherited)
{
    if (recursive && mpf_rmutex_take_quick(lock_arena(op), lock_mutex(op), lock_thread())) {
        *inherited = false;
        return 1;
    }
    int got = recursive ? mpf_rmutex_try(lock_arena(op), lock_mutex(op), lock_thread())
                        : mpf_mutex_try(lock_arena(op), lock_mutex(op), lock_thread());
    *inherited = got == 1;
    if (got >= 0) {
        return 1;
    }
    return deadline == 0 ? 0 : lock_wait(op, recursive, deadline, inherited);
}

static inline int
lock_drop(PyObject *op, bool recursive)
{
    if (recursive && mpf_rmutex_drop_quick(lock_arena(op), lock_mutex(op), lock_thread())) {
        return 0;
    }
    return recursive ? mpf_rmutex_release(lock_arena(op), lock_mutex(op), lock_thread())
                     : mpf_mutex_release(lock_arena(op), lock_mutex(op));
}

static inline PyObject *
lock_do_acquire(PyObject *op, bool recursive, int64_t deadline)
{
    bool inherited;
    int got = lock_take(op, recursive, deadline, &inherited);
    if (got < 0) {
        return NULL;
    }
    if (inherited && mpf_errors_owner_died(((struct mpf_shared *)op)->state, op) < 0) {
        (void)lock_drop(op, recursive);
        return NULL;
    }
    return Py_NewRef(got ? Py_True : Py_False);
}

static inline PyObject *
lock_do_release(PyObject *op, bool recursive)
{
    if (lock_drop(op, recursive) < 0) {
        if (recursive) {
            PyErr_SetString(PyExc_AssertionError, "attempt to release recursive lock not owned by thread");
        } else {
            PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
        }
        return NULL;
    }
    Py_RETURN_NONE;
}

#define LOCK_METHODS(prefix, recursive) \
    static PyObject *prefix##_acquire(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) \
    { \
        MPF_SHARED_CHECK(op); \
        int64_t deadline = MPF_FOREVER; \
        if ((nargs != 0 || kwnames != NULL) && mpf_wait_parse_acquire(args, nargs, kwnames, &deadline) < 0) { \
            return NULL; \
        } \
        return lock_do_acquire(op, recursive, deadline); \
    } \
    static PyObject *prefix##_release(PyObject *op, PyObject *Py_UNUSED(ignored)) \
    { \
        MPF_SHARED_CHECK(op); \
        return lock_do_release(op, recursive); \
    } \
    static PyObject *prefix##_enter(PyObject *op, PyObject *Py_UNUSED(ignored)) \
    { \
        MPF_SHARED_CHECK(op); \
        return lock_do_acquire(op, recursive, MPF_FOREVER); \
    } \
    static PyObject *prefix##_exit(PyObject *op, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs)) \
    { \
        MPF_SHARED_CHECK(op); \
        return lock_do_release(op, recursive); \
    }

LOCK_METHODS(lock, false)
LOCK_METHODS(rlock, true)

/* What Condition uses. */

bool
mpf_lock_is_native(struct mpf_state *state, PyObject *lock)
{
    if (!PyObject_TypeCheck(lock, state->lock_type) && !PyObject_TypeCheck(lock, state->rlock_type)) {
        return false;
    }
    PyObject *const names[] = {state->name_acquire, state->name_release}; /* borrowed */
    bool native = ((struct mpf_shared *)lock)->shm != NULL;
    for (int i = 0; i < 2 && native; i++) {
        PyObject *method = PyObject_GetAttr(lock, names[i]);
        if (method == NULL) {
            PyErr_Clear();
            return false;
        }
        PyCFunction function = PyCFunction_Check(method) ? PyCFunction_GET_FUNCTION(method) : NULL;
        native = function != NULL && PyCFunction_GET_SELF(method) == lock &&
                 (i == 0 ? function == (PyCFunction)(void (*)(void))lock_acquire ||
                               function == (PyCFunction)(void (*)(void))rlock_acquire
                         : function == lock_release || function == rlock_release);
        Py_DECREF(method);
    }
    return native;
}

uint32_t
mpf_lock_held(PyObject *op)
{
    if (!mpf_mutex_mine(lock_arena(op), lock_mutex(op), lock_thread())) {
        return 0;
    }
    return lock_is_recursive(op) ? atomic_load_explicit(&lock_mutex(op)->depth, memory_order_relaxed) : 1;
}

PyObject *
mpf_lock_enter(PyObject *op)
{
    return lock_do_acquire(op, lock_is_recursive(op), MPF_FOREVER);
}

PyObject *
mpf_lock_exit(PyObject *op)
{
    return lock_do_release(op, lock_is_recursive(op));
}

void
mpf_lock_suspend(PyObject *op, uint32_t held)
{
    bool recursive = lock_is_recursive(op);
    while (held-- > 0) {
        (void)lock_drop(op, recursive);
    }
}

int
mpf_lock_restore(PyObject *op, uint32_t held)
{
    bool recursive = lock_is_recursive(op), inherited, again;
    if (lock_take(op, recursive, MPF_FOREVER, &inherited) < 0) {
        return -1;
    }
    while (--held > 0) {
        (void)lock_take(op, recursive, 0, &again); /* ours already: cannot fail */
    }
    return inherited ? mpf_errors_owner_died(((struct mpf_shared *)op)->state, op) : 0;
}

/* Looking inside, as repr() and some programs do. */

static PyObject *
lock_is_mine(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    return PyBool_FromLong(mpf_mutex_mine(lock_arena(op), lock_mutex(op), lock_thread()));
}

static PyObject *
lock_count(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    uint32_t count = 0;
    if (mpf_mutex_owner(lock_mutex(op)) == lock_arena(op)->self) {
        count = lock_is_recursive(op) ? atomic_load_explicit(&lock_mutex(op)->depth, memory_order_relaxed) : 1;
    }
    return PyLong_FromUnsignedLong(count);
}

static PyObject *
lock_get_value(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    return PyLong_FromLong(!mpf_mutex_locked(lock_mutex(op)));
}

static PyObject *
lock_is_zero(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(op);
    return PyBool_FromLong(mpf_mutex_locked(lock_mutex(op)));
}

/* Life. */

static int
lock_init_as(PyObject *op, PyObject *args, PyObject *kwargs, enum mpf_block_type type)
{
    if (mpf_shared_parse_ctx(op, args, kwargs) < 0) {
        return -1;
    }
    return mpf_shared_create((struct mpf_shared *)op, sizeof(struct mpf_mutex_shm), type);
}

static int
lock_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    return lock_init_as(op, args, kwargs, MPF_BLOCK_MUTEX);
}

static int
rlock_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    return lock_init_as(op, args, kwargs, MPF_BLOCK_RMUTEX);
}

static PyObject *
lock_getstate(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return mpf_shared_dump((struct mpf_shared *)op);
}

static PyObject *
lock_setstate(PyObject *op, PyObject *handle)
{
    if (mpf_shared_load((struct mpf_shared *)op, handle, MPF_BLOCK_MUTEX) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
rlock_setstate(PyObject *op, PyObject *handle)
{
    if (mpf_shared_load((struct mpf_shared *)op, handle, MPF_BLOCK_RMUTEX) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(acquire_doc,
"acquire($self, /, block=True, timeout=None)\n--\n\n"
"Take the lock; True, or False when it could not be had at once (block=False) or within timeout seconds.\n\n"
"A lock whose owner was killed is handed on with OwnerDiedWarning, or OwnerDied after mpfast.set_strict(True).");
PyDoc_STRVAR(lock_release_doc,
"release($self, /)\n--\n\n"
"Release the lock; any thread of any process may.  ValueError: it was not locked.");
PyDoc_STRVAR(rlock_release_doc,
"release($self, /)\n--\n\n"
"Undo one acquire() of this thread.  AssertionError: this thread does not have the lock.");
PyDoc_STRVAR(is_mine_doc, "_is_mine($self, /)\n--\n\nWhether this thread has the lock.");
PyDoc_STRVAR(count_doc, "_count($self, /)\n--\n\nHow often this process has the lock.");
PyDoc_STRVAR(get_value_doc, "_get_value($self, /)\n--\n\n1 when the lock is free, else 0.");
PyDoc_STRVAR(is_zero_doc, "_is_zero($self, /)\n--\n\nWhether the lock is taken.");

MPF_SHARED_INIT_METHOD(lock_init)
MPF_SHARED_INIT_METHOD(rlock_init)

#define LOCK_METHOD_TABLE(prefix, release_doc) \
    static PyMethodDef prefix##_methods[] = { \
        {"acquire", (PyCFunction)(void (*)(void))prefix##_acquire, METH_FASTCALL | METH_KEYWORDS, acquire_doc}, \
        {"release", prefix##_release, METH_NOARGS, release_doc}, \
        {"__enter__", prefix##_enter, METH_NOARGS, NULL}, \
        {"__exit__", (PyCFunction)(void (*)(void))prefix##_exit, METH_FASTCALL, NULL}, \
        {"_is_mine", lock_is_mine, METH_NOARGS, is_mine_doc}, \
        {"_count", lock_count, METH_NOARGS, count_doc}, \
        {"_get_value", lock_get_value, METH_NOARGS, get_value_doc}, \
        {"_is_zero", lock_is_zero, METH_NOARGS, is_zero_doc}, \
        MPF_SHARED_INIT_ENTRY(prefix##_init, "*, ctx"), \
        {"__getstate__", lock_getstate, METH_NOARGS, NULL}, \
        {"__setstate__", prefix##_setstate, METH_O, NULL}, \
        {NULL, NULL, 0, NULL}, \
    }

LOCK_METHOD_TABLE(lock, lock_release_doc);
LOCK_METHOD_TABLE(rlock, rlock_release_doc);

#define LOCK_SPEC(prefix, name_, doc) \
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
        .basicsize = sizeof(struct mpf_shared), \
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, \
        .slots = prefix##_slots, \
    }

LOCK_SPEC(lock, "Lock", "A lock for threads of any number of processes; not recursive.");
LOCK_SPEC(rlock, "RLock", "A recursive lock for threads of any number of processes.");

int
mpf_lock_register(PyObject *module)
{
    struct mpf_state *state = mpf_state_of(module);
    state->name_acquire = PyUnicode_InternFromString("acquire");
    state->name_release = PyUnicode_InternFromString("release");
    state->name_rlock = PyUnicode_InternFromString("RLock");
    if (state->name_acquire == NULL || state->name_release == NULL || state->name_rlock == NULL) {
        return -1;
    }
    if (mpf_state_add_type(module, &lock_spec, NULL, &state->lock_type) < 0) {
        return -1;
    }
    return mpf_state_add_type(module, &rlock_spec, NULL, &state->rlock_type);
}
