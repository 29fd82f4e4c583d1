/*
 * Purpose: multiprocessing.reduction.ForkingPickler, whose tables of reducers the codec uses and which a program may have
 * changed. Its module imports many others: a child that nothing has imported it in yet does without until it pickles.
 *
 * Layout: no shared memory.
 *
 * States: of a codec: without it -> with it, once, by whichever thread is first.
 *
 * Invariants: constant once published, but for codec->version, which only saves work. While the module is not imported, nobody
 * can have changed the class or registered a reducer, so that built-in types need not ask for it.
 *
 * Callers: the codec's files, attached to the interpreter.
 *
 * Death of the caller: nothing is shared.
 */
#include "codec/internal.h"

/* New reference to the class's own dictionary. */
static PyObject *
class_dict(PyObject *cls)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyType_GetDict((PyTypeObject *)cls);
#else
    return Py_NewRef(((PyTypeObject *)cls)->tp_dict);
#endif
}

/* New reference, or NULL without an exception. */
static PyObject *
dict_get(PyObject *dict, PyObject *key)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *value;
    if (PyDict_GetItemRef(dict, key, &value) < 0)
        PyErr_Clear();
    return value;
#else
    PyObject *value = PyDict_GetItemWithError(dict, key); /* borrowed */
    if (!value)
        PyErr_Clear();
    return Py_XNewRef(value);
#endif
}

/* The method `name` in the class's dictionary if it was defined by multiprocessing.reduction; else NULL. */
static PyObject *
own_method(PyObject *dict, PyObject *name)
{
    PyObject *method = dict_get(dict, name);
    PyObject *module = method ? PyObject_GetAttrString(method, "__module__") : NULL;
    if (!module || !PyUnicode_Check(module) ||
        PyUnicode_CompareWithASCIIString(module, "multiprocessing.reduction") != 0)
        Py_CLEAR(method);
    Py_XDECREF(module);
    PyErr_Clear();
    return method;
}

static int
look_at_class(struct mpf_forking *f, const struct mpf_imports *im)
{
    static const char *const hooks[] = {"dump", "reducer_override", "persistent_id", "dispatch_table"};
    PyObject *dict, *reduction = PyImport_Import(im->str_reduction);
    f->pickler = reduction ? PyObject_GetAttrString(reduction, "ForkingPickler") : NULL;
    Py_XDECREF(reduction);
    if (!f->pickler)
        return -1;
    if (!PyType_Check(f->pickler)) {
        PyErr_SetString(PyExc_TypeError, "multiprocessing.reduction.ForkingPickler is not a class");
        return -1;
    }
    if (!(f->str_init = PyUnicode_InternFromString("__init__")))
        return -1;
    dict = class_dict(f->pickler);
    f->own_dumps = own_method(dict, im->str_dumps);
    f->own_init = own_method(dict, f->str_init);
    f->own_size = PyDict_GET_SIZE(dict);
    for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++)
        if (PyDict_GetItemString(dict, hooks[i]))
            Py_CLEAR(f->own_dumps);
    Py_DECREF(dict);
    return 0;
}

void
mpf_forking_free(struct mpf_forking *f)
{
    if (!f)
        return;
    Py_CLEAR(f->pickler);
    Py_CLEAR(f->own_dumps);
    Py_CLEAR(f->own_init);
    Py_CLEAR(f->str_init);
    PyMem_RawFree(f);
}

int
mpf_forking_traverse(const struct mpf_forking *f, visitproc visit, void *arg)
{
    if (!f)
        return 0;
    Py_VISIT(f->pickler);
    Py_VISIT(f->own_dumps);
    Py_VISIT(f->own_init);
    return 0;
}

const struct mpf_forking *
mpf_forking_make(struct mpf_codec *codec, const struct mpf_imports *im)
{
    struct mpf_forking *f = PyMem_RawCalloc(1, sizeof *f), *first = NULL;
    if (!f) {
        PyErr_NoMemory();
        return NULL;
    }
    if (look_at_class(f, im) < 0) {
        mpf_forking_free(f);
        return NULL;
    }
    /* Release: pairs with the acquire in mpf_forking_known. The import may have let another thread come first. */
    if (!__atomic_compare_exchange_n(&codec->forking, &first, f, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        mpf_forking_free(f);
        return first;
    }
    return f;
}

const struct mpf_forking *
mpf_forking_if_loaded(struct mpf_codec *codec, const struct mpf_imports *im)
{
    const struct mpf_forking *f = mpf_forking_known(codec);
    PyObject *reduction = f ? NULL : mpf_imports_module(im->str_reduction);
    /* A module that is there but has not run (mpfast/_late.py) has nothing in it yet. */
    if (reduction && !(PyModule_Check(reduction) && !PyDict_GetItemString(PyModule_GetDict(reduction), "ForkingPickler")))
        f = mpf_forking_make(codec, im);
    Py_XDECREF(reduction);
    return f;
}

/* Whether the class is not what the standard library made it: replaced dumps or __init__, new attributes. */
static bool
is_replaced(struct mpf_codec *codec, const struct mpf_forking *f, PyObject *str_dumps)
{
    PyObject *dict, *dumps, *init;
    bool same;
    unsigned version;
    if (!f->own_dumps || !f->own_init)
        return true;
    /* Asking for an attribute gives the class a version. One that changes after this has another. */
    Py_XDECREF(PyObject_GetAttr(f->pickler, str_dumps));
    PyErr_Clear();
    version = __atomic_load_n(&((PyTypeObject *)f->pickler)->tp_version_tag, __ATOMIC_RELAXED);
    dict = class_dict(f->pickler);
    dumps = dict_get(dict, str_dumps);
    init = dict_get(dict, f->str_init);
    same = dumps == f->own_dumps && init == f->own_init && PyDict_GET_SIZE(dict) == f->own_size;
    Py_XDECREF(dumps);
    Py_XDECREF(init);
    Py_DECREF(dict);
    __atomic_store_n(&codec->version, same ? version : 0, __ATOMIC_RELAXED);
    return !same;
}

bool
mpf_forking_has_changed(struct mpf_codec *codec, const struct mpf_imports *im)
{
    const struct mpf_forking *f = mpf_forking_if_loaded(codec, im);
    if (!f && PyErr_Occurred()) {
        PyErr_Clear(); /* who then calls dumps gets it again */
        return true;
    }
    return f && is_replaced(codec, f, im->str_dumps);
}
