/*
 * Purpose: whether an entry of a Prefetch holds, and running it: the second half of prefetch.c.
 *
 * Layout, states, invariants: see prefetch.c.
 *
 * Callers: attached to the interpreter, holding nothing. The module that is run may do anything.
 *
 * Death of the caller: nothing is shared.
 */
#include "objects/prefetch.h"

#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

struct stamp
mpf_prefetch_stamp(const char *path)
{
    struct stat status;
    if (stat(path, &status) < 0) {
        return (struct stamp){0};
    }
    return (struct stamp){.device = (uint64_t)status.st_dev, .inode = (uint64_t)status.st_ino, .size = (uint64_t)status.st_size,
                          .seconds = status.st_mtim.tv_sec, .nanoseconds = status.st_mtim.tv_nsec};
}

/* ---- whether an entry holds ---- */

static bool
same_files(PyObject *files, PyObject *stamps)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(files); i++) {
        struct stamp stamp = mpf_prefetch_stamp(PyBytes_AS_STRING(PyTuple_GET_ITEM(files, i)));
        if (memcmp(PyBytes_AS_STRING(stamps) + i * (Py_ssize_t)sizeof stamp, &stamp, sizeof stamp) != 0) {
            return false;
        }
    }
    return true;
}

/* Whether the list in sys holds these objects, and before them at most the silent one. */
static bool
holds_the_same(const char *name, PyObject *expected, PyObject *silent)
{
    PyObject *list = PySys_GetObject(name); /* borrowed */
    if (list == NULL || !PyList_CheckExact(list)) {
        return false;
    }
    Py_ssize_t first = PyList_GET_SIZE(list) > 0 && PyList_GET_ITEM(list, 0) == silent ? 1 : 0;
    if (PyList_GET_SIZE(list) - first != PyTuple_GET_SIZE(expected)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(expected); i++) {
        if (PyList_GET_ITEM(list, first + i) != PyTuple_GET_ITEM(expected, i)) {
            return false;
        }
    }
    return true;
}

/* Whether this is a list of the same strings. */
static bool
same_search(PyObject *path, PyObject *search)
{
    if (path == NULL || !PyList_CheckExact(path) || PyList_GET_SIZE(path) != PyList_GET_SIZE(search)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(path); i++) {
        PyObject *one = PyList_GET_ITEM(path, i), *other = PyList_GET_ITEM(search, i);
        if (one != other && (!PyUnicode_CheckExact(one) || PyUnicode_Compare(one, other) != 0)) {
            return false;
        }
    }
    return true;
}

static bool
is_only_thread(void)
{
    PyThreadState *first = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    return first == PyThreadState_Get() && PyThreadState_Next(first) == NULL;
}

/* Whether __import__ is the usual one, or this one. */
static bool
is_import_plain(struct prefetch *p)
{
    PyObject *live = PyDict_GetItemWithError(p->builtins, p->str___import__); /* borrowed */
    return live != NULL && (live == p->import || (PyCFunction_Check(live) && PyCFunction_GET_SELF(live) == (PyObject *)p));
}

/* Whether the entry holds; where only its files are other ones the server will hear of it, and make it anew. */
static bool
entry_holds(struct prefetch *p, PyObject *entry, PyObject *name, PyObject *path)
{
    if (!same_search(path, PyTuple_GET_ITEM(entry, SEARCH)) || !holds_the_same("meta_path", p->finders, p->silent) ||
        !holds_the_same("path_hooks", p->hooks, NULL) || !is_import_plain(p) || !is_only_thread()) {
        return false;
    }
    bool same = same_files(PyTuple_GET_ITEM(entry, FILES), PyTuple_GET_ITEM(entry, STAMPS));
    if (!same && PySet_Add(p->missed, name) < 0) {
        PyErr_Clear();
    }
    return same;
}

/* ---- running a module ---- */

static int
entry_announce(PyObject *name)
{
    PyObject *path = PySys_GetObject("path"), *finders = PySys_GetObject("meta_path"), *hooks = PySys_GetObject("path_hooks");
    return PySys_Audit("import", "OOOOO", name, Py_None, path ? path : Py_None, finders ? finders : Py_None,
                       hooks ? hooks : Py_None);
}

/* Takes a module that could not be run out of sys.modules, under the exception that says why. */
static void
entry_withdraw(PyObject *modules, PyObject *name)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyDict_DelItem(modules, name) < 0) {
        PyErr_Clear();
    }
    PyErr_Restore(type, value, traceback);
}

static int
entry_execute(struct prefetch *p, PyObject *entry, PyObject *modules, PyObject *name)
{
    PyObject *module = PyTuple_GET_ITEM(entry, MODULE), *code = PyTuple_GET_ITEM(entry, CODE);
    PyObject *namespace = PyModule_GetDict(module); /* borrowed */
    if (PyDict_SetItem(namespace, p->str___builtins__, p->builtins) < 0 || PyDict_SetItem(modules, name, module) < 0) {
        return -1;
    }
    PyObject *result = PySys_Audit("exec", "O", code) == 0 ? PyEval_EvalCode(code, namespace, namespace) : NULL;
    if (result == NULL) {
        entry_withdraw(modules, name);
        return -1;
    }
    Py_DECREF(result);
    PyObject *made = Py_XNewRef(PyDict_GetItemWithError(modules, name)); /* it may have put another object there */
    int error = made == NULL ? -1 : PyDict_DelItem(modules, name) < 0 ? -1 : PyDict_SetItem(modules, name, made);
    if (made == NULL && !PyErr_Occurred()) {
        PyErr_SetObject(PyExc_KeyError, name);
    }
    Py_XDECREF(made);
    return error;
}

static int
entry_run(struct prefetch *p, PyObject *entry, PyObject *modules, PyObject *name)
{
    PyObject *spec = PyTuple_GET_ITEM(entry, SPEC);
    PyObject *type, *value, *traceback;
    if (PyDict_SetItem(p->entries, name, Py_None) < 0 || entry_announce(name) < 0 ||
        PyObject_SetAttr(spec, p->str__initializing, Py_True) < 0) {
        return -1;
    }
    int error = entry_execute(p, entry, modules, name);
    PyErr_Fetch(&type, &value, &traceback);
    if (PyObject_SetAttr(spec, p->str__initializing, Py_False) < 0) {
        PyErr_Clear();
    }
    PyErr_Restore(type, value, traceback);
    return error;
}

/* Leaves the lock, under the exception there may be. 0 or -1. */
static int
unlock(struct prefetch *p, PyObject *lock)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *left = PyObject_CallMethodObjArgs(lock, p->str___exit__, Py_None, Py_None, Py_None, NULL);
    if (type != NULL) {
        PyErr_Clear();
        PyErr_Restore(type, value, traceback);
    }
    Py_XDECREF(left);
    return left != NULL ? 0 : -1;
}

/* Runs the entry, unless somebody has imported the module before the lock was had. 0 or -1. */
static int
entry_run_locked(struct prefetch *p, PyObject *entry, PyObject *modules, PyObject *name)
{
    PyObject *lock = PyObject_CallOneArg(p->lock, name);
    PyObject *entered = lock != NULL ? PyObject_CallMethodNoArgs(lock, p->str___enter__) : NULL;
    int error = -1;
    if (entered != NULL) {
        error = PyDict_GetItemWithError(modules, name) == NULL ? entry_run(p, entry, modules, name) : 0;
        error = unlock(p, lock) < 0 ? -1 : error;
    }
    Py_XDECREF(entered);
    Py_XDECREF(lock);
    return error;
}

/* The package's spec names, while it runs, the module that runs: errors of circular imports say so. */
static int
run_under_parent(struct prefetch *p, PyObject *entry, PyObject *modules, PyObject *name, PyObject *parent, PyObject *child)
{
    PyObject *spec = PyObject_GetAttr(parent, p->str___spec__);
    PyObject *running = spec != NULL ? PyObject_GetAttr(spec, p->str__uninitialized_submodules) : NULL;
    PyErr_Clear(); /* older versions have none */
    int error = running != NULL && PyList_CheckExact(running) ? PyList_Append(running, child) : 0;
    error = error == 0 ? entry_run_locked(p, entry, modules, name) : error;
    Py_ssize_t count = running != NULL && PyList_CheckExact(running) ? PyList_GET_SIZE(running) : 0;
    if (count > 0) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        (void)PyList_SetSlice(running, count - 1, count, NULL);
        PyErr_Restore(type, value, traceback);
    }
    Py_XDECREF(running);
    Py_XDECREF(spec);
    return error;
}

/* Makes the module an attribute of its package, which may be another object by now. 0 or -1. */
static int
bind_to_parent(PyObject *modules, PyObject *parent_name, PyObject *child, PyObject *module)
{
    PyObject *parent = Py_XNewRef(PyDict_GetItemWithError(modules, parent_name));
    if (parent == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetObject(PyExc_KeyError, parent_name);
        }
        return -1;
    }
    int error = PyObject_SetAttr(parent, child, module);
    Py_DECREF(parent);
    if (error == 0 || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return error;
    }
    PyErr_Clear();
    return PyErr_WarnFormat(PyExc_ImportWarning, 1, "Cannot set an attribute on %R for child module %R", parent_name, child);
}

/* mpf_prefetch_import() for a module of a package, of which the last point in its name is at `point`. */
static int
import_known_of_package(struct prefetch *p, PyObject *modules, PyObject *name, PyObject *entry, Py_ssize_t point)
{
    PyObject *parent_name = PyUnicode_Substring(name, 0, point), *path = NULL, *parent = NULL, *child = NULL;
    int error = parent_name != NULL ? mpf_prefetch_import(p, modules, parent_name) : -1;
    if (error == 0) {
        parent = Py_XNewRef(PyDict_GetItemWithError(modules, parent_name));
        path = parent != NULL ? PyObject_GetAttr(parent, p->str___path__) : NULL;
        PyErr_Clear(); /* the import system will say so */
    }
    if (path != NULL && PyDict_GetItemWithError(modules, name) == NULL && entry_holds(p, entry, name, path)) {
        child = PyUnicode_Substring(name, point + 1, PyUnicode_GET_LENGTH(name));
        error = child != NULL ? run_under_parent(p, entry, modules, name, parent, child) : -1;
        PyObject *module = error == 0 ? Py_XNewRef(PyDict_GetItemWithError(modules, name)) : NULL;
        if (module != NULL) {
            error = bind_to_parent(modules, parent_name, child, module);
            Py_DECREF(module);
        }
    }
    Py_XDECREF(child);
    Py_XDECREF(path);
    Py_XDECREF(parent);
    Py_XDECREF(parent_name);
    return error;
}

int
mpf_prefetch_import(struct prefetch *p, PyObject *modules, PyObject *name)
{
    if (PyDict_GetItemWithError(modules, name) != NULL) {
        return 0;
    }
    PyObject *entry = Py_XNewRef(PyDict_GetItemWithError(p->entries, name));
    if (entry == NULL) {
        return PyErr_Occurred() ? -1 : PySet_Add(p->missed, name);
    }
    Py_ssize_t point = PyUnicode_FindChar(name, '.', 0, PyUnicode_GET_LENGTH(name), -1);
    int error = 0;
    if (entry != Py_None && point >= 0) {
        error = import_known_of_package(p, modules, name, entry, point);
    } else if (entry != Py_None && entry_holds(p, entry, name, PySys_GetObject("path"))) {
        error = entry_run_locked(p, entry, modules, name);
    }
    Py_DECREF(entry);
    return error;
}
