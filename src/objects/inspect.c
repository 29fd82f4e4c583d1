/*
 * Purpose: functions of the module about the process and its arena: leave(), stats(), references(), probe().
 *
 * Layout, states: none of its own.
 *
 * Invariants: none of them creates an arena.
 *
 * Callers: Python code, attached to the interpreter. mpf_participant_leave_all also runs at exit(), without an interpreter.
 *
 * Death of the caller: nothing is shared but what the layers below answer for.
 */
#include "objects/errors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memory/block.h"
#include "memory/participant.h"
#include "objects/shared.h"
#include "objects/state.h"
#include "objects/types.h"
#include "platform/futex.h"
#include "platform/memfd.h"

PyDoc_STRVAR(leave_doc,
"leave($module, /)\n--\n\n"
"Say that this process is about to end in order: what it holds stays held, as in the stdlib.\n\n"
"A process that ends without having said so counts as killed.  exit() says it; os._exit() does not.");

static PyObject *
inspect_leave(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    mpf_participant_leave_all();
    Py_RETURN_NONE;
}

static const char *const inspect_type_names[MPF_BLOCK_TYPES] = {
    [MPF_BLOCK_RAW] = "raw",
    [MPF_BLOCK_MUTEX] = "lock",
    [MPF_BLOCK_RMUTEX] = "rlock",
    [MPF_BLOCK_SEMAPHORE] = "semaphore",
    [MPF_BLOCK_BOUNDED_SEMAPHORE] = "bounded semaphore",
    [MPF_BLOCK_CONDITION] = "condition",
    [MPF_BLOCK_EVENT] = "event",
    [MPF_BLOCK_BARRIER] = "barrier",
    [MPF_BLOCK_TABLE] = "table",
    [MPF_BLOCK_QUEUE] = "queue",
    [MPF_BLOCK_PIPE] = "pipe",
    [MPF_BLOCK_MESSAGE] = "message",
    [MPF_BLOCK_POOL] = "pool",
    [MPF_BLOCK_DICT] = "dict",
    [MPF_BLOCK_LIST] = "list",
    [MPF_BLOCK_BODY] = "container body",
    [MPF_BLOCK_CELL] = "container cell",
    [MPF_BLOCK_LINKED] = "container cell with links",
};

/* New reference to {name of the type: number of live blocks}, without those that have none. */
static PyObject *
inspect_count_blocks(const struct mpf_block_stats *stats)
{
    PyObject *blocks = PyDict_New();
    for (int type = 0; blocks != NULL && type < MPF_BLOCK_TYPES; type++) {
        if (stats->blocks[type] == 0 || inspect_type_names[type] == NULL) {
            continue;
        }
        PyObject *count = PyLong_FromUnsignedLongLong(stats->blocks[type]);
        if (count == NULL || PyDict_SetItemString(blocks, inspect_type_names[type], count) < 0) {
            Py_CLEAR(blocks);
        }
        Py_XDECREF(count);
    }
    return blocks;
}

PyDoc_STRVAR(stats_doc,
"stats($module, /)\n--\n\n"
"What is in this program's shared memory, after the dead have been reaped: a dict.\n\n"
"blocks: {type: live blocks}; bytes: in live blocks, with their headers; committed: bytes of real memory;\n"
"references: of all processes.");

static PyObject *
inspect_stats(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    struct mpf_block_stats stats = {0};
    struct mpf_arena *arena = mpf_arena_home_if_any();
    if (arena != NULL) {
        (void)mpf_participant_reap(arena);
        mpf_block_stats(arena, &stats);
    }
    PyObject *blocks = inspect_count_blocks(&stats);
    if (blocks == NULL) {
        return NULL;
    }
    return Py_BuildValue("{s:N,s:K,s:K,s:K}", "blocks", blocks, "bytes", (unsigned long long)stats.bytes, "committed",
                         (unsigned long long)stats.committed, "references", (unsigned long long)stats.references);
}

PyDoc_STRVAR(references_doc,
"references($module, event, /)\n--\n\n"
"How many references to the Event there are in all processes, after the dead have been reaped: one for each of its objects, and\n"
"one for each pickle of it that was not loaded yet.");

static PyObject *
inspect_references(PyObject *module, PyObject *object)
{
    if (!PyObject_TypeCheck(object, mpf_state_of(module)->event_type)) {
        return PyErr_Format(PyExc_TypeError, "an Event is needed, not %.200s", Py_TYPE(object)->tp_name);
    }
    MPF_SHARED_CHECK(object);
    const struct mpf_shared *event = (const struct mpf_shared *)object;
    (void)mpf_participant_reap(event->ref.arena);
    return PyLong_FromUnsignedLong(mpf_block_references(&event->ref));
}

/* Adds name: (needed, reason) to the answer of probe(). */
static int
inspect_add(PyObject *answer, const char *name, PyObject *needed, int error)
{
    PyObject *entry = Py_BuildValue("(Os)", needed, error < 0 ? strerror(-error) : "");
    int done = entry != NULL ? PyDict_SetItemString(answer, name, entry) : -1;
    Py_XDECREF(entry);
    return done;
}

/* 0, or why a shared file cannot be made here, as -errno. */
static int
inspect_try_memfd(void)
{
    struct mpf_memfd file;
    int error = mpf_memfd_create(1 << 16, 1 << 16, &file);
    if (error == 0) {
        mpf_memfd_close(&file);
    }
    return error;
}

PyDoc_STRVAR(probe_doc,
"probe($module, /)\n--\n\n"
"Ask the kernel for what mpfast uses: {feature: (needed, reason)}, with reason '' for a feature that is there.");

static PyObject *
inspect_probe(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    /* futex_waitv on a word that differs answers EAGAIN at once where it exists */
    static const _Atomic uint32_t word = 1;
    const struct mpf_futex_target target = {&word, 0};
    int many = mpf_futex_wait_many(&target, 1, 0);
    PyObject *answer = PyDict_New();
    if (answer == NULL || inspect_add(answer, "memfd", Py_True, inspect_try_memfd()) < 0 ||
        inspect_add(answer, "futex_waitv", Py_False, many == -EAGAIN || many == -ETIMEDOUT ? 0 : many) < 0) {
        Py_XDECREF(answer);
        return NULL;
    }
    return answer;
}

static PyMethodDef inspect_functions[] = {
    {"leave", inspect_leave, METH_NOARGS, leave_doc},
    {"stats", inspect_stats, METH_NOARGS, stats_doc},
    {"references", inspect_references, METH_O, references_doc},
    {"probe", inspect_probe, METH_NOARGS, probe_doc},
    {NULL, NULL, 0, NULL},
};

int
mpf_inspect_register(PyObject *module)
{
    static atomic_flag registered = ATOMIC_FLAG_INIT;
    /* exit() runs after the interpreter is gone, so that its last objects are still counted as this process's */
    if (!atomic_flag_test_and_set(&registered) && atexit(mpf_participant_leave_all) != 0) {
        mpf_errors_raise(-ENOMEM);
        return -1;
    }
    return PyModule_AddFunctions(module, inspect_functions);
}
