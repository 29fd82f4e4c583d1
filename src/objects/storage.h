/* Storage: the shared memory of one Value or Array, exported through the buffer protocol. See storage.c. */
#ifndef MPF_OBJECTS_STORAGE_H
#define MPF_OBJECTS_STORAGE_H

#include "memory/block.h"
#include "objects/shared.h"
#include "sync/mutex.h"

struct mpf_storage {
    struct mpf_shared shared;
    char *data;                  /* `size` bytes */
    Py_ssize_t size;
    struct mpf_mutex_shm *mutex; /* the lock that lies before the data; NULL where there is none */
};

/* A new storage of `size` zero bytes, with or without a lock. New reference or NULL with an exception. */
PyObject *mpf_storage_new(struct mpf_state *state, Py_ssize_t size, bool locked);

/* An RLock object over the storage's lock. New reference or NULL with an exception. */
PyObject *mpf_storage_lock(struct mpf_storage *storage);

#endif
