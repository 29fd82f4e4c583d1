/*
 * Purpose: the server that forks, for Python: its loop, and asking it for children.
 *
 * Layout, states: see engine/zygote.c.
 *
 * Invariants: nothing of Python is touched in the server between two forks, so that the pages of its objects
 * stay shared with its children, except to do for all of them what a child has told it to.
 *
 * Callers: Python code, attached to the interpreter; serve_zygote() in a process with one thread.
 *
 * Death of the caller: see engine/zygote.c.
 */
#include <Python.h>

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "engine/zygote.h"
#include "objects/errors.h"
#include "objects/types.h"

/* In the server: forks. In the child 0, else what fork() returned, or -errno. */
static pid_t
zygote_fork(void)
{
    PyOS_BeforeFork();
    pid_t pid = fork();
    int error = errno;
    if (pid == 0) {
        PyOS_AfterFork_Child();
    } else {
        PyOS_AfterFork_Parent();
    }
    return pid < 0 ? -error : pid;
}

/* New reference to what the child gets to know. */
static PyObject *
zygote_describe(const struct mpf_zygote_child *child)
{
    PyObject *fds = PyList_New((Py_ssize_t)child->count);
    for (unsigned i = 0; fds != NULL && i < child->count; i++) {
        PyObject *number = PyLong_FromLong(child->fds[i]);
        if (number == NULL) {
            Py_CLEAR(fds);
        } else {
            PyList_SET_ITEM(fds, (Py_ssize_t)i, number);
        }
    }
    return fds != NULL ? Py_BuildValue("iiN", (int)child->client, child->client_pidfd, fds) : NULL;
}

/* Calls the function with the text, or with None. Returns whether there is more to do; no exception. */
static bool
zygote_work(PyObject *told, const char *text)
{
    PyObject *argument = text != NULL ? PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace") : Py_NewRef(Py_None);
    PyObject *more = argument != NULL ? PyObject_CallOneArg(told, argument) : NULL;
    bool goes_on = more == Py_True, is_done = more == Py_False;
    Py_XDECREF(argument);
    Py_XDECREF(more);
    PyErr_Clear(); /* children do without */
    if (is_done) {
        mpf_zygote_changed();
    }
    return goes_on;
}

PyDoc_STRVAR(serve_zygote_doc,
"serve_zygote($module, control, told, /)\n--\n\n"
"Fork a child for everybody who asks for one over the socket control.\n\n"
"told: called with what a child tells, a str, and then with None as long as it returns True and nobody asks.  It returns\n"
"False when it has done something, and None when there was nothing to do.\n"
"Returns in each child: (pid of who asked, a descriptor that is readable once that one has ended or -1, the list\n"
"of the descriptors it passed).  Returns None in the server, when nobody is left who could ask.  A child whose client has\n"
"ended already ends in the call.");

static PyObject *
zygote_serve(PyObject *Py_UNUSED(module), PyObject *args)
{
    int control;
    PyObject *told;
    if (!PyArg_ParseTuple(args, "iO:serve_zygote", &control, &told)) {
        return NULL;
    }
    struct mpf_zygote *zygote;
    struct mpf_zygote_child child;
    bool busy = false;
    int error = mpf_zygote_open(control, &zygote);
    if (error < 0) {
        return mpf_errors_raise(error);
    }
    for (;;) {
        Py_BEGIN_ALLOW_THREADS
        error = mpf_zygote_next(zygote, busy, &child);
        Py_END_ALLOW_THREADS
        if (error == -EINTR && PyErr_CheckSignals() == 0) {
            continue;
        }
        if (error == MPF_ZYGOTE_TOLD || error == MPF_ZYGOTE_IDLE) {
            busy = zygote_work(told, error == MPF_ZYGOTE_TOLD ? mpf_zygote_told(zygote) : NULL);
            continue;
        }
        if (error != MPF_ZYGOTE_FORK) {
            break;
        }
        pid_t pid = zygote_fork();
        if (pid == 0) {
            error = mpf_zygote_begin(zygote, &child);
            if (error == -EPIPE) {
                _exit(1);
            }
            return error < 0 ? mpf_errors_raise(error) : zygote_describe(&child);
        }
        mpf_zygote_forked(zygote, &child, pid);
    }
    mpf_zygote_close(zygote);
    if (error < 0) {
        return mpf_errors_raise(error);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(note_zygote_doc,
"note_zygote($module, /)\n--\n\n"
"In a child of the server that is about to end: note what children that are forked in advance will need.");

static PyObject *
zygote_note(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    mpf_zygote_note();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(tell_zygote_doc,
"tell_zygote($module, control, text, /)\n--\n\n"
"Tell the server at the other end of the socket control something, a str that is of no importance to the caller.");

static PyObject *
zygote_tell(PyObject *Py_UNUSED(module), PyObject *args)
{
    int control;
    const char *text;
    if (!PyArg_ParseTuple(args, "is:tell_zygote", &control, &text)) {
        return NULL;
    }
    mpf_zygote_tell(control, text);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(ask_zygote_doc,
"ask_zygote($module, control, follow, fds, /)\n--\n\n"
"Ask the server at the other end of the socket control for a child that gets duplicates of the descriptors fds (a list).\n\n"
"follow: whether the child ends together with this process.  Returns the descriptor that hear_zygote() reads from.\n"
"Raises BrokenPipeError where there is no server any more, ValueError for too many descriptors.");

static PyObject *
zygote_ask(PyObject *Py_UNUSED(module), PyObject *args)
{
    int control, follow, connection, error;
    PyObject *list; /* borrowed */
    if (!PyArg_ParseTuple(args, "ipO!:ask_zygote", &control, &follow, &PyList_Type, &list)) {
        return NULL;
    }
    int fds[MPF_ZYGOTE_FDS];
    Py_ssize_t count = PyList_GET_SIZE(list);
    if (count > MPF_ZYGOTE_FDS) {
        PyErr_SetString(PyExc_ValueError, "too many fds");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        fds[i] = PyObject_AsFileDescriptor(PyList_GET_ITEM(list, i));
        if (fds[i] < 0) {
            return NULL;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    error = mpf_zygote_ask(control, follow != 0, fds, (unsigned)count, &connection);
    Py_END_ALLOW_THREADS
    if (error < 0) {
        return mpf_errors_raise(error);
    }
    return PyLong_FromLong(connection);
}

PyDoc_STRVAR(hear_zygote_doc,
"hear_zygote($module, connection, timeout=-1, /)\n--\n\n"
"Wait for news of a child for at most so many milliseconds (-1: for ever).\n\n"
"Returns None when the time is up, else one of (\"started\", pid, pidfd), (\"ended\", pid, status as of os.waitpid()),\n"
"(\"failed\", 0, errno of fork()).  Raises EOFError when the server has ended: there will be no more news.");

static PyObject *
zygote_hear(PyObject *Py_UNUSED(module), PyObject *args)
{
    static const char *const names[] = {
        [MPF_ZYGOTE_STARTED] = "started", [MPF_ZYGOTE_ENDED] = "ended", [MPF_ZYGOTE_FAILED] = "failed"};
    int connection, timeout = -1, pidfd, heard;
    struct mpf_zygote_message message;
    if (!PyArg_ParseTuple(args, "i|i:hear_zygote", &connection, &timeout)) {
        return NULL;
    }
    do {
        Py_BEGIN_ALLOW_THREADS
        heard = mpf_zygote_hear(connection, timeout, &message, &pidfd);
        Py_END_ALLOW_THREADS
        if (heard == -EINTR && PyErr_CheckSignals() < 0) {
            return NULL;
        }
    } while (heard == -EINTR || (heard == 0 && timeout < 0));
    if (heard == 0) {
        Py_RETURN_NONE;
    }
    if (heard == -EPIPE) {
        PyErr_SetString(PyExc_EOFError, "the fork server has ended");
        return NULL;
    }
    if (heard < 0 || message.news > MPF_ZYGOTE_FAILED) {
        return mpf_errors_raise(heard < 0 ? heard : -EPROTO);
    }
    return Py_BuildValue("siL", names[message.news], (int)message.pid,
                         message.news == MPF_ZYGOTE_STARTED ? (long long)pidfd : (long long)message.value);
}

PyDoc_STRVAR(is_news_doc,
"is_news($module, sentinel, connection, /)\n--\n\n"
"Whether there is anything to hear of a child: it has ended, or hear_zygote() would return or raise something.");

static PyObject *
zygote_is_news(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    struct pollfd polled[2];
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "is_news() takes two descriptors");
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        polled[i] = (struct pollfd){.fd = PyObject_AsFileDescriptor(args[i]), .events = POLLIN};
        if (polled[i].fd < 0) {
            return NULL;
        }
    }
    return PyBool_FromLong(poll(polled, 2, 0) != 0); /* an error is for who looks closely */
}

static PyMethodDef zygote_functions[] = {
    {"serve_zygote", zygote_serve, METH_VARARGS, serve_zygote_doc},
    {"tell_zygote", zygote_tell, METH_VARARGS, tell_zygote_doc},
    {"note_zygote", zygote_note, METH_NOARGS, note_zygote_doc},
    {"ask_zygote", zygote_ask, METH_VARARGS, ask_zygote_doc},
    {"hear_zygote", zygote_hear, METH_VARARGS, hear_zygote_doc},
    {"is_news", (PyCFunction)(void (*)(void))zygote_is_news, METH_FASTCALL, is_news_doc},
    {NULL, NULL, 0, NULL},
};

int
mpf_zygote_register(PyObject *module)
{
    return PyModule_AddFunctions(module, zygote_functions);
}
