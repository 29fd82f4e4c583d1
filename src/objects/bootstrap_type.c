/*
 * Purpose: the type Bootstrap: what is known of multiprocessing's modules, and its methods.
 *
 * Layout: private memory only. A Bootstrap holds the dicts of the modules process, util, context, threading, os and atexit, and
 * the functions that were in them when it was made.
 *
 * States, invariants: see bootstrap.c. Where something was not there, or this is a version that nobody has looked at, `known` is
 * false and nothing here is used.
 *
 * Callers: Python code, attached to the interpreter.
 *
 * Death of the caller: nothing is shared.
 */
#include "objects/bootstrap.h"

#include <frameobject.h>

#include "objects/state.h"
#include "objects/types.h"

PyDoc_STRVAR(bootstrap_run_doc,
"run($self, process, sentinel, /)\n--\n\n"
"Do what BaseProcess._bootstrap does, and return the exit code; NotImplemented, with nothing done, where something of that\n"
"was replaced or logging is on.");

static PyObject *
bootstrap_run(PyObject *self, PyObject *args)
{
    PyObject *process, *sentinel;
    if (!PyArg_ParseTuple(args, "OO:run", &process, &sentinel)) {
        return NULL;
    }
    return mpf_bootstrap_run((struct bootstrap *)self, process, sentinel);
}

PyDoc_STRVAR(bootstrap_note_stdin_doc,
"note_stdin($self, /)\n--\n\n"
"Take sys.stdin for what util._close_stdin() makes of it: children need not make it anew.");

static PyObject *
bootstrap_note_stdin(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_XSETREF(((struct bootstrap *)self)->stdin_made, Py_XNewRef(PySys_GetObject("stdin")));
    Py_RETURN_NONE;
}

/* New reference, or NULL with an exception. */
static PyObject *
bootstrap_import(const char *module, const char *name)
{
    PyObject *imported = PyImport_ImportModule(module);
    PyObject *found = imported != NULL ? PyObject_GetAttrString(imported, name) : NULL;
    Py_XDECREF(imported);
    return found;
}

static int
bootstrap_fill_names(struct bootstrap *b)
{
#define FILL(name) \
    if ((b->str_##name = PyUnicode_InternFromString(#name)) == NULL) { \
        return -1; \
    }
    BOOTSTRAP_NAMES(FILL)
#undef FILL
#define FILL(module, name) \
    if ((b->known_name_##name = PyUnicode_InternFromString(#name)) == NULL) { \
        return -1; \
    }
    BOOTSTRAP_KNOWN(FILL)
#undef FILL
    b->count = bootstrap_import("itertools", "count");
    b->open = bootstrap_import("io", "open");
    b->streams = PyDict_New();
    return b->count != NULL && b->open != NULL && b->streams != NULL ? 0 : -1;
}

/* Looks up what is to be known; what is not there makes all of it unknown. */
static void
bootstrap_fill_known(struct bootstrap *b)
{
    PyObject *base = PyDict_GetItemString(b->process, "BaseProcess"); /* borrowed */
    if (base == NULL || !PyType_Check(base)) {
        b->known = false;
        return;
    }
#define FILL(module, name) \
    b->known_##name = Py_XNewRef(PyDict_GetItemWithError(b->module, b->known_name_##name)); \
    b->known = b->known && b->known_##name != NULL;
    BOOTSTRAP_KNOWN(FILL)
#undef FILL
    b->run = Py_XNewRef(PyDict_GetItemWithError(((PyTypeObject *)base)->tp_dict, b->str_run));
    b->after_fork = Py_XNewRef(PyDict_GetItemWithError(((PyTypeObject *)base)->tp_dict, b->str__after_fork));
    b->known = b->known && b->run != NULL && b->after_fork != NULL;
}

static void
bootstrap_fill_hook(struct bootstrap *b, PyObject *hook, PyObject *alone)
{
    if (!b->known || !PyFunction_Check(hook) || !PyFunction_Check(alone)) {
        return;
    }
    b->hook = Py_NewRef(hook);
    b->hook_body = Py_NewRef(PyFunction_GET_CODE(hook));
    b->no_body = Py_NewRef(PyFunction_GET_CODE(alone));
}

static PyObject *
bootstrap_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"process", "util",  "context", "threading", "os", "atexit", "report", "hook", "alone",
                            "exits",   "known", NULL};
    PyObject *process, *util, *context, *threading, *os, *atexit, *report, *hook, *alone;
    int exits, known;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!O!O!O!O!OOOpp:Bootstrap", names, &PyDict_Type, &process, &PyDict_Type,
                                     &util, &PyDict_Type, &context, &PyDict_Type, &threading, &PyDict_Type, &os, &PyDict_Type,
                                     &atexit, &report, &hook, &alone, &exits, &known)) {
        return NULL;
    }
    struct bootstrap *b = (struct bootstrap *)type->tp_alloc(type, 0);
    if (b == NULL) {
        return NULL;
    }
    b->process = Py_NewRef(process);
    b->util = Py_NewRef(util);
    b->context = Py_NewRef(context);
    b->threading = Py_NewRef(threading);
    b->os = Py_NewRef(os);
    b->atexit = Py_NewRef(atexit);
    b->report = Py_NewRef(report);
    b->exits = exits;
    b->reserved = -1;
    b->known = known != 0;
    if (bootstrap_fill_names(b) < 0) {
        Py_DECREF(b);
        return NULL;
    }
    bootstrap_fill_known(b);
    bootstrap_fill_hook(b, hook, alone);
    if (PyErr_Occurred()) {
        Py_CLEAR(b);
    }
    return (PyObject *)b;
}

static int
bootstrap_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct bootstrap *b = (struct bootstrap *)self;
#define VISIT(module) Py_VISIT(b->module);
    BOOTSTRAP_MODULES(VISIT)
#undef VISIT
#define VISIT(module, name) Py_VISIT(b->known_##name);
    BOOTSTRAP_KNOWN(VISIT)
#undef VISIT
#define VISIT(name) Py_VISIT(b->name);
    BOOTSTRAP_OBJECTS(VISIT)
#undef VISIT
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int
bootstrap_clear(PyObject *self)
{
    struct bootstrap *b = (struct bootstrap *)self;
#define CLEAR(module) Py_CLEAR(b->module);
    BOOTSTRAP_MODULES(CLEAR)
#undef CLEAR
#define CLEAR(module, name) \
    Py_CLEAR(b->known_##name); \
    Py_CLEAR(b->known_name_##name);
    BOOTSTRAP_KNOWN(CLEAR)
#undef CLEAR
#define CLEAR(name) Py_CLEAR(b->str_##name);
    BOOTSTRAP_NAMES(CLEAR)
#undef CLEAR
#define CLEAR(name) Py_CLEAR(b->name);
    BOOTSTRAP_OBJECTS(CLEAR)
#undef CLEAR
    return 0;
}

static void
bootstrap_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)bootstrap_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
bootstrap_make_ahead(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    mpf_bootstrap_make_ahead((struct bootstrap *)self);
    Py_RETURN_NONE;
}

static PyMethodDef bootstrap_methods[] = {
    {"run", bootstrap_run, METH_VARARGS, bootstrap_run_doc},
    {"fork", mpf_bootstrap_fork, METH_VARARGS, mpf_bootstrap_fork_doc},
    {"is_single_threaded", mpf_bootstrap_is_single_threaded, METH_NOARGS,
     PyDoc_STR("is_single_threaded($self, /)\n--\n\nWhether threading knows of the calling thread only.")},
    {"skip_hook", mpf_bootstrap_skip_hook, METH_O,
     PyDoc_STR("skip_hook($self, skip, /)\n--\n\n"
               "From now on do, or do not, without what threading does after a fork.  Returns whether that could be had.")},
    {"make_ahead", bootstrap_make_ahead, METH_NOARGS,
     PyDoc_STR("make_ahead($self, /)\n--\n\nMake ready what children that are forked from now on begin with.")},
    {"prepare", mpf_bootstrap_prepare, METH_O, mpf_bootstrap_prepare_doc},
    {"note_stdin", bootstrap_note_stdin, METH_NOARGS, bootstrap_note_stdin_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot bootstrap_slots[] = {
    {Py_tp_doc, "What a child does around the program's function, given the dicts of multiprocessing's modules."},
    {Py_tp_new, bootstrap_new},
    {Py_tp_dealloc, bootstrap_dealloc},
    {Py_tp_traverse, bootstrap_traverse},
    {Py_tp_clear, bootstrap_clear},
    {Py_tp_methods, bootstrap_methods},
    {0, NULL},
};

static PyType_Spec bootstrap_spec = {
    .name = "mpfast._core.Bootstrap",
    .basicsize = sizeof(struct bootstrap),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = bootstrap_slots,
};

PyDoc_STRVAR(frame_doc,
"frame($module, code, names, /)\n--\n\n"
"Returns a frame of the code with the globals `names` that never runs: an entry of a traceback can be made of it.");

static PyObject *
bootstrap_frame(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *code, *names;
    if (!PyArg_ParseTuple(args, "O!O!:frame", &PyCode_Type, &code, &PyDict_Type, &names)) {
        return NULL;
    }
    return (PyObject *)PyFrame_New(PyThreadState_Get(), (PyCodeObject *)code, names, NULL);
}

static PyMethodDef bootstrap_functions[] = {
    {"frame", bootstrap_frame, METH_VARARGS, frame_doc},
    {"read_start", mpf_bootstrap_read_start, METH_O, mpf_bootstrap_read_start_doc},
    {NULL, NULL, 0, NULL},
};

int
mpf_bootstrap_register(PyObject *module)
{
    if (mpf_state_add_type(module, &bootstrap_spec, NULL, NULL) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, bootstrap_functions);
}
