/*
 * Purpose: sends tasks to a crew: one call at a time, or a map cut into pieces.
 *
 * Layout: the payload of a task, by its tag:
 *
 *     0        (func, args) or (func, args, kwds)      what a call needs
 *     PIECE    [item, item, ...]                       for the function of the task's job
 *     SINGLE   item
 *
 * Invariants: an encoded task is put in one step, which cannot run Python code, together with its entry in the crew's list: a
 * result always finds its entry. What cannot be encoded changes nothing.
 * A job (the encoded function) is kept by the receiver until all of its pieces are in.
 *
 * Callers: attached to the interpreter. Payloads of more than SUBMIT_DETACH bytes are copied detached.
 *
 * Death of the caller: the parent is gone, and the crew with it.
 */
#include <errno.h>

#include "objects/crew.h"
#include "objects/errors.h"
#include "objects/guard.h"
#include "objects/message.h"
#include "objects/types.h"
#include "objects/wait.h"

#define SUBMIT_DETACH (256 * 1024)
#define SUBMIT_LOOK 256 /* pieces after which signals and results are looked at */

const char mpf_crew_object_submit_doc[] = PyDoc_STR(
    "submit($self, /, func, args, kwds, receiver, timeout=None, keep=False)\n--\n\n"
    "Have a worker call func(*args, **kwds); the receiver gets the result.  Returns the task's ordinal.\n\n"
    "What cannot be pickled raises here.  timeout: seconds that it may run.  keep: it can be sent again by retry().");

const char mpf_crew_object_submit_pieces_doc[] = PyDoc_STR(
    "submit_pieces($self, /, star, func, iterable, chunksize, receiver, first=0, limit=0, timeout=None, keep=False)\n--\n\n"
    "Have workers call func(item), or func(*item) where star is true, for each item, chunksize of them a task.\n\n"
    "At most limit pieces (0: all) are put, numbered from first.  Returns (pieces put, whether the iterable is exhausted).\n"
    "A list or tuple is read from item first * chunksize on, without a copy; an iterator goes on where it is.\n"
    "A piece that cannot be pickled is resolved with that error.  An exception of the iterable is raised after the whole\n"
    "pieces before it were put.");

/* ---- jobs ---- */

struct submit_job {
    PyObject_HEAD
    struct mpf_ref ref;
};

static void
submit_job_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    mpf_block_unref(&((struct submit_job *)op)->ref);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot submit_job_slots[] = {
    {Py_tp_doc, "A function as the workers of a crew have it."},
    {Py_tp_dealloc, submit_job_dealloc},
    {0, NULL},
};

static PyType_Spec submit_job_spec = {
    .name = "mpfast._core._Job",
    .basicsize = sizeof(struct submit_job),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = submit_job_slots,
};

int
mpf_crew_submit_register(PyObject *module)
{
    return mpf_state_add_type(module, &submit_job_spec, NULL, &mpf_state_of(module)->job_type);
}

/* New reference to the job of func, NULL with an exception. */
static PyObject *
submit_make_job(struct mpf_crew_object *self, PyObject *func)
{
    struct mpf_message message;
    if (mpf_codec_encode(self->state->codec, func, &message) < 0) {
        return NULL;
    }
    struct mpf_lane_message parcel = mpf_message_parcel(&message, 0);
    struct mpf_ref ref;
    int rc = mpf_crew_make_job(&self->crew, &parcel, &ref);
    mpf_codec_release(self->state->codec, &message);
    if (rc < 0) {
        return mpf_errors_raise(rc);
    }
    struct submit_job *job = PyObject_New(struct submit_job, self->state->job_type);
    if (job == NULL) {
        mpf_block_unref(&ref);
        return NULL;
    }
    job->ref = ref;
    return (PyObject *)job;
}

/* ---- one task ---- */

/* What is common to the tasks of one call. */
struct submit_call {
    struct mpf_crew_object *self;
    struct mpf_receiver *receiver; /* borrowed */
    PyObject *job;                 /* owned, or NULL */
    int64_t timeout;
    uint32_t tag;
    bool keep;
};

/* Timeout in seconds or None as nanoseconds, 0 for none. 0 or -1 with an exception. */
static int
submit_parse_timeout(PyObject *given, int64_t *timeout)
{
    *timeout = 0;
    if (given == NULL || given == Py_None) {
        return 0;
    }
    double seconds = PyFloat_AsDouble(given);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (!(seconds > 0.0)) {
        PyErr_SetString(PyExc_ValueError, "the timeout of a task must be a positive number of seconds");
        return -1;
    }
    *timeout = seconds >= 4e9 ? INT64_MAX : (int64_t)(seconds * 1e9) + 1;
    return 0;
}

/* A block with the payload, filled detached from the interpreter. */
static int
submit_fill(struct mpf_crew_object *self, const struct mpf_lane_message *parcel, struct mpf_ref *block)
{
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = mpf_lane_fill(self->crew.arena, parcel, block);
    Py_END_ALLOW_THREADS
    return rc;
}

/* Puts the task and its entry. Guarded. 0, -errno; -ENOMEM also for private memory. */
static int
submit_put(struct submit_call *call, const struct mpf_lane_message *parcel, struct mpf_ref *block, int64_t index)
{
    struct mpf_crew_object *self = call->self;
    struct mpf_crew_entry *entry = mpf_crew_entry_new(self);
    if (entry == NULL) {
        PyErr_Clear();
        return -ENOMEM;
    }
    const struct mpf_task_order order = {
        .message = *parcel,
        .block = block,
        .job = call->job != NULL ? &((struct submit_job *)call->job)->ref : NULL,
        .cookie = (uint64_t)(uintptr_t)entry,
        .keep = call->keep,
    };
    int rc = self->closed ? -ESHUTDOWN : mpf_crew_put(&self->crew, &order, &entry->ticket);
    entry->index = index;
    entry->timeout = call->timeout;
    entry->kept = call->keep;
    entry->bytes = parcel->bytes;
    if (rc < 0) {
        entry->bytes = 0;
        entry->timeout = 0;
        (void)mpf_crew_entry_forget(self, entry);
        return rc;
    }
    entry->receiver = Py_NewRef((PyObject *)call->receiver);
    mpf_crew_entry_add(&self->entries, entry);
    self->bytes += entry->bytes;
    if (entry->timeout != 0) {
        self->shortest = self->timed == 0 || entry->timeout < self->shortest ? entry->timeout : self->shortest;
        self->timed++;
    }
    call->receiver->ordinal = entry->ticket;
    call->receiver->has_ordinal = true;
    call->receiver->sent++;
    return 0;
}

/* Sends an encoded task. 0 or -1 with an exception. */
static int
submit_message(struct submit_call *call, const struct mpf_message *message, int64_t index)
{
    struct mpf_crew_object *self = call->self;
    struct mpf_lane_message parcel = mpf_message_parcel(message, call->tag);
    struct mpf_ref block = {0};
    int rc = parcel.bytes > SUBMIT_DETACH ? submit_fill(self, &parcel, &block) : 0;
    if (rc == 0) {
        MPF_GUARD(self);
        rc = submit_put(call, &parcel, block.off != 0 ? &block : NULL, index);
        MPF_UNGUARD();
    }
    if (rc < 0) {
        mpf_block_unref(&block);
        if (rc == -ESHUTDOWN) {
            PyErr_SetString(PyExc_ValueError, "the crew takes no more tasks");
        } else {
            mpf_errors_raise(rc);
        }
        return -1;
    }
    return 0;
}

/* ---- submit ---- */

/* 0 or -1 with an exception; *args is a new reference. */
static int
submit_task(struct submit_call *call, PyObject *func, PyObject *args, PyObject *kwds)
{
    struct mpf_state *state = call->self->state;
    struct mpf_message message;
    bool plain = kwds == NULL || kwds == Py_None || (PyDict_CheckExact(kwds) && PyDict_GET_SIZE(kwds) == 0);
    PyObject *task = plain ? PyTuple_Pack(2, func, args) : PyTuple_Pack(3, func, args, kwds);
    if (task == NULL) {
        return -1;
    }
    int rc = mpf_codec_encode(state->codec, task, &message);
    Py_DECREF(task);
    if (rc < 0) {
        return -1;
    }
    rc = submit_message(call, &message, MPF_RECEIVER_SINGLE);
    mpf_codec_release(state->codec, &message);
    return rc;
}

static int
submit_check_receiver(struct mpf_crew_object *self, PyObject *receiver)
{
    if (!PyObject_TypeCheck(receiver, self->state->receiver_type)) {
        PyErr_Format(PyExc_TypeError, "results go to a Receiver, not '%s'", Py_TYPE(receiver)->tp_name);
        return -1;
    }
    return 0;
}

PyObject *
mpf_crew_object_submit(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"func", "args", "kwds", "receiver", "timeout", "keep"};
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    struct submit_call call = {.self = self};
    PyObject *given[6];
    int keep;
    MPF_CREW_CHECK(op);
    if (mpf_wait_parse_arguments("submit", names, 6, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    if (given[3] == NULL) {
        PyErr_SetString(PyExc_TypeError, "submit() needs func, args, kwds and receiver");
        return NULL;
    }
    keep = given[5] != NULL ? PyObject_IsTrue(given[5]) : 0;
    if (submit_check_receiver(self, given[3]) < 0 || submit_parse_timeout(given[4], &call.timeout) < 0 || keep < 0) {
        return NULL;
    }
    call.receiver = mpf_receiver_of(given[3]);
    call.keep = keep;
    PyObject *positional = PyTuple_CheckExact(given[1]) ? Py_NewRef(given[1]) : PySequence_Tuple(given[1]);
    if (positional == NULL) {
        return NULL;
    }
    int rc = mpf_receiver_begin(call.receiver, op, given[0]);
    if (rc == 0) {
        rc = submit_task(&call, given[0], positional, given[2]);
    }
    Py_DECREF(positional);
    if (rc < 0) {
        return NULL;
    }
    mpf_crew_wake(&self->crew, 1);
    return PyLong_FromUnsignedLongLong(call.receiver->ordinal);
}

/* ---- submit_pieces ---- */

/* Where the items come from. */
struct submit_source {
    PyObject *sequence; /* borrowed: a list or tuple, or NULL */
    PyObject *iterator; /* owned, or NULL */
    Py_ssize_t at;      /* in the sequence */
    bool may_wait;      /* its next() may be for ever */
    PyObject *gathered; /* owned, or NULL: list of what the iterator gave */
    bool exhausted;
    bool failed; /* the iterator raised; the exception is set aside in `error` */
    PyObject *error; /* owned, or NULL */
};

/* Whether its items are there already, so that asking for the next one takes no time. */
static bool
submit_is_ready_made(PyObject *iterable)
{
    const PyTypeObject *type = Py_TYPE(iterable);
    return type == &PyRange_Type || type == &PyRangeIter_Type || type == &PyListIter_Type || type == &PyTupleIter_Type ||
           type == &PyUnicodeIter_Type || type == &PyBytesIter_Type || type == &PyDictIterKey_Type ||
           type == &PySetIter_Type || PyAnySet_CheckExact(iterable) || PyDict_CheckExact(iterable);
}

static int
submit_open(struct submit_source *source, PyObject *iterable, int64_t first, Py_ssize_t chunksize)
{
    if (PyList_CheckExact(iterable) || PyTuple_CheckExact(iterable)) {
        source->sequence = iterable;
        source->at = first > 0 && chunksize > 0 && first < PY_SSIZE_T_MAX / chunksize ? (Py_ssize_t)first * chunksize : 0;
        return 0;
    }
    source->iterator = PyObject_GetIter(iterable);
    source->may_wait = !submit_is_ready_made(iterable);
    return source->iterator != NULL ? 0 : -1;
}

/* Items from the iterator into source->gathered. 0 or -1 with an exception (of memory, not the iterator's). */
static int
submit_gather(struct submit_source *source, Py_ssize_t chunksize)
{
    Py_XSETREF(source->gathered, PyList_New(0));
    if (source->gathered == NULL) {
        return -1;
    }
    while (PyList_GET_SIZE(source->gathered) < chunksize) {
        PyObject *item = PyIter_Next(source->iterator);
        if (item == NULL) {
            source->exhausted = true;
            source->failed = PyErr_Occurred() != NULL;
            if (source->failed) { /* the piece that it was for is not put, as in the stdlib */
                source->error = mpf_receiver_take_error();
                return PyList_SetSlice(source->gathered, 0, PyList_GET_SIZE(source->gathered), NULL);
            }
            return 0;
        }
        int rc = PyList_Append(source->gathered, item);
        Py_DECREF(item);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* The next piece of a list or tuple: as submit_next. */
static Py_ssize_t
submit_cut(struct submit_source *source, Py_ssize_t chunksize, PyObject *const **items)
{
    Py_ssize_t size = PySequence_Fast_GET_SIZE(source->sequence), count = size - source->at;
    PyObject *from = source->sequence;
    Py_ssize_t at = source->at;
    count = count < 0 ? 0 : count < chunksize ? count : chunksize;
#ifdef Py_GIL_DISABLED
    if (PyList_CheckExact(from)) { /* others may change it meanwhile */
        Py_XSETREF(source->gathered, PyList_GetSlice(from, at, at + count));
        if (source->gathered == NULL) {
            return -1;
        }
        from = source->gathered;
        count = PyList_GET_SIZE(from);
        at = 0;
    }
#endif
    *items = PySequence_Fast_ITEMS(from) + at;
    source->at += count;
    source->exhausted = source->at >= size;
    return count;
}

/* The next piece: *items, borrowed. Their number, 0 at the end, -1 with an exception. */
static Py_ssize_t
submit_next(struct submit_source *source, Py_ssize_t chunksize, PyObject *const **items)
{
    if (source->exhausted) {
        return 0;
    }
    if (source->sequence != NULL) {
        return submit_cut(source, chunksize, items);
    }
    if (submit_gather(source, chunksize) < 0) {
        return -1;
    }
    *items = PySequence_Fast_ITEMS(source->gathered);
    return PyList_GET_SIZE(source->gathered);
}

/* A piece that cannot be encoded (the exception is set): its error. 0, or -1 where the exception is not of that kind. */
static int
submit_unencodable(struct submit_call *call, int64_t index)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyObject *error = mpf_receiver_take_error();
    MPF_GUARD(call->receiver);
    call->receiver->sent++;
    MPF_UNGUARD();
    mpf_receiver_resolve(call->receiver, index, false, error);
    mpf_crew_bump(&call->self->crew);
    return 0;
}

/* 0 or -1 with an exception. */
static int
submit_piece(struct submit_call *call, PyObject *const *items, Py_ssize_t count, int64_t index)
{
    struct mpf_codec *codec = call->self->state->codec;
    struct mpf_message message;
    int rc;
    if (call->tag & MPF_CREW_TASK_SINGLE) {
        PyObject *item = Py_NewRef(items[0]); /* code that pickling runs may change the list */
        rc = mpf_codec_encode(codec, item, &message);
        Py_DECREF(item);
    } else {
        rc = mpf_codec_encode_items(codec, items, count, &message);
    }
    if (rc < 0) {
        return submit_unencodable(call, index);
    }
    rc = submit_message(call, &message, index);
    mpf_codec_release(codec, &message);
    return rc;
}

/* Between pieces: signals, other threads, results that came. 0 or -1 with an exception. */
static int
submit_look_around(struct mpf_crew_object *self)
{
    Py_BEGIN_ALLOW_THREADS
    Py_END_ALLOW_THREADS
    if (PyErr_CheckSignals() < 0) {
        return -1;
    }
    return mpf_crew_ready(&self->crew) && mpf_crew_collect_all(self) < 0 ? -1 : 0;
}

/* Whether a list has all its pieces, though the input has grown meanwhile. */
static bool
submit_is_full(const struct mpf_receiver *receiver, struct submit_source *source)
{
    if (receiver->kind == MPF_RECEIVER_LIST && receiver->sent >= receiver->pieces) {
        source->exhausted = true;
    }
    return source->exhausted;
}

/* How many pieces were put, or -1 with an exception. */
static Py_ssize_t
submit_all(struct submit_call *call, struct submit_source *source, Py_ssize_t chunksize, int64_t first, Py_ssize_t limit)
{
    PyObject *const *items;
    Py_ssize_t put = 0, count, unwoken = 0;
    while ((limit == 0 || put < limit) && !submit_is_full(call->receiver, source) &&
           (count = submit_next(source, chunksize, &items)) != 0) {
        if (count < 0 || submit_piece(call, items, count, first + put) < 0) {
            return -1;
        }
        put++;
        unwoken++;
        if (put <= 8 || unwoken == 16 || chunksize > 64 || source->may_wait) {
            mpf_crew_wake(&call->self->crew, (uint32_t)unwoken);
            unwoken = 0;
        }
        if (put % SUBMIT_LOOK == 0 && submit_look_around(call->self) < 0) {
            return -1;
        }
    }
    if (unwoken != 0) {
        mpf_crew_wake(&call->self->crew, (uint32_t)unwoken);
    }
    return put;
}

/* The input has come to its end: the receiver knows now how many pieces there are. */
static void
submit_end(struct mpf_receiver *receiver)
{
    if (receiver->kind == MPF_RECEIVER_STREAM) {
        mpf_stream_set_length(receiver, receiver->sent);
    } else if (receiver->sent < receiver->pieces) {
        mpf_receiver_set_pieces(receiver, receiver->sent);
    }
}

static int
submit_prepare(struct submit_call *call, PyObject *op, PyObject *func, Py_ssize_t chunksize, int star)
{
    struct mpf_receiver *receiver = call->receiver;
    if (chunksize < 1) {
        PyErr_SetString(PyExc_ValueError, "chunksize must be at least 1");
        return -1;
    }
    if (receiver->kind == MPF_RECEIVER_ONE ||
        (receiver->kind == MPF_RECEIVER_LIST && receiver->chunksize != chunksize)) {
        PyErr_SetString(PyExc_ValueError, "the receiver does not expect pieces of this size");
        return -1;
    }
    if (mpf_receiver_begin(receiver, op, func) < 0) {
        return -1;
    }
    receiver->chunksize = chunksize;
    call->tag = (chunksize == 1 ? MPF_CREW_TASK_SINGLE : MPF_CREW_TASK_PIECE) | (star ? MPF_CREW_TASK_STAR : 0) |
                (call->timeout != 0 ? MPF_CREW_TASK_TIMED : 0);
    call->job = Py_XNewRef(receiver->job);
    if (call->job == NULL) {
        call->job = submit_make_job(call->self, func);
        if (call->job == NULL) {
            return -1;
        }
        Py_XSETREF(receiver->job, Py_NewRef(call->job));
    }
    return 0;
}

PyObject *
mpf_crew_object_submit_pieces(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"star", "func", "iterable", "chunksize", "receiver", "first", "limit", "timeout", "keep", NULL};
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    struct submit_call call = {.self = self};
    struct submit_source source = {0};
    PyObject *func, *iterable, *receiver, *timeout = NULL; /* borrowed */
    Py_ssize_t chunksize, limit = 0, put = -1;
    long long first = 0;
    int star, keep = 0;
    MPF_CREW_CHECK(op);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "pOOnO|LnOp:submit_pieces", names, &star, &func, &iterable, &chunksize,
                                     &receiver, &first, &limit, &timeout, &keep) ||
        submit_check_receiver(self, receiver) < 0 || submit_parse_timeout(timeout, &call.timeout) < 0) {
        return NULL;
    }
    call.receiver = mpf_receiver_of(receiver);
    call.keep = keep;
    if (call.receiver->kind == MPF_RECEIVER_LIST && call.receiver->pieces == 0) {
        return Py_BuildValue("nO", (Py_ssize_t)0, Py_True); /* an empty list, which is ready */
    }
    if (submit_open(&source, iterable, first, chunksize) == 0 && submit_prepare(&call, op, func, chunksize, star) == 0) {
        put = submit_all(&call, &source, chunksize, first, limit);
    }
    Py_XDECREF(call.job);
    Py_XDECREF(source.iterator);
    Py_XDECREF(source.gathered);
    if (source.failed && put >= 0) {
        mpf_receiver_raise(source.error);
        put = -1;
    }
    Py_XDECREF(source.error);
    if (put < 0) {
        return NULL;
    }
    if (source.exhausted) {
        submit_end(call.receiver);
    }
    return Py_BuildValue("nN", put, PyBool_FromLong(source.exhausted));
}
