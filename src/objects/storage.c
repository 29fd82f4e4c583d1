/*
 * Purpose: the type Storage: the memory of one Value or Array, with or without a lock before it.
 *
 * Layout of the block:
 *
 *     without a lock (MPF_BLOCK_RAW)        | data ...                     |
 *     with one       (MPF_BLOCK_RMUTEX)     | mpf_mutex_shm | pad | data ... |
 *
 * A storage with a lock is a recursive mutex whose block goes on: RLock objects attach to it like to any other, and the death
 * of its owner is handled by the same hook. The pad makes large data start on a cache line.
 *
 * States: bare (after __new__) -> has its block, never back.
 *
 * Invariants: data, size and mutex are derived from (size, locked) alone, which travel with the handle.
 *
 * Callers: the shared types of this directory and Python code, attached to the interpreter.
 *
 * Death of the caller: the block layer takes its reference back, the mutex layer its lock.
 */
#include "objects/storage.h"

#include <stdbool.h>

#include "objects/errors.h"
#include "objects/handle.h"
#include "objects/types.h"

#define LARGE_BYTES 4096
#define CACHE_LINE 64

static Py_ssize_t
storage_offset(Py_ssize_t size, bool locked)
{
    if (!locked) {
        return 0;
    }
    return size < LARGE_BYTES ? (Py_ssize_t)sizeof(struct mpf_mutex_shm) : CACHE_LINE;
}

static void
storage_derive(struct mpf_storage *self, Py_ssize_t size, bool locked)
{
    self->size = size;
    self->data = (char *)self->shared.shm + storage_offset(size, locked);
    self->mutex = locked ? self->shared.shm : NULL;
}

static int
storage_check_size(Py_ssize_t size)
{
    if (size < 0) {
        PyErr_Format(PyExc_ValueError, "Size %zd out of range", size);
        return -1;
    }
    if (size > PY_SSIZE_T_MAX - CACHE_LINE) {
        PyErr_Format(PyExc_OverflowError, "Size %zd too large", size);
        return -1;
    }
    return 0;
}

static int
storage_create(struct mpf_storage *self, Py_ssize_t size, bool locked)
{
    Py_ssize_t bytes = size + storage_offset(size, locked);
    if (mpf_shared_create(&self->shared, bytes > 0 ? bytes : 1, locked ? MPF_BLOCK_RMUTEX : MPF_BLOCK_RAW) < 0) {
        return -1;
    }
    storage_derive(self, size, locked);
    return 0;
}

PyObject *
mpf_storage_new(struct mpf_state *state, Py_ssize_t size, bool locked)
{
    if (storage_check_size(size) < 0) {
        return NULL;
    }
    PyObject *self = state->storage_type->tp_alloc(state->storage_type, 0);
    if (self != NULL && storage_create((struct mpf_storage *)self, size, locked) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

/* The class that programs know as RLock, where it is one of ours; else ours. New reference. */
static PyTypeObject *
storage_lock_class(struct mpf_state *state)
{
    PyObject *class = NULL;
    PyObject *module = PyImport_ImportModule("mpfast.synchronize");
    if (module != NULL) {
        class = PyObject_GetAttrString(module, "RLock");
        Py_DECREF(module);
    }
    if (class == NULL) {
        PyErr_Clear();
    } else if (PyType_Check(class) && PyType_IsSubtype((PyTypeObject *)class, state->rlock_type)) {
        return (PyTypeObject *)class;
    }
    Py_XDECREF(class);
    return (PyTypeObject *)Py_NewRef(state->rlock_type);
}

PyObject *
mpf_storage_lock(struct mpf_storage *storage)
{
    struct mpf_ref ref;
    PyTypeObject *class = storage_lock_class(storage->shared.state);
    struct mpf_shared *lock = (struct mpf_shared *)class->tp_alloc(class, 0);
    Py_DECREF(class);
    if (lock == NULL) {
        return NULL;
    }
    int error = mpf_block_ref(&storage->shared.ref, &ref);
    if (error < 0) {
        Py_DECREF(lock);
        return mpf_errors_raise(error);
    }
    lock->state = storage->shared.state;
    lock->ref = ref;
    lock->shm = storage->shared.shm;
    return (PyObject *)lock;
}

static int
storage_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"size", "locked", NULL};
    Py_ssize_t size;
    int locked = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|p:Storage", names, &size, &locked) ||
        storage_check_size(size) < 0) {
        return -1;
    }
    return storage_create((struct mpf_storage *)op, size, locked);
}

static int
storage_export(PyObject *op, Py_buffer *view, int flags)
{
    struct mpf_storage *self = (struct mpf_storage *)op;
    if (self->shared.shm == NULL) {
        view->obj = NULL;
        (void)mpf_shared_missing(op);
        return -1;
    }
    return PyBuffer_FillInfo(view, op, self->data, self->size, 0, flags);
}

static Py_ssize_t
storage_length(PyObject *op)
{
    return ((struct mpf_storage *)op)->size;
}

static PyObject *
storage_create_memoryview(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyMemoryView_FromObject(op);
}

static PyObject *
storage_dump(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct mpf_storage *self = (struct mpf_storage *)op;
    PyObject *handle = mpf_shared_dump(&self->shared);
    if (handle == NULL) {
        return NULL;
    }
    return Py_BuildValue("(NnO)", handle, self->size, self->mutex != NULL ? Py_True : Py_False);
}

static PyObject *
storage_load(PyObject *class, PyObject *args)
{
    PyObject *handle;
    Py_ssize_t size;
    int locked;
    if (!PyArg_ParseTuple(args, "Onp:load", &handle, &size, &locked)) {
        return NULL;
    }
    PyTypeObject *type = (PyTypeObject *)class;
    struct mpf_storage *self = (struct mpf_storage *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    if (mpf_shared_load(&self->shared, handle, locked ? MPF_BLOCK_RMUTEX : MPF_BLOCK_RAW) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    uint64_t bytes = mpf_block_bytes(&self->shared.ref);
    if (size < 0 || (uint64_t)size > bytes || (uint64_t)(size + storage_offset(size, locked)) > bytes) {
        PyErr_SetString(PyExc_ValueError, "the handle names a smaller shared object");
        Py_DECREF(self);
        return NULL;
    }
    storage_derive(self, size, locked);
    return (PyObject *)self;
}

/* Only who knows what lies in the memory can say what a pickle of it means (a copy of a ctypes object holds on to its
 * storage, too): sharedctypes pickles dump() with the type. */
static PyObject *
storage_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object", Py_TYPE(op)->tp_name);
    return NULL;
}

PyDoc_STRVAR(create_memoryview_doc,
"create_memoryview($self, /)\n--\n\nA writable memoryview of the bytes.");
PyDoc_STRVAR(dump_doc,
"dump($self, /)\n--\n\nThe arguments with which load() makes a storage on the same memory in any process.");
PyDoc_STRVAR(load_doc,
"load($type, handle, size, locked, /)\n--\n\nA storage on the memory of dump()'s.  FileNotFoundError: it is gone.");

static PyMethodDef storage_methods[] = {
    {"create_memoryview", storage_create_memoryview, METH_NOARGS, create_memoryview_doc},
    {"dump", storage_dump, METH_NOARGS, dump_doc},
    {"load", storage_load, METH_VARARGS | METH_CLASS, load_doc},
    {"__reduce__", storage_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(storage_doc,
"Storage(size, locked=False)\n--\n\n"
"size zero bytes of shared memory; locked: with a recursive lock before them.\n\n"
"ValueError: size is negative; OSError: the memory is not to be had.");

static PyType_Slot storage_slots[] = {
    {Py_tp_doc, (void *)storage_doc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, storage_init},
    {Py_tp_dealloc, mpf_shared_dealloc},
    {Py_tp_traverse, mpf_shared_traverse},
    {Py_tp_methods, storage_methods},
    {Py_tp_members, mpf_shared_members},
    {Py_sq_length, storage_length},
    {Py_bf_getbuffer, storage_export},
    {0, NULL},
};

static PyType_Spec storage_spec = {
    .name = "mpfast._core.Storage",
    .basicsize = sizeof(struct mpf_storage),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = storage_slots,
};

int
mpf_storage_register(PyObject *module)
{
    return mpf_state_add_type(module, &storage_spec, NULL, &mpf_state_of(module)->storage_type);
}
