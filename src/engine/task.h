/* A task: a record of one or more slots in the crew's ring. Its state word says who has it. See task.c. */
#ifndef MPF_ENGINE_TASK_H
#define MPF_ENGINE_TASK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory/block.h"
#include "transport/lane.h"

/* State word: ordinal (40 bits) << 24 | worker (20 bits) << 4 | status (4 bits). Ordinals wrap; they are compared for equality. */
enum mpf_task_status {
    MPF_TASK_FREE,      /* nothing there yet */
    MPF_TASK_FILLING,   /* the parent is moving a block in */
    MPF_TASK_PENDING,   /* anybody may claim it */
    MPF_TASK_CLAIMED,   /* `worker` has it */
    MPF_TASK_REPORTING, /* `worker` is done with it and publishes the result, or has done so */
    MPF_TASK_CONDEMNED, /* `worker` had it for too long: it must not report */
    MPF_TASK_CANCELLED,
    MPF_TASK_PART,      /* a further slot of the record before it, or a gap at the end of a segment */
};

#define MPF_TASK_ORDINAL_BITS 40
#define MPF_TASK_ORDINAL_MASK ((UINT64_C(1) << MPF_TASK_ORDINAL_BITS) - 1)
#define MPF_TASK_WORKER_MASK 0xfffffu

static inline uint64_t mpf_task_state(uint64_t ordinal, uint32_t worker, enum mpf_task_status status) {
    return (ordinal & MPF_TASK_ORDINAL_MASK) << 24 | (uint64_t)worker << 4 | (uint64_t)status;
}
static inline uint64_t mpf_task_ordinal(uint64_t state) { return state >> 24; }
static inline uint32_t mpf_task_worker(uint64_t state) { return (uint32_t)(state >> 4) & MPF_TASK_WORKER_MASK; }
static inline enum mpf_task_status mpf_task_status(uint64_t state) { return (enum mpf_task_status)(state & 15); }

#define MPF_TASK_SLOT_BYTES 128
#define MPF_TASK_FIRST_BYTES 88  /* of the payload, in a record's first slot */
#define MPF_TASK_FURTHER_BYTES 120 /* in each further one */
#define MPF_TASK_SLOTS_MAX 16
#define MPF_TASK_INLINE_MAX (MPF_TASK_FIRST_BYTES + (MPF_TASK_SLOTS_MAX - 1) * MPF_TASK_FURTHER_BYTES)
#define MPF_TASK_KEEP (1u << 31) /* in `bytes`: the payload stays until the task is settled */

struct mpf_task_shm {
    _Atomic uint64_t state;
    mpf_off block; /* the payload where it is not inline, owned; 0 in a settled record */
    mpf_off job;   /* not owned: the parent keeps a job until its tasks are settled. 0: none */
    uint32_t job_generation;
    uint32_t block_generation;
    uint32_t bytes; /* of an inline payload, with MPF_TASK_KEEP */
    uint32_t tag;
    unsigned char payload[MPF_TASK_FIRST_BYTES];
};
_Static_assert(sizeof(struct mpf_task_shm) == MPF_TASK_SLOT_BYTES, "one slot");

struct mpf_task_part_shm {
    _Atomic uint64_t state;
    unsigned char payload[MPF_TASK_FURTHER_BYTES];
};

/* Slots that an inline payload of that many bytes takes. */
static inline uint32_t mpf_task_slots(uint32_t bytes) {
    return bytes <= MPF_TASK_FIRST_BYTES
               ? 1
               : 1 + (bytes - MPF_TASK_FIRST_BYTES + MPF_TASK_FURTHER_BYTES - 1) / MPF_TASK_FURTHER_BYTES;
}

/* The parent: copies an inline payload in (at most MPF_TASK_INLINE_MAX bytes), or out, into a buffer as long. */
struct mpf_task;
void mpf_task_write(struct mpf_task_shm *record, const struct mpf_lane_message *message);
void mpf_task_gather(struct mpf_task_shm *record, void *to);
/* The worker that has claimed it: all of *task but the ticket. gathered: room for MPF_TASK_INLINE_MAX bytes. 0; -ENOMEM, -ESTALE: *task
 * has no payload. */
int mpf_task_open(struct mpf_arena *arena, struct mpf_task_shm *record, void *gathered, struct mpf_task *task);

/* What the parent says of a new task. The payload is message (`bytes` bytes at `data`, or written by `write`; message.tag goes
 * with it) or, if block is given, that block, which becomes the crew's. */
struct mpf_task_order {
    struct mpf_lane_message message;
    struct mpf_ref *block;
    const struct mpf_ref *job; /* or NULL */
    uint64_t cookie;           /* the caller's, != 0: comes back when the task is settled */
    bool keep; /* the payload stays until the task is settled, so that it can be put again after a worker's death */
};

/* A task in the hands of a worker. */
struct mpf_task {
    uint64_t ticket;
    uint32_t tag;
    uint32_t job_generation;
    mpf_off job;  /* 0: none */
    size_t bytes;
    const void *data; /* `bytes` bytes; valid until the task is reported, or, in a block, as long as that is referenced */
    struct mpf_ref block; /* block.off != 0: the payload is in it, and this reference is the caller's to drop */
    bool shared; /* the block may be read again by another worker (MPF_TASK_KEEP): to be left as it is */
};

#endif
