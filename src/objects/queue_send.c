/*
 * Purpose: put() of the queue object.
 *
 * Layout: see queue.c.
 *
 * Invariants: an object is encoded before the queue is touched: what cannot be pickled changes nothing.
 *
 * Callers: any thread attached to the interpreter.
 *
 * Death of the caller: a message is published whole or not at all (transport/lane.c).
 */
#include <errno.h>
#include <stdbool.h>

#include "objects/errors.h"
#include "objects/message.h"
#include "objects/queue.h"

/* Compiled into its caller as well: most of what a put costs would be calls. */
#define SPECIALIZED __attribute__((always_inline)) static inline

/* The exception of a put that failed with rc. */
PyObject *
mpf_queue_raise_put(struct mpf_state *state, int rc)
{
    if (rc == -EAGAIN || rc == -ETIMEDOUT) {
        return mpf_errors_raise_full(state, NULL);
    }
    return mpf_errors_raise(rc);
}

SPECIALIZED int
queue_send(struct mpf_queue_object *queue, const struct mpf_message *message, int64_t deadline)
{
    struct mpf_arena *arena = queue->base.ref.arena;
    struct mpf_queue_shm *shm = queue->base.shm;
    if (message->bytes <= MPF_LANE_INLINE_MAX && mpf_queue_is_alone(queue)) {
        if (message->bytes <= MPF_LANE_SHORT_MAX && mpf_lane_put_short_alone(arena, &shm->lane, message->flat, message->bytes)) {
            return 0;
        }
        struct mpf_lane_message parcel = mpf_message_parcel(message, 0);
        return mpf_lane_put_alone(arena, &shm->lane, &parcel);
    }
    struct mpf_queue_ringer ringer = {arena, shm};
    const struct mpf_lane_ringer ring = {mpf_queue_ring, &ringer};
    struct mpf_lane_message parcel = mpf_message_parcel(message, 0);
    if (parcel.bytes <= MPF_LANE_INLINE_MAX) { /* most need no wait, and none of what prepares one */
        int rc = mpf_lane_put(arena, &shm->lane, &parcel, &shm->limit, &ring);
        if (rc != -EAGAIN || deadline == 0) {
            return rc;
        }
    }
    struct mpf_wait wait;
    mpf_wait_init(&wait, arena, deadline);
    return mpf_message_send(&wait, &shm->lane, &parcel, &shm->limit, &ring);
}

int
mpf_queue_send(struct mpf_queue_object *queue, const struct mpf_message *message, int64_t deadline)
{
    return queue_send(queue, message, deadline);
}

/* An object that cannot be encoded: raised, or given to a subclass's _on_queue_feeder_error. */
PyObject *
mpf_queue_encode_failed(PyObject *self, PyObject *object)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(error, traceback);
    }
    PyObject *result = PyObject_CallMethod(self, "_encode_failed", "OO", error, object);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return result;
}

SPECIALIZED PyObject *
queue_put_object(PyObject *self, PyObject *object, int64_t deadline, const struct mpf_wait_ends *ends)
{
    struct mpf_queue_object *queue = mpf_queue_of(self);
    struct mpf_state *state = queue->base.state;
    struct mpf_message message;
    if (queue->writer.off == 0) {
        PyErr_SetString(PyExc_OSError, "handle is closed");
        return NULL;
    }
    if (mpf_codec_encode(state->codec, object, &message) < 0) {
        return mpf_queue_encode_failed(self, object);
    }
    const struct mpf_lane_shm *lane = &((struct mpf_queue_shm *)queue->base.shm)->lane;
    bool awaited = mpf_lane_awaited(lane);
    const struct mpf_wait_ends *former = ends != NULL ? mpf_wait_until(ends) : NULL;
    int rc = queue_send(queue, &message, deadline);
    if (ends != NULL) {
        mpf_wait_until(former);
    }
    if (awaited) {
        queue->owed = mpf_lane_total(lane);
    }
    mpf_codec_release(state->codec, &message);
    queue->used = true;
    if (rc < 0) {
        return mpf_queue_raise_put(state, rc);
    }
    Py_RETURN_NONE;
}

PyObject *
mpf_queue_put_item(PyObject *self, PyObject *item, int64_t deadline, const struct mpf_wait_ends *ends)
{
    return queue_put_object(self, item, deadline, ends);
}

PyObject *
mpf_queue_put(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    MPF_QUEUE_HERE(self, "put", args, nargs, kwnames);
    MPF_QUEUE_CHECK(self);
    PyObject *object = nargs == 1 ? args[0] : NULL; /* borrowed */
    int64_t deadline = MPF_FOREVER;
    if ((nargs != 1 || kwnames != NULL) && mpf_wait_parse_put(args, nargs, kwnames, &object, &deadline) < 0) {
        return NULL;
    }
    return queue_put_object(self, object, deadline, NULL);
}
