/* Eventcount: sleep until somebody says that something may have changed, at no cost to a notifier when nobody sleeps.
 *
 *   waiter                                                    notifier
 *   key = prepare(ec)     signal, then sleepers+1, turn+1     change the condition
 *   if condition: finish  sleepers-1                          notify(ec): fence; if somebody may sleep: signal+1, wake
 *   else park(signal, key), then finish
 *
 * The increment of sleepers and the notifier's fence are both sequentially consistent: either the notifier sees the
 * sleeper, or the sleeper, which looks at the condition after announcing itself, sees the change.
 *
 * state = turn << 32 | generation << 16 | sleepers.
 *
 * turn counts announcements. A sleeper that was woken is counted until it runs, and a notifier that sends to a busy
 * queue meanwhile would pay a system call each time to wake nobody. So a notifier that has woken everybody who was announced
 * at turn t says so in `awake`, and the next ones pass on while the turn is still t. `awake` may be set late, by a notifier
 * that was held up: what it says of t stays true, and a newer value that it overwrites costs one system call.
 *
 * A killed sleeper would be counted for ever: recovery starts a new generation with a count of 0. A sleeper of an earlier
 * generation is woken by the reaping's new epoch, finds the generation changed, does not decrement, and announces
 * itself afresh. Nothing is lost in between: every sleeper looks at its condition after a reaping. A thread that ends with its
 * process while it sleeps stays counted, which by `awake` costs one system call for each later announcement. */
#ifndef MPF_SYNC_EVENTCOUNT_H
#define MPF_SYNC_EVENTCOUNT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "platform/fence.h"
#include "sync/park.h"

#define MPF_EVENTCOUNT_ALL INT32_MAX

struct mpf_eventcount_shm {
    _Atomic uint64_t state;
    _Atomic uint32_t signal;
    _Atomic uint32_t awake; /* the turn, +1, at which everybody announced had been woken; 0: none yet */
};

struct mpf_eventcount_key {
    uint32_t signal;
    uint32_t generation;
};

static inline uint32_t mpf_eventcount_sleepers(uint64_t state) { return state & 0xffff; }
static inline uint32_t mpf_eventcount_generation(uint64_t state) { return state >> 16 & 0xffff; }
static inline uint32_t mpf_eventcount_turn(uint64_t state) { return (uint32_t)(state >> 32) + 1; }

static inline struct mpf_eventcount_key mpf_eventcount_prepare(struct mpf_eventcount_shm *ec) {
    /* Before the announcement, so that who was woken at that turn cannot have seen the signal of the wake. Acquire pairs with
     * the release in mpf_eventcount_wake. */
    uint32_t signal = atomic_load_explicit(&ec->signal, memory_order_acquire);
    uint64_t before = atomic_fetch_add_explicit(&ec->state, UINT64_C(1) << 32 | 1, memory_order_seq_cst);
    return (struct mpf_eventcount_key){.signal = signal, .generation = mpf_eventcount_generation(before)};
}

static inline void mpf_eventcount_finish(struct mpf_eventcount_shm *ec, struct mpf_eventcount_key key) {
    uint64_t seen = atomic_load_explicit(&ec->state, memory_order_relaxed);
    while (mpf_eventcount_generation(seen) == key.generation && mpf_eventcount_sleepers(seen) != 0)
        if (atomic_compare_exchange_weak_explicit(&ec->state, &seen, seen - 1, memory_order_relaxed, memory_order_relaxed))
            break;
}

/* Returns as mpf_park does; mpf_park_finish ends the wait. */
static inline int mpf_eventcount_wait(struct mpf_park *park, struct mpf_eventcount_shm *ec, struct mpf_eventcount_key key) {
    int rc = mpf_park(park, &ec->signal, key.signal);
    mpf_eventcount_finish(ec, key);
    return rc;
}

static inline void mpf_eventcount_wake(struct mpf_eventcount_shm *ec, uint64_t seen, int count) {
    bool all = count < 0 || (uint32_t)count >= mpf_eventcount_sleepers(seen);
    atomic_fetch_add_explicit(&ec->signal, 1, memory_order_release); /* pairs with the acquire in prepare */
    mpf_park_wake(&ec->signal, all ? MPF_EVENTCOUNT_ALL : count);
    if (all)
        atomic_store_explicit(&ec->awake, mpf_eventcount_turn(seen), memory_order_relaxed);
}

/* Whether a notification would wake somebody. For a caller as of mpf_eventcount_notify_fenced. */
static inline bool mpf_eventcount_is_awaited(const struct mpf_eventcount_shm *ec) {
    mpf_fence_after_exchange(); /* the caller's change before the look at sleepers */
    uint64_t seen = atomic_load_explicit(&ec->state, memory_order_relaxed);
    return mpf_eventcount_sleepers(seen) != 0 && atomic_load_explicit(&ec->awake, memory_order_relaxed) != mpf_eventcount_turn(seen);
}

/* Wakes up to count sleepers. For a caller whose change was followed by an atomic exchange of any word (a section that it
 * left). */
static inline void mpf_eventcount_notify_fenced(struct mpf_eventcount_shm *ec, int count) {
    mpf_fence_after_exchange(); /* the caller's change before the look at sleepers */
    uint64_t seen = atomic_load_explicit(&ec->state, memory_order_relaxed);
    if (mpf_eventcount_sleepers(seen) != 0 &&
        atomic_load_explicit(&ec->awake, memory_order_relaxed) != mpf_eventcount_turn(seen))
        mpf_eventcount_wake(ec, seen, count);
}

static inline void mpf_eventcount_notify(struct mpf_eventcount_shm *ec, int count) {
    atomic_thread_fence(memory_order_seq_cst); /* the caller's change before the look at sleepers */
    mpf_eventcount_notify_fenced(ec, count);
}

/* After a sleeper may have been killed. Idempotent. */
static inline void mpf_eventcount_recover(struct mpf_eventcount_shm *ec) {
    uint64_t seen = atomic_load_explicit(&ec->state, memory_order_relaxed), fresh;
    do {
        if (mpf_eventcount_sleepers(seen) == 0)
            return;
        fresh = (seen & ~UINT64_C(0xffffffff)) | (uint64_t)((mpf_eventcount_generation(seen) + 1) & 0xffff) << 16;
    } while (!atomic_compare_exchange_weak_explicit(&ec->state, &seen, fresh, memory_order_relaxed, memory_order_relaxed));
}

#endif
