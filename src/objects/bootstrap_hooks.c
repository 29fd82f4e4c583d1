/*
 * Purpose: what the standard library's own hooks do in a forked child, done with less or not at all.
 *
 * Why: hooks are functions of Python, and each page that one touches is copied for the child. threading's cleans up after the
 * threads that the child has not got, on some hundred and fifty pages; with one thread it leaves everything as it finds it.
 * logging's makes new locks for itself and its handlers, on sixty pages, most of them for the set of weak references that it
 * goes through. So for the time of a fork with one thread both get an empty body, and the child makes logging's locks here. (A
 * hook cannot be taken away, and leaving it out for good would break the forks that the program makes itself.)
 *
 * States: hooks as they are -> skipped, from mpf_bootstrap_hooks_skip() to _restore(), or to _stand_in() in the child.
 *
 * Invariants: a hook has its own body whenever other code of Python runs, but for what other hooks, and streams that are
 * flushed, do between the forks of one call. A hook is skipped only if it is the function that is known by what it names; where a
 * handler of logging has a method of its own, the hook runs after all.
 *
 * Callers: attached to the interpreter.
 *
 * Death of the caller: nothing is shared.
 */
#include "objects/bootstrap.h"

#include "platform/watch.h"

/* Whether all threads in a set of weak references are over, but for main. Their objects may live on: the hook has nothing to do
 * for them. */
static bool
hooks_are_over(struct bootstrap *b, PyObject *references, PyObject *main)
{
    bool over = true;
#if PY_VERSION_HEX >= 0x030D0000
    (void)b;
    (void)main;
    over = PySet_GET_SIZE(references) == 1; /* what tells of an end there would have to be called */
#else
    PyObject *iterator = PyObject_GetIter(references), *reference;
    while (over && iterator != NULL && (reference = PyIter_Next(iterator)) != NULL) {
        PyObject *thread = PyWeakref_GetObject(reference); /* borrowed */
        if (thread != NULL && thread != Py_None && thread != main) {
            PyObject *stopped = PyObject_GetAttr(thread, b->str__is_stopped);
            over = stopped == Py_True;
            Py_XDECREF(stopped);
        }
        Py_DECREF(reference);
    }
    over = over && iterator != NULL && !PyErr_Occurred();
    Py_XDECREF(iterator);
#endif
    return over;
}

/* Whether threading knows of the calling thread only, and of no other that might still be waited for. One that watches may start
 * another at any time, even in the midst of a fork: other hooks let it have its turn. */
static bool
hooks_is_single_threaded(struct bootstrap *b)
{
    PyObject *active = GET(threading, _active), *limbo = GET(threading, _limbo), *all = GET(threading, _dangling);
    if (mpf_watch_runs() || b->hook_body == NULL || active == NULL || limbo == NULL || all == NULL ||
        !PyDict_CheckExact(active) || !PyDict_CheckExact(limbo) || PyDict_GET_SIZE(active) != 1 || PyDict_GET_SIZE(limbo) != 0 ||
        !IS_KNOWN(threading, _start_new_thread) || !IS_KNOWN(threading, get_ident)) {
        return false;
    }
    PyObject *references = PyObject_GetAttr(all, b->str_data);
    bool single = references != NULL && PySet_CheckExact(references) &&
                  hooks_are_over(b, references, GET(threading, _main_thread));
    Py_XDECREF(references);
    PyObject *ident = single ? PyLong_FromUnsignedLong(PyThread_get_thread_ident()) : NULL;
    PyObject *thread = ident != NULL ? PyDict_GetItemWithError(active, ident) : NULL;
    Py_XDECREF(ident);
    PyErr_Clear();
    return thread != NULL && thread == GET(threading, _main_thread);
}

PyObject *
mpf_bootstrap_is_single_threaded(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(hooks_is_single_threaded((struct bootstrap *)self));
}

/* Has the hook do nothing, or what it did. 0 or -1. */
static int
hooks_switch(struct bootstrap *b, PyObject *hook, PyObject *body, bool skip)
{
    return PyObject_SetAttr(hook, b->str___code__, skip ? b->no_body : body);
}

PyObject *
mpf_bootstrap_skip_hook(PyObject *self, PyObject *skip)
{
    struct bootstrap *b = (struct bootstrap *)self;
    if (b->hook_body != NULL && hooks_switch(b, b->hook, b->hook_body, skip == Py_True) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- logging ---- */

/* The dict of the module, which somebody has imported, or NULL. Borrowed. */
static PyObject *
hooks_logging(struct bootstrap *b)
{
    PyObject *module = PyDict_GetItemWithError(PyImport_GetModuleDict(), b->str_logging); /* borrowed */
    return module != NULL && PyModule_Check(module) ? PyModule_GetDict(module) : NULL;
}

/* Whether it is a function of the module, and names nothing but what it names in all versions that are known. */
static bool
hooks_is_known(PyObject *function, PyObject *module, const char *names)
{
    if (function == NULL || !PyFunction_Check(function) || PyFunction_GET_GLOBALS(function) != module) {
        return false;
    }
    PyObject *named = PyObject_GetAttrString(PyFunction_GET_CODE(function), "co_names");
    PyObject *separator = named != NULL ? PyUnicode_FromString(" ") : NULL;
    PyObject *all = separator != NULL ? PyUnicode_Join(separator, named) : NULL;
    bool known = all != NULL && PyUnicode_CompareWithASCIIString(all, names) == 0;
    Py_XDECREF(all);
    Py_XDECREF(separator);
    Py_XDECREF(named);
    return known;
}

/* Whether logging has the hook that is known; it is in b->logging then. */
static bool
hooks_find_logging(struct bootstrap *b)
{
    PyObject *module = hooks_logging(b);
    PyObject *hook = module != NULL ? PyDict_GetItemWithError(module, b->str__after_at_fork_child_reinit_locks) : NULL;
    if (hook != NULL && hook == b->logging && PyFunction_GET_CODE(hook) == b->logging_body) {
        return true;
    }
    PyObject *handler = hook != NULL ? PyDict_GetItemWithError(module, b->str_Handler) : NULL; /* borrowed */
    PyObject *renew = handler != NULL ? PyObject_GetAttr(handler, b->str__at_fork_reinit) : NULL;
    bool known = renew != NULL && hooks_is_known(renew, module, "lock _at_fork_reinit") &&
                 hooks_is_known(hook, module, "_at_fork_reinit_lock_weakset _at_fork_reinit _lock");
    if (known) {
        Py_XSETREF(b->logging, Py_NewRef(hook));
        Py_XSETREF(b->logging_body, Py_NewRef(PyFunction_GET_CODE(hook)));
        Py_XSETREF(b->renew, Py_NewRef(renew));
        Py_XSETREF(b->renew_body, Py_NewRef(PyFunction_GET_CODE(renew)));
    }
    Py_XDECREF(renew);
    PyErr_Clear();
    return known;
}

/* Gives the lock a new state. Whether it could be done. */
static bool
hooks_renew(struct bootstrap *b, PyObject *lock)
{
    PyObject *result = PyObject_CallMethodNoArgs(lock, b->str__at_fork_reinit);
    Py_XDECREF(result);
    return result != NULL;
}

/* Whether the handler was renewed: not if it has a method of its own for that. */
static bool
hooks_renew_handler(struct bootstrap *b, PyObject *handler)
{
    PyObject *method = PyObject_GetAttr(handler, b->str__at_fork_reinit);
    bool known = method != NULL && PyMethod_Check(method) && PyMethod_GET_FUNCTION(method) == b->renew &&
                 PyFunction_GET_CODE(b->renew) == b->renew_body;
    PyObject *lock = known ? PyObject_GetAttr(handler, b->str_lock) : NULL;
    bool renewed = lock != NULL && hooks_renew(b, lock);
    Py_XDECREF(lock);
    Py_XDECREF(method);
    return renewed;
}

/* The same of all that a set of weak references leads to. */
static bool
hooks_renew_handlers(struct bootstrap *b, PyObject *references)
{
    PyObject *iterator = PyObject_GetIter(references), *reference;
    bool renewed = iterator != NULL;
    while (renewed && (reference = PyIter_Next(iterator)) != NULL) {
        PyObject *handler = PyObject_CallNoArgs(reference);
        renewed = handler != NULL && (handler == Py_None || hooks_renew_handler(b, handler));
        Py_XDECREF(handler);
        Py_DECREF(reference);
    }
    Py_XDECREF(iterator);
    return renewed && !PyErr_Occurred();
}

/* Does what logging's hook does; whether all of it could be done. */
static bool
hooks_renew_logging(struct bootstrap *b)
{
    PyObject *module = hooks_logging(b);
    PyObject *all = module != NULL ? PyDict_GetItemWithError(module, b->str__at_fork_reinit_lock_weakset) : NULL;
    PyObject *lock = all != NULL ? PyDict_GetItemWithError(module, b->str__lock) : NULL;
    PyObject *references = lock != NULL ? PyObject_GetAttr(all, b->str_data) : NULL;
    bool renewed = references != NULL && hooks_renew_handlers(b, references) && hooks_renew(b, lock);
    Py_XDECREF(references);
    PyErr_Clear();
    return renewed;
}

/* ---- around a fork ---- */

int
mpf_bootstrap_hooks_skip(struct bootstrap *b)
{
    bool skip = hooks_is_single_threaded(b);
    if (!skip) {
        mpf_bootstrap_hooks_restore(b);
        return 0;
    }
    if (!b->skips) {
        b->skips = true;
        b->skips_logging = hooks_find_logging(b);
        if (hooks_switch(b, b->hook, b->hook_body, true) < 0 ||
            (b->skips_logging && hooks_switch(b, b->logging, b->logging_body, true) < 0)) {
            mpf_bootstrap_hooks_restore(b);
            return -1;
        }
    }
    return 0;
}

void
mpf_bootstrap_hooks_restore(struct bootstrap *b)
{
    if (!b->skips) {
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (hooks_switch(b, b->hook, b->hook_body, false) < 0 ||
        (b->skips_logging && hooks_switch(b, b->logging, b->logging_body, false) < 0)) {
        PyErr_WriteUnraisable(b->hook);
    }
    b->skips = b->skips_logging = false;
    PyErr_Restore(type, value, traceback);
}

void
mpf_bootstrap_hooks_stand_in(struct bootstrap *b)
{
    bool logs = b->skips_logging;
    mpf_bootstrap_hooks_restore(b);
    if (!logs || hooks_renew_logging(b)) {
        return;
    }
    PyObject *result = PyObject_CallNoArgs(b->logging); /* locks that were renewed can be again */
    if (result == NULL) {
        PyErr_WriteUnraisable(b->logging);
    }
    Py_XDECREF(result);
}
