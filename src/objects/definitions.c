/*
 * Purpose: whether names of classes and modules still mean what they did, asked without writing to anything.
 *
 * Why in C: what Python looks up it counts a reference to, which is a page to copy, or to have back, where processes were
 * forked; a dozen functions looked at are a dozen pages.
 *
 * Layout: for each name, where it is looked up (a class, or the dict of a module), the name, and what it was; NULL: nothing.
 *
 * Invariants: what a name was is kept alive, so that nothing else can be at its address: comparing addresses tells.
 *
 * Callers: Python code, attached to the interpreter.
 *
 * Death of the caller: nothing is shared.
 */
#include <stdbool.h>

#include "objects/state.h"
#include "objects/types.h"

struct definition {
    PyObject *place, *name, *value;
};

struct definitions {
    PyObject_VAR_HEAD
    struct definition items[];
};

/* Borrowed, of a class; NULL: it has none, or an exception. */
static PyObject *
definitions_in_class(PyTypeObject *type, PyObject *name)
{
    PyObject *value = NULL, *mro = type->tp_mro;
#ifdef Py_GIL_DISABLED
    Py_XINCREF(mro); /* another thread may give the class other bases meanwhile */
#endif
    for (Py_ssize_t i = 0; mro != NULL && value == NULL && i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        if (base->tp_dict != NULL) { /* since 3.12 types that are built in have none there, but nobody can change them */
            value = PyDict_GetItemWithError(base->tp_dict, name);
        }
        if (value == NULL && PyErr_Occurred()) {
            break;
        }
    }
#ifdef Py_GIL_DISABLED
    Py_XDECREF(mro);
#endif
    return value;
}

static PyObject *
definitions_find(PyObject *place, PyObject *name)
{
    return PyType_Check(place) ? definitions_in_class((PyTypeObject *)place, name) : PyDict_GetItemWithError(place, name);
}

/* Whether an instance has none of the names for itself. False, too, with an exception. */
static bool
definitions_are_inherited(struct definitions *self, PyObject *instance)
{
    PyObject *attributes = PyObject_GenericGetDict(instance, NULL);
    bool inherited = attributes != NULL;
    for (Py_ssize_t i = 0; inherited && i < Py_SIZE(self); i++) {
        inherited = self->items[i].name != NULL && PyDict_GetItemWithError(attributes, self->items[i].name) == NULL &&
                    !PyErr_Occurred();
    }
    Py_XDECREF(attributes);
    return inherited;
}

PyDoc_STRVAR(definitions_hold_doc,
"hold($self, /, *instances)\n--\n\n"
"Whether every name still means the same object, and none of the instances has one of its own for it.");

static PyObject *
definitions_hold(PyObject *op, PyObject *const *instances, Py_ssize_t count)
{
    struct definitions *self = (struct definitions *)op;
    bool same = true;
    for (Py_ssize_t i = 0; same && i < count; i++) {
        same = definitions_are_inherited(self, instances[i]);
    }
    for (Py_ssize_t i = 0; same && i < Py_SIZE(self); i++) {
        same = self->items[i].place != NULL && /* not cleared by the garbage collection */
               definitions_find(self->items[i].place, self->items[i].name) == self->items[i].value;
    }
    return PyErr_Occurred() ? NULL : PyBool_FromLong(same);
}

/* 0 or -1 with an exception. */
static int
definitions_note(struct definition *item, PyObject *pair)
{
    PyObject *place, *name;
    if (!PyTuple_Check(pair) || !PyArg_ParseTuple(pair, "OU", &place, &name)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "each item must be a tuple (class or dict, name)");
        }
        return -1;
    }
    if (!PyType_Check(place) && !PyDict_Check(place)) {
        PyErr_SetString(PyExc_TypeError, "a name is looked up in a class or a dict");
        return -1;
    }
    item->value = Py_XNewRef(definitions_find(place, name));
    item->place = Py_NewRef(place);
    item->name = Py_NewRef(name);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *
definitions_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *pairs;
    static char *names[] = {"", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Definitions", names, &PyTuple_Type, &pairs)) {
        return NULL;
    }
    struct definitions *self = (struct definitions *)type->tp_alloc(type, PyTuple_GET_SIZE(pairs));
    for (Py_ssize_t i = 0; self != NULL && i < PyTuple_GET_SIZE(pairs); i++) {
        if (definitions_note(&self->items[i], PyTuple_GET_ITEM(pairs, i)) < 0) {
            Py_CLEAR(self);
        }
    }
    return (PyObject *)self;
}

static int
definitions_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct definitions *self = (struct definitions *)op;
    Py_VISIT(Py_TYPE(op));
    for (Py_ssize_t i = 0; i < Py_SIZE(self); i++) {
        Py_VISIT(self->items[i].place);
        Py_VISIT(self->items[i].value);
    }
    return 0;
}

static int
definitions_clear(PyObject *op)
{
    struct definitions *self = (struct definitions *)op;
    for (Py_ssize_t i = 0; i < Py_SIZE(self); i++) {
        struct definition item = self->items[i];
        self->items[i] = (struct definition){0};
        Py_XDECREF(item.place);
        Py_XDECREF(item.name);
        Py_XDECREF(item.value);
    }
    return 0;
}

static void
definitions_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    definitions_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef definitions_methods[] = {
    {"hold", (PyCFunction)(void (*)(void))definitions_hold, METH_FASTCALL, definitions_hold_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(definitions_doc,
"Definitions(names, /)\n--\n\n"
"What names mean now.  names: a tuple of tuples (place, name); place: a class, which has what its bases have, or a dict.");

static PyType_Slot definitions_slots[] = {
    {Py_tp_new, definitions_new},
    {Py_tp_dealloc, definitions_dealloc},
    {Py_tp_traverse, definitions_traverse},
    {Py_tp_clear, definitions_clear},
    {Py_tp_methods, definitions_methods},
    {Py_tp_doc, (void *)definitions_doc},
    {0, NULL},
};

static PyType_Spec definitions_spec = {
    .name = "mpfast._core.Definitions",
    .basicsize = sizeof(struct definitions),
    .itemsize = sizeof(struct definition),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = definitions_slots,
};

int
mpf_definitions_register(PyObject *module)
{
    return mpf_state_add_type(module, &definitions_spec, NULL, NULL);
}
