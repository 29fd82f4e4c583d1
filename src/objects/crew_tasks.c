/*
 * Purpose: what the parent asks of, and does to, tasks that have been submitted: cancel, fail, send again.
 *
 * Layout, states: of an entry, see crew.c.
 *
 * Invariants: a task is cancelled only while nobody has claimed it, which the engine decides in one step. One that a living
 * worker has is failed by forgetting its receiver: its result, when it comes, is dropped.
 *
 * Callers: attached to the interpreter; the lists are guarded by the crew (guard.h). References that are dropped are dropped
 * outside the guard.
 *
 * Death of the caller: the parent is gone, and the crew with it.
 */
#include <errno.h>

#include "objects/crew.h"
#include "objects/errors.h"
#include "objects/guard.h"

const char mpf_crew_object_cancel_doc[] = PyDoc_STR(
    "cancel($self, ordinal, /)\n--\n\n"
    "Take back a task that no worker has claimed; nothing more is heard of it.  Returns whether that was possible.");
const char mpf_crew_object_cancel_all_doc[] = PyDoc_STR(
    "cancel_all($self, receiver=None, /)\n--\n\n"
    "Take back all tasks (of that receiver) that no worker has claimed.\n\n"
    "Returns a list of (ordinal, receiver, piece number or None).");
const char mpf_crew_object_claimed_doc[] = PyDoc_STR(
    "claimed($self, ordinal, /)\n--\n\n"
    "The slot of the worker that has the task; None if nobody has it (any more).");
const char mpf_crew_object_is_pending_doc[] = PyDoc_STR(
    "is_pending($self, ordinal, /)\n--\n\nWhether the task has no result yet.");
const char mpf_crew_object_fail_doc[] = PyDoc_STR(
    "fail($self, ordinal, exception, /)\n--\n\n"
    "Resolve a task (that piece of a map) with the exception.  Returns False if it was resolved already.");
const char mpf_crew_object_retry_doc[] = PyDoc_STR(
    "retry($self, ordinal, /)\n--\n\n"
    "Send a task again that lost() returned; it goes to the end of the line, with another ordinal.\n\n"
    "Returns False if it was resolved already.  Raises ValueError if it was submitted without keep=True.");
const char mpf_crew_object_receivers_doc[] = PyDoc_STR(
    "receivers($self, /)\n--\n\nThe receivers of unresolved tasks, each once, oldest first.");
const char mpf_crew_object_load_doc[] = PyDoc_STR(
    "load($self, /)\n--\n\nReturns (unresolved tasks, bytes of their encoded arguments).");

/* 0 or -1 with an exception. */
static int
tasks_parse_ordinal(PyObject *given, uint64_t *ticket)
{
    unsigned long long value = PyLong_AsUnsignedLongLong(given);
    if (value == (unsigned long long)-1 && PyErr_Occurred()) {
        return -1;
    }
    *ticket = value;
    return 0;
}

static struct mpf_crew_entry *
tasks_find(const struct mpf_crew_entries *list, uint64_t ticket)
{
    struct mpf_crew_entry *entry = list->first;
    while (entry != NULL && entry->ticket != ticket) {
        entry = entry->next;
    }
    return entry;
}

/* ---- cancel ---- */

PyObject *
mpf_crew_object_cancel(PyObject *op, PyObject *given)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    PyObject *receiver = NULL;
    uint64_t ticket, cookie;
    bool done;
    MPF_CREW_CHECK(op);
    if (tasks_parse_ordinal(given, &ticket) < 0) {
        return NULL;
    }
    MPF_GUARD(self);
    done = mpf_crew_cancel(&self->crew, ticket, &cookie) == 0;
    if (done) {
        struct mpf_crew_entry *entry = (struct mpf_crew_entry *)(uintptr_t)cookie;
        mpf_crew_entry_remove(&self->entries, entry);
        receiver = mpf_crew_entry_forget(self, entry);
    }
    MPF_UNGUARD();
    Py_XDECREF(receiver);
    return PyBool_FromLong(done);
}

/* A cancelled task of the list that cancel_all makes. Steals receiver. 0 or -1 with an exception. */
static int
tasks_report(PyObject *list, uint64_t ticket, PyObject *receiver, int64_t index)
{
    PyObject *number = index == MPF_RECEIVER_SINGLE ? Py_NewRef(Py_None) : PyLong_FromLongLong(index);
    PyObject *report = number != NULL ? Py_BuildValue("KOO", (unsigned long long)ticket, receiver, number) : NULL;
    int rc = report != NULL ? PyList_Append(list, report) : -1;
    Py_XDECREF(number);
    Py_XDECREF(report);
    Py_DECREF(receiver);
    return rc;
}

/* Cancels the first task from *at on that can be. The receiver (a reference; Py_None where it is gone), or NULL at the end. */
static PyObject *
tasks_cancel_next(struct mpf_crew_object *self, const uint64_t *tickets, Py_ssize_t count, Py_ssize_t *at,
                  int64_t *index)
{
    PyObject *receiver = NULL;
    MPF_GUARD(self);
    while (receiver == NULL && *at < count) {
        uint64_t cookie;
        if (mpf_crew_cancel(&self->crew, tickets[(*at)++], &cookie) == 0) {
            struct mpf_crew_entry *entry = (struct mpf_crew_entry *)(uintptr_t)cookie;
            *index = entry->index;
            mpf_crew_entry_remove(&self->entries, entry);
            receiver = mpf_crew_entry_forget(self, entry);
            receiver = receiver != NULL ? receiver : Py_NewRef(Py_None);
        }
    }
    MPF_UNGUARD();
    return receiver;
}

/* The tickets of the unresolved tasks (of that receiver): PyMem_RawFree it. NULL with MemoryError. */
static uint64_t *
tasks_tickets(struct mpf_crew_object *self, PyObject *only, Py_ssize_t *count)
{
    uint64_t *tickets;
    Py_ssize_t room = 0;
    *count = 0;
    MPF_GUARD(self);
    for (struct mpf_crew_entry *entry = self->entries.first; entry != NULL; entry = entry->next) {
        room += only == NULL || entry->receiver == only;
    }
    tickets = PyMem_RawMalloc(((size_t)room + 1) * sizeof *tickets);
    for (struct mpf_crew_entry *entry = self->entries.first; tickets != NULL && entry != NULL; entry = entry->next) {
        if (only == NULL || entry->receiver == only) {
            tickets[(*count)++] = entry->ticket;
        }
    }
    MPF_UNGUARD();
    if (tickets == NULL) {
        PyErr_NoMemory();
    }
    return tickets;
}

PyObject *
mpf_crew_object_cancel_all(PyObject *op, PyObject *args)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    PyObject *only = Py_None, *receiver; /* only is borrowed */
    Py_ssize_t count, at = 0;
    int64_t index = 0;
    MPF_CREW_CHECK(op);
    if (!PyArg_ParseTuple(args, "|O:cancel_all", &only)) {
        return NULL;
    }
    PyObject *list = PyList_New(0);
    uint64_t *tickets = list != NULL ? tasks_tickets(self, only == Py_None ? NULL : only, &count) : NULL;
    if (tickets == NULL) {
        Py_XDECREF(list);
        return NULL;
    }
    while (list != NULL && (receiver = tasks_cancel_next(self, tickets, count, &at, &index)) != NULL) {
        if (tasks_report(list, tickets[at - 1], receiver, index) < 0) {
            Py_CLEAR(list);
        }
    }
    PyMem_RawFree(tickets);
    return list;
}

/* ---- questions ---- */

/* As mpf_crew_holder. */
static int
tasks_holder(struct mpf_crew_object *self, uint64_t ticket, uint32_t *slot)
{
    int rc;
    MPF_GUARD(self);
    rc = mpf_crew_holder(&self->crew, ticket, slot);
    MPF_UNGUARD();
    return rc;
}

PyObject *
mpf_crew_object_claimed(PyObject *op, PyObject *given)
{
    uint64_t ticket;
    uint32_t slot;
    MPF_CREW_CHECK(op);
    if (tasks_parse_ordinal(given, &ticket) < 0) {
        return NULL;
    }
    if (tasks_holder(mpf_crew_object_of(op), ticket, &slot) != 0) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLong(slot);
}

PyObject *
mpf_crew_object_is_pending(PyObject *op, PyObject *given)
{
    uint64_t ticket;
    uint32_t slot;
    MPF_CREW_CHECK(op);
    if (tasks_parse_ordinal(given, &ticket) < 0) {
        return NULL;
    }
    return PyBool_FromLong(tasks_holder(mpf_crew_object_of(op), ticket, &slot) != -ENOENT);
}

PyObject *
mpf_crew_object_load(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    unsigned long long records, bytes;
    MPF_CREW_CHECK(op);
    MPF_GUARD(self);
    records = mpf_crew_pending(&self->crew);
    bytes = self->bytes;
    MPF_UNGUARD();
    return Py_BuildValue("KK", records, bytes);
}

/* The receivers of both lists, as often as they occur. New reference or NULL. */
static PyObject *
tasks_all_receivers(struct mpf_crew_object *self)
{
    PyObject **held, *all;
    Py_ssize_t count = 0, room = 0;
    const struct mpf_crew_entries *const lists[] = {&self->lost, &self->entries};
    MPF_GUARD(self);
    for (int i = 0; i < 2; i++) {
        for (struct mpf_crew_entry *entry = lists[i]->first; entry != NULL; entry = entry->next) {
            room++;
        }
    }
    held = PyMem_RawMalloc(((size_t)room + 1) * sizeof *held);
    for (int i = 0; held != NULL && i < 2; i++) {
        PyObject *former = NULL;
        for (struct mpf_crew_entry *entry = lists[i]->first; entry != NULL; entry = entry->next) {
            if (entry->receiver != NULL && entry->receiver != former) {
                held[count++] = Py_NewRef(former = entry->receiver);
            }
        }
    }
    MPF_UNGUARD();
    if (held == NULL) {
        return PyErr_NoMemory();
    }
    all = PyList_New(count);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (all != NULL) {
            PyList_SET_ITEM(all, i, held[i]); /* steals */
        } else {
            Py_DECREF(held[i]);
        }
    }
    PyMem_RawFree(held);
    return all;
}

PyObject *
mpf_crew_object_receivers(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_CREW_CHECK(op);
    PyObject *all = tasks_all_receivers(mpf_crew_object_of(op));
    PyObject *seen = all != NULL ? PySet_New(NULL) : NULL;
    PyObject *once = seen != NULL ? PyList_New(0) : NULL;
    for (Py_ssize_t i = 0; once != NULL && i < PyList_GET_SIZE(all); i++) {
        PyObject *receiver = PyList_GET_ITEM(all, i); /* borrowed */
        PyObject *identity = PyLong_FromVoidPtr(receiver); /* a subclass may define what is equal */
        int known = identity != NULL ? PySet_Contains(seen, identity) : -1;
        if (known < 0 || (known == 0 && (PySet_Add(seen, identity) < 0 || PyList_Append(once, receiver) < 0))) {
            Py_CLEAR(once);
        }
        Py_XDECREF(identity);
    }
    Py_XDECREF(seen);
    Py_XDECREF(all);
    return once;
}

/* ---- failing, sending again ---- */

/* Takes the receiver of a task out: of a lost task with its entry, of another one so that its result will be dropped.
 * A reference, or NULL. */
static PyObject *
tasks_detach(struct mpf_crew_object *self, uint64_t ticket, int64_t *index)
{
    PyObject *receiver = NULL;
    uint64_t cookie;
    MPF_GUARD(self);
    struct mpf_crew_entry *entry = tasks_find(&self->lost, ticket);
    if (entry != NULL) {
        *index = entry->index;
        mpf_crew_settle(&self->crew, ticket);
        mpf_crew_entry_remove(&self->lost, entry);
        receiver = mpf_crew_entry_forget(self, entry);
    } else if ((entry = tasks_find(&self->entries, ticket)) != NULL) {
        *index = entry->index;
        receiver = entry->receiver;
        entry->receiver = NULL;
        if (mpf_crew_cancel(&self->crew, ticket, &cookie) == 0) {
            mpf_crew_entry_remove(&self->entries, entry);
            (void)mpf_crew_entry_forget(self, entry);
        }
    }
    MPF_UNGUARD();
    return receiver;
}

PyObject *
mpf_crew_object_fail(PyObject *op, PyObject *args)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    PyObject *given, *error; /* borrowed */
    uint64_t ticket;
    int64_t index = 0;
    MPF_CREW_CHECK(op);
    if (!PyArg_ParseTuple(args, "OO:fail", &given, &error) || tasks_parse_ordinal(given, &ticket) < 0) {
        return NULL;
    }
    PyObject *receiver = tasks_detach(self, ticket, &index);
    if (receiver == NULL) {
        Py_RETURN_FALSE;
    }
    mpf_receiver_resolve(mpf_receiver_of(receiver), index, false, Py_NewRef(error));
    Py_DECREF(receiver);
    mpf_crew_bump(&self->crew);
    Py_RETURN_TRUE;
}

PyObject *
mpf_crew_object_retry(PyObject *op, PyObject *given)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    uint64_t ticket;
    int rc = -ENOENT;
    MPF_CREW_CHECK(op);
    if (tasks_parse_ordinal(given, &ticket) < 0) {
        return NULL;
    }
    MPF_GUARD(self);
    struct mpf_crew_entry *entry = tasks_find(&self->lost, ticket);
    if (entry != NULL) {
        rc = mpf_crew_put_again(&self->crew, ticket, &entry->ticket);
    }
    if (rc == 0) {
        mpf_crew_entry_remove(&self->lost, entry);
        mpf_crew_entry_add(&self->entries, entry);
        if (entry->receiver != NULL) {
            mpf_receiver_of(entry->receiver)->ordinal = entry->ticket;
        }
    }
    MPF_UNGUARD();
    if (rc == -ENOENT) {
        Py_RETURN_FALSE;
    }
    if (rc == -EINVAL) {
        PyErr_SetString(PyExc_ValueError, "the task was submitted without keep=True");
        return NULL;
    }
    if (rc < 0) {
        return mpf_errors_raise(rc);
    }
    mpf_crew_wake(&self->crew, 1);
    Py_RETURN_TRUE;
}
