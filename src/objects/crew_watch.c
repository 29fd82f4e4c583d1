/*
 * Purpose: what the parent knows of a crew's workers, and what it does when one ends or takes too long.
 *
 * Layout: the workers' slots are the engine's (engine/roster.h).
 *
 * States of a slot: free -> starting (add_worker) -> working -> leaving; free again after lost().
 *
 * Invariants: lost() hands out every result of the worker before it says what was lost, so no task is both answered and lost.
 *
 * Callers: attached to the interpreter, as a rule the supervising thread.
 *
 * Death of the caller: the parent is gone, and the crew with it.
 */
#include <errno.h>
#include <time.h>

#include "memory/participant.h"
#include "objects/crew.h"
#include "objects/errors.h"
#include "objects/guard.h"
#include "platform/clock.h"

#define WATCH_END_NS (1000 * 1000 * 1000)
#define WATCH_PAUSE_NS (500 * 1000)

const char mpf_crew_object_add_worker_doc[] = PyDoc_STR(
    "add_worker($self, /)\n--\n\n"
    "A slot for a worker that is to be started.  Raises RuntimeError when there are as many as the crew may have.");
const char mpf_crew_object_worker_doc[] = PyDoc_STR(
    "worker($self, slot, /)\n--\n\n"
    "Returns (pid, state, tasks, ordinal, seconds).\n\n"
    "pid: 0 before it has started.  state: 'starting', 'idle', 'busy', 'leaving', 'gone'.  tasks: that it has taken so far.\n"
    "ordinal: of the one it is at, or None; seconds: how long it has been at it.");
const char mpf_crew_object_dismiss_doc[] = PyDoc_STR(
    "dismiss($self, slot, /)\n--\n\nHave the worker leave after the task it is at.");
const char mpf_crew_object_lost_doc[] = PyDoc_STR(
    "lost($self, slot, /)\n--\n\n"
    "The worker's process has ended: deliver its last results, free the slot.\n\n"
    "Returns a list of what it had taken and not answered: (ordinal, receiver, piece number or None, description).");
const char mpf_crew_object_overdue_doc[] = PyDoc_STR(
    "overdue($self, /)\n--\n\n"
    "Returns (list of (slot, ordinal), seconds): tasks that run longer than their timeout, and when to ask again.\n\n"
    "A worker whose task is listed cannot answer any more: end its process.  Seconds is None while no task has a timeout.");

/* 0 or -1 with an exception. */
static int
watch_parse_slot(PyObject *given, uint32_t *slot)
{
    unsigned long value = PyLong_AsUnsignedLong(given);
    if (value == (unsigned long)-1 && PyErr_Occurred()) {
        return -1;
    }
    if (value >= MPF_ROSTER_MAX) {
        PyErr_SetString(PyExc_ValueError, "there is no such slot");
        return -1;
    }
    *slot = (uint32_t)value;
    return 0;
}

PyObject *
mpf_crew_object_add_worker(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    uint32_t slot;
    int rc = -E2BIG;
    MPF_CREW_CHECK(op);
    MPF_GUARD(self);
    if (self->slots < self->workers) {
        rc = mpf_crew_enlist(&self->crew, &slot);
        self->slots += rc == 0;
    }
    MPF_UNGUARD();
    if (rc == -E2BIG) {
        PyErr_Format(PyExc_RuntimeError, "the crew has all of its %u workers", self->workers);
        return NULL;
    }
    if (rc < 0) {
        return mpf_errors_raise(rc);
    }
    return PyLong_FromUnsignedLong(slot);
}

static const char *
watch_state(const struct mpf_crew_worker *worker)
{
    switch (worker->state) {
    case MPF_ROSTER_STARTING:
        return "starting";
    case MPF_ROSTER_WORKING:
        return worker->dead ? "gone" : worker->ticket != 0 ? "busy" : "idle";
    case MPF_ROSTER_LEAVING:
        return worker->dead ? "gone" : "leaving";
    default:
        return "gone";
    }
}

PyObject *
mpf_crew_object_worker(PyObject *op, PyObject *given)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    struct mpf_crew_worker worker;
    uint32_t slot;
    int rc;
    MPF_CREW_CHECK(op);
    if (watch_parse_slot(given, &slot) < 0) {
        return NULL;
    }
    rc = mpf_crew_look(&self->crew, slot, &worker);
    if (rc < 0) {
        PyErr_SetString(PyExc_ValueError, "there is no such slot");
        return NULL;
    }
    unsigned long long tasks = worker.tasks, ticket = worker.ticket;
    if (worker.ticket == 0) {
        return Py_BuildValue("isKOO", (int)worker.pid, watch_state(&worker), tasks, Py_None, Py_None);
    }
    int64_t ran = worker.started != 0 ? mpf_clock_now() - worker.started : 0;
    return Py_BuildValue("isKKd", (int)worker.pid, watch_state(&worker), tasks, ticket, (double)(ran > 0 ? ran : 0) / 1e9);
}

PyObject *
mpf_crew_object_dismiss(PyObject *op, PyObject *given)
{
    uint32_t slot;
    MPF_CREW_CHECK(op);
    if (watch_parse_slot(given, &slot) < 0) {
        return NULL;
    }
    mpf_crew_dismiss(&mpf_crew_object_of(op)->crew, slot);
    Py_RETURN_NONE;
}

/* ---- deaths ---- */

/* What to call the function in an error: module.qualname, or what it is. New reference or NULL. */
static PyObject *
watch_name(PyObject *func)
{
    if (func == NULL) {
        return PyUnicode_FromString("a task");
    }
    PyObject *module = PyObject_GetAttrString(func, "__module__");
    PyObject *name = module != NULL && PyUnicode_Check(module) ? PyObject_GetAttrString(func, "__qualname__") : NULL;
    PyObject *whole = NULL;
    if (name != NULL && PyUnicode_Check(name)) {
        whole = PyUnicode_FromFormat("%U.%U", module, name);
    }
    Py_XDECREF(module);
    Py_XDECREF(name);
    if (whole == NULL) {
        PyErr_Clear();
        whole = PyUnicode_FromFormat("a call of %s", Py_TYPE(func)->tp_name);
    }
    return whole;
}

/* New reference to the description of a task, or NULL. */
static PyObject *
watch_describe(PyObject *receiver, int64_t index)
{
    struct mpf_receiver *base = mpf_receiver_of(receiver);
    PyObject *func;
    Py_ssize_t chunksize;
    MPF_GUARD(base);
    func = Py_XNewRef(base->func);
    chunksize = base->chunksize;
    MPF_UNGUARD();
    PyObject *name = watch_name(func);
    Py_XDECREF(func);
    if (name == NULL || index == MPF_RECEIVER_SINGLE || chunksize < 1) {
        return name;
    }
    long long from = index * chunksize;
    PyObject *whole = chunksize == 1 ? PyUnicode_FromFormat("%U, item %lld", name, from)
                                     : PyUnicode_FromFormat("%U, items %lld-%lld", name, from, from + chunksize - 1);
    Py_DECREF(name);
    return whole;
}

/* 1: *lost is moved to the list of the lost, *receiver is a reference; 0: it held nothing; -errno. */
static int
watch_take_lost(struct mpf_crew_object *self, uint32_t slot, struct mpf_crew_lost *lost, PyObject **receiver, int64_t *index)
{
    int rc;
    *receiver = NULL;
    MPF_GUARD(self);
    rc = mpf_crew_lost(&self->crew, slot, lost);
    if (rc >= 0) {
        self->slots--;
    }
    if (rc > 0) {
        struct mpf_crew_entry *entry = (struct mpf_crew_entry *)(uintptr_t)lost->cookie;
        mpf_crew_entry_remove(&self->entries, entry);
        if (entry->receiver == NULL) { /* failed before: nobody asks for it */
            mpf_crew_settle(&self->crew, lost->ticket);
            (void)mpf_crew_entry_forget(self, entry);
            rc = 0;
        } else {
            *receiver = Py_NewRef(entry->receiver);
            *index = entry->index;
            mpf_crew_entry_add(&self->lost, entry);
        }
    }
    MPF_UNGUARD();
    return rc;
}

/* The process is at its end, which not everybody learns of at the same moment. Whether there is time left. */
static bool
watch_give_time(int64_t until)
{
    const struct timespec pause = {0, WATCH_PAUSE_NS};
    Py_BEGIN_ALLOW_THREADS
    nanosleep(&pause, NULL);
    Py_END_ALLOW_THREADS
    return mpf_clock_now() < until;
}

PyObject *
mpf_crew_object_lost(PyObject *op, PyObject *given)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    struct mpf_crew_lost lost;
    PyObject *receiver;
    int64_t index = 0;
    uint32_t slot;
    int rc;
    MPF_CREW_CHECK(op);
    if (watch_parse_slot(given, &slot) < 0) {
        return NULL;
    }
    int64_t until = mpf_clock_now() + WATCH_END_NS;
    do {
        if (mpf_crew_collect_all(self) < 0) {
            return NULL;
        }
        rc = watch_take_lost(self, slot, &lost, &receiver, &index);
    } while (rc == -EBUSY || (rc == -ECHILD && watch_give_time(until)));
    mpf_participant_reap(self->crew.arena); /* what it had a reference to goes now, not when somebody happens to notice */
    if (rc == -ENOENT) {
        PyErr_SetString(PyExc_ValueError, "there is no worker in that slot");
        return NULL;
    }
    if (rc < 0) {
        return mpf_errors_raise(rc); /* ChildProcessError: it has not ended */
    }
    if (rc == 0) {
        return PyList_New(0);
    }
    PyObject *what = watch_describe(receiver, index);
    PyObject *number = index == MPF_RECEIVER_SINGLE ? Py_NewRef(Py_None) : PyLong_FromLongLong(index);
    PyObject *list = what != NULL && number != NULL
                         ? Py_BuildValue("[(KOOO)]", (unsigned long long)lost.ticket, receiver, number, what)
                         : NULL;
    Py_DECREF(receiver);
    Py_XDECREF(what);
    Py_XDECREF(number);
    return list;
}

/* ---- timeouts ---- */

/* The timeout of an unresolved task, 0: none. Guarded. */
static int64_t
watch_timeout(struct mpf_crew_object *self, uint64_t ticket)
{
    struct mpf_crew_entry *entry = self->entries.first;
    while (entry != NULL && entry->ticket != ticket) {
        entry = entry->next;
    }
    return entry != NULL ? entry->timeout : 0;
}

/* Looks at one worker: true and *ticket if its task is overdue and was condemned; else *next is lowered to when it could be. */
static bool
watch_is_overdue(struct mpf_crew_object *self, uint32_t slot, const struct mpf_crew_worker *worker, int64_t now, int64_t *next)
{
    bool overdue = false;
    if (worker->state != MPF_ROSTER_WORKING || worker->dead || worker->ticket == 0 || worker->started == 0) {
        return false;
    }
    MPF_GUARD(self);
    int64_t timeout = watch_timeout(self, worker->ticket);
    int64_t left = timeout == 0 || timeout == INT64_MAX ? INT64_MAX : worker->started + timeout - now;
    if (left <= 0) {
        uint32_t holder;
        overdue = mpf_crew_condemn(&self->crew, worker->ticket, &holder) == 0 && holder == slot;
    } else if (left < *next) {
        *next = left;
    }
    MPF_UNGUARD();
    return overdue;
}

PyObject *
mpf_crew_object_overdue(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    struct mpf_crew_worker worker;
    int64_t next = INT64_MAX, now = mpf_clock_now();
    MPF_CREW_CHECK(op);
    PyObject *list = PyList_New(0);
    if (self->timed != 0) {
        next = self->shortest; /* one that is claimed from now on cannot be overdue earlier */
        for (uint32_t slot = 0; list != NULL && slot < mpf_crew_slots(&self->crew); slot++) {
            if (mpf_crew_look(&self->crew, slot, &worker) < 0 || !watch_is_overdue(self, slot, &worker, now, &next)) {
                continue;
            }
            PyObject *pair = Py_BuildValue("kK", (unsigned long)slot, (unsigned long long)worker.ticket);
            if (pair == NULL || PyList_Append(list, pair) < 0) {
                Py_CLEAR(list);
            }
            Py_XDECREF(pair);
        }
    }
    if (list == NULL) {
        return NULL;
    }
    if (next == INT64_MAX) {
        return Py_BuildValue("NO", list, Py_None);
    }
    return Py_BuildValue("Nd", list, (double)next / 1e9);
}
