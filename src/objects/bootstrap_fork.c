/*
 * Purpose: forking children together with what parent and child watch each other through.
 *
 * Why in C: after a fork every page that the parent writes to costs it a fault, too, and the child a copy; see bootstrap.c.
 *
 * Threads: threading's own hook after a fork cleans up after the threads that the child has not got. That is a function of
 * Python which touches some hundred and fifty pages. With one thread it leaves everything as it finds it but, since 3.14, the
 * native id of that thread; so for the time of such a fork the function is given a body that does no more. (A hook cannot be
 * taken away, and leaving it out for good would break the forks that the program makes itself.)
 *
 * Invariants: no child without a descriptor to watch it: one is reserved before the fork, of /dev/null; the child can use it
 * for its standard input, for which its parent keeps streams ready, by descriptor. The hook has its own body whenever
 * other code of Python runs, but for what other hooks do during the fork. Nothing of the children is seen before the last one
 * is forked, or has failed to be.
 *
 * Callers: Python code, attached to the interpreter.
 *
 * Death of the caller: the child sees that its parent has changed, and gets a sentinel that says so.
 */
#include "objects/bootstrap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory/participant.h"
#include "objects/errors.h"
#include "platform/follow.h"
#include "platform/process.h"
#include "platform/watch.h"

#define MOST_STREAMS 64

/* A descriptor that is readable at once, as the sentinel of a process that has ended is; -errno. */
static int
fork_ended(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    close(ends[1]);
    return ends[0];
}

/* Whether all threads in a set of weak references are over, but for main. Their objects may live on: the hook has nothing to do
 * for them. */
static bool
fork_are_over(struct bootstrap *b, PyObject *references, PyObject *main)
{
    bool over = PySet_GET_SIZE(references) == 1; /* main itself */
#if PY_VERSION_HEX >= 0x030D0000
    (void)b;
    (void)main; /* what tells of an end there would have to be called */
#else
    if (over) {
        return true;
    }
    over = true;
    PyObject *iterator = PyObject_GetIter(references), *reference;
    while (over && iterator != NULL && (reference = PyIter_Next(iterator)) != NULL) {
        PyObject *thread = PyWeakref_GetObject(reference); /* borrowed */
        if (thread != NULL && thread != Py_None && thread != main) {
            PyObject *stopped = PyObject_GetAttr(thread, b->str__is_stopped);
            over = stopped == Py_True;
            Py_XDECREF(stopped);
        }
        Py_DECREF(reference);
    }
    over = over && iterator != NULL && !PyErr_Occurred();
    Py_XDECREF(iterator);
#endif
    return over;
}

/* Whether the calling thread is in a dict of threads by their number, as the only one, and is main. Writes to nothing. */
static bool
fork_is_only(PyObject *active, PyObject *main)
{
    PyObject *ident, *thread; /* borrowed */
    Py_ssize_t position = 0;
    bool only = PyDict_CheckExact(active) && PyDict_GET_SIZE(active) == 1 && PyDict_Next(active, &position, &ident, &thread) &&
                thread == main && PyLong_CheckExact(ident) && PyLong_AsUnsignedLong(ident) == PyThread_get_thread_ident();
    PyErr_Clear(); /* a number that is none of a thread */
    return only;
}

/* Whether threading knows of the calling thread only, and of no other that might still be waited for. One that watches may start
 * another at any time, even in the midst of a fork: other hooks let it have its turn. */
static bool
fork_is_single_threaded(struct bootstrap *b)
{
    PyObject *active = GET(threading, _active), *limbo = GET(threading, _limbo), *all = GET(threading, _dangling);
    PyObject *main = GET(threading, _main_thread);
    if (mpf_watch_runs() || b->hook_body == NULL || active == NULL || limbo == NULL || all == NULL || main == NULL ||
        !fork_is_only(active, main) || !PyDict_CheckExact(limbo) || PyDict_GET_SIZE(limbo) != 0 ||
        BOOTSTRAP_START_OF_THREADS(!IS_KNOWN) || !IS_KNOWN(threading, get_ident)) {
        return false;
    }
    PyObject *references = PyObject_GetAttr(all, b->str_data);
    bool single = references != NULL && PySet_CheckExact(references) && fork_are_over(b, references, main);
    Py_XDECREF(references);
    PyErr_Clear();
    return single;
}

PyObject *
mpf_bootstrap_is_single_threaded(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(fork_is_single_threaded((struct bootstrap *)self));
}

/* From now on do, or do not, without threading's hook. 1; 0: there is none, or an audit hook objects; -1 with an exception. */
static int
fork_skip_hook(struct bootstrap *b, bool skip)
{
    if (b->hook_body == NULL) {
        return 0;
    }
    if (PyObject_SetAttr(b->hook, b->str___code__, skip ? b->no_body : b->hook_body) == 0) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

PyObject *
mpf_bootstrap_skip_hook(PyObject *self, PyObject *skip)
{
    int skipped = fork_skip_hook((struct bootstrap *)self, skip == Py_True);
    return skipped < 0 ? NULL : PyBool_FromLong(skipped);
}

/* Has a stream for the descriptor ready, as util._close_stdin() makes it, for every child to which it is passed. */
static int
fork_prepare_stream(struct bootstrap *b, int fd)
{
    PyObject *number = PyLong_FromLong(fd), *args = NULL, *kwargs = NULL, *stream = NULL;
    if (number != NULL && PyDict_GetItemWithError(b->streams, number) == NULL && PyDict_GET_SIZE(b->streams) < MOST_STREAMS) {
        args = PyTuple_Pack(1, number);
        kwargs = args != NULL ? Py_BuildValue("{s:s,s:O}", "encoding", "utf-8", "closefd", Py_False) : NULL;
        stream = kwargs != NULL ? PyObject_Call(b->open, args, kwargs) : NULL;
    }
    int error = stream != NULL ? PyDict_SetItem(b->streams, number, stream) : PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(stream);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_XDECREF(number);
    return error;
}

/* What the children of one call have in common. */
struct fork_plan {
    PyObject *function, *own, *intent, *run; /* borrowed */
    bool follow;
    pid_t parent;
    bool again; /* not the first child */
};

/* Before a fork (on), and after it in both processes: what hooks see of it. 0 or -1 with an exception. */
static int
fork_show(struct bootstrap *b, const struct fork_plan *plan, bool on)
{
    return plan->intent != Py_None ? PyObject_SetAttr(plan->intent, b->str_preserve_fd, on ? Py_True : Py_False) : 0;
}

/* The pid as fork() returns it, -1: exception. */
static pid_t
fork_call(struct bootstrap *b, const struct fork_plan *plan)
{
    int skip = fork_is_single_threaded(b) ? fork_skip_hook(b, true) : 0;
    if (skip < 0) {
        return -1;
    }
    mpf_fork_announce(plan->again);
    PyObject *result = fork_show(b, plan, true) == 0 ? PyObject_CallNoArgs(plan->function) : NULL;
    pid_t pid = result != NULL ? (pid_t)PyLong_AsLong(result) : -1;
    Py_XDECREF(result);
    if (pid != 0) {
        mpf_fork_tell((int32_t)pid);
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (skip > 0) {
        (void)fork_skip_hook(b, false);
    }
    (void)fork_show(b, plan, false);
    PyErr_Restore(type, value, traceback);
    return pid;
}

/* In the child: its parent's pidfd, or what stands for a parent that has ended; -errno. */
static int
fork_watch_parent(pid_t parent)
{
    int fd = mpf_process_open(parent);
    if (fd >= 0 && getppid() == parent) {
        return fd;
    }
    if (fd >= 0) {
        close(fd); /* the pid may be another process's by now */
    }
    return fork_ended();
}

static void
fork_end(pid_t pid)
{
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* In the parent: the child's pidfd, or -errno, and there is no child. */
static int
fork_watch_child(pid_t pid)
{
    int fd = mpf_process_open(pid);
    if (fd == -ESRCH) {
        return fork_ended(); /* it has ended, and somebody else has waited for it */
    }
    if (fd < 0) {
        fork_end(pid);
    }
    return fd;
}

/* In the child: has it forget what its parent has registered with atexit, where it runs what it registers itself. 0 or -1. */
static int
fork_begin_exits(struct bootstrap *b)
{
    if (b->exits) {
        return 0;
    }
    PyObject *result = NULL;
    if (mpf_bootstrap_call(GET(atexit, _clear)) == 0) {
        PyObject *enlist = GET(atexit, register), *function = GET_KNOWN(util, _exit_function);
        result = enlist != NULL && function != NULL ? PyObject_CallOneArg(enlist, function) : NULL;
    }
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

/* In the child: the exit code of the process, which has run; NULL where it has not. No exception. */
static PyObject *
fork_run_known(struct bootstrap *b, PyObject *process, PyObject *sentinel)
{
    PyObject *code = fork_begin_exits(b) == 0 ? mpf_bootstrap_run(b, process, sentinel) : NULL;
    if (code == Py_NotImplemented) { /* what was registered has had something replaced as it went */
        Py_DECREF(code);
        return NULL;
    }
    PyErr_Clear();
    if (code == NULL) {
        code = PyLong_FromLong(1);
    }
    if (!b->exits) {
        (void)mpf_bootstrap_call(GET(atexit, _run_exitfuncs));
    }
    PyErr_Clear();
    return code;
}

/* The same, where the process object is as it is known. */
static PyObject *
fork_run(struct bootstrap *b, PyObject *process, PyObject *own, int sentinel)
{
    PyObject *attributes = PyObject_GenericGetDict(process, NULL);
    PyObject *number = attributes != NULL ? PyLong_FromLong(sentinel) : NULL;
    PyObject *code = NULL;
    if (number != NULL && mpf_bootstrap_is_known(b) && mpf_bootstrap_inherits(process, attributes, b->str__bootstrap, own)) {
        code = fork_run_known(b, process, number);
    }
    Py_XDECREF(number);
    Py_XDECREF(attributes);
    PyErr_Clear();
    return code;
}

/* In the child: is the process, and ends with it. Returns where it is to be run by its methods. */
static void
fork_be(struct bootstrap *b, PyObject *process, PyObject *own, bool follow, pid_t parent, int sentinel)
{
    if (follow && mpf_follow_start((int32_t)parent, 0, false) < 0) {
        _exit(1);
    }
    PyObject *code = fork_run(b, process, own, sentinel);
    if (code == NULL) {
        return;
    }
    mpf_participant_leave_all();
    PyObject *end = GET(os, _exit);
    Py_XDECREF(end != NULL ? PyObject_CallOneArg(end, code) : NULL);
    _exit(1);
}

/* In the child: has the process run by its methods, and ends. */
static void
fork_be_by_methods(const struct fork_plan *plan, PyObject *process, int sentinel)
{
    PyObject *result = PyObject_CallFunction(plan->run, "OOni", process, plan->follow ? Py_True : Py_False,
                                             (Py_ssize_t)plan->parent, sentinel);
    Py_XDECREF(result);
    _exit(1);
}

/* In the child: becomes the process. Does not return: the program goes on in the parent alone. */
static void
fork_begin(struct bootstrap *b, const struct fork_plan *plan, PyObject *process, int reserved)
{
    b->reserved = reserved;
    int fd = fork_watch_parent(plan->parent);
    if (fd == -EMFILE) {
        close(reserved);
        b->reserved = -1;
        fd = fork_watch_parent(plan->parent);
    }
    if (fd >= 0) {
        fork_be(b, process, plan->own, plan->follow, plan->parent, fd);
        fork_be_by_methods(plan, process, fd);
    }
    _exit(1);
}

/* In the parent: the Popen gets its child. The pid comes last: a Popen that has it has all. 0 or -1 with an exception. */
static int
fork_tell(struct bootstrap *b, PyObject *popen, pid_t pid, int fd)
{
    PyObject *number = PyLong_FromLong((long)pid), *sentinel = PyLong_FromLong(fd);
    int error = number != NULL && sentinel != NULL && PyObject_SetAttr(popen, b->str_sentinel, sentinel) == 0 &&
                PyObject_SetAttr(popen, b->str_pid, number) == 0 ? 0 : -1;
    Py_XDECREF(sentinel);
    Py_XDECREF(number);
    return error;
}

/* A child as its parent has it. */
struct fork_child {
    pid_t pid;
    int fd;
};

/* In the parent, at last: each Popen gets its child, or that is ended. Keeps an exception that there is; 0 or -1 with another. */
static int
fork_tell_all(struct bootstrap *b, PyObject *popens, const struct fork_child *children, Py_ssize_t count)
{
    PyObject *type, *value, *traceback;
    int error = 0;
    PyErr_Fetch(&type, &value, &traceback);
    for (Py_ssize_t i = 0; i < count; i++) {
        error = error == 0 ? fork_tell(b, PyTuple_GET_ITEM(popens, i), children[i].pid, children[i].fd) : error;
        if (error < 0) {
            fork_end(children[i].pid);
            close(children[i].fd);
        }
    }
    if (error == 0) {
        PyErr_Restore(type, value, traceback);
        return 0;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return -1;
}

/* One more child. 0 or -1 with an exception. */
static int
fork_one(struct bootstrap *b, const struct fork_plan *plan, PyObject *process, struct fork_child *child)
{
    int reserved = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (reserved < 0) {
        mpf_errors_raise(-errno);
        return -1;
    }
    pid_t pid = fork_prepare_stream(b, reserved) == 0 ? fork_call(b, plan) : -1;
    if (pid == 0) {
        fork_begin(b, plan, process, reserved);
    }
    if (getpid() != plan->parent) {
        _exit(1); /* the child, of a function in the place of os.fork() that has raised something there */
    }
    close(reserved);
    if (pid < 0) {
        return -1;
    }
    child->pid = pid;
    child->fd = fork_watch_child(pid);
    if (child->fd < 0) {
        mpf_errors_raise(child->fd);
        return -1;
    }
    return 0;
}

/* All the children, with nothing else between two forks: it would be on pages that are copied for it, each time. 0 or -1 with an
 * exception; how many there are is in *count. */
static int
fork_each(struct bootstrap *b, struct fork_plan *plan, PyObject *processes, struct fork_child *children, Py_ssize_t *count)
{
    int error = 0;
    for (*count = 0; error == 0 && *count < PyTuple_GET_SIZE(processes);) {
        /* What hooks of a fork, or other threads, have printed meanwhile must not be in the next child as well. */
        plan->again = *count != 0;
        error = plan->again ? mpf_bootstrap_flush(b) : 0;
        if (error == 0) {
            error = fork_one(b, plan, PyTuple_GET_ITEM(processes, *count), &children[*count]);
        }
        *count += error == 0;
    }
    return error;
}

const char mpf_bootstrap_fork_doc[] = PyDoc_STR(
"fork($self, fork, processes, bootstrap, follow, popens, intent, run, /)\n--\n\n"
"Call fork, which is os.fork, for each of the processes, a tuple.  The object in the same place of the tuple popens has its\n"
"sentinel and pid then.  Raises OSError where a child cannot be forked, or there is no descriptor to be had: those before\n"
"it are there.  Returns in the parent only.\n\n"
"A child becomes its process object and ends with it.  Where the object has another _bootstrap than the function bootstrap,\n"
"or something around that was replaced, it calls run(process, follow, pid of the parent, sentinel of the parent).  follow:\n"
"have the children end together with their parent.  intent: an object whose preserve_fd is true during each fork, or None.");

PyObject *
mpf_bootstrap_fork(PyObject *self, PyObject *args)
{
    struct bootstrap *b = (struct bootstrap *)self;
    struct fork_plan plan;
    PyObject *processes, *popens;
    int follow;
    if (!PyArg_ParseTuple(args, "OO!OpO!OO:fork", &plan.function, &PyTuple_Type, &processes, &plan.own, &follow, &PyTuple_Type,
                          &popens, &plan.intent, &plan.run)) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(processes) != PyTuple_GET_SIZE(popens)) {
        PyErr_SetString(PyExc_ValueError, "each process needs a Popen");
        return NULL;
    }
    plan.follow = follow != 0;
    plan.parent = getpid();
    struct fork_child *children = PyMem_New(struct fork_child, PyTuple_GET_SIZE(processes) + 1);
    if (children == NULL) {
        return PyErr_NoMemory();
    }
    mpf_bootstrap_make_ahead(b);
    Py_ssize_t count;
    int error = fork_each(b, &plan, processes, children, &count);
    if (fork_tell_all(b, popens, children, count) < 0) {
        error = -1;
    }
    PyMem_Free(children);
    return error < 0 ? NULL : Py_NewRef(Py_None);
}
