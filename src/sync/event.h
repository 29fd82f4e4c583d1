/* Event: a flag that any number of waiters can wait for. Setting is one atomic step and a wake: safe in a signal handler. */
#ifndef MPF_SYNC_EVENT_H
#define MPF_SYNC_EVENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sync/park.h"

struct mpf_event_shm {
    _Atomic uint32_t word; /* bit 0: set; bit 1: somebody may sleep; the rest counts how often it was set */
    uint32_t reserved;
};

bool mpf_event_is_set(const struct mpf_event_shm *event);
void mpf_event_set(struct mpf_event_shm *event);
void mpf_event_clear(struct mpf_event_shm *event);

/* 0: set, now or at some time since the call began; -ETIMEDOUT; -EINTR. */
int mpf_event_wait(struct mpf_park *park, struct mpf_event_shm *event);

#endif
