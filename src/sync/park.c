/* Sleeping on a word of shared memory, so that no death can leave a sleeper behind.
 *
 * The state is private to the waiting thread (struct mpf_park on its stack); nothing here is shared but the word that
 * is slept on, which belongs to the caller, and the arena's epoch and life words, which belong to the participant table.
 *
 *   awake ----> short sleep ----20 ms----> first look at everything ----> long sleep <----> look at everything
 *     ^             | woken                       |                           | woken
 *     +-------------+-----------------------------+---------------------------+
 *
 * Why no death goes unnoticed. Let a process die that owed a wake-up to a sleeper S. S is either
 *   - in a short sleep: it ends by itself, and S looks at everything;
 *   - in a long sleep, or about to begin one: before that S (1) took the epoch, (2) looked at everything (the return with
 *     `recheck`), (3) read its word, and now (4) lists the life words, (5) reaps, (6) compares the epoch with (1), (7) sleeps on
 *     all of them. A death that was reaped before (1) is covered by (2). One that was reaped between (1) and (6) is found
 *     by (6), one that was not reaped but happened before (5) is reaped by (5) and found by (6), and a later one changes a
 *     listed life word, or the epoch if another reaped it first: the kernel's comparison in (7) or the wake finds it.
 *
 * Invariants: no long sleep begins before recheck was reported once; a plain wake is reported with recheck false
 * unless somebody died meanwhile; release and resume alternate.
 *
 * Callers may hold nothing that others need in order to wake them. If the caller dies here it is only a sleeper less: a
 * wake-up that was spent on it is the affair of the caller's protocol (its recheck). */
#include "sync/park.h"

#include <errno.h>
#include <limits.h>

#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/fault.h"

#define POLL_NS (50 * 1000 * 1000) /* where deaths cannot be slept on */
#define LONG_NS INT64_C(10000000000) /* a long sleep: the kernel wakes one sleeper for a death, and that one may be stopped */

static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

void mpf_park_begin(struct mpf_park *park) {
    if (!park->released && park->release) {
        park->release(park->context);
        park->released = true;
    }
}

void mpf_park_finish(struct mpf_park *park) {
    if (park->released) {
        park->released = false;
        if (park->resume)
            park->resume(park->context);
    }
}

static int64_t next_interrupt(const struct mpf_park *park, int64_t now) {
    return park->interrupt_every > 0 ? now + park->interrupt_every : MPF_FOREVER;
}

static int ask_interrupt(struct mpf_park *park, int64_t now) {
    if (!park->interrupt)
        return 0;
    mpf_park_finish(park);
    int said = park->interrupt(park->context);
    park->interrupt_at = next_interrupt(park, now); /* interrupt may have changed how often it wants to be called */
    return said ? -EINTR : 0;
}

/* Reaps the dead; whether anything about the participants has changed since the last look. */
static bool look_at_participants(struct mpf_park *park) {
    mpf_participant_reap(park->arena);
    /* Acquire: pairs with the release of whoever bumped the epoch after its recover functions had run. */
    uint32_t epoch = atomic_load_explicit(mpf_participant_epoch(park->arena), memory_order_acquire);
    bool changed = !park->watching || epoch != park->epoch;
    park->watching = true;
    park->epoch = epoch;
    return changed;
}

/* A sleep ended with its timeout: which of the reasons for having one has come? */
static int timed_out(struct mpf_park *park) {
    int64_t now = mpf_clock_now();
    park->recheck = true;
    look_at_participants(park);
    if (now >= park->deadline)
        return -ETIMEDOUT;
    return ask_interrupt(park, now);
}

static int interrupted(struct mpf_park *park) {
    park->recheck = true;
    return ask_interrupt(park, mpf_clock_now());
}

static int sleep_short(struct mpf_park *park, const _Atomic uint32_t *word, uint32_t expected, int64_t until) {
    int rc = mpf_futex_wait(word, expected, until);
    MPF_FAULT("park.woken");
    if (rc == -ETIMEDOUT)
        return timed_out(park);
    if (rc == -EINTR)
        return interrupted(park);
    park->slept = true;
    return 0;
}

static int sleep_long(struct mpf_park *park, const _Atomic uint32_t *word, uint32_t expected, int64_t until) {
    struct mpf_futex_target targets[MPF_FUTEX_MANY_MAX];
    targets[0] = (struct mpf_futex_target){word, expected};
    int watched = mpf_participant_watch(park->arena, targets + 1, MPF_FUTEX_MANY_MAX - 1);
    if (look_at_participants(park)) {
        park->recheck = true;
        park->slept |= park->interrupt_roused;
        return 0;
    }
    int rc = watched < 0 ? watched : mpf_futex_wait_many(targets, (unsigned)watched + 1, earlier(until, mpf_clock_now() + LONG_NS));
    if (rc == -ENOSYS || rc == -E2BIG || rc == -EPERM)
        return sleep_short(park, word, expected, earlier(until, mpf_clock_now() + POLL_NS));
    MPF_FAULT("park.woken");
    if (rc == -ETIMEDOUT)
        return timed_out(park);
    if (rc == -EINTR)
        return interrupted(park);
    park->slept = true;
    if (look_at_participants(park))
        park->recheck = true;
    return 0;
}

int mpf_park(struct mpf_park *park, const _Atomic uint32_t *word, uint32_t expected) {
    int64_t now = mpf_clock_now();
    park->recheck = false;
    if (now >= park->deadline)
        return -ETIMEDOUT;
    if (!park->short_until) {
        park->short_until = now + MPF_PARK_SHORT_NS;
        park->interrupt_at = next_interrupt(park, now);
    }
    int64_t until = earlier(park->deadline, park->interrupt_at);
    bool is_short = now < park->short_until;
    if (!is_short && !park->watching) {
        look_at_participants(park);
        park->recheck = true;
        park->slept |= park->interrupt_roused;
        return 0;
    }
    /* A wake-up and a signal can end one sleep together, and the kernel then tells of the wake-up only. */
    if (park->slept) {
        park->slept = false;
        int said = ask_interrupt(park, now);
        if (said)
            return said;
    }
    mpf_park_begin(park);
    MPF_FAULT("park.sleep");
    if (is_short)
        return sleep_short(park, word, expected, earlier(until, park->short_until));
    return sleep_long(park, word, expected, until);
}

int mpf_park_wake(const _Atomic uint32_t *word, int count) {
    MPF_FAULT("park.wake");
    int woken = mpf_futex_wake(word, count);
    return woken > 0 ? woken : 0;
}
