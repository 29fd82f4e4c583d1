/* What every Python object on a block of the arena begins with. */
#ifndef MPF_OBJECTS_SHARED_H
#define MPF_OBJECTS_SHARED_H

#include "memory/block.h"
#include "objects/state.h"

#if PY_VERSION_HEX < 0x030C0000
#include <structmember.h>
#define Py_T_ULONGLONG T_ULONGLONG
#define Py_T_OBJECT_EX T_OBJECT_EX
#define Py_T_PYSSIZET T_PYSSIZET
#define Py_READONLY READONLY
#endif

struct mpf_shared {
    PyObject_HEAD
    struct mpf_state *state; /* lives as long as the type */
    struct mpf_ref ref;
    void *shm; /* the block's payload; NULL until __init__ or __setstate__ */
};

/* For __init__: a new zeroed block in the home arena. 0, or -1 with an exception (RuntimeError: has one already). */
int mpf_shared_create(struct mpf_shared *self, uint64_t bytes, enum mpf_block_type type);

/* For __setstate__ and __getstate__: see handle.h. */
int mpf_shared_load(struct mpf_shared *self, PyObject *handle, enum mpf_block_type type);
PyObject *mpf_shared_dump(struct mpf_shared *self);

/* Sets the exception of a method called before __init__; returns NULL. */
PyObject *mpf_shared_missing(PyObject *self);

/* The repr of a container: its type's name, and in brackets that of `plain`, its contents, where there are any. Steals plain; NULL
 * where that is NULL. */
PyObject *mpf_shared_repr(PyObject *self, PyObject *plain);

/* Members that all types show: `_offset`, where the block is in its arena. */
extern PyMemberDef mpf_shared_members[];

/* tp_traverse and tp_dealloc of types that own nothing more than the block. */
int mpf_shared_traverse(PyObject *self, visitproc visit, void *arg);
void mpf_shared_dealloc(PyObject *self);

/* For __init__(self, *, ctx): refuses other arguments. `ctx` is required, as in the stdlib, and not used. 0 or -1. */
int mpf_shared_parse_ctx(PyObject *self, PyObject *args, PyObject *kwargs);

/* An entry of a method table that gives __init__ its signature: tp_init itself cannot have one. */
#define MPF_SHARED_INIT_METHOD(init) \
    static PyObject *init##_method(PyObject *op, PyObject *args, PyObject *kwargs) \
    { \
        if (init(op, args, kwargs) < 0) { \
            return NULL; \
        } \
        Py_RETURN_NONE; \
    }
#define MPF_SHARED_INIT_ENTRY(init, signature) \
    {"__init__", (PyCFunction)(void (*)(void))init##_method, METH_VARARGS | METH_KEYWORDS | METH_COEXIST, \
     "__init__($self, /, " signature ")\n--\n\n"}

#define MPF_SHARED_CHECK(self) \
    do { \
        if (((struct mpf_shared *)(self))->shm == NULL) { \
            return mpf_shared_missing((PyObject *)(self)); \
        } \
    } while (0)

#endif
