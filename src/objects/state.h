/* The state of the extension module, one per interpreter, and how a type finds it. */
#ifndef MPF_OBJECTS_STATE_H
#define MPF_OBJECTS_STATE_H

#include <Python.h>
#include <stdatomic.h>

struct mpf_state {
    /* owned: exceptions (errors.c) */
    PyObject *owner_died;
    PyObject *owner_died_warning;
    PyObject *broken_barrier_error; /* threading's */
    /* owned: types that another file of objects/ has to recognise */
    PyTypeObject *lock_type;
    PyTypeObject *rlock_type;
    PyTypeObject *message_type;
    PyTypeObject *buffer_type;
    /* owned: the module queue's exceptions */
    PyObject *queue_full;
    PyObject *queue_empty;

    struct mpf_codec *codec; /* owned */

    _Atomic int strict; /* a killed owner raises OwnerDied (1) or warns (0) */
};

extern struct PyModuleDef mpf_module_def;

static inline struct mpf_state *mpf_state_of(PyObject *module) { return PyModule_GetState(module); }

/* The state behind a type of this module or a subclass of one; NULL with an exception. */
struct mpf_state *mpf_state_of_type(PyTypeObject *type);

/* Creates a heap type from its spec, with `base` (object where NULL), and adds it to the module under its own name.
 * *keep, where given, gets a new reference. 0 or -1 with an exception. */
int mpf_state_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base, PyTypeObject **keep);

#endif
