/* A file mapped shared into this process, which other types of this directory read and write in place. */
#ifndef MPF_OBJECTS_MAPPING_H
#define MPF_OBJECTS_MAPPING_H

#include <stdbool.h>

#include "objects/state.h"
#include "platform/named.h"

struct mpf_mapping {
    PyObject_HEAD
    char *base;
    Py_ssize_t size;
    _Atomic Py_ssize_t users; /* exported buffers and pins; -1 once it is closed */
    _Atomic bool claimed;     /* one thread is closing it, together with what it belongs to */
};

/* Tells audit hooks that a file gets so many bytes, as os.ftruncate() does. 0, or -1 with the exception of one that refuses it. */
int mpf_mapping_audit_size(int fd, Py_ssize_t bytes);

/* New reference to the object for what is mapped, which is unmapped where there is no memory for it, or where an audit hook refuses
 * what it is told as by mmap.mmap(). */
PyObject *mpf_mapping_wrap(PyTypeObject *type, const struct mpf_named *file);

/* Unmaps it, then closes the descriptor that comes with it (-1: none). 0; -EBUSY: it has users, nothing is done; -errno of
 * close(). */
int mpf_mapping_close(struct mpf_mapping *self, int fd);

/* Raise OSError, unless something else was raised; for what mpf_mapping_close() says, BufferError where that is it. NULL. */
PyObject *mpf_mapping_fail(int rc);
PyObject *mpf_mapping_fail_to_close(int rc);

/* Whether the caller is the one to close it; until it gives that up, having failed. */
static inline bool
mpf_mapping_claim(struct mpf_mapping *self)
{
    /* Acquire: pairs with the release below, of a thread that has put back what it had taken from the mapping's owner. */
    return !atomic_exchange_explicit(&self->claimed, true, memory_order_acquire);
}

static inline void
mpf_mapping_unclaim(struct mpf_mapping *self)
{
    atomic_store_explicit(&self->claimed, false, memory_order_release); /* pairs with the acquire in mpf_mapping_claim() */
}

static inline bool
mpf_mapping_is_closed(const struct mpf_mapping *self)
{
    return atomic_load_explicit(&self->users, memory_order_relaxed) < 0;
}

/* Keeps the mapping where it is until mpf_mapping_unpin(). False: it is closed. */
static inline bool
mpf_mapping_pin(struct mpf_mapping *self)
{
    Py_ssize_t users = atomic_load_explicit(&self->users, memory_order_relaxed);
    do {
        if (users < 0) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&self->users, &users, users + 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

static inline void
mpf_mapping_unpin(struct mpf_mapping *self)
{
    atomic_fetch_sub_explicit(&self->users, 1, memory_order_release); /* pairs with the acquire in mpf_mapping_close() */
}

#endif
