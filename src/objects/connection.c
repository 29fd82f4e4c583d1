/*
 * Purpose: the two ends that Pipe() returns, and their descriptors. connection_send.c and connection_receive.c move
 * messages, in shared memory, or by the socket where they must. mpfast/connection.py joins it with the stdlib's Connection,
 * whose methods work the socket.
 *
 * Layout: a reference to an end of a pipe (transport/pipe.h) and one socket of the pair.
 *
 * States: by memory -> diverted (the pipe's state, shared by both ends); or by socket alone from the start, for a
 * Connection(handle) that a program makes itself. Open -> closed, each object for itself.
 *   A descriptor that is asked for while messages are still in the lane has to be readable. Where nobody has rung for them the
 *   socket is not: fileno() is then an epoll descriptor over the socket and an eventfd that is readable until the lane is
 *   empty. Should another object for the same end, of another process say, take the last message, it stays so until this one is
 *   asked for its descriptor again; who receives meanwhile, because of it, waits for the next message.
 *
 * Invariants: messages in the lane are older than those on the socket. What cannot be pickled changes nothing. A call that
 * uses the end, a lane or a descriptor counts as a hold; close() shuts out new ones, and the last one to end lets go.
 *
 * Callers: any thread attached to the interpreter.
 *
 * Death of either side: see transport/pipe.c.
 */
#include "objects/connection.h"

#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "objects/errors.h"
#include "objects/guard.h"
#include "objects/handle.h"
#include "objects/shared.h"
#include "objects/types.h"
#include "platform/process.h"

/* ---- life ---- */

static void
connection_reset(struct mpf_connection *c, struct mpf_state *state)
{
    c->state = state;
    c->fd = c->select_fd = -1;
    atomic_store_explicit(&c->pending_fd, -1, memory_order_relaxed);
}

static PyObject *
connection_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    struct mpf_state *state = mpf_state_of_type(type);
    PyObject *self = state != NULL ? type->tp_alloc(type, 0) : NULL;
    if (self != NULL) {
        connection_reset(mpf_connection_of(self), state);
    }
    return self;
}

static int
connection_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"handle", "readable", "writable", NULL};
    struct mpf_connection *c = mpf_connection_of(self);
    PyObject *handle; /* borrowed */
    int readable = 1, writable = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|pp:Connection", names, &handle, &readable, &writable)) {
        return -1;
    }
    PyObject *index = PyNumber_Index(handle);
    if (index == NULL) {
        return -1;
    }
    int fd = (int)PyLong_AsLong(index);
    Py_DECREF(index);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (fd < 0) {
        PyErr_SetString(PyExc_ValueError, "invalid handle");
        return -1;
    }
    if (!readable && !writable) {
        PyErr_SetString(PyExc_ValueError, "at least one of `readable` and `writable` must be True");
        return -1;
    }
    c->fd = fd;
    c->readable = readable;
    c->writable = writable;
    return 0;
}

static void
connection_attach(struct mpf_connection *c, const struct mpf_ref *end, int fd)
{
    c->end = *end;
    c->in = mpf_pipe_in(end);
    c->out = mpf_pipe_out(end);
    c->fd = fd;
    c->readable = c->in != NULL;
    c->writable = c->out != NULL;
}

static void
close_descriptor(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void
connection_let_go(struct mpf_connection *c)
{
    c->in = c->out = NULL;
    mpf_block_unref(&c->end);
    int pending = atomic_exchange_explicit(&c->pending_fd, -1, memory_order_relaxed);
    close_descriptor(&pending);
    close_descriptor(&c->select_fd);
    close_descriptor(&c->fd);
}

/* holds: MPF_CONNECTION_CLOSING | forks << 16 | calls at work. Those of a parent's threads are not at work in its child. */
#define HOLDS_CALLS UINT32_C(0xffff)
#define HOLDS_FORKS UINT32_C(0x7fff0000)

static uint32_t
connection_holds(const struct mpf_connection *c, uint32_t *seen)
{
    uint32_t forks = mpf_process_forks << 16 & HOLDS_FORKS;
    *seen = atomic_load_explicit(&c->holds, memory_order_relaxed);
    return (*seen & HOLDS_FORKS) == forks ? *seen : (*seen & MPF_CONNECTION_CLOSING) | forks;
}

static bool
connection_set_holds(struct mpf_connection *c, uint32_t seen, uint32_t holds)
{
#ifdef Py_GIL_DISABLED
    /* whoever lets go comes after all that those did who were at work: each release pairs with the next one's acquire */
    return atomic_compare_exchange_weak_explicit(&c->holds, &seen, holds, memory_order_acq_rel, memory_order_relaxed);
#else
    (void)seen; /* with a GIL nothing comes between the load and the store */
    atomic_store_explicit(&c->holds, holds, memory_order_relaxed);
    return true;
#endif
}

static bool
connection_hold(struct mpf_connection *c)
{
    uint32_t seen, holds;
    do {
        holds = connection_holds(c, &seen);
        if (holds & MPF_CONNECTION_CLOSING) {
            return false;
        }
    } while (!connection_set_holds(c, seen, holds + 1));
    return true;
}

void
mpf_connection_end(struct mpf_connection *c)
{
    uint32_t seen, holds;
    do {
        holds = connection_holds(c, &seen);
        holds -= (holds & HOLDS_CALLS) != 0;
    } while (!connection_set_holds(c, seen, holds));
    if (holds & MPF_CONNECTION_CLOSING && (holds & HOLDS_CALLS) == 0) {
        connection_let_go(c);
    }
}

void
mpf_connection_shut(struct mpf_connection *c)
{
    uint32_t seen, holds;
    do {
        holds = connection_holds(c, &seen);
    } while (!connection_set_holds(c, seen, holds | MPF_CONNECTION_CLOSING));
    if (!(holds & MPF_CONNECTION_CLOSING) && (holds & HOLDS_CALLS) == 0) {
        connection_let_go(c);
    }
}

/* Stands in the way of the stdlib class's __del__, which would ask for the descriptor. */
static void
connection_finalize(PyObject *self)
{
    mpf_connection_shut(mpf_connection_of(self));
}

static int
connection_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void
connection_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    mpf_connection_shut(mpf_connection_of(self));
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
connection_make(PyTypeObject *type, const struct mpf_ref *end, int fd)
{
    PyObject *self = connection_new(type, NULL, NULL);
    if (self != NULL) {
        connection_attach(mpf_connection_of(self), end, fd);
    }
    return self;
}

/* _core.pipe(type, duplex): the two ends of a new pipe, instances of `type`. */
static PyObject *
connection_pipe(PyObject *module, PyObject *args)
{
    PyTypeObject *type; /* borrowed */
    int duplex, fds[2];
    struct mpf_arena *arena;
    struct mpf_ref ends[2];
    struct mpf_state *state = mpf_state_of(module);
    if (!PyArg_ParseTuple(args, "O!p:pipe", &PyType_Type, &type, &duplex)) {
        return NULL;
    }
    if (!PyType_IsSubtype(type, state->connection_type)) {
        PyErr_SetString(PyExc_TypeError, "pipe() needs a subclass of Connection");
        return NULL;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    int rc = mpf_arena_home(&arena);
    if (rc == 0) {
        rc = mpf_pipe_open(arena, duplex, ends);
    }
    if (rc < 0) {
        close(fds[0]);
        close(fds[1]);
        return mpf_errors_raise(rc);
    }
    PyObject *first = connection_make(type, &ends[0], fds[0]);
    PyObject *second = connection_make(type, &ends[1], fds[1]);
    if (first == NULL || second == NULL) {
        Py_XDECREF(first);
        Py_XDECREF(second);
        return NULL;
    }
    return Py_BuildValue("(NN)", first, second);
}

/* _core.connect(type, handle, fd): the end that was sent here, over the socket fd, which becomes this object's. */
static PyObject *
connection_connect(PyObject *module, PyObject *args)
{
    PyTypeObject *type; /* borrowed */
    PyObject *handle;   /* borrowed */
    int fd;
    struct mpf_ref end;
    if (!PyArg_ParseTuple(args, "O!Oi:connect", &PyType_Type, &type, &handle, &fd) ||
        mpf_handle_load(mpf_state_of(module), handle, MPF_BLOCK_PIPE, &end) < 0) {
        return NULL;
    }
    PyObject *self = connection_make(type, &end, fd);
    if (self == NULL) {
        mpf_block_unref(&end);
    }
    return self;
}

/* ---- checks ---- */

static int
connection_begin(struct mpf_connection *c, const bool *able, const char *otherwise)
{
    if (!connection_hold(c)) {
        PyErr_SetString(PyExc_OSError, "handle is closed");
        return -1;
    }
    if (c->fd >= 0 && *able) {
        return 0;
    }
    PyErr_SetString(PyExc_OSError, c->fd < 0 ? "handle is closed" : otherwise);
    mpf_connection_end(c);
    return -1;
}

int
mpf_connection_begin(struct mpf_connection *c)
{
    static const bool able = true;
    return connection_begin(c, &able, NULL);
}

int
mpf_connection_begin_reading(struct mpf_connection *c)
{
    return connection_begin(c, &c->readable, "connection is write-only");
}

int
mpf_connection_begin_writing(struct mpf_connection *c)
{
    return connection_begin(c, &c->writable, "connection is read-only");
}

/* The stdlib's method of that name, looked up now, called with self and args. */
PyObject *
mpf_connection_by_socket(struct mpf_connection *c, const char *name, PyObject *args)
{
    PyObject *method = PyObject_GetAttrString((PyObject *)c->state->socket_connection, name);
    if (method == NULL) {
        return NULL;
    }
    Py_ssize_t count = args != NULL ? PyTuple_GET_SIZE(args) : 0;
    PyObject *all = PyTuple_New(count + 1);
    PyObject *result = NULL;
    if (all != NULL) {
        PyTuple_SET_ITEM(all, 0, Py_NewRef(c));
        for (Py_ssize_t i = 0; i < count; i++) {
            PyTuple_SET_ITEM(all, i + 1, Py_NewRef(PyTuple_GET_ITEM(args, i)));
        }
        result = PyObject_Call(method, all, NULL);
        Py_DECREF(all);
    }
    Py_DECREF(method);
    return result;
}

PyObject *
mpf_connection_by_socket_1(struct mpf_connection *c, const char *name, PyObject *arg)
{
    PyObject *args = PyTuple_Pack(1, arg);
    PyObject *result = args != NULL ? mpf_connection_by_socket(c, name, args) : NULL;
    Py_XDECREF(args);
    return result;
}

/* ---- the descriptor ---- */

/* A descriptor that is readable now because the lane is not empty, and later when the socket is. 0 or -errno. */
static int
connection_open_pending(struct mpf_connection *c)
{
    struct epoll_event on_socket = {.events = EPOLLIN | EPOLLRDHUP}, on_pending = {.events = EPOLLIN};
    int both = epoll_create1(EPOLL_CLOEXEC), pending = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    if (both < 0 || pending < 0 || epoll_ctl(both, EPOLL_CTL_ADD, c->fd, &on_socket) < 0 ||
        epoll_ctl(both, EPOLL_CTL_ADD, pending, &on_pending) < 0) {
        int rc = -errno;
        close_descriptor(&both);
        close_descriptor(&pending);
        return rc;
    }
    c->select_fd = both;
    atomic_store_explicit(&c->pending_fd, pending, memory_order_relaxed);
    mpf_connection_settle(c); /* who has taken the last message meanwhile did not see it */
    return 0;
}

void
mpf_connection_settle(struct mpf_connection *c)
{
    if (mpf_lane_count(c->in) != 0 || mpf_pipe_settle(c->end.arena, c->in, c->fd) != MPF_PIPE_SETTLED) {
        return;
    }
    int pending = atomic_exchange_explicit(&c->pending_fd, -1, memory_order_relaxed);
    if (pending >= 0) {
        eventfd_t value;
        (void)eventfd_read(pending, &value); /* closing it is not enough: a child may have it, too */
        close(pending);
    }
}

/* selectable: what fileno() is must be readable while there is something in the lane. 0 or -errno. */
static int
connection_divert_guarded(struct mpf_connection *c, bool selectable)
{
    if (c->end.off == 0) {
        return 0;
    }
    if (!mpf_pipe_diverted(&c->end)) {
        mpf_pipe_divert(&c->end, c->fd);
    }
    if (c->in == NULL) {
        return 0;
    }
    if (c->select_fd >= 0 || !selectable) {
        mpf_connection_settle(c);
        return 0;
    }
    return mpf_pipe_settle(c->end.arena, c->in, c->fd) == MPF_PIPE_SILENT ? connection_open_pending(c) : 0;
}

static int
connection_divert(struct mpf_connection *c, bool selectable)
{
    int rc;
    MPF_GUARD(c); /* one thread opens the descriptors */
    rc = connection_divert_guarded(c, selectable);
    MPF_UNGUARD();
    return rc;
}

static PyObject *
connection_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct mpf_connection *c = mpf_connection_of(self);
    if (mpf_connection_begin(c) < 0) {
        return NULL;
    }
    int rc = connection_divert(c, true);
    PyObject *number = rc < 0 ? mpf_errors_raise(rc) : PyLong_FromLong(c->select_fd >= 0 ? c->select_fd : c->fd);
    mpf_connection_end(c);
    return number;
}

static PyObject *
connection_get_handle(PyObject *self, void *Py_UNUSED(closure))
{
    struct mpf_connection *c = mpf_connection_of(self);
    if (!connection_hold(c)) {
        Py_RETURN_NONE;
    }
    int rc = c->fd >= 0 ? connection_divert(c, false) : 0;
    PyObject *number = rc < 0 ? mpf_errors_raise(rc) : c->fd < 0 ? Py_NewRef(Py_None) : PyLong_FromLong(c->fd);
    mpf_connection_end(c);
    return number;
}

/* The stdlib's methods, and programs that detach a descriptor, write it; None takes the socket away without closing it. */
static int
connection_set_handle(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    struct mpf_connection *c = mpf_connection_of(self);
    if (value == NULL || value == Py_None) {
        c->fd = -1;
        mpf_connection_shut(c);
        return 0;
    }
    int fd = (int)PyLong_AsLong(value);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    c->fd = fd;
    /* open again, where it was closed; release pairs with the acquire in connection_set_holds */
    atomic_fetch_and_explicit(&c->holds, ~MPF_CONNECTION_CLOSING, memory_order_release);
    return 0;
}

static PyObject *
connection_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    mpf_connection_shut(mpf_connection_of(self));
    Py_RETURN_NONE;
}

/* _dump(): the handle of the end, or None for a connection by socket alone; and its socket's number. */
static PyObject *
connection_dump(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct mpf_connection *c = mpf_connection_of(self);
    if (mpf_connection_begin(c) < 0) {
        return NULL;
    }
    PyObject *handle = c->end.off != 0 ? mpf_handle_dump(c->state, &c->end) : Py_NewRef(Py_None);
    PyObject *dumped = handle != NULL ? Py_BuildValue("(Ni)", handle, c->fd) : NULL;
    mpf_connection_end(c);
    return dumped;
}

static PyObject *
connection_get_closed(PyObject *self, void *Py_UNUSED(closure))
{
    struct mpf_connection *c = mpf_connection_of(self);
    return PyBool_FromLong(mpf_connection_is_closing(c) || c->fd < 0);
}

static PyObject *
connection_get_flag(PyObject *self, void *closure)
{
    return PyBool_FromLong(*((bool *)((char *)self + (size_t)closure)));
}

static int
connection_set_flag(PyObject *self, PyObject *value, void *closure)
{
    int flag = value != NULL ? PyObject_IsTrue(value) : 0;
    if (flag < 0) {
        return -1;
    }
    *((bool *)((char *)self + (size_t)closure)) = flag;
    return 0;
}

#define READABLE ((void *)offsetof(struct mpf_connection, readable))
#define WRITABLE ((void *)offsetof(struct mpf_connection, writable))

static PyGetSetDef connection_getset[] = {
    {"closed", connection_get_closed, NULL, PyDoc_STR("True if the connection is closed"), NULL},
    {"readable", connection_get_flag, NULL, PyDoc_STR("True if the connection is readable"), READABLE},
    {"writable", connection_get_flag, NULL, PyDoc_STR("True if the connection is writable"), WRITABLE},
    {"_readable", connection_get_flag, connection_set_flag, NULL, READABLE},
    {"_writable", connection_get_flag, connection_set_flag, NULL, WRITABLE},
    {"_handle", connection_get_handle, connection_set_handle, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

MPF_SHARED_INIT_METHOD(connection_init)

static PyMethodDef connection_methods[] = {
    MPF_SHARED_INIT_ENTRY(connection_init, "handle, readable=True, writable=True"),
    {"send", (PyCFunction)(void (*)(void))mpf_connection_send, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("send($self, obj)\n--\n\nSend a (picklable) object")},
    {"recv", mpf_connection_recv, METH_NOARGS, PyDoc_STR("recv($self)\n--\n\nReceive a (picklable) object")},
    {"send_bytes", (PyCFunction)(void (*)(void))mpf_connection_send_bytes, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("send_bytes($self, buf, offset=0, size=None)\n--\n\nSend the bytes data from a bytes-like object")},
    {"recv_bytes", (PyCFunction)(void (*)(void))mpf_connection_recv_bytes, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("recv_bytes($self, maxlength=None)\n--\n\nReceive bytes data as a bytes object.")},
    {"recv_bytes_into", (PyCFunction)(void (*)(void))mpf_connection_recv_bytes_into, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("recv_bytes_into($self, buf, offset=0)\n--\n\n"
               "Receive bytes data into a writeable bytes-like object. Return the number of bytes read.")},
    {"poll", (PyCFunction)(void (*)(void))mpf_connection_poll, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("poll($self, timeout=0.0)\n--\n\nWhether there is any input available to be read")},
    {"fileno", connection_fileno, METH_NOARGS, PyDoc_STR("fileno($self)\n--\n\nFile descriptor or handle of the connection")},
    {"close", connection_close, METH_NOARGS, PyDoc_STR("close($self)\n--\n\nClose the connection")},
    {"_dump", connection_dump, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot connection_slots[] = {
    {Py_tp_new, connection_new},
    {Py_tp_init, connection_init},
    {Py_tp_finalize, connection_finalize},
    {Py_tp_dealloc, connection_dealloc},
    {Py_tp_traverse, connection_traverse},
    {Py_tp_methods, connection_methods},
    {Py_tp_getset, connection_getset},
    {0, NULL},
};

static PyType_Spec connection_spec = {
    .name = "mpfast._core.Connection",
    .basicsize = sizeof(struct mpf_connection),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = connection_slots,
};

/* _core._set_socket_connection(type): the stdlib's class, for connections that work by their socket. */
static PyObject *
connection_set_socket_connection(PyObject *module, PyObject *type)
{
    if (!PyType_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "a class is needed");
        return NULL;
    }
    Py_XSETREF(mpf_state_of(module)->socket_connection, (PyTypeObject *)Py_NewRef(type));
    Py_RETURN_NONE;
}

static PyMethodDef connection_functions[] = {
    {"pipe", connection_pipe, METH_VARARGS, NULL},
    {"connect", connection_connect, METH_VARARGS, NULL},
    {"_set_socket_connection", connection_set_socket_connection, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

int
mpf_connection_register(PyObject *module)
{
    static const struct mpf_block_hooks pipe_hooks = {mpf_pipe_recover, mpf_pipe_destroy};
    static const struct mpf_block_hooks end_hooks = {NULL, mpf_end_destroy};
    mpf_block_set_hooks(MPF_BLOCK_CHANNEL, &pipe_hooks);
    mpf_block_set_hooks(MPF_BLOCK_PIPE, &end_hooks);
    if (PyModule_AddFunctions(module, connection_functions) < 0) {
        return -1;
    }
    return mpf_state_add_type(module, &connection_spec, NULL, &mpf_state_of(module)->connection_type);
}
