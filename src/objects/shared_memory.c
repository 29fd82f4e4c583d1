/*
 * Purpose: the type behind SharedMemory: memory that has a name, made, let go of and destroyed.
 *
 * Layout: what is in the file is its users' business. Private to the process: the attributes of the standard library's objects, which
 * are its class's while nothing was done: None, and -1 for the descriptor.
 *
 * States: without memory -> open (`mmap`, `buf` and `fd` are set) -> closed, which is without memory again. The name stays.
 *
 * Invariants: this type does what is plain to see: new memory of any name, for an object of mpfast's own class. Everything else
 * (a name that was given, a subclass, arguments that make no sense, a replaced maker of names) goes to methods in Python
 * (mpfast/shared_memory.py). A program that has replaced functions of the resource tracker has them called.
 *
 * Callers: Python code, attached to the interpreter. In free-threaded builds, two threads that close one object have its
 * references taken in a critical section.
 *
 * Death of the caller: between making the file and noting its name, the file stays, as with the standard library's; afterwards
 * the resource tracker destroys it.
 */
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "objects/guard.h"
#include "objects/mapping.h"
#include "objects/names.h"
#include "objects/shared.h"
#include "objects/types.h"
#include "platform/named.h"

struct shared_memory {
    PyObject_HEAD
    struct mpf_state *state;
    PyObject *name, *mmap, *buf, *size, *track; /* owned; NULL only where a program has deleted the attribute */
    int fd, flags;
};

/* What _set_shared_memory() was given: what of the standard library's has to be there for the short ways. */
enum known {
    KNOWN_CLASS,      /* mpfast's own */
    KNOWN_NAMESPACE,  /* of multiprocessing.shared_memory */
    KNOWN_MAKER,      /* its _make_filename */
    KNOWN_TRACKER,    /* the namespace of multiprocessing.resource_tracker */
    KNOWN_REGISTER,   /* its functions */
    KNOWN_UNREGISTER,
    KNOWN_NOTE,       /* mpfast/_shared_memory_names.py: register, unregister, and a dict of the names that are not in the table */
    KNOWN_FORGET,
    KNOWN_ELSEWHERE,
    KNOWN_COUNT,
};

/* Interned names, in a tuple behind those. */
#define SHARED_MEMORY_NAMES(X) \
    X(name) X(create) X(size) X(track) X(close) X(release) X(register) X(unregister) X(_make_filename) X(_resource_tracker) \
    X(_names) X(_fd) X(_mode) X(_begin) X(_unlink)
enum word {
#define SHARED_MEMORY_WORD(text) WORD_##text,
    SHARED_MEMORY_NAMES(SHARED_MEMORY_WORD)
#undef SHARED_MEMORY_WORD
    WORD_COUNT,
};

static struct shared_memory *
shared_memory_of(PyObject *self)
{
    return (struct shared_memory *)self;
}

/* Borrowed. */
static PyObject *
known(const struct mpf_state *state, enum known which)
{
    return PyTuple_GET_ITEM(state->shared_memory_known, which);
}

/* Borrowed. */
static PyObject *
word(const struct mpf_state *state, enum word which)
{
    return PyTuple_GET_ITEM(state->shared_memory_words, which);
}

/* Whether the namespace has that object under that name. */
static bool
is_in(PyObject *namespace, PyObject *name, PyObject *object)
{
    return PyDict_GetItemWithError(namespace, name) == object; /* borrowed */
}

/* ---- making ---- */

/* Has the tracker unlink the name at the end. 0, or -1 with an exception. */
static int
new_note(struct shared_memory *self, const struct mpf_named *made)
{
    struct mpf_state *state = self->state;
    PyObject *tracker = known(state, KNOWN_TRACKER);
    if (is_in(tracker, word(state, WORD_register), known(state, KNOWN_REGISTER)) &&
        mpf_names_note_for(state, PyDict_GetItemWithError(tracker, word(state, WORD__resource_tracker)), word(state, WORD__names),
                           word(state, WORD__fd), made->name, made->inode)) {
        return 0;
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    PyObject *inode = PyLong_FromUnsignedLongLong(made->inode);
    PyObject *done = inode != NULL ? PyObject_CallFunctionObjArgs(known(state, KNOWN_NOTE), self->name, inode, NULL) : NULL;
    Py_XDECREF(inode);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* Steals the new values. False, with an exception, where one is NULL. */
static bool
set_all(struct shared_memory *self, PyObject *name, PyObject *mapping, PyObject *buf, PyObject *size)
{
    if (name == NULL || mapping == NULL || buf == NULL || size == NULL) {
        Py_XDECREF(name);
        Py_XDECREF(buf);
        Py_XDECREF(mapping);
        Py_XDECREF(size);
        return false;
    }
    Py_XSETREF(self->name, name);
    Py_XSETREF(self->mmap, mapping);
    Py_XSETREF(self->buf, buf);
    Py_XSETREF(self->size, size);
    return true;
}

static int
shared_memory_make(struct shared_memory *self, long mode, Py_ssize_t bytes, PyObject *track)
{
    struct mpf_named made;
    int rc;
    do {
        Py_BEGIN_ALLOW_THREADS
        rc = mpf_named_create(&made, (mode_t)mode, bytes);
        Py_END_ALLOW_THREADS
    } while (rc == -EINTR && PyErr_CheckSignals() == 0);
    if (rc < 0) {
        mpf_mapping_fail(rc);
        return -1;
    }
    PyObject *mapping = mpf_mapping_wrap(self->state->mapping_type, &made);
    PyObject *buf = mapping != NULL ? PyMemoryView_FromObject(mapping) : NULL;
    if (!set_all(self, PyUnicode_FromString(made.name), mapping, buf, PyLong_FromSsize_t(bytes))) {
        mpf_named_discard(&made);
        return -1;
    }
    self->fd = made.fd;
    self->flags = O_CREAT | O_EXCL | O_RDWR;
    Py_XSETREF(self->track, Py_NewRef(track));
    return track == Py_True ? new_note(self, &made) : 0;
}

/* The number of bytes that the arguments ask for, if they ask plainly for new memory: SharedMemory(create=True, size=bytes), and
 * track, which is left NULL where it is not given. Else -1, without an exception. */
static Py_ssize_t
shared_memory_wish(struct shared_memory *self, PyObject *args, PyObject *kwargs, PyObject **track)
{
    const struct mpf_state *state = self->state;
    PyObject *given[3] = {NULL, NULL, NULL}; /* borrowed: name, create, size */
    Py_ssize_t positional = PyTuple_GET_SIZE(args), named = 0;
    if (positional > 3) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < positional; i++) {
        given[i] = PyTuple_GET_ITEM(args, i);
    }
    for (int i = (int)positional; kwargs != NULL && i < 3; i++) {
        given[i] = PyDict_GetItemWithError(kwargs, word(state, (enum word)(WORD_name + i)));
        named += given[i] != NULL;
    }
    *track = kwargs != NULL ? PyDict_GetItemWithError(kwargs, word(state, WORD_track)) : NULL;
    named += *track != NULL;
    bool is_all = named == (kwargs != NULL ? PyDict_GET_SIZE(kwargs) : 0) && !PyErr_Occurred();
    if (!is_all || (given[0] != NULL && given[0] != Py_None) || given[1] != Py_True || given[2] == NULL ||
        !PyLong_CheckExact(given[2]) || (*track != NULL && !PyBool_Check(*track))) {
        return -1;
    }
    Py_ssize_t bytes = PyLong_AsSsize_t(given[2]);
    return bytes > 0 ? bytes : -1;
}

/* Whether nothing that makes memory has been replaced. */
static bool
shared_memory_is_plain(struct shared_memory *self)
{
    const struct mpf_state *state = self->state;
    return state->shared_memory_known != NULL && (PyObject *)Py_TYPE(self) == known(state, KNOWN_CLASS) && self->mmap == Py_None &&
           self->fd < 0 && is_in(known(state, KNOWN_NAMESPACE), word(state, WORD__make_filename), known(state, KNOWN_MAKER));
}

static int
shared_memory_begin_slowly(PyObject *op, PyObject *args, PyObject *kwargs)
{
    PyErr_Clear();
    PyObject *begin = PyObject_GetAttrString(op, "_begin");
    PyObject *done = begin != NULL ? PyObject_Call(begin, args, kwargs) : NULL;
    Py_XDECREF(begin);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int
shared_memory_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    struct shared_memory *self = shared_memory_of(op);
    PyObject *track; /* borrowed */
    Py_ssize_t bytes = shared_memory_is_plain(self) ? shared_memory_wish(self, args, kwargs, &track) : -1;
    if (bytes < 0) {
        return shared_memory_begin_slowly(op, args, kwargs);
    }
    PyObject *attribute = PyObject_GetAttr(op, word(self->state, WORD__mode));
    long mode = attribute != NULL ? PyLong_AsLong(attribute) : -1;
    Py_XDECREF(attribute);
    if (mode == -1 && PyErr_Occurred()) {
        return -1;
    }
    return shared_memory_make(self, mode, bytes, track != NULL ? track : Py_True);
}

MPF_SHARED_INIT_METHOD(shared_memory_init)

static PyObject *
shared_memory_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    struct mpf_state *state = mpf_state_of_type(type);
    struct shared_memory *self = state != NULL ? (struct shared_memory *)type->tp_alloc(type, 0) : NULL;
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    self->name = Py_NewRef(Py_None);
    self->mmap = Py_NewRef(Py_None);
    self->buf = Py_NewRef(Py_None);
    self->track = Py_NewRef(Py_True);
    self->fd = -1;
    self->flags = O_RDWR;
    return (PyObject *)self;
}

/* ---- letting go ---- */

/* The reference in *slot, which the caller owns now; None is left there. NULL where there was None or nothing. */
static PyObject *
take(struct shared_memory *self, PyObject **slot)
{
    PyObject *taken = NULL;
    (void)self; /* where the GIL is the guard */
    MPF_GUARD(self);
    if (*slot != Py_None) {
        taken = *slot;
        *slot = Py_NewRef(Py_None);
    }
    MPF_UNGUARD();
    return taken;
}

/* Calls a method of an object that was taken from *slot (stolen; NULL: there was none), and puts it back after a failure.
 * 0, or -1 with an exception. */
static int
end_with(struct shared_memory *self, PyObject **slot, PyObject *object, enum word method)
{
    if (object == NULL) {
        return 0;
    }
    PyObject *done = PyObject_CallMethodNoArgs(object, word(self->state, method));
    if (done == NULL) {
        Py_XSETREF(*slot, object); /* the reference moves back */
        return -1;
    }
    Py_DECREF(done);
    Py_DECREF(object);
    return 0;
}

/* The descriptor, which the caller owns now. */
static int
take_descriptor(struct shared_memory *self)
{
    int fd;
    MPF_GUARD(self);
    fd = self->fd;
    self->fd = -1;
    MPF_UNGUARD();
    return fd;
}

/* The end of a mapping of this package: stolen, and given back where it has users. 0, or -1 with an exception. */
static int
close_mapping(struct shared_memory *self, PyObject *mapping)
{
    int fd = take_descriptor(self);
    int rc = mpf_mapping_close((struct mpf_mapping *)mapping, fd);
    if (rc == -EBUSY) {
        Py_XSETREF(self->mmap, mapping); /* the reference moves back */
    } else {
        Py_DECREF(mapping);
    }
    if (rc < 0) {
        self->fd = fd;
        mpf_mapping_fail_to_close(rc);
        return -1;
    }
    return 0;
}

static int
close_descriptor(struct shared_memory *self)
{
    int fd = take_descriptor(self);
    if (fd >= 0 && close(fd) < 0) {
        self->fd = fd;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

static PyObject *
shared_memory_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_memory *self = shared_memory_of(op);
    if (end_with(self, &self->buf, take(self, &self->buf), WORD_release) < 0) {
        return NULL;
    }
    PyObject *mapping = take(self, &self->mmap);
    int rc;
    if (mapping != NULL && Py_IS_TYPE(mapping, self->state->mapping_type)) {
        rc = close_mapping(self, mapping);
    } else {
        rc = end_with(self, &self->mmap, mapping, WORD_close);
        rc = rc == 0 ? close_descriptor(self) : rc;
    }
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static void
shared_memory_finalize(PyObject *op)
{
    struct shared_memory *self = shared_memory_of(op);
    if ((self->buf == Py_None || self->buf == NULL) && (self->mmap == Py_None || self->mmap == NULL) && self->fd < 0) {
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *done = PyObject_CallMethod(op, "close", NULL);
    if (done == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
        PyErr_Clear();
    } else if (done == NULL) {
        PyErr_WriteUnraisable(op);
    }
    Py_XDECREF(done);
    PyErr_Restore(type, value, traceback);
}

/* ---- destroying ---- */

/* The name as the kernel takes it, NULL where it is not plain. */
static const char *
plain_name(PyObject *name)
{
    if (name == NULL || !PyUnicode_CheckExact(name) || !PyUnicode_IS_ASCII(name)) {
        return NULL;
    }
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(name, &length);
    return text != NULL && length > 0 && strlen(text) == (size_t)length ? text : NULL;
}

static int
unlink_file(PyObject *name, const char *text)
{
    int error;
    do {
        Py_BEGIN_ALLOW_THREADS
        error = shm_unlink(text) < 0 ? errno : 0;
        Py_END_ALLOW_THREADS
    } while (error == EINTR && PyErr_CheckSignals() == 0);
    if (error != 0 && !PyErr_Occurred()) {
        errno = error;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
    }
    return error != 0 ? -1 : 0;
}

/* Has the tracker forget the name. 0, or -1 with an exception. */
static int
forget(struct shared_memory *self, const char *text)
{
    struct mpf_state *state = self->state;
    PyObject *tracker = known(state, KNOWN_TRACKER);
    if (PyDict_GET_SIZE(known(state, KNOWN_ELSEWHERE)) == 0 &&
        is_in(tracker, word(state, WORD_unregister), known(state, KNOWN_UNREGISTER)) &&
        mpf_names_forget_for(state, PyDict_GetItemWithError(tracker, word(state, WORD__resource_tracker)),
                             word(state, WORD__names), text)) {
        return 0;
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    PyObject *done = PyObject_CallOneArg(known(state, KNOWN_FORGET), self->name);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static PyObject *
shared_memory_unlink(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_memory *self = shared_memory_of(op);
    PyObject *name = Py_XNewRef(self->name);
    const char *text = self->state->shared_memory_known != NULL ? plain_name(name) : NULL;
    PyObject *done = NULL;
    if (text == NULL) {
        PyErr_Clear();
        done = PyObject_CallMethodNoArgs(op, word(self->state, WORD__unlink));
    } else if (unlink_file(name, text) == 0) {
        int tracked = self->track != NULL ? PyObject_IsTrue(self->track) : 0;
        done = tracked < 0 || (tracked && forget(self, text) < 0) ? NULL : Py_NewRef(Py_None);
    }
    Py_XDECREF(name);
    return done;
}

/* ---- the type ---- */

static int
shared_memory_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct shared_memory *self = shared_memory_of(op);
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->mmap);
    Py_VISIT(self->buf);
    Py_VISIT(self->track);
    return 0;
}

static int
shared_memory_clear(PyObject *op)
{
    struct shared_memory *self = shared_memory_of(op);
    Py_CLEAR(self->name);
    Py_CLEAR(self->buf);
    Py_CLEAR(self->mmap);
    Py_CLEAR(self->size);
    Py_CLEAR(self->track);
    return 0;
}

static void
shared_memory_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    shared_memory_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef shared_memory_methods[] = {
    MPF_SHARED_INIT_ENTRY(shared_memory_init, "name=None, create=False, size=0, *, track=True"),
    {"close", shared_memory_close, METH_NOARGS,
     "close($self)\n--\n\nLet go of the memory in this process; the block stays.  BufferError: somebody has a view of it."},
    {"unlink", shared_memory_unlink, METH_NOARGS,
     "unlink($self)\n--\n\n"
     "Destroy the block: nobody can attach to it any more, and it is gone when the last process lets go of it."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef shared_memory_members[] = {
    {"_name", Py_T_OBJECT_EX, offsetof(struct shared_memory, name), 0, NULL},
    {"_mmap", Py_T_OBJECT_EX, offsetof(struct shared_memory, mmap), 0, NULL},
    {"_buf", Py_T_OBJECT_EX, offsetof(struct shared_memory, buf), 0, NULL},
    {"_size", Py_T_OBJECT_EX, offsetof(struct shared_memory, size), 0, NULL},
    {"_track", Py_T_OBJECT_EX, offsetof(struct shared_memory, track), 0, NULL},
    {"_fd", Py_T_INT, offsetof(struct shared_memory, fd), 0, NULL},
    {"_flags", Py_T_INT, offsetof(struct shared_memory, flags), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot shared_memory_slots[] = {
    {Py_tp_new, shared_memory_new},
    {Py_tp_init, shared_memory_init},
    {Py_tp_finalize, shared_memory_finalize},
    {Py_tp_dealloc, shared_memory_dealloc},
    {Py_tp_traverse, shared_memory_traverse},
    {Py_tp_clear, shared_memory_clear},
    {Py_tp_methods, shared_memory_methods},
    {Py_tp_members, shared_memory_members},
    {0, NULL},
};

static PyType_Spec shared_memory_spec = {
    .name = "mpfast._core.SharedMemory",
    .basicsize = sizeof(struct shared_memory),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = shared_memory_slots,
};

static PyObject *
shared_memory_set_known(PyObject *module, PyObject *args)
{
    if (PyTuple_GET_SIZE(args) != KNOWN_COUNT || !PyDict_Check(PyTuple_GET_ITEM(args, KNOWN_NAMESPACE)) ||
        !PyDict_Check(PyTuple_GET_ITEM(args, KNOWN_TRACKER)) || !PyDict_Check(PyTuple_GET_ITEM(args, KNOWN_ELSEWHERE))) {
        PyErr_SetString(PyExc_TypeError, "_set_shared_memory() takes what shared_memory.c lists");
        return NULL;
    }
    Py_XSETREF(mpf_state_of(module)->shared_memory_known, Py_NewRef(args));
    Py_RETURN_NONE;
}

static PyMethodDef shared_memory_functions[] = {
    {"_set_shared_memory", shared_memory_set_known, METH_VARARGS,
     "_set_shared_memory($module, /, *known)\n--\n\nHave SharedMemory take its short ways where these are what is in use."},
    {NULL, NULL, 0, NULL},
};

/* New reference to the tuple of interned names. */
static PyObject *
shared_memory_intern(void)
{
    static const char *const texts[] = {
#define SHARED_MEMORY_TEXT(text) #text,
        SHARED_MEMORY_NAMES(SHARED_MEMORY_TEXT)
#undef SHARED_MEMORY_TEXT
    };
    PyObject *words = PyTuple_New(WORD_COUNT);
    for (Py_ssize_t i = 0; words != NULL && i < WORD_COUNT; i++) {
        PyObject *text = PyUnicode_InternFromString(texts[i]);
        if (text == NULL) {
            Py_CLEAR(words);
        } else {
            PyTuple_SET_ITEM(words, i, text); /* steals text */
        }
    }
    return words;
}

int
mpf_shared_memory_register(PyObject *module)
{
    struct mpf_state *state = mpf_state_of(module);
    state->shared_memory_words = shared_memory_intern();
    if (state->shared_memory_words == NULL || PyModule_AddFunctions(module, shared_memory_functions) < 0) {
        return -1;
    }
    return mpf_state_add_type(module, &shared_memory_spec, NULL, NULL);
}
