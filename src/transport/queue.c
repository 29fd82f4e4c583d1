/* Purpose: what a queue adds to its lane.
 *
 * Layout: struct mpf_queue_shm, one block of type MPF_BLOCK_QUEUE. The bound is written once, at creation.
 *
 * Invariants: finished <= messages ever put. A task counts as put the moment its message is published, with the same store, so
 * that unfinished tasks are never fewer than messages inside.
 *
 * Callers: any process with a reference, holding nothing.
 *
 * Death: `finished` is one atomic step; the wake-up of a joiner that is lost with its sender is made up for by the joiner's
 * own look after every death (park.h). */
#include "transport/queue.h"

#include <errno.h>

#include "platform/fault.h"

int mpf_queue_init(struct mpf_arena *arena, struct mpf_queue_shm *queue, uint64_t max_messages) {
    queue->limit.messages = max_messages;
    mpf_bell_init(&queue->bell);
    return mpf_lane_init(arena, &queue->lane);
}

void mpf_queue_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead) {
    struct mpf_queue_shm *queue = mpf_at(arena, off);
    mpf_lane_recover(&queue->lane);
    mpf_eventcount_recover(&queue->joiners);
    mpf_bell_recover(&queue->bell, &queue->lane.bells, dead);
    /* Not where there is nothing to fetch: who then reads because of the bell would wait for a message that nobody sends. */
    if (mpf_lane_count(&queue->lane) != 0 || atomic_load(&queue->lane.closed) != 0)
        mpf_bell_ring(arena, &queue->bell);
}

void mpf_queue_destroy(struct mpf_arena *arena, mpf_off off) {
    struct mpf_queue_shm *queue = mpf_at(arena, off);
    mpf_lane_destroy(arena, &queue->lane);
}

/* ---- bells: hung up, silenced and taken down inside the tail section, so that no sender is between ringing and publishing */

void mpf_queue_ring(void *ringer) {
    const struct mpf_queue_ringer *self = ringer;
    mpf_bell_ring(self->arena, &self->queue->bell);
}

int mpf_queue_hang_bell(struct mpf_arena *arena, struct mpf_queue_shm *queue, struct mpf_bell *bell) {
    mpf_section_enter(arena, &queue->lane.tail);
    int rc = mpf_bell_open(arena, &queue->bell, &queue->lane.bells, bell);
    if (rc == 0 && (mpf_lane_count(&queue->lane) != 0 || atomic_load(&queue->lane.closed) != 0))
        mpf_bell_ring(arena, &queue->bell);
    mpf_section_leave(arena, &queue->lane.tail);
    return rc;
}

void mpf_queue_drop_bell(struct mpf_arena *arena, struct mpf_queue_shm *queue, struct mpf_bell *bell) {
    mpf_section_enter(arena, &queue->lane.tail);
    mpf_bell_close(arena, &queue->bell, &queue->lane.bells, bell);
    mpf_section_leave(arena, &queue->lane.tail);
}

void mpf_queue_settle_bell(struct mpf_arena *arena, struct mpf_queue_shm *queue, const struct mpf_bell *bell) {
    if (mpf_lane_count(&queue->lane) != 0 || atomic_load(&queue->lane.closed) != 0)
        return;
    mpf_section_enter(arena, &queue->lane.tail);
    if (mpf_lane_count(&queue->lane) == 0)
        mpf_bell_silence(&queue->bell, bell);
    mpf_section_leave(arena, &queue->lane.tail);
}

uint64_t mpf_queue_unfinished(const struct mpf_queue_shm *queue) {
    /* finished is read first: it never overtakes the total */
    uint64_t finished = atomic_load_explicit(&queue->finished, memory_order_acquire);
    return mpf_lane_total(&queue->lane) - finished;
}

int mpf_queue_finish(struct mpf_queue_shm *queue) {
    uint64_t finished = atomic_load_explicit(&queue->finished, memory_order_relaxed);
    do {
        if (finished == mpf_lane_total(&queue->lane))
            return -ERANGE;
        /* release pairs with the acquire in mpf_queue_unfinished: the work comes before the joiner goes on */
    } while (!atomic_compare_exchange_weak_explicit(&queue->finished, &finished, finished + 1, memory_order_release,
                                                    memory_order_relaxed));
    MPF_FAULT("queue.finish.before_wake");
    if (finished + 1 == mpf_lane_total(&queue->lane))
        mpf_eventcount_notify(&queue->joiners, INT32_MAX);
    return 0;
}

int mpf_queue_await_finished(struct mpf_park *park, struct mpf_queue_shm *queue) {
    int rc = 0;
    while (rc == 0 && mpf_queue_unfinished(queue) != 0) {
        struct mpf_eventcount_key key = mpf_eventcount_prepare(&queue->joiners);
        if (mpf_queue_unfinished(queue) == 0)
            mpf_eventcount_finish(&queue->joiners, key);
        else
            rc = mpf_eventcount_wait(park, &queue->joiners, key);
    }
    mpf_park_finish(park);
    return rc == -ETIMEDOUT && mpf_queue_unfinished(queue) == 0 ? 0 : rc;
}
