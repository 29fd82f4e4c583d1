/*
 * Purpose: the life of an object that stands on one block: created by __init__, attached by __setstate__, dropped by dealloc.
 *
 * Layout: struct mpf_shared in private memory; the block's payload belongs to the type.
 *
 * States: bare (after __new__) -> has a block (after __init__ or __setstate__), never back: methods may be running
 * in other threads, so that a block is given up at deallocation only.
 *
 * Invariants: shm is set last; whoever sees it set sees the rest.
 *
 * Callers: the types of objects/, attached to the interpreter.
 *
 * Death of the caller: the block layer takes a dead process's references back.
 */
#include "objects/shared.h"

#include <stdbool.h>
#include <string.h>

#include "objects/errors.h"
#include "objects/handle.h"

PyMemberDef mpf_shared_members[] = {
    {"_offset", Py_T_ULONGLONG, offsetof(struct mpf_shared, ref.off), Py_READONLY, "Where it is in its arena, in bytes."},
    {NULL, 0, 0, 0, NULL},
};

static int
shared_prepare(struct mpf_shared *self)
{
    if (self->shm != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s is initialised already", Py_TYPE(self)->tp_name);
        return -1;
    }
    self->state = mpf_state_of_type(Py_TYPE(self));
    return self->state != NULL ? 0 : -1;
}

static void
shared_publish(struct mpf_shared *self, const struct mpf_ref *ref)
{
    self->ref = *ref;
    self->shm = mpf_at(ref->arena, ref->off);
}

int
mpf_shared_create(struct mpf_shared *self, uint64_t bytes, enum mpf_block_type type)
{
    if (shared_prepare(self) < 0) {
        return -1;
    }
    struct mpf_arena *arena;
    struct mpf_ref ref;
    int error = mpf_arena_home(&arena);
    if (error == 0) {
        error = mpf_block_alloc(arena, bytes, type, &ref);
    }
    if (error < 0) {
        mpf_errors_raise(error);
        return -1;
    }
    shared_publish(self, &ref);
    return 0;
}

int
mpf_shared_load(struct mpf_shared *self, PyObject *handle, enum mpf_block_type type)
{
    struct mpf_ref ref;
    if (shared_prepare(self) < 0 || mpf_handle_load(self->state, handle, type, &ref) < 0) {
        return -1;
    }
    shared_publish(self, &ref);
    return 0;
}

PyObject *
mpf_shared_dump(struct mpf_shared *self)
{
    MPF_SHARED_CHECK(self);
    return mpf_handle_dump(self->state, &self->ref);
}

PyObject *
mpf_shared_missing(PyObject *self)
{
    PyErr_Format(PyExc_RuntimeError, "%s.__init__() was not called", Py_TYPE(self)->tp_name);
    return NULL;
}

PyObject *
mpf_shared_repr(PyObject *self, PyObject *plain)
{
    if (plain == NULL) {
        return NULL;
    }
    const char *dot = strrchr(Py_TYPE(self)->tp_name, '.');
    const char *name = dot != NULL ? dot + 1 : Py_TYPE(self)->tp_name;
    PyObject *result = PyUnicode_FromFormat(PyObject_Size(plain) != 0 ? "%s(%R)" : "%s()", name, plain);
    Py_DECREF(plain);
    return result;
}

int
mpf_shared_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

void
mpf_shared_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    mpf_block_unref(&((struct mpf_shared *)self)->ref);
    type->tp_free(self);
    Py_DECREF(type);
}

int
mpf_shared_parse_ctx(PyObject *self, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) > 0) {
        PyErr_Format(PyExc_TypeError, "%s.__init__() takes 1 positional argument but %zd were given",
                     Py_TYPE(self)->tp_name, PyTuple_GET_SIZE(args) + 1);
        return -1;
    }
    PyObject *key;
    Py_ssize_t position = 0;
    bool found = false;
    while (kwargs != NULL && PyDict_Next(kwargs, &position, &key, NULL)) { /* key is borrowed */
        if (PyUnicode_CompareWithASCIIString(key, "ctx") != 0) {
            PyErr_Format(PyExc_TypeError, "%s.__init__() got an unexpected keyword argument '%S'",
                         Py_TYPE(self)->tp_name, key);
            return -1;
        }
        found = true;
    }
    if (!found) {
        PyErr_Format(PyExc_TypeError, "%s.__init__() missing 1 required keyword-only argument: 'ctx'",
                     Py_TYPE(self)->tp_name);
        return -1;
    }
    return 0;
}
