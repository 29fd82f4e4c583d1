/*
 * Purpose: put() and get() of the queues that a manager makes, which are called as those of the module queue are, and whose waits end
 * when the manager has shut down, or the queue has been.
 *
 * Layout: that of a queue object (queue.c), and two references of this process.
 *
 * States: of the queue: in use -> shut down (`down` is set), for good; where a version of Python has no such thing, `down` is NULL.
 *
 * Invariants: `ends` and `down` are set before anybody else has the object, and stay.
 *
 * Callers: any thread attached to the interpreter.
 *
 * Death of the caller: as in queue_send.c and queue_receive.c.
 */
#include <stdbool.h>
#include <stddef.h>

#include "objects/errors.h"
#include "objects/queue.h"
#include "objects/types.h"
#include "objects/until.h"

struct managed_queue_object {
    struct mpf_queue_object queue;
    PyObject *ends; /* owned: a tuple of events, see until.c */
    PyObject *down; /* owned: an event, or NULL */
};

static struct managed_queue_object *
managed_queue_of(PyObject *self)
{
    return (struct managed_queue_object *)self;
}

/* What a call's waits end with. 0, or -1 with an exception. */
static int
managed_queue_ends(struct managed_queue_object *self, struct mpf_wait_ends *ends)
{
    if (self->queue.base.shm == NULL || self->ends == NULL) {
        mpf_shared_missing((PyObject *)self);
        return -1;
    }
    return mpf_until_parse(self->queue.base.state, self->ends, self->down, ends);
}

static bool
managed_queue_is_down(struct managed_queue_object *self)
{
    return self->down != NULL && mpf_event_is_set(((struct mpf_shared *)self->down)->shm);
}

/* The result of a call, or NULL with ShutDown in place of the exception of one that found nothing to do (idle; NULL: nobody has had it
 * yet) or, where it may have waited, to wait for. */
static PyObject *
managed_queue_result(struct managed_queue_object *self, PyObject *result, PyObject *idle, bool has_waited)
{
    if (result != NULL || !managed_queue_is_down(self)) {
        return result;
    }
    if ((idle != NULL && PyErr_ExceptionMatches(idle)) || (has_waited && PyErr_ExceptionMatches(PyExc_EOFError))) {
        PyErr_Clear();
        mpf_errors_raise_shut_down(self->queue.base.state);
    }
    return NULL;
}

/* block and timeout as a deadline: what the module queue makes of them. 0, or -1 with an exception. */
static int
managed_queue_deadline(PyObject *block, PyObject *timeout, int64_t *deadline)
{
    int blocks = block != NULL ? PyObject_IsTrue(block) : 1;
    if (blocks < 0) {
        return -1;
    }
    if (!blocks || timeout == NULL || timeout == Py_None) {
        *deadline = blocks ? MPF_FOREVER : 0;
        return 0;
    }
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (seconds < 0.0) {
        PyErr_SetString(PyExc_ValueError, "'timeout' must be a non-negative number");
        return -1;
    }
    return mpf_wait_deadline(timeout, deadline);
}

/* The arguments of put(), borrowed. 0, or -1 with an exception. */
static int
managed_queue_parse_put(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject *slots[3])
{
    static const char *const names[] = {"item", "block", "timeout"};
    if (mpf_wait_parse_arguments("put", names, 3, args, nargs, kwnames, slots) < 0) {
        return -1;
    }
    if (slots[0] == NULL) {
        PyErr_SetString(PyExc_TypeError, "put() missing 1 required positional argument: 'item'");
        return -1;
    }
    return 0;
}

static PyObject *
managed_queue_put(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct managed_queue_object *self = managed_queue_of(op);
    struct mpf_wait_ends ends;
    int64_t deadline = MPF_FOREVER;
    PyObject *slots[3] = {nargs == 1 ? args[0] : NULL, NULL, NULL}; /* borrowed */
    if (managed_queue_ends(self, &ends) < 0) {
        return NULL;
    }
    if ((nargs != 1 || kwnames != NULL) && managed_queue_parse_put(args, nargs, kwnames, slots) < 0) {
        return NULL;
    }
    if (managed_queue_is_down(self)) {
        return mpf_errors_raise_shut_down(self->queue.base.state);
    }
    const struct mpf_queue_shm *shm = self->queue.base.shm;
    if (shm->limit.messages != 0 && managed_queue_deadline(slots[1], slots[2], &deadline) < 0) { /* else there is always room */
        return NULL;
    }
    PyObject *result = mpf_queue_put_item(op, slots[0], deadline, &ends);
    return managed_queue_result(self, result, self->queue.base.state->queue_full, deadline != 0);
}

static PyObject *
managed_queue_get(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"block", "timeout"};
    struct managed_queue_object *self = managed_queue_of(op);
    struct mpf_wait_ends ends;
    int64_t deadline = MPF_FOREVER;
    if (managed_queue_ends(self, &ends) < 0) {
        return NULL;
    }
    PyObject *slots[2] = {NULL, NULL}; /* borrowed */
    if ((nargs != 0 || kwnames != NULL) && mpf_wait_parse_arguments("get", names, 2, args, nargs, kwnames, slots) < 0) {
        return NULL;
    }
    bool is_down = managed_queue_is_down(self);
    if (is_down && mpf_queue_length(op) == 0) {
        return mpf_errors_raise_shut_down(self->queue.base.state);
    }
    if ((nargs != 0 || kwnames != NULL) && managed_queue_deadline(slots[0], slots[1], &deadline) < 0) {
        return NULL;
    }
    if (is_down) {
        deadline = 0;
    }
    PyObject *result = mpf_queue_get_item(op, deadline, &ends);
    return managed_queue_result(self, result, self->queue.base.state->queue_empty, deadline != 0);
}

static int
managed_queue_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(managed_queue_of(op)->ends);
    Py_VISIT(managed_queue_of(op)->down);
    return mpf_shared_traverse(op, visit, arg);
}

static int
managed_queue_clear(PyObject *op)
{
    Py_CLEAR(managed_queue_of(op)->ends);
    Py_CLEAR(managed_queue_of(op)->down);
    return 0;
}

static void
managed_queue_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    managed_queue_clear(op);
    mpf_queue_dealloc(op);
}

PyDoc_STRVAR(managed_queue_put_doc,
"put($self, item, block=True, timeout=None)\n--\n\n"
"Put item, which is in shared memory when this returns.  Full where there is no room in time, and what pickling raises.");
PyDoc_STRVAR(managed_queue_get_doc,
"get($self, block=True, timeout=None)\n--\n\nTake the oldest item.  Empty where there is none in time.");

static PyMethodDef managed_queue_methods[] = {
    {"put", (PyCFunction)(void (*)(void))managed_queue_put, METH_FASTCALL | METH_KEYWORDS, managed_queue_put_doc},
    {"get", (PyCFunction)(void (*)(void))managed_queue_get, METH_FASTCALL | METH_KEYWORDS, managed_queue_get_doc},
    {NULL, NULL, 0, NULL},
};

/* An attribute that is None until it is set: a manager's server looks at every attribute of what it serves. */
static PyObject *
managed_queue_look(PyObject *op, void *offset)
{
    PyObject *value = *(PyObject **)((char *)op + (uintptr_t)offset); /* borrowed */
    return Py_NewRef(value != NULL ? value : Py_None);
}

static int
managed_queue_set(PyObject *op, PyObject *value, void *offset)
{
    PyObject **slot = (PyObject **)((char *)op + (uintptr_t)offset);
    if (value == NULL || *slot != NULL) {
        PyErr_SetString(PyExc_AttributeError, "is set once");
        return -1;
    }
    *slot = Py_NewRef(value);
    return 0;
}

static PyGetSetDef managed_queue_getset[] = {
    {"_ends", managed_queue_look, managed_queue_set, NULL, (void *)offsetof(struct managed_queue_object, ends)},
    {"_down", managed_queue_look, managed_queue_set, NULL, (void *)offsetof(struct managed_queue_object, down)},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot managed_queue_slots[] = {
    {Py_tp_dealloc, managed_queue_dealloc},
    {Py_tp_traverse, managed_queue_traverse},
    {Py_tp_clear, managed_queue_clear},
    {Py_tp_methods, managed_queue_methods},
    {Py_tp_getset, managed_queue_getset},
    {0, NULL},
};

static PyType_Spec managed_queue_spec = {
    .name = "mpfast._core.ManagedQueue",
    .basicsize = sizeof(struct managed_queue_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = managed_queue_slots,
};

int
mpf_managed_queue_register(PyObject *module)
{
    return mpf_state_add_type(module, &managed_queue_spec, mpf_state_of(module)->joinable_queue_type, NULL);
}
