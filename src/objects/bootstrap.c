/*
 * Purpose: what a child process does before and after the program's function, as multiprocessing's own Python code does it,
 * for children of which that is known.
 *
 * Why in C: a forked child shares its parent's pages until it writes to them, and calling a function of Python writes to the
 * pages of the function, of its code, of its names and of whatever it looks at: a reference count is a write. Nearly all that
 * is looked at here is borrowed.
 *
 * Layout: private memory only. A Bootstrap holds the dicts of the modules process, util, context and threading, and the
 * functions that were in them when it was made.
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

#include <frameobject.h>
#include <unistd.h>

#include "objects/errors.h"
#include "objects/state.h"
#include "objects/types.h"

/* Calls what the module has under the name now. 0 or -1. */
#define CALL(module, name) bootstrap_call(PyDict_GetItemWithError(b->module, b->known_name_##name))

static int
bootstrap_call(PyObject *function)
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

/* Whether the object has what BaseProcess has under the name, `base`. */
static bool
bootstrap_inherits(PyObject *object, PyObject *attributes, PyObject *name, PyObject *base)
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
        parent = PyObject_CallFunctionObjArgs(b->known__ParentProcess, name, pid, sentinel, NULL);
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
    if (!bootstrap_inherits(process, attributes, b->str__after_fork, b->after_fork)) {
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

/* All that comes before the program's function. */
static int
bootstrap_enter(struct bootstrap *b, PyObject *process, PyObject *attributes, PyObject *sentinel)
{
    PyObject *method = PyObject_GetAttr(process, b->str__start_method);
    int error = method == NULL ? -1 : method != Py_None ? mpf_bootstrap_set_context(b, method) : 0;
    Py_XDECREF(method);
    PyObject *counter = error == 0 ? PyObject_CallFunction(b->count, "i", 1) : NULL;
    PyObject *children = counter != NULL ? PySet_New(NULL) : NULL;
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
        !bootstrap_inherits(process, attributes, b->str_run, b->run)) {
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

/* Waits for the other threads, where there are any. */
static int
bootstrap_join_threads(struct bootstrap *b)
{
    PyObject *active = GET(threading, _active), *callbacks = GET(threading, _threading_atexits);
    PyObject *locks = GET(threading, _shutdown_locks); /* gone since 3.13 */
    if (IS_KNOWN(threading, _shutdown) && active != NULL && PyDict_CheckExact(active) && PyDict_GET_SIZE(active) == 1 &&
        is_empty_dict(GET(threading, _limbo)) && callbacks != NULL && PyList_CheckExact(callbacks) &&
        PyList_GET_SIZE(callbacks) == 0 && (locks == NULL || (PySet_CheckExact(locks) && PySet_GET_SIZE(locks) == 0))) {
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
    PyObject *text = PyUnicode_FromFormat("process exiting with exitcode %S", code);
    PyObject *info = PyDict_GetItemWithError(b->util, b->known_name_info);
    PyObject *result = text != NULL && info != NULL ? PyObject_CallOneArg(info, text) : NULL;
    Py_XDECREF(text);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

static int
bootstrap_flush(struct bootstrap *b)
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

PyDoc_STRVAR(bootstrap_run_doc,
"run($self, process, sentinel, /)\n--\n\n"
"Do what BaseProcess._bootstrap does, and return the exit code; NotImplemented, with nothing done, where something of that\n"
"was replaced or logging is on.");

static PyObject *
bootstrap_run(PyObject *self, PyObject *args)
{
    struct bootstrap *b = (struct bootstrap *)self;
    PyObject *process, *sentinel;
    if (!PyArg_ParseTuple(args, "OO:run", &process, &sentinel)) {
        return NULL;
    }
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
        bootstrap_finally(b, bootstrap_flush) < 0) {
        Py_CLEAR(code);
    }
    return code;
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
bootstrap_fill_hook(struct bootstrap *b, PyObject *hook, PyObject *nothing)
{
    if (!b->known || !PyFunction_Check(hook) || !PyFunction_Check(nothing)) {
        return;
    }
    b->hook = Py_NewRef(hook);
    b->hook_body = Py_NewRef(PyFunction_GET_CODE(hook));
    b->no_body = Py_NewRef(PyFunction_GET_CODE(nothing));
}

static PyObject *
bootstrap_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"process", "util", "context", "threading", "report", "hook", "nothing", "exits", "known", NULL};
    PyObject *process, *util, *context, *threading, *report, *hook, *nothing;
    int exits, known;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!O!O!OOOpp:Bootstrap", names, &PyDict_Type, &process, &PyDict_Type,
                                     &util, &PyDict_Type, &context, &PyDict_Type, &threading, &report, &hook, &nothing, &exits,
                                     &known)) {
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
    b->report = Py_NewRef(report);
    b->exits = exits;
    b->reserved = -1;
    b->known = known != 0;
    if (bootstrap_fill_names(b) < 0) {
        Py_DECREF(b);
        return NULL;
    }
    bootstrap_fill_known(b);
    bootstrap_fill_hook(b, hook, nothing);
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
    Py_VISIT(b->run);
    Py_VISIT(b->after_fork);
    Py_VISIT(b->report);
    Py_VISIT(b->stdin_made);
    Py_VISIT(b->streams);
    Py_VISIT(b->hook);
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
    Py_CLEAR(b->run);
    Py_CLEAR(b->after_fork);
    Py_CLEAR(b->count);
    Py_CLEAR(b->report);
    Py_CLEAR(b->open);
    Py_CLEAR(b->stdin_made);
    Py_CLEAR(b->streams);
    Py_CLEAR(b->hook);
    Py_CLEAR(b->hook_body);
    Py_CLEAR(b->no_body);
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

static PyMethodDef bootstrap_methods[] = {
    {"run", bootstrap_run, METH_VARARGS, bootstrap_run_doc},
    {"fork", mpf_bootstrap_fork, METH_O, mpf_bootstrap_fork_doc},
    {"is_single_threaded", mpf_bootstrap_is_single_threaded, METH_NOARGS,
     PyDoc_STR("is_single_threaded($self, /)\n--\n\nWhether threading knows of the calling thread only.")},
    {"skip_hook", mpf_bootstrap_skip_hook, METH_O,
     PyDoc_STR("skip_hook($self, skip, /)\n--\n\nFrom now on do, or do not, without what threading does after a fork.")},
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
