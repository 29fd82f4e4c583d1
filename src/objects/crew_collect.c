/*
 * Purpose: brings results to their receivers: whoever waits collects, for everybody.
 *
 * Layout: a batch (crew.h) holds what one look at the lanes brought. It belongs to the crew until all its results are handed
 * out, so that a thread that comes in between, or a call from code that runs while a result is decoded, goes on with the next one
 * instead of waiting for a result that another one has in hand.
 *
 * States of a result: in a lane -> in the batch -> in the hands of one thread -> resolved.
 *
 * Invariants: a thread leaves no result in the batch: it would be seen by nobody who sleeps. A task is out of the
 * crew's list before its result is decoded.
 *
 * Callers: attached to the interpreter; the crew's fields are guarded by the crew (guard.h).
 *
 * Death of the caller: the parent is gone, and the crew with it.
 */
#include <errno.h>
#include <time.h>

#include "objects/crew.h"
#include "objects/errors.h"
#include "objects/guard.h"
#include "objects/message.h"
#include "objects/wait.h"
#include "platform/clock.h"

#define COLLECT_DEATH_NS (500 * 1000)

const char mpf_crew_object_collect_doc[] = PyDoc_STR(
    "collect($self, /, receiver=None, timeout=None)\n--\n\n"
    "Hand every result that has arrived to its receiver.\n\n"
    "With a receiver: until it is ready (True), or timeout seconds have passed (False).  Without: True if there was any.");

const char mpf_crew_object_wait_room_doc[] = PyDoc_STR(
    "wait_room($self, /, records, bytes, timeout=None, least=0)\n--\n\n"
    "Collect until at most so many tasks, with so many bytes of arguments, are unresolved: True, or False after timeout\n"
    "seconds.  There is room for *least* tasks however large they are.");

/* ---- batches ---- */

static void
collect_release(struct mpf_crew_object *self, struct mpf_crew_batch *batch)
{
    bool last;
    MPF_GUARD(self);
    self->delivering--;
    batch->users--;
    last = batch->users == 0 && batch->detached;
    MPF_UNGUARD();
    if (last) {
        PyMem_RawFree(batch);
    }
}

/* A batch that nobody reads from, in the crew's place; NULL with MemoryError. Guarded. */
static struct mpf_crew_batch *
collect_fresh(struct mpf_crew_object *self)
{
    struct mpf_crew_batch *batch = self->batch;
    if (batch != NULL && batch->users == 0) {
        return batch;
    }
    if (batch != NULL) {
        batch->detached = true;
        self->batch = NULL;
    }
    batch = PyMem_RawMalloc(sizeof *batch);
    if (batch == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    batch->next = batch->count = batch->users = 0;
    batch->detached = false;
    self->batch = batch;
    return batch;
}

/* Takes the next result, and its task out of the list. 1; 0: there is none; -1 with an exception. */
static int
collect_take(struct mpf_crew_object *self, struct mpf_crew_batch **taken, struct mpf_crew_result *result)
{
    struct mpf_crew_batch *batch;
    int rc = 1;
    MPF_GUARD(self);
    batch = self->batch;
    if (batch == NULL || batch->next == batch->count) {
        batch = collect_fresh(self);
        rc = batch == NULL ? -1 : mpf_crew_collect(&self->crew, batch->buffer, sizeof batch->buffer, batch->results, MPF_CREW_BATCH);
        if (batch != NULL) {
            batch->next = 0;
            batch->count = rc > 0 ? (unsigned)rc : 0;
            self->delivering += batch->count;
        }
    }
    if (rc > 0) {
        *result = batch->results[batch->next++];
        batch->users++;
        *taken = batch;
        rc = 1;
    }
    MPF_UNGUARD();
    if (rc == -EAGAIN) {
        return 0;
    }
    if (rc < 0 && !PyErr_Occurred()) {
        mpf_errors_raise(rc);
    }
    return rc < 0 ? -1 : rc;
}

/* ---- delivery ---- */

/* What becomes of a result that cannot be decoded here; the exception is set. New reference. Ctrl-C, which happened to come just
 * then, is put into *interrupt (a reference) to be raised as well. */
static PyObject *
collect_undecodable(struct mpf_crew_object *self, PyObject **interrupt)
{
    bool interrupted = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
    PyObject *error = mpf_receiver_take_error();
    if (interrupted && *interrupt == NULL) {
        *interrupt = Py_NewRef(error);
    }
    if (self->undecodable == NULL) {
        return error;
    }
    PyObject *other = PyObject_CallOneArg(self->undecodable, error);
    if (other == NULL) {
        PyErr_WriteUnraisable(self->undecodable);
        return error;
    }
    Py_DECREF(error);
    return other;
}

/* New reference to pickle.PicklingError(text); the error of making it where that fails. */
static PyObject *
collect_text(const struct mpf_lane_received *message)
{
    PyObject *text = PyUnicode_DecodeUTF8(message->data, (Py_ssize_t)message->bytes, "replace");
    PyObject *pickle = text != NULL ? PyImport_ImportModule("pickle") : NULL;
    PyObject *type = pickle != NULL ? PyObject_GetAttrString(pickle, "PicklingError") : NULL;
    PyObject *error = type != NULL ? PyObject_CallOneArg(type, text) : NULL;
    Py_XDECREF(text);
    Py_XDECREF(pickle);
    Py_XDECREF(type);
    return error != NULL ? error : mpf_receiver_take_error();
}

static void
collect_deliver(struct mpf_crew_object *self, struct mpf_crew_result *result, PyObject **interrupt)
{
    struct mpf_crew_entry *entry = (struct mpf_crew_entry *)(uintptr_t)result->cookie;
    bool ok = result->message.tag == MPF_CREW_VALUE;
    int64_t index;
    PyObject *receiver, *value;
    MPF_GUARD(self);
    index = entry->index;
    mpf_crew_entry_remove(&self->entries, entry);
    receiver = mpf_crew_entry_forget(self, entry);
    MPF_UNGUARD();
    if (receiver == NULL) { /* its error was delivered before */
        mpf_block_unref(&result->message.block);
        return;
    }
    if (result->message.tag == MPF_CREW_TEXT) {
        value = collect_text(&result->message);
        mpf_block_unref(&result->message.block);
    } else {
        value = mpf_message_decode(self->state, &result->message);
    }
    if (value == NULL) {
        ok = false;
        value = collect_undecodable(self, interrupt);
    }
    mpf_receiver_resolve(mpf_receiver_of(receiver), index, ok, value);
    Py_DECREF(receiver);
}

/* Tells the others who wait that something of theirs may have come. */
static void
collect_tell(struct mpf_crew_object *self)
{
    if (atomic_load(&self->crew.waiters) != 0) {
        mpf_crew_bump(&self->crew);
    }
}

/* Hands out one batch. How many results, or -1 with an exception. */
static Py_ssize_t
collect_some(struct mpf_crew_object *self)
{
    PyObject *interrupt = NULL; /* owned */
    Py_ssize_t delivered = 0;
    bool last = false;
    while (!last) {
        struct mpf_crew_batch *batch;
        struct mpf_crew_result result;
        int rc = collect_take(self, &batch, &result);
        if (rc <= 0) {
            delivered = rc < 0 ? -1 : delivered;
            break;
        }
        last = batch->next == batch->count;
        collect_deliver(self, &result, &interrupt);
        collect_release(self, batch);
        delivered++;
    }
    if (interrupt != NULL) {
        collect_tell(self);
        mpf_receiver_raise(interrupt);
        Py_DECREF(interrupt);
        return -1;
    }
    return delivered;
}

Py_ssize_t
mpf_crew_collect_all(struct mpf_crew_object *self)
{
    Py_ssize_t all = 0, some;
    while ((some = collect_some(self)) > 0) {
        all += some;
    }
    if (all > 0) {
        collect_tell(self);
    }
    return some < 0 ? -1 : all;
}

void
mpf_crew_collect_bump(PyObject *op)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    if (self->crew.shm != NULL && mpf_crew_owned(&self->crew)) {
        mpf_crew_bump(&self->crew);
    }
}

/* ---- waiting ---- */

/* A worker is dead, and whoever supervises is about to find out: it is given the time to. */
static void
collect_give_way(void)
{
    const struct timespec pause = {0, COLLECT_DEATH_NS};
    Py_BEGIN_ALLOW_THREADS
    nanosleep(&pause, NULL);
    Py_END_ALLOW_THREADS
}

/* Hands out results until what is waited for is so, or there are no more. 1 it is so, 0, or -1 with an exception. */
static int
collect_look(struct mpf_crew_object *self, const struct mpf_crew_until *until)
{
    Py_ssize_t some = 1, all = 0;
    while (!until->done(until->context) && (some = collect_some(self)) > 0) {
        all += some;
    }
    if (all > 0) {
        collect_tell(self);
    }
    return some < 0 ? -1 : until->done(until->context);
}

int
mpf_crew_collect_until(PyObject *op, const struct mpf_crew_until *until, int64_t deadline)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    if (mpf_crew_check(self) < 0) {
        return -1;
    }
    struct mpf_wait wait;
    mpf_wait_init(&wait, self->crew.arena, deadline);
    for (bool last = deadline == 0;; ) {
        uint32_t bumps = mpf_crew_bumps(&self->crew);
        int done = collect_look(self, until);
        if (done != 0 || last) {
            if (done > 0 && mpf_crew_ready(&self->crew)) {
                mpf_crew_pass(&self->crew);
            }
            return done;
        }
        int rc = mpf_crew_await(&wait.park, &self->crew, MPF_CREW_DIRECT, until->wanted(until->context), bumps);
        if (rc == -ECHILD) {
            collect_give_way();
            if (PyErr_CheckSignals() < 0) {
                return -1;
            }
            last = wait.park.deadline != MPF_FOREVER && mpf_clock_now() >= wait.park.deadline;
        } else if (rc == -ETIMEDOUT) {
            last = true;
        } else if (rc < 0) {
            mpf_errors_raise(rc);
            return -1;
        }
    }
}

/* ---- methods ---- */

PyObject *
mpf_crew_object_collect(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    PyObject *given[2];
    int64_t deadline;
    MPF_CREW_CHECK(op);
    static const char *const names[] = {"receiver", "timeout"};
    if (mpf_wait_parse_arguments("collect", names, 2, args, nargs, kwnames, given) < 0 ||
        mpf_wait_deadline(given[1], &deadline) < 0) {
        return NULL;
    }
    if (given[0] == NULL || given[0] == Py_None) {
        mpf_crew_silence(&self->crew);
        Py_ssize_t all = mpf_crew_collect_all(self);
        return all < 0 ? NULL : PyBool_FromLong(all > 0);
    }
    if (!PyObject_TypeCheck(given[0], self->state->receiver_type)) {
        PyErr_Format(PyExc_TypeError, "a Receiver is waited for, not '%s'", Py_TYPE(given[0])->tp_name);
        return NULL;
    }
    int done = mpf_receiver_wait_with(mpf_receiver_of(given[0]), op, deadline);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

struct collect_room {
    struct mpf_crew_object *self;
    unsigned long long records, bytes, least;
};

static bool
collect_has_room(void *context)
{
    const struct collect_room *room = context;
    uint64_t pending = mpf_crew_pending(&room->self->crew);
    return pending <= room->records && (room->self->bytes <= room->bytes || pending <= room->least);
}

static uint32_t
collect_room_wanted(void *context)
{
    const struct collect_room *room = context;
    uint64_t pending = mpf_crew_pending(&room->self->crew);
    return pending > room->records && pending - room->records < UINT32_MAX ? (uint32_t)(pending - room->records) : 1;
}

PyObject *
mpf_crew_object_wait_room(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"records", "bytes", "timeout", "least", NULL};
    struct collect_room room = {.self = mpf_crew_object_of(op)};
    PyObject *timeout = NULL; /* borrowed */
    int64_t deadline;
    MPF_CREW_CHECK(op);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "KK|OK:wait_room", names, &room.records, &room.bytes, &timeout, &room.least) ||
        mpf_wait_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    const struct mpf_crew_until until = {collect_has_room, collect_room_wanted, &room};
    int done = mpf_crew_collect_until(op, &until, deadline);
    return done < 0 ? NULL : PyBool_FromLong(done);
}
