/*
 * Purpose: what the codec needs from modules that every process has or that cost little, and how it asks for others.
 *
 * Layout: no shared memory.
 *
 * States: of a codec: without imports -> with imports -> with what pickling needs, each once, by whichever thread is first.
 *
 * Invariants: constant once published.
 *
 * Callers: the codec's files, attached to the interpreter.
 *
 * Death of the caller: nothing is shared.
 */
#include "codec/internal.h"
#include "codec/sink.h"

static PyObject *
import_attribute(const char *module, const char *name)
{
    PyObject *m = PyImport_ImportModule(module);
    PyObject *value = m ? PyObject_GetAttrString(m, name) : NULL;
    Py_XDECREF(m);
    return value;
}

/* Whether a new process has no way to import __main__: it has neither a name nor a file. */
static bool
is_main_private(void)
{
    PyObject *main = PyImport_AddModule("__main__"); /* borrowed */
    PyObject *dict = main ? PyModule_GetDict(main) : NULL; /* borrowed */
    PyObject *spec = dict ? PyDict_GetItemString(dict, "__spec__") : NULL; /* borrowed */
    PyErr_Clear();
    return dict && (!spec || spec == Py_None) && !PyDict_GetItemString(dict, "__file__");
}

/* A tuple of one or two interned strings. */
static PyObject *
new_names(const char *first, const char *second)
{
    PyObject *names = PyTuple_New(second ? 2 : 1);
    for (int i = 0; names && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyUnicode_InternFromString(i ? second : first);
        if (name)
            PyTuple_SET_ITEM(names, i, name); /* steals */
        else
            Py_CLEAR(names);
    }
    return names;
}

static int
fill(struct mpf_imports *im)
{
    im->main_is_private = is_main_private();
    return (im->str_reduction = PyUnicode_InternFromString("multiprocessing.reduction")) &&
                   (im->str_dumps = PyUnicode_InternFromString("dumps")) &&
                   (im->str_loads = PyUnicode_InternFromString("loads")) &&
                   (im->str_extra = PyUnicode_InternFromString("_extra_reducers")) &&
                   (im->str_table = PyUnicode_InternFromString("dispatch_table")) &&
                   (im->pickler_kwnames = new_names("protocol", "buffer_callback")) &&
                   (im->loads_kwnames = new_names("buffers", NULL)) && (im->sink_type = mpf_sink_new_type())
               ? 0
               : -1;
}

static int
fill_pickles(struct mpf_pickles *pickles, bool main_is_private)
{
    return (pickles->copyreg_table = import_attribute("copyreg", "dispatch_table")) &&
                   (pickles->pickler_type = main_is_private ? import_attribute("mpfast._by_value", "PrivateMainPickler")
                                                            : import_attribute("_pickle", "Pickler")) &&
                   (pickles->pickling_error = import_attribute("_pickle", "PicklingError")) &&
                   (pickles->unpickling_error = import_attribute("_pickle", "UnpicklingError")) &&
                   (pickles->loads = import_attribute("_pickle", "loads"))
               ? 0
               : -1;
}

#define EACH_PICKLE(DO) \
    DO(pickles->copyreg_table) DO(pickles->pickler_type) DO(pickles->loads) DO(pickles->pickling_error) \
    DO(pickles->unpickling_error)

static void
free_pickles(struct mpf_pickles *pickles)
{
#define DROP(object) Py_CLEAR(object);
    if (pickles) {
        EACH_PICKLE(DROP)
    }
    PyMem_RawFree(pickles);
#undef DROP
}

const struct mpf_pickles *
mpf_pickles_make(struct mpf_imports *im)
{
    struct mpf_pickles *pickles = PyMem_RawCalloc(1, sizeof *pickles), *first = NULL;
    if (!pickles) {
        PyErr_NoMemory();
        return NULL;
    }
    if (fill_pickles(pickles, im->main_is_private) < 0) {
        free_pickles(pickles);
        return NULL;
    }
    /* Release: pairs with the acquire in mpf_pickles_get. The imports may have let another thread come first. */
    if (!__atomic_compare_exchange_n(&im->pickles, &first, pickles, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        free_pickles(pickles);
        return first;
    }
    return pickles;
}

const struct mpf_imports *
mpf_imports_make(struct mpf_codec *codec)
{
    struct mpf_imports *im = PyMem_RawCalloc(1, sizeof *im), *first = NULL;
    if (!im) {
        PyErr_NoMemory();
        return NULL;
    }
    if (fill(im) < 0) {
        mpf_imports_free(im);
        return NULL;
    }
    /* Release: pairs with the acquire in mpf_imports_get. The imports may have let another thread come first. */
    if (!__atomic_compare_exchange_n(&codec->imports, &first, im, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        mpf_imports_free(im);
        return first;
    }
    return im;
}

/* The objects in it, to be visited or dropped alike. */
#define EACH_OBJECT(DO) \
    DO(im->sink_type) DO(im->str_reduction) DO(im->str_dumps) DO(im->str_loads) DO(im->str_extra) DO(im->str_table) \
    DO(im->pickler_kwnames) DO(im->loads_kwnames)

void
mpf_imports_free(struct mpf_imports *im)
{
#define DROP(object) Py_CLEAR(object);
    if (!im)
        return;
    EACH_OBJECT(DROP)
    free_pickles(im->pickles);
    PyMem_RawFree(im);
#undef DROP
}

int
mpf_imports_traverse(const struct mpf_imports *im, visitproc visit, void *arg)
{
#define VISIT(object) Py_VISIT(object);
    if (!im)
        return 0;
    EACH_OBJECT(VISIT)
    struct mpf_pickles *pickles = im->pickles;
    if (pickles) {
        EACH_PICKLE(VISIT)
    }
    return 0;
#undef VISIT
}

static PyObject *
loaded(PyObject *name)
{
    PyObject *modules = PyImport_GetModuleDict(), *module; /* modules is borrowed */
    if (!PyDict_CheckExact(modules))
        return PyImport_GetModule(name);
#if PY_VERSION_HEX >= 0x030D0000
    return PyDict_GetItemRef(modules, name, &module) < 0 ? NULL : module;
#else
    module = PyDict_GetItemWithError(modules, name); /* borrowed */
    return Py_XNewRef(module);
#endif
}

/* A module without a spec, as __main__ often is, is being loaded by nobody. The interpreter asks it all the same, and
 * that raises and drops an exception for every lookup. */
PyObject *
mpf_imports_module(PyObject *name)
{
    PyObject *module = loaded(name), *spec = NULL;
    if (!module || !PyModule_CheckExact(module))
        return module;
#if PY_VERSION_HEX >= 0x030D0000
    if (PyDict_GetItemStringRef(PyModule_GetDict(module), "__spec__", &spec) < 0)
        PyErr_Clear();
#else
    spec = Py_XNewRef(PyDict_GetItemString(PyModule_GetDict(module), "__spec__"));
#endif
    if (spec && spec != Py_None)
        Py_SETREF(module, PyImport_GetModule(name));
    Py_XDECREF(spec);
    return module;
}

void
mpf_codec_import_through(struct mpf_codec *codec, int (*import)(void *context, PyObject *name), void *context)
{
    if (import || codec->import_context == context) {
        codec->import = import;
        codec->import_context = import ? context : NULL;
    }
}
