/* Event: a flag, a count of its settings and a sleepers bit, in one word.
 *
 *    31                              2        1         0
 *   +---------------------------------+----------+-------+
 *   | times set (wraps)               | SLEEPERS | SET   |
 *   +---------------------------------+----------+-------+
 *
 * Transitions
 *   set       SET on, count + 1 (if it was off), SLEEPERS off; all are woken if SLEEPERS was on
 *   clear     SET off
 *   announce  SLEEPERS on, while SET is off; the sleep compares the word with what announce left
 *
 * Invariants: a sleeper exists => SLEEPERS is on, or all sleepers have been or are being woken (or the setter was killed
 * before it woke them: they recheck). A waiter that finds the count changed was let go, whether or not SET is on still.
 * set is a release, each look of a waiter and of is_set an acquire: they pair.
 *
 * If the caller is killed
 *   in set, before the word   nothing was set
 *   in set, after the word    the event is set; the sleepers recheck and see it
 *   in clear or wait          nothing of it is left but perhaps SLEEPERS, which costs the next set one system call
 *
 * Nothing here takes a lock, so a handler may call set and clear whatever the interrupted code was doing. */
#include "sync/event.h"

#include <errno.h>
#include <limits.h>

#include "platform/fault.h"
#include "sync/spin.h"

#define SET 1u
#define SLEEPERS 2u
#define ONCE 4u
#define TIMES(word) ((word) & ~(SET | SLEEPERS))

static inline uint32_t look(const struct mpf_event_shm *event) {
    /* Acquire: pairs with the release in mpf_event_set. */
    return atomic_load_explicit(&event->word, memory_order_acquire);
}

static inline bool let_go(uint32_t word, uint32_t start) { return (word & SET) || TIMES(word) != TIMES(start); }

bool mpf_event_is_set(const struct mpf_event_shm *event) { return look(event) & SET; }

void mpf_event_set(struct mpf_event_shm *event) {
    uint32_t old = atomic_load_explicit(&event->word, memory_order_relaxed);
    uint32_t new;
    do {
        new = (old & SET) ? old & ~SLEEPERS : (TIMES(old) + ONCE) | SET;
        /* Release: pairs with the acquire in look. */
    } while (!atomic_compare_exchange_weak_explicit(&event->word, &old, new, memory_order_release, memory_order_relaxed));
    MPF_FAULT("event.set");
    if (old & SLEEPERS)
        mpf_park_wake(&event->word, INT_MAX);
}

void mpf_event_clear(struct mpf_event_shm *event) {
    atomic_fetch_and_explicit(&event->word, ~SET, memory_order_release);
}

static bool wait_spinning(struct mpf_park *park, struct mpf_event_shm *event, uint32_t start) {
    struct mpf_spin spin;
    bool won = false;
    for (mpf_spin_begin(&spin, park, event); mpf_spin_next(&spin);) {
        won = let_go(look(event), start);
        if (won)
            break;
    }
    mpf_spin_end(&spin, won);
    return won;
}

static int wait_sleeping(struct mpf_park *park, struct mpf_event_shm *event, uint32_t start) {
    for (;;) {
        uint32_t word = look(event);
        if (let_go(word, start))
            return 0;
        /* Relaxed: the announcement carries no data; the kernel's comparison orders it against set. */
        if (!(word & SLEEPERS) &&
            !atomic_compare_exchange_weak_explicit(&event->word, &word, word | SLEEPERS, memory_order_relaxed,
                                                   memory_order_relaxed))
            continue;
        MPF_FAULT("event.announced");
        int slept = mpf_park(park, &event->word, word | SLEEPERS);
        if (slept == -ETIMEDOUT && let_go(look(event), start))
            return 0;
        if (slept)
            return slept;
    }
}

int mpf_event_wait(struct mpf_park *park, struct mpf_event_shm *event) {
    uint32_t start = look(event);
    if (start & SET)
        return 0;
    if (wait_spinning(park, event, start))
        return 0;
    int rc = wait_sleeping(park, event, start);
    mpf_park_finish(park);
    return rc;
}
