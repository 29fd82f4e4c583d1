/* The ring of tasks: one process puts, any number of workers claim in order. See ring.c. */
#ifndef MPF_ENGINE_RING_H
#define MPF_ENGINE_RING_H

#include "engine/task.h"

struct mpf_ring_shm {
    /* by workers: every task with a lower ordinal has been claimed or cancelled. A hint: may lag, never leads */
    _Alignas(64) _Atomic uint64_t head;
    char head_padding[56];
    /* by the parent */
    _Atomic mpf_off first; /* segment of `head`, or one before it */
    _Atomic uint64_t tail; /* next ordinal to be used; nothing depends on it but figures */
    mpf_off all;           /* every segment, owned; linked by `older` */
    mpf_off fresh;         /* a segment allocated and not linked yet */
    char tail_padding[32];
};

struct mpf_ring_segment; /* what the parent knows of a segment */

/* The parent's side, private memory. */
struct mpf_ring {
    struct mpf_arena *arena;
    struct mpf_ring_shm *shm;
    struct mpf_ring_segment **segments; /* by index */
    uint32_t segment_count, segment_room;
    struct mpf_ring_segment *first, *last; /* chain that workers walk */
    struct mpf_ring_segment *spare;        /* settled ones */
    uint64_t next;      /* ordinal */
    _Atomic uint64_t unsettled; /* tasks put and not settled; written by one thread */
};

/* A worker's place, private memory. */
struct mpf_ring_cursor {
    struct mpf_arena *arena;
    struct mpf_ring_shm *shm;
    uint64_t ordinal;
    uint64_t base;   /* ordinal of the segment's first slot */
    mpf_off segment; /* 0: not known */
};

/* A ticket names a task for the parent: ordinal << 24 | index of its segment. */
#define MPF_RING_INDEX_MASK 0xffffffu

/* first: the ordinal of the first slot, not 0. 0, -ENOMEM. */
int mpf_ring_init(struct mpf_arena *arena, struct mpf_ring_shm *shm, uint64_t first, struct mpf_ring *ring);
/* Frees the private part; the shared one stays. */
void mpf_ring_free(struct mpf_ring *ring);
/* For the owner's destroy hook: payloads and segments. */
void mpf_ring_destroy(struct mpf_arena *arena, struct mpf_ring_shm *shm);

/* The parent: */

/* Puts a task where workers find it; wakes nobody. 0, -ENOMEM (order->block is still the caller's). */
int mpf_ring_put(struct mpf_ring *ring, const struct mpf_task_order *order, uint64_t *ticket);
/* The record and cookie of an unsettled task, or NULL where there is none. */
struct mpf_task_shm *mpf_ring_find(struct mpf_ring *ring, uint64_t ticket, uint64_t *cookie);
/* The task is over: drops its payload, forgets the ticket; its slots can be used again. */
void mpf_ring_settle(struct mpf_ring *ring, uint64_t ticket);
/* Every unsettled task, in the order of putting. 0, -ENOMEM. */
int mpf_ring_list(struct mpf_ring *ring, void (*visit)(void *context, uint64_t ticket, uint64_t cookie), void *context);
/* Puts a kept task again, under a new ticket, and settles the old one. 0, -ENOMEM, -EINVAL (not kept). */
int mpf_ring_put_again(struct mpf_ring *ring, uint64_t ticket, uint64_t *again);

/* A worker: */

void mpf_ring_begin(struct mpf_ring_cursor *cursor, struct mpf_arena *arena, struct mpf_ring_shm *shm);
/* The oldest pending task becomes `worker`'s. *intent has its ticket before that, and may keep that of one that another was faster
 * to claim. NULL: none. */
struct mpf_task_shm *mpf_ring_claim(struct mpf_ring_cursor *cursor, uint32_t worker, _Atomic uint64_t *intent,
                                    uint64_t *ticket);
/* Whether there is something to claim. */
bool mpf_ring_pending(struct mpf_ring_cursor *cursor);

#endif
