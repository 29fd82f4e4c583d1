/*
 * Purpose: writes and reads handles, the pickled form of shared objects.
 *
 * Layout of the bytes, native byte order (a handle never leaves the machine):
 *
 *     0        16      24          28    32      40          44  48
 *     | arena id | offset | generation | pid | ticket | descriptor | version |
 *
 * States: a handle that was dumped holds a ticket, which keeps the block alive; the first load uses the ticket up; later
 * loads of the same bytes work as long as somebody has the block.
 *
 * Invariants: the descriptor of an arena is handed to one popen at most once, however many handles go with it: the
 * popen's duplicates are kept in its attribute `_mpfast_arenas`, by arena id. Where a popen takes no attributes, each
 * handle passes one of its own. Whoever finds the arena mapped closes the duplicate it was given: only then is it
 * certain to be one (it is the same file), so that a number that was reused since is left alone.
 *
 * Callers: __getstate__ and __setstate__ of the types, attached to the interpreter.
 *
 * Death of the caller: a ticket whose lender dies before the handle was loaded comes back with the lender's references.
 */
#include "objects/handle.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "objects/errors.h"

#define HANDLE_VERSION 1

struct handle_bytes {
    unsigned char id[16];
    uint64_t off;
    uint32_t generation;
    int32_t pid;
    uint64_t ticket;
    int32_t fd;
    uint32_t version;
};

/* New reference to the popen of the child that this thread is starting, Py_None when there is none; NULL: exception. */
static PyObject *
handle_spawning_popen(void)
{
    PyObject *context = PyImport_ImportModule("multiprocessing.context");
    if (context == NULL) {
        return NULL;
    }
    PyObject *popen = PyObject_CallMethod(context, "get_spawning_popen", NULL);
    Py_DECREF(context);
    return popen;
}

/* New reference to popen.DupFd(popen.duplicate_for_child(fd)); Py_None for a popen that cannot pass descriptors. */
static PyObject *
handle_duplicate(PyObject *popen, int fd)
{
    PyObject *wrapper = PyObject_GetAttrString(popen, "DupFd");
    if (wrapper == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return NULL;
        }
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    PyObject *duplicate = NULL;
    PyObject *number = PyObject_CallMethod(popen, "duplicate_for_child", "i", fd);
    if (number != NULL) {
        duplicate = PyObject_CallFunctionObjArgs(wrapper, number, NULL);
        Py_DECREF(number);
    }
    Py_DECREF(wrapper);
    return duplicate;
}

/* New reference to the dictionary of what a popen passes already, or Py_None where it takes no attributes. */
static PyObject *
handle_passed_arenas(PyObject *popen)
{
    PyObject *passed = PyObject_GetAttrString(popen, "_mpfast_arenas");
    if (passed != NULL) {
        return passed;
    }
    PyErr_Clear();
    passed = PyDict_New();
    if (passed != NULL && PyObject_SetAttrString(popen, "_mpfast_arenas", passed) < 0) {
        PyErr_Clear();
        Py_DECREF(passed);
        Py_RETURN_NONE;
    }
    return passed;
}

/* New reference to the duplicate of the arena's descriptor that popen passes. */
static PyObject *
handle_pass_arena(PyObject *popen, const struct mpf_arena *arena, int fd)
{
    PyObject *duplicate = NULL;
    PyObject *passed = handle_passed_arenas(popen);
    if (passed == NULL || passed == Py_None) {
        Py_XDECREF(passed);
        return passed == NULL ? NULL : handle_duplicate(popen, fd);
    }
    PyObject *id = PyBytes_FromStringAndSize((const char *)arena->id, sizeof(arena->id));
    if (id != NULL) {
        duplicate = PyDict_GetItemWithError(passed, id); /* borrowed; the dictionary belongs to this thread's popen */
        Py_XINCREF(duplicate);
        if (duplicate == NULL && !PyErr_Occurred()) {
            duplicate = handle_duplicate(popen, fd);
            if (duplicate != NULL && PyDict_SetItem(passed, id, duplicate) < 0) {
                Py_CLEAR(duplicate);
            }
        }
        Py_DECREF(id);
    }
    Py_DECREF(passed);
    return duplicate;
}

PyObject *
mpf_handle_dump(struct mpf_state *state, const struct mpf_ref *ref)
{
    PyObject *popen = handle_spawning_popen();
    if (popen == NULL) {
        return NULL;
    }
    PyObject *handle = NULL, *duplicate = NULL;
    struct handle_bytes bytes = {.off = ref->off, .generation = ref->generation, .version = HANDLE_VERSION};
    memcpy(bytes.id, ref->arena->id, sizeof(bytes.id));
    int fd = mpf_arena_descriptor(ref->arena);
    if (fd < 0) {
        mpf_errors_raise(fd);
        goto done;
    }
    bytes.fd = fd;
    bytes.pid = (int32_t)getpid();
    if (popen != Py_None && (duplicate = handle_pass_arena(popen, ref->arena, fd)) == NULL) {
        goto done;
    }
    int error = mpf_block_lend(ref, &bytes.ticket);
    if (error < 0) {
        mpf_errors_raise(error);
        goto done;
    }
    handle = PyBytes_FromStringAndSize((const char *)&bytes, sizeof(bytes));
    if (handle != NULL && duplicate != NULL && duplicate != Py_None) {
        int strict = atomic_load_explicit(&state->strict, memory_order_relaxed);
        PyObject *extended = Py_BuildValue("(OOi)", handle, duplicate, strict);
        Py_SETREF(handle, extended);
    }
done:
    Py_XDECREF(duplicate);
    Py_DECREF(popen);
    return handle;
}

/* The descriptor that came with a handle, -1 when it has none any more, -2 with an exception. */
static int
handle_detach(PyObject *duplicate)
{
    PyObject *number = PyObject_CallMethod(duplicate, "detach", NULL);
    if (number == NULL) {
        return -2;
    }
    long fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred()) {
        return -2;
    }
    return fd >= 0 && fd <= INT32_MAX ? (int)fd : -1;
}

static void
handle_close_duplicate(struct mpf_arena *arena, int fd)
{
    struct stat ours, theirs;
    int own = mpf_arena_descriptor(arena);
    if (own >= 0 && own != fd && fstat(own, &ours) == 0 && fstat(fd, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
        ours.st_ino == theirs.st_ino) {
        close(fd);
    }
}

int
mpf_handle_load(struct mpf_state *state, PyObject *handle, enum mpf_block_type type, struct mpf_ref *ref)
{
    PyObject *raw = handle; /* borrowed */
    int fd = -1;
    if (PyTuple_Check(handle)) {
        PyObject *duplicate; /* borrowed */
        int strict;
        if (!PyArg_ParseTuple(handle, "OOi;handle of a shared object expected", &raw, &duplicate, &strict)) {
            return -1;
        }
        if ((fd = handle_detach(duplicate)) == -2) {
            return -1;
        }
        if (strict) {
            atomic_store_explicit(&state->strict, 1, memory_order_relaxed);
        }
    }
    struct handle_bytes bytes;
    if (!PyBytes_Check(raw)) {
        PyErr_Format(PyExc_TypeError, "handle of a shared object expected, not '%s'", Py_TYPE(raw)->tp_name);
        return -1;
    }
    if (PyBytes_GET_SIZE(raw) != sizeof(bytes)) {
        PyErr_SetString(PyExc_ValueError, "not a handle of a shared object");
        return -1;
    }
    memcpy(&bytes, PyBytes_AS_STRING(raw), sizeof(bytes));
    if (bytes.version != HANDLE_VERSION) {
        PyErr_SetString(PyExc_ValueError, "the shared object belongs to another version of mpfast");
        return -1;
    }
    struct mpf_arena *arena;
    int error = mpf_arena_find(bytes.id, fd, bytes.pid, bytes.fd, &arena);
    if (error == 0 && fd >= 0) {
        handle_close_duplicate(arena, fd);
    }
    if (error == 0) {
        error = mpf_block_attach(arena, bytes.off, bytes.generation, type, bytes.ticket, ref);
    }
    if (error == -EINVAL) {
        PyErr_SetString(PyExc_ValueError, "the handle names a shared object of another type");
        return -1;
    }
    if (error < 0) {
        mpf_errors_raise(error);
        return -1;
    }
    return 0;
}
