/* Waiting from Python: timeouts as the stdlib reads them, the GIL given up around sleeps, signal handlers run in between. */
#ifndef MPF_OBJECTS_WAIT_H
#define MPF_OBJECTS_WAIT_H

#include <Python.h>

#include <poll.h>
#include <stdint.h>

#include "sync/event.h"
#include "sync/park.h"

#define MPF_WAIT_ENDS 2

/* Events upon which waits end with EOFError; NULL where there are fewer. */
struct mpf_wait_ends {
    const struct mpf_event_shm *event[MPF_WAIT_ENDS];
};

struct mpf_wait {
    struct mpf_park park;
    PyThreadState *thread; /* while the GIL is given up */
    const struct mpf_wait_ends *ends; /* NULL: none */
};

/* This thread's waits end with these from now on (NULL: with none); returns what they ended with before. See until.c. */
const struct mpf_wait_ends *mpf_wait_until(const struct mpf_wait_ends *ends);

/* Prepares a wait until `deadline` (CLOCK_MONOTONIC ns, MPF_FOREVER, or 0: do not wait). Use &wait->park below; the structure
 * must not move from then on. */
void mpf_wait_init(struct mpf_wait *wait, struct mpf_arena *arena, int64_t deadline);

/* Python's timeout as a deadline. None (or NULL): MPF_FOREVER; a number of seconds: negative is 0, more than the clock can
 * tell is MPF_FOREVER. 0, or -1 with TypeError (not a number), OSError (NaN). */
int mpf_wait_deadline(PyObject *timeout, int64_t *deadline);

/* The arguments (block=True, timeout=None) of every acquire(): *deadline is 0 for a call that must not block.
 * 0 or -1 with an exception. */
int mpf_wait_parse_acquire(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int64_t *deadline);

/* The arguments (obj, block=True, timeout=None) of every put(). *object is borrowed. 0 or -1 with an exception. */
int mpf_wait_parse_put(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **object, int64_t *deadline);

/* Sorts positional and keyword arguments into slots[count], borrowed; NULL where one is missing. 0 or -1 with TypeError. */
int mpf_wait_parse_arguments(const char *function, const char *const *names, int count, PyObject *const *args,
                             Py_ssize_t nargs, PyObject *kwnames, PyObject **slots);

/* The argument (timeout=None) of a wait() that is called `name`. *timeout is borrowed. 0 or -1 with an exception. */
int mpf_wait_parse_timeout(const char *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                           PyObject **timeout);

/* poll() until the deadline (MPF_FOREVER, 0: do not wait), detached from the interpreter. How many targets are ready; 0: handlers of
 * signals have run, look again; -ETIMEDOUT, -EINTR with an exception set, -errno. */
int mpf_wait_poll(struct pollfd *targets, nfds_t count, int64_t deadline);

#endif
