/*
 * Purpose: the lock of the synchronized types: the one in their storage, a user's native one, or any object.
 *
 * Layout: see synchronized.c.
 *
 * States: unbound -> bound, to another lock too where a program assigns one.
 *
 * Invariants: mutex != NULL says that acquire() and release() of the lock are the native ones, not overridden; recursive
 * implies mutex != NULL. Otherwise `acquire` and `release` are set, and called.
 *
 * Callers: the files of the synchronized types, attached to the interpreter.
 *
 * Death of the caller: while it has the lock: the next one gets it with OwnerDiedWarning, as for an RLock.
 */
#include "objects/synchronized.h"

#include "objects/errors.h"
#include "objects/lock.h"
#include "objects/wait.h"

int
mpf_synchronized_check_bound(struct mpf_synchronized *self)
{
    if (self->state == NULL) {
        PyErr_Format(PyExc_AttributeError, "'%s' object has no attribute '_obj'", Py_TYPE(self)->tp_name);
        return -1;
    }
    return 0;
}

static int
synchronized_drop(struct mpf_synchronized *self)
{
    return self->recursive ? mpf_rmutex_release(self->arena, self->mutex, mpf_synchronized_thread())
                           : mpf_mutex_release(self->arena, self->mutex);
}

static int
synchronized_try(struct mpf_synchronized *self)
{
    return self->recursive ? mpf_rmutex_try(self->arena, self->mutex, mpf_synchronized_thread())
                           : mpf_mutex_try(self->arena, self->mutex, mpf_synchronized_thread());
}

static int
synchronized_wait(struct mpf_synchronized *self)
{
    struct mpf_wait wait;
    mpf_wait_init(&wait, self->arena, MPF_FOREVER);
    return self->recursive ? mpf_rmutex_acquire(&wait.park, self->mutex, mpf_synchronized_thread())
                           : mpf_mutex_acquire(&wait.park, self->mutex, mpf_synchronized_thread());
}

static int
synchronized_call(PyObject *method)
{
    PyObject *result = PyObject_CallNoArgs(method);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

int
mpf_synchronized_enter_slow(struct mpf_synchronized *self)
{
    if (mpf_synchronized_check_bound(self) < 0) {
        return -1;
    }
    if (self->mutex == NULL) {
        return synchronized_call(self->acquire);
    }
    int tried = synchronized_try(self);
    if (tried < 0) {
        tried = synchronized_wait(self);
    }
    if (tried == 1 && mpf_errors_owner_died(self->state, (PyObject *)self) < 0) {
        (void)synchronized_drop(self);
        return -1;
    }
    if (tried < 0) {
        mpf_errors_raise(tried);
        return -1;
    }
    return 0;
}

int
mpf_synchronized_leave_slow(struct mpf_synchronized *self)
{
    PyObject *type, *value, *traceback;
    int result = 0;
    PyErr_Fetch(&type, &value, &traceback);
    if (self->mutex == NULL) {
        result = synchronized_call(self->release);
    } else if (synchronized_drop(self) < 0) {
        PyErr_SetString(self->recursive ? PyExc_AssertionError : PyExc_ValueError,
                        self->recursive ? "attempt to release recursive lock not owned by thread"
                                        : "semaphore or lock released too many times");
        result = -1;
    }
    if (type != NULL) {
        PyErr_Restore(type, value, traceback); /* steals them; what release raised gives way */
    }
    return result;
}

void
mpf_synchronized_unbind_lock(struct mpf_synchronized *self)
{
    self->recursive = false;
    self->mutex = NULL;
    Py_CLEAR(self->lock);
    Py_CLEAR(self->acquire);
    Py_CLEAR(self->release);
}

/* Uses the lock that lies in the storage. */
void
mpf_synchronized_embed_lock(struct mpf_synchronized *self, struct mpf_storage *storage)
{
    self->arena = storage->shared.ref.arena;
    self->mutex = storage->mutex;
    self->recursive = true;
}

/* Uses the user's lock, without going through its methods where they are ours. 0 or -1. */
int
mpf_synchronized_bind_lock(struct mpf_synchronized *self, PyObject *lock)
{
    mpf_synchronized_unbind_lock(self);
    if (mpf_lock_is_native(self->state, lock)) {
        struct mpf_shared *shared = (struct mpf_shared *)lock;
        self->arena = shared->ref.arena;
        self->recursive = PyObject_TypeCheck(lock, self->state->rlock_type);
        self->lock = Py_NewRef(lock);
        self->mutex = shared->shm;
        return 0;
    }
    self->acquire = PyObject_GetAttrString(lock, "acquire");
    self->release = self->acquire != NULL ? PyObject_GetAttrString(lock, "release") : NULL;
    if (self->release == NULL) {
        return -1;
    }
    self->lock = Py_NewRef(lock);
    return 0;
}

/* New reference to the lock object. */
PyObject *
mpf_synchronized_lock(struct mpf_synchronized *self)
{
    if (self->lock != NULL) {
        return Py_NewRef(self->lock);
    }
    if (mpf_synchronized_check_bound(self) < 0) {
        return NULL;
    }
    if (self->mutex == NULL || self->storage == NULL) {
        PyErr_Format(PyExc_AttributeError, "'%s' object has no attribute '_lock'", Py_TYPE(self)->tp_name);
        return NULL;
    }
    PyObject *lock = mpf_storage_lock((struct mpf_storage *)self->storage);
    if (lock == NULL) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->lock == NULL) {
        self->lock = Py_NewRef(lock);
    } else {
        Py_SETREF(lock, Py_NewRef(self->lock));
    }
    Py_END_CRITICAL_SECTION();
    return lock;
}
