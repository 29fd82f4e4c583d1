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
 * States of an entry: added -> None when it is run, in a child: it has one module only. Where it does not hold any more, it
 * stays, and the import system does what it always does.
 *
 * Invariants: an entry is used only where the import system would come to the same: the finders, the search path and every file
 * that it would look at are as they were when the entry was made, nobody has put another __import__ in place, the calling thread
 * is the only one, and the module has not been imported. What then happens to sys.modules, the spec and the parent package
 * happens in the import system's order and under its lock for the module, so that threads that begin meanwhile wait: prefetch_run.c.
 *
 * Callers: Python code, attached to the interpreter. add(): the server. In its children __import__, in place of the usual one
 * while they start, and the codec, for what it is to import.
 *
 * Death of the caller: nothing is shared.
 */
#include "objects/prefetch.h"

#include <stdbool.h>
#include <string.h>

#include "codec/codec.h"
#include "objects/state.h"
#include "objects/types.h"

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
        struct stamp stamp = mpf_prefetch_stamp(path);
        memcpy(PyBytes_AS_STRING(stamps) + i * (Py_ssize_t)sizeof stamp, &stamp, sizeof stamp);
    }
    return stamps;
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

/* Whether the exception says that there is no module of that name: a from-import then has another one. */
static bool
is_not_found(struct prefetch *p, PyObject *name)
{
    PyObject *type, *value, *traceback;
    if (!PyErr_ExceptionMatches(PyExc_ModuleNotFoundError)) {
        return false;
    }
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *missing = value != NULL ? PyObject_GetAttr(value, p->str_name) : NULL;
    bool is_it = missing != NULL && PyUnicode_Check(missing) && PyUnicode_Compare(missing, name) == 0;
    PyErr_Clear();
    Py_XDECREF(missing);
    PyErr_Restore(type, value, traceback);
    return is_it;
}

/* The submodules that a from-import names, in their order and as long as there are entries for them: 0 or -1. */
static int
import_known_members(struct prefetch *p, PyObject *modules, PyObject *package, PyObject *members)
{
    PyObject *parent = PyDict_GetItemWithError(modules, package); /* borrowed */
    PyObject *namespace = parent != NULL && PyModule_CheckExact(parent) ? Py_NewRef(PyModule_GetDict(parent)) : NULL;
    int error = 0;
    bool is_plain = namespace != NULL && PyDict_Contains(namespace, p->str___path__) == 1 &&
                    PyDict_Contains(namespace, p->str___getattr__) == 0;
    for (Py_ssize_t i = 0; is_plain && error == 0 && i < PyTuple_GET_SIZE(members); i++) {
        PyObject *member = PyTuple_GET_ITEM(members, i);
        if (!PyUnicode_CheckExact(member) || PyDict_Contains(namespace, member)) {
            continue;
        }
        PyObject *name = PyUnicode_FromFormat("%U.%U", package, member);
        error = name != NULL ? mpf_prefetch_import(p, modules, name) : -1;
        if (error < 0 && name != NULL && is_not_found(p, name)) {
            PyErr_Clear(); /* it is left to the import system, which has this exception again */
            error = 0;
        }
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
    int error = mpf_prefetch_import(p, modules, whole);
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
    bool fits = PyBytes_GET_SIZE(stamps) == PyTuple_GET_SIZE(files) * (Py_ssize_t)sizeof(struct stamp);
    for (Py_ssize_t i = 0; fits && i < PyTuple_GET_SIZE(files); i++) {
        fits = PyBytes_Check(PyTuple_GET_ITEM(files, i));
    }
    if (!fits) {
        PyErr_SetString(PyExc_TypeError, "files must be a tuple of bytes, with a stamp for each");
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

/* For the codec: imports the module if it can, and says so at once if it could not: a worker may be killed at any time. */
static int
prefetch_import_for_codec(void *context, PyObject *name)
{
    struct prefetch *p = context;
    PyObject *modules = PySys_GetObject("modules"); /* borrowed */
    if (modules == NULL || !PyDict_CheckExact(modules) || !PyUnicode_CheckExact(name)) {
        return 0;
    }
    Py_ssize_t missed = PySet_GET_SIZE(p->missed);
    Py_INCREF(modules);
    int error = mpf_prefetch_import(p, modules, name);
    Py_DECREF(modules);
    if (error == 0 && PySet_GET_SIZE(p->missed) != missed) {
        PyObject *told = PyObject_CallOneArg(p->tell, name);
        error = told != NULL ? 0 : -1; /* Ctrl-C, say */
        Py_XDECREF(told);
    }
    return error;
}

PyDoc_STRVAR(prefetch_attach_doc,
"attach($self, tell, /)\n--\n\n"
"Have objects that are received import through this one.  tell: called with each name that is looked for in vain.");

static PyObject *
prefetch_attach(PyObject *self, PyObject *tell)
{
    struct prefetch *p = (struct prefetch *)self;
    struct mpf_state *state = mpf_state_of_type(Py_TYPE(self));
    if (state == NULL) {
        return NULL;
    }
    Py_XSETREF(p->tell, Py_NewRef(tell));
    p->codec = state->codec;
    mpf_codec_import_through(p->codec, prefetch_import_for_codec, p);
    Py_RETURN_NONE;
}

/* New reference to a tuple of what is in the list, but for the object if that is the first one. */
static PyObject *
without_first(PyObject *list, PyObject *object)
{
    PyObject *all = PySequence_Tuple(list);
    if (all == NULL || PyTuple_GET_SIZE(all) == 0 || PyTuple_GET_ITEM(all, 0) != object) {
        return all;
    }
    PyObject *rest = PyTuple_GetSlice(all, 1, PyTuple_GET_SIZE(all));
    Py_DECREF(all);
    return rest;
}

static PyObject *
prefetch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"import_", "builtins", "lock", "silent", NULL};
    PyObject *import, *builtins, *lock, *silent;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!OO:Prefetch", names, &import, &PyDict_Type, &builtins, &lock, &silent)) {
        return NULL;
    }
    struct prefetch *p = (struct prefetch *)type->tp_alloc(type, 0);
    if (p == NULL) {
        return NULL;
    }
    p->import = Py_NewRef(import);
    p->builtins = Py_NewRef(builtins);
    p->lock = Py_NewRef(lock);
    p->silent = Py_NewRef(silent);
    PyObject *finders = PySys_GetObject("meta_path"), *hooks = PySys_GetObject("path_hooks");
#define FILL(name) p->str_##name = PyUnicode_InternFromString(#name);
    PREFETCH_NAMES(FILL)
#undef FILL
    p->entries = PyDict_New();
    p->missed = PySet_New(NULL);
    p->finders = finders != NULL ? without_first(finders, silent) : NULL;
    p->hooks = hooks != NULL ? PySequence_Tuple(hooks) : NULL;
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
    Py_VISIT(p->lock);
    Py_VISIT(p->tell);
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
    Py_CLEAR(p->lock);
    Py_CLEAR(p->tell);
#define CLEAR(name) Py_CLEAR(p->str_##name);
    PREFETCH_NAMES(CLEAR)
#undef CLEAR
    return 0;
}

static void
prefetch_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    struct prefetch *p = (struct prefetch *)self;
    PyObject_GC_UnTrack(self);
    if (p->codec != NULL) {
        mpf_codec_import_through(p->codec, NULL, p);
    }
    (void)prefetch_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef prefetch_methods[] = {
    {"add", prefetch_add, METH_VARARGS, prefetch_add_doc},
    {"leave", prefetch_leave, METH_O, prefetch_leave_doc},
    {"missed", prefetch_missed, METH_NOARGS, prefetch_missed_doc},
    {"attach", prefetch_attach, METH_O, prefetch_attach_doc},
    {"__import__", (PyCFunction)(void (*)(void))prefetch_importing, METH_VARARGS | METH_KEYWORDS, importing_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot prefetch_slots[] = {
    {Py_tp_doc, "Modules that were found and read in advance.  import_: what __import__ is otherwise.  builtins: its module's dict.\n"
                "lock: importlib's context manager for the lock of a module.  silent: a finder that finds none of them."},
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
