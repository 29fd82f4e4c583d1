/* Counting semaphore: one word. The bounded one, which knows who holds how many permits, is sync/bounded.h. */
#ifndef MPF_SYNC_SEMAPHORE_H
#define MPF_SYNC_SEMAPHORE_H

#include <stdatomic.h>
#include <stdint.h>

#include "sync/park.h"

#define MPF_SEMAPHORE_VALUE_MAX 0x7fffffff /* the stdlib's SEM_VALUE_MAX */

struct mpf_semaphore_shm {
    _Atomic uint32_t word; /* bits 0-30: permits; bit 31: somebody may sleep on the word */
    uint32_t reserved;
};

void mpf_semaphore_init(struct mpf_semaphore_shm *semaphore, uint32_t value);
int mpf_semaphore_try(struct mpf_semaphore_shm *semaphore); /* 0, -EAGAIN */
int mpf_semaphore_acquire(struct mpf_park *park, struct mpf_semaphore_shm *semaphore); /* 0, -ETIMEDOUT, -EINTR */
int mpf_semaphore_release(struct mpf_semaphore_shm *semaphore, uint32_t count); /* 0, -EOVERFLOW: nothing changed */
uint32_t mpf_semaphore_value(const struct mpf_semaphore_shm *semaphore);

#endif
