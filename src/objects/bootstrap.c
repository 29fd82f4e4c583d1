/*
 * Purpose: what a child process does before and after the program's function, as multiprocessing's own Python code does it,
 * for children of which that is known.
 *
 * Why in C: a forked child shares its parent's pages until it writes to them, and calling a function of Python writes to the
 * pages of the function, of its code, of its names and of whatever it looks at: a reference count is a write. Nearly all that
 * is looked at here is borrowed.
 *
 * Layout: private memory only, see bootstrap_type.c.
 *
 * States of a process object: entered -> running -> left, each as in BaseProcess._bootstrap. An exception before that is left
 * goes to `report`, a function of Python, which returns the exit code.
 *
 * Invariants: run() and prepare() do all or nothing: whether everything is as they know it (no function replaced, no logging)
 * is looked at before the first step; what the program may change while it runs is looked at again before each step after it.
 *
 * Callers: Python code, attached to the interpreter, in a child that has one thread until the program's function runs.
 *
 * Death of the caller: nothing is shared.
 */
#include "objects/bootstrap.h"

#include <unistd.h>

#include "objects/errors.h"

int
mpf_bootstrap_call(PyObject *function)
{
    if (function == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a function of multiprocessing is missing");
        return -1;
    }
    Py_INCREF(function); /* the module may let go of it meanwhile */
    PyObject *result = PyObject_CallNoArgs(function);
    Py_DECREF(function);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

bool
mpf_bootstrap_is_known(struct bootstrap *b)
{
    bool known = b->known && GET(util, _logger) == Py_None;
#define IS(module, name) known = known && IS_KNOWN(module, name);
    BOOTSTRAP_KNOWN(IS)
#undef IS
    return known;
}

bool
mpf_bootstrap_inherits(PyObject *object, PyObject *attributes, PyObject *name, PyObject *base)
{
    if (PyDict_GetItemWithError(attributes, name) != NULL) {
        return false;
    }
    PyObject *mro = Py_TYPE(object)->tp_mro; /* borrowed */
    for (Py_ssize_t i = 0; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *type = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        if (!PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) || type->tp_dict == NULL) {
            return false; /* object, at the end */
        }
        PyObject *found = PyDict_GetItemWithError(type->tp_dict, name);
        if (found != NULL) {
            return found == base;
        }
    }
    return false;
}

/* New reference: an instance's own attribute, or else its class's. */
static PyObject *
bootstrap_attribute(PyObject *object, PyObject *attributes, PyObject *name)
{
    PyObject *value = PyDict_GetItemWithError(attributes, name);
    if (value != NULL) {
        return Py_NewRef(value);
    }
    return PyErr_Occurred() ? NULL : PyObject_GetAttr(object, name);
}

static void
bootstrap_drop_reserved(struct bootstrap *b)
{
    if (b->reserved >= 0) {
        close(b->reserved);
        b->reserved = -1;
    }
}

/* Closes sys.stdin and has the stream that is ready for the reserved descriptor take its place; true where that was done. */
static bool
bootstrap_swap_stdin(struct bootstrap *b, PyObject *standard)
{
    PyObject *number = b->reserved >= 0 ? PyLong_FromLong(b->reserved) : NULL;
    PyObject *stream = number != NULL ? PyDict_GetItemWithError(b->streams, number) : NULL; /* borrowed */
    Py_XDECREF(number);
    PyObject *closed = NULL;
    if (stream != NULL && standard != NULL && standard != Py_None) {
        closed = PyObject_CallMethodNoArgs(standard, b->str_close);
    }
    PyErr_Clear();
    Py_XDECREF(closed);
    return closed != NULL && PySys_SetObject("stdin", stream) == 0;
}

static int
bootstrap_close_stdin(struct bootstrap *b)
{
    PyObject *standard = PySys_GetObject("stdin"); /* borrowed */
    if (standard != NULL && standard == b->stdin_made) {
        bootstrap_drop_reserved(b);
        return 0;
    }
    bool swapped = bootstrap_swap_stdin(b, standard);
    if (swapped) {
        b->reserved = -1;
    }
    bootstrap_drop_reserved(b);
    if (!swapped && CALL(util, _close_stdin) < 0) {
        return -1;
    }
    standard = PySys_GetObject("stdin");
    Py_XSETREF(b->stdin_made, Py_XNewRef(standard));
    return 0;
}

static int
bootstrap_set_family(struct bootstrap *b, PyObject *process, PyObject *attributes, PyObject *sentinel)
{
    PyObject *name = bootstrap_attribute(process, attributes, b->str__parent_name);
    PyObject *pid = name != NULL ? bootstrap_attribute(process, attributes, b->str__parent_pid) : NULL;
    PyObject *parent = NULL;
    int error = -1;
    if (pid != NULL && SET(process, _current_process, process) == 0) {
        parent = mpf_bootstrap_take_family(b, name, pid, sentinel);
        error = parent != NULL ? SET(process, _parent_process, parent) : -1;
    }
    Py_XDECREF(parent);
    Py_XDECREF(pid);
    Py_XDECREF(name);
    return error;
}

static int
bootstrap_set_native_id(struct bootstrap *b)
{
    PyObject *thread = GET(threading, _main_thread);
    PyObject *id = PyLong_FromUnsignedLong(PyThread_get_thread_native_id());
    int error = id != NULL && thread != NULL ? PyObject_SetAttr(thread, b->str__native_id, id) : -1;
    Py_XDECREF(id);
    return error;
}

static int
bootstrap_after_fork(struct bootstrap *b, PyObject *process, PyObject *attributes)
{
    if (!mpf_bootstrap_inherits(process, attributes, b->str__after_fork, b->after_fork)) {
        PyObject *result = PyObject_CallMethodNoArgs(process, b->str__after_fork);
        Py_XDECREF(result);
        return result != NULL ? 0 : -1;
    }
    PyObject *finalizers = GET(util, _finalizer_registry), *registry = GET(util, _afterfork_registry);
    if (finalizers != NULL && PyDict_CheckExact(finalizers) && PyDict_GET_SIZE(finalizers) > 0) {
        PyDict_Clear(finalizers);
    }
    PyObject *forkers = registry != NULL ? PyObject_GetAttr(registry, b->str_data) : NULL;
    bool none = forkers != NULL && PyDict_CheckExact(forkers) && PyDict_GET_SIZE(forkers) == 0;
    Py_XDECREF(forkers);
    PyErr_Clear();
    return none ? 0 : CALL(util, _run_after_forkers);
}

/* Keeps what the child is to have anew, and what nobody would notice the end of. */
static void
bootstrap_keep_former(struct bootstrap *b)
{
    PyObject *children = GET(process, _children);
    Py_XSETREF(b->former_counter, Py_XNewRef(GET(process, _process_counter)));
    if (children != NULL && PySet_CheckExact(children) && PySet_GET_SIZE(children) == 0) {
        Py_XSETREF(b->former_children, Py_NewRef(children));
    }
}

/* All that comes before the program's function. */
static int
bootstrap_enter(struct bootstrap *b, PyObject *process, PyObject *attributes, PyObject *sentinel)
{
    PyObject *method = PyObject_GetAttr(process, b->str__start_method);
    int error = method == NULL ? -1 : method != Py_None ? mpf_bootstrap_set_context(b, method) : 0;
    Py_XDECREF(method);
    PyObject *counter = error == 0 ? mpf_bootstrap_take_counter(b) : NULL;
    PyObject *children = counter != NULL ? mpf_bootstrap_take_children(b) : NULL;
    bootstrap_keep_former(b);
    PyObject *former = Py_XNewRef(GET(process, _current_process)); /* lives on until what it registered has run */
    if (children == NULL || SET(process, _process_counter, counter) < 0 || SET(process, _children, children) < 0 ||
        bootstrap_close_stdin(b) < 0 || bootstrap_set_family(b, process, attributes, sentinel) < 0 ||
        bootstrap_set_native_id(b) < 0 || bootstrap_after_fork(b, process, attributes) < 0) {
        error = -1;
    }
    Py_XDECREF(former);
    Py_XDECREF(children);
    Py_XDECREF(counter);
    return error;
}

/* Calls the program's function. *skipped: how many of the standard library's own calls it does without. 0 or -1. */
static int
bootstrap_call_target(struct bootstrap *b, PyObject *process, PyObject *attributes, int *skipped)
{
    PyObject *target = PyDict_GetItemWithError(attributes, b->str__target);
    PyObject *args = PyDict_GetItemWithError(attributes, b->str__args);
    PyObject *kwargs = PyDict_GetItemWithError(attributes, b->str__kwargs);
    PyObject *result;
    *skipped = 1;
    if (target == NULL || args == NULL || kwargs == NULL || !PyTuple_CheckExact(args) || !PyDict_CheckExact(kwargs) ||
        !mpf_bootstrap_inherits(process, attributes, b->str_run, b->run)) {
        result = PyObject_CallMethodNoArgs(process, b->str_run);
    } else {
        int wanted = PyObject_IsTrue(target);
        if (wanted <= 0) {
            return wanted;
        }
        *skipped = 2;
        Py_INCREF(target);
        Py_INCREF(args);
        Py_INCREF(kwargs);
        result = PyObject_Call(target, args, kwargs);
        Py_DECREF(kwargs);
        Py_DECREF(args);
        Py_DECREF(target);
    }
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

static bool
is_empty_dict(PyObject *object)
{
    return object != NULL && PyDict_CheckExact(object) && PyDict_GET_SIZE(object) == 0;
}

/* Ends children and runs finalizers, where there are any. */
static int
bootstrap_exit(struct bootstrap *b)
{
    PyObject *children = GET(process, _children), *exiting = GET(util, _exiting);
    if (IS_KNOWN(util, _exit_function) && GET(util, _logger) == Py_None && exiting == Py_False && children != NULL &&
        PySet_CheckExact(children) && PySet_GET_SIZE(children) == 0 && is_empty_dict(GET(util, _finalizer_registry))) {
        return SET(util, _exiting, Py_True);
    }
    return CALL(util, _exit_function);
}

/* Whether the lock that the end of the main thread would release is the only one that threading would wait for. */
static bool
bootstrap_is_own_lock(struct bootstrap *b, PyObject *locks)
{
    PyObject *thread = PySet_GET_SIZE(locks) == 1 ? GET(threading, _main_thread) : NULL;
    PyObject *lock = thread != NULL ? PyObject_GetAttr(thread, b->str__tstate_lock) : NULL;
    bool own = lock != NULL && PySet_Contains(locks, lock) == 1;
    Py_XDECREF(lock);
    PyErr_Clear();
    return own;
}

/* Waits for the other threads, where there are any. Where functions registered with atexit run later, they see that it was done. */
static int
bootstrap_join_threads(struct bootstrap *b)
{
    PyObject *active = GET(threading, _active), *callbacks = GET(threading, _threading_atexits);
    PyObject *locks = GET(threading, _shutdown_locks); /* gone since 3.13 */
    if (b->exits && IS_KNOWN(threading, _shutdown) && active != NULL && PyDict_CheckExact(active) && PyDict_GET_SIZE(active) == 1 &&
        is_empty_dict(GET(threading, _limbo)) && callbacks != NULL && PyList_CheckExact(callbacks) &&
        PyList_GET_SIZE(callbacks) == 0 &&
        (locks == NULL || (PySet_CheckExact(locks) && (PySet_GET_SIZE(locks) == 0 || bootstrap_is_own_lock(b, locks))))) {
        return 0;
    }
    return CALL(threading, _shutdown);
}

static int
bootstrap_say_exit(struct bootstrap *b, PyObject *code)
{
    PyObject *logger = GET(util, _logger);
    if ((logger == NULL || logger == Py_None) && IS_KNOWN(util, info)) {
        return 0;
    }
    PyObject *form = PyUnicode_FromString("process exiting with exitcode %d");
    PyObject *text = form != NULL ? PyNumber_Remainder(form, code) : NULL; /* a bool, say, is a number here */
    PyObject *info = GET_KNOWN(util, info);
    PyObject *result = text != NULL && info != NULL ? PyObject_CallOneArg(info, text) : NULL;
    Py_XDECREF(text);
    Py_XDECREF(form);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

int
mpf_bootstrap_flush(struct bootstrap *b)
{
    if (!IS_KNOWN(util, _flush_std_streams)) {
        return CALL(util, _flush_std_streams);
    }
    for (int i = 0; i < 2; i++) {
        PyObject *stream = PySys_GetObject(i == 0 ? "stdout" : "stderr"); /* borrowed */
        PyObject *result = stream != NULL ? PyObject_CallMethodNoArgs(stream, b->str_flush) : NULL;
        if (result == NULL && PyErr_Occurred()) {
            if (!PyErr_ExceptionMatches(PyExc_AttributeError) && !PyErr_ExceptionMatches(PyExc_ValueError)) {
                return -1;
            }
            PyErr_Clear();
        }
        Py_XDECREF(result);
    }
    return 0;
}

/* With an exception set: new reference to the exit code, NULL with another exception. */
static PyObject *
bootstrap_report(struct bootstrap *b, PyObject *process, int skipped)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    PyObject *code = PyObject_CallFunction(b->report, "OOi", process, value, skipped);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return code;
}

/* As a `finally` clause does it: an exception that is set stays set, unless there is a new one. 0, or -1: a new one. */
static int
bootstrap_finally(struct bootstrap *b, int (*step)(struct bootstrap *))
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    return mpf_errors_finally(step(b), type, value, traceback);
}

PyObject *
mpf_bootstrap_run(struct bootstrap *b, PyObject *process, PyObject *sentinel)
{
    PyObject *attributes = mpf_bootstrap_is_known(b) ? PyObject_GenericGetDict(process, NULL) : NULL;
    if (attributes == NULL) {
        bootstrap_drop_reserved(b);
        PyErr_Clear();
        Py_RETURN_NOTIMPLEMENTED;
    }
    int skipped = 0;
    int error = bootstrap_enter(b, process, attributes, sentinel);
    if (error == 0) {
        error = bootstrap_call_target(b, process, attributes, &skipped);
        if (b->exits && bootstrap_finally(b, bootstrap_exit) < 0) {
            error = -1;
            skipped = 0;
        }
    }
    Py_DECREF(attributes);
    PyObject *code = error == 0 ? PyLong_FromLong(0) : bootstrap_report(b, process, skipped);
    if (bootstrap_finally(b, bootstrap_join_threads) < 0 || (code != NULL && bootstrap_say_exit(b, code) < 0) ||
        bootstrap_finally(b, mpf_bootstrap_flush) < 0) {
        Py_CLEAR(code);
    }
    return code;
}
