/* Counting semaphore: a number of permits and a flag, in one word.
 *
 *      31      30                          0
 *   +----------+----------------------------+
 *   | SLEEPERS | permits                    |
 *   +----------+----------------------------+
 *
 * Transitions
 *   release(n)   permits += n; if SLEEPERS was set it is cleared in the same step, and one sleeper is woken
 *   take         permits -= 1; by a waiter that was asleep: SLEEPERS is set too (others may sleep), and if permits are left
 *                over one more sleeper is woken, so that n permits reach n sleepers one after the other
 *   announce     0 -> SLEEPERS, before a sleep; the sleep compares the word with SLEEPERS
 *
 * Invariants
 *   - a sleeper exists => SLEEPERS is set, or a woken waiter is on its way that will set it, or that waiter was killed,
 *     and then every sleeper rechecks
 *   - a sleeper exists and permits > 0 => a woken waiter is on its way, or was killed (see above)
 *   - SLEEPERS with nobody asleep costs one system call of the next release, no more
 *
 * The word alone carries the protocol, so that every step is atomic. Taking is an acquire that pairs with the
 * release in mpf_semaphore_release.
 *
 * If the caller is killed
 *   in release, before the word     nothing was released
 *   in release, after the word      the permits are there, nobody was woken: the sleepers recheck and take them
 *   woken, before it took a permit  the permit is there: likewise
 *   after it took a permit          the permit is gone with it: a counting semaphore's permits belong to nobody
 *
 * mpf_semaphore_release and mpf_semaphore_try are one loop on one word: safe in a signal handler. */
#include "sync/semaphore.h"

#include <errno.h>

#include "platform/fault.h"
#include "sync/spin.h"

#define SLEEPERS (1u << 31)
#define PERMITS MPF_SEMAPHORE_VALUE_MAX

static inline uint32_t load(const _Atomic uint32_t *word) { return atomic_load_explicit(word, memory_order_relaxed); }

void mpf_semaphore_init(struct mpf_semaphore_shm *semaphore, uint32_t value) {
    atomic_store_explicit(&semaphore->word, value & PERMITS, memory_order_relaxed);
}

int mpf_semaphore_try(struct mpf_semaphore_shm *semaphore) {
    uint32_t old = load(&semaphore->word);
    do {
        if (!(old & PERMITS))
            return -EAGAIN;
        /* Acquire: pairs with the release in mpf_semaphore_release. */
    } while (!atomic_compare_exchange_weak_explicit(&semaphore->word, &old, old - 1, memory_order_acquire,
                                                    memory_order_relaxed));
    MPF_FAULT("semaphore.taken");
    return 0;
}

/* The same for a waiter that was asleep and may have been woken on behalf of the others too. */
static int take_woken(struct mpf_semaphore_shm *semaphore) {
    uint32_t old = load(&semaphore->word);
    uint32_t new;
    do {
        if (!(old & PERMITS))
            return -EAGAIN;
        new = (old - 1) | SLEEPERS;
        if (new & PERMITS)
            new &= ~SLEEPERS;
        /* Acquire: pairs with the release in mpf_semaphore_release. */
    } while (!atomic_compare_exchange_weak_explicit(&semaphore->word, &old, new, memory_order_acquire,
                                                    memory_order_relaxed));
    MPF_FAULT("semaphore.taken");
    if (new & PERMITS)
        mpf_park_wake(&semaphore->word, 1);
    return 0;
}

/* Whether the word is still worth sleeping on. */
static bool announce(struct mpf_semaphore_shm *semaphore) {
    uint32_t old = 0;
    return atomic_compare_exchange_strong_explicit(&semaphore->word, &old, SLEEPERS, memory_order_relaxed,
                                                   memory_order_relaxed) ||
           old == SLEEPERS;
}

static int acquire_spinning(struct mpf_park *park, struct mpf_semaphore_shm *semaphore) {
    struct mpf_spin spin;
    int rc = -EAGAIN;
    for (mpf_spin_begin(&spin, park, semaphore); mpf_spin_next(&spin);) {
        rc = mpf_semaphore_try(semaphore);
        if (rc == 0)
            break;
    }
    mpf_spin_end(&spin, rc == 0);
    return rc;
}

static int acquire_sleeping(struct mpf_park *park, struct mpf_semaphore_shm *semaphore) {
    bool was_asleep = false;
    for (;;) {
        if ((was_asleep ? take_woken(semaphore) : mpf_semaphore_try(semaphore)) == 0)
            return 0;
        if (!announce(semaphore))
            continue;
        MPF_FAULT("semaphore.announced");
        int slept = mpf_park(park, &semaphore->word, SLEEPERS);
        was_asleep = true;
        if (slept == -EINTR)
            return slept;
        if (slept == -ETIMEDOUT)
            return take_woken(semaphore) == 0 ? 0 : slept;
    }
}

int mpf_semaphore_acquire(struct mpf_park *park, struct mpf_semaphore_shm *semaphore) {
    if (mpf_semaphore_try(semaphore) == 0)
        return 0;
    int rc = acquire_spinning(park, semaphore);
    if (rc < 0)
        rc = acquire_sleeping(park, semaphore);
    mpf_park_finish(park);
    return rc;
}

int mpf_semaphore_release(struct mpf_semaphore_shm *semaphore, uint32_t count) {
    uint32_t old = load(&semaphore->word);
    uint32_t new;
    do {
        if (count > PERMITS - (old & PERMITS))
            return -EOVERFLOW;
        new = (old & PERMITS) + count;
        /* Release: pairs with the acquire in mpf_semaphore_try and take_woken. */
    } while (!atomic_compare_exchange_weak_explicit(&semaphore->word, &old, new, memory_order_release,
                                                    memory_order_relaxed));
    MPF_FAULT("semaphore.released");
    if (old & SLEEPERS)
        mpf_park_wake(&semaphore->word, 1);
    return 0;
}

uint32_t mpf_semaphore_value(const struct mpf_semaphore_shm *semaphore) { return load(&semaphore->word) & PERMITS; }
