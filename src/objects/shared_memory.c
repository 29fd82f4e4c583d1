/*
 * Purpose: what SharedMemory does most: making new memory, attaching to some, letting go of it, destroying it.
 *
 * Layout: none of its own. The methods here are those of a class without fields, from which mpfast/shared_memory.py derives
 * SharedMemory: what an object has are the standard library's attributes, in its dict, and its class's where nothing was done.
 *
 * States: without memory -> open (`_mmap`, `_buf` and `_fd` are set) -> closed, which is without memory again. The name stays.
 *
 * Invariants: only what is plain to see is done here: for an object of mpfast's own class, new memory of any name, attaching to what
 * has a plain name, closing what was mapped here, destroying what has a plain name. Everything else (a subclass, a name for new
 * memory, other flags) goes to the functions in Python, and so does all where the program has replaced the maker of names or a
 * function of _posixshmem. A program that has replaced functions of the resource tracker has them called. Of several threads that
 * close an object one has claimed its mapping and takes the attributes, so that nobody closes a descriptor twice; the others find
 * nothing to do.
 *
 * Callers: Python code, attached to the interpreter.
 *
 * Death of the caller: between making the file and noting its name, the file stays, as with the standard library's; afterwards
 * the resource tracker destroys it.
 */
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "objects/mapping.h"
#include "objects/names.h"
#include "objects/shared.h"
#include "objects/types.h"
#include "platform/named.h"

#define ATTACHED_NAME_BYTES 256 /* longer ones are none */

/* What _set_shared_memory() was given. */
enum known {
    KNOWN_CLASS,      /* mpfast's own */
    KNOWN_BEGIN,      /* its methods in Python */
    KNOWN_CLOSE,
    KNOWN_UNLINK,
    KNOWN_NAMESPACE,  /* of multiprocessing.shared_memory */
    KNOWN_MAKER,      /* its _make_filename */
    KNOWN_SYSTEM,     /* the namespace of _posixshmem */
    KNOWN_OPEN,       /* its functions */
    KNOWN_UNLINK_FILE,
    KNOWN_TRACKER,    /* the namespace of multiprocessing.resource_tracker */
    KNOWN_REGISTER,   /* its functions */
    KNOWN_UNREGISTER,
    KNOWN_NOTE,       /* mpfast/_shared_memory_names.py: register, unregister, and a dict of the names that are not in the table */
    KNOWN_FORGET,
    KNOWN_ELSEWHERE,
    KNOWN_COUNT,
};

/* Interned names. */
#define SHARED_MEMORY_WORDS(X) \
    X(name) X(create) X(size) X(track) X(close) X(release) X(register) X(unregister) X(_make_filename) X(_resource_tracker) \
    X(_names) X(_fd) X(_mode) X(_flags) X(_name) X(_size) X(_mmap) X(_buf) X(_track) X(_prepend_leading_slash) \
    X(shm_open) X(shm_unlink)
enum word {
#define SHARED_MEMORY_WORD(text) WORD_##text,
    SHARED_MEMORY_WORDS(SHARED_MEMORY_WORD)
#undef SHARED_MEMORY_WORD
    WORD_COUNT,
};

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

/* The state behind an object. NULL with an exception where there is none, or nothing is known yet. */
static struct mpf_state *
state_of(PyObject *self)
{
    struct mpf_state *state = mpf_state_of_type(Py_TYPE(self));
    if (state != NULL && state->shared_memory_known == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "mpfast.shared_memory was not imported");
        return NULL;
    }
    return state;
}

static bool
is_own(const struct mpf_state *state, PyObject *self)
{
    return (PyObject *)Py_TYPE(self) == known(state, KNOWN_CLASS);
}

static PyObject *
get(const struct mpf_state *state, PyObject *self, enum word attribute)
{
    return PyObject_GetAttr(self, word(state, attribute));
}

static int
set(const struct mpf_state *state, PyObject *self, enum word attribute, PyObject *value)
{
    return PyObject_SetAttr(self, word(state, attribute), value);
}

/* Steals value, which may be NULL: then there is an exception. 0 or -1. */
static int
set_new(const struct mpf_state *state, PyObject *self, enum word attribute, PyObject *value)
{
    int rc = value != NULL ? set(state, self, attribute, value) : -1;
    Py_XDECREF(value);
    return rc;
}

/* The name as the kernel takes it, NULL where it is not plain. */
static const char *
plain_name(PyObject *name)
{
    if (!PyUnicode_CheckExact(name) || !PyUnicode_IS_ASCII(name)) {
        return NULL;
    }
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(name, &length);
    return text != NULL && length > 0 && strlen(text) == (size_t)length ? text : NULL;
}

/* ---- making ---- */

/* Has the tracker unlink the name at the end. 0, or -1 with an exception. */
static int
memory_note(struct mpf_state *state, PyObject *self, const struct mpf_named *made)
{
    PyObject *tracker = known(state, KNOWN_TRACKER);
    if (is_in(tracker, word(state, WORD_register), known(state, KNOWN_REGISTER)) &&
        mpf_names_note_for(state, PyDict_GetItemWithError(tracker, word(state, WORD__resource_tracker)), word(state, WORD__names),
                           word(state, WORD__fd), made->name, made->inode)) {
        return 0;
    }
    PyObject *name = PyErr_Occurred() ? NULL : get(state, self, WORD__name);
    PyObject *inode = name != NULL ? PyLong_FromUnsignedLongLong(made->inode) : NULL;
    PyObject *done = inode != NULL ? PyObject_CallFunctionObjArgs(known(state, KNOWN_NOTE), name, inode, NULL) : NULL;
    Py_XDECREF(name);
    Py_XDECREF(inode);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* Gives the object what is mapped: from then on close() and unlink() know it. 0, or -1 with an exception. */
static int
memory_take_over(const struct mpf_state *state, PyObject *self, const struct mpf_named *named, const char *name)
{
    PyObject *mapping = mpf_mapping_wrap(state->mapping_type, named);
    if (mapping == NULL || set_new(state, self, WORD__name, PyUnicode_FromString(name)) < 0 ||
        set_new(state, self, WORD__size, PyLong_FromSize_t(named->bytes)) < 0 ||
        set_new(state, self, WORD__buf, PyMemoryView_FromObject(mapping)) < 0 || set(state, self, WORD__mmap, mapping) < 0) {
        Py_XDECREF(mapping);
        return -1;
    }
    Py_DECREF(mapping);
    return set_new(state, self, WORD__fd, PyLong_FromLong(named->fd));
}

static int
memory_make(struct mpf_state *state, PyObject *self, long mode, Py_ssize_t bytes, PyObject *track)
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
    if (mpf_mapping_audit_size(made.fd, bytes) < 0) {
        munmap(made.base, made.bytes);
        mpf_named_discard(&made);
        return -1;
    }
    if (set_new(state, self, WORD__flags, PyLong_FromLong(O_CREAT | O_EXCL | O_RDWR)) < 0 ||
        (track != Py_True && set(state, self, WORD__track, track) < 0) || memory_take_over(state, self, &made, made.name) < 0) {
        mpf_named_discard(&made);
        return -1;
    }
    return track == Py_True ? memory_note(state, self, &made) : 0;
}

/* ---- attaching ---- */

/* Maps what has that name. 0, or -errno; the descriptor is closed then. */
static int
attach_map(struct mpf_named *named, const char *name, mode_t mode)
{
    named->fd = shm_open(name, O_RDWR, mode);
    if (named->fd < 0) {
        return -errno;
    }
    int rc = mpf_named_map(named);
    if (rc < 0) {
        close(named->fd);
    }
    return rc;
}

/* 0, or -1 with an exception. */
static int
memory_attach(struct mpf_state *state, PyObject *self, long mode, const char *name)
{
    char path[ATTACHED_NAME_BYTES];
    struct mpf_named named;
    int rc;
    PyOS_snprintf(path, sizeof path, "/%s", name);
    do {
        Py_BEGIN_ALLOW_THREADS
        rc = attach_map(&named, path, (mode_t)mode);
        Py_END_ALLOW_THREADS
    } while (rc == -EINTR && PyErr_CheckSignals() == 0);
    if (rc < 0) {
        errno = -rc;
        if (!PyErr_Occurred()) { /* by a signal handler */
            PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
        }
        return -1;
    }
    if (named.base == NULL) {
        PyErr_SetString(PyExc_ValueError, "cannot mmap an empty file");
        rc = -1;
    }
    rc = rc == 0 ? memory_take_over(state, self, &named, path) : rc;
    if (rc < 0) {
        close(named.fd);
    }
    return rc;
}

/* ---- beginning ---- */

/* The arguments name, create, size and track, borrowed; NULL where one is not given. Whether these are all. No exception is set. */
static bool
memory_arguments(const struct mpf_state *state, PyObject *args, PyObject *kwargs, PyObject *given[4])
{
    Py_ssize_t positional = PyTuple_GET_SIZE(args), named = 0;
    if (positional > 3) {
        return false;
    }
    for (Py_ssize_t i = 0; i < positional; i++) {
        given[i] = PyTuple_GET_ITEM(args, i);
    }
    for (int i = (int)positional; kwargs != NULL && i < 4; i++) {
        given[i] = PyDict_GetItemWithError(kwargs, word(state, (enum word)(WORD_name + i)));
        named += given[i] != NULL;
    }
    bool is_all = named == (kwargs != NULL ? PyDict_GET_SIZE(kwargs) : 0) && !PyErr_Occurred();
    PyErr_Clear();
    return is_all;
}

/* The number of bytes, where new memory of any name is asked for; else -1, without an exception. */
static Py_ssize_t
memory_wish(PyObject *const given[4])
{
    if ((given[0] != NULL && given[0] != Py_None) || given[1] != Py_True || given[2] == NULL || !PyLong_CheckExact(given[2]) ||
        (given[3] != NULL && !PyBool_Check(given[3]))) {
        return -1;
    }
    Py_ssize_t bytes = PyLong_AsSsize_t(given[2]);
    PyErr_Clear();
    return bytes > 0 ? bytes : -1;
}

/* The name, where attaching to memory is asked for that nobody is to track; else NULL, without an exception. */
static const char *
memory_target(const struct mpf_state *state, PyObject *self, PyObject *const given[4])
{
    if (given[0] == NULL || (given[1] != NULL && given[1] != Py_False) || given[2] != NULL || given[3] != NULL) {
        return NULL;
    }
    const char *name = plain_name(given[0]);
    PyObject *slash = name != NULL && strlen(name) < ATTACHED_NAME_BYTES - 1 ? get(state, self, WORD__prepend_leading_slash) : NULL;
    PyObject *flags = slash == Py_True ? get(state, self, WORD__flags) : NULL;
    bool is_usual = flags != NULL && PyLong_CheckExact(flags) && PyLong_AsLong(flags) == O_RDWR;
    Py_XDECREF(slash);
    Py_XDECREF(flags);
    PyErr_Clear();
    return is_usual ? name : NULL;
}

/* Whether it is an object of the usual class, without memory, and what makes and opens names is the usual. 1, 0 or -1. */
static int
memory_is_plain(const struct mpf_state *state, PyObject *self)
{
    if (!is_own(state, self) || !is_in(known(state, KNOWN_NAMESPACE), word(state, WORD__make_filename), known(state, KNOWN_MAKER)) ||
        !is_in(known(state, KNOWN_SYSTEM), word(state, WORD_shm_open), known(state, KNOWN_OPEN))) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *mapping = get(state, self, WORD__mmap);
    Py_XDECREF(mapping); /* only its address counts */
    return mapping == NULL ? -1 : mapping == Py_None;
}

static int
memory_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct mpf_state *state = state_of(self);
    PyObject *given[4] = {NULL, NULL, NULL, NULL}; /* borrowed */
    int is_plain = state != NULL ? memory_is_plain(state, self) : -1;
    if (is_plain < 0) {
        return -1;
    }
    is_plain = is_plain && memory_arguments(state, args, kwargs, given);
    Py_ssize_t bytes = is_plain ? memory_wish(given) : -1;
    const char *name = is_plain && bytes < 0 ? memory_target(state, self, given) : NULL;
    if (bytes < 0 && name == NULL) {
        PyObject *begin = PyMethod_New(known(state, KNOWN_BEGIN), self);
        PyObject *done = begin != NULL ? PyObject_Call(begin, args, kwargs) : NULL;
        Py_XDECREF(begin);
        Py_XDECREF(done);
        return done != NULL ? 0 : -1;
    }
    PyObject *attribute = get(state, self, WORD__mode);
    long mode = attribute != NULL ? PyLong_AsLong(attribute) : -1;
    Py_XDECREF(attribute);
    if (mode == -1 && PyErr_Occurred()) {
        return -1;
    }
    return name != NULL ? memory_attach(state, self, mode, name)
                        : memory_make(state, self, mode, bytes, given[3] != NULL ? given[3] : Py_True);
}

/* ---- letting go ---- */

/* What an open object had. */
struct held {
    PyObject *buf, *mapping, *fd; /* owned */
};

static void
held_drop(struct held *held)
{
    Py_XDECREF(held->buf);
    Py_XDECREF(held->mapping);
    Py_XDECREF(held->fd);
}

/* Gives back, with an exception set that stays, what could not be closed: all of it, or all but the view. */
static void
held_return(const struct mpf_state *state, PyObject *self, const struct held *held, bool with_view, bool with_mapping)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if ((with_view && set(state, self, WORD__buf, held->buf) < 0) ||
        (with_mapping && set(state, self, WORD__mmap, held->mapping) < 0) || set(state, self, WORD__fd, held->fd) < 0) {
        PyErr_Clear();
    }
    PyErr_Restore(type, value, traceback);
    mpf_mapping_unclaim((struct mpf_mapping *)held->mapping);
}

/* Takes them from the object: 1; 0 where it has not all of them, and 2 where another thread closes it: nothing is done then;
 * -1 with an exception. */
static int
held_take(const struct mpf_state *state, PyObject *self, struct held *held)
{
    held->buf = get(state, self, WORD__buf);
    held->mapping = held->buf != NULL ? get(state, self, WORD__mmap) : NULL;
    held->fd = held->mapping != NULL ? get(state, self, WORD__fd) : NULL;
    if (held->fd == NULL) {
        return -1;
    }
    if ((held->buf != Py_None && !PyMemoryView_Check(held->buf)) || !Py_IS_TYPE(held->mapping, state->mapping_type) ||
        !PyLong_CheckExact(held->fd) || mpf_mapping_is_closed((struct mpf_mapping *)held->mapping)) {
        return 0;
    }
    if (!mpf_mapping_claim((struct mpf_mapping *)held->mapping)) {
        return 2;
    }
    /* The descriptor first and the view last: who finds some of them gone, and so leaves the rest to the function in Python, finds
     * there no descriptor to close, and no mapping whose view is not released. */
    if (set_new(state, self, WORD__fd, PyLong_FromLong(-1)) < 0 || set(state, self, WORD__mmap, Py_None) < 0 ||
        set(state, self, WORD__buf, Py_None) < 0) {
        held_return(state, self, held, true, true);
        return -1;
    }
    return 1;
}

/* 0, or -1 with an exception. */
static int
held_close(const struct mpf_state *state, PyObject *self, const struct held *held)
{
    if (held->buf != Py_None) { /* it is None after a close that failed because the mapping has other views */
        PyObject *released = PyObject_CallMethodNoArgs(held->buf, word(state, WORD_release));
        if (released == NULL) {
            held_return(state, self, held, true, true);
            return -1;
        }
        Py_DECREF(released);
    }
    int rc = mpf_mapping_close((struct mpf_mapping *)held->mapping, (int)PyLong_AsLong(held->fd));
    if (rc < 0) {
        mpf_mapping_fail_to_close(rc);
        held_return(state, self, held, false, rc == -EBUSY);
        return -1;
    }
    return 0;
}

static PyObject *
memory_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct mpf_state *state = state_of(self);
    if (state == NULL) {
        return NULL;
    }
    struct held held = {NULL, NULL, NULL};
    int taken = is_own(state, self) ? held_take(state, self, &held) : 0;
    int rc = taken == 1 ? held_close(state, self, &held) : taken < 0 ? -1 : 0;
    held_drop(&held);
    if (rc < 0) {
        return NULL;
    }
    return taken > 0 ? Py_NewRef(Py_None) : PyObject_CallOneArg(known(state, KNOWN_CLOSE), self);
}

/* Whether there is nothing to let go of, and nobody who wants to be asked. */
static bool
memory_is_closed(const struct mpf_state *state, PyObject *self)
{
    if (!is_own(state, self)) {
        return false;
    }
    PyObject *mapping = get(state, self, WORD__mmap), *fd = mapping == Py_None ? get(state, self, WORD__fd) : NULL;
    bool is_closed = fd != NULL && PyLong_CheckExact(fd) && PyLong_AsLong(fd) == -1;
    Py_XDECREF(mapping);
    Py_XDECREF(fd);
    PyErr_Clear();
    return is_closed;
}

static void
memory_finalize(PyObject *self)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    struct mpf_state *state = state_of(self);
    if (state != NULL && !memory_is_closed(state, self)) {
        PyObject *done = PyObject_CallMethodNoArgs(self, word(state, WORD_close));
        if (done == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear();
        }
        Py_XDECREF(done);
    }
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(self);
    }
    PyErr_Restore(type, value, traceback);
}

/* ---- destroying ---- */

/* 0, or -1 with an exception. */
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
memory_forget(struct mpf_state *state, PyObject *name, const char *text)
{
    PyObject *tracker = known(state, KNOWN_TRACKER);
    if (PyDict_GET_SIZE(known(state, KNOWN_ELSEWHERE)) == 0 &&
        is_in(tracker, word(state, WORD_unregister), known(state, KNOWN_UNREGISTER)) &&
        mpf_names_forget_for(state, PyDict_GetItemWithError(tracker, word(state, WORD__resource_tracker)),
                             word(state, WORD__names), text)) {
        return 0;
    }
    PyObject *done = PyErr_Occurred() ? NULL : PyObject_CallOneArg(known(state, KNOWN_FORGET), name);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* As unlink(), of an object that has that name. 0, or -1 with an exception. */
static int
memory_unlink_named(struct mpf_state *state, PyObject *self, PyObject *name, const char *text)
{
    if (unlink_file(name, text) < 0) {
        return -1;
    }
    PyObject *track = get(state, self, WORD__track);
    int tracked = track != NULL ? PyObject_IsTrue(track) : -1;
    Py_XDECREF(track);
    return tracked > 0 ? memory_forget(state, name, text) : tracked;
}

static PyObject *
memory_unlink(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct mpf_state *state = state_of(self);
    if (state == NULL) {
        return NULL;
    }
    PyObject *name = get(state, self, WORD__name);
    if (name == NULL) {
        return NULL;
    }
    bool is_usual = is_own(state, self) &&
                    is_in(known(state, KNOWN_SYSTEM), word(state, WORD_shm_unlink), known(state, KNOWN_UNLINK_FILE));
    const char *text = is_usual ? plain_name(name) : NULL;
    PyObject *done;
    if (text == NULL) {
        PyErr_Clear();
        done = PyObject_CallOneArg(known(state, KNOWN_UNLINK), self);
    } else {
        done = memory_unlink_named(state, self, name, text) == 0 ? Py_NewRef(Py_None) : NULL;
    }
    Py_DECREF(name);
    return done;
}

/* ---- the type ---- */

MPF_SHARED_INIT_METHOD(memory_init)

static PyMethodDef memory_methods[] = {
    MPF_SHARED_INIT_ENTRY(memory_init, "name=None, create=False, size=0, *, track=True"),
    {"close", memory_close, METH_NOARGS,
     "close($self)\n--\n\nLet go of the memory in this process; the block stays.  BufferError: somebody has a view of it."},
    {"unlink", memory_unlink, METH_NOARGS,
     "unlink($self)\n--\n\n"
     "Destroy the block: nobody can attach to it any more, and it is gone when the last process lets go of it."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot memory_slots[] = {
    {Py_tp_init, memory_init},
    {Py_tp_finalize, memory_finalize},
    {Py_tp_methods, memory_methods},
    {0, NULL},
};

static PyType_Spec memory_spec = {
    .name = "mpfast._core.SharedMemory",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = memory_slots,
};

static PyObject *
memory_set_known(PyObject *module, PyObject *args)
{
    if (PyTuple_GET_SIZE(args) != KNOWN_COUNT || !PyDict_Check(PyTuple_GET_ITEM(args, KNOWN_NAMESPACE)) ||
        !PyDict_Check(PyTuple_GET_ITEM(args, KNOWN_SYSTEM)) || !PyDict_Check(PyTuple_GET_ITEM(args, KNOWN_TRACKER)) ||
        !PyDict_Check(PyTuple_GET_ITEM(args, KNOWN_ELSEWHERE))) {
        PyErr_SetString(PyExc_TypeError, "_set_shared_memory() takes what shared_memory.c lists");
        return NULL;
    }
    Py_XSETREF(mpf_state_of(module)->shared_memory_known, Py_NewRef(args));
    Py_RETURN_NONE;
}

static PyMethodDef memory_functions[] = {
    {"_set_shared_memory", memory_set_known, METH_VARARGS,
     "_set_shared_memory($module, /, *known)\n--\n\nSay what SharedMemory is made of in Python, and what it takes for usual."},
    {NULL, NULL, 0, NULL},
};

/* New reference to the tuple of interned names. */
static PyObject *
memory_intern(void)
{
    static const char *const texts[] = {
#define SHARED_MEMORY_TEXT(text) #text,
        SHARED_MEMORY_WORDS(SHARED_MEMORY_TEXT)
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
    state->shared_memory_words = memory_intern();
    if (state->shared_memory_words == NULL || PyModule_AddFunctions(module, memory_functions) < 0) {
        return -1;
    }
    return mpf_state_add_type(module, &memory_spec, NULL, NULL);
}
