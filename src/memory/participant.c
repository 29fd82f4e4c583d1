/*
 * Purpose: the participant table: registering, leaving, asking who lives.
 *
 * Layout: one 64-bit state word per slot, all side by side (a scan reads eight to a cache line), and a slot each:
 *
 *     state   status (8 bits) | generation (16 bits) << 8 | actor (32 bits) << 32
 *     slot    pid, start time, pid namespace, life word (life.c), list of references (reference.c)
 *     id      slot (14 bits) | generation (16 bits) << 14; the generation is 1 ... 65534, so 0 and all ones are no ids
 *
 * States of a slot, each change one compare-and-swap of the whole word:
 *
 *     FREE -> JOINING (pid)    -> LIVE -> LEFT
 *     FREE -> COPYING (parent) -> NASCENT (parent) -> JOINING (pid) -> LIVE        a forked child, see fork.c
 *     LIVE -> KILLED (reaper);  LEFT, JOINING, COPYING, NASCENT -> ENDED (reaper)   see reap.c
 *     KILLED, ENDED -> FREE
 *
 * Invariants: a slot's contents belong to the actor; to its process once LIVE. FREE keeps the generation last used,
 * and a slot is taken again only after all others in rotation: an id comes back after four million registrations
 * at the earliest. The rotation starts with 64 slots and is doubled when all are taken.
 *
 * Callers: anyone; joining and reaping with no section held.
 *
 * Death of the caller: JOINING: the pid in the word is dead, any reaper frees the slot. LIVE: see reap.c. Between LIVE
 * and the bump of the epoch: sleepers have not learnt of the new participant, and need not: it died before it did anything.
 */
#define _GNU_SOURCE
#include "memory/participant.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "memory/layout.h"
#include "platform/clock.h"
#include "platform/fault.h"
#include "platform/process.h"

#define GENERATION_MAX 65534u
#define WATCH_MAX 120

static uint64_t load_state(const struct mpf_arena *arena, uint32_t slot)
{
    /* Acquire: pairs with the release in the compare-and-swaps on the word; what the slot holds comes before its state. */
    return atomic_load_explicit(mpf_slot_state(arena, slot), memory_order_acquire);
}

static bool change_state(const struct mpf_arena *arena, uint32_t slot, uint64_t from, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(mpf_slot_state(arena, slot), &from, to, memory_order_acq_rel,
                                                   memory_order_acquire);
}

void mpf_epoch_bump(struct mpf_arena *arena)
{
    _Atomic uint32_t *epoch = mpf_participant_epoch(arena);
    atomic_fetch_add_explicit(epoch, 1, memory_order_release);
    MPF_FAULT("participant.epoch_bumped");
    mpf_futex_wake(epoch, INT_MAX);
}

void mpf_participant_rouse(struct mpf_arena *arena) { mpf_epoch_bump(arena); }

/* Makes the table twice as long. */
static int widen(struct mpf_arena *arena)
{
    struct mpf_header_shm *header = mpf_header(arena);
    uint32_t high = atomic_load_explicit(&header->slots_high, memory_order_relaxed);
    if (high >= MPF_SLOTS)
        return -EAGAIN;
    int rc = mpf_meta_commit(arena, MPF_STATES_AT, 2 * high * sizeof(uint64_t));
    if (rc == 0)
        rc = mpf_meta_commit(arena, header->slots_at + high * sizeof(struct mpf_slot_shm),
                             high * sizeof(struct mpf_slot_shm));
    if (rc < 0)
        return rc;
    MPF_FAULT("participant.widened");
    atomic_compare_exchange_strong(&header->slots_high, &high, 2 * high);
    return 0;
}

static bool claim_in_rotation(struct mpf_arena *arena, enum mpf_slot_status status, uint32_t actor, uint32_t *id)
{
    struct mpf_header_shm *header = mpf_header(arena);
    uint32_t high = atomic_load_explicit(&header->slots_high, memory_order_acquire);
    for (uint32_t i = 0; i < high; i++) {
        uint32_t slot = atomic_fetch_add_explicit(&header->slots_next, 1, memory_order_relaxed) % high;
        uint64_t state = load_state(arena, slot);
        if (mpf_state_status(state) != MPF_SLOT_FREE)
            continue;
        uint32_t generation = mpf_state_generation(state) % GENERATION_MAX + 1;
        uint64_t claimed = mpf_state(status, generation, actor);
        if (change_state(arena, slot, state, claimed)) {
            *id = mpf_state_id(slot, claimed);
            return true;
        }
    }
    return false;
}

int mpf_slot_claim(struct mpf_arena *arena, enum mpf_slot_status status, uint32_t actor, uint32_t *id)
{
    while (!claim_in_rotation(arena, status, actor, id)) {
        int rc = widen(arena);
        if (rc < 0)
            return rc;
    }
    MPF_FAULT("participant.claimed");
    return 0;
}

/* From a claimed slot (its word is `expected`) to a live participant: this process. */
int mpf_slot_settle(struct mpf_arena *arena, uint32_t id, uint64_t expected)
{
    uint32_t slot = mpf_slot_of(id), generation = mpf_state_generation(expected);
    mpf_life_begin(arena, slot);
    MPF_FAULT("participant.alive");
    if (!change_state(arena, slot, expected, mpf_state(MPF_SLOT_LIVE, generation, 0)))
        return -ESTALE;
    arena->self = id;
    MPF_FAULT("participant.joined");
    mpf_epoch_bump(arena);
    return 0;
}

void mpf_slot_free(struct mpf_arena *arena, uint32_t slot)
{
    uint64_t state = load_state(arena, slot);
    atomic_store_explicit(mpf_slot_state(arena, slot), mpf_state(MPF_SLOT_FREE, mpf_state_generation(state), 0),
                          memory_order_release);
}

int mpf_participant_join(struct mpf_arena *arena)
{
    uint32_t id = arena->self;
    if (id) {
        mpf_life_refresh(arena);
        return 0;
    }
    uint32_t pid = (uint32_t)getpid();
    int rc = mpf_slot_claim(arena, MPF_SLOT_JOINING, pid, &id);
    if (rc < 0)
        return rc;
    return mpf_slot_settle(arena, id, load_state(arena, mpf_slot_of(id)));
}

void mpf_participant_leave_all(void)
{
    for (struct mpf_arena *arena = mpf_arena_list(); arena; arena = __atomic_load_n(&arena->next, __ATOMIC_ACQUIRE)) {
        uint32_t slot = mpf_slot_of(arena->self);
        uint64_t state = load_state(arena, slot);
        if (arena->self && mpf_state_id(slot, state) == arena->self && mpf_state_status(state) == MPF_SLOT_LIVE)
            change_state(arena, slot, state, mpf_state(MPF_SLOT_LEFT, mpf_state_generation(state), 0));
        MPF_FAULT("participant.left");
    }
}

enum mpf_participant_state mpf_participant_state(struct mpf_arena *arena, uint32_t id)
{
    uint32_t slot = mpf_slot_of(id);
    if (slot >= atomic_load_explicit(&mpf_header(arena)->slots_high, memory_order_acquire))
        return MPF_PARTICIPANT_LEFT;
    uint64_t state = load_state(arena, slot);
    if (mpf_state_id(slot, state) != id)
        return MPF_PARTICIPANT_LEFT;
    switch (mpf_state_status(state)) {
    case MPF_SLOT_LIVE: {
        enum mpf_life life = mpf_life_look(arena, slot);
        if (load_state(arena, slot) != state) /* reaped and taken again while we looked */
            return mpf_participant_state(arena, id);
        return life == MPF_LIFE_OVER     ? MPF_PARTICIPANT_KILLED
               : life == MPF_LIFE_EXECED ? MPF_PARTICIPANT_LEFT
                                         : MPF_PARTICIPANT_LIVE;
    }
    case MPF_SLOT_JOINING:
    case MPF_SLOT_COPYING:
    case MPF_SLOT_NASCENT:
        return MPF_PARTICIPANT_LIVE;
    case MPF_SLOT_KILLED:
        return MPF_PARTICIPANT_KILLED;
    default:
        return MPF_PARTICIPANT_LEFT;
    }
}

bool mpf_participant_gone(struct mpf_arena *arena, uint32_t id)
{
    uint32_t slot = mpf_slot_of(id);
    if (slot >= atomic_load_explicit(&mpf_header(arena)->slots_high, memory_order_acquire))
        return true;
    uint64_t state = load_state(arena, slot);
    if (mpf_state_id(slot, state) != id)
        return true;
    switch (mpf_state_status(state)) {
    case MPF_SLOT_LIVE:
    case MPF_SLOT_LEFT: {
        enum mpf_life life = mpf_life_look(arena, slot);
        return load_state(arena, slot) != state || life == MPF_LIFE_OVER || life == MPF_LIFE_EXECED;
    }
    case MPF_SLOT_FREE:
    case MPF_SLOT_KILLED:
    case MPF_SLOT_ENDED:
        return true;
    default:
        return false;
    }
}

int32_t mpf_participant_pid(struct mpf_arena *arena, uint32_t id)
{
    uint32_t slot = mpf_slot_of(id);
    if (slot >= atomic_load_explicit(&mpf_header(arena)->slots_high, memory_order_acquire))
        return 0;
    uint64_t state = load_state(arena, slot);
    enum mpf_slot_status status = mpf_state_status(state);
    if (mpf_state_id(slot, state) != id || (status != MPF_SLOT_LIVE && status != MPF_SLOT_LEFT))
        return 0;
    int32_t pid = atomic_load_explicit(&mpf_slot(arena, slot)->pid, memory_order_relaxed);
    return load_state(arena, slot) == state ? pid : 0;
}

int mpf_participant_reap(struct mpf_arena *arena)
{
    int reaped = 0;
    uint32_t high = atomic_load_explicit(&mpf_header(arena)->slots_high, memory_order_acquire);
    mpf_life_refresh(arena);
    for (uint32_t slot = 0; slot < high; slot++) {
        uint64_t state = load_state(arena, slot);
        if (mpf_state_status(state) != MPF_SLOT_FREE && mpf_state_id(slot, state) != arena->self)
            reaped += mpf_reap_slot(arena, slot, state);
    }
    return reaped;
}

_Atomic uint32_t *mpf_participant_epoch(struct mpf_arena *arena) { return &mpf_header(arena)->epoch; }

/* What a sleeper must expect of one slot's life word; -E2BIG where it says nothing. 0 filled, 1 nothing to watch. */
static int watch_slot(struct mpf_arena *arena, uint32_t slot, struct mpf_futex_target *target)
{
    enum mpf_slot_status status = mpf_state_status(load_state(arena, slot));
    if (status != MPF_SLOT_LIVE && status != MPF_SLOT_LEFT)
        return 1;
    target->word = mpf_life_word(arena, slot);
    if (!target->word)
        return -ENOSYS;
    uint32_t seen = atomic_load_explicit(target->word, memory_order_acquire);
    if ((seen & MPF_LIFE_DIED) && mpf_life_look(arena, slot) == MPF_LIFE_POLLED)
        return -E2BIG;
    /* A death that nobody has dealt with yet: the sleep ends at once and the caller reaps. */
    target->expected = seen & ~MPF_LIFE_DIED;
    return 0;
}

int mpf_participant_watch(struct mpf_arena *arena, struct mpf_futex_target *targets, unsigned capacity)
{
    unsigned count = 0;
    if (!mpf_life_watchable())
        return -ENOSYS;
    if (capacity > WATCH_MAX)
        capacity = WATCH_MAX;
    if (capacity == 0)
        return -E2BIG;
    /* The epoch is read before the table: whoever joins later changes it, and the sleep ends. Acquire: pairs with the
     * release in mpf_epoch_bump. */
    targets[count].word = mpf_participant_epoch(arena);
    targets[count++].expected = atomic_load_explicit(mpf_participant_epoch(arena), memory_order_acquire);
    uint32_t high = atomic_load_explicit(&mpf_header(arena)->slots_high, memory_order_acquire);
    for (uint32_t slot = 0; slot < high; slot++) {
        struct mpf_futex_target target;
        if (slot == mpf_slot_of(arena->self))
            continue;
        int rc = watch_slot(arena, slot, &target);
        if (rc < 0)
            return rc;
        if (rc > 0)
            continue;
        if (count == capacity)
            return -E2BIG;
        targets[count++] = target;
    }
    return (int)count;
}

static unsigned permits(void)
{
    int cpus = mpf_process_cpus() - 1;
    return cpus > (int)MPF_SPIN_PERMITS ? MPF_SPIN_PERMITS : (unsigned)cpus;
}

bool mpf_participant_spin_begin(struct mpf_arena *arena)
{
    struct mpf_header_shm *header = mpf_header(arena);
    unsigned count = permits();
    for (unsigned i = 0; i < count; i++) {
        uint32_t nobody = 0;
        if (atomic_load_explicit(&header->permits[i], memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong_explicit(&header->permits[i], &nobody, arena->self, memory_order_relaxed,
                                                    memory_order_relaxed))
            return true;
    }
    return false;
}

void mpf_participant_spin_end(struct mpf_arena *arena)
{
    struct mpf_header_shm *header = mpf_header(arena);
    for (unsigned i = 0; i < MPF_SPIN_PERMITS; i++) {
        uint32_t mine = arena->self;
        if (atomic_load_explicit(&header->permits[i], memory_order_relaxed) == mine &&
            atomic_compare_exchange_strong_explicit(&header->permits[i], &mine, 0, memory_order_relaxed,
                                                    memory_order_relaxed))
            return;
    }
}
