/* Bounded semaphore: knows its bound and who holds how many permits, so that a killed holder's come back. */
#ifndef MPF_SYNC_BOUNDED_H
#define MPF_SYNC_BOUNDED_H

#include <stdint.h>

#include "memory/arena.h"
#include "sync/park.h"

struct mpf_bounded_shm;

uint64_t mpf_bounded_bytes(void);
void mpf_bounded_init(struct mpf_bounded_shm *semaphore, uint32_t value);

/* 0, -EAGAIN, -ENOMEM (no memory to note the holder in). */
int mpf_bounded_try(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore);

/* 0, -ETIMEDOUT, -EINTR, -ENOMEM. */
int mpf_bounded_acquire(struct mpf_park *park, struct mpf_bounded_shm *semaphore);

/* 0, -EOVERFLOW past the bound: nothing changed. A caller that holds no permit returns another holder's. */
int mpf_bounded_release(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore);

uint32_t mpf_bounded_value(const struct mpf_bounded_shm *semaphore);
uint32_t mpf_bounded_bound(const struct mpf_bounded_shm *semaphore);

/* Block hooks. */
void mpf_bounded_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead);
void mpf_bounded_destroy(struct mpf_arena *arena, mpf_off off);

#endif
