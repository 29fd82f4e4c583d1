/* Bounded semaphore: permits with names on them.
 *
 *   +-------+-------+----------+---------------------------------+----------------------+
 *   | bound | value | sleepers | table of holders {id, permits}  | section and undo log |
 *   +-------+-------+----------+---------------------------------+----------------------+
 *
 * All but the sleep happens inside the section, so each of these is there as a whole or not at all:
 *   take      value - 1, the caller's entry + 1
 *   release   value + 1, the caller's entry - 1 (or another holder's), sleepers off; then one sleeper is woken if it was on
 *   announce  sleepers on, while value is 0; the sleep is on value
 *   recover   the dead holder's permits go back to value, its entry to 0
 *
 * Invariants (outside the section)
 *   - bound = value + the permits of all entries; an entry with no permits is free for anybody
 *   - a sleeper exists => sleepers is on, or a woken waiter is on its way that will put it on, or that waiter was killed, and then
 *     every sleeper rechecks (the protocol of semaphore.c, with the flag in a word of its own)
 *
 * If the caller is killed
 *   inside the section              the next one to enter undoes what it had begun
 *   after taking                    recover returns the permit
 *   after releasing, before waking  the permit is there: the sleepers recheck
 *   woken, before taking            likewise
 *   in recover                      recover runs again in the next reaper: what was done is done, the entry is 0
 * A process that ends in order keeps its entry, and what it held stays taken until somebody releases it. */
#include "sync/bounded.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>

#include "memory/participant.h"
#include "memory/section.h"
#include "platform/fault.h"
#include "sync/spin.h"
#include "sync/table.h"

#define INLINE_HOLDERS 8
#define LOG 8

struct holder {
    uint32_t id;
    uint32_t permits;
};

struct mpf_bounded_shm {
    uint32_t bound;
    _Atomic uint32_t value;
    uint32_t sleepers;
    uint32_t reserved;
    struct mpf_table_shm table;
    struct holder holders[INLINE_HOLDERS];
    struct mpf_section_shm section;
    struct mpf_section_entry_shm log[LOG];
};
_Static_assert(offsetof(struct mpf_bounded_shm, holders) ==
                   offsetof(struct mpf_bounded_shm, table) + sizeof(struct mpf_table_shm), "entries follow the header");
_Static_assert(offsetof(struct mpf_bounded_shm, log) ==
                   offsetof(struct mpf_bounded_shm, section) + sizeof(struct mpf_section_shm), "the log follows the section");

uint64_t mpf_bounded_bytes(void) { return sizeof(struct mpf_bounded_shm); }

void mpf_bounded_init(struct mpf_bounded_shm *semaphore, uint32_t value) {
    semaphore->bound = value;
    atomic_store_explicit(&semaphore->value, value, memory_order_relaxed);
    semaphore->sleepers = 0;
    mpf_table_init(&semaphore->table, INLINE_HOLDERS, sizeof(struct holder));
    mpf_section_init(&semaphore->section, LOG);
}

static void enter(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore) {
    mpf_section_enter(arena, &semaphore->section);
}

static void leave(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore) {
    mpf_section_leave(arena, &semaphore->section);
}

static void set(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore, uint32_t *where, uint32_t value) {
    MPF_FAULT("bounded.set");
    mpf_section_set32(arena, &semaphore->section, where, value);
}

static void set_value(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore, uint32_t value) {
    set(arena, semaphore, (uint32_t *)&semaphore->value, value);
}

static uint32_t value_now(const struct mpf_bounded_shm *semaphore) {
    return atomic_load_explicit(&semaphore->value, memory_order_relaxed);
}

/* The entry with this id and permits, else NULL. */
static struct holder *find(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore, uint32_t id) {
    struct holder *holder;
    for (uint32_t i = 0; (holder = mpf_table_at(arena, &semaphore->table, i)) != NULL; i++)
        if (holder->id == id && holder->permits)
            return holder;
    return NULL;
}

/* The first entry with permits (wanted) or without (not). */
static struct holder *find_any(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore, bool wanted) {
    struct holder *holder;
    for (uint32_t i = 0; (holder = mpf_table_at(arena, &semaphore->table, i)) != NULL; i++)
        if ((holder->permits != 0) == wanted)
            return holder;
    return NULL;
}

/* Inside the section. 0, -EAGAIN, -ENOSPC (the table is full). */
static int take_inside(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore, bool was_asleep, bool *wake_next) {
    uint32_t value = value_now(semaphore);
    if (!value)
        return -EAGAIN;
    struct holder *holder = find(arena, semaphore, arena->self);
    if (!holder)
        holder = find_any(arena, semaphore, false);
    if (!holder)
        return -ENOSPC;
    set(arena, semaphore, &holder->id, arena->self);
    set(arena, semaphore, &holder->permits, holder->permits + 1);
    set_value(arena, semaphore, value - 1);
    if (was_asleep) {
        *wake_next = value > 1;
        set(arena, semaphore, &semaphore->sleepers, value == 1);
    }
    return 0;
}

static int take(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore, bool was_asleep) {
    for (;;) {
        bool wake_next = false;
        enter(arena, semaphore);
        int rc = take_inside(arena, semaphore, was_asleep, &wake_next);
        uint32_t seen = rc == -ENOSPC ? mpf_table_capacity(arena, &semaphore->table) : 0;
        leave(arena, semaphore);
        MPF_FAULT("bounded.taken");
        if (wake_next)
            mpf_park_wake(&semaphore->value, 1);
        if (rc != -ENOSPC)
            return rc;
        rc = mpf_table_grow(arena, &semaphore->section, &semaphore->table, seen);
        if (rc < 0)
            return rc;
    }
}

int mpf_bounded_try(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore) {
    if (!value_now(semaphore) && mpf_participant_reap(arena) <= 0)
        return -EAGAIN;
    return take(arena, semaphore, false);
}

/* Whether value is still worth sleeping on. */
static bool announce(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore) {
    enter(arena, semaphore);
    bool empty = !value_now(semaphore);
    if (empty && !semaphore->sleepers)
        set(arena, semaphore, &semaphore->sleepers, 1);
    leave(arena, semaphore);
    MPF_FAULT("bounded.announced");
    return empty;
}

static int acquire_spinning(struct mpf_park *park, struct mpf_bounded_shm *semaphore) {
    struct mpf_spin spin;
    int rc = -EAGAIN;
    for (mpf_spin_begin(&spin, park, &semaphore->value); mpf_spin_next(&spin);) {
        if (!value_now(semaphore))
            continue;
        rc = take(park->arena, semaphore, false);
        if (rc != -EAGAIN)
            break;
    }
    mpf_spin_end(&spin, rc == 0);
    return rc;
}

static int acquire_sleeping(struct mpf_park *park, struct mpf_bounded_shm *semaphore) {
    bool was_asleep = false;
    for (;;) {
        int rc = take(park->arena, semaphore, was_asleep);
        if (rc != -EAGAIN)
            return rc;
        if (!announce(park->arena, semaphore))
            continue;
        int slept = mpf_park(park, &semaphore->value, 0);
        was_asleep = true;
        if (slept == -EINTR)
            return slept;
        if (slept == -ETIMEDOUT) {
            rc = take(park->arena, semaphore, was_asleep);
            return rc == -EAGAIN ? slept : rc;
        }
    }
}

int mpf_bounded_acquire(struct mpf_park *park, struct mpf_bounded_shm *semaphore) {
    int rc = take(park->arena, semaphore, false);
    if (rc == -EAGAIN)
        rc = acquire_spinning(park, semaphore);
    if (rc == -EAGAIN)
        rc = acquire_sleeping(park, semaphore);
    mpf_park_finish(park);
    return rc;
}

int mpf_bounded_release(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore) {
    enter(arena, semaphore);
    uint32_t value = value_now(semaphore);
    if (value >= semaphore->bound) {
        leave(arena, semaphore);
        return -EOVERFLOW;
    }
    struct holder *holder = find(arena, semaphore, arena->self);
    if (!holder)
        holder = find_any(arena, semaphore, true);
    set(arena, semaphore, &holder->permits, holder->permits - 1);
    set_value(arena, semaphore, value + 1);
    bool wake = semaphore->sleepers;
    if (wake)
        set(arena, semaphore, &semaphore->sleepers, 0);
    leave(arena, semaphore);
    MPF_FAULT("bounded.released");
    if (wake)
        mpf_park_wake(&semaphore->value, 1);
    return 0;
}

uint32_t mpf_bounded_value(const struct mpf_bounded_shm *semaphore) { return value_now(semaphore); }

uint32_t mpf_bounded_bound(const struct mpf_bounded_shm *semaphore) { return semaphore->bound; }

void mpf_bounded_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead) {
    struct mpf_bounded_shm *semaphore = mpf_at(arena, off);
    enter(arena, semaphore);
    struct holder *holder = find(arena, semaphore, dead);
    bool wake = holder != NULL;
    if (holder) {
        set_value(arena, semaphore, value_now(semaphore) + holder->permits);
        set(arena, semaphore, &holder->permits, 0);
        set(arena, semaphore, &semaphore->sleepers, 0);
    }
    leave(arena, semaphore);
    MPF_FAULT("bounded.recovered");
    if (wake)
        mpf_park_wake(&semaphore->value, INT_MAX);
}

void mpf_bounded_destroy(struct mpf_arena *arena, mpf_off off) {
    struct mpf_bounded_shm *semaphore = mpf_at(arena, off);
    mpf_table_destroy(arena, &semaphore->table);
}
