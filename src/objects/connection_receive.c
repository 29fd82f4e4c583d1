/*
 * Purpose: recv(), recv_bytes(), recv_bytes_into() and poll() of the native end of a pipe.
 *
 * Layout: see connection.h. A short message is copied to the receiver's stack, a long one stays in its block.
 *
 * Invariants: messages in the lane are older than those on the socket, and come first. A reader sleeps on its socket, and
 * only after it has announced itself to the senders (transport/pipe.c).
 *
 * Callers: any thread attached to the interpreter; detached while it sleeps.
 *
 * Death of the caller: a message that it had taken is gone with it; any other is there for the next.
 */
#include "objects/connection.h"

#include <errno.h>
#include <string.h>

#include "memory/participant.h"
#include "objects/errors.h"
#include "objects/message.h"
#include "platform/clock.h"
#include "platform/heap.h"

#define CONNECTION_LOOK_NS (10 * 1000 * 1000)

/* Sleeps on the socket. 0: look again, -ETIMEDOUT, -EINTR with an exception set. */
static int
connection_sleep(struct mpf_connection *c, int64_t deadline)
{
    struct pollfd target = {.fd = c->fd, .events = POLLIN};
    if (deadline != MPF_FOREVER && deadline - mpf_clock_now() <= 0) {
        return -ETIMEDOUT;
    }
    int rc = mpf_wait_poll(&target, 1, deadline);
    return rc > 0 ? 0 : rc;
}

/* One step of a wait for `in`: 0 look again, MPF_CONNECTION_BY_SOCKET, or -errno as in connection_take. */
static int
connection_await(struct mpf_connection *c, struct mpf_wait *wait)
{
    if (mpf_lane_diverted(c->in)) {
        return mpf_pipe_settle(c->end.arena, c->in, c->fd) == MPF_PIPE_SETTLED ? MPF_CONNECTION_BY_SOCKET : 0;
    }
    bool won = mpf_lane_spin(&wait->park, c->in);
    mpf_park_finish(&wait->park);
    int rc = 0;
    if (!won && !mpf_connection_is_closing(c)) {
        rc = mpf_pipe_prepare_sleep(c->end.arena, c->in, c->fd);
        if (rc > 0) {
            rc = connection_sleep(c, wait->park.deadline);
        }
    }
    return rc == 0 && mpf_connection_is_closing(c) ? -EBADF : rc;
}

/* Between mpf_connection_begin_reading and mpf_connection_end: the next message of the lane. 0; MPF_CONNECTION_BY_SOCKET: the
 * next one is on the socket; -EPIPE: none will come; -EAGAIN / -ETIMEDOUT; -EINTR with an exception set; -errno. */
static int
connection_take(struct mpf_connection *c, int64_t deadline, void *buffer, struct mpf_lane_received *received)
{
    if (c->in == NULL) {
        return MPF_CONNECTION_BY_SOCKET;
    }
    struct mpf_wait wait;
    bool waited = false;
    for (;;) {
        int rc = mpf_lane_get(c->end.arena, c->in, buffer, received);
        if (rc == 0) {
            if (mpf_lane_diverted(c->in)) {
                mpf_connection_settle(c);
            }
            return 0;
        }
        if (rc == -EAGAIN || (rc == -EPIPE && mpf_lane_diverted(c->in))) {
            if (!waited) {
                mpf_wait_init(&wait, c->end.arena, deadline);
                waited = true;
            }
            rc = connection_await(c, &wait);
        }
        if (rc != 0) {
            return rc;
        }
    }
}

/* A whole receive. As connection_take; -EINTR, with an exception set, also where it cannot be read from. */
static int
connection_receive(struct mpf_connection *c, void *buffer, struct mpf_lane_received *received)
{
    if (mpf_connection_begin_reading(c) < 0) {
        return -EINTR;
    }
    int rc = connection_take(c, MPF_FOREVER, buffer, received);
    mpf_connection_end(c);
    return rc;
}

static PyObject *
connection_raise_receive(int rc)
{
    if (rc == -EPIPE) {
        PyErr_SetNone(PyExc_EOFError);
        return NULL;
    }
    return mpf_errors_raise(rc);
}

static PyObject *
call_forking_pickler(struct mpf_connection *c, const char *name, PyObject *arg)
{
    (void)c;
    PyObject *reduction = PyImport_ImportModule("multiprocessing.reduction");
    PyObject *pickler = reduction != NULL ? PyObject_GetAttrString(reduction, "ForkingPickler") : NULL;
    PyObject *result = pickler != NULL ? PyObject_CallMethod(pickler, name, "O", arg) : NULL;
    Py_XDECREF(pickler);
    Py_XDECREF(reduction);
    return result;
}

static PyObject *
received_bytes(struct mpf_lane_received *received)
{
    mpf_heap_expect(received->bytes);
    PyObject *bytes = mpf_codec_bytes(received->data, received->bytes);
    mpf_block_unref(&received->block);
    return bytes;
}

PyObject *
mpf_connection_recv(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct mpf_connection *c = mpf_connection_of(self);
    _Alignas(MPF_CODEC_ALIGN) char buffer[MPF_LANE_INLINE_MAX];
    struct mpf_lane_received received;
    int rc = connection_receive(c, buffer, &received);
    if (rc == MPF_CONNECTION_BY_SOCKET) {
        return mpf_connection_by_socket(c, "recv", NULL);
    }
    if (rc < 0) {
        return connection_raise_receive(rc);
    }
    if (received.tag == MPF_CONNECTION_OBJECT) {
        return mpf_message_decode(c->state, &received);
    }
    PyObject *bytes = received_bytes(&received);
    PyObject *object = bytes != NULL ? call_forking_pickler(c, "loads", bytes) : NULL;
    Py_XDECREF(bytes);
    return object;
}

/* The bytes of the next message; an object's are what ForkingPickler.dumps gives. *by_socket: it is on the socket. */
static PyObject *
connection_take_bytes(struct mpf_connection *c, bool *by_socket)
{
    _Alignas(MPF_CODEC_ALIGN) char buffer[MPF_LANE_INLINE_MAX];
    struct mpf_lane_received received;
    int rc = connection_receive(c, buffer, &received);
    *by_socket = rc == MPF_CONNECTION_BY_SOCKET;
    if (rc < 0) {
        return connection_raise_receive(rc);
    }
    if (*by_socket) {
        return NULL;
    }
    if (received.tag == MPF_CONNECTION_BYTES) {
        return received_bytes(&received);
    }
    PyObject *object = mpf_message_decode(c->state, &received);
    PyObject *dumped = object != NULL ? call_forking_pickler(c, "dumps", object) : NULL;
    PyObject *bytes = dumped != NULL ? PyBytes_FromObject(dumped) : NULL;
    Py_XDECREF(dumped);
    Py_XDECREF(object);
    return bytes;
}

/* Before the arguments, as the stdlib does. */
static int
connection_check_readable(struct mpf_connection *c)
{
    if (mpf_connection_begin_reading(c) < 0) {
        return -1;
    }
    mpf_connection_end(c);
    return 0;
}

PyObject *
mpf_connection_recv_bytes(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"maxlength", NULL};
    struct mpf_connection *c = mpf_connection_of(self);
    PyObject *maximum = Py_None; /* borrowed */
    Py_ssize_t limit = PY_SSIZE_T_MAX;
    bool by_socket;
    if (connection_check_readable(c) < 0 || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:recv_bytes", names, &maximum)) {
        return NULL;
    }
    if (maximum != Py_None) {
        limit = PyNumber_AsSsize_t(maximum, NULL);
        if (limit == -1 && PyErr_Occurred()) {
            return NULL;
        }
        if (limit < 0) {
            PyErr_SetString(PyExc_ValueError, "negative maxlength");
            return NULL;
        }
    }
    PyObject *bytes = connection_take_bytes(c, &by_socket);
    if (by_socket) {
        return mpf_connection_by_socket_1(c, "recv_bytes", maximum);
    }
    if (bytes != NULL && PyBytes_GET_SIZE(bytes) > limit) {
        Py_DECREF(bytes);
        if (c->writable) {
            c->readable = false;
        } else {
            mpf_connection_shut(c);
        }
        PyErr_SetString(PyExc_OSError, "bad message length");
        return NULL;
    }
    return bytes;
}

static PyObject *
connection_store(const Py_buffer *view, Py_ssize_t offset, PyObject *bytes)
{
    Py_ssize_t size = PyBytes_GET_SIZE(bytes);
    if (size <= view->len - offset) {
        memcpy((char *)view->buf + offset, PyBytes_AS_STRING(bytes), (size_t)size);
        return PyLong_FromSsize_t(size);
    }
    PyObject *context = PyImport_ImportModule("multiprocessing.context");
    PyObject *error = context != NULL ? PyObject_GetAttrString(context, "BufferTooShort") : NULL;
    if (error != NULL) {
        PyErr_SetObject(error, bytes);
    }
    Py_XDECREF(error);
    Py_XDECREF(context);
    return NULL;
}

PyObject *
mpf_connection_recv_bytes_into(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"buf", "offset", NULL};
    struct mpf_connection *c = mpf_connection_of(self);
    PyObject *buffer; /* borrowed */
    Py_ssize_t offset = 0;
    Py_buffer view;
    bool by_socket;
    if (connection_check_readable(c) < 0 ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "O|n:recv_bytes_into", names, &buffer, &offset) ||
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    if (offset < 0 || offset > view.len) {
        PyErr_SetString(PyExc_ValueError, offset < 0 ? "negative offset" : "offset too large");
    } else {
        PyObject *bytes = connection_take_bytes(c, &by_socket);
        if (by_socket) {
            PyObject *positional = Py_BuildValue("(On)", buffer, offset);
            result = positional != NULL ? mpf_connection_by_socket(c, "recv_bytes_into", positional) : NULL;
            Py_XDECREF(positional);
        } else if (bytes != NULL) {
            result = connection_store(&view, offset, bytes);
        }
        Py_XDECREF(bytes);
    }
    PyBuffer_Release(&view);
    return result;
}

/* Whether the other side is gone, when nothing says so in shared memory. A process that has ended is seen at once by its
 * life word; an end whose socket alone was closed, by the socket, which is asked now and then. 0: look again, -EAGAIN, -EPIPE. */
static int
connection_glance(struct mpf_connection *c)
{
    int64_t now = mpf_clock_now();
    if (now - atomic_load_explicit(&c->looked, memory_order_relaxed) >= CONNECTION_LOOK_NS) {
        atomic_store_explicit(&c->looked, now, memory_order_relaxed);
        int rc = mpf_pipe_look(c->end.arena, c->in, c->fd);
        return rc <= 0 ? rc : -EAGAIN;
    }
    return mpf_participant_reap(c->end.arena) > 0 ? 0 : -EAGAIN;
}

/* Whether recv would not block: a message, or the end. 1, 0, MPF_CONNECTION_BY_SOCKET + 1, -1 with an exception. */
static int
connection_ready(struct mpf_connection *c, int64_t deadline)
{
    struct mpf_wait wait;
    if (deadline != 0) {
        mpf_wait_init(&wait, c->end.arena, deadline);
    }
    while (mpf_lane_count(c->in) == 0) {
        bool diverted = mpf_lane_diverted(c->in);
        if (!diverted && atomic_load_explicit(&c->in->closed, memory_order_acquire) & MPF_LANE_NO_WRITERS) {
            return 1;
        }
        int rc = deadline != 0 || diverted ? connection_await(c, &wait) : connection_glance(c);
        if (rc == MPF_CONNECTION_BY_SOCKET) {
            return MPF_CONNECTION_BY_SOCKET + 1;
        }
        if (rc == -EPIPE) {
            return 1;
        }
        if (rc == -EAGAIN || rc == -ETIMEDOUT) {
            return 0;
        }
        if (rc < 0) {
            mpf_errors_raise(rc);
            return -1;
        }
    }
    return 1;
}

PyObject *
mpf_connection_poll(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct mpf_connection *c = mpf_connection_of(self);
    PyObject *timeout = NULL; /* borrowed */
    int64_t deadline = 0;
    if ((nargs != 0 || kwnames != NULL) &&
        (connection_check_readable(c) < 0 || mpf_wait_parse_timeout("poll", args, nargs, kwnames, &timeout) < 0 ||
         (timeout != NULL && mpf_wait_deadline(timeout, &deadline) < 0))) {
        return NULL;
    }
    if (mpf_connection_begin_reading(c) < 0) {
        return NULL;
    }
    int ready = c->in != NULL ? connection_ready(c, deadline) : MPF_CONNECTION_BY_SOCKET + 1;
    mpf_connection_end(c);
    if (ready < 0) {
        return NULL;
    }
    if (ready > 1) {
        return timeout != NULL ? mpf_connection_by_socket_1(c, "poll", timeout) : mpf_connection_by_socket(c, "poll", NULL);
    }
    return PyBool_FromLong(ready);
}
