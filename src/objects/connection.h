/* The native end of a pipe: connection.c (life, descriptor), connection_send.c, connection_receive.c, select.c. */
#ifndef MPF_OBJECTS_CONNECTION_H
#define MPF_OBJECTS_CONNECTION_H

#include <stdbool.h>

#include "objects/state.h"
#include "transport/pipe.h"

enum mpf_connection_tag { MPF_CONNECTION_OBJECT = 0, MPF_CONNECTION_BYTES = 1 };

struct mpf_connection {
    PyObject_HEAD
    struct mpf_state *state; /* lives as long as the type */
    struct mpf_ref end;      /* off == 0: works by its socket alone */
    struct mpf_lane_shm *in, *out;
    int fd; /* the socket; -1: closed */
    int select_fd;           /* what fileno() is in place of the socket: see connection.c; -1: the socket */
    _Atomic int pending_fd; /* the eventfd in it, as long as the lane may not be empty; -1: none */
    bool readable, writable;
    _Atomic uint32_t holds; /* who is at work on the members above: see connection.c */
    _Atomic int64_t looked; /* when an empty poll() last asked the socket */
};

#define MPF_CONNECTION_CLOSING (UINT32_C(1) << 31)

/* Whether what is sent to this end arrives in its lane. */
static inline bool mpf_connection_by_memory(const struct mpf_connection *c) {
    return c->in != NULL && !mpf_lane_diverted(c->in);
}

/* What a step answers when the message has to go, or is to be found, on the socket. */
enum { MPF_CONNECTION_BY_SOCKET = 1 };

static inline struct mpf_connection *mpf_connection_of(PyObject *self) { return (struct mpf_connection *)self; }

/* A call that uses the end, the lanes or the descriptors stands between these: what close() takes away meanwhile goes when the
 * last such call ends. 0, or -1 with OSError: closed, or the wrong direction. */
int mpf_connection_begin(struct mpf_connection *c);
int mpf_connection_begin_reading(struct mpf_connection *c);
int mpf_connection_begin_writing(struct mpf_connection *c);
void mpf_connection_end(struct mpf_connection *c);

/* Whether close() was called, by another thread or a signal's handler, while a call is at work. */
static inline bool mpf_connection_is_closing(const struct mpf_connection *c) {
    return (atomic_load_explicit(&c->holds, memory_order_relaxed) & MPF_CONNECTION_CLOSING) != 0;
}

/* The stdlib's method `name`, looked up now, called with the connection and args (a tuple or NULL), or one argument. */
PyObject *mpf_connection_by_socket(struct mpf_connection *c, const char *name, PyObject *args);
PyObject *mpf_connection_by_socket_1(struct mpf_connection *c, const char *name, PyObject *arg);

/* Of a diverted pipe: if its lane is empty, the descriptor is not readable for that any more. */
void mpf_connection_settle(struct mpf_connection *c);

/* Lets go of the end and the descriptors, now or as soon as no call uses them. */
void mpf_connection_shut(struct mpf_connection *c);

PyObject *mpf_connection_send(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mpf_connection_send_bytes(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *mpf_connection_recv(PyObject *self, PyObject *ignored);
PyObject *mpf_connection_recv_bytes(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *mpf_connection_recv_bytes_into(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *mpf_connection_poll(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
