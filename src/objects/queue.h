/* The queue object: queue.c (life, looking, closing, tasks), queue_send.c, queue_receive.c, queue_batch.c. */
#ifndef MPF_OBJECTS_QUEUE_H
#define MPF_OBJECTS_QUEUE_H

#include <stdbool.h>

#include "codec/codec.h"
#include "objects/shared.h"
#include "objects/wait.h"
#include "platform/process.h"
#include "transport/queue.h"

struct mpf_queue_object {
    struct mpf_shared base;
    struct mpf_ref writer; /* off == 0: closed */
    struct mpf_bell bell;  /* owner == 0: none */
    PyObject *stash;       /* list of bytes, or NULL: what a batch took and could not give to its caller */
    uint32_t stash_forks;  /* mpf_process_forks when it was put there: a child has no part in it */
    uint64_t alone;        /* mpf_process_copies as long as no other process can know of this queue; see mpf_queue_is_alone */
    bool used; /* something was put through this object */
    uint64_t owed;         /* messages up to this one were put by this object while others waited for them; 0: none */
    bool closed;
    bool reader_closed; /* this process has said that it will get nothing more */
};

static inline struct mpf_queue_object *mpf_queue_of(PyObject *self) { return (struct mpf_queue_object *)self; }

/* Whether nobody but the caller can be at this queue: it was made by this object without a bound, has not been pickled, its process
 * has not forked, and the global lock keeps other threads out. Who waits for a message has given that lock up, and is a seeker. */
static inline bool mpf_queue_is_alone(const struct mpf_queue_object *queue) {
#ifdef Py_GIL_DISABLED
    (void)queue;
    return false;
#else
    const struct mpf_queue_shm *shm = queue->base.shm;
    return queue->alone == atomic_load_explicit(&mpf_process_copies, memory_order_relaxed) && !mpf_lane_awaited(&shm->lane);
#endif
}

/* Whether this process has hung up a bell for a program that waits on the descriptor. */
static inline bool mpf_queue_has_bell(const struct mpf_queue_object *queue) {
    return queue->bell.owner != 0 && queue->bell.owner == queue->base.ref.arena->self;
}

void mpf_queue_dealloc(PyObject *self);
PyObject *mpf_queue_raise_closed(PyObject *self);
PyObject *mpf_queue_elsewhere(PyObject *self, const char *name, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames);

/* For an object that is no queue in shared memory: the stdlib's method, where its class asked for that. */
#define MPF_QUEUE_HERE(self, name, args, nargs, kwnames) \
    do { \
        if (((struct mpf_shared *)(self))->shm == NULL) { \
            return mpf_queue_elsewhere(self, name, args, nargs, kwnames); \
        } \
    } while (0)

#define MPF_QUEUE_CHECK(self) \
    do { \
        MPF_SHARED_CHECK(self); \
        if (mpf_queue_of(self)->closed) { \
            return mpf_queue_raise_closed(self); \
        } \
    } while (0)

#define MPF_QUEUE_CHECK_READER(self) \
    do { \
        MPF_QUEUE_CHECK(self); \
        if (mpf_queue_of(self)->reader_closed) { \
            PyErr_SetString(PyExc_OSError, "handle is closed"); \
            return NULL; \
        } \
    } while (0)

/* The exception of a put or a get that failed with rc. */
PyObject *mpf_queue_raise_put(struct mpf_state *state, int rc);
PyObject *mpf_queue_raise_get(struct mpf_state *state, int rc);

/* An object that cannot be encoded (an exception is set): None if the queue's class deals with it, else NULL. */
PyObject *mpf_queue_encode_failed(PyObject *self, PyObject *object);

/* Puts one message, waiting for room until the deadline. 0, or -errno as mpf_message_send. */
int mpf_queue_send(struct mpf_queue_object *queue, const struct mpf_message *message, int64_t deadline);

/* After something was taken: a bell of ours falls silent when the queue is empty. */
void mpf_queue_silence(struct mpf_queue_object *queue);
static inline void mpf_queue_settle(struct mpf_queue_object *queue) {
    if (mpf_queue_has_bell(queue)) {
        mpf_queue_silence(queue);
    }
}

/* How many items there are. */
Py_ssize_t mpf_queue_length(PyObject *self);

/* How many messages a batch left over. */
Py_ssize_t mpf_queue_stashed(struct mpf_queue_object *queue);
/* Whether there was such a message: *object is what is in it, or NULL with an exception. */
bool mpf_queue_unstash(struct mpf_queue_object *queue, PyObject **object);

/* put() and get() with a deadline in place of the other arguments. ends: what their waits end with, but not what is waited for by
 * encoding and decoding; NULL: what this thread's waits end with. */
PyObject *mpf_queue_put_item(PyObject *self, PyObject *item, int64_t deadline, const struct mpf_wait_ends *ends);
PyObject *mpf_queue_get_item(PyObject *self, int64_t deadline, const struct mpf_wait_ends *ends);

PyObject *mpf_queue_put(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mpf_queue_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mpf_queue_put_many(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *mpf_queue_get_many(PyObject *self, PyObject *args, PyObject *kwargs);
extern const char mpf_queue_put_many_doc[], mpf_queue_get_many_doc[];

#endif
