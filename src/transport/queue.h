/* A queue: a lane, a bound on its length, and the count of finished tasks (JoinableQueue). See queue.c. */
#ifndef MPF_TRANSPORT_QUEUE_H
#define MPF_TRANSPORT_QUEUE_H

#include "transport/bell.h"
#include "transport/lane.h"

struct mpf_queue_shm {
    struct mpf_lane_shm lane;
    struct mpf_lane_limit limit;
    uint64_t finished; /* tasks, never more than were put; written inside the lane's head section, with its log */
    _Atomic uint32_t emptied; /* counts the moments at which all tasks were finished */
    struct mpf_eventcount_shm joiners;
    struct mpf_bell_shm bell;
};

/* joinable: its tasks are finished one by one. Those that a killed consumer had not finished are finished for it. */
int mpf_queue_init(struct mpf_arena *arena, struct mpf_queue_shm *queue, uint64_t max_messages, bool joinable);
void mpf_queue_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead);
void mpf_queue_destroy(struct mpf_arena *arena, mpf_off off);

/* An mpf_lane_ringer's: rings the bells. */
struct mpf_queue_ringer {
    struct mpf_arena *arena;
    struct mpf_queue_shm *queue;
};
void mpf_queue_ring(void *ringer);

/* This process's bell: readable while there is something to get. 0, or as mpf_bell_open. */
int mpf_queue_hang_bell(struct mpf_arena *arena, struct mpf_queue_shm *queue, struct mpf_bell *bell);
void mpf_queue_drop_bell(struct mpf_arena *arena, struct mpf_queue_shm *queue, struct mpf_bell *bell);
/* Makes it unreadable if there is nothing to get. */
void mpf_queue_settle_bell(struct mpf_arena *arena, struct mpf_queue_shm *queue, const struct mpf_bell *bell);

/* One more task is finished. 0, -ERANGE: more than were put; nothing changed. */
int mpf_queue_finish(struct mpf_arena *arena, struct mpf_queue_shm *queue);
/* Until every task that was put is finished, now or at some moment during the wait. 0, -ETIMEDOUT, -EINTR. */
int mpf_queue_await_finished(struct mpf_park *park, struct mpf_queue_shm *queue);
uint64_t mpf_queue_unfinished(const struct mpf_queue_shm *queue);

#endif
