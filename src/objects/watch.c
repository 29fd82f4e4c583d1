/*
 * Purpose: the thread of platform/watch.h for Python: a call of a Python function when one of several descriptors is readable.
 *
 * Layout: the watch, and the function, which is the thread's argument.
 *
 * States: those of the watch.
 *
 * Invariants: the reference to the function belongs to the call if there is one, else to whoever stops the watch. The thread
 * attaches to the interpreter for the call only, and not when that is being finalized.
 *
 * Callers: Python code, attached to the main interpreter; a thread of another one could outlive it.
 *
 * Death of the caller: the thread goes with its process.
 */
#include "platform/watch.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>

#include "objects/errors.h"
#include "objects/state.h"
#include "objects/types.h"

struct watch {
    PyObject_HEAD
    _Atomic(struct mpf_watch *) watch; /* NULL: let go */
    _Atomic bool stopped;              /* for good; set after it was let go */
    PyObject *function;
};

static bool
watch_is_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return !Py_IsInitialized() || Py_IsFinalizing();
#else
    return !Py_IsInitialized() || _Py_IsFinalizing();
#endif
}

/* On the thread. Takes over the reference. */
static void
watch_call(void *function)
{
    if (watch_is_finalizing()) {
        return;
    }
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallNoArgs(function);
    if (result == NULL) {
        PyErr_WriteUnraisable(function);
    }
    Py_XDECREF(result);
    Py_DECREF((PyObject *)function);
    PyGILState_Release(state);
}

/* Whether it is stopped. */
static bool
watch_end(struct watch *self)
{
    bool stopped;
    /* Acquire and release: two threads may stop it; one of them gets it. */
    struct mpf_watch *watch = atomic_exchange_explicit(&self->watch, NULL, memory_order_acq_rel);
    if (watch == NULL) {
        return atomic_load_explicit(&self->stopped, memory_order_relaxed); /* nothing else is read on the strength of it */
    }
    Py_BEGIN_ALLOW_THREADS
    stopped = mpf_watch_stop(watch);
    Py_END_ALLOW_THREADS
    mpf_watch_free(watch);
    if (stopped) {
        atomic_store_explicit(&self->stopped, true, memory_order_relaxed);
        Py_DECREF(self->function);
    }
    return stopped;
}

PyDoc_STRVAR(watch_stop_doc,
"stop($self, /)\n--\n\n"
"Have the function not be called any more, if it has not been yet.  Returns whether it never was: a call that has begun goes\n"
"on.  False, too, while another thread is about to stop it.");

static PyObject *
watch_stop(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(watch_end((struct watch *)op));
}

/* 0 or -1 with an exception. */
static int
watch_start(struct watch *self, PyObject *descriptors, int *fds, PyObject *function)
{
    struct mpf_watch *watch;
    Py_ssize_t count = PyTuple_GET_SIZE(descriptors);
    for (Py_ssize_t i = 0; i < count; i++) {
        long fd = PyLong_AsLong(PyTuple_GET_ITEM(descriptors, i));
        if (fd == -1 && PyErr_Occurred()) {
            return -1;
        }
        fds[i] = fd >= 0 && fd <= INT_MAX ? (int)fd : -1; /* of one that is none nothing will be heard */
    }
    Py_INCREF(function); /* for the call */
    int rc = mpf_watch_start(fds, (size_t)count, watch_call, function, &watch);
    if (rc < 0) {
        Py_DECREF(function);
        if (rc == -EAGAIN) {
            PyErr_SetString(PyExc_RuntimeError, "can't start new thread"); /* as the interpreter says it of its own */
        } else {
            mpf_errors_raise(rc);
        }
        return -1;
    }
    self->function = function;
    atomic_store_explicit(&self->watch, watch, memory_order_relaxed); /* nobody else has the object yet */
    return 0;
}

static PyObject *
watch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *descriptors, *function;
    static char *names[] = {"descriptors", "function", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O", names, &PyTuple_Type, &descriptors, &function)) {
        return NULL;
    }
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_RuntimeError, "a watch is for the main interpreter");
        return NULL;
    }
    struct watch *self = (struct watch *)type->tp_alloc(type, 0);
    int *fds = PyMem_New(int, PyTuple_GET_SIZE(descriptors) + 1);
    if (self != NULL && fds == NULL) {
        PyErr_NoMemory();
    }
    if (self != NULL && (fds == NULL || watch_start(self, descriptors, fds, function) < 0)) {
        Py_CLEAR(self);
    }
    PyMem_Free(fds);
    return (PyObject *)self;
}

static void
watch_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    (void)watch_end((struct watch *)op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef watch_methods[] = {
    {"stop", watch_stop, METH_NOARGS, watch_stop_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(watch_doc,
"Watch(descriptors, function)\n--\n\n"
"Has function() called, once, when one of the descriptors (a tuple of ints) is readable; in a thread that is none of the\n"
"interpreter's until then, and that threading does not know of.");

static PyType_Slot watch_slots[] = {
    {Py_tp_new, watch_new},
    {Py_tp_dealloc, watch_dealloc},
    {Py_tp_methods, watch_methods},
    {Py_tp_doc, (void *)watch_doc},
    {0, NULL},
};

static PyType_Spec watch_spec = {
    .name = "mpfast._core.Watch",
    .basicsize = sizeof(struct watch),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = watch_slots,
};

int
mpf_watch_register(PyObject *module)
{
    return mpf_state_add_type(module, &watch_spec, NULL, NULL);
}
