/*
 * Purpose: the type Mapping: the memory of one SharedMemory, a file mapped shared from its first byte to its last.
 *
 * Layout: what is in the file is its users' business. Private to the process: the address, the size, the number of users.
 *
 * States: open (users >= 0) -> closed (users == -1), only while there are no users, never back.
 *
 * Invariants: the address is valid while users >= 0; whoever reads or writes has an exported buffer or a pin. Pages that
 * were asked for as new are committed before anybody can touch them: lack of memory is an OSError, not a SIGBUS.
 *
 * Callers: Python code and the types of this directory, attached to the interpreter.
 *
 * Death of the caller: the kernel takes the mapping back; the file stays, which has a name.
 */
#include <Python.h>

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "objects/mapping.h"
#include "objects/types.h"

int
mpf_mapping_close(struct mpf_mapping *self, int fd)
{
    int rc = 0;
    Py_ssize_t users = 0;
    /* Acquire: pairs with the release of mpf_mapping_unpin(), so that the last access is over before the unmapping. */
    if (!atomic_compare_exchange_strong_explicit(&self->users, &users, -1, memory_order_acquire, memory_order_relaxed)) {
        if (users >= 0) {
            return -EBUSY;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    if (users == 0 && self->base != NULL) {
        munmap(self->base, (size_t)self->size);
        self->base = NULL;
    }
    if (fd >= 0 && close(fd) < 0) {
        rc = -errno;
    }
    Py_END_ALLOW_THREADS
    return rc;
}

PyObject *
mpf_mapping_fail(int rc)
{
    if (!PyErr_Occurred()) { /* by a signal handler */
        errno = -rc;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return NULL;
}

PyObject *
mpf_mapping_fail_to_close(int rc)
{
    if (rc != -EBUSY) {
        return mpf_mapping_fail(rc);
    }
    PyErr_SetString(PyExc_BufferError, "cannot close exported pointers exist");
    return NULL;
}

int
mpf_mapping_audit_size(int fd, Py_ssize_t bytes)
{
    return PySys_Audit("os.truncate", "in", fd, bytes);
}

PyObject *
mpf_mapping_wrap(PyTypeObject *type, const struct mpf_named *file)
{
    const int access = 0; /* as mmap.mmap() has it where none is given */
    const long long offset = 0;
    bool is_refused = PySys_Audit("mmap.__new__", "iniL", file->fd, (Py_ssize_t)file->bytes, access, offset) < 0;
    struct mpf_mapping *self = is_refused ? NULL : (struct mpf_mapping *)type->tp_alloc(type, 0);
    if (self == NULL) {
        munmap(file->base, file->bytes);
        return NULL;
    }
    self->base = file->base;
    self->size = (Py_ssize_t)file->bytes;
    return (PyObject *)self;
}

static PyObject *
mapping_of(PyObject *class, PyObject *const *args, Py_ssize_t nargs)
{
    struct mpf_named file;
    int rc = 0;
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "of() takes exactly 2 arguments (%zd given)", nargs);
        return NULL;
    }
    file.fd = PyObject_AsFileDescriptor(args[0]);
    Py_ssize_t commit = file.fd < 0 ? -1 : PyNumber_AsSsize_t(args[1], PyExc_OverflowError);
    if (PyErr_Occurred() || (commit > 0 && mpf_mapping_audit_size(file.fd, commit) < 0)) {
        return NULL;
    }
    do {
        Py_BEGIN_ALLOW_THREADS
        rc = commit > 0 ? mpf_named_commit(file.fd, commit) : 0;
        if (rc == 0) {
            rc = mpf_named_map(&file);
        }
        Py_END_ALLOW_THREADS
    } while (rc == -EINTR && PyErr_CheckSignals() == 0);
    if (rc < 0) {
        return mpf_mapping_fail(rc);
    }
    if (file.base == NULL) {
        PyErr_SetString(PyExc_ValueError, "cannot mmap an empty file");
        return NULL;
    }
    PyObject *self = mpf_mapping_wrap((PyTypeObject *)class, &file);
    return self != NULL ? Py_BuildValue("(NnK)", self, (Py_ssize_t)file.bytes, (unsigned long long)file.inode) : NULL;
}

static void
mapping_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    (void)mpf_mapping_close((struct mpf_mapping *)op, -1); /* an exported buffer would keep the object */
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
mapping_close_method(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    int rc = mpf_mapping_close((struct mpf_mapping *)op, -1);
    if (rc < 0) {
        return mpf_mapping_fail_to_close(rc);
    }
    Py_RETURN_NONE;
}

static PyObject *
mapping_closed(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(mpf_mapping_is_closed((struct mpf_mapping *)op));
}

/* Pins, or sets ValueError. */
static bool
mapping_enter(PyObject *op)
{
    if (mpf_mapping_pin((struct mpf_mapping *)op)) {
        return true;
    }
    PyErr_SetString(PyExc_ValueError, "mmap closed or invalid");
    return false;
}

static PyObject *
mapping_size(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (!mapping_enter(op)) {
        return NULL;
    }
    mpf_mapping_unpin((struct mpf_mapping *)op);
    return PyLong_FromSsize_t(((struct mpf_mapping *)op)->size);
}

static PyObject *
mapping_madvise(PyObject *op, PyObject *args)
{
    struct mpf_mapping *self = (struct mpf_mapping *)op;
    int option;
    Py_ssize_t start = 0, length = self->size;
    if (!PyArg_ParseTuple(args, "i|nn:madvise", &option, &start, &length)) {
        return NULL;
    }
    if (start < 0 || start >= self->size) {
        PyErr_SetString(PyExc_ValueError, "madvise start out of bounds");
        return NULL;
    }
    if (length < 0) {
        PyErr_SetString(PyExc_ValueError, "madvise length invalid");
        return NULL;
    }
    if (!mapping_enter(op)) {
        return NULL;
    }
    length = Py_MIN(length, self->size - start);
    int error;
    Py_BEGIN_ALLOW_THREADS
    error = madvise(self->base + start, (size_t)length, option) < 0 ? errno : 0;
    Py_END_ALLOW_THREADS
    mpf_mapping_unpin(self);
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *
mapping_flush(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    /* The file is memory: there is nothing to write back to. */
    if (!mapping_enter(op)) {
        return NULL;
    }
    mpf_mapping_unpin((struct mpf_mapping *)op);
    Py_RETURN_NONE;
}

static int
mapping_export(PyObject *op, Py_buffer *view, int flags)
{
    struct mpf_mapping *self = (struct mpf_mapping *)op;
    if (!mapping_enter(op)) {
        view->obj = NULL;
        return -1;
    }
    if (PyBuffer_FillInfo(view, op, self->base, self->size, 0, flags) < 0) {
        mpf_mapping_unpin(self);
        return -1;
    }
    return 0;
}

static void
mapping_release(PyObject *op, Py_buffer *Py_UNUSED(view))
{
    mpf_mapping_unpin((struct mpf_mapping *)op);
}

static Py_ssize_t
mapping_length(PyObject *op)
{
    return ((struct mpf_mapping *)op)->size;
}

PyDoc_STRVAR(of_doc,
"of($type, fd, commit, /)\n--\n\n"
"Map the whole file behind fd, after its first `commit` bytes were made real pages (0: it is taken as it is).\n\n"
"Returns (mapping, size in bytes, inode number).  OSError: the memory is not to be had; ValueError: the file is empty.");

static PyMethodDef mapping_methods[] = {
    {"of", (PyCFunction)(void (*)(void))mapping_of, METH_FASTCALL | METH_CLASS, of_doc},
    {"close", mapping_close_method, METH_NOARGS,
     "close($self, /)\n--\n\nUnmap it.  BufferError: somebody has a view of it."},
    {"size", mapping_size, METH_NOARGS, "size($self, /)\n--\n\nThe number of bytes.  ValueError: it is closed."},
    {"flush", mapping_flush, METH_NOARGS, "flush($self, /)\n--\n\nDoes nothing: memory has nothing behind it."},
    {"madvise", mapping_madvise, METH_VARARGS,
     "madvise($self, option, start=0, length=-1, /)\n--\n\nTell the kernel how the memory will be used; see madvise(2)."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef mapping_getset[] = {
    {"closed", mapping_closed, NULL, "whether close() was called", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot mapping_slots[] = {
    {Py_tp_doc, "The memory of a SharedMemory in this process: a writable buffer of bytes."},
    {Py_tp_dealloc, mapping_dealloc},
    {Py_tp_methods, mapping_methods},
    {Py_tp_getset, mapping_getset},
    {Py_mp_length, mapping_length},
    {Py_bf_getbuffer, mapping_export},
    {Py_bf_releasebuffer, mapping_release},
    {0, NULL},
};

static PyType_Spec mapping_spec = {
    .name = "mpfast._core.Mapping",
    .basicsize = sizeof(struct mpf_mapping),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = mapping_slots,
};

int
mpf_mapping_register(PyObject *module)
{
    return mpf_state_add_type(module, &mapping_spec, NULL, &mpf_state_of(module)->mapping_type);
}
