/* A worker's side of a crew: claims tasks, reports results. One thread of the worker's process. See worker.c. */
#ifndef MPF_ENGINE_WORKER_H
#define MPF_ENGINE_WORKER_H

#include "engine/crew.h"

struct mpf_worker {
    struct mpf_arena *arena;
    struct mpf_crew_shm *crew;
    struct mpf_roster_entry_shm *entry;
    uint32_t slot;
    struct mpf_ring_cursor cursor;
    struct mpf_task_shm *record; /* of the task in hand, or NULL */
    uint64_t ticket;
    uint64_t tasks; /* claimed so far */
    int64_t looked; /* when it last looked for its parent, monotonic ns */
    bool roused;    /* it has awaited a task since it last claimed one */
    uint64_t gathered[(MPF_TASK_INLINE_MAX + 7) / 8]; /* a payload of several slots */
};

/* crew: this process's reference to the block, which it keeps while it works. The slot is one that mpf_crew_enlist set aside.
 * 0, -EINVAL (no such slot), -EBUSY (the slot is another process's), -EOWNERDEAD. */
int mpf_worker_join(struct mpf_worker *worker, const struct mpf_ref *crew, uint32_t slot);

/* The next task. Does not wait. 0; -EAGAIN nothing to do: mpf_worker_await; -EPIPE there will be none for this worker (closed,
 * abandoned, dismissed): leave; -EOWNERDEAD the parent is gone: exit; -ENOMEM no memory to own the payload's block: the task is in
 * hand all the same, with no payload, to be reported as failed; -EBUSY the last one has not been reported. */
int mpf_worker_claim(struct mpf_worker *worker, struct mpf_task *task);

/* Until a claim may do better than -EAGAIN. Spins first. 0, -ETIMEDOUT, -EINTR, -EOWNERDEAD. */
int mpf_worker_await(struct mpf_park *park, struct mpf_worker *worker);

/* A reference to the job of the task in hand (struct mpf_task's job and job_generation): bytes at mpf_at(arena, ref->off),
 * mpf_block_bytes(ref) of them; shared with other workers, to be left as it is. 0, -ESTALE (the parent is gone), -ENOMEM. */
int mpf_worker_open_job(struct mpf_worker *worker, const struct mpf_task *task, struct mpf_ref *job);

/* A result in a block of the caller's begins this far in, so that it is aligned as the block is. */
#define MPF_WORKER_PREFIX 64
#define MPF_WORKER_SHORT_PREFIX 8 /* ahead of one that is not in a block */

/* Publishes the result of the task in hand, after which none is in hand. message: as for a lane, tag included. A message of more
 * than MPF_WORKER_INLINE_MAX bytes goes into a block: `block`, if the caller has filled one (of MPF_WORKER_PREFIX + message->bytes
 * bytes; it becomes the crew's), else made here. Wakes whoever waits, when enough has come.
 * 0; -ENOMEM: nothing happened, report something smaller or try again; -ECANCELED: the task is condemned and this process about to
 * be killed: it must do no more than wait for that; -EINVAL no task in hand. */
#define MPF_WORKER_INLINE_MAX (MPF_LANE_INLINE_MAX - MPF_WORKER_SHORT_PREFIX)
int mpf_worker_report(struct mpf_worker *worker, const struct mpf_lane_message *message, struct mpf_ref *block);

/* The most memory that this process has had resident, in bytes, for the parent to see. */
void mpf_worker_note_memory(struct mpf_worker *worker, uint64_t bytes);

/* Claims no more, holding nothing. The process may end in its own time. */
void mpf_worker_leave(struct mpf_worker *worker);

#endif
