/* Barrier, with the stdlib's states: filling, resetting, broken. There is no draining: a party that was let go is known by
 * the round it came in, so the next round fills at once.
 * A party that is killed while it waits, or after it has ever waited, breaks the barrier. */
#ifndef MPF_SYNC_BARRIER_H
#define MPF_SYNC_BARRIER_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/arena.h"
#include "sync/park.h"

struct mpf_barrier_shm;

uint64_t mpf_barrier_bytes(void);
void mpf_barrier_init(struct mpf_barrier_shm *barrier, uint32_t parties);

/* >= 0: the caller's index, in order of arrival; let go.
 *   -EPIPE   broken, also by the caller's own deadline, which breaks it for all
 *   -EINTR   the caller has left; the others go on waiting, as in the stdlib
 *   -ENOMEM  the caller has not arrived
 * has_action: for the last to arrive *leader is true on return, and nobody is let go yet: it runs the action and
 * then calls mpf_barrier_open, or mpf_barrier_fail if the action failed. Meanwhile no deadline and no reset takes effect. */
int mpf_barrier_wait(struct mpf_park *park, struct mpf_barrier_shm *barrier, bool has_action, bool *leader);

/* For the leader, after the action: lets all go, or breaks the barrier. */
void mpf_barrier_open(struct mpf_arena *arena, struct mpf_barrier_shm *barrier);
void mpf_barrier_fail(struct mpf_arena *arena, struct mpf_barrier_shm *barrier);

void mpf_barrier_reset(struct mpf_arena *arena, struct mpf_barrier_shm *barrier);
void mpf_barrier_abort(struct mpf_arena *arena, struct mpf_barrier_shm *barrier);
uint32_t mpf_barrier_parties(const struct mpf_barrier_shm *barrier);
uint32_t mpf_barrier_waiting(const struct mpf_barrier_shm *barrier); /* 0 unless filling */
bool mpf_barrier_broken(const struct mpf_barrier_shm *barrier);

/* Block hooks. */
void mpf_barrier_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead);
void mpf_barrier_destroy(struct mpf_arena *arena, mpf_off off);

#endif
