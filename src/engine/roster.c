/* Purpose: who works for a crew, what each has in hand, and the lane of its results.
 *
 * Layout. Parts of entries, each twice as long as the one before it; entries never move. A part is added by the parent only.
 *
 *   parts[0] -> 8 entries    parts[1] -> 16 entries    ...    entry: state, participant, pid, task in hand | results
 *
 * States of an entry:
 *   FREE --parent reserves--> STARTING --worker joins--> WORKING --worker--> LEAVING
 *     ^----- parent, when the process is gone and its results are collected ------'
 *
 * Invariants: an entry has one process from STARTING to FREE, or none. The lane is the worker's to put and the parent's to get; what a
 * dead worker had published stays in it.
 *
 * Callers: the parent reserves and frees, one thread at a time; a worker changes its own entry; anybody reads.
 *
 * Death of the parent while it adds a part: the block is its own until mpf_block_put; after that the destroy hook finds it. Lanes that
 * it had not made yet are zeroed, which destroys as nothing. Death of a worker: the entry stays as it is until the parent has seen
 * to what it says; a lane that it was putting into is repaired by the next worker in that entry. */
#include "engine/roster.h"

#include <errno.h>

#include "platform/fault.h"

static uint32_t first_of_part(uint32_t part) { return MPF_ROSTER_FIRST * ((1u << part) - 1); }
static uint32_t part_length(uint32_t part) { return MPF_ROSTER_FIRST << part; }

static uint32_t part_of(uint32_t slot) {
    return 31u - (uint32_t)__builtin_clz(slot / MPF_ROSTER_FIRST + 1);
}

struct mpf_roster_entry_shm *mpf_roster_at(struct mpf_arena *arena, struct mpf_roster_shm *roster, uint32_t slot) {
    uint32_t part = part_of(slot);
    return (struct mpf_roster_entry_shm *)mpf_at(arena, roster->parts[part]) + (slot - first_of_part(part));
}

uint32_t mpf_roster_count(const struct mpf_roster_shm *roster) {
    /* acquire pairs with the release in grow: the entries are there */
    return atomic_load_explicit(&roster->count, memory_order_acquire);
}

static int grow(struct mpf_arena *arena, struct mpf_roster_shm *roster) {
    struct mpf_ref ref;
    uint32_t count = mpf_roster_count(roster), part = part_of(count);
    if (count >= MPF_ROSTER_MAX)
        return -E2BIG;
    int rc = mpf_block_alloc(arena, part_length(part) * sizeof(struct mpf_roster_entry_shm), MPF_BLOCK_TABLE, &ref);
    if (rc < 0)
        return rc;
    MPF_FAULT("roster.allocated");
    mpf_block_put(&ref, &roster->parts[part]);
    MPF_FAULT("roster.owned");
    atomic_store_explicit(&roster->count, count + part_length(part), memory_order_release); /* pairs with mpf_roster_count */
    return 0;
}

static int take(struct mpf_arena *arena, struct mpf_roster_entry_shm *entry) {
    if (!entry->made) {
        int rc = mpf_lane_init(arena, &entry->results, 0);
        if (rc < 0)
            return rc;
        entry->made = true;
    }
    MPF_FAULT("roster.lane_made");
    atomic_store_explicit(&entry->state, MPF_ROSTER_STARTING, memory_order_release); /* pairs with the acquire in join */
    return 0;
}

int mpf_roster_reserve(struct mpf_arena *arena, struct mpf_roster_shm *roster, uint32_t *slot) {
    for (*slot = 0;; ++*slot) {
        if (*slot == mpf_roster_count(roster)) {
            int rc = grow(arena, roster);
            if (rc < 0)
                return rc;
        }
        struct mpf_roster_entry_shm *entry = mpf_roster_at(arena, roster, *slot);
        if (atomic_load_explicit(&entry->state, memory_order_relaxed) == MPF_ROSTER_FREE)
            return take(arena, entry);
    }
}

void mpf_roster_release(struct mpf_roster_entry_shm *entry) {
    atomic_store_explicit(&entry->started, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->intent, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->tasks, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->memory, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->dismissed, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->pid, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->participant, 0, memory_order_relaxed);
    MPF_FAULT("roster.cleared");
    atomic_store_explicit(&entry->state, MPF_ROSTER_FREE, memory_order_release);
}

void mpf_roster_recover(struct mpf_arena *arena, struct mpf_roster_shm *roster) {
    uint32_t count = mpf_roster_count(roster);
    for (uint32_t slot = 0; slot < count; slot++)
        mpf_lane_recover(&mpf_roster_at(arena, roster, slot)->results);
}

void mpf_roster_destroy(struct mpf_arena *arena, struct mpf_roster_shm *roster) {
    for (uint32_t part = 0; part < MPF_ROSTER_PARTS && roster->parts[part] != 0; part++)
        for (uint32_t i = 0; i < part_length(part); i++)
            mpf_lane_destroy(arena, &mpf_roster_at(arena, roster, first_of_part(part) + i)->results);
    for (uint32_t part = MPF_ROSTER_PARTS; part-- > 0;) {
        MPF_FAULT("roster.destroy.part");
        if (roster->parts[part] != 0)
            mpf_block_replace(arena, &roster->parts[part], 0);
    }
}
