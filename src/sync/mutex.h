/* Lock and RLock in shared memory. See mutex.c for the protocol. */
#ifndef MPF_SYNC_MUTEX_H
#define MPF_SYNC_MUTEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory/participant.h"
#include "platform/fault.h"
#include "sync/park.h"

#define MPF_MUTEX_WAITERS (1u << 30) /* somebody may sleep on the word */
#define MPF_MUTEX_WOKEN (1u << 31)   /* a woken waiter is on its way: the next release need not wake another */
/* the low 30 bits: 0 free | owner's participant id | MPF_MUTEX_ORPHAN (its owner was killed; free for the taking, with a report) */
#define MPF_MUTEX_ORPHAN MPF_PARTICIPANT_ID_MASK

struct mpf_mutex_shm {
    _Atomic uint32_t word;
    _Atomic uint32_t depth;  /* RLock: recursion count, written by the owner only */
    _Atomic uint64_t thread; /* thread ident of the owner within its process; valid while owned */
};

/* 0 taken, 1 taken from a killed owner, -EAGAIN (try), -ETIMEDOUT, -EINTR. thread: ident of the caller. */
int mpf_mutex_try(struct mpf_arena *arena, struct mpf_mutex_shm *mutex, uint64_t thread);
int mpf_mutex_acquire(struct mpf_park *park, struct mpf_mutex_shm *mutex, uint64_t thread);
/* Releases from any thread of any process, as the stdlib's Lock allows. 0, -EPERM: was not locked. */
int mpf_mutex_release(struct mpf_arena *arena, struct mpf_mutex_shm *mutex);
bool mpf_mutex_locked(const struct mpf_mutex_shm *mutex);
bool mpf_mutex_mine(struct mpf_arena *arena, const struct mpf_mutex_shm *mutex, uint64_t thread);
/* Participant id of the owner, 0 when free or orphaned. */
uint32_t mpf_mutex_owner(const struct mpf_mutex_shm *mutex);
/* Block hook: marks the mutex as orphaned if `dead` owns it, and wakes a waiter. */
void mpf_mutex_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead);

/* Recursive. Returns as above; release: -EPERM when the calling thread is not the owner. */
int mpf_rmutex_try(struct mpf_arena *arena, struct mpf_mutex_shm *mutex, uint64_t thread);
int mpf_rmutex_acquire(struct mpf_park *park, struct mpf_mutex_shm *mutex, uint64_t thread);
int mpf_rmutex_release(struct mpf_arena *arena, struct mpf_mutex_shm *mutex, uint64_t thread);

/* The common cases of a recursive mutex, for callers to whom a few nanoseconds matter. false: not one of them, nothing
 * happened; go on with the functions above. */

static inline bool mpf_rmutex_take_quick(struct mpf_arena *arena, struct mpf_mutex_shm *mutex, uint64_t thread) {
    uint32_t word = atomic_load_explicit(&mutex->word, memory_order_relaxed);
    if (word == 0) {
        /* Acquire: pairs with the release in mutex.c's give_up and mpf_mutex_release, and in mpf_rmutex_drop_quick. */
        if (!atomic_compare_exchange_strong_explicit(&mutex->word, &word, arena->self, memory_order_acquire,
                                                     memory_order_relaxed))
            return false;
        MPF_FAULT("mutex.taken");
        atomic_store_explicit(&mutex->thread, thread, memory_order_relaxed);
        atomic_store_explicit(&mutex->depth, 1, memory_order_relaxed);
        MPF_FAULT("mutex.acquired");
        return true;
    }
    uint32_t depth = atomic_load_explicit(&mutex->depth, memory_order_relaxed);
    if ((word & MPF_PARTICIPANT_ID_MASK) != arena->self || depth == UINT32_MAX ||
        atomic_load_explicit(&mutex->thread, memory_order_relaxed) != thread)
        return false;
    atomic_store_explicit(&mutex->depth, depth + 1, memory_order_relaxed);
    return true;
}

static inline bool mpf_rmutex_drop_quick(struct mpf_arena *arena, struct mpf_mutex_shm *mutex, uint64_t thread) {
    uint32_t word = atomic_load_explicit(&mutex->word, memory_order_relaxed);
    if ((word & MPF_PARTICIPANT_ID_MASK) != arena->self ||
        atomic_load_explicit(&mutex->thread, memory_order_relaxed) != thread)
        return false;
    uint32_t depth = atomic_load_explicit(&mutex->depth, memory_order_relaxed) - 1;
    if (depth > 0) {
        atomic_store_explicit(&mutex->depth, depth, memory_order_relaxed);
        return true;
    }
    if (word != arena->self)
        return false;
    atomic_store_explicit(&mutex->depth, 0, memory_order_relaxed);
    MPF_FAULT("rmutex.release");
    atomic_store_explicit(&mutex->thread, 0, memory_order_relaxed);
    MPF_FAULT("mutex.release");
    /* Release: pairs with the acquire in mpf_rmutex_take_quick and in mutex.c's take and take_fast. */
    if (atomic_compare_exchange_strong_explicit(&mutex->word, &word, 0, memory_order_release, memory_order_relaxed))
        return true;
    return mpf_mutex_release(arena, mutex) == 0; /* somebody has begun to wait */
}

#endif
