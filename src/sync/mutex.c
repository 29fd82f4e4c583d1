/* Lock and RLock: one word that names its owner.
 *
 *     31      30        29                                   0
 *   +-------+---------+---------------------------------------+
 *   | WOKEN | WAITERS | 0 free | owner | ORPHAN               |   depth   thread
 *   +-------+---------+---------------------------------------+
 *
 * Transitions of the owner field (flags in brackets)
 *   free -> owner       try, acquire: the flags stay; a waiter that was woken or that rechecks sets WAITERS, clears WOKEN
 *   owner -> free       release: with WAITERS and no WOKEN, WAITERS becomes WOKEN and one sleeper is woken
 *   owner -> ORPHAN     recover: the owner was killed; WAITERS becomes WOKEN, one sleeper is woken
 *   ORPHAN -> owner     try, acquire: reported as 1; release (by whoever stands in for the dead) makes it free
 *
 * WOKEN is a token: a woken waiter is on its way to the word, so that no release until then need wake another.
 * WAITERS may be set with nobody asleep (costs a system call), never the other way round:
 *
 * Invariants
 *   - a sleeper exists => WAITERS is set, or WOKEN is and its holder will set WAITERS when it takes the word or sleeps again,
 *     or the holder was killed, and then every sleeper rechecks
 *   - whoever clears WOKEN sets WAITERS, but for the waker that found nobody asleep: its sleepers-to-be compare the word
 *   - `thread` and `depth` are written by the owner's process only, `thread` is 0 before the word becomes free
 *
 * The order of things is the word's own: one atomic word, so relaxed would do for the flags; taking it is an acquire that
 * pairs with the release in unlock and in recover.
 *
 * If the caller is killed
 *   before it took the word         nothing happened; a wake-up spent on it leaves WOKEN set: cleared on recheck
 *   owner, anywhere                 recover marks the word as ORPHAN; thread and depth are written afresh by the next owner
 *   in release, before the word     it is still the owner, see above (an RLock's depth may be 0 by then, or thread)
 *   in release, after the word      the lock is free, WOKEN is set and nobody was woken: cleared on recheck
 *   in recover                      recover runs again in the next reaper; the word says what is left to do
 *
 * Waiting on a thread of one's own process does not spin: it may need the GIL that the waiter still holds. */
#include "sync/mutex.h"

#include <errno.h>

#include "memory/arena.h"
#include "platform/fault.h"
#include "sync/spin.h"

#define OWNER MPF_PARTICIPANT_ID_MASK

static inline uint32_t load(const _Atomic uint32_t *word) { return atomic_load_explicit(word, memory_order_relaxed); }

static inline bool is_takeable(uint32_t word) { return (word & OWNER) == 0 || (word & OWNER) == MPF_MUTEX_ORPHAN; }

static inline void set_thread(struct mpf_mutex_shm *mutex, uint64_t thread) {
    atomic_store_explicit(&mutex->thread, thread, memory_order_relaxed);
}

/* Makes the caller the owner if nobody is. 0, 1 (from a killed owner), -EAGAIN. *seen: the word as last read. */
static int take(struct mpf_arena *arena, struct mpf_mutex_shm *mutex, uint64_t thread, bool was_asleep, uint32_t *seen) {
    uint32_t old = load(&mutex->word);
    uint32_t new;
    do {
        if (!is_takeable(old)) {
            *seen = old;
            return -EAGAIN;
        }
        new = (old & ~OWNER) | arena->self;
        if (was_asleep)
            new = (new & ~MPF_MUTEX_WOKEN) | MPF_MUTEX_WAITERS;
        /* Acquire: pairs with the release in give_up and in mpf_mutex_recover. */
    } while (!atomic_compare_exchange_weak_explicit(&mutex->word, &old, new, memory_order_acquire, memory_order_relaxed));
    MPF_FAULT("mutex.taken");
    set_thread(mutex, thread);
    atomic_store_explicit(&mutex->depth, 1, memory_order_relaxed);
    MPF_FAULT("mutex.acquired");
    return (old & OWNER) == MPF_MUTEX_ORPHAN;
}

/* Spends the token on a sleeper. Found nobody asleep: hands the token back, unless a sleeper has come to a free word since. */
static void wake_one(struct mpf_mutex_shm *mutex) {
    for (;;) {
        MPF_FAULT("mutex.wake");
        if (mpf_park_wake(&mutex->word, 1) > 0)
            return;
        MPF_FAULT("mutex.nobody");
        bool again;
        uint32_t old = load(&mutex->word);
        uint32_t new;
        do {
            if (!(old & MPF_MUTEX_WOKEN))
                return;
            again = is_takeable(old) && (old & MPF_MUTEX_WAITERS);
            new = again ? old & ~MPF_MUTEX_WAITERS : old & ~MPF_MUTEX_WOKEN;
        } while (!atomic_compare_exchange_weak_explicit(&mutex->word, &old, new, memory_order_relaxed,
                                                        memory_order_relaxed));
        if (!again)
            return;
    }
}

/* Turns the word into `left` (0 or ORPHAN in the owner field) and wakes a sleeper if none is on its way. */
static int give_up(struct mpf_mutex_shm *mutex, uint32_t owner, uint32_t left) {
    uint32_t old = load(&mutex->word);
    uint32_t new;
    do {
        if ((old & OWNER) == 0 || (owner && (old & OWNER) != owner))
            return -EPERM;
        new = (old & ~OWNER) | left;
        if ((old & MPF_MUTEX_WAITERS) && !(old & MPF_MUTEX_WOKEN))
            new = (new & ~MPF_MUTEX_WAITERS) | MPF_MUTEX_WOKEN;
        /* Release: pairs with the acquire in take. */
    } while (!atomic_compare_exchange_weak_explicit(&mutex->word, &old, new, memory_order_release, memory_order_relaxed));
    MPF_FAULT("mutex.released");
    if ((new & MPF_MUTEX_WOKEN) && !(old & MPF_MUTEX_WOKEN))
        wake_one(mutex);
    return 0;
}

/* Announces a sleeper. On recheck or after a wake the token is dropped. Whether the word is still worth sleeping on. */
static bool announce(struct mpf_mutex_shm *mutex, bool drop_token, uint32_t *seen) {
    uint32_t old = load(&mutex->word);
    uint32_t new;
    do {
        if (is_takeable(old))
            return false;
        new = old | MPF_MUTEX_WAITERS;
        if (drop_token)
            new &= ~MPF_MUTEX_WOKEN;
        if (new == old)
            break;
    } while (!atomic_compare_exchange_weak_explicit(&mutex->word, &old, new, memory_order_relaxed, memory_order_relaxed));
    MPF_FAULT("mutex.announced");
    *seen = new;
    return true;
}

static int acquire_spinning(struct mpf_park *park, struct mpf_mutex_shm *mutex, uint64_t thread, uint32_t *seen) {
    struct mpf_spin spin;
    int rc = -EAGAIN;
    for (mpf_spin_begin(&spin, park, mutex); mpf_spin_next(&spin);) {
        if (!is_takeable(load(&mutex->word)))
            continue;
        rc = take(park->arena, mutex, thread, false, seen);
        if (rc >= 0)
            break;
    }
    mpf_spin_end(&spin, rc >= 0);
    return rc;
}

static int acquire_sleeping(struct mpf_park *park, struct mpf_mutex_shm *mutex, uint64_t thread) {
    bool was_asleep = false;
    for (;;) {
        uint32_t seen;
        int rc = take(park->arena, mutex, thread, was_asleep, &seen);
        if (rc >= 0)
            return rc;
        if (!announce(mutex, was_asleep, &seen))
            continue;
        int slept = mpf_park(park, &mutex->word, seen);
        was_asleep = true;
        if (slept == -EINTR)
            return slept;
        if (slept == -ETIMEDOUT) {
            rc = take(park->arena, mutex, thread, was_asleep, &seen);
            return rc >= 0 ? rc : slept;
        }
    }
}

static int acquire_slow(struct mpf_park *park, struct mpf_mutex_shm *mutex, uint64_t thread, uint32_t seen) {
    if (mpf_participant_state(park->arena, seen & OWNER) == MPF_PARTICIPANT_KILLED)
        mpf_participant_reap(park->arena);
    int rc = -EAGAIN;
    if ((seen & OWNER) != park->arena->self)
        rc = acquire_spinning(park, mutex, thread, &seen);
    if (rc < 0)
        rc = acquire_sleeping(park, mutex, thread);
    mpf_park_finish(park);
    return rc;
}

/* The common case: free, no flags. */
static inline bool take_fast(struct mpf_arena *arena, struct mpf_mutex_shm *mutex, uint64_t thread) {
    uint32_t free = 0;
    /* Acquire: pairs with the release in give_up. */
    if (!atomic_compare_exchange_strong_explicit(&mutex->word, &free, arena->self, memory_order_acquire,
                                                 memory_order_relaxed))
        return false;
    MPF_FAULT("mutex.taken");
    set_thread(mutex, thread);
    atomic_store_explicit(&mutex->depth, 1, memory_order_relaxed);
    MPF_FAULT("mutex.acquired");
    return true;
}

int mpf_mutex_try(struct mpf_arena *arena, struct mpf_mutex_shm *mutex, uint64_t thread) {
    if (take_fast(arena, mutex, thread))
        return 0;
    uint32_t seen;
    int rc = take(arena, mutex, thread, false, &seen);
    if (rc >= 0 || mpf_participant_state(arena, seen & OWNER) != MPF_PARTICIPANT_KILLED)
        return rc;
    mpf_participant_reap(arena);
    return take(arena, mutex, thread, false, &seen);
}

int mpf_mutex_acquire(struct mpf_park *park, struct mpf_mutex_shm *mutex, uint64_t thread) {
    if (take_fast(park->arena, mutex, thread))
        return 0;
    uint32_t seen;
    int rc = take(park->arena, mutex, thread, false, &seen);
    return rc >= 0 ? rc : acquire_slow(park, mutex, thread, seen);
}

int mpf_mutex_release(struct mpf_arena *arena, struct mpf_mutex_shm *mutex) {
    uint32_t old = load(&mutex->word);
    if ((old & OWNER) == arena->self)
        set_thread(mutex, 0);
    MPF_FAULT("mutex.release");
    /* Release: pairs with the acquire in take and take_fast. */
    if (old == arena->self && atomic_compare_exchange_strong_explicit(&mutex->word, &old, 0, memory_order_release,
                                                                      memory_order_relaxed))
        return 0;
    return give_up(mutex, 0, 0);
}

bool mpf_mutex_locked(const struct mpf_mutex_shm *mutex) { return !is_takeable(load(&mutex->word)); }

uint32_t mpf_mutex_owner(const struct mpf_mutex_shm *mutex) {
    uint32_t owner = load(&mutex->word) & OWNER;
    return owner == MPF_MUTEX_ORPHAN ? 0 : owner;
}

bool mpf_mutex_mine(struct mpf_arena *arena, const struct mpf_mutex_shm *mutex, uint64_t thread) {
    return (load(&mutex->word) & OWNER) == arena->self &&
           atomic_load_explicit(&mutex->thread, memory_order_relaxed) == thread;
}

void mpf_mutex_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead) {
    struct mpf_mutex_shm *mutex = mpf_at(arena, off);
    MPF_FAULT("mutex.recover");
    give_up(mutex, dead, MPF_MUTEX_ORPHAN);
}

int mpf_rmutex_try(struct mpf_arena *arena, struct mpf_mutex_shm *mutex, uint64_t thread) {
    if (!mpf_mutex_mine(arena, mutex, thread))
        return mpf_mutex_try(arena, mutex, thread);
    uint32_t depth = load(&mutex->depth);
    if (depth == UINT32_MAX)
        return -EOVERFLOW;
    atomic_store_explicit(&mutex->depth, depth + 1, memory_order_relaxed);
    return 0;
}

int mpf_rmutex_acquire(struct mpf_park *park, struct mpf_mutex_shm *mutex, uint64_t thread) {
    if (mpf_mutex_mine(park->arena, mutex, thread))
        return mpf_rmutex_try(park->arena, mutex, thread);
    return mpf_mutex_acquire(park, mutex, thread);
}

int mpf_rmutex_release(struct mpf_arena *arena, struct mpf_mutex_shm *mutex, uint64_t thread) {
    if (!mpf_mutex_mine(arena, mutex, thread))
        return -EPERM;
    uint32_t depth = load(&mutex->depth) - 1;
    atomic_store_explicit(&mutex->depth, depth, memory_order_relaxed);
    MPF_FAULT("rmutex.release");
    return depth ? 0 : mpf_mutex_release(arena, mutex);
}
