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
#include "objects/names.h"
#include "objects/types.h"
#include "platform/clock.h"
#include "platform/names.h"

#define NAMES_READ_FOR_NS (30 * 1000) /* so long it is taken for granted that a tracker which was there is there */

struct names_object {
    PyObject_HEAD
    struct mpf_names_shm *shm;
    int fd;   /* -1 once it is bound */
    int pipe; /* -1 before */
    _Atomic int64_t read_until;
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

/* Whether somebody reads the pipe. That he has just ended is noticed a little later, as where he ends right afterwards. */
static bool
names_is_read(struct names_object *self)
{
    int64_t now = mpf_clock_now();
    if (now < atomic_load_explicit(&self->read_until, memory_order_relaxed)) {
        return true;
    }
    bool is_read = mpf_names_is_read(self->pipe);
    atomic_store_explicit(&self->read_until, is_read ? now + NAMES_READ_FOR_NS : 0, memory_order_relaxed);
    return is_read;
}

/* Whether the table is that of the tracker behind the descriptor, and has the name now. */
static bool
names_note_in(struct names_object *self, PyObject *pipe, const char *name, uint64_t inode)
{
    bool bound = self->pipe >= 0 && PyLong_Check(pipe) && PyLong_AsLong(pipe) == self->pipe;
    return bound && names_is_read(self) && mpf_names_note(self->shm, name, inode) == 0;
}

/* New reference to the tracker's table; NULL, maybe with an exception, where it has none. */
static struct names_object *
names_of(struct mpf_state *state, PyObject *tracker, PyObject *attribute)
{
    PyObject *names = tracker != NULL ? PyObject_GetAttr(tracker, attribute) : NULL;
    if (names == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
    }
    if (names != NULL && !Py_IS_TYPE(names, state->names_type)) {
        Py_CLEAR(names);
    }
    return (struct names_object *)names;
}

bool
mpf_names_note_for(struct mpf_state *state, PyObject *tracker, PyObject *names, PyObject *fd, const char *name, uint64_t inode)
{
    struct names_object *table = names_of(state, tracker, names);
    PyObject *pipe = table != NULL ? PyObject_GetAttr(tracker, fd) : NULL;
    bool noted = pipe != NULL && names_note_in(table, pipe, name, inode);
    Py_XDECREF(pipe);
    Py_XDECREF(table);
    return noted;
}

bool
mpf_names_forget_for(struct mpf_state *state, PyObject *tracker, PyObject *names, const char *name)
{
    struct names_object *table = names_of(state, tracker, names);
    bool found = table != NULL && mpf_names_forget(table->shm, name);
    Py_XDECREF(table);
    return found;
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
    bool noted = name != NULL && strlen(name) == (size_t)length && names_note_in(self, args[2], name, inode);
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
    return mpf_state_add_type(module, &names_spec, NULL, &mpf_state_of(module)->names_type);
}
