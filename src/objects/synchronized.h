/* What Synchronized, SynchronizedArray and SynchronizedString have in common: memory, lock, ctypes object.
 * See synchronized.c. */
#ifndef MPF_OBJECTS_SYNCHRONIZED_H
#define MPF_OBJECTS_SYNCHRONIZED_H

#include <Python.h>

#include <pthread.h>
#include <stdbool.h>

#include "objects/storage.h"
#include "objects/item.h"

#if PY_VERSION_HEX < 0x030D0000
#define Py_BEGIN_CRITICAL_SECTION(op) {
#define Py_END_CRITICAL_SECTION() }
#endif

struct mpf_synchronized {
    PyObject_HEAD
    struct mpf_state *state;       /* NULL until bound */
    const struct mpf_item *item;   /* how the elements are boxed; NULL: everything goes through the ctypes object */
    char *data;                    /* the elements, in `storage` */
    Py_ssize_t length;             /* how many of them; -1: a single value */
    struct mpf_arena *arena;       /* of the native lock */
    struct mpf_mutex_shm *mutex;   /* the native lock; NULL: acquire and release are called */
    bool recursive;                /* there is a native lock, and it is an RLock */
    PyObject *storage;              /* owned: keeps data and, if embedded, the mutex; NULL when not in a Storage */
    PyObject *type;                /* owned: ctypes type of the elements; NULL without item */
    PyObject *obj;                 /* owned: the ctypes object; NULL until somebody asks for it */
    PyObject *lock;                /* owned: the lock object; NULL until somebody asks for the embedded one */
    PyObject *acquire, *release;   /* owned: bound methods of a lock that is not native, else NULL */
};

/* The calling thread, as PyThread_get_thread_ident() tells it, in fewer calls. */
static inline uint64_t
mpf_synchronized_thread(void)
{
    return (uint64_t)pthread_self();
}

/* Takes the lock. 0, or -1 with an exception. */
int mpf_synchronized_enter_slow(struct mpf_synchronized *self);
/* Releases it. 0, or -1 with an exception. Keeps an exception that is set already. */
int mpf_synchronized_leave_slow(struct mpf_synchronized *self);

static inline int
mpf_synchronized_enter(struct mpf_synchronized *self)
{
    if (self->recursive && mpf_rmutex_take_quick(self->arena, self->mutex, mpf_synchronized_thread())) {
        return 0;
    }
    return mpf_synchronized_enter_slow(self);
}

static inline int
mpf_synchronized_leave(struct mpf_synchronized *self)
{
    if (self->recursive && mpf_rmutex_drop_quick(self->arena, self->mutex, mpf_synchronized_thread())) {
        return 0;
    }
    return mpf_synchronized_leave_slow(self);
}

/* The result of an operation under the lock, which is released: `result`, or NULL when that fails. */
static inline PyObject *
mpf_synchronized_return(struct mpf_synchronized *self, PyObject *result)
{
    if (mpf_synchronized_leave(self) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* The ctypes object, made if need be. New reference or NULL. */
PyObject *mpf_synchronized_obj(struct mpf_synchronized *self);

/* obj.name, obj.name = value (not NULL) on the ctypes object, under the lock. */
PyObject *mpf_synchronized_getattr(struct mpf_synchronized *self, const char *name);
int mpf_synchronized_setattr(struct mpf_synchronized *self, const char *name, PyObject *value);

/* What ctypes stores for `value` in an element of this type, for values that item->store declines; at: one element.
 * array: as an array's element (an instance of the type will do), else as a simple object's value. 0 or -1. */
int mpf_synchronized_convert(struct mpf_synchronized *self, PyObject *value, bool array, char *at);

/* item->store, or ctypes' word where that declines. 0 or -1 with an exception. */
static inline int
mpf_synchronized_store(struct mpf_synchronized *self, PyObject *value, bool array, char *at)
{
    int stored = self->item->store(at, value);
    if (stored != 0) {
        return stored < 0 ? -1 : 0;
    }
    return mpf_synchronized_convert(self, value, array, at);
}

/* Copies one element; the widths there are, so that it is a single store. */
static inline void
mpf_synchronized_copy(const struct mpf_item *item, char *to, const char *from)
{
    switch (item->size) {
    case 1: *to = *from; break;
    case 2: *(uint16_t *)to = *(const uint16_t *)from; break;
    case 4: *(uint32_t *)to = *(const uint32_t *)from; break;
    case 8: *(uint64_t *)to = *(const uint64_t *)from; break;
    default: memcpy(to, from, item->size); break;
    }
}

/* TypeError for arithmetic on elements that are not integers. 0 or -1. */
int mpf_synchronized_check_integer(struct mpf_synchronized *self);

/* old = *at; *at = old op value, under the lock. New reference to the old value, or NULL. */
PyObject *mpf_synchronized_combine(struct mpf_synchronized *self, char *at, enum mpf_item_operation operation,
                                   PyObject *value);

/* synchronized_lock.c */

/* AttributeError for an object whose __init__ was not called. 0 or -1. */
int mpf_synchronized_check_bound(struct mpf_synchronized *self);
/* Uses the lock that lies in the storage. */
void mpf_synchronized_embed_lock(struct mpf_synchronized *self, struct mpf_storage *storage);
/* Uses the user's lock. 0 or -1. */
int mpf_synchronized_bind_lock(struct mpf_synchronized *self, PyObject *lock);
void mpf_synchronized_unbind_lock(struct mpf_synchronized *self);
/* New reference to the lock object, made if need be. */
PyObject *mpf_synchronized_lock(struct mpf_synchronized *self);

/* synchronized_create.c: methods of the type, and a function of the module. */

PyObject *mpf_synchronized_create_value(PyObject *class, PyObject *const *args, Py_ssize_t nargs);
PyObject *mpf_synchronized_create_array(PyObject *class, PyObject *const *args, Py_ssize_t nargs);
PyObject *mpf_synchronized_attach(PyObject *class, PyObject *const *args, Py_ssize_t nargs);
PyObject *mpf_synchronized_bind(PyObject *op, PyObject *args);
PyObject *mpf_synchronized_parts(PyObject *op, PyObject *ignored);
/* {typecode or type: (type, ord(letter))}: once, by mpfast.sharedctypes, which imports ctypes. */
PyObject *mpf_synchronized_set_simple_types(PyObject *module, PyObject *types);

#endif
