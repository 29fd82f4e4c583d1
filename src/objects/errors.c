/*
 * Purpose: maps the -errno of the layers below to Python exceptions; owns OwnerDied and OwnerDiedWarning.
 *
 * Layout, states: `strict` in the module state, 0 or 1; set by set_strict(), copied to a forked child with the rest of its
 * memory, and to a spawned one by handle.c.
 *
 * Invariants: -EINTR never replaces an exception, since only a signal handler's exception causes it.
 *
 * Callers: every file of objects/, attached to the interpreter.
 *
 * Death of the caller: nothing is shared.
 */
#include "objects/errors.h"

#include <errno.h>
#include <stdbool.h>

PyObject *
mpf_errors_raise(int error)
{
    switch (error) {
    case -EINTR:
        if (!PyErr_Occurred()) {
            errno = EINTR;
            PyErr_SetFromErrno(PyExc_OSError);
        }
        return NULL;
    case -ESTALE:
        errno = ENOENT;
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, "shared object (its last owner let it go)");
    case -ENOENT:
        errno = ENOENT;
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, "shared memory (no process has it any more)");
    default:
        errno = -error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
}

int
mpf_errors_finally(int rc, PyObject *type, PyObject *value, PyObject *traceback)
{
    if (rc == 0) {
        PyErr_Restore(type, value, traceback);
        return 0;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return rc;
}

int
mpf_errors_owner_died(struct mpf_state *state, PyObject *what)
{
    const char *name = Py_TYPE(what)->tp_name;
    const char *dot = strrchr(name, '.');
    name = dot != NULL ? dot + 1 : name;
    if (atomic_load_explicit(&state->strict, memory_order_relaxed)) {
        PyErr_Format(state->owner_died, "the process that held this %s was killed", name);
        return -1;
    }
    return PyErr_WarnFormat(state->owner_died_warning, 1, "the process that held this %s was killed: "
                            "what the %s protects may be half changed", name, name);
}

/* Borrowed reference to the module queue's exception, or NULL with another one. `slot`, where it is kept, is filled at the
 * first use: few children raise one, and the module imports others. */
static PyObject *
errors_of_queue(PyObject **slot, const char *name)
{
    PyObject *known = __atomic_load_n(slot, __ATOMIC_ACQUIRE); /* pairs with the release below */
    if (known != NULL) {
        return known;
    }
    PyObject *module = PyImport_ImportModule("queue");
    PyObject *exception = module != NULL ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    if (exception != NULL &&
        !__atomic_compare_exchange_n(slot, &known, exception, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        Py_DECREF(exception); /* another thread was first */
        return known;
    }
    return exception; /* borrowed: the slot has stolen the reference */
}

static PyObject *
errors_raise_of_queue(PyObject **slot, const char *name, PyObject *value)
{
    PyObject *exception = errors_of_queue(slot, name);
    if (exception != NULL) {
        PyErr_SetObject(exception, value != NULL ? value : Py_None);
    }
    return NULL;
}

PyObject *
mpf_errors_raise_full(struct mpf_state *state, PyObject *value)
{
    return errors_raise_of_queue(&state->queue_full, "Full", value);
}

PyObject *
mpf_errors_raise_empty(struct mpf_state *state)
{
    return errors_raise_of_queue(&state->queue_empty, "Empty", NULL);
}

PyObject *
mpf_errors_raise_shut_down(struct mpf_state *state)
{
    return errors_raise_of_queue(&state->queue_shut_down, "ShutDown", NULL);
}

PyDoc_STRVAR(set_strict_doc,
"set_strict($module, strict, /)\n--\n\n"
"Choose what an acquire does that gets a lock whose owner was killed.\n\n"
"False (the default): it takes the lock and issues OwnerDiedWarning.  True: it raises OwnerDied, once for each death,\n"
"and leaves the lock free.  Condition.wait(), which had the lock when it was called, has it again in either case.\n"
"Returns the previous setting.  Holds for this process and the children that it starts from now on.");

static PyObject *
errors_set_strict(PyObject *module, PyObject *value)
{
    int strict = PyObject_IsTrue(value);
    if (strict < 0) {
        return NULL;
    }
    return PyBool_FromLong(atomic_exchange_explicit(&mpf_state_of(module)->strict, strict, memory_order_relaxed));
}

PyDoc_STRVAR(get_strict_doc,
"get_strict($module, /)\n--\n\n"
"Whether a killed owner raises OwnerDied (True) or warns (False); see set_strict().");

static PyObject *
errors_get_strict(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(atomic_load_explicit(&mpf_state_of(module)->strict, memory_order_relaxed));
}

static PyMethodDef errors_functions[] = {
    {"set_strict", errors_set_strict, METH_O, set_strict_doc},
    {"get_strict", errors_get_strict, METH_NOARGS, get_strict_doc},
    {NULL, NULL, 0, NULL},
};

/* New reference to an attribute of a module, NULL with an exception. */
static PyObject *
errors_import(const char *module, const char *name)
{
    PyObject *found = NULL, *imported = PyImport_ImportModule(module);
    if (imported != NULL) {
        found = PyObject_GetAttrString(imported, name);
        Py_DECREF(imported);
    }
    return found;
}

int
mpf_errors_register(PyObject *module)
{
    struct mpf_state *state = mpf_state_of(module);
    state->owner_died = PyErr_NewExceptionWithDoc(
        "mpfast.OwnerDied", "The process that held a lock was killed while it held it (strict mode); the lock is free.",
        PyExc_RuntimeError, NULL);
    if (state->owner_died == NULL || PyModule_AddObjectRef(module, "OwnerDied", state->owner_died) < 0) {
        return -1;
    }
    state->owner_died_warning = PyErr_NewExceptionWithDoc(
        "mpfast.OwnerDiedWarning", "The process that held a lock was killed while it held it; the lock was handed on.",
        PyExc_RuntimeWarning, NULL);
    if (state->owner_died_warning == NULL ||
        PyModule_AddObjectRef(module, "OwnerDiedWarning", state->owner_died_warning) < 0) {
        return -1;
    }
    state->broken_barrier_error = errors_import("threading", "BrokenBarrierError");
    return state->broken_barrier_error != NULL ? PyModule_AddFunctions(module, errors_functions) : -1;
}
