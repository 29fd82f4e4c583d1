/*
 * Purpose: the loop of a worker: takes tasks, calls what they say, has sent back what came of it.
 *
 * Layout: private memory on the stack of crew_work(); payloads as crew_submit.c says.
 *
 * States of a task here: claimed -> decoded -> called -> reported (crew_report.c). A step that fails makes an exception what came
 * of the task.
 *
 * Invariants: every task that was claimed is reported before the next one is claimed. What a task made and used is let go before
 * the worker waits. The functions of jobs are kept as long as their job lives, at most MPF_WORK_JOBS of them.
 *
 * Callers: one thread of a worker process, attached to the interpreter.
 *
 * Death of the caller: see engine/worker.c: it costs the task in hand.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "objects/crew_work.h"
#include "objects/errors.h"
#include "objects/message.h"
#include "objects/types.h"
#include "objects/wait.h"
#include "platform/clock.h"

#define WORK_YIELD 64            /* tasks after which other threads of the worker have their turn */

/* ---- functions of jobs ---- */

static void
work_drop_job(struct mpf_work *work, int i)
{
    PyObject *func = work->jobs[i].func;
    work->jobs[i] = (struct mpf_work_job){0};
    Py_XDECREF(func);
}

/* Lets go of the functions whose jobs are over. */
static void
work_drop_old_jobs(struct mpf_work *work)
{
    for (int i = 0; i < MPF_WORK_JOBS; i++) {
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
work_drop_jobs(struct mpf_work *work)
{
    for (int i = 0; i < MPF_WORK_JOBS; i++) {
        work_drop_job(work, i);
    }
}

/* New reference to what the job holds, NULL with an exception. */
static PyObject *
work_open_job(struct mpf_work *work, const struct mpf_task *task)
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
work_function(struct mpf_work *work, const struct mpf_task *task)
{
    struct mpf_work_job *jobs = work->jobs;
    int i = 0;
    while (i < MPF_WORK_JOBS && (jobs[i].off != task->job || jobs[i].generation != task->job_generation)) {
        i++;
    }
    struct mpf_work_job found;
    if (i < MPF_WORK_JOBS) {
        if (i == 0) {
            return jobs[0].func;
        }
        found = jobs[i];
    } else {
        PyObject *func = work_open_job(work, task);
        if (func == NULL) {
            return NULL;
        }
        found = (struct mpf_work_job){task->job, task->job_generation, func};
        i = MPF_WORK_JOBS - 1;
        work_drop_job(work, i);
    }
    memmove(jobs + 1, jobs, (size_t)i * sizeof *jobs);
    jobs[0] = found;
    return found.func;
}

/* ---- doing a task ---- */

/* The payload as an object; uses task->block up. NULL with an exception. */
static PyObject *
work_decode(struct mpf_work *work, struct mpf_task *task)
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
work_call_piece(struct mpf_work *work, PyObject *func, PyObject *items, uint32_t tag)
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
work_undecodable(struct mpf_work *work, PyObject **error)
{
    *error = mpf_receiver_take_error();
    if (work->undecodable == NULL) {
        return 0;
    }
    PyObject *other = PyObject_CallOneArg(work->undecodable, *error);
    Py_SETREF(*error, other);
    return other != NULL ? 0 : -1;
}

/* 0, or -1 with an exception: the worker ends with the task in its hands. */
static int
work_do(struct mpf_work *work, struct mpf_task *task, struct mpf_work_outcome *outcome)
{
    uint32_t tag = task->tag;
    PyObject *func = NULL; /* owned */
    *outcome = (struct mpf_work_outcome){0};
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

/* ---- limits ---- */

/* Resident bytes of this process, 0 where they are not to be had. */
static long long
work_memory(struct mpf_work *work)
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
work_limit(struct mpf_work *work)
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
work_wait(struct mpf_work *work)
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
work_reason(const struct mpf_work *work)
{
    if (atomic_load(&work->worker.entry->dismissed)) {
        return "dismissed";
    }
    return atomic_load(&work->worker.crew->phase) == MPF_CREW_ABANDONED ? "abandoned" : "closed";
}

/* Why it ended, or NULL with an exception. */
static const char *
work_loop(struct mpf_work *work)
{
    for (;;) {
        struct mpf_task task;
        struct mpf_work_outcome outcome;
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
            outcome = (struct mpf_work_outcome){.error = mpf_receiver_take_error(), .final = true};
        } else if (rc < 0) {
            mpf_errors_raise(rc);
            return NULL;
        } else if (work_do(work, &task, &outcome) < 0) {
            return NULL;
        }
        mpf_work_report(work, &outcome);
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
    struct mpf_work work = {.state = state, .statm = -1};
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
