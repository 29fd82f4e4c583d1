/* Counting semaphore (one word) and bounded semaphore (knows who holds how many permits). */
#ifndef MPF_SYNC_SEMAPHORE_H
#define MPF_SYNC_SEMAPHORE_H

#include <stdatomic.h>
#include <stdint.h>

#include "memory/section.h"
#include "sync/park.h"

#define MPF_SEMAPHORE_VALUE_MAX 0x7fffffff /* the stdlib's SEM_VALUE_MAX */

struct mpf_semaphore_shm {
    _Atomic uint32_t value;   /* permits */
    _Atomic uint32_t waiters; /* sleepers; may be too high after a kill, never too low */
};

void mpf_semaphore_init(struct mpf_semaphore_shm *semaphore, uint32_t value);
int mpf_semaphore_try(struct mpf_semaphore_shm *semaphore); /* 0, -EAGAIN */
int mpf_semaphore_acquire(struct mpf_park *park, struct mpf_semaphore_shm *semaphore);
int mpf_semaphore_release(struct mpf_semaphore_shm *semaphore, uint32_t count); /* 0, -EOVERFLOW: nothing changed */
uint32_t mpf_semaphore_value(const struct mpf_semaphore_shm *semaphore);

/* The bounded one gives a killed holder's permits back. opaque layout: see semaphore.c */
struct mpf_bounded_shm;
uint64_t mpf_bounded_bytes(void);
void mpf_bounded_init(struct mpf_bounded_shm *semaphore, uint32_t value);
int mpf_bounded_try(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore);
int mpf_bounded_acquire(struct mpf_park *park, struct mpf_bounded_shm *semaphore);
int mpf_bounded_release(struct mpf_arena *arena, struct mpf_bounded_shm *semaphore, uint32_t count); /* -EOVERFLOW past the bound */
uint32_t mpf_bounded_value(const struct mpf_bounded_shm *semaphore);
uint32_t mpf_bounded_bound(const struct mpf_bounded_shm *semaphore);
void mpf_bounded_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead);
void mpf_bounded_destroy(struct mpf_arena *arena, mpf_off off);

#endif
