/*
 * Purpose: joins the park/wake protocol to the interpreter.
 *
 * Layout: private memory only, on the stack of the waiting call.
 *
 * States of one wait, as the protocol's callbacks see it:
 *   attached --release--> detached (asleep) --resume--> attached --interrupt--> attached, handlers have run
 *
 * Invariants: Python code (signal handlers) runs attached only; a handler's exception ends the wait.
 * A signal normally interrupts the main thread's sleep. It does not when another thread of the process took it,
 * so the main thread of a process with several threads also looks every 50 ms. Whether it is that thread is found out
 * at the first such look: a short wait pays nothing for it, and any other thread looks once.
 *
 * A wait that has ends (mpf_wait_until) looks at them whenever it looks for signals, and when all sleepers are roused.
 *
 * Callers: the blocking methods of objects/, attached to the interpreter.
 *
 * Death of the caller: nothing here is shared.
 */
#include "objects/wait.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "objects/errors.h"
#include "platform/clock.h"
#include "platform/futex.h"

#define WAIT_LOOK_NS (50 * 1000 * 1000)
#define WAIT_FIRST_POLL_NS (20 * 1000 * 1000)

static void
wait_release(void *context)
{
    struct mpf_wait *wait = context;
    wait->thread = PyEval_SaveThread();
}

static void
wait_resume(void *context)
{
    struct mpf_wait *wait = context;
    PyEval_RestoreThread(wait->thread);
}

/* Whether a signal can be meant for this thread and be delivered to another. */
static bool
wait_main_of_several(void)
{
    if (syscall(SYS_gettid) != getpid()) {
        return false;
    }
    struct stat tasks;
    return stat("/proc/self/task", &tasks) < 0 || tasks.st_nlink > 3; /* one link for each thread, two for the directory */
}

static _Thread_local const struct mpf_wait_ends *wait_ends;

const struct mpf_wait_ends *
mpf_wait_until(const struct mpf_wait_ends *ends)
{
    const struct mpf_wait_ends *former = wait_ends;
    wait_ends = ends;
    return former;
}

/* 0, or -1 with EOFError: there is nothing to wait for any more. */
static int
wait_look_at_ends(const struct mpf_wait *wait)
{
    for (int i = 0; wait->ends != NULL && i < MPF_WAIT_ENDS; i++) {
        const struct mpf_event_shm *event = wait->ends->event[i];
        if (event != NULL && mpf_event_is_set(event)) {
            PyErr_SetNone(PyExc_EOFError);
            return -1;
        }
    }
    return 0;
}

static int
wait_interrupt(void *context)
{
    struct mpf_wait *wait = context;
    const struct mpf_wait_ends *ends = mpf_wait_until(NULL); /* what a handler waits for does not end with them */
    int raised = PyErr_CheckSignals();
    mpf_wait_until(ends);
    wait->park.interrupt_every = wait_main_of_several() ? WAIT_LOOK_NS : 0;
    return raised < 0 ? raised : wait_look_at_ends(wait);
}

/* Whether other threads may be waiting for the GIL. A glance at the list of threads, which others may be changing, is enough. */
static bool
wait_contended(void)
{
#ifdef Py_GIL_DISABLED
    return false;
#else
    PyThreadState *first = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    return first != NULL && PyThreadState_Next(first) != NULL;
#endif
}

void
mpf_wait_init(struct mpf_wait *wait, struct mpf_arena *arena, int64_t deadline)
{
    wait->park = MPF_PARK_INIT(arena, deadline);
    wait->park.release = wait_release;
    wait->park.resume = wait_resume;
    wait->park.interrupt = wait_interrupt;
    wait->park.interrupt_every = WAIT_LOOK_NS;
    wait->park.context = wait;
    wait->park.interrupt_roused = wait_ends != NULL;
    wait->park.contended = wait_contended();
    wait->thread = NULL;
    wait->ends = wait_ends;
}

int
mpf_wait_deadline(PyObject *timeout, int64_t *deadline)
{
    if (timeout == NULL || timeout == Py_None) {
        *deadline = MPF_FOREVER;
        return 0;
    }
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (isnan(seconds)) {
        mpf_errors_raise(-EINVAL);
        return -1;
    }
    if (seconds <= 0.0) {
        *deadline = 0;
    } else if (seconds >= 4e9) { /* longer than the clock can tell when added to it: forever */
        *deadline = MPF_FOREVER;
    } else {
        *deadline = mpf_clock_now() + (int64_t)ceil(seconds * 1e9);
    }
    return 0;
}

static int
wait_parse_block(PyObject *value, int *block)
{
#if PY_VERSION_HEX >= 0x030C0000
    *block = PyObject_IsTrue(value);
    return *block < 0 ? -1 : 0;
#else
    /* the stdlib asks for an integer here before 3.12 */
    long number = PyLong_AsLong(value);
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    *block = number != 0;
    return 0;
#endif
}

int
mpf_wait_parse_arguments(const char *function, const char *const *names, int count, PyObject *const *args,
                    Py_ssize_t nargs, PyObject *kwnames, PyObject **slots)
{
    if (nargs > count) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d argument%s (%zd given)", function, count,
                     count == 1 ? "" : "s", nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        slots[i] = args[i];
    }
    for (Py_ssize_t i = nargs; i < count; i++) {
        slots[i] = NULL;
    }
    Py_ssize_t keywords = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    for (Py_ssize_t k = 0; k < keywords; k++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, k); /* borrowed */
        int i = 0;
        while (i < count && PyUnicode_CompareWithASCIIString(name, names[i]) != 0) {
            i++;
        }
        if (i == count) {
            PyErr_Format(PyExc_TypeError, "'%U' is an invalid keyword argument for %s()", name, function);
            return -1;
        }
        if (slots[i] != NULL) {
            PyErr_Format(PyExc_TypeError, "argument for %s() given by name ('%U') and position (%d)", function, name,
                         i + 1);
            return -1;
        }
        slots[i] = args[nargs + k];
    }
    return 0;
}

/* block and timeout, either of which may be missing, as one deadline. */
static int
wait_deadline_of(PyObject *block_given, PyObject *timeout, int64_t *deadline)
{
    int block = 1;
    if (block_given != NULL && wait_parse_block(block_given, &block) < 0) {
        return -1;
    }
    if (mpf_wait_deadline(timeout, deadline) < 0) {
        return -1;
    }
    if (!block) {
        *deadline = 0;
    }
    return 0;
}

int
mpf_wait_parse_acquire(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int64_t *deadline)
{
    static const char *const names[] = {"block", "timeout"};
    PyObject *slots[2] = {NULL, NULL}; /* borrowed */
    if (mpf_wait_parse_arguments("acquire", names, 2, args, nargs, kwnames, slots) < 0) {
        return -1;
    }
    return wait_deadline_of(slots[0], slots[1], deadline);
}

int
mpf_wait_parse_put(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **object, int64_t *deadline)
{
    static const char *const names[] = {"obj", "block", "timeout"};
    PyObject *slots[3] = {NULL, NULL, NULL}; /* borrowed */
    if (mpf_wait_parse_arguments("put", names, 3, args, nargs, kwnames, slots) < 0) {
        return -1;
    }
    if (slots[0] == NULL) {
        PyErr_SetString(PyExc_TypeError, "put() missing 1 required positional argument: 'obj'");
        return -1;
    }
    *object = slots[0];
    return wait_deadline_of(slots[1], slots[2], deadline);
}

int
mpf_wait_parse_timeout(const char *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                       PyObject **timeout)
{
    static const char *const names[] = {"timeout"};
    *timeout = NULL;
    return mpf_wait_parse_arguments(name, names, 1, args, nargs, kwnames, timeout);
}

/* One poll() of at most `ns` nanoseconds; negative: no limit. As ppoll, but -errno. */
static int
wait_poll_once(struct pollfd *targets, nfds_t count, int64_t ns)
{
    struct timespec left = {ns / 1000000000, ns % 1000000000};
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = ppoll(targets, count, ns < 0 ? NULL : &left, NULL);
    rc = rc < 0 ? -errno : rc;
    Py_END_ALLOW_THREADS
    return rc;
}

/* A signal that comes just before the kernel is entered interrupts nothing. Such a one was likely caused by what this process did
 * last, so the first sleep is a short one. */
int
mpf_wait_poll(struct pollfd *targets, nfds_t count, int64_t deadline)
{
    int64_t left = deadline == MPF_FOREVER ? -1 : deadline == 0 ? 0 : deadline - mpf_clock_now();
    if (deadline != MPF_FOREVER && left < 0) {
        left = 0;
    }
    bool is_long = left < 0 || left > WAIT_FIRST_POLL_NS;
    int rc = wait_poll_once(targets, count, is_long ? WAIT_FIRST_POLL_NS : left);
    if (rc == 0 && is_long) {
        if (PyErr_CheckSignals() < 0) {
            return -EINTR;
        }
        left = deadline == MPF_FOREVER ? -1 : deadline - mpf_clock_now();
        rc = wait_poll_once(targets, count, deadline != MPF_FOREVER && left < 0 ? 0 : left);
    }
    if (rc == -EINTR) {
        return PyErr_CheckSignals() < 0 ? -EINTR : 0;
    }
    return rc == 0 ? -ETIMEDOUT : rc;
}
