/*
 * Purpose: what a dead participant leaves behind: finding it dead, repairing, taking its references back.
 *
 * Layout: the slot and its state word (participant.c). The reaper's id is the word's actor.
 *
 * States: LIVE -> KILLED; LEFT, JOINING, COPYING, NASCENT -> ENDED; a reaper that died is replaced in the word; then FREE.
 *
 * Invariants: one reaper at a time. It goes through the list of references in order: recover (KILLED only), then the
 * entry and its count in one step; so whatever is still listed has yet to be done, and doing it twice is harmless. The
 * slot becomes FREE, and its id void, only after every block it referred to has been repaired.
 *
 * Callers: anyone with no section held, for the hooks enter those of the objects.
 *
 * Death of the caller: at any step: the next to look finds the reaper dead, puts itself in its place and goes on.
 */
#include <errno.h>

#include "memory/layout.h"
#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/fault.h"
#include "platform/process.h"

/* How long a forked child may take from its first instant to the end of fork(), before its place is given away. */
#define NASCENT_NS INT64_C(30000000000)

static bool is_over(struct mpf_arena *arena, uint32_t slot, enum mpf_life life)
{
    /* The kernel has woken one sleeper on the word and will wake no other: the rest must know that they have to poll. */
    if (life == MPF_LIFE_POLLED && mpf_life_word(arena, slot) &&
        atomic_exchange_explicit(&mpf_slot(arena, slot)->polled, 1, memory_order_relaxed) == 0)
        mpf_epoch_bump(arena);
    return life == MPF_LIFE_OVER || life == MPF_LIFE_EXECED;
}

/* Whether the child that a slot is set aside for has ended before it could take it. The parent knows it by its pid. */
static bool is_stillborn(struct mpf_arena *arena, uint32_t slot, uint64_t state)
{
    uint64_t child = atomic_load_explicit(&mpf_slot(arena, slot)->child, memory_order_relaxed), ignored;
    return mpf_state_actor(state) == arena->self && child >> 32 == mpf_state_generation(state) &&
           mpf_process_start_time((int32_t)(uint32_t)child, &ignored) == -ESRCH;
}

/* The status that a slot's death leads to, or MPF_SLOT_FREE where it is not dead. */
static enum mpf_slot_status verdict(struct mpf_arena *arena, uint32_t slot, uint64_t state)
{
    enum mpf_slot_status status = mpf_state_status(state);
    uint32_t actor = mpf_state_actor(state);
    uint64_t ignored;
    enum mpf_life life;
    switch (status) {
    case MPF_SLOT_LIVE:
        life = mpf_life_look(arena, slot);
        return !is_over(arena, slot, life) ? MPF_SLOT_FREE : life == MPF_LIFE_OVER ? MPF_SLOT_KILLED : MPF_SLOT_ENDED;
    case MPF_SLOT_LEFT:
        return is_over(arena, slot, mpf_life_look(arena, slot)) ? MPF_SLOT_ENDED : MPF_SLOT_FREE;
    case MPF_SLOT_JOINING:
        return mpf_process_start_time((int32_t)actor, &ignored) == -ESRCH ? MPF_SLOT_ENDED : MPF_SLOT_FREE;
    case MPF_SLOT_COPYING:
        return mpf_participant_gone(arena, actor) ? MPF_SLOT_ENDED : MPF_SLOT_FREE;
    case MPF_SLOT_NASCENT: {
        int64_t born = atomic_load_explicit(&mpf_slot(arena, slot)->born, memory_order_relaxed);
        return mpf_clock_now() - born > NASCENT_NS || is_stillborn(arena, slot, state) ? MPF_SLOT_ENDED : MPF_SLOT_FREE;
    }
    case MPF_SLOT_KILLED:
    case MPF_SLOT_ENDED:
        return actor != arena->self && mpf_participant_gone(arena, actor) ? status : MPF_SLOT_FREE;
    default:
        return MPF_SLOT_FREE;
    }
}

static uint32_t list_top(struct mpf_arena *arena, uint32_t slot)
{
    /* Entering also undoes what the dead one was doing to its list. */
    mpf_arena_enter(arena);
    uint32_t top = mpf_slot(arena, slot)->list_top;
    mpf_arena_leave(arena);
    return top;
}

/* What entry `index` refers to, if it is a reference. */
static bool look_up(struct mpf_arena *arena, uint32_t slot, uint32_t index, mpf_off *off, uint32_t *type)
{
    mpf_arena_enter(arena);
    const uint64_t *entry = mpf_reference_at(arena, slot, index);
    bool found = entry && mpf_entry_kind(*entry) == MPF_ENTRY_REF;
    if (found) {
        *off = mpf_entry_off(*entry);
        *type = mpf_block_type((struct mpf_block_shm *)mpf_at(arena, *off) - 1);
    }
    mpf_arena_leave(arena);
    return found;
}

static void return_permits(struct mpf_arena *arena, uint32_t dead)
{
    for (unsigned i = 0; i < MPF_SPIN_PERMITS; i++) {
        uint32_t holder = dead;
        atomic_compare_exchange_strong_explicit(&mpf_header(arena)->permits[i], &holder, 0, memory_order_relaxed,
                                                memory_order_relaxed);
    }
}

static void clear_up(struct mpf_arena *arena, uint32_t slot, uint32_t dead, bool killed)
{
    uint32_t top = list_top(arena, slot), type;
    mpf_off off;
    for (uint32_t index = 0; index < top; index++) {
        if (killed && look_up(arena, slot, index, &off, &type)) {
            const struct mpf_block_hooks *hooks = mpf_block_hooks(type);
            if (hooks->recover)
                hooks->recover(arena, off, dead);
            MPF_FAULT("reap.recovered");
        }
        mpf_block_release_entry(arena, slot, index);
        MPF_FAULT("reap.dropped");
    }
    mpf_reference_free_list(arena, slot);
    mpf_span_drop_of(arena, dead);
    return_permits(arena, dead);
    MPF_FAULT("reap.cleared");
    mpf_slot_free(arena, slot);
    MPF_FAULT("reap.freed");
    mpf_epoch_bump(arena);
}

/* Puts this process in the word as the reaper, and clears up. */
static bool reap_as(struct mpf_arena *arena, uint32_t slot, uint64_t state, enum mpf_slot_status status)
{
    uint64_t claimed = mpf_state(status, mpf_state_generation(state), arena->self);
    if (!atomic_compare_exchange_strong_explicit(mpf_slot_state(arena, slot), &state, claimed, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return false;
    MPF_FAULT("reap.claimed");
    clear_up(arena, slot, mpf_state_id(slot, claimed), status == MPF_SLOT_KILLED);
    return true;
}

bool mpf_reap_slot(struct mpf_arena *arena, uint32_t slot, uint64_t state)
{
    enum mpf_slot_status status = verdict(arena, slot, state);
    return status != MPF_SLOT_FREE && reap_as(arena, slot, state, status);
}

void mpf_reap_abandoned(struct mpf_arena *arena, uint32_t slot, uint64_t state)
{
    (void)reap_as(arena, slot, state, MPF_SLOT_ENDED);
}
