/* Eventcount: sleep until somebody says that something may have changed, at no cost to a notifier when nobody sleeps.
 *
 *   waiter                                    notifier
 *   key = prepare(ec)     sleepers+1          change the condition
 *   if condition: cancel  sleepers-1          notify(ec): fence; if sleepers: signal+1, wake
 *   else park(signal, key), then finish
 *
 * The increment of sleepers and the notifier's fence are both sequentially consistent: either the notifier sees the
 * sleeper, or the sleeper, which looks at the condition after announcing itself, sees the change.
 *
 * sleepers = generation << 16 | count. A killed sleeper would be counted for ever, which costs every notifier a system
 * call: recovery starts a new generation with a count of 0. A sleeper of an earlier generation is woken by the reaping's
 * new epoch, finds the generation changed, does not decrement, and announces itself afresh. Nothing is lost in
 * between: every sleeper looks at its condition after a reaping. */
#ifndef MPF_SYNC_EVENTCOUNT_H
#define MPF_SYNC_EVENTCOUNT_H

#include <stdatomic.h>
#include <stdint.h>

#include "sync/park.h"

struct mpf_eventcount_shm {
    _Atomic uint32_t signal;
    _Atomic uint32_t sleepers;
};

struct mpf_eventcount_key {
    uint32_t signal;
    uint32_t generation;
};

static inline struct mpf_eventcount_key mpf_eventcount_prepare(struct mpf_eventcount_shm *ec) {
    uint32_t before = atomic_fetch_add_explicit(&ec->sleepers, 1, memory_order_seq_cst);
    /* acquire pairs with the release in mpf_eventcount_notify */
    uint32_t signal = atomic_load_explicit(&ec->signal, memory_order_acquire);
    return (struct mpf_eventcount_key){.signal = signal, .generation = before >> 16};
}

static inline void mpf_eventcount_finish(struct mpf_eventcount_shm *ec, struct mpf_eventcount_key key) {
    uint32_t seen = atomic_load_explicit(&ec->sleepers, memory_order_relaxed);
    while (seen >> 16 == key.generation && (seen & 0xffff) != 0)
        if (atomic_compare_exchange_weak_explicit(&ec->sleepers, &seen, seen - 1, memory_order_relaxed, memory_order_relaxed))
            break;
}

/* Returns as mpf_park does; mpf_park_finish ends the wait. */
static inline int mpf_eventcount_wait(struct mpf_park *park, struct mpf_eventcount_shm *ec, struct mpf_eventcount_key key) {
    int rc = mpf_park(park, &ec->signal, key.signal);
    mpf_eventcount_finish(ec, key);
    return rc;
}

static inline void mpf_eventcount_notify(struct mpf_eventcount_shm *ec, int count) {
    atomic_thread_fence(memory_order_seq_cst); /* the caller's change before the look at sleepers */
    if ((atomic_load_explicit(&ec->sleepers, memory_order_relaxed) & 0xffff) == 0)
        return;
    atomic_fetch_add_explicit(&ec->signal, 1, memory_order_release);
    mpf_park_wake(&ec->signal, count);
}

/* After a sleeper may have been killed. Idempotent. */
static inline void mpf_eventcount_recover(struct mpf_eventcount_shm *ec) {
    uint32_t seen = atomic_load_explicit(&ec->sleepers, memory_order_relaxed);
    while ((seen & 0xffff) != 0 &&
           !atomic_compare_exchange_weak_explicit(&ec->sleepers, &seen, ((seen >> 16) + 1) << 16, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

#endif
