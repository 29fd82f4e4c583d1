/*
 * Purpose: writes and reads handles, the pickled form of shared objects.
 *
 * Layout of the bytes, native byte order (a handle never leaves the machine):
 *
 *     0        16      24          28    32      40          44  48
 *     | arena id | offset | generation | pid | ticket | descriptor | version |
 *
 * States: a handle that was dumped holds a ticket, which keeps the block alive; the first load uses the ticket up; later
 * loads of the same bytes work as long as somebody has the block. A handle for a child that is being started has
 * ticket 0, none: the popen keeps the block, so that it comes back when the child dies before it has loaded anything.
 *
 * Invariants: the descriptor of an arena is handed to one popen at most once, however many handles go with it: the
 * popen's duplicates are kept in its attribute `_mpfast_passed`, by arena id, and what it keeps, by arena, offset and
 * generation. Where a popen takes no attributes, each handle passes a duplicate and
 * has a ticket of its own. Whoever finds the arena mapped closes the duplicate it was given: only then is it certain to be
 * one (it is the same file), so that a number that was reused since is left alone.
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
#include "objects/types.h"

#define HANDLE_VERSION 1

struct handle_bytes {
    unsigned char id[16];
    uint64_t off;
    uint32_t generation;
    int32_t pid;
    uint64_t ticket; /* 0: none */
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

/* Whether `wrapper` is the class for the descriptors of spawned processes. What it holds, and all that it holds, is the
 * number that the child has the descriptor under; and the child imports a good deal to be told that by it. */
static int
handle_is_number(PyObject *wrapper)
{
    PyObject *name = PyType_Check(wrapper) ? PyObject_GetAttrString(wrapper, "__qualname__") : NULL;
    PyObject *module = name != NULL ? PyObject_GetAttrString(wrapper, "__module__") : NULL;
    int is = module != NULL && PyUnicode_Check(name) && PyUnicode_Check(module) &&
             PyUnicode_CompareWithASCIIString(name, "_DupFd") == 0 &&
             PyUnicode_CompareWithASCIIString(module, "multiprocessing.popen_spawn_posix") == 0;
    Py_XDECREF(module);
    Py_XDECREF(name);
    PyErr_Clear();
    return is;
}

/* New reference to popen.DupFd(popen.duplicate_for_child(fd)), or to the number in it; Py_None for a popen that cannot pass
 * descriptors. */
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
    if (number != NULL && handle_is_number(wrapper)) {
        duplicate = number;
    } else if (number != NULL) {
        duplicate = PyObject_CallFunctionObjArgs(wrapper, number, NULL);
        Py_DECREF(number);
    }
    Py_DECREF(wrapper);
    return duplicate;
}

/* Has the handle keep the block. 0 or -1 with an exception. */
static int
handle_lend(struct handle_bytes *bytes, const struct mpf_ref *ref)
{
    int error = mpf_block_lend(ref, &bytes->ticket);
    if (error < 0) {
        mpf_errors_raise(error);
        return -1;
    }
    return 0;
}

/* New reference to the dictionary of what a popen passes already, or Py_None where it takes no attributes. */
static PyObject *
handle_passed(PyObject *popen)
{
    PyObject *passed = PyObject_GetAttrString(popen, "_mpfast_passed");
    if (passed != NULL) {
        return passed;
    }
    PyErr_Clear();
    passed = PyDict_New();
    if (passed != NULL && PyObject_SetAttrString(popen, "_mpfast_passed", passed) < 0) {
        PyErr_Clear();
        Py_DECREF(passed);
        Py_RETURN_NONE;
    }
    return passed;
}

/* New reference to the duplicate of the arena's descriptor that popen passes, which `passed` knows from the second time on. */
static PyObject *
handle_pass_arena(PyObject *popen, PyObject *passed, const struct mpf_arena *arena, int fd)
{
    if (passed == Py_None) {
        return handle_duplicate(popen, fd);
    }
    PyObject *id = PyBytes_FromStringAndSize((const char *)arena->id, sizeof(arena->id));
    if (id == NULL) {
        return NULL;
    }
    PyObject *duplicate = Py_XNewRef(PyDict_GetItemWithError(passed, id)); /* this thread's alone: cannot change meanwhile */
    if (duplicate == NULL && !PyErr_Occurred()) {
        duplicate = handle_duplicate(popen, fd);
        if (duplicate != NULL && PyDict_SetItem(passed, id, duplicate) < 0) {
            Py_CLEAR(duplicate);
        }
    }
    Py_DECREF(id);
    return duplicate;
}

/* A loan: an object that has a reference to a block. */
struct loan_object {
    PyObject_HEAD
    struct mpf_ref ref;
};

static void
loan_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    mpf_block_unref(&((struct loan_object *)op)->ref);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot loan_slots[] = {
    {Py_tp_doc, "Keeps a shared object for a child that is being started."},
    {Py_tp_dealloc, loan_dealloc},
    {0, NULL},
};

static PyType_Spec loan_spec = {
    .name = "mpfast._core.Loan",
    .basicsize = sizeof(struct loan_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = loan_slots,
};

/* Has the popen keep the block until it is dropped itself. 0 or -1 with an exception. */
static int
handle_keep(struct mpf_state *state, PyObject *passed, const struct handle_bytes *bytes, const struct mpf_ref *ref)
{
    PyObject *key = PyBytes_FromStringAndSize((const char *)bytes, offsetof(struct handle_bytes, pid));
    if (key == NULL) {
        return -1;
    }
    int done = PyDict_Contains(passed, key);
    if (done == 0) {
        PyObject *loan = state->loan_type->tp_alloc(state->loan_type, 0);
        int error = loan != NULL ? mpf_block_ref(ref, &((struct loan_object *)loan)->ref) : 0;
        if (error < 0) {
            mpf_errors_raise(error);
        }
        done = loan != NULL && error == 0 ? PyDict_SetItem(passed, key, loan) : -1;
        Py_XDECREF(loan);
    }
    Py_DECREF(key);
    return done < 0 ? -1 : 0;
}

/* New reference to the handle for a child that is being started. */
static PyObject *
handle_dump_for_child(struct mpf_state *state, PyObject *popen, struct handle_bytes *bytes, const struct mpf_ref *ref)
{
    PyObject *handle = NULL, *duplicate = NULL;
    PyObject *passed = handle_passed(popen);
    if (passed == NULL || (duplicate = handle_pass_arena(popen, passed, ref->arena, bytes->fd)) == NULL) {
        goto done;
    }
    if (passed != Py_None && duplicate != Py_None ? handle_keep(state, passed, bytes, ref) < 0
                                                  : handle_lend(bytes, ref) < 0) {
        goto done;
    }
    handle = PyBytes_FromStringAndSize((const char *)bytes, sizeof(*bytes));
    if (handle != NULL && duplicate != Py_None) {
        int strict = atomic_load_explicit(&state->strict, memory_order_relaxed);
        handle = Py_BuildValue("(NOi)", handle, duplicate, strict);
    }
done:
    Py_XDECREF(duplicate);
    Py_XDECREF(passed);
    return handle;
}

/* ---- keepers ---- */

static _Thread_local struct mpf_keeper *handle_keeper; /* of the value that this thread encodes, NULL: none */

void
mpf_keeper_begin(struct mpf_keeper *keeper, struct mpf_arena *arena)
{
    *keeper = (struct mpf_keeper){.arena = arena, .up = handle_keeper};
    handle_keeper = keeper;
}

void
mpf_keeper_end(struct mpf_keeper *keeper)
{
    handle_keeper = keeper->up;
}

void
mpf_keeper_drop(struct mpf_keeper *keeper)
{
    while (keeper->count > 0) {
        mpf_block_unref(&keeper->refs[--keeper->count]);
    }
    PyMem_RawFree(keeper->refs);
    keeper->refs = NULL;
}

/* Has the keeper keep the block. 0 or -errno. */
static int
handle_keep_for(struct mpf_keeper *keeper, const struct mpf_ref *ref)
{
    for (unsigned i = 0; i < keeper->count; i++) {
        if (keeper->refs[i].off == ref->off) {
            return 0;
        }
    }
    if (keeper->count == keeper->room) {
        unsigned room = keeper->room != 0 ? 2 * keeper->room : 4;
        struct mpf_ref *refs = PyMem_RawRealloc(keeper->refs, room * sizeof(*refs));
        if (refs == NULL) {
            return -ENOMEM;
        }
        keeper->refs = refs;
        keeper->room = room;
    }
    int error = mpf_block_ref(ref, &keeper->refs[keeper->count]);
    keeper->count += error == 0;
    return error;
}

/* New reference to the handle of an object in a container. */
static PyObject *
handle_dump_kept(const struct handle_bytes *bytes, const struct mpf_ref *ref)
{
    int error = handle_keep_for(handle_keeper, ref);
    if (error < 0) {
        return mpf_errors_raise(error);
    }
    return PyBytes_FromStringAndSize((const char *)bytes, sizeof(*bytes));
}

PyObject *
mpf_handle_dump(struct mpf_state *state, const struct mpf_ref *ref)
{
    struct handle_bytes bytes = {.off = ref->off, .generation = ref->generation, .version = HANDLE_VERSION};
    memcpy(bytes.id, ref->arena->id, sizeof(bytes.id));
    bytes.fd = mpf_arena_descriptor(ref->arena);
    if (bytes.fd < 0) {
        return mpf_errors_raise(bytes.fd);
    }
    bytes.pid = (int32_t)getpid();
    if (handle_keeper != NULL && handle_keeper->arena == ref->arena) {
        return handle_dump_kept(&bytes, ref);
    }
    PyObject *popen = handle_spawning_popen();
    if (popen == NULL) {
        return NULL;
    }
    PyObject *handle = NULL;
    if (popen != Py_None) {
        handle = handle_dump_for_child(state, popen, &bytes, ref);
    } else if (handle_lend(&bytes, ref) == 0) {
        handle = PyBytes_FromStringAndSize((const char *)&bytes, sizeof(bytes));
    }
    Py_DECREF(popen);
    return handle;
}

int
mpf_handle_register(PyObject *module)
{
    return mpf_state_add_type(module, &loan_spec, NULL, &mpf_state_of(module)->loan_type);
}

/* The descriptor that came with a handle, -1 when it has none any more, -2 with an exception. */
static int
handle_detach(PyObject *duplicate)
{
    PyObject *number = PyLong_Check(duplicate) ? Py_NewRef(duplicate) : PyObject_CallMethod(duplicate, "detach", NULL);
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
