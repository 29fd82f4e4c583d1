/* Lock and RLock in shared memory. See mutex.c for the protocol. */
#ifndef MPF_SYNC_MUTEX_H
#define MPF_SYNC_MUTEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory/participant.h"
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

#endif
