/* Purpose: tasks from one process to many, unbounded, in order, without a lock.
 *
 * Layout. A chain of segments of slots (task.c); slots are numbered by ordinals, of which a segment holds a run:
 *
 *   first -> [base 0 | slot 0 .. 61] -> [base 62 | slot 62 .. 315] -> [base 316 | ....       ] -> 0
 *                                           ^ head                           ^ next (the parent's own)
 *
 * A record of several slots never crosses into the next segment: the rest of the old one is filled with PART.
 *
 * States of a segment:
 *   in the chain --every task in it claimed or cancelled--> retired --every task in it settled--> spare --> in the chain
 * A segment stays one until the crew is destroyed: a worker that was stopped for an hour may still look at a slot, and finds a state
 * word there, of the ordinal that it expects or of another. That one comparison is all that a claim rests on.
 *
 * Invariants.
 *   A slot's ordinal never comes twice in the life of a ring (after 2^40 slots, which is when its word is FREE again long since).
 *   A worker's cursor has only passed slots that were not PENDING, and what is not PENDING any more never is again. Tasks are
 *   therefore claimed in order, and any cursor is a valid value of head.
 *   `first` names a segment in the chain, none of whose predecessors holds a pending task.
 *   The base of a segment that leaves the chain for good is made void before anything else of it changes: a worker that found nothing
 *   in a slot, or no next segment, believes that only if the base is still the one that it went by.
 *
 * Callers: the parent's functions by one thread at a time; cursors are private to a worker.
 *
 * Death of the parent: the crew is over; workers leave, and whoever drops the last reference destroys it. A payload's block is in
 * the parent's references or in a record that is FILLING or later. A new segment is the parent's, then in `fresh`, then in `all`.
 * Death of a worker: before the compare-and-swap it had noted the ticket and holds nothing; after it the record says that it is
 * the worker's. Head may lag behind: the next worker moves it. */
#include "engine/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "platform/fault.h"

#define SLOTS_FIRST 62  /* 8 KiB with the header */
#define SLOTS_FURTHER 254 /* 32 KiB */
#define BASE_VOID UINT64_MAX

struct segment_shm {
    _Atomic mpf_off next;
    _Atomic uint64_t base; /* ordinal of slot 0 */
    mpf_off older;         /* in the list of all */
    uint32_t count;
    uint32_t index;
    char padding[32];
};
_Static_assert(sizeof(struct segment_shm) == 64, "slots keep to cache lines");

struct mpf_ring_segment {
    struct segment_shm *shm;
    mpf_off off;
    uint64_t base;
    uint32_t index, count;
    uint32_t used; /* slots that have an ordinal */
    uint32_t unsettled;
    bool retired;
    struct mpf_ring_segment *next; /* in the chain, or of the spare ones */
    uint64_t cookies[];            /* 0: settled, or not the first slot of a task */
};

static struct segment_shm *segment_at(struct mpf_arena *arena, mpf_off off) { return mpf_at(arena, off); }

static struct mpf_task_shm *slot_of(struct segment_shm *segment, uint64_t slot) {
    return (struct mpf_task_shm *)(segment + 1) + slot;
}

/* release pairs with the acquire of `state` in look: what was written of the record comes before it */
static void set_state(struct mpf_task_shm *record, uint64_t ordinal, enum mpf_task_status status) {
    atomic_store_explicit(&record->state, mpf_task_state(ordinal, 0, status), memory_order_release);
}

static void raise_head(struct mpf_ring_shm *shm, uint64_t ordinal) {
    uint64_t seen = atomic_load_explicit(&shm->head, memory_order_relaxed);
    while (seen < ordinal && !atomic_compare_exchange_weak_explicit(&shm->head, &seen, ordinal, memory_order_relaxed,
                                                                    memory_order_relaxed))
        ;
}

/* ---- the parent: segments ---- */

static int allocate_segment(struct mpf_ring *ring, uint32_t count, mpf_off *off) {
    struct mpf_ref ref;
    int rc = mpf_block_alloc(ring->arena, sizeof(struct segment_shm) + (uint64_t)count * MPF_TASK_SLOT_BYTES,
                             MPF_BLOCK_TABLE, &ref);
    if (rc < 0)
        return rc;
    *off = ref.off;
    struct segment_shm *segment = segment_at(ring->arena, ref.off);
    segment->count = count;
    segment->index = ring->segment_count;
    segment->older = ring->shm->all;
    MPF_FAULT("ring.segment.allocated");
    mpf_block_put(&ref, &ring->shm->fresh);
    MPF_FAULT("ring.segment.owned");
    ring->shm->all = ring->shm->fresh;
    atomic_signal_fence(memory_order_seq_cst); /* listed before it is forgotten here */
    MPF_FAULT("ring.segment.linked");
    ring->shm->fresh = 0;
    return 0;
}

static int grow_index(struct mpf_ring *ring) {
    uint32_t room = ring->segment_room != 0 ? ring->segment_room * 2 : 8;
    if (ring->segment_count < ring->segment_room)
        return 0;
    struct mpf_ring_segment **more = room <= MPF_RING_INDEX_MASK ? realloc(ring->segments, room * sizeof *more) : NULL;
    if (more == NULL)
        return -ENOMEM;
    ring->segments = more;
    ring->segment_room = room;
    return 0;
}

static int new_segment(struct mpf_ring *ring, struct mpf_ring_segment **made) {
    uint32_t count = ring->segment_count == 0 ? SLOTS_FIRST : SLOTS_FURTHER;
    int rc = grow_index(ring);
    struct mpf_ring_segment *segment = rc == 0 ? calloc(1, sizeof *segment + count * sizeof segment->cookies[0]) : NULL;
    if (segment == NULL)
        return -ENOMEM;
    rc = allocate_segment(ring, count, &segment->off);
    if (rc < 0) {
        free(segment);
        return rc;
    }
    segment->shm = segment_at(ring->arena, segment->off);
    segment->index = ring->segment_count;
    segment->count = count;
    ring->segments[ring->segment_count++] = segment;
    *made = segment;
    return 0;
}

/* It is out of the chain, and nothing in it is unsettled. */
static void make_spare(struct mpf_ring *ring, struct mpf_ring_segment *segment) {
    segment->next = ring->spare;
    ring->spare = segment;
}

/* For a new run of ordinals. Release, each time: whoever sees what is changed here sees the base void. */
static void clear_segment(struct mpf_ring_segment *segment) {
    atomic_store_explicit(&segment->shm->base, BASE_VOID, memory_order_release);
    MPF_FAULT("ring.segment.void");
    atomic_store_explicit(&segment->shm->next, 0, memory_order_release);
    for (uint32_t slot = 0; slot < segment->used; slot++)
        atomic_store_explicit(&slot_of(segment->shm, slot)->state, 0, memory_order_release);
    segment->used = 0;
    segment->retired = false;
    segment->next = NULL;
}

static bool has_passed(const struct mpf_ring *ring, const struct mpf_ring_segment *segment) {
    return atomic_load_explicit(&ring->shm->head, memory_order_relaxed) >= segment->base + segment->count;
}

/* Takes segments with nothing left to claim out of the front of the chain. */
static void retire_segments(struct mpf_ring *ring) {
    struct mpf_ring_segment *segment;
    while ((segment = ring->first) != ring->last) {
        if (segment->unsettled != 0 && !has_passed(ring, segment))
            return;
        ring->first = segment->next;
        /* release pairs with the acquire in begin_again: a void base is seen only by who sees this, if it looks again */
        atomic_store_explicit(&ring->shm->first, ring->first->off, memory_order_release);
        MPF_FAULT("ring.segment.retired");
        segment->retired = true;
        if (segment->unsettled == 0)
            make_spare(ring, segment);
    }
}

static void set_tail(struct mpf_ring *ring, uint64_t ordinal) {
    ring->next = ordinal;
    atomic_store_explicit(&ring->shm->tail, ordinal, memory_order_relaxed);
}

static void fill_up(struct mpf_ring *ring, struct mpf_ring_segment *segment) {
    for (uint64_t ordinal = ring->next; segment->used < segment->count; segment->used++)
        set_state(slot_of(segment->shm, segment->used), ordinal++, MPF_TASK_PART);
    set_tail(ring, segment->base + segment->count);
}

/* One more segment at the end of the chain. 0, -ENOMEM. */
static int extend(struct mpf_ring *ring) {
    struct mpf_ring_segment *segment;
    if (ring->last != NULL)
        retire_segments(ring);
    if ((segment = ring->spare) != NULL) {
        ring->spare = segment->next;
        clear_segment(segment);
    } else {
        int rc = new_segment(ring, &segment);
        if (rc < 0)
            return rc;
    }
    if (ring->last != NULL)
        fill_up(ring, ring->last);
    segment->base = ring->next;
    atomic_store_explicit(&segment->shm->base, ring->next, memory_order_release);
    MPF_FAULT("ring.segment.ready");
    /* release pairs with the acquire of `next` and `first`: base and free slots come before it */
    if (ring->last != NULL) {
        atomic_store_explicit(&ring->last->shm->next, segment->off, memory_order_release);
        ring->last->next = segment;
    } else {
        atomic_store_explicit(&ring->shm->first, segment->off, memory_order_release);
        ring->first = segment;
    }
    ring->last = segment;
    return 0;
}

int mpf_ring_init(struct mpf_arena *arena, struct mpf_ring_shm *shm, uint64_t first, struct mpf_ring *ring) {
    *ring = (struct mpf_ring){.arena = arena, .shm = shm, .next = first};
    int rc = extend(ring);
    if (rc < 0)
        mpf_ring_free(ring);
    return rc;
}

void mpf_ring_free(struct mpf_ring *ring) {
    for (uint32_t i = 0; i < ring->segment_count; i++)
        free(ring->segments[i]);
    free(ring->segments);
    *ring = (struct mpf_ring){0};
}

/* ---- the parent: tasks ---- */

static void fill_record(struct mpf_task_shm *record, const struct mpf_task_order *order, const struct mpf_ref *block) {
    record->block = 0;
    record->job = order->job != NULL ? order->job->off : 0;
    record->job_generation = order->job != NULL ? order->job->generation : 0;
    record->block_generation = block != NULL ? block->generation : 0;
    record->bytes = (block != NULL ? 0 : (uint32_t)order->message.bytes) | (order->keep ? MPF_TASK_KEEP : 0);
    record->tag = order->message.tag;
}

static void count_unsettled(struct mpf_ring *ring, uint64_t more) {
    uint64_t now = atomic_load_explicit(&ring->unsettled, memory_order_relaxed);
    atomic_store_explicit(&ring->unsettled, now + more, memory_order_relaxed);
}

/* Into the last segment, which has room for it. */
static void append(struct mpf_ring *ring, const struct mpf_task_order *order, struct mpf_ref *block, uint32_t slots,
                   uint64_t *ticket) {
    struct mpf_ring_segment *segment = ring->last;
    struct mpf_task_shm *record = slot_of(segment->shm, segment->used);
    fill_record(record, order, block);
    if (block != NULL) {
        set_state(record, ring->next, MPF_TASK_FILLING);
        atomic_signal_fence(memory_order_seq_cst); /* the record says that it may hold a block before it does */
        MPF_FAULT("ring.put.filling");
        mpf_block_put(block, &record->block);
    } else {
        mpf_task_write(record, &order->message);
        for (uint32_t part = 1; part < slots; part++)
            set_state(record + part, ring->next + part, MPF_TASK_PART);
    }
    MPF_FAULT("ring.put.written");
    *ticket = (ring->next & MPF_TASK_ORDINAL_MASK) << 24 | segment->index;
    segment->cookies[segment->used] = order->cookie;
    segment->used += slots;
    segment->unsettled++;
    count_unsettled(ring, 1);
    set_state(record, ring->next, MPF_TASK_PENDING);
    set_tail(ring, ring->next + slots);
    MPF_FAULT("ring.put.published");
}

int mpf_ring_put(struct mpf_ring *ring, const struct mpf_task_order *order, uint64_t *ticket) {
    struct mpf_ref own = {0}, *block = order->block;
    bool fits = block == NULL && order->message.bytes <= MPF_TASK_INLINE_MAX;
    uint32_t slots = fits ? mpf_task_slots((uint32_t)order->message.bytes) : 1;
    if (ring->last->used + slots > ring->last->count) {
        int rc = extend(ring);
        if (rc < 0)
            return rc;
    }
    if (!fits && block == NULL) {
        int rc = mpf_lane_fill(ring->arena, &order->message, &own);
        if (rc < 0)
            return rc;
        block = &own;
    }
    append(ring, order, block, slots, ticket);
    return 0;
}

static struct mpf_ring_segment *find_slot(struct mpf_ring *ring, uint64_t ticket, uint64_t *slot) {
    uint64_t index = ticket & MPF_RING_INDEX_MASK;
    struct mpf_ring_segment *segment = index < ring->segment_count ? ring->segments[index] : NULL;
    if (segment == NULL)
        return NULL;
    *slot = (mpf_task_ordinal(ticket) - segment->base) & MPF_TASK_ORDINAL_MASK;
    return *slot < segment->used && segment->cookies[*slot] != 0 ? segment : NULL;
}

struct mpf_task_shm *mpf_ring_find(struct mpf_ring *ring, uint64_t ticket, uint64_t *cookie) {
    uint64_t slot;
    struct mpf_ring_segment *segment = find_slot(ring, ticket, &slot);
    if (segment == NULL)
        return NULL;
    *cookie = segment->cookies[slot];
    return slot_of(segment->shm, slot);
}

void mpf_ring_settle(struct mpf_ring *ring, uint64_t ticket) {
    uint64_t slot;
    struct mpf_ring_segment *segment = find_slot(ring, ticket, &slot);
    if (segment == NULL)
        return;
    struct mpf_task_shm *record = slot_of(segment->shm, slot);
    if (record->block != 0)
        mpf_block_replace(ring->arena, &record->block, 0);
    segment->cookies[slot] = 0;
    count_unsettled(ring, UINT64_MAX);
    if (--segment->unsettled == 0 && segment->retired)
        make_spare(ring, segment);
}

int mpf_ring_put_again(struct mpf_ring *ring, uint64_t ticket, uint64_t *again) {
    unsigned char whole[MPF_TASK_INLINE_MAX];
    struct mpf_ref block = {0}, job;
    uint64_t cookie;
    struct mpf_task_shm *record = mpf_ring_find(ring, ticket, &cookie);
    if (record == NULL)
        return -ENOENT;
    if (!(record->bytes & MPF_TASK_KEEP))
        return -EINVAL;
    job = (struct mpf_ref){.off = record->job, .generation = record->job_generation};
    struct mpf_task_order order = {.message = {.data = whole, .bytes = record->bytes & ~MPF_TASK_KEEP, .tag = record->tag},
                                   .job = record->job != 0 ? &job : NULL,
                                   .cookie = cookie,
                                   .keep = true};
    if (record->block != 0) {
        int rc = mpf_block_take(ring->arena, &record->block, &block);
        if (rc < 0)
            return rc;
        order.block = &block;
    } else {
        mpf_task_gather(record, whole);
    }
    int rc = mpf_ring_put(ring, &order, again);
    if (rc < 0)
        mpf_block_put(&block, &record->block);
    else
        mpf_ring_settle(ring, ticket);
    return rc;
}

static int by_base(const void *a, const void *b) {
    const struct mpf_ring_segment *first = *(struct mpf_ring_segment *const *)a, *second = *(struct mpf_ring_segment *const *)b;
    return (first->base > second->base) - (first->base < second->base);
}

int mpf_ring_list(struct mpf_ring *ring, void (*visit)(void *context, uint64_t ticket, uint64_t cookie), void *context) {
    struct mpf_ring_segment **sorted = malloc(ring->segment_count * sizeof *sorted + 1);
    uint32_t count = ring->segment_count;
    if (sorted == NULL)
        return -ENOMEM;
    memcpy(sorted, ring->segments, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_base);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t slot = 0; slot < sorted[i]->used; slot++)
            if (sorted[i]->cookies[slot] != 0)
                visit(context, ((sorted[i]->base + slot) & MPF_TASK_ORDINAL_MASK) << 24 | sorted[i]->index,
                      sorted[i]->cookies[slot]);
    free(sorted);
    return 0;
}

/* ---- workers ---- */

/* Knows no segment yet: the first look begins at the front. */
void mpf_ring_begin(struct mpf_ring_cursor *cursor, struct mpf_arena *arena, struct mpf_ring_shm *shm) {
    *cursor = (struct mpf_ring_cursor){.arena = arena, .shm = shm};
}

/* Goes to the front of the chain. The base is that of a segment at the front only if it is there still: it may have been taken out
 * and come back further behind, and what is before it now would be passed over. */
static void begin_again(struct mpf_ring_cursor *cursor) {
    do {
        /* acquire pairs with the release in retire_segments and extend */
        cursor->segment = atomic_load_explicit(&cursor->shm->first, memory_order_acquire);
        MPF_FAULT("ring.begin.first");
        cursor->base = atomic_load_explicit(&segment_at(cursor->arena, cursor->segment)->base, memory_order_acquire);
        MPF_FAULT("ring.begin.base");
    } while (cursor->base == BASE_VOID ||
             atomic_load_explicit(&cursor->shm->first, memory_order_acquire) != cursor->segment);
    cursor->ordinal = cursor->base;
}

/* Whether the cursor's segment is still the one that it was. After an acquire of what is doubted. */
static bool is_current(const struct mpf_ring_cursor *cursor) {
    return atomic_load_explicit(&segment_at(cursor->arena, cursor->segment)->base, memory_order_acquire) == cursor->base;
}

enum step { STEP_DONE, STEP_NONE, STEP_LOST };

/* From the end of a segment to the next one. */
static enum step next_segment(struct mpf_ring_cursor *cursor) {
    /* acquire pairs with the release in extend, and in clear_segment */
    mpf_off next = atomic_load_explicit(&segment_at(cursor->arena, cursor->segment)->next, memory_order_acquire);
    uint64_t end = cursor->base + segment_at(cursor->arena, cursor->segment)->count;
    if (next == 0)
        return is_current(cursor) ? STEP_NONE : STEP_LOST;
    if (atomic_load_explicit(&segment_at(cursor->arena, next)->base, memory_order_acquire) != end)
        return STEP_LOST;
    cursor->segment = next;
    cursor->base = cursor->ordinal = end;
    return STEP_DONE;
}

/* Skips what others have claimed, as far as head says, and goes on to the segment of the next slot. */
static enum step catch_up(struct mpf_ring_cursor *cursor) {
    uint64_t head = atomic_load_explicit(&cursor->shm->head, memory_order_relaxed);
    for (;;) {
        uint64_t end = cursor->base + segment_at(cursor->arena, cursor->segment)->count;
        if (head > cursor->ordinal)
            cursor->ordinal = head < end ? head : end;
        if (cursor->ordinal < end)
            return STEP_DONE;
        enum step step = next_segment(cursor);
        if (step != STEP_DONE)
            return step;
    }
}

/* The oldest pending record and its state, or NULL. */
static struct mpf_task_shm *look(struct mpf_ring_cursor *cursor, uint64_t *state) {
    for (;;) {
        if (cursor->segment == 0)
            begin_again(cursor);
        enum step step = catch_up(cursor);
        if (step == STEP_DONE) {
            struct mpf_task_shm *record =
                slot_of(segment_at(cursor->arena, cursor->segment), cursor->ordinal - cursor->base);
            /* acquire pairs with the release in set_state and clear_segment */
            *state = atomic_load_explicit(&record->state, memory_order_acquire);
            enum mpf_task_status status = mpf_task_status(*state);
            bool is_there = mpf_task_ordinal(*state) == (cursor->ordinal & MPF_TASK_ORDINAL_MASK) &&
                            status != MPF_TASK_FREE && status != MPF_TASK_FILLING;
            if (is_there && status == MPF_TASK_PENDING)
                return record;
            if (is_there) {
                cursor->ordinal++;
                continue;
            }
            step = is_current(cursor) ? STEP_NONE : STEP_LOST;
        }
        if (step == STEP_NONE)
            return NULL;
        cursor->segment = 0;
    }
}

bool mpf_ring_pending(struct mpf_ring_cursor *cursor) {
    uint64_t state;
    return look(cursor, &state) != NULL;
}

struct mpf_task_shm *mpf_ring_claim(struct mpf_ring_cursor *cursor, uint32_t worker, _Atomic uint64_t *intent,
                                    uint64_t *ticket) {
    struct mpf_task_shm *record;
    uint64_t state;
    while ((record = look(cursor, &state)) != NULL) {
        *ticket = mpf_task_ordinal(state) << 24 | segment_at(cursor->arena, cursor->segment)->index;
        atomic_store_explicit(intent, *ticket, memory_order_release); /* noted before it can be ours */
        MPF_FAULT("ring.claim.noted");
        /* acquire pairs with the release of PENDING in append; release: the note before the claim */
        if (!atomic_compare_exchange_strong_explicit(&record->state, &state,
                                                     mpf_task_state(mpf_task_ordinal(state), worker, MPF_TASK_CLAIMED),
                                                     memory_order_acq_rel, memory_order_relaxed))
            continue;
        MPF_FAULT("ring.claim.claimed");
        raise_head(cursor->shm, ++cursor->ordinal);
        return record;
    }
    return NULL;
}

/* ---- the end ---- */

static void drop_payloads(struct mpf_arena *arena, struct segment_shm *segment) {
    for (uint32_t slot = 0; slot < segment->count; slot++) {
        struct mpf_task_shm *record = slot_of(segment, slot);
        enum mpf_task_status status = mpf_task_status(atomic_load_explicit(&record->state, memory_order_acquire));
        if (status != MPF_TASK_FREE && status != MPF_TASK_PART && record->block != 0)
            mpf_block_replace(arena, &record->block, 0);
    }
}

void mpf_ring_destroy(struct mpf_arena *arena, struct mpf_ring_shm *shm) {
    if (shm->fresh != 0 && shm->fresh == shm->all)
        shm->fresh = 0;
    if (shm->fresh != 0)
        mpf_block_replace(arena, &shm->fresh, 0);
    while (shm->all != 0) {
        struct segment_shm *segment = segment_at(arena, shm->all);
        drop_payloads(arena, segment);
        MPF_FAULT("ring.destroy.segment");
        mpf_block_replace(arena, &shm->all, segment->older);
    }
}
