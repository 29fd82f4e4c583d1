/* Condition: waiters in order of arrival, each with a word of its own to sleep on. The caller holds the user's lock
 * around notify and wait; it is released and taken again by the caller of this layer (objects), between enlist and
 * await, so that this layer is independent of the kind of lock.
 *
 *   enlist (lock held) -> user's lock released -> await -> user's lock taken again
 *
 * A notification given to a waiter that is killed or interrupted before it has left await goes on to the next waiter. */
#ifndef MPF_SYNC_CONDITION_H
#define MPF_SYNC_CONDITION_H

#include <stdint.h>

#include "memory/arena.h"
#include "sync/park.h"

struct mpf_condition_shm;

uint64_t mpf_condition_bytes(void);
void mpf_condition_init(struct mpf_condition_shm *condition);

/* 0 or -ENOMEM. The ticket is for one await, or one mpf_condition_withdraw. */
int mpf_condition_enlist(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t *ticket);

/* 0 notified, -ETIMEDOUT, -EINTR; in every case no longer enlisted. A notification that came with the deadline wins; one
 * that came with the interruption goes to the next waiter. */
int mpf_condition_await(struct mpf_park *park, struct mpf_condition_shm *condition, uint32_t ticket);

/* Gives the ticket up without waiting (the user's lock could not be released, say). */
void mpf_condition_withdraw(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t ticket);

/* Notifies up to count waiters, the longest waiting first; how many. */
uint32_t mpf_condition_notify(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t count);

/* Enlisted and not notified. */
uint32_t mpf_condition_waiters(const struct mpf_condition_shm *condition);

/* Block hooks. */
void mpf_condition_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead);
void mpf_condition_destroy(struct mpf_arena *arena, mpf_off off);

#endif
