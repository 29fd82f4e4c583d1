/*
 * Purpose: the type behind Queue, JoinableQueue and SimpleQueue; mpfast/queues.py gives it their names and habits.
 * queue_send.c and queue_receive.c move single items, queue_batch.c many; managed_queue.c has a manager's queues.
 *
 * Layout: a block with the lane (transport/queue.h), and an end of it, which stands for this process's ability to put
 * ("_writer" in the stdlib's queues). Both are references of this process.
 *
 * States of the Python object: made (no block) -> open -> closed; closing concerns this object alone.
 *
 * Invariants: an object is encoded before the queue is touched: what cannot be pickled changes nothing. A message
 * that get_many() took and could not decode is kept in `stash`, with those after it, and is what get() finds next.
 *
 * Callers: any thread attached to the interpreter. In free-threaded builds `stash` and `bell` are guarded by the object's
 * critical section.
 *
 * Death of the caller: see transport/lane.c and transport/end.c.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "objects/errors.h"
#include "objects/guard.h"
#include "objects/handle.h"
#include "objects/queue.h"
#include "objects/types.h"
#include "sync/semaphore.h"
#include "transport/end.h"

static struct mpf_queue_shm *
queue_shm(PyObject *self)
{
    return ((struct mpf_shared *)self)->shm;
}

/* ---- queues that work by the stdlib's methods ---- */

/* Calls the stdlib's method of that name for an object of a class that asked for it (mpfast/queues.py). */
PyObject *
mpf_queue_elsewhere(PyObject *self, const char *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *resolve = PyObject_GetAttrString(self, "_by_stdlib");
    if (resolve == NULL) {
        PyErr_Clear();
        return mpf_shared_missing(self);
    }
    PyObject *method = PyObject_CallFunction(resolve, "s", name);
    Py_DECREF(resolve);
    if (method == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(method, args, (size_t)nargs, kwnames);
    Py_DECREF(method);
    return result;
}

static bool
queue_is_elsewhere(PyObject *self)
{
    return mpf_queue_of(self)->base.shm == NULL && PyObject_HasAttrString(self, "_by_stdlib");
}

/* ---- life ---- */

static int
queue_open(struct mpf_queue_object *queue, uint64_t max_messages, bool joinable)
{
    struct mpf_shared *base = &queue->base;
    if (mpf_shared_create(base, sizeof(struct mpf_queue_shm), MPF_BLOCK_QUEUE) < 0) {
        return -1;
    }
    int rc = mpf_queue_init(base->ref.arena, base->shm, max_messages, joinable);
    if (rc == 0) {
        rc = mpf_end_open(&base->ref, offsetof(struct mpf_queue_shm, lane), MPF_END_NONE,
                          offsetof(struct mpf_queue_shm, bell), &queue->writer);
    }
    if (rc < 0) {
        mpf_errors_raise(rc);
        return -1;
    }
    queue->alone = max_messages == 0 && !joinable ? atomic_load_explicit(&mpf_process_copies, memory_order_relaxed) : 0;
    return 0;
}

static int
queue_init_elsewhere(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *init = PyObject_CallMethod(self, "_by_stdlib", "s", "__init__");
    PyObject *result = init != NULL ? PyObject_Call(init, args, kwargs) : NULL;
    Py_XDECREF(init);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

static int
queue_init_as(PyObject *self, PyObject *args, PyObject *kwargs, bool joinable)
{
    static char *names[] = {"maxsize", "ctx", NULL};
    PyObject *maxsize = NULL, *ctx = NULL; /* borrowed */
    if (queue_is_elsewhere(self)) {
        return queue_init_elsewhere(self, args, kwargs);
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:Queue", names, &maxsize, &ctx)) {
        return -1;
    }
    if (ctx == NULL) {
        PyErr_Format(PyExc_TypeError, "%s.__init__() missing 1 required keyword-only argument: 'ctx'",
                     Py_TYPE(self)->tp_name);
        return -1;
    }
    long long limit = maxsize != NULL ? PyLong_AsLongLong(maxsize) : 0;
    if (limit == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (limit > MPF_SEMAPHORE_VALUE_MAX) {
        PyErr_SetNone(PyExc_OverflowError);
        return -1;
    }
    return queue_open(mpf_queue_of(self), limit > 0 ? (uint64_t)limit : 0, joinable);
}

static int
queue_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return queue_init_as(self, args, kwargs, false);
}

static int
queue_joinable_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return queue_init_as(self, args, kwargs, true);
}

static void
queue_drop_guarded_bell(struct mpf_queue_object *queue)
{
    if (queue->bell.owner != 0) {
        mpf_queue_drop_bell(queue->base.ref.arena, queue->base.shm, &queue->bell);
    }
}

static void
queue_drop_bell(struct mpf_queue_object *queue)
{
    MPF_GUARD(queue);
    queue_drop_guarded_bell(queue);
    MPF_UNGUARD();
}

void
mpf_queue_dealloc(PyObject *self)
{
    struct mpf_queue_object *queue = mpf_queue_of(self);
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    queue_drop_guarded_bell(queue);
    mpf_block_unref(&queue->writer);
    mpf_block_unref(&queue->base.ref);
    Py_CLEAR(queue->stash);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
queue_getstate(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_QUEUE_HERE(self, "__getstate__", NULL, 0, NULL);
    struct mpf_queue_object *queue = mpf_queue_of(self);
    queue->alone = 0;
    PyObject *handle = mpf_shared_dump(&queue->base);
    if (handle == NULL) {
        return NULL;
    }
    PyObject *writer = queue->writer.off != 0 ? mpf_handle_dump(queue->base.state, &queue->writer) : Py_NewRef(Py_None);
    if (writer == NULL) {
        Py_DECREF(handle);
        return NULL;
    }
    return Py_BuildValue("(NN)", handle, writer);
}

static PyObject *
queue_setstate(PyObject *self, PyObject *state)
{
    PyObject *handle, *writer; /* borrowed */
    struct mpf_queue_object *queue = mpf_queue_of(self);
    if (queue_is_elsewhere(self)) {
        return mpf_queue_elsewhere(self, "__setstate__", &state, 1, NULL);
    }
    if (PyTuple_Check(state) && PyTuple_GET_SIZE(state) != 2) {
        return PyObject_CallMethod(self, "_become_stdlib", "(O)", state);
    }
    if (!PyArg_ParseTuple(state, "OO:__setstate__", &handle, &writer)) {
        return NULL;
    }
    if (mpf_shared_load(&queue->base, handle, MPF_BLOCK_QUEUE) < 0) {
        return NULL;
    }
    if (writer != Py_None && mpf_handle_load(queue->base.state, writer, MPF_BLOCK_PIPE, &queue->writer) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
mpf_queue_raise_closed(PyObject *self)
{
    return PyObject_CallMethod(self, "_raise_closed", NULL);
}

/* ---- looking ---- */

Py_ssize_t
mpf_queue_length(PyObject *self)
{
    struct mpf_queue_object *queue = mpf_queue_of(self);
    return (Py_ssize_t)mpf_lane_count(&queue_shm(self)->lane) + mpf_queue_stashed(queue);
}

static PyObject *
queue_qsize(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_QUEUE_HERE(self, "qsize", NULL, 0, NULL);
    return PyLong_FromSsize_t(mpf_queue_length(self));
}

static PyObject *
queue_empty(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_QUEUE_HERE(self, "empty", NULL, 0, NULL);
    if (mpf_queue_of(self)->reader_closed) {
        PyErr_SetString(PyExc_OSError, "handle is closed");
        return NULL;
    }
    mpf_queue_settle(mpf_queue_of(self));
    return PyBool_FromLong(mpf_queue_length(self) == 0);
}

/* _awaited(): whether somebody waits for an item. */
static PyObject *
queue_awaited(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(self);
    return PyBool_FromLong(mpf_lane_awaited(&queue_shm(self)->lane));
}

static PyObject *
queue_full(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_QUEUE_HERE(self, "full", NULL, 0, NULL);
    return PyBool_FromLong(mpf_lane_full(&queue_shm(self)->lane, &queue_shm(self)->limit));
}

/* _poll(timeout=0.0): whether get() would find something (or the end of file) within `timeout` seconds. */
static PyObject *
queue_poll(PyObject *self, PyObject *args)
{
    PyObject *timeout = NULL; /* borrowed */
    int64_t deadline = 0;
    MPF_SHARED_CHECK(self);
    if (!PyArg_ParseTuple(args, "|O:_poll", &timeout) || (timeout != NULL && mpf_wait_deadline(timeout, &deadline) < 0)) {
        return NULL;
    }
    struct mpf_queue_shm *shm = queue_shm(self);
    if (mpf_queue_length(self) != 0) {
        Py_RETURN_TRUE;
    }
    struct mpf_wait wait;
    mpf_wait_init(&wait, mpf_queue_of(self)->base.ref.arena, deadline);
    int rc = deadline == 0 ? (atomic_load(&shm->lane.closed) != 0 ? 0 : -ETIMEDOUT)
                           : mpf_lane_await_message(&wait.park, &shm->lane);
    if (rc == 0) {
        mpf_lane_pass_message(&shm->lane); /* somebody else may wait to get it */
        Py_RETURN_TRUE;
    }
    if (rc == -ETIMEDOUT) {
        mpf_queue_settle(mpf_queue_of(self)); /* a sender that died may have rung without sending */
        Py_RETURN_FALSE;
    }
    return mpf_errors_raise(rc);
}

static PyObject *
queue_bell_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(self);
    struct mpf_queue_object *queue = mpf_queue_of(self);
    int rc = 0, fd = -1;
    queue->alone = 0; /* there may be a ring to be made */
    MPF_GUARD(queue);
    if (!mpf_queue_has_bell(queue)) {
        queue_drop_guarded_bell(queue);
        rc = mpf_queue_hang_bell(queue->base.ref.arena, queue->base.shm, &queue->bell);
    }
    fd = queue->bell.read_fd;
    MPF_UNGUARD();
    return rc < 0 ? mpf_errors_raise(rc) : PyLong_FromLong(fd);
}

static PyObject *
queue_maxsize(PyObject *self, void *Py_UNUSED(closure))
{
    MPF_SHARED_CHECK(self);
    uint64_t limit = queue_shm(self)->limit.messages;
    return PyLong_FromUnsignedLongLong(limit != 0 ? limit : MPF_SEMAPHORE_VALUE_MAX);
}

static PyObject *
queue_is_closed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(mpf_queue_of(self)->closed);
}

/* ---- closing, tasks ---- */

static PyObject *
queue_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_QUEUE_HERE(self, "close", NULL, 0, NULL);
    struct mpf_queue_object *queue = mpf_queue_of(self);
    queue->closed = true;
    queue_drop_bell(queue);
    if (queue->used) { /* the stdlib's feeder thread, if there is one, closes both ends */
        queue->reader_closed = true;
        mpf_block_unref(&queue->writer);
    }
    Py_RETURN_NONE;
}

static PyObject *
queue_reader_closed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(mpf_queue_of(self)->reader_closed);
}

static PyObject *
queue_writer_closed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(mpf_queue_of(self)->writer.off == 0);
}

static PyObject *
queue_close_reader(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(self);
    mpf_queue_of(self)->reader_closed = true;
    queue_drop_bell(mpf_queue_of(self));
    Py_RETURN_NONE;
}

static PyObject *
queue_close_writer(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(self);
    mpf_block_unref(&mpf_queue_of(self)->writer);
    Py_RETURN_NONE;
}

static PyObject *
queue_task_done(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_QUEUE_HERE(self, "task_done", NULL, 0, NULL);
    if (mpf_queue_finish(mpf_queue_of(self)->base.ref.arena, queue_shm(self)) < 0) {
        PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
queue_join(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_QUEUE_HERE(self, "join", NULL, 0, NULL);
    struct mpf_wait wait;
    mpf_wait_init(&wait, mpf_queue_of(self)->base.ref.arena, MPF_FOREVER);
    int rc = mpf_queue_await_finished(&wait.park, queue_shm(self));
    if (rc < 0) {
        return mpf_errors_raise(rc);
    }
    Py_RETURN_NONE;
}

/* _unfinished(): items put and not reported by task_done(). */
static PyObject *
queue_unfinished(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(self);
    return PyLong_FromUnsignedLongLong(mpf_queue_unfinished(queue_shm(self)));
}

PyDoc_STRVAR(queue_put_doc,
"put($self, obj, block=True, timeout=None)\n--\n\n"
"Put obj, which is in shared memory when this returns.  Full where there is no room in time, and what pickling raises.");
PyDoc_STRVAR(queue_get_doc, "get($self, block=True, timeout=None)\n--\n\nTake the oldest item.  Empty where there is none in time.");
PyDoc_STRVAR(queue_qsize_doc, "qsize($self)\n--\n\nThe number of items.");
PyDoc_STRVAR(queue_empty_doc, "empty($self)\n--\n\nWhether there is no item.");
PyDoc_STRVAR(queue_full_doc, "full($self)\n--\n\nWhether there is no room for an item.");
PyDoc_STRVAR(queue_close_doc, "close($self)\n--\n\nThis process puts nothing more.");
PyDoc_STRVAR(queue_task_done_doc,
"task_done($self)\n--\n\n"
"An item that was got is finished.  ValueError where there are no such items left.");
PyDoc_STRVAR(queue_join_doc, "join($self)\n--\n\nWait until every item that was put is finished.");

static PyMethodDef queue_methods[] = {
    {"put", (PyCFunction)(void (*)(void))mpf_queue_put, METH_FASTCALL | METH_KEYWORDS, queue_put_doc},
    {"get", (PyCFunction)(void (*)(void))mpf_queue_get, METH_FASTCALL | METH_KEYWORDS, queue_get_doc},
    {"put_many", (PyCFunction)(void (*)(void))mpf_queue_put_many, METH_VARARGS | METH_KEYWORDS, mpf_queue_put_many_doc},
    {"get_many", (PyCFunction)(void (*)(void))mpf_queue_get_many, METH_VARARGS | METH_KEYWORDS, mpf_queue_get_many_doc},
    {"qsize", queue_qsize, METH_NOARGS, queue_qsize_doc},
    {"empty", queue_empty, METH_NOARGS, queue_empty_doc},
    {"full", queue_full, METH_NOARGS, queue_full_doc},
    {"close", queue_close, METH_NOARGS, queue_close_doc},
    {"_poll", queue_poll, METH_VARARGS, NULL},
    {"_awaited", queue_awaited, METH_NOARGS, NULL},
    {"_bell_fileno", queue_bell_fileno, METH_NOARGS, NULL},
    {"_close_reader", queue_close_reader, METH_NOARGS, NULL},
    {"_close_writer", queue_close_writer, METH_NOARGS, NULL},
    {"__getstate__", queue_getstate, METH_NOARGS, NULL},
    {"__setstate__", queue_setstate, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef queue_joinable_methods[] = {
    {"task_done", queue_task_done, METH_NOARGS, queue_task_done_doc},
    {"join", queue_join, METH_NOARGS, queue_join_doc},
    {"_unfinished", queue_unfinished, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef queue_getset[] = {
    {"_maxsize", queue_maxsize, NULL, NULL, NULL},
    {"_closed", queue_is_closed, NULL, NULL, NULL},
    {"_reader_closed", queue_reader_closed, NULL, NULL, NULL},
    {"_writer_closed", queue_writer_closed, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_init, queue_init},
    {Py_tp_dealloc, mpf_queue_dealloc},
    {Py_tp_traverse, mpf_shared_traverse},
    {Py_tp_methods, queue_methods},
    {Py_tp_getset, queue_getset},
    {Py_tp_members, mpf_shared_members},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "mpfast._core.Queue",
    .basicsize = sizeof(struct mpf_queue_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = queue_slots,
};

static PyType_Slot queue_joinable_slots[] = {
    {Py_tp_init, queue_joinable_init},
    {Py_tp_dealloc, mpf_queue_dealloc},
    {Py_tp_traverse, mpf_shared_traverse},
    {Py_tp_methods, queue_joinable_methods},
    {0, NULL},
};

static PyType_Spec queue_joinable_spec = {
    .name = "mpfast._core.JoinableQueue",
    .basicsize = sizeof(struct mpf_queue_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = queue_joinable_slots,
};

int
mpf_queue_register(PyObject *module)
{
    static const struct mpf_block_hooks hooks = {mpf_queue_recover, mpf_queue_destroy};
    struct mpf_state *state = mpf_state_of(module);
    mpf_block_set_hooks(MPF_BLOCK_QUEUE, &hooks);
    if (mpf_state_add_type(module, &queue_spec, NULL, &state->queue_type) < 0) {
        return -1;
    }
    return mpf_state_add_type(module, &queue_joinable_spec, state->queue_type, &state->joinable_queue_type);
}
