/*
 * Purpose: finds the module's state from a type, and adds types to the module.
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
