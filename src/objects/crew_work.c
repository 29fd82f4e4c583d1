/*
 * Purpose: the loop of a worker: takes tasks, calls what they say, sends back what came of it.
 *
 * Layout: private memory on the stack of crew_work(); payloads as crew_submit.c says, results as enum mpf_crew_outcome.
 *
 * States of a task here: claimed -> decoded -> called -> encoded -> reported. Each step that fails makes an exception the result, and
 * the task goes on with encoding that; the last resort is a line of text, which cannot fail to encode.
 *
 * Invariants: every task that was claimed is reported before the next one is claimed. What a task made and used is let go before
 * the worker waits. The functions of jobs are kept as long as their job lives, at most WORK_JOBS of them.
 *
 * Callers: one thread of a worker process, attached to the interpreter.
 *
 * Death of the caller: see engine/worker.c: it costs the task in hand.
 */
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "engine/worker.h"
#include "objects/crew.h"
#include "objects/errors.h"
#include "objects/message.h"
#include "objects/types.h"
#include "objects/wait.h"
#include "platform/clock.h"

#define WORK_JOBS 4
#define WORK_DETACH (256 * 1024) /* results above this are copied detached */
#define WORK_YIELD 64            /* tasks after which other threads of the worker have their turn */
#define WORK_RETRY_NS (5 * 1000 * 1000)

struct work_job {
    mpf_off off; /* 0: unused */
    uint32_t generation;
    PyObject *func; /* owned */
};

struct work {
    struct mpf_state *state;
    struct mpf_worker worker;
    PyObject *wrap, *unencodable, *undecodable; /* borrowed, or NULL */
    struct work_job jobs[WORK_JOBS];            /* latest first */
    long long max_tasks, max_memory;            /* 0: no limit */
    long long done;
    int statm; /* descriptor, or -1 */
    long page;
};

/* ---- functions of jobs ---- */

static void
work_drop_job(struct work *work, int i)
{
    PyObject *func = work->jobs[i].func;
    work->jobs[i] = (struct work_job){0};
    Py_XDECREF(func);
}

/* Lets go of the functions whose jobs are over. */
static void
work_drop_old_jobs(struct work *work)
{
    for (int i = 0; i < WORK_JOBS; i++) {
        struct mpf_task probe = {.job = work->jobs[i].off, .job_generation = work->jobs[i].generation};
        struct mpf_ref ref;
        if (work->jobs[i].off == 0) {
            continue;
        }
        if (mpf_worker_open_job(&work->worker, &probe, &ref) == 0) {
            mpf_block_unref(&ref);
        } else {
            work_drop_job(work, i);
        }
    }
}

static void
work_drop_jobs(struct work *work)
{
    for (int i = 0; i < WORK_JOBS; i++) {
        work_drop_job(work, i);
    }
}

/* New reference to what the job holds, NULL with an exception. */
static PyObject *
work_open_job(struct work *work, const struct mpf_task *task)
{
    struct mpf_ref ref;
    int rc = mpf_worker_open_job(&work->worker, task, &ref);
    if (rc < 0) {
        return mpf_errors_raise(rc);
    }
    PyObject *func = mpf_codec_decode(work->state->codec, mpf_at(ref.arena, ref.off), mpf_block_bytes(&ref), NULL);
    mpf_block_unref(&ref);
    return func;
}

/* Borrowed: the function of the task's job, NULL with an exception. */
static PyObject *
work_function(struct work *work, const struct mpf_task *task)
{
    struct work_job *jobs = work->jobs;
    int i = 0;
    while (i < WORK_JOBS && (jobs[i].off != task->job || jobs[i].generation != task->job_generation)) {
        i++;
    }
    struct work_job found;
    if (i < WORK_JOBS) {
        if (i == 0) {
            return jobs[0].func;
        }
        found = jobs[i];
    } else {
        PyObject *func = work_open_job(work, task);
        if (func == NULL) {
            return NULL;
        }
        found = (struct work_job){task->job, task->job_generation, func};
        i = WORK_JOBS - 1;
        work_drop_job(work, i);
    }
    memmove(jobs + 1, jobs, (size_t)i * sizeof *jobs);
    jobs[0] = found;
    return found.func;
}

/* ---- doing a task ---- */

/* The payload as an object; uses task->block up. NULL with an exception. */
static PyObject *
work_decode(struct work *work, struct mpf_task *task)
{
    struct mpf_lane_received received = {(void *)task->data, task->bytes, task->block, task->tag};
    if (!task->shared) {
        task->block = (struct mpf_ref){0};
        return mpf_message_decode(work->state, &received);
    }
    PyObject *object = mpf_codec_decode(work->state->codec, task->data, task->bytes, NULL);
    mpf_block_unref(&task->block);
    return object;
}

static PyObject *
work_call_star(PyObject *func, PyObject *item)
{
    if (PyTuple_CheckExact(item)) {
        return PyObject_Vectorcall(func, ((PyTupleObject *)item)->ob_item, (size_t)PyTuple_GET_SIZE(item), NULL);
    }
    PyObject *args = PySequence_Tuple(item);
    PyObject *result = args != NULL ? PyObject_Call(func, args, NULL) : NULL;
    Py_XDECREF(args);
    return result;
}

static inline PyObject *
work_call_item(PyObject *func, PyObject *item, bool star)
{
    if (star) {
        return work_call_star(func, item);
    }
    PyObject *args[2] = {NULL, item};
    return PyObject_Vectorcall(func, args + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

/* Calls the function for each item of the list, in which the results take the items' places. Steals items. */
static PyObject *
work_call_piece(struct work *work, PyObject *func, PyObject *items, uint32_t tag)
{
    bool star = tag & MPF_CREW_TASK_STAR;
    if (!PyList_CheckExact(items)) {
        Py_DECREF(items);
        PyErr_SetString(PyExc_SystemError, "not a piece");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        if (tag & MPF_CREW_TASK_TIMED) {
            atomic_store_explicit(&work->worker.entry->started, mpf_clock_now(), memory_order_relaxed);
        }
        PyObject *item = PyList_GET_ITEM(items, i);
        PyObject *result = work_call_item(func, item, star);
        if (result == NULL) {
            Py_DECREF(items);
            return NULL;
        }
        PyList_SET_ITEM(items, i, result);
        Py_DECREF(item);
    }
    return items;
}

/* (func, args) or (func, args, kwds). */
static PyObject *
work_call_task(PyObject *call)
{
    if (!PyTuple_CheckExact(call) || PyTuple_GET_SIZE(call) < 2 || PyTuple_GET_SIZE(call) > 3) {
        PyErr_SetString(PyExc_SystemError, "not a task");
        return NULL;
    }
    PyObject *func = PyTuple_GET_ITEM(call, 0), *args = PyTuple_GET_ITEM(call, 1); /* borrowed */
    if (PyTuple_GET_SIZE(call) == 2 && PyTuple_CheckExact(args)) {
        return PyObject_Vectorcall(func, ((PyTupleObject *)args)->ob_item, (size_t)PyTuple_GET_SIZE(args), NULL);
    }
    PyObject *kwds = PyTuple_GET_SIZE(call) == 3 ? PyTuple_GET_ITEM(call, 2) : NULL; /* borrowed */
    PyObject *keywords = NULL;
    if (kwds != NULL && !PyDict_Check(kwds)) {
        keywords = PyDict_New();
        if (keywords == NULL || PyDict_Update(keywords, kwds) < 0) {
            Py_XDECREF(keywords);
            return NULL;
        }
        kwds = keywords;
    }
    PyObject *result = PyObject_Call(func, args, kwds);
    Py_XDECREF(keywords);
    return result;
}

/* Arguments that cannot be decoded (the exception is set): the error of the task. -1: the worker is to end. */
static int
work_undecodable(struct work *work, PyObject **error)
{
    *error = mpf_receiver_take_error();
    if (work->undecodable == NULL) {
        return 0;
    }
    PyObject *other = PyObject_CallOneArg(work->undecodable, *error);
    Py_SETREF(*error, other);
    return other != NULL ? 0 : -1;
}

/* What came of a task: exactly one of the two, owned. */
struct work_outcome {
    PyObject *value;
    PyObject *error;
    bool piece; /* the value is a list that nothing else refers to */
    bool final; /* the error is sent as it is */
};

/* 0, or -1 with an exception: the worker ends with the task in its hands. */
static int
work_do(struct work *work, struct mpf_task *task, struct work_outcome *outcome)
{
    uint32_t tag = task->tag;
    PyObject *func = NULL; /* owned */
    *outcome = (struct work_outcome){0};
    if (task->job != 0) {
        func = work_function(work, task);
        Py_XINCREF(func);
    }
    PyObject *payload = task->job == 0 || func != NULL ? work_decode(work, task) : NULL;
    if (payload == NULL) {
        mpf_block_unref(&task->block);
        Py_XDECREF(func);
        outcome->final = work->undecodable != NULL;
        return work_undecodable(work, &outcome->error);
    }
    if (tag & MPF_CREW_TASK_PIECE) {
        outcome->value = work_call_piece(work, func, payload, tag);
        outcome->piece = true;
    } else {
        outcome->value = tag & MPF_CREW_TASK_SINGLE ? work_call_item(func, payload, tag & MPF_CREW_TASK_STAR)
                                                    : work_call_task(payload);
        Py_DECREF(payload);
    }
    Py_XDECREF(func);
    if (outcome->value == NULL) {
        outcome->error = mpf_receiver_take_error();
    } else if (PyErr_Occurred()) {
        Py_CLEAR(outcome->value); /* a C function's mistake */
        outcome->error = mpf_receiver_take_error();
    }
    return 0;
}

/* ---- reporting ---- */

/* The task was taken too long over, and this process is about to be killed for it. */
static void
work_await_end(void)
{
    for (;;) {
        Py_BEGIN_ALLOW_THREADS
        pause();
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0) {
            PyErr_Clear();
        }
    }
}

/* A block with the result, filled detached. */
static int
work_fill(struct work *work, const struct mpf_message *message, struct mpf_ref *block)
{
    int rc = mpf_block_alloc_dirty(work->worker.arena, MPF_WORKER_PREFIX + message->bytes, MPF_BLOCK_MESSAGE, block);
    if (rc == 0) {
        char *payload = mpf_at(work->worker.arena, block->off);
        Py_BEGIN_ALLOW_THREADS
        mpf_codec_write(message, payload + MPF_WORKER_PREFIX);
        Py_END_ALLOW_THREADS
    }
    return rc;
}

/* 0, or -ENOMEM: a smaller one is needed. */
static int
work_report(struct work *work, const struct mpf_message *message, enum mpf_crew_outcome tag)
{
    struct mpf_lane_message parcel = mpf_message_parcel(message, tag);
    struct mpf_ref block = {0};
    int rc = parcel.bytes > WORK_DETACH ? work_fill(work, message, &block) : 0;
    if (rc == 0) {
        rc = mpf_worker_report(&work->worker, &parcel, block.off != 0 ? &block : NULL);
    }
    if (rc < 0) {
        mpf_block_unref(&block);
    }
    if (rc == -ECANCELED) {
        work_await_end();
    }
    return rc;
}

/* Encodes and reports. 0, or -1 with the exception of the failure set. */
static int
work_send(struct work *work, PyObject *object, enum mpf_crew_outcome tag)
{
    struct mpf_message message;
    if (mpf_codec_encode(work->state->codec, object, &message) < 0) {
        return -1;
    }
    int rc = work_report(work, &message, tag);
    mpf_codec_release(work->state->codec, &message);
    if (rc < 0) {
        mpf_errors_raise(rc);
        return -1;
    }
    return 0;
}

static int
work_send_list(struct work *work, PyObject *list)
{
    struct mpf_message message;
    if (mpf_codec_encode_items(work->state->codec, PySequence_Fast_ITEMS(list), PyList_GET_SIZE(list), &message) < 0) {
        return -1;
    }
    int rc = work_report(work, &message, MPF_CREW_VALUE);
    mpf_codec_release(work->state->codec, &message);
    if (rc < 0) {
        mpf_errors_raise(rc);
        return -1;
    }
    return 0;
}

/* Whether what an exception was encoded to can be decoded again. 0 or -1 with the exception of the failure set. */
static int
work_check_decodes(struct work *work, const struct mpf_message *message)
{
    char *copy = PyMem_RawMalloc(message->bytes);
    if (copy == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    mpf_codec_write(message, copy);
    PyObject *again = mpf_codec_decode(work->state->codec, copy, message->bytes, NULL);
    PyMem_RawFree(copy);
    if (again == NULL) {
        return -1;
    }
    bool is_exception = PyExceptionInstance_Check(again);
    if (!is_exception) {
        PyErr_Format(PyExc_TypeError, "an exception came out of pickling as '%s'", Py_TYPE(again)->tp_name);
    }
    Py_DECREF(again);
    return is_exception ? 0 : -1;
}

/* Reports an exception. 0, or -1 with the exception of the failure set. */
static int
work_send_error(struct work *work, PyObject *error)
{
    struct mpf_message message;
    if (mpf_codec_encode(work->state->codec, error, &message) < 0) {
        return -1;
    }
    int rc = work_check_decodes(work, &message);
    if (rc == 0) {
        rc = work_report(work, &message, MPF_CREW_ERROR);
        if (rc < 0) {
            mpf_errors_raise(rc);
            rc = -1;
        }
    }
    mpf_codec_release(work->state->codec, &message);
    return rc;
}

/* The last resort. The exception that is set says what failed. */
static void
work_send_text(struct work *work)
{
    PyObject *error = mpf_receiver_take_error();
    PyObject *text = PyObject_Repr(error);
    const char *chars = text != NULL ? PyUnicode_AsUTF8(text) : NULL;
    char line[1024];
    if (chars == NULL) {
        PyErr_Clear();
    }
    int length = snprintf(line, sizeof line, "the result of a task cannot be sent: %s",
                          chars != NULL ? chars : Py_TYPE(error)->tp_name);
    struct mpf_lane_message parcel = {.data = line, .tag = MPF_CREW_TEXT};
    parcel.bytes = length < (int)sizeof line ? (size_t)length : sizeof line - 1;
    Py_XDECREF(text);
    Py_DECREF(error);
    while (mpf_worker_report(&work->worker, &parcel, NULL) == -ENOMEM) {
        const struct timespec pause = {0, WORK_RETRY_NS}; /* the parent gives memory back when it collects */
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&pause, NULL);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0) {
            PyErr_Clear();
        }
    }
}

/* What is sent in place of what cannot be sent, because of the exception that is set. New reference, NULL with an exception. */
static PyObject *
work_replace(struct work *work, PyObject *object, bool ok)
{
    PyObject *error = mpf_receiver_take_error();
    if (work->unencodable == NULL) {
        return error;
    }
    PyObject *other = PyObject_CallFunctionObjArgs(work->unencodable, error, object, ok ? Py_True : Py_False, NULL);
    Py_DECREF(error);
    return other;
}

/* Sends outcome->error, wrapped. */
static void
work_report_error(struct work *work, struct work_outcome *outcome)
{
    PyObject *error = outcome->error; /* owned */
    if (!outcome->final && work->wrap != NULL) {
        PyObject *wrapped = PyObject_CallOneArg(work->wrap, error);
        if (wrapped == NULL) {
            PyErr_Clear();
        } else {
            Py_SETREF(error, wrapped);
        }
    }
    if (work_send_error(work, error) < 0) {
        PyObject *other = work_replace(work, outcome->final || error == outcome->error ? error : outcome->error, false);
        if (other == NULL || work_send_error(work, other) < 0) {
            work_send_text(work);
        }
        Py_XDECREF(other);
    }
    Py_DECREF(error);
    outcome->error = NULL;
}

/* Sends what came of the task, and lets go of it. */
static void
work_report_outcome(struct work *work, struct work_outcome *outcome)
{
    if (outcome->value != NULL) {
        int rc = outcome->piece ? work_send_list(work, outcome->value)
                                : work_send(work, outcome->value, MPF_CREW_VALUE);
        if (rc < 0) {
            outcome->error = work_replace(work, outcome->value, true);
            outcome->final = true;
            if (outcome->error == NULL) {
                work_send_text(work);
            }
        }
    }
    if (outcome->error != NULL) {
        work_report_error(work, outcome);
    }
    Py_CLEAR(outcome->value);
}

/* ---- limits ---- */

/* Resident bytes of this process, 0 where they are not to be had. */
static long long
work_memory(struct work *work)
{
    char text[128];
    long long pages;
    ssize_t got = pread(work->statm, text, sizeof text - 1, 0);
    if (got <= 0) {
        return 0;
    }
    text[got] = '\0';
    return sscanf(text, "%*s %lld", &pages) == 1 ? pages * work->page : 0;
}

/* Why the worker is to leave after a task, or NULL. */
static const char *
work_limit(struct work *work)
{
    work->done++;
    if (work->max_tasks != 0 && work->done >= work->max_tasks) {
        return "maxtasks";
    }
    if (work->max_memory != 0) {
        long long memory = work_memory(work);
        mpf_worker_note_memory(&work->worker, (uint64_t)memory);
        if (memory > work->max_memory) {
            return "memory";
        }
    }
    return NULL;
}

/* ---- the loop ---- */

/* An exception of a signal handler while there is nothing in hand: dropped if it is Ctrl-C's, which goes to all processes and
 * is the parent's to deal with. 0, or -1 with the exception. */
static int
work_interrupted(void)
{
    if (!PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* 0; 1 the parent is gone; -1 with an exception. */
static int
work_wait(struct work *work)
{
    struct mpf_wait wait;
    work_drop_old_jobs(work);
    mpf_wait_init(&wait, work->worker.arena, MPF_FOREVER);
    int rc = mpf_worker_await(&wait.park, &work->worker);
    if (rc == -EOWNERDEAD) {
        return 1;
    }
    if (rc == -EINTR) {
        return work_interrupted();
    }
    if (rc < 0 && rc != -ETIMEDOUT) {
        mpf_errors_raise(rc);
        return -1;
    }
    return 0;
}

/* Why a worker that is to claim no more has to leave. */
static const char *
work_reason(const struct work *work)
{
    if (atomic_load(&work->worker.entry->dismissed)) {
        return "dismissed";
    }
    return atomic_load(&work->worker.crew->phase) == MPF_CREW_ABANDONED ? "abandoned" : "closed";
}

/* Why it ended, or NULL with an exception. */
static const char *
work_loop(struct work *work)
{
    for (;;) {
        struct mpf_task task;
        struct work_outcome outcome;
        if (PyErr_CheckSignals() < 0 && work_interrupted() < 0) {
            return NULL;
        }
        int rc = mpf_worker_claim(&work->worker, &task);
        if (rc == -EAGAIN) {
            rc = work_wait(work);
            if (rc != 0) {
                return rc > 0 ? "orphaned" : NULL;
            }
            continue;
        }
        if (rc == -EPIPE || rc == -EOWNERDEAD) {
            return rc == -EPIPE ? work_reason(work) : "orphaned";
        }
        if (rc == -ENOMEM) {
            mpf_errors_raise(rc);
            outcome = (struct work_outcome){.error = mpf_receiver_take_error(), .final = true};
        } else if (rc < 0) {
            mpf_errors_raise(rc);
            return NULL;
        } else if (work_do(work, &task, &outcome) < 0) {
            return NULL;
        }
        work_report_outcome(work, &outcome);
        const char *limit = work_limit(work);
        if (limit != NULL) {
            return limit;
        }
        if (work->done % WORK_YIELD == 0) {
            Py_BEGIN_ALLOW_THREADS
            Py_END_ALLOW_THREADS
        }
    }
}

PyDoc_STRVAR(crew_work_doc,
"crew_work($module, /, crew, slot, wrap=None, unencodable=None, maxtasks=None, max_memory=None, undecodable=None)\n--\n\n"
"Do the tasks of a crew, as its worker in that slot, until there is a reason to leave, which is returned:\n"
"'closed', 'abandoned', 'dismissed', 'orphaned' (the parent is dead), 'maxtasks', 'memory' (resident bytes above max_memory).\n\n"
"wrap(exception): what is sent in place of an exception.  unencodable(error, value, ok): the exception to be sent in place of a\n"
"result (ok) or an exception that cannot be sent.  undecodable(error): the error of a task whose arguments cannot be decoded;\n"
"what it raises is raised here, with the task unanswered.");

/* A number or None. 0 or -1 with an exception. */
static int
work_parse_limit(PyObject *given, const char *name, long long *limit)
{
    *limit = 0;
    if (given == Py_None) {
        return 0;
    }
    *limit = PyLong_AsLongLong(given);
    if (*limit == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (*limit < 1) {
        PyErr_Format(PyExc_ValueError, "%s must be positive", name);
        return -1;
    }
    return 0;
}

static PyObject *
crew_work(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"crew", "slot", "wrap", "unencodable", "maxtasks", "max_memory", "undecodable", NULL};
    struct mpf_state *state = mpf_state_of(module);
    PyObject *crew, *wrap = Py_None, *unencodable = Py_None, *maxtasks = Py_None, *max_memory = Py_None; /* borrowed */
    PyObject *undecodable = Py_None;
    unsigned int slot;
    struct work work = {.state = state, .statm = -1};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!I|OOOOO:crew_work", names, state->crew_type, &crew, &slot, &wrap,
                                     &unencodable, &maxtasks, &max_memory, &undecodable) ||
        work_parse_limit(maxtasks, "maxtasks", &work.max_tasks) < 0 ||
        work_parse_limit(max_memory, "max_memory", &work.max_memory) < 0) {
        return NULL;
    }
    const struct mpf_crew_object *self = mpf_crew_object_of(crew);
    const struct mpf_ref *ref = self->crew.shm != NULL ? &self->crew.ref : &self->ref;
    work.wrap = wrap != Py_None ? wrap : NULL;
    work.unencodable = unencodable != Py_None ? unencodable : NULL;
    work.undecodable = undecodable != Py_None ? undecodable : NULL;
    int rc = ref->off != 0 ? mpf_worker_join(&work.worker, ref, slot) : -EINVAL;
    if (rc == -EOWNERDEAD) {
        return PyUnicode_FromString("orphaned");
    }
    if (rc < 0) {
        return mpf_errors_raise(rc);
    }
    if (work.max_memory != 0) {
        work.statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
        work.page = sysconf(_SC_PAGESIZE);
    }
    const char *reason = work_loop(&work);
    if (reason != NULL || work.worker.record == NULL) {
        mpf_worker_leave(&work.worker);
    }
    work_drop_jobs(&work);
    if (work.statm >= 0) {
        close(work.statm);
    }
    return reason != NULL ? PyUnicode_FromString(reason) : NULL;
}

static PyMethodDef work_functions[] = {
    {"crew_work", (PyCFunction)(void (*)(void))crew_work, METH_VARARGS | METH_KEYWORDS, crew_work_doc},
    {NULL, NULL, 0, NULL},
};

int
mpf_crew_work_register(PyObject *module)
{
    return PyModule_AddFunctions(module, work_functions);
}
