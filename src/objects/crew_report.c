/*
 * Purpose: sends what came of a task, or, where that cannot be sent, an exception that says so.
 *
 * Layout: results as enum mpf_crew_outcome says.
 *
 * States of an outcome: value -> sent, or an error in its place; error -> wrapped -> sent, or another error in its place -> sent, or a line
 * of text, which cannot fail to encode.
 *
 * Invariants: something is sent in any case. An exception is sent only if it can be decoded again: those that cannot are a
 * common mistake, and the parent would have nothing to say of them.
 *
 * Callers: crew_work.c, attached to the interpreter, with the task in hand.
 *
 * Death of the caller: see engine/worker.c.
 */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "objects/crew_work.h"
#include "objects/errors.h"
#include "objects/message.h"

#define REPORT_DETACH (256 * 1024) /* results above this are copied detached */
#define REPORT_RETRY_NS (5 * 1000 * 1000)

/* The task was taken too long over, and this process is about to be killed for it. */
static void
report_await_end(void)
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
report_fill(struct mpf_work *work, const struct mpf_message *message, struct mpf_ref *block)
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
report_message(struct mpf_work *work, const struct mpf_message *message, enum mpf_crew_outcome tag)
{
    struct mpf_lane_message parcel = mpf_message_parcel(message, tag);
    struct mpf_ref block = {0};
    int rc = parcel.bytes > REPORT_DETACH ? report_fill(work, message, &block) : 0;
    if (rc == 0) {
        rc = mpf_worker_report(&work->worker, &parcel, block.off != 0 ? &block : NULL);
    }
    if (rc < 0) {
        mpf_block_unref(&block);
    }
    if (rc == -ECANCELED) {
        report_await_end();
    }
    return rc;
}

/* Encodes and reports. 0, or -1 with the exception of the failure set. */
static int
report_send(struct mpf_work *work, PyObject *object, enum mpf_crew_outcome tag)
{
    struct mpf_message message;
    if (mpf_codec_encode(work->state->codec, object, &message) < 0) {
        return -1;
    }
    int rc = report_message(work, &message, tag);
    mpf_codec_release(work->state->codec, &message);
    if (rc < 0) {
        mpf_errors_raise(rc);
        return -1;
    }
    return 0;
}

static int
report_send_list(struct mpf_work *work, PyObject *list)
{
    struct mpf_message message;
    if (mpf_codec_encode_items(work->state->codec, PySequence_Fast_ITEMS(list), PyList_GET_SIZE(list), &message) < 0) {
        return -1;
    }
    int rc = report_message(work, &message, MPF_CREW_VALUE);
    mpf_codec_release(work->state->codec, &message);
    if (rc < 0) {
        mpf_errors_raise(rc);
        return -1;
    }
    return 0;
}

/* Whether what an exception was encoded to can be decoded again. 0 or -1 with the exception of the failure set. */
static int
report_check_decodes(struct mpf_work *work, const struct mpf_message *message)
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
report_send_error(struct mpf_work *work, PyObject *error)
{
    struct mpf_message message;
    if (mpf_codec_encode(work->state->codec, error, &message) < 0) {
        return -1;
    }
    int rc = report_check_decodes(work, &message);
    if (rc == 0) {
        rc = report_message(work, &message, MPF_CREW_ERROR);
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
report_send_text(struct mpf_work *work)
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
        const struct timespec pause = {0, REPORT_RETRY_NS}; /* the parent gives memory back when it collects */
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
report_replace(struct mpf_work *work, PyObject *object, bool ok)
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
report_error(struct mpf_work *work, struct mpf_work_outcome *outcome)
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
    if (report_send_error(work, error) < 0) {
        PyObject *other = report_replace(work, outcome->final || error == outcome->error ? error : outcome->error, false);
        if (other == NULL || report_send_error(work, other) < 0) {
            report_send_text(work);
        }
        Py_XDECREF(other);
    }
    Py_DECREF(error);
    outcome->error = NULL;
}

/* Sends what came of the task, and lets go of it. */
void
mpf_work_report(struct mpf_work *work, struct mpf_work_outcome *outcome)
{
    if (outcome->value != NULL) {
        int rc = outcome->piece ? report_send_list(work, outcome->value)
                                : report_send(work, outcome->value, MPF_CREW_VALUE);
        if (rc < 0) {
            outcome->error = report_replace(work, outcome->value, true);
            outcome->final = true;
            if (outcome->error == NULL) {
                report_send_text(work);
            }
        }
    }
    if (outcome->error != NULL) {
        report_error(work, outcome);
    }
    Py_CLEAR(outcome->value);
}
