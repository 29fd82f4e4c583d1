/*
 * Purpose: connection.wait(): which of many connections, sentinels, sockets and descriptors are ready.
 *
 * Layout: private memory only. One entry for each object of the list, in its order:
 *   native   the end of a pipe that works by memory: ready when its lane says so; asleep on its socket. One that is diverted
 *            meanwhile is by_socket as soon as it is settled: ready when poll() says so
 *   foreign  anything else with a descriptor: ready when poll() says so
 *
 * Invariants: an object is reported if and only if it is ready at some instant of the call. Where a native one is ready
 * and there is nothing foreign, no system call is made.
 *
 * Callers: any thread attached to the interpreter; detached while it sleeps. The list's objects are kept alive.
 *
 * Death of a peer: its socket becomes readable, and the look at its lane finds the end.
 */
#include "objects/connection.h"

#include <errno.h>
#include <stdbool.h>

#include "objects/errors.h"
#include "objects/types.h"
#include "objects/wait.h"
#include "platform/clock.h"

struct select_entry {
    PyObject *object; /* owned */
    struct mpf_connection *native; /* the object, or NULL */
    bool by_socket;
    bool ready;
};

struct select_set {
    struct select_entry *entries;
    struct pollfd *targets; /* one for each entry; fd < 0 where the kernel need not be asked */
    Py_ssize_t count;
    Py_ssize_t natives;
};

static void
select_free(struct select_set *set)
{
    for (Py_ssize_t i = 0; i < set->count; i++) {
        if (set->entries[i].native != NULL) {
            mpf_connection_end(set->entries[i].native);
        }
        Py_DECREF(set->entries[i].object);
    }
    PyMem_Free(set->entries);
    PyMem_Free(set->targets);
}

static int
select_descriptor(struct mpf_state *state, PyObject *object, struct select_entry *entry, struct pollfd *target)
{
    target->events = POLLIN;
    if (PyObject_TypeCheck(object, state->connection_type)) {
        struct mpf_connection *c = (struct mpf_connection *)object;
        if (mpf_connection_begin(c) < 0) {
            return -1;
        }
        if (mpf_connection_by_memory(c)) {
            entry->native = c; /* held until the end of the call */
            target->fd = c->fd;
            return 0;
        }
        mpf_connection_end(c);
    }
    target->fd = PyObject_AsFileDescriptor(object);
    return target->fd < 0 ? -1 : 0;
}

static int
select_fill(struct mpf_state *state, PyObject *sequence, struct select_set *set)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence);
    set->entries = PyMem_Calloc((size_t)count + 1, sizeof *set->entries);
    set->targets = PyMem_Calloc((size_t)count + 1, sizeof *set->targets);
    if (set->entries == NULL || set->targets == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *object = PySequence_Fast_GET_ITEM(sequence, i); /* borrowed */
        struct select_entry *entry = &set->entries[i];
        entry->object = Py_NewRef(object);
        set->count = i + 1;
        if (select_descriptor(state, object, entry, &set->targets[i]) < 0) {
            return -1;
        }
        set->natives += entry->native != NULL;
    }
    return 0;
}

static bool
select_native_ready(const struct mpf_connection *c)
{
    if (mpf_connection_is_closing(c) || mpf_lane_count(c->in) != 0) {
        return true;
    }
    uint32_t closed = atomic_load_explicit(&c->in->closed, memory_order_acquire);
    return closed != 0 && (closed & MPF_LANE_DIVERTED) == 0; /* of a diverted one the socket has the end */
}

/* Looks at the lanes. How many are ready. */
static Py_ssize_t
select_look(struct select_set *set)
{
    Py_ssize_t ready = 0;
    for (Py_ssize_t i = 0; i < set->count; i++) {
        struct select_entry *entry = &set->entries[i];
        if (entry->native != NULL && select_native_ready(entry->native)) {
            entry->ready = true;
            ready++;
        }
    }
    return ready;
}

/* Announces the sleeper to the lane. Whether it is ready instead; not where it is the socket that says so. */
static bool
select_announce_one(struct select_entry *entry)
{
    struct mpf_connection *c = entry->native;
    if (mpf_connection_is_closing(c)) {
        return true;
    }
    int rc = mpf_pipe_prepare_sleep(c->end.arena, c->in, c->fd);
    if (rc != 0 || !mpf_lane_diverted(c->in)) {
        return rc != 1;
    }
    entry->by_socket = mpf_pipe_settle(c->end.arena, c->in, c->fd) == MPF_PIPE_SETTLED;
    return !entry->by_socket;
}

/* Announces the sleeper to every lane that is not ready. How many turned out to be ready. */
static Py_ssize_t
select_announce(struct select_set *set)
{
    Py_ssize_t ready = 0;
    for (Py_ssize_t i = 0; i < set->count; i++) {
        struct select_entry *entry = &set->entries[i];
        if (entry->native != NULL && !entry->ready && select_announce_one(entry)) {
            entry->ready = true;
            ready++;
        }
    }
    return ready;
}

/* Whether an object whose descriptor is readable has something to read: the reader of a queue may say that it has not. -1
 * with an exception set. */
static int
select_confirmed(PyObject *object)
{
    if (PyLong_Check(object) || !PyObject_HasAttrString(object, "_confirm_ready")) {
        return 1;
    }
    PyObject *answer = PyObject_CallMethod(object, "_confirm_ready", NULL);
    int confirmed = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return confirmed;
}

/* poll() until the deadline. How many more are ready, or -errno; -EINTR with an exception set. */
static Py_ssize_t
select_poll(struct select_set *set, int64_t deadline)
{
    int rc = mpf_wait_poll(set->targets, (nfds_t)set->count, deadline);
    if (rc < 0) {
        return rc == -ETIMEDOUT ? 0 : rc;
    }
    Py_ssize_t ready = 0;
    for (Py_ssize_t i = 0; i < set->count; i++) {
        bool by_poll = set->entries[i].native == NULL || set->entries[i].by_socket;
        if (by_poll && !set->entries[i].ready && set->targets[i].revents != 0) {
            int confirmed = select_confirmed(set->entries[i].object);
            if (confirmed < 0) {
                return -EINTR;
            }
            set->entries[i].ready = confirmed;
            ready += confirmed;
        }
    }
    return ready;
}

/* How many are ready, 0 after the deadline, or -errno. */
static Py_ssize_t
select_wait(struct select_set *set, int64_t deadline)
{
    for (;;) {
        Py_ssize_t ready = select_look(set);
        if (ready > 0 && set->natives == set->count) {
            return ready;
        }
        if (ready == 0) {
            ready = select_announce(set);
        }
        Py_ssize_t foreign = select_poll(set, ready > 0 ? 0 : deadline);
        if (foreign < 0) {
            return foreign;
        }
        /* a native one's peer that died is found by announcing again, which looks at the socket */
        ready += foreign + (ready == 0 ? select_announce(set) : 0);
        if (ready > 0) {
            return ready;
        }
        if (deadline != MPF_FOREVER && (deadline == 0 || mpf_clock_now() >= deadline)) {
            return 0;
        }
    }
}

static PyObject *
select_ready(struct select_set *set)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < set->count; i++) {
        if (set->entries[i].ready && PyList_Append(list, set->entries[i].object) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *
select_wait_function(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"object_list", "timeout", NULL};
    PyObject *objects, *timeout = NULL; /* borrowed */
    int64_t deadline;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:wait", names, &objects, &timeout) ||
        mpf_wait_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    PyObject *sequence = PySequence_Fast(objects, "wait() needs an iterable of objects");
    if (sequence == NULL) {
        return NULL;
    }
    struct select_set set = {0};
    PyObject *result = NULL;
    if (select_fill(mpf_state_of(module), sequence, &set) == 0) {
        Py_ssize_t ready = select_wait(&set, deadline);
        result = ready < 0 ? mpf_errors_raise((int)ready) : select_ready(&set);
    }
    select_free(&set);
    Py_DECREF(sequence);
    return result;
}

static PyMethodDef select_functions[] = {
    {"wait", (PyCFunction)(void (*)(void))select_wait_function, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("Wait till an object in object_list is ready/readable.\n\nReturns list of those objects in object_list "
               "which are ready/readable.")},
    {NULL, NULL, 0, NULL},
};

int
mpf_select_register(PyObject *module)
{
    return PyModule_AddFunctions(module, select_functions);
}
