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
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "objects/mapping.h"
#include "objects/types.h"

#define MAPPING_NAME_BYTES 16 /* of "/psm_", eight hexadecimal digits and the zero */

/* Makes the first `bytes` of the file real pages. 0, or -1 with an exception. */
static int
mapping_commit(int fd, Py_ssize_t bytes)
{
    int error;
    do {
        Py_BEGIN_ALLOW_THREADS
        error = posix_fallocate(fd, 0, bytes);
        if (error == EOPNOTSUPP || error == ENOSYS) {
            error = ftruncate(fd, bytes) < 0 ? errno : 0;
        }
        Py_END_ALLOW_THREADS
    } while (error == EINTR && PyErr_CheckSignals() == 0);
    if (error == 0) {
        return 0;
    }
    if (!PyErr_Occurred()) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return -1;
}

/* Maps the whole file. 0, or -1 with an exception. */
static int
mapping_map(struct mpf_mapping *self, int fd, unsigned long long *inode)
{
    struct stat st;
    void *base = MAP_FAILED;
    int error = 0;
    Py_BEGIN_ALLOW_THREADS
    if (fstat(fd, &st) < 0) {
        error = errno;
    } else if (st.st_size > 0) {
        base = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        error = base == MAP_FAILED ? errno : 0;
    }
    Py_END_ALLOW_THREADS
    if (error != 0) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (st.st_size <= 0) {
        PyErr_SetString(PyExc_ValueError, "cannot mmap an empty file");
        return -1;
    }
    self->base = base;
    self->size = (Py_ssize_t)st.st_size;
    *inode = st.st_ino;
    return 0;
}

/* False: it has users. */
static bool
mapping_close(struct mpf_mapping *self)
{
    Py_ssize_t users = 0;
    /* Acquire: pairs with the release of mpf_mapping_unpin(), so that the last access is over before the unmapping. */
    if (!atomic_compare_exchange_strong_explicit(&self->users, &users, -1, memory_order_acquire, memory_order_relaxed)) {
        return users < 0;
    }
    if (self->base != NULL) {
        Py_BEGIN_ALLOW_THREADS
        munmap(self->base, (size_t)self->size);
        Py_END_ALLOW_THREADS
        self->base = NULL;
    }
    return true;
}

static PyObject *
mapping_of(PyObject *class, PyObject *const *args, Py_ssize_t nargs)
{
    PyTypeObject *type = (PyTypeObject *)class;
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "of() takes exactly 2 arguments (%zd given)", nargs);
        return NULL;
    }
    int fd = PyObject_AsFileDescriptor(args[0]);
    Py_ssize_t commit = fd < 0 ? -1 : PyNumber_AsSsize_t(args[1], PyExc_OverflowError);
    if (fd < 0 || (commit == -1 && PyErr_Occurred()) || (commit > 0 && mapping_commit(fd, commit) < 0)) {
        return NULL;
    }
    struct mpf_mapping *self = (struct mpf_mapping *)type->tp_alloc(type, 0);
    unsigned long long inode;
    if (self == NULL || mapping_map(self, fd, &inode) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    return Py_BuildValue("(NnK)", self, self->size, inode);
}

/* Opens a file of a new name, which is put there. The descriptor, or -1 with an exception. */
static int
mapping_open_new(char name[MAPPING_NAME_BYTES], mode_t mode)
{
    int fd, error = 0;
    do {
        uint32_t number;
        if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        PyOS_snprintf(name, MAPPING_NAME_BYTES, "/psm_%08lx", (unsigned long)number);
        Py_BEGIN_ALLOW_THREADS
        fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, mode);
        error = errno;
        Py_END_ALLOW_THREADS
    } while (fd < 0 && (error == EEXIST || (error == EINTR && PyErr_CheckSignals() == 0)));
    if (fd < 0 && !PyErr_Occurred()) {
        errno = error;
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, name);
    }
    return fd;
}

/* New reference to what mapping_new() returns; NULL with an exception. */
static PyObject *
mapping_create(PyTypeObject *type, int fd, const char *name, Py_ssize_t bytes)
{
    unsigned long long inode;
    if (mapping_commit(fd, bytes) < 0) {
        return NULL;
    }
    struct mpf_mapping *self = (struct mpf_mapping *)type->tp_alloc(type, 0);
    if (self == NULL || mapping_map(self, fd, &inode) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    return Py_BuildValue("(isNnK)", fd, name, self, self->size, inode);
}

static PyObject *
mapping_new(PyObject *class, PyObject *const *args, Py_ssize_t nargs)
{
    char name[MAPPING_NAME_BYTES];
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "new() takes exactly 2 arguments (%zd given)", nargs);
        return NULL;
    }
    long mode = PyLong_AsLong(args[0]);
    Py_ssize_t bytes = mode == -1 && PyErr_Occurred() ? -1 : PyNumber_AsSsize_t(args[1], PyExc_OverflowError);
    int fd = PyErr_Occurred() ? -1 : mapping_open_new(name, (mode_t)mode);
    if (fd < 0) {
        return NULL;
    }
    PyObject *created = mapping_create((PyTypeObject *)class, fd, name, bytes);
    if (created == NULL) {
        shm_unlink(name);
        close(fd);
    }
    return created;
}

static void
mapping_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    (void)mapping_close((struct mpf_mapping *)op); /* an exported buffer would keep the object */
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
mapping_close_method(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (!mapping_close((struct mpf_mapping *)op)) {
        PyErr_SetString(PyExc_BufferError, "cannot close exported pointers exist");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
mapping_closed(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atomic_load_explicit(&((struct mpf_mapping *)op)->users, memory_order_relaxed) < 0);
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

PyDoc_STRVAR(new_doc,
"new($type, mode, bytes, /)\n--\n\n"
"Make a file with a new name, so many bytes of real pages, and map it.\n\n"
"Returns (descriptor, name with a slash before it, mapping, size in bytes, inode number).  OSError: it is not to be had.");

static PyMethodDef mapping_methods[] = {
    {"new", (PyCFunction)(void (*)(void))mapping_new, METH_FASTCALL | METH_CLASS, new_doc},
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
