/* The Crew object: the parent's side of a crew of workers as Python sees it. crew.c has the type, its life and what is known of
 * the workers; crew_submit.c sends tasks; crew_collect.c brings results to their receivers; crew_work.c is the worker. */
#ifndef MPF_OBJECTS_CREW_H
#define MPF_OBJECTS_CREW_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/crew.h"
#include "objects/receiver.h"

/* What travels as the tag of a task ... */
#define MPF_CREW_TASK_PIECE 1u  /* the payload is a list of items for the job's function; the result a list */
#define MPF_CREW_TASK_SINGLE 2u /* the payload is one such item, the result its result */
#define MPF_CREW_TASK_STAR 4u   /* items are tuples of arguments */
#define MPF_CREW_TASK_TIMED 8u  /* somebody looks at when each item was begun */

/* ... and of a result. */
enum mpf_crew_outcome {
    MPF_CREW_VALUE,
    MPF_CREW_ERROR, /* an exception */
    MPF_CREW_TEXT,  /* UTF-8: what could not be sent as an exception */
};

/* An unresolved task; the cookie that the engine keeps for it. */
struct mpf_crew_entry {
    struct mpf_crew_entry *next, *previous; /* in the order of submission, or of the losses */
    PyObject *receiver; /* owned, or NULL: its result is dropped */
    uint64_t ticket;
    int64_t index; /* of the piece, or MPF_RECEIVER_SINGLE */
    int64_t timeout; /* ns, or 0 */
    uint64_t bytes;
    bool kept;
};

struct mpf_crew_entries {
    struct mpf_crew_entry *first, *last;
};

#define MPF_CREW_BATCH 64

/* Results that were taken from the lanes; private memory. */
struct mpf_crew_batch {
    _Alignas(16) char buffer[MPF_CREW_BUFFER_BYTES];
    struct mpf_crew_result results[MPF_CREW_BATCH];
    unsigned next, count;
    unsigned users; /* deliveries that read from it */
    bool detached;  /* no longer the crew's: its last user frees it */
};

struct mpf_crew_object {
    PyObject_HEAD
    struct mpf_state *state;
    struct mpf_crew crew; /* the parent's; crew.shm == NULL elsewhere */
    struct mpf_ref ref;   /* of a process that got the crew by pickle */
    PyObject *undecodable; /* owned, or NULL */
    struct mpf_crew_entries entries, lost;
    struct mpf_crew_entry *spare; /* list of unused ones */
    uint32_t spares;
    struct mpf_crew_batch *batch; /* or NULL */
    uint32_t delivering; /* results taken from the lanes that have not reached their receivers */
    uint64_t bytes;  /* of the unresolved tasks */
    uint64_t timed;  /* unresolved tasks with a timeout */
    int64_t shortest; /* timeout among those submitted since there was none */
    uint32_t workers, slots; /* most there may be, and are */
    bool closed;
};

static inline struct mpf_crew_object *mpf_crew_object_of(PyObject *op) { return (struct mpf_crew_object *)op; }

/* Sets an exception and returns -1 unless this process may use the parent's side. */
int mpf_crew_check(struct mpf_crew_object *self);
#define MPF_CREW_CHECK(self) \
    do { \
        if (mpf_crew_check(mpf_crew_object_of(self)) < 0) { \
            return NULL; \
        } \
    } while (0)

/* Guarded by the caller: */
struct mpf_crew_entry *mpf_crew_entry_new(struct mpf_crew_object *self); /* NULL: MemoryError is set */
void mpf_crew_entry_add(struct mpf_crew_entries *list, struct mpf_crew_entry *entry);
void mpf_crew_entry_remove(struct mpf_crew_entries *list, struct mpf_crew_entry *entry);
/* Forgets an entry that is in no list; the receiver's reference is the caller's. */
PyObject *mpf_crew_entry_forget(struct mpf_crew_object *self, struct mpf_crew_entry *entry);

/* ---- crew_collect.c ---- */

/* What is waited for. */
struct mpf_crew_until {
    bool (*done)(void *context);
    uint32_t (*wanted)(void *context); /* how many results that takes at least */
    void *context;
};

/* Collects until that is so, or the deadline. 1, 0, or -1 with an exception. */
int mpf_crew_collect_until(PyObject *crew, const struct mpf_crew_until *until, int64_t deadline);

/* Hands out every result that is there. How many, or -1 with an exception. */
Py_ssize_t mpf_crew_collect_all(struct mpf_crew_object *self);

/* Has every thread that waits look again. */
void mpf_crew_collect_bump(PyObject *crew);

PyObject *mpf_crew_object_collect(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mpf_crew_object_wait_room(PyObject *self, PyObject *args, PyObject *kwargs);
extern const char mpf_crew_object_collect_doc[], mpf_crew_object_wait_room_doc[];

/* ---- crew_submit.c ---- */

PyObject *mpf_crew_object_submit(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mpf_crew_object_submit_pieces(PyObject *self, PyObject *args, PyObject *kwargs);
extern const char mpf_crew_object_submit_doc[], mpf_crew_object_submit_pieces_doc[];

/* ---- crew_watch.c ---- */

PyObject *mpf_crew_object_cancel(PyObject *self, PyObject *argument);
PyObject *mpf_crew_object_cancel_all(PyObject *self, PyObject *argument);
PyObject *mpf_crew_object_claimed(PyObject *self, PyObject *argument);
PyObject *mpf_crew_object_is_pending(PyObject *self, PyObject *argument);
PyObject *mpf_crew_object_fail(PyObject *self, PyObject *argument);
PyObject *mpf_crew_object_retry(PyObject *self, PyObject *argument);
PyObject *mpf_crew_object_receivers(PyObject *self, PyObject *argument);
PyObject *mpf_crew_object_load(PyObject *self, PyObject *argument);
PyObject *mpf_crew_object_add_worker(PyObject *self, PyObject *argument);
PyObject *mpf_crew_object_worker(PyObject *self, PyObject *argument);
PyObject *mpf_crew_object_dismiss(PyObject *self, PyObject *argument);
PyObject *mpf_crew_object_lost(PyObject *self, PyObject *argument);
PyObject *mpf_crew_object_overdue(PyObject *self, PyObject *argument);
extern const char mpf_crew_object_cancel_doc[], mpf_crew_object_cancel_all_doc[], mpf_crew_object_claimed_doc[],
    mpf_crew_object_is_pending_doc[], mpf_crew_object_fail_doc[], mpf_crew_object_retry_doc[],
    mpf_crew_object_receivers_doc[], mpf_crew_object_load_doc[], mpf_crew_object_add_worker_doc[],
    mpf_crew_object_worker_doc[], mpf_crew_object_dismiss_doc[], mpf_crew_object_lost_doc[],
    mpf_crew_object_overdue_doc[];

#endif
