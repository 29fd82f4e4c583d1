/*
 * Purpose: put_many() and get_many(): many items for one entry into the queue.
 *
 * Layout: private memory only; a batch is encoded into one buffer, and published with one store (transport/lane.c).
 *
 * Invariants: order is kept; an item that is too long for a batch is sent alone, after those before it.
 *
 * Callers: any thread attached to the interpreter.
 *
 * Death of the caller: a batch is published whole or not at all; one that was taken is lost with its taker.
 */
#include <errno.h>

#include "objects/errors.h"
#include "objects/guard.h"
#include "objects/message.h"
#include "objects/queue.h"
#include "platform/process.h"

#define QUEUE_BATCH 256
#define QUEUE_BATCH_MESSAGE 4096 /* longer messages are sent one at a time */

const char mpf_queue_put_many_doc[] =
    PyDoc_STR("put_many(iterable, timeout=None) -> int\n\nPuts every item of iterable, in order, many at a time. Returns how "
              "many.\nRaises queue.Full, whose argument is the number of items put, when there is no room for the rest "
              "within\ntimeout seconds. An item that cannot be pickled raises after those before it were put.\nNot in the "
              "stdlib.");

const char mpf_queue_get_many_doc[] =
    PyDoc_STR("get_many(max_messages=None, timeout=None) -> list\n\nWaits up to timeout seconds for one item (queue.Empty "
              "if none comes), and returns it with those behind it,\nup to max_messages. Not in the stdlib.");

struct queue_batch {
    struct mpf_lane_message messages[QUEUE_BATCH];
    unsigned count;
    size_t used;
    char bytes[MPF_LANE_BATCH_BYTES];
};

/* Sends all of the batch, or as much as there is room for until the deadline. 0 or -errno; *sent counts on. */
static int
queue_flush(struct mpf_queue_object *queue, struct mpf_wait *wait, struct queue_batch *batch, Py_ssize_t *sent)
{
    struct mpf_queue_shm *shm = queue->base.shm;
    struct mpf_queue_ringer ringer = {wait->park.arena, shm};
    const struct mpf_lane_ringer ring = {mpf_queue_ring, &ringer};
    unsigned done = 0;
    int rc = 0;
    while (done < batch->count) {
        rc = mpf_lane_put_many(wait->park.arena, &shm->lane, batch->messages + done, batch->count - done, &shm->limit,
                               &ring);
        if (rc > 0) {
            done += (unsigned)rc;
            *sent += rc;
            continue;
        }
        if (rc != -EAGAIN || wait->park.deadline == 0 || (rc = mpf_lane_await_room(&wait->park, &shm->lane, &shm->limit)) < 0) {
            break;
        }
    }
    batch->count = 0;
    batch->used = 0;
    return rc < 0 ? rc : 0;
}

/* Adds one object, sending what is in the way. 0, -errno, or 1 with an exception set. */
static int
queue_batch_add(struct mpf_queue_object *queue, struct mpf_wait *wait, struct queue_batch *batch, PyObject *object, Py_ssize_t *sent)
{
    struct mpf_state *state = queue->base.state;
    struct mpf_message message;
    int rc = 0;
    if (mpf_codec_encode(state->codec, object, &message) < 0) {
        PyObject *result = mpf_queue_encode_failed((PyObject *)queue, object);
        Py_XDECREF(result);
        return result == NULL ? 1 : 0;
    }
    bool large = message.bytes > QUEUE_BATCH_MESSAGE;
    if (large || batch->count == QUEUE_BATCH || batch->used + message.bytes > sizeof batch->bytes) {
        rc = queue_flush(queue, wait, batch, sent);
    }
    if (rc == 0 && large) {
        rc = mpf_queue_send(queue, &message, wait->park.deadline);
        *sent += rc == 0;
    } else if (rc == 0) {
        char *place = batch->bytes + batch->used;
        mpf_codec_write(&message, place);
        batch->messages[batch->count++] = (struct mpf_lane_message){.data = place, .bytes = message.bytes};
        batch->used += message.bytes;
    }
    mpf_codec_release(state->codec, &message);
    return rc;
}

static PyObject *
queue_put_batches(struct mpf_queue_object *queue, PyObject *iterator, struct mpf_wait *wait, struct queue_batch *batch)
{
    struct mpf_state *state = queue->base.state;
    Py_ssize_t sent = 0;
    PyObject *object;
    int rc = 0;
    while (rc == 0 && (object = PyIter_Next(iterator)) != NULL) {
        rc = queue_batch_add(queue, wait, batch, object, &sent);
        Py_DECREF(object);
    }
    if (rc == 0 || rc == 1) { /* what was encoded before an error is sent all the same */
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        int flushed = queue_flush(queue, wait, batch, &sent);
        if (type != NULL) {
            PyErr_Restore(type, error, traceback);
            return NULL;
        }
        rc = flushed;
    }
    if (rc == -EAGAIN || rc == -ETIMEDOUT) {
        PyObject *count = PyLong_FromSsize_t(sent);
        if (count != NULL) {
            mpf_errors_raise_full(state, count);
            Py_DECREF(count);
        }
        return NULL;
    }
    return rc < 0 ? mpf_queue_raise_put(state, rc) : PyLong_FromSsize_t(sent);
}

PyObject *
mpf_queue_put_many(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"iterable", "timeout", NULL};
    PyObject *iterable, *timeout = NULL; /* borrowed */
    int64_t deadline;
    MPF_QUEUE_CHECK(self);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:put_many", names, &iterable, &timeout) ||
        mpf_wait_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    struct mpf_queue_object *queue = mpf_queue_of(self);
    if (queue->writer.off == 0) {
        PyErr_SetString(PyExc_OSError, "handle is closed");
        return NULL;
    }
    PyObject *iterator = PyObject_GetIter(iterable);
    if (iterator == NULL) {
        return NULL;
    }
    struct queue_batch *batch = PyMem_RawMalloc(sizeof *batch);
    if (batch == NULL) {
        Py_DECREF(iterator);
        return PyErr_NoMemory();
    }
    batch->count = 0;
    batch->used = 0;
    queue->used = true;
    struct mpf_wait wait;
    mpf_wait_init(&wait, queue->base.ref.arena, deadline);
    PyObject *result = queue_put_batches(queue, iterator, &wait, batch);
    PyMem_RawFree(batch);
    Py_DECREF(iterator);
    return result;
}

/* ---- what a batch leaves over ---- */

/* Inside the queue's critical section. */
static Py_ssize_t
queue_stash_length(struct mpf_queue_object *queue)
{
    if (queue->stash != NULL && queue->stash_forks != mpf_process_forks) {
        Py_CLEAR(queue->stash); /* the parent's to give out */
    }
    return queue->stash != NULL ? PyList_GET_SIZE(queue->stash) : 0;
}

Py_ssize_t
mpf_queue_stashed(struct mpf_queue_object *queue)
{
    Py_ssize_t length;
    if (queue->stash == NULL) {
        return 0;
    }
    MPF_GUARD(queue);
    length = queue_stash_length(queue);
    MPF_UNGUARD();
    return length;
}

bool
mpf_queue_unstash(struct mpf_queue_object *queue, PyObject **object)
{
    PyObject *first = NULL;
    bool found;
    MPF_GUARD(queue);
    found = queue_stash_length(queue) > 0;
    if (found) {
        first = Py_NewRef(PyList_GET_ITEM(queue->stash, 0));
        if (PyList_SetSlice(queue->stash, 0, 1, NULL) < 0) {
            Py_CLEAR(first);
        }
    }
    MPF_UNGUARD();
    *object = first == NULL ? NULL
                            : mpf_codec_decode(queue->base.state->codec, PyBytes_AS_STRING(first),
                                               (size_t)PyBytes_GET_SIZE(first), NULL);
    Py_XDECREF(first);
    return found;
}

/* Inside the queue's critical section. 0, or -1 with an exception. */
static int
queue_stash_add(struct mpf_queue_object *queue, const struct mpf_lane_received *received)
{
    (void)queue_stash_length(queue);
    if (queue->stash == NULL && (queue->stash = PyList_New(0)) == NULL) {
        return -1;
    }
    queue->stash_forks = mpf_process_forks;
    PyObject *bytes = PyBytes_FromStringAndSize(received->data, (Py_ssize_t)received->bytes);
    int rc = bytes != NULL ? PyList_Append(queue->stash, bytes) : -1;
    Py_XDECREF(bytes);
    return rc;
}

/* Keeps the messages from `from` on. The exception that is set stays set. 0, or -1 with another one. */
static int
queue_stash_rest(struct mpf_queue_object *queue, const struct mpf_lane_received *received, unsigned from, unsigned count)
{
    PyObject *type, *error, *traceback;
    int rc = 0;
    PyErr_Fetch(&type, &error, &traceback);
    MPF_GUARD(queue);
    for (unsigned i = from; rc == 0 && i < count; i++) {
        rc = queue_stash_add(queue, &received[i]);
    }
    MPF_UNGUARD();
    if (rc == 0) {
        PyErr_Restore(type, error, traceback);
        return 0;
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return -1;
}

/* ---- get_many ---- */

/* Decodes a batch into the list. -1 with an exception set when the list stayed empty, else 0; *stop after a failure. */
static int
queue_decode_batch(struct mpf_queue_object *queue, struct mpf_lane_received *received, unsigned count, PyObject *list, bool *stop)
{
    for (unsigned i = 0; i < count; i++) {
        PyObject *object = mpf_message_decode(queue->base.state, &received[i]);
        if (object != NULL && PyList_Append(list, object) == 0) {
            Py_DECREF(object);
            continue;
        }
        Py_XDECREF(object);
        *stop = true;
        bool first = PyList_GET_SIZE(list) == 0;
        if (queue_stash_rest(queue, received, first ? i + 1 : i, count) < 0) {
            return -1;
        }
        if (first) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    return 0;
}

static PyObject *
queue_get_batches(struct mpf_queue_object *queue, struct mpf_wait *wait, Py_ssize_t wanted, char *buffer)
{
    struct mpf_queue_shm *shm = queue->base.shm;
    struct mpf_lane_received received[QUEUE_BATCH];
    PyObject *list = PyList_New(0);
    bool stop = false;
    int rc = 0;
    while (list != NULL && !stop && PyList_GET_SIZE(list) < wanted) {
        Py_ssize_t left = wanted - PyList_GET_SIZE(list);
        rc = mpf_lane_get_many(wait->park.arena, &shm->lane, buffer, MPF_LANE_BATCH_BYTES, received,
                               left < QUEUE_BATCH ? (unsigned)left : QUEUE_BATCH);
        if (rc > 0) {
            if (queue_decode_batch(queue, received, (unsigned)rc, list, &stop) < 0) {
                Py_CLEAR(list);
            }
            continue;
        }
        if (PyList_GET_SIZE(list) > 0 || rc != -EAGAIN || wait->park.deadline == 0) {
            break;
        }
        rc = mpf_lane_await_message(&wait->park, &shm->lane);
        if (rc < 0) {
            break;
        }
    }
    mpf_queue_settle(queue);
    if (list != NULL && PyList_GET_SIZE(list) == 0 && wanted > 0) {
        Py_DECREF(list);
        return mpf_queue_raise_get(queue->base.state, rc);
    }
    return list;
}

PyObject *
mpf_queue_get_many(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_messages", "timeout", NULL};
    PyObject *maximum = Py_None, *timeout = NULL; /* borrowed */
    int64_t deadline;
    MPF_QUEUE_CHECK(self);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:get_many", names, &maximum, &timeout) ||
        mpf_wait_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    Py_ssize_t wanted = maximum == Py_None ? PY_SSIZE_T_MAX : PyNumber_AsSsize_t(maximum, PyExc_OverflowError);
    if (wanted == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (wanted < 1) {
        PyErr_SetString(PyExc_ValueError, "max_messages must be at least 1");
        return NULL;
    }
    struct mpf_queue_object *queue = mpf_queue_of(self);
    PyObject *object;
    if (queue->stash != NULL && mpf_queue_unstash(queue, &object)) {
        return object != NULL ? Py_BuildValue("[N]", object) : NULL;
    }
    char *buffer = PyMem_RawMalloc(MPF_LANE_BATCH_BYTES);
    if (buffer == NULL) {
        return PyErr_NoMemory();
    }
    struct mpf_wait wait;
    mpf_wait_init(&wait, queue->base.ref.arena, deadline);
    PyObject *result = queue_get_batches(queue, &wait, wanted, buffer);
    PyMem_RawFree(buffer);
    return result;
}
