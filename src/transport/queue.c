/* Purpose: what a queue adds to its lane.
 *
 * Layout: struct mpf_queue_shm, one block of type MPF_BLOCK_QUEUE. The bound is written once, at creation.
 *
 * Invariants: finished <= messages ever put. A task counts as put the moment its message is published, with the same store, so
 * that unfinished tasks are never fewer than messages inside.
 *
 * Callers: any process with a reference, holding nothing.
 *
 * Death: `finished` and the consumer's line in the ledger change as one (the log of the head section). What a killed consumer
 * had taken and not finished is finished by mpf_queue_recover, in the same way: once. The wake-up of a joiner that is lost
 * with its sender is made up for by the joiner's own look after every death (park.h). */
#include "transport/queue.h"

#include <errno.h>

#include "platform/fault.h"

int mpf_queue_init(struct mpf_arena *arena, struct mpf_queue_shm *queue, uint64_t max_messages, bool joinable) {
    queue->limit.messages = max_messages;
    mpf_bell_init(&queue->bell);
    int rc = mpf_lane_init(arena, &queue->lane, 0);
    if (rc == 0 && joinable)
        mpf_ledger_init(&queue->lane.ledger);
    return rc;
}

void mpf_queue_destroy(struct mpf_arena *arena, mpf_off off) {
    struct mpf_queue_shm *queue = mpf_at(arena, off);
    mpf_bell_destroy(arena, &queue->bell);
    mpf_lane_destroy(arena, &queue->lane);
}

/* ---- bells: hung up, silenced and taken down inside the tail section, so that no sender is between ringing and publishing */

void mpf_queue_ring(void *ringer) {
    const struct mpf_queue_ringer *self = ringer;
    mpf_bell_ring(self->arena, &self->queue->bell);
}

static void count_bells(struct mpf_arena *arena, struct mpf_queue_shm *queue) {
    atomic_store_explicit(&queue->lane.bells, mpf_bell_count(arena, &queue->bell), memory_order_relaxed);
}

static bool is_ready(const struct mpf_queue_shm *queue) {
    return mpf_lane_count(&queue->lane) != 0 || atomic_load(&queue->lane.closed) != 0;
}

int mpf_queue_hang_bell(struct mpf_arena *arena, struct mpf_queue_shm *queue, struct mpf_bell *bell) {
    uint64_t name[2];
    uint32_t seen;
    int rc = mpf_bell_make(arena, bell, name);
    if (rc < 0)
        return rc;
    do {
        mpf_section_enter(arena, &queue->lane.tail);
        rc = mpf_bell_hang(arena, &queue->bell, bell, name, &seen);
        count_bells(arena, queue);
        if (rc == 0 && is_ready(queue))
            mpf_bell_ring(arena, &queue->bell);
        mpf_section_leave(arena, &queue->lane.tail);
    } while (rc == -ENOSPC && (rc = mpf_table_grow(arena, &queue->lane.tail, &queue->bell.table, seen)) == 0);
    if (rc < 0)
        mpf_bell_drop(arena, &queue->bell, bell);
    return rc;
}

void mpf_queue_drop_bell(struct mpf_arena *arena, struct mpf_queue_shm *queue, struct mpf_bell *bell) {
    mpf_section_enter(arena, &queue->lane.tail);
    mpf_bell_drop(arena, &queue->bell, bell);
    count_bells(arena, queue);
    mpf_section_leave(arena, &queue->lane.tail);
}

static void recover_bells(struct mpf_arena *arena, struct mpf_queue_shm *queue, uint32_t dead) {
    mpf_section_enter(arena, &queue->lane.tail);
    mpf_bell_recover(arena, &queue->bell, dead);
    count_bells(arena, queue);
    if (is_ready(queue))
        mpf_bell_ring(arena, &queue->bell);
    mpf_section_leave(arena, &queue->lane.tail);
}

void mpf_queue_settle_bell(struct mpf_arena *arena, struct mpf_queue_shm *queue, const struct mpf_bell *bell) {
    if (is_ready(queue))
        return;
    mpf_section_enter(arena, &queue->lane.tail);
    if (!is_ready(queue))
        mpf_bell_silence(arena, &queue->bell, bell);
    mpf_section_leave(arena, &queue->lane.tail);
}

/* ---- tasks ---- */

static uint64_t finished_now(const struct mpf_queue_shm *queue) {
    return __atomic_load_n(&queue->finished, __ATOMIC_ACQUIRE);
}

uint64_t mpf_queue_unfinished(const struct mpf_queue_shm *queue) {
    /* finished is read first: it never overtakes the total */
    uint64_t finished = finished_now(queue);
    return mpf_lane_total(&queue->lane) - finished;
}

static void set_finished(struct mpf_arena *arena, struct mpf_queue_shm *queue, uint64_t finished) {
    atomic_thread_fence(memory_order_release); /* pairs with finished_now: the work comes before the joiner goes on */
    mpf_section_set64(arena, &queue->lane.head, &queue->finished, finished);
}

/* After the section was left. Tasks that were put since then may hide the moment; then they came before it. */
static void tell_joiners(struct mpf_queue_shm *queue, uint64_t finished) {
    MPF_FAULT("queue.finish.before_wake");
    if (finished != mpf_lane_total(&queue->lane))
        return;
    atomic_fetch_add(&queue->emptied, 1);
    mpf_eventcount_notify(&queue->joiners, MPF_EVENTCOUNT_ALL);
}

int mpf_queue_finish(struct mpf_arena *arena, struct mpf_queue_shm *queue) {
    int rc = 0;
    mpf_section_enter(arena, &queue->lane.head);
    uint64_t finished = queue->finished;
    if (finished == mpf_lane_total(&queue->lane)) {
        rc = -ERANGE;
    } else {
        set_finished(arena, queue, ++finished);
        mpf_ledger_remove(arena, &queue->lane.head, &queue->lane.ledger);
    }
    mpf_section_leave(arena, &queue->lane.head);
    if (rc == 0)
        tell_joiners(queue, finished);
    return rc;
}

/* Finishes what `dead` had taken. */
static void finish_for(struct mpf_arena *arena, struct mpf_queue_shm *queue, uint32_t dead) {
    mpf_section_enter(arena, &queue->lane.head);
    uint64_t total = mpf_lane_total(&queue->lane);
    uint64_t finished = queue->finished + mpf_ledger_clear(arena, &queue->lane.head, &queue->lane.ledger, dead);
    finished = finished < total ? finished : total;
    set_finished(arena, queue, finished);
    mpf_section_leave(arena, &queue->lane.head);
    tell_joiners(queue, finished);
}

static bool is_finished(const struct mpf_queue_shm *queue, uint32_t emptied) {
    return mpf_queue_unfinished(queue) == 0 || atomic_load(&queue->emptied) != emptied;
}

int mpf_queue_await_finished(struct mpf_park *park, struct mpf_queue_shm *queue) {
    uint32_t emptied = atomic_load(&queue->emptied);
    int rc = 0;
    while (rc == 0 && !is_finished(queue, emptied)) {
        struct mpf_eventcount_key key = mpf_eventcount_prepare(&queue->joiners);
        if (is_finished(queue, emptied))
            mpf_eventcount_finish(&queue->joiners, key);
        else
            rc = mpf_eventcount_wait(park, &queue->joiners, key);
    }
    mpf_park_finish(park);
    return rc == -ETIMEDOUT && is_finished(queue, emptied) ? 0 : rc;
}

/* ---- death ---- */

void mpf_queue_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead) {
    struct mpf_queue_shm *queue = mpf_at(arena, off);
    mpf_lane_recover(&queue->lane);
    mpf_eventcount_recover(&queue->joiners);
    recover_bells(arena, queue, dead);
    if (mpf_ledger_used(&queue->lane.ledger))
        finish_for(arena, queue, dead);
}
