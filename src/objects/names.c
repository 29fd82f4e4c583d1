/*
 * Purpose: the type Names: the table of what the resource tracker has to unlink, for Python.
 *
 * Layout: the table is that of platform/names.c. Private: its mapping, its descriptor until it is bound, and the pipe that it is
 * bound to.
 *
 * States: new (descriptor open) -> bound to the writing end of the tracker's pipe (descriptor closed).
 *
 * Invariants: the table counts only together with the pipe: when the tracker behind it is gone, nobody will read the table.
 *
 * Callers: attached to the interpreter.
 *
 * Death of the caller: see platform/names.c.
 */
#include <Python.h>

#include <errno.h>
#include <unistd.h>

#include "objects/errors.h"
#include "objects/state.h"
#include "objects/types.h"
#include "platform/names.h"

struct names_object {
    PyObject_HEAD
    struct mpf_names_shm *shm;
    int fd;   /* -1 once it is bound */
    int pipe; /* -1 before */
};

static PyObject *
names_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) != 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0)) {
        PyErr_SetString(PyExc_TypeError, "Names() takes no arguments");
        return NULL;
    }
    struct names_object *self = (struct names_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->pipe = -1;
    self->fd = mpf_names_create(&self->shm);
    if (self->fd < 0) {
        int rc = self->fd;
        Py_DECREF(self);
        return mpf_errors_raise(rc);
    }
    return (PyObject *)self;
}

static void
names_dealloc(PyObject *op)
{
    struct names_object *self = (struct names_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (self->shm != NULL) {
        mpf_names_unmap(self->shm);
        if (self->fd >= 0) {
            close(self->fd);
        }
    }
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
names_fileno(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(((struct names_object *)op)->fd);
}

static PyObject *
names_bind(PyObject *op, PyObject *pipe)
{
    struct names_object *self = (struct names_object *)op;
    int fd = PyObject_AsFileDescriptor(pipe);
    if (fd < 0) {
        return NULL;
    }
    self->pipe = fd;
    if (self->fd >= 0) {
        close(self->fd);
        self->fd = -1;
    }
    Py_RETURN_NONE;
}

static PyObject *
names_note(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct names_object *self = (struct names_object *)op;
    if (nargs != 3 || !PyUnicode_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "note() takes a name, an inode number and the tracker's pipe");
        return NULL;
    }
    unsigned long long inode = PyLong_AsUnsignedLongLong(args[1]);
    if (inode == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    Py_ssize_t length;
    const char *name = PyUnicode_IS_ASCII(args[0]) ? PyUnicode_AsUTF8AndSize(args[0], &length) : NULL;
    bool bound = self->pipe >= 0 && PyLong_Check(args[2]) && PyLong_AsLong(args[2]) == self->pipe;
    bool noted = name != NULL && bound && mpf_names_is_read(self->pipe) && strlen(name) == (size_t)length &&
                 mpf_names_note(self->shm, name, inode) == 0;
    return PyErr_Occurred() ? NULL : PyBool_FromLong(noted);
}

static PyObject *
names_forget(PyObject *op, PyObject *name)
{
    if (!PyUnicode_Check(name)) {
        PyErr_SetString(PyExc_TypeError, "a name is a str");
        return NULL;
    }
    const char *text = PyUnicode_IS_ASCII(name) ? PyUnicode_AsUTF8(name) : NULL;
    bool found = text != NULL && mpf_names_forget(((struct names_object *)op)->shm, text);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(found);
}

PyDoc_STRVAR(note_doc,
"note($self, name, inode, pipe, /)\n--\n\n"
"Have the tracker behind the descriptor `pipe` unlink name when everybody else has ended, if it is the file `inode` then.\n\n"
"False, and nothing is done: the table is not that tracker's, the tracker is gone, or there is no place for the name.");

static PyMethodDef names_methods[] = {
    {"fileno", names_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\nThe descriptor of the table, for the tracker; -1 once it is bound."},
    {"bind", names_bind, METH_O,
     "bind($self, pipe, /)\n--\n\nThe tracker has the table now, and is behind that descriptor."},
    {"note", (PyCFunction)(void (*)(void))names_note, METH_FASTCALL, note_doc},
    {"forget", names_forget, METH_O, "forget($self, name, /)\n--\n\nTake name away.  Whether it was there."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot names_slots[] = {
    {Py_tp_doc, "Names()\n--\n\nNames of shared memory that the resource tracker will unlink."},
    {Py_tp_new, names_new},
    {Py_tp_dealloc, names_dealloc},
    {Py_tp_methods, names_methods},
    {0, NULL},
};

static PyType_Spec names_spec = {
    .name = "mpfast._core.Names",
    .basicsize = sizeof(struct names_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = names_slots,
};

int
mpf_names_register(PyObject *module)
{
    return mpf_state_add_type(module, &names_spec, NULL, NULL);
}
