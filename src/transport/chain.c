/* Purpose: segments of shared memory in a chain, linked on by producers and taken off by consumers, who meet nowhere but here:
 * a segment that was taken off is kept and linked on again, so that a lane with few messages inside works in the same
 * few KiB and asks the arena for nothing.
 *
 * Layout. A segment is a block owned by one word:
 *
 *   first -> [segment] -> [segment] -> 0                    retired, spare, fresh: one each at most
 *
 *   fresh (or the arena) --link--> chain --unlink--> retired --> spare --> fresh
 *                                                    retired --> the arena, when there is a spare one already
 *
 * Invariants. `fresh` and the links are written inside the producers' section; `first` and `retired` inside the consumers'.
 * `spare` is filled by consumers only where it is empty, and emptied by producers only. Its turn is one more each time it is filled.
 * A segment stands in its new place before it is forgotten at the old one.
 *
 * Death of a producer. A segment from the arena is its producer's until mpf_block_put moves it into `fresh`. Found in `spare` and
 * in `fresh`, it is on its way to `fresh`. Linked and in `fresh`, it is linked: the next producer looks at the link first.
 *
 * Death of a consumer. Found in `retired`, a segment that is still `first` has not been unlinked. Otherwise `spare` says by its
 * turn whether it got there (and may have gone on from there since); if not, it is dropped from `retired`. */
#include "transport/chain.h"

#include <stdatomic.h>
#include <stdbool.h>

#include "memory/block.h"
#include "platform/fault.h"

#define SEGMENT_FIRST 2016
#define SEGMENT_MAX 65440 /* with its block header just below the allocator's unit of 64 KiB */
#define TURN_MASK UINT64_C(15) /* blocks are aligned to more than that */

/* One store comes before the next for whoever finds this process dead. */
static void then(void) { atomic_signal_fence(memory_order_seq_cst); }

static int allocate(struct mpf_arena *arena, uint64_t bytes, mpf_off *where) {
    struct mpf_ref ref;
    int rc = mpf_block_alloc_dirty(arena, bytes, MPF_BLOCK_TABLE, &ref);
    if (rc < 0)
        return rc;
    struct mpf_segment_shm *segment = mpf_segment_at(arena, ref.off);
    segment->next = 0;
    segment->bytes = bytes;
    MPF_FAULT("chain.segment.allocated");
    mpf_block_put(&ref, where);
    return 0;
}

int mpf_chain_init(struct mpf_arena *arena, struct mpf_chain_head_shm *head) {
    return allocate(arena, SEGMENT_FIRST, &head->first);
}

/* ---- the producers' end ---- */

/* Acquire pairs with the release in keep: a spare segment's header comes before it. */
static uint64_t look_at(const struct mpf_chain_spare_shm *spare) { return __atomic_load_n(&spare->word, __ATOMIC_ACQUIRE); }

static void forget_spare(struct mpf_chain_spare_shm *spare, uint64_t word) {
    __atomic_store_n(&spare->word, word & TURN_MASK, __ATOMIC_RELAXED);
}

static void repair_fresh(struct mpf_chain_tail_shm *tail, struct mpf_chain_spare_shm *spare) {
    uint64_t word = look_at(spare);
    if (tail->fresh != 0 && (word & ~TURN_MASK) == tail->fresh)
        forget_spare(spare, word);
}

/* From the spare one if that is long enough, else from the arena. */
static int get_fresh(struct mpf_arena *arena, struct mpf_chain_tail_shm *tail, struct mpf_chain_spare_shm *spare, uint64_t fit,
                     uint64_t before) {
    uint64_t word = look_at(spare);
    mpf_off segment = word & ~TURN_MASK;
    if (segment != 0 && mpf_segment_at(arena, segment)->bytes >= fit) {
        tail->fresh = segment;
        then();
        MPF_FAULT("chain.spare.taken");
        forget_spare(spare, word);
        return 0;
    }
    uint64_t bytes = before * 4 < SEGMENT_MAX ? before * 4 : SEGMENT_MAX;
    return allocate(arena, bytes < fit ? fit : bytes, &tail->fresh);
}

int mpf_chain_extend(struct mpf_arena *arena, struct mpf_chain_tail_shm *tail, struct mpf_chain_spare_shm *spare, mpf_off last,
                     uint64_t need, mpf_off *next) {
    struct mpf_segment_shm *old = mpf_segment_at(arena, last);
    if (old->next == 0) {
        uint64_t fit = sizeof(struct mpf_segment_shm) + need;
        repair_fresh(tail, spare);
        if (tail->fresh != 0 && mpf_segment_at(arena, tail->fresh)->bytes < fit)
            mpf_block_replace(arena, &tail->fresh, 0);
        if (tail->fresh == 0) {
            int rc = get_fresh(arena, tail, spare, fit, old->bytes);
            if (rc < 0)
                return rc;
        }
        MPF_FAULT("chain.segment.owned");
        old->next = tail->fresh;
        then();
        MPF_FAULT("chain.segment.linked");
    }
    tail->fresh = 0;
    *next = old->next;
    return 0;
}

/* ---- the consumers' end ---- */

static uint64_t turn_after(uint64_t word) { return (word + 1) & TURN_MASK; }

/* Whether it was needed. */
static bool keep(struct mpf_arena *arena, struct mpf_chain_head_shm *head, struct mpf_chain_spare_shm *spare) {
    if ((look_at(spare) & ~TURN_MASK) != 0)
        return false;
    mpf_segment_at(arena, head->retired)->next = 0;
    /* release pairs with the acquire in look_at */
    __atomic_store_n(&spare->word, head->retired | head->retired_turn, __ATOMIC_RELEASE);
    then();
    MPF_FAULT("chain.retire.kept");
    head->retired = 0;
    return true;
}

void mpf_chain_retire(struct mpf_arena *arena, struct mpf_chain_head_shm *head, struct mpf_chain_spare_shm *spare,
                      mpf_off current) {
    while (head->first != current) {
        mpf_off next = mpf_segment_at(arena, head->first)->next;
        head->retired_turn = turn_after(look_at(spare));
        then();
        head->retired = head->first;
        then();
        MPF_FAULT("chain.retire.marked");
        head->first = next;
        then();
        MPF_FAULT("chain.retire.unlinked");
        if (!keep(arena, head, spare))
            mpf_block_replace(arena, &head->retired, 0);
    }
}

void mpf_chain_repair(struct mpf_arena *arena, struct mpf_chain_head_shm *head, struct mpf_chain_spare_shm *spare) {
    if (head->retired == 0)
        return;
    if (head->retired == head->first || (look_at(spare) & TURN_MASK) == head->retired_turn)
        head->retired = 0;
    else
        mpf_block_replace(arena, &head->retired, 0);
}

/* ---- the end ---- */

static bool is_linked(const struct mpf_arena *arena, const struct mpf_chain_head_shm *head, mpf_off segment) {
    mpf_off s = head->first;
    while (s != 0 && s != segment)
        s = mpf_segment_at(arena, s)->next;
    return s != 0;
}

void mpf_chain_destroy(struct mpf_arena *arena, struct mpf_chain_tail_shm *tail, struct mpf_chain_head_shm *head,
                       struct mpf_chain_spare_shm *spare) {
    mpf_chain_repair(arena, head, spare);
    repair_fresh(tail, spare);
    if (tail->fresh != 0 && is_linked(arena, head, tail->fresh))
        tail->fresh = 0;
    mpf_block_replace(arena, &tail->fresh, 0);
    spare->word &= ~TURN_MASK;
    mpf_block_replace(arena, &spare->word, 0);
    while (head->first != 0) {
        mpf_block_replace(arena, &head->first, mpf_segment_at(arena, head->first)->next);
        MPF_FAULT("chain.destroy.segment");
    }
}
