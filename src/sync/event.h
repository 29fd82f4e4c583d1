/* Event: a flag that any number of waiters can wait for. set() is one atomic step: safe from a signal handler. */
#ifndef MPF_SYNC_EVENT_H
#define MPF_SYNC_EVENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sync/park.h"

struct mpf_event_shm {
    _Atomic uint32_t word;    /* bit 0: set; the rest counts how often it was set, so that set-then-clear still wakes */
    _Atomic uint32_t waiters; /* sleepers; may be too high after a kill, never too low */
};

bool mpf_event_is_set(const struct mpf_event_shm *event);
void mpf_event_set(struct mpf_event_shm *event);
void mpf_event_clear(struct mpf_event_shm *event);
int mpf_event_wait(struct mpf_park *park, struct mpf_event_shm *event); /* 0 set, -ETIMEDOUT, -EINTR */

#endif
