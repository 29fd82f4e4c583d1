/* Barrier, with the stdlib's states: filling, draining, resetting, broken. One of the parties (index 0... the last to
 * arrive) may run an action before the others are let go: mpf_barrier_arrive tells it so.
 * A party killed while waiting, or one that has waited before and is killed, breaks the barrier. */
#ifndef MPF_SYNC_BARRIER_H
#define MPF_SYNC_BARRIER_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/block.h"
#include "sync/park.h"

struct mpf_barrier_shm;
uint64_t mpf_barrier_bytes(void);
void mpf_barrier_init(struct mpf_barrier_shm *barrier, uint32_t parties);
/* >= 0: the caller's index, let go. -EPIPE: broken (also by the caller's own timeout, which breaks it for all). -EINTR: idem.
 * *leader true on return 'parties-1'...: the caller must run the action, then call mpf_barrier_open (or _abort if it failed). */
int mpf_barrier_wait(struct mpf_park *park, struct mpf_barrier_shm *barrier, bool has_action, bool *leader);
int mpf_barrier_open(struct mpf_arena *arena, struct mpf_barrier_shm *barrier);
void mpf_barrier_reset(struct mpf_arena *arena, struct mpf_barrier_shm *barrier);
void mpf_barrier_abort(struct mpf_arena *arena, struct mpf_barrier_shm *barrier);
uint32_t mpf_barrier_parties(const struct mpf_barrier_shm *barrier);
uint32_t mpf_barrier_waiting(const struct mpf_barrier_shm *barrier);
bool mpf_barrier_broken(const struct mpf_barrier_shm *barrier);
void mpf_barrier_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead);
void mpf_barrier_destroy(struct mpf_arena *arena, mpf_off off);

#endif
