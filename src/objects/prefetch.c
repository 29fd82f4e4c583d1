/*
 * Purpose: importing modules that the fork server has found and read in advance. In a child the import system's own functions
 * would find the same file again and read it again, which takes longer and copies more pages than most modules do that are imported.
 *
 * Layout: private memory only. A Prefetch holds, for each module name, what is needed to run it:
 *
 *     name -> (spec, module that has not run, code, search path, files, stamps), or None: leave it to the import system
 *
 *     files    as bytes: the directories that were searched, up to the one where it was found, and the source
 *     stamps   as bytes: one struct stamp for each file, of the time before it was looked for
 *
 * States of an entry: added -> run, in a child, once; where it does not hold any more it is left alone and the import system
 * does what it always does.
 *
 * Invariants: an entry is used only where the import system would come to the same: the finders, the search path and the state of
 * every file that it would look at are those of the time when the entry was made, the calling thread is the only one, and
 * nobody has imported the module. What then happens to sys.modules, the spec and the parent package happens in the
 * import system's order.
 *
 * Callers: Python code, attached to the interpreter. add(): the server. importing(): its children, in place of __import__.
 *
 * Death of the caller: nothing is shared.
 */
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "objects/state.h"
#include "objects/types.h"

enum { SPEC, MODULE, CODE, SEARCH, FILES, STAMPS, ENTRY_SIZE };

#define PREFETCH_NAMES(X) \
    X(__path__) X(__package__) X(__builtins__) X(__getattr__) X(__spec__) \
    X(_initializing) X(_uninitialized_submodules)

struct prefetch {
    PyObject_HEAD
    PyObject *entries;  /* name -> entry */
    PyObject *missed;   /* set of names that were imported in another way */
    PyObject *import;   /* what __import__ is otherwise */
    PyObject *builtins; /* the dict, for the modules that are run */
    PyObject *finders, *hooks; /* what sys.meta_path and sys.path_hooks hold; tuples */
    PyObject *silent;          /* a finder that may stand before those: it finds nothing that is added */
    uint64_t threads;          /* the number of the last thread when it was counted */
#define FIELD(name) PyObject *str_##name;
    PREFETCH_NAMES(FIELD)
#undef FIELD
};

/* What the import system can see of a change of a file, and more. All zero: there is none. */
struct stamp {
    uint64_t device, inode, size;
    int64_t seconds, nanoseconds;
};

static struct stamp
stamp_of(const char *path)
{
    struct stat status;
    if (stat(path, &status) < 0) {
        return (struct stamp){0};
    }
    return (struct stamp){.device = (uint64_t)status.st_dev, .inode = (uint64_t)status.st_ino, .size = (uint64_t)status.st_size,
                          .seconds = status.st_mtim.tv_sec, .nanoseconds = status.st_mtim.tv_nsec};
}

PyDoc_STRVAR(file_stamps_doc,
"file_stamps($module, files, /)\n--\n\n"
"Returns bytes that change when one of the files, a tuple of names as bytes, does, comes or goes.");

static PyObject *
prefetch_file_stamps(PyObject *Py_UNUSED(module), PyObject *files)
{
    if (!PyTuple_Check(files)) {
        PyErr_SetString(PyExc_TypeError, "files must be a tuple");
        return NULL;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(files);
    PyObject *stamps = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(struct stamp));
    for (Py_ssize_t i = 0; stamps != NULL && i < count; i++) {
        const char *path = PyBytes_AsString(PyTuple_GET_ITEM(files, i));
        if (path == NULL) {
            Py_CLEAR(stamps);
            break;
        }
        struct stamp stamp = stamp_of(path);
        memcpy(PyBytes_AS_STRING(stamps) + i * (Py_ssize_t)sizeof stamp, &stamp, sizeof stamp);
    }
    return stamps;
}

/* ---- whether an entry holds ---- */

static bool
same_files(PyObject *files, PyObject *stamps)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(files); i++) {
        struct stamp stamp = stamp_of(PyBytes_AS_STRING(PyTuple_GET_ITEM(files, i)));
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

static bool
entry_holds(struct prefetch *p, PyObject *entry, PyObject *path)
{
    return same_search(path, PyTuple_GET_ITEM(entry, SEARCH)) && holds_the_same("meta_path", p->finders, p->silent) &&
           holds_the_same("path_hooks", p->hooks, NULL) && is_only_thread() &&
           same_files(PyTuple_GET_ITEM(entry, FILES), PyTuple_GET_ITEM(entry, STAMPS));
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
    if (entry_announce(name) < 0 || PyObject_SetAttr(spec, p->str__initializing, Py_True) < 0) {
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

/* The package's spec names, while it runs, the module that runs: errors of circular imports say so. */
static int
run_under_parent(struct prefetch *p, PyObject *entry, PyObject *modules, PyObject *name, PyObject *parent, PyObject *child)
{
    PyObject *spec = PyObject_GetAttr(parent, p->str___spec__);
    PyObject *running = spec != NULL ? PyObject_GetAttr(spec, p->str__uninitialized_submodules) : NULL;
    PyErr_Clear(); /* older versions have none */
    int error = running != NULL && PyList_CheckExact(running) ? PyList_Append(running, child) : 0;
    error = error == 0 ? entry_run(p, entry, modules, name) : error;
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

/* Makes the module an attribute of its package. 0 or -1. */
static int
bind_to_parent(PyObject *parent, PyObject *parent_name, PyObject *child, PyObject *module)
{
    if (PyObject_SetAttr(parent, child, module) == 0) {
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return PyErr_WarnFormat(PyExc_ImportWarning, 1, "Cannot set an attribute on %R for child module %R", parent_name, child);
}

static int import_known(struct prefetch *p, PyObject *modules, PyObject *name);

/* The same for a module of a package, of which the last point in its name is at `point`. */
static int
import_known_of_package(struct prefetch *p, PyObject *modules, PyObject *name, PyObject *entry, Py_ssize_t point)
{
    PyObject *parent_name = PyUnicode_Substring(name, 0, point), *path = NULL, *parent = NULL, *child = NULL;
    int error = parent_name != NULL ? import_known(p, modules, parent_name) : -1;
    if (error == 0) {
        parent = Py_XNewRef(PyDict_GetItemWithError(modules, parent_name));
        path = parent != NULL ? PyObject_GetAttr(parent, p->str___path__) : NULL;
        PyErr_Clear(); /* the import system will say so */
    }
    if (path != NULL && PyDict_GetItemWithError(modules, name) == NULL && entry_holds(p, entry, path)) {
        child = PyUnicode_Substring(name, point + 1, PyUnicode_GET_LENGTH(name));
        error = child != NULL ? run_under_parent(p, entry, modules, name, parent, child) : -1;
        PyObject *module = error == 0 ? PyDict_GetItemWithError(modules, name) : NULL; /* borrowed */
        if (module != NULL) {
            error = bind_to_parent(parent, parent_name, child, module);
        }
    }
    Py_XDECREF(child);
    Py_XDECREF(path);
    Py_XDECREF(parent);
    Py_XDECREF(parent_name);
    return error;
}

/* Imports the module where there is an entry for it that holds, and its packages before it. 0, whether it did or not; -1: one of
 * them has raised an exception. */
static int
import_known(struct prefetch *p, PyObject *modules, PyObject *name)
{
    if (PyDict_GetItemWithError(modules, name) != NULL) {
        return 0;
    }
    PyObject *entry = PyDict_GetItemWithError(p->entries, name); /* borrowed: entries are not replaced in a child */
    if (entry == NULL || entry == Py_None) {
        return entry != NULL ? 0 : PyErr_Occurred() ? -1 : PySet_Add(p->missed, name);
    }
    Py_ssize_t point = PyUnicode_FindChar(name, '.', 0, PyUnicode_GET_LENGTH(name), -1);
    if (point >= 0) {
        return import_known_of_package(p, modules, name, entry, point);
    }
    return point == -1 && entry_holds(p, entry, PySys_GetObject("path")) ? entry_run(p, entry, modules, name) : 0;
}

/* ---- in place of __import__ ---- */

/* New reference: the whole name of what a statement names; NULL, without an exception, where that is not plain. */
static PyObject *
absolute_name(struct prefetch *p, PyObject *name, PyObject *globals, long level)
{
    if (level == 0) {
        return PyUnicode_GET_LENGTH(name) > 0 ? Py_NewRef(name) : NULL;
    }
    PyObject *package = PyDict_CheckExact(globals) ? PyDict_GetItemWithError(globals, p->str___package__) : NULL; /* borrowed */
    if (package == NULL || !PyUnicode_CheckExact(package)) {
        return NULL;
    }
    Py_ssize_t end = PyUnicode_GET_LENGTH(package);
    for (; level > 1 && end > 0; level--) {
        end = PyUnicode_FindChar(package, '.', 0, end, -1);
    }
    if (end <= 0) {
        return NULL;
    }
    PyObject *base = PyUnicode_Substring(package, 0, end);
    if (base == NULL || PyUnicode_GET_LENGTH(name) == 0) {
        return base;
    }
    PyObject *whole = PyUnicode_FromFormat("%U.%U", base, name);
    Py_DECREF(base);
    return whole;
}

/* The submodules that a from-import names, in their order and as long as there are entries for them: 0 or -1. */
static int
import_known_members(struct prefetch *p, PyObject *modules, PyObject *package, PyObject *members)
{
    PyObject *parent = PyDict_GetItemWithError(modules, package); /* borrowed */
    PyObject *namespace = parent != NULL && PyModule_Check(parent) ? Py_NewRef(PyModule_GetDict(parent)) : NULL;
    int error = 0;
    bool is_plain = namespace != NULL && PyDict_Contains(namespace, p->str___path__) == 1 &&
                    PyDict_Contains(namespace, p->str___getattr__) == 0;
    for (Py_ssize_t i = 0; is_plain && error == 0 && i < PyTuple_GET_SIZE(members); i++) {
        PyObject *member = PyTuple_GET_ITEM(members, i);
        if (!PyUnicode_CheckExact(member) || PyDict_Contains(namespace, member)) {
            continue;
        }
        PyObject *name = PyUnicode_FromFormat("%U.%U", package, member);
        error = name != NULL ? import_known(p, modules, name) : -1;
        is_plain = error == 0 && PyDict_GetItemWithError(modules, name) != NULL;
        Py_XDECREF(name);
    }
    Py_XDECREF(namespace);
    return error;
}

/* args: of __import__. 0 or -1. */
static int
import_ahead(struct prefetch *p, PyObject *args)
{
    PyObject *name = PyTuple_GET_ITEM(args, 0), *globals = PyTuple_GET_SIZE(args) > 1 ? PyTuple_GET_ITEM(args, 1) : Py_None;
    PyObject *members = PyTuple_GET_SIZE(args) > 3 ? PyTuple_GET_ITEM(args, 3) : Py_None;
    long level = PyTuple_GET_SIZE(args) > 4 ? PyLong_AsLong(PyTuple_GET_ITEM(args, 4)) : 0;
    PyObject *modules = PySys_GetObject("modules"); /* borrowed */
    if (level < 0 || modules == NULL || !PyDict_CheckExact(modules) || !PyUnicode_CheckExact(name)) {
        PyErr_Clear();
        return 0;
    }
    PyObject *whole = absolute_name(p, name, globals, level);
    if (whole == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(modules);
    int error = import_known(p, modules, whole);
    if (error == 0 && PyTuple_CheckExact(members)) {
        error = import_known_members(p, modules, whole, members);
    }
    Py_DECREF(modules);
    Py_DECREF(whole);
    return error;
}

PyDoc_STRVAR(importing_doc,
"__import__(name, globals=None, locals=None, fromlist=(), level=0)\n\n"
"As the function that the Prefetch was made with, in less time for modules that have been added.");

static PyObject *
prefetch_importing(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct prefetch *p = (struct prefetch *)self;
    if ((kwargs == NULL || PyDict_GET_SIZE(kwargs) == 0) && PyTuple_GET_SIZE(args) > 0 && import_ahead(p, args) < 0) {
        return NULL;
    }
    return PyObject_Call(p->import, args, kwargs);
}

/* ---- the type ---- */

PyDoc_STRVAR(prefetch_add_doc,
"add($self, name, spec, module, code, search, files, stamps, /)\n--\n\n"
"Have the module of that name be imported by running code in module, which has the spec.\n\n"
"search: the list that was searched.  files: a tuple of bytes.  stamps: what file_stamps(files) was when they were looked at.");

static PyObject *
prefetch_add(PyObject *self, PyObject *args)
{
    struct prefetch *p = (struct prefetch *)self;
    PyObject *name, *spec, *module, *code, *search, *files, *stamps;
    if (!PyArg_ParseTuple(args, "UOO!O!O!O!S:add", &name, &spec, &PyModule_Type, &module, &PyCode_Type, &code, &PyList_Type,
                          &search, &PyTuple_Type, &files, &stamps)) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(search); i++) {
        if (!PyUnicode_Check(PyList_GET_ITEM(search, i))) {
            PyErr_SetString(PyExc_TypeError, "search must be a list of str");
            return NULL;
        }
    }
    PyObject *fresh = prefetch_file_stamps(NULL, files);
    bool holds = fresh != NULL && PyBytes_GET_SIZE(fresh) == PyBytes_GET_SIZE(stamps);
    Py_XDECREF(fresh);
    if (!holds) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "there must be one stamp for each file");
        }
        return NULL;
    }
    PyObject *entry = PyTuple_Pack(ENTRY_SIZE, spec, module, code, search, files, stamps);
    int error = entry != NULL ? PyDict_SetItem(p->entries, name, entry) : -1;
    Py_XDECREF(entry);
    if (error < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(prefetch_leave_doc,
"leave($self, name, /)\n--\n\nHave the module of that name be imported by the import system.");

static PyObject *
prefetch_leave(PyObject *self, PyObject *name)
{
    if (PyDict_SetItem(((struct prefetch *)self)->entries, name, Py_None) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(prefetch_missed_doc,
"missed($self, /)\n--\n\nReturns the set of names that were imported without having been added.");

static PyObject *
prefetch_missed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(((struct prefetch *)self)->missed);
}

/* Threads have numbers in the order in which they begin: that of one that begins now. 0, with an exception, where none can. */
static uint64_t
count_threads(void)
{
    PyThreadState *state = PyThreadState_New(PyInterpreterState_Get());
    if (state == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    uint64_t number = PyThreadState_GetID(state);
    PyThreadState_Clear(state);
    PyThreadState_Delete(state);
    return number;
}

PyDoc_STRVAR(prefetch_was_alone_doc,
"was_alone($self, /)\n--\n\nReturns whether no thread has begun since this was called or the Prefetch was made.");

static PyObject *
prefetch_was_alone(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct prefetch *p = (struct prefetch *)self;
    uint64_t former = p->threads;
    p->threads = count_threads();
    return p->threads != 0 ? PyBool_FromLong(p->threads == former + 1) : NULL;
}

static PyObject *
prefetch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"import_", "builtins", "silent", NULL};
    PyObject *import, *builtins, *silent;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!O:Prefetch", names, &import, &PyDict_Type, &builtins, &silent)) {
        return NULL;
    }
    struct prefetch *p = (struct prefetch *)type->tp_alloc(type, 0);
    if (p == NULL) {
        return NULL;
    }
    p->import = Py_NewRef(import);
    p->builtins = Py_NewRef(builtins);
    p->silent = Py_NewRef(silent);
    PyObject *finders = PySys_GetObject("meta_path"), *hooks = PySys_GetObject("path_hooks");
#define FILL(name) p->str_##name = PyUnicode_InternFromString(#name);
    PREFETCH_NAMES(FILL)
#undef FILL
    p->entries = PyDict_New();
    p->missed = PySet_New(NULL);
    p->finders = finders != NULL ? PySequence_Tuple(finders) : NULL;
    p->hooks = hooks != NULL ? PySequence_Tuple(hooks) : NULL;
    p->threads = count_threads();
    if (p->finders == NULL || p->hooks == NULL || PyErr_Occurred()) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError, "lost sys.meta_path or sys.path_hooks");
        }
        Py_CLEAR(p);
    }
    return (PyObject *)p;
}

static int
prefetch_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct prefetch *p = (struct prefetch *)self;
    Py_VISIT(p->entries);
    Py_VISIT(p->missed);
    Py_VISIT(p->import);
    Py_VISIT(p->builtins);
    Py_VISIT(p->finders);
    Py_VISIT(p->hooks);
    Py_VISIT(p->silent);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int
prefetch_clear(PyObject *self)
{
    struct prefetch *p = (struct prefetch *)self;
    Py_CLEAR(p->entries);
    Py_CLEAR(p->missed);
    Py_CLEAR(p->import);
    Py_CLEAR(p->builtins);
    Py_CLEAR(p->finders);
    Py_CLEAR(p->hooks);
    Py_CLEAR(p->silent);
#define CLEAR(name) Py_CLEAR(p->str_##name);
    PREFETCH_NAMES(CLEAR)
#undef CLEAR
    return 0;
}

static void
prefetch_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)prefetch_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef prefetch_methods[] = {
    {"add", prefetch_add, METH_VARARGS, prefetch_add_doc},
    {"leave", prefetch_leave, METH_O, prefetch_leave_doc},
    {"missed", prefetch_missed, METH_NOARGS, prefetch_missed_doc},
    {"was_alone", prefetch_was_alone, METH_NOARGS, prefetch_was_alone_doc},
    {"__import__", (PyCFunction)(void (*)(void))prefetch_importing, METH_VARARGS | METH_KEYWORDS, importing_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot prefetch_slots[] = {
    {Py_tp_doc, "Modules that were found and read in advance.  import_: what __import__ is otherwise.  builtins: its module's dict.\n"
                "silent: a finder that finds none of them."},
    {Py_tp_new, prefetch_new},
    {Py_tp_dealloc, prefetch_dealloc},
    {Py_tp_traverse, prefetch_traverse},
    {Py_tp_clear, prefetch_clear},
    {Py_tp_methods, prefetch_methods},
    {0, NULL},
};

static PyType_Spec prefetch_spec = {
    .name = "mpfast._core.Prefetch",
    .basicsize = sizeof(struct prefetch),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = prefetch_slots,
};

static PyMethodDef prefetch_functions[] = {
    {"file_stamps", prefetch_file_stamps, METH_O, file_stamps_doc},
    {NULL, NULL, 0, NULL},
};

int
mpf_prefetch_register(PyObject *module)
{
    if (mpf_state_add_type(module, &prefetch_spec, NULL, NULL) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, prefetch_functions);
}
