/* Receivers: where the results of a crew's tasks go. See receiver.c (one value, or a list) and stream.c (one by
 * one); receiver_result.c is what results do to the former. */
#ifndef MPF_OBJECTS_RECEIVER_H
#define MPF_OBJECTS_RECEIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "objects/state.h"

enum mpf_receiver_kind {
    MPF_RECEIVER_ONE,    /* value is the task's */
    MPF_RECEIVER_LIST,   /* value is a list that pieces fill */
    MPF_RECEIVER_STREAM, /* struct mpf_stream */
};

#define MPF_RECEIVER_SINGLE (-1) /* the index of a task that is no piece */

struct mpf_receiver {
    PyObject_HEAD
    struct mpf_state *state; /* lives as long as the type */
    PyObject *crew;  /* owned, or NULL: not submitted, or ready */
    PyObject *value; /* owned, or NULL; a list being filled until it is ready */
    PyObject *func;  /* owned, or NULL: what was submitted */
    PyObject *owner; /* owned, or NULL: the pool, say; until it is ready */
    PyObject *job;   /* owned, or NULL: the function as the workers have it (crew_submit.c) */
    uint64_t ordinal;
    int64_t pieces;   /* in all; -1: not known yet */
    int64_t sent;     /* tasks submitted */
    int64_t received; /* of them resolved */
    Py_ssize_t chunksize;
    uint8_t kind;
    bool has_ordinal;
    bool failed;     /* value is the first exception of a piece */
    bool complete;   /* all is in: _resolve was called, or it is ready */
    bool ready;
    bool ok;
    bool background; /* _resolve is called before it is ready */
};

static inline struct mpf_receiver *mpf_receiver_of(PyObject *op) { return (struct mpf_receiver *)op; }

int mpf_receiver_new(PyTypeObject *type, enum mpf_receiver_kind kind, PyObject **receiver);
int mpf_receiver_traverse(PyObject *op, visitproc visit, void *arg);
int mpf_receiver_clear(PyObject *op);

/* A task is about to be submitted. 0, or -1 with ValueError: it has its results already (a list, a stream). */
int mpf_receiver_begin(struct mpf_receiver *receiver, PyObject *crew, PyObject *func);

/* The result of a task (MPF_RECEIVER_SINGLE) or piece. Steals value. Never fails: what goes wrong becomes the result.
 * The caller bumps the crew afterwards. */
void mpf_receiver_resolve(struct mpf_receiver *receiver, int64_t index, bool ok, PyObject *value);

/* Counts a result in. Returns the job (a reference) if no worker needs it any more, or NULL. Guarded by the caller. */
PyObject *mpf_receiver_count(struct mpf_receiver *receiver);

/* The exception that is set, as an instance with its traceback; new reference. */
PyObject *mpf_receiver_take_error(void);

/* All is in: calls _resolve, or makes it ready. Steals value. */
void mpf_receiver_complete(struct mpf_receiver *receiver, bool ok, PyObject *value);

/* Collects until it is ready. 1 it is, 0 the time is up, -1 with an exception. */
int mpf_receiver_wait_with(struct mpf_receiver *receiver, PyObject *crew, int64_t deadline);

/* Raises multiprocessing.TimeoutError; returns NULL. */
PyObject *mpf_receiver_raise_timeout(struct mpf_state *state);
/* Raises value, which should be an exception; returns NULL. */
PyObject *mpf_receiver_raise(PyObject *value);

/* Makes it ready with a new reference to value, complete or not, and wakes who waits. Whether it was not ready before. */
bool mpf_receiver_finish(struct mpf_receiver *receiver, bool ok, PyObject *value);

/* A list has only so many pieces. */
void mpf_receiver_set_pieces(struct mpf_receiver *receiver, int64_t pieces);

/* stream.c. Both steal value. */
void mpf_stream_push(struct mpf_receiver *receiver, int64_t index, bool ok, PyObject *value);
void mpf_stream_finish(struct mpf_receiver *receiver, bool ok, PyObject *value);
/* There are so many pieces in all. */
void mpf_stream_set_length(struct mpf_receiver *receiver, int64_t pieces);

#endif
