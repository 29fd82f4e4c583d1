/* The block hooks of the types of this layer. Counting semaphores and events need none: a killed process leaves nothing
 * in them that the next call, or the recheck of a sleeper, does not put right. */
#include "sync/register.h"

#include <stddef.h>

#include "memory/block.h"
#include "sync/barrier.h"
#include "sync/bounded.h"
#include "sync/condition.h"
#include "sync/mutex.h"

void mpf_sync_register_hooks(void) {
    static const struct mpf_block_hooks mutex = {mpf_mutex_recover, NULL};
    static const struct mpf_block_hooks bounded = {mpf_bounded_recover, mpf_bounded_destroy};
    static const struct mpf_block_hooks condition = {mpf_condition_recover, mpf_condition_destroy};
    static const struct mpf_block_hooks barrier = {mpf_barrier_recover, mpf_barrier_destroy};
    mpf_block_set_hooks(MPF_BLOCK_MUTEX, &mutex);
    mpf_block_set_hooks(MPF_BLOCK_RMUTEX, &mutex);
    mpf_block_set_hooks(MPF_BLOCK_BOUNDED_SEMAPHORE, &bounded);
    mpf_block_set_hooks(MPF_BLOCK_CONDITION, &condition);
    mpf_block_set_hooks(MPF_BLOCK_BARRIER, &barrier);
}
