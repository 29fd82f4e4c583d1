/*
 * Purpose: send() and send_bytes() of the native end of a pipe.
 *
 * Layout: see connection.h; a message's tag says whether it is an object or bytes.
 *
 * Invariants: an object is encoded before the pipe is touched: what cannot be pickled changes nothing.
 *
 * Callers: any thread attached to the interpreter.
 *
 * Death of the caller: a message is published whole or not at all (transport/lane.c).
 */
#include "objects/connection.h"

#include <errno.h>

#include "memory/participant.h"
#include "objects/errors.h"
#include "objects/message.h"
#include "objects/wait.h"

#define CONNECTION_LOOK_EVERY 64 /* sends into a lane that nobody empties, before a look at who is alive */

static const struct mpf_lane_limit connection_limit = {.bytes = MPF_PIPE_LIMIT_BYTES};

/* 0 sent; MPF_CONNECTION_BY_SOCKET: nothing sent, it has to go over the socket; -1 with an exception. */
static int
connection_put(struct mpf_connection *c, const struct mpf_lane_message *parcel)
{
    if (c->out == NULL || mpf_lane_diverted(c->out)) {
        return MPF_CONNECTION_BY_SOCKET;
    }
    struct mpf_arena *arena = c->end.arena;
    struct mpf_pipe_bell bell = {c->out, c->fd};
    const struct mpf_lane_ringer ringer = {mpf_pipe_ring, &bell};
    uint64_t waiting = mpf_lane_count(c->out);
    if (waiting != 0 && waiting % CONNECTION_LOOK_EVERY == 0) {
        mpf_participant_reap(arena);
    }
    int rc = parcel->bytes <= MPF_LANE_INLINE_MAX ? mpf_lane_put(arena, c->out, parcel, &connection_limit, &ringer) : -EAGAIN;
    if (rc == -EAGAIN) {
        struct mpf_wait wait;
        mpf_wait_init(&wait, arena, MPF_FOREVER);
        rc = mpf_message_send(&wait, c->out, parcel, &connection_limit, &ringer);
    }
    if (rc == -ESHUTDOWN) {
        return MPF_CONNECTION_BY_SOCKET;
    }
    if (rc < 0) {
        mpf_errors_raise(rc);
        return -1;
    }
    return 0;
}

/* The same for an object. */
static int
connection_put_object(struct mpf_connection *c, PyObject *object)
{
    struct mpf_message message;
    if (mpf_connection_begin_writing(c) < 0) {
        return -1;
    }
    bool by_socket = c->out == NULL || mpf_lane_diverted(c->out);
    mpf_connection_end(c); /* while it is encoded, which may run any code */
    if (by_socket) {
        return MPF_CONNECTION_BY_SOCKET;
    }
    if (mpf_codec_encode(c->state->codec, object, &message) < 0) {
        return -1;
    }
    struct mpf_lane_message parcel = mpf_message_parcel(&message, MPF_CONNECTION_OBJECT);
    int rc = mpf_connection_begin_writing(c);
    if (rc == 0) {
        rc = connection_put(c, &parcel);
        mpf_connection_end(c);
    }
    mpf_codec_release(c->state->codec, &message);
    return rc;
}

PyObject *
mpf_connection_send(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"obj"};
    struct mpf_connection *c = mpf_connection_of(self);
    PyObject *object = nargs == 1 ? args[0] : NULL; /* borrowed */
    if ((nargs != 1 || kwnames != NULL) && mpf_wait_parse_arguments("send", names, 1, args, nargs, kwnames, &object) < 0) {
        return NULL;
    }
    if (object == NULL) {
        PyErr_SetString(PyExc_TypeError, "send() missing 1 required positional argument: 'obj'");
        return NULL;
    }
    int rc = connection_put_object(c, object);
    if (rc == MPF_CONNECTION_BY_SOCKET) {
        return mpf_connection_by_socket_1(c, "send", object);
    }
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
connection_send_slice(struct mpf_connection *c, const Py_buffer *view, Py_ssize_t offset, PyObject *size)
{
    const char *complaint = NULL;
    Py_ssize_t bytes = view->len - offset;
    if (offset < 0) {
        complaint = "offset is negative";
    } else if (bytes < 0) {
        complaint = "buffer length < offset";
    } else if (size != Py_None) {
        bytes = PyNumber_AsSsize_t(size, PyExc_OverflowError);
        if (bytes == -1 && PyErr_Occurred()) {
            return NULL;
        }
        complaint = bytes < 0 ? "size is negative" : offset + bytes > view->len ? "buffer length < offset + size" : NULL;
    }
    if (complaint != NULL) {
        PyErr_SetString(PyExc_ValueError, complaint);
        return NULL;
    }
    struct mpf_lane_message parcel = {
        .data = (const char *)view->buf + offset, .bytes = (size_t)bytes, .tag = MPF_CONNECTION_BYTES};
    if (mpf_connection_begin_writing(c) < 0) {
        return NULL;
    }
    int rc = connection_put(c, &parcel);
    mpf_connection_end(c);
    if (rc != MPF_CONNECTION_BY_SOCKET) {
        return rc < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *slice = PyBytes_FromStringAndSize(parcel.data, bytes);
    PyObject *result = slice != NULL ? mpf_connection_by_socket_1(c, "send_bytes", slice) : NULL;
    Py_XDECREF(slice);
    return result;
}

PyObject *
mpf_connection_send_bytes(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"buf", "offset", "size", NULL};
    struct mpf_connection *c = mpf_connection_of(self);
    PyObject *buffer, *size = Py_None; /* borrowed */
    Py_ssize_t offset = 0;
    Py_buffer view;
    if (mpf_connection_begin_writing(c) < 0) {
        return NULL;
    }
    mpf_connection_end(c); /* until the arguments have been looked at, which may run any code */
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|nO:send_bytes", names, &buffer, &offset, &size) ||
        PyObject_GetBuffer(buffer, &view, PyBUF_C_CONTIGUOUS) < 0) {
        return NULL;
    }
    PyObject *result = connection_send_slice(c, &view, offset, size);
    PyBuffer_Release(&view);
    return result;
}
