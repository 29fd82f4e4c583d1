/*
 * Purpose: finds the module's state from a type, adds types to the module, and gives subclasses methods of their own.
 *
 * Layout, states: none of its own; see state.h.
 *
 * Invariants: a type created here belongs to the module, and keeps it (and so the state) alive; an object may therefore
 * keep a plain pointer to the state.
 *
 * Callers: objects/ and module.c, attached to the interpreter.
 *
 * Death of the caller: nothing is shared.
 */
#include "objects/state.h"

#include <stdbool.h>

#include "objects/special.h"
#include "objects/types.h"

struct mpf_state *
mpf_state_of_type(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030B0000
    PyObject *module = PyType_GetModuleByDef(type, &mpf_module_def); /* borrowed */
    return module != NULL ? mpf_state_of(module) : NULL;
#else
    PyObject *mro = type->tp_mro; /* borrowed */
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i); /* borrowed */
        if (!PyType_HasFeature(base, Py_TPFLAGS_HEAPTYPE)) {
            continue;
        }
        PyObject *module = ((PyHeapTypeObject *)base)->ht_module; /* borrowed, may be NULL */
        if (module != NULL && PyModule_Check(module) && PyModule_GetDef(module) == &mpf_module_def) {
            return mpf_state_of(module);
        }
    }
    PyErr_Format(PyExc_TypeError, "'%s' is not a type of mpfast", type->tp_name);
    return NULL;
#endif
}

int
mpf_state_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base, PyTypeObject **keep)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    if (type == NULL) {
        return -1;
    }
    if (PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_DECREF(type);
        return -1;
    }
    if (keep != NULL) {
        *keep = (PyTypeObject *)type; /* the reference moves to the caller */
    } else {
        Py_DECREF(type);
    }
    return 0;
}

/* Whether a with statement calls it, in a way that special.c knows. */
static bool
state_is_special(const PyMethodDef *definition)
{
    return (strcmp(definition->ml_name, "__enter__") == 0 && definition->ml_flags == METH_NOARGS) ||
           (strcmp(definition->ml_name, "__exit__") == 0 && definition->ml_flags == METH_FASTCALL);
}

/* Puts a descriptor for `definition` into cls, unless cls has that method from elsewhere. 0 or -1. */
static int
state_own_method(struct mpf_state *state, PyTypeObject *cls, PyMethodDef *definition)
{
    PyObject *present = PyObject_GetAttrString((PyObject *)cls, definition->ml_name);
    if (present == NULL) {
        return -1;
    }
    bool inherited = Py_IS_TYPE(present, &PyMethodDescr_Type) &&
                     ((PyMethodDescrObject *)present)->d_method == definition && PyDescr_TYPE(present) != cls;
    Py_DECREF(present);
    if (!inherited) {
        return 0;
    }
    PyObject *own = PyDescr_NewMethod(cls, definition);
    if (own != NULL && MPF_SPECIAL_WORTHWHILE && state_is_special(definition)) {
        PyObject *special = mpf_special_new(state, cls, own, definition);
        Py_DECREF(own);
        own = special;
    }
    if (own == NULL) {
        return -1;
    }
    int done = PyObject_SetAttrString((PyObject *)cls, definition->ml_name, own);
    Py_DECREF(own);
    return done;
}

PyDoc_STRVAR(own_methods_doc,
"own_methods($module, cls, /)\n--\n\n"
"Give cls, a subclass of types of this module, the methods that it inherits from them as its own; returns cls.\n\n"
"The interpreter's short way to call a method of C is for instances of the very class that the method belongs to.");

static PyObject *
state_own_methods(PyObject *module, PyObject *cls)
{
    if (!PyType_Check(cls)) {
        PyErr_SetString(PyExc_TypeError, "own_methods() argument must be a class");
        return NULL;
    }
    PyObject *mro = ((PyTypeObject *)cls)->tp_mro; /* borrowed */
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i); /* borrowed */
        bool ours = PyType_HasFeature(base, Py_TPFLAGS_HEAPTYPE) && ((PyHeapTypeObject *)base)->ht_module == module;
        for (PyMethodDef *definition = ours ? base->tp_methods : NULL; definition != NULL && definition->ml_name != NULL;
             definition++) {
            if (!(definition->ml_flags & (METH_CLASS | METH_STATIC)) &&
                state_own_method(mpf_state_of(module), (PyTypeObject *)cls, definition) < 0) {
                return NULL;
            }
        }
    }
    return Py_NewRef(cls);
}

static PyMethodDef state_functions[] = {
    {"own_methods", state_own_methods, METH_O, own_methods_doc},
    {NULL, NULL, 0, NULL},
};

int
mpf_state_register(PyObject *module)
{
    return PyModule_AddFunctions(module, state_functions);
}
