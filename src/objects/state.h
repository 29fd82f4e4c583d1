/* The state of the extension module, one per interpreter, and how a type finds it. */
#ifndef MPF_OBJECTS_STATE_H
#define MPF_OBJECTS_STATE_H

#include <Python.h>
#include <stdatomic.h>

#ifndef Py_NO_INLINE /* new in 3.11 */
#define Py_NO_INLINE __attribute__((noinline))
#endif

/* Every owned reference in the state, one a line: X(type, name). */
#define MPF_STATE_OWNED(X) \
    /* exceptions (errors.c) */ \
    X(PyObject, owner_died) \
    X(PyObject, owner_died_warning) \
    X(PyObject, broken_barrier_error) /* threading's */ \
    X(PyObject, queue_full) /* the module queue's, NULL until they are raised */ \
    X(PyObject, queue_empty) \
    X(PyObject, queue_shut_down) \
    /* types that another file of objects/ has to recognise */ \
    X(PyTypeObject, lock_type) \
    X(PyTypeObject, rlock_type) \
    X(PyTypeObject, event_type) \
    X(PyTypeObject, loan_type) \
    X(PyTypeObject, bound_type) \
    X(PyTypeObject, special_type) \
    X(PyTypeObject, message_type) \
    X(PyTypeObject, buffer_type) \
    X(PyTypeObject, queue_type) \
    X(PyTypeObject, joinable_queue_type) \
    X(PyTypeObject, connection_type) \
    X(PyTypeObject, socket_connection) /* the stdlib's Connection */ \
    X(PyTypeObject, storage_type) \
    X(PyTypeObject, synchronized_type) \
    X(PyTypeObject, array_type) \
    X(PyTypeObject, array_iterator_type) \
    X(PyTypeObject, receiver_type) \
    X(PyTypeObject, stream_type) \
    X(PyTypeObject, crew_type) \
    X(PyTypeObject, job_type) \
    X(PyTypeObject, mapping_type) \
    X(PyTypeObject, names_type) \
    X(PyObject, shared_memory_known) /* tuples: see shared_memory.c */ \
    X(PyObject, shared_memory_words) \
    X(PyObject, shareable_list_original) /* the stdlib's ShareableList */ \
    X(PyTypeObject, dict_type) \
    X(PyTypeObject, list_type) \
    /* typecode or simple ctypes type -> (type, letter); see synchronized.c */ \
    X(PyObject, simple_types) \
    /* interned names */ \
    X(PyObject, name_acquire) \
    X(PyObject, name_release) \
    X(PyObject, name_rlock)

struct mpf_state {
#define MPF_STATE_FIELD(type, name) type *name;
    MPF_STATE_OWNED(MPF_STATE_FIELD)
#undef MPF_STATE_FIELD
    struct mpf_codec *codec; /* owned */
    struct bound_object *bound_kept; /* owned: special.c's free list */
    int bound_kept_count;
    _Atomic int strict;      /* a killed owner raises OwnerDied (1) or warns (0) */
};

extern struct PyModuleDef mpf_module_def;

static inline struct mpf_state *mpf_state_of(PyObject *module) { return PyModule_GetState(module); }

/* The state behind a type of this module or a subclass of one; NULL with an exception. */
struct mpf_state *mpf_state_of_type(PyTypeObject *type);

/* Creates a heap type from its spec, with `base` (object where NULL), and adds it to the module under its own name.
 * *keep, where given, gets a new reference. 0 or -1 with an exception. */
int mpf_state_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base, PyTypeObject **keep);

#endif
