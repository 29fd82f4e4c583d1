/* The memory of a lane: a chain of segments that grows at the producers' end and is taken down at the consumers'. See chain.c. */
#ifndef MPF_TRANSPORT_CHAIN_H
#define MPF_TRANSPORT_CHAIN_H

#include <stdint.h>

#include "memory/arena.h"

struct mpf_segment_shm {
    mpf_off next;
    uint64_t bytes; /* with this header */
};

/* Guarded by the producers' section. */
struct mpf_chain_tail_shm {
    mpf_off fresh; /* a segment on its way into the chain */
};

/* Guarded by the consumers' section. */
struct mpf_chain_head_shm {
    mpf_off first;         /* oldest segment of the chain */
    mpf_off retired;       /* a segment on its way out of the chain ... */
    uint64_t retired_turn; /* ... which it has left as the spare one if that has this turn */
};

/* A segment that left the chain and waits to come back, filled by consumers and emptied by producers: its offset, or 0, and a
 * turn in the low bits that changes with each segment that is put here. */
struct mpf_chain_spare_shm {
    uint64_t word;
};

static inline struct mpf_segment_shm *mpf_segment_at(const struct mpf_arena *arena, mpf_off segment) {
    return mpf_at(arena, segment);
}

/* Where a segment's contents begin and end. */
static inline mpf_off mpf_segment_start(mpf_off segment) { return segment + sizeof(struct mpf_segment_shm); }
static inline mpf_off mpf_segment_end(const struct mpf_arena *arena, mpf_off segment) {
    return segment + mpf_segment_at(arena, segment)->bytes;
}

/* A chain of one segment. 0, -ENOMEM. */
int mpf_chain_init(struct mpf_arena *arena, struct mpf_chain_head_shm *head);

/* Inside the producers' section: the segment after `last`, made if there is none, with room for `need` bytes of contents where
 * it is made. 0, -ENOMEM. */
int mpf_chain_extend(struct mpf_arena *arena, struct mpf_chain_tail_shm *tail, struct mpf_chain_spare_shm *spare, mpf_off last,
                     uint64_t need, mpf_off *next);

/* Inside the consumers' section: `current` becomes the first one. */
void mpf_chain_retire(struct mpf_arena *arena, struct mpf_chain_head_shm *head, struct mpf_chain_spare_shm *spare, mpf_off current);
/* Inside it, before anything else is done to the chain: puts right what a consumer left that was killed. */
void mpf_chain_repair(struct mpf_arena *arena, struct mpf_chain_head_shm *head, struct mpf_chain_spare_shm *spare);

/* Gives everything back; may be done again from the start when it was cut short. */
void mpf_chain_destroy(struct mpf_arena *arena, struct mpf_chain_tail_shm *tail, struct mpf_chain_head_shm *head,
                       struct mpf_chain_spare_shm *spare);

#endif
