/* Purpose: waiting for a message or for room in a lane, and the marks that end such waits.
 *
 * Layout: see lane.c.
 *
 * States of `closed`: marks are added, never taken back.
 *
 * Invariants: who sleeps has announced itself on `readers` or `writers` before its last look at the lane (eventcount.h).
 *
 * Callers: any process with a reference, holding nothing.
 *
 * Death of the caller: a sleeper stays counted until mpf_lane_recover; its place as a seeker is a hint. */
#include "transport/lane.h"

#include <errno.h>

#include "platform/fault.h"
#include "sync/spin.h"

static bool message_or_end(const struct mpf_lane_shm *lane, const struct mpf_lane_limit *unused) {
    (void)unused;
    return !mpf_lane_is_empty(lane) || mpf_lane_closed_for(lane, MPF_LANE_NO_WRITERS | MPF_LANE_DIVERTED);
}

static bool room_or_end(const struct mpf_lane_shm *lane, const struct mpf_lane_limit *limit) {
    return !mpf_lane_full(lane, limit) || mpf_lane_closed_for(lane, MPF_LANE_NO_READERS | MPF_LANE_DIVERTED);
}

bool mpf_lane_spin(struct mpf_park *park, struct mpf_lane_shm *lane) {
    struct mpf_spin spin;
    bool ready = message_or_end(lane, NULL);
    if (ready)
        return true;
    for (mpf_spin_begin(&spin, park, &lane->published); !ready && mpf_spin_next(&spin);)
        ready = message_or_end(lane, NULL);
    mpf_spin_end(&spin, ready);
    return ready;
}

/* Sleeps on the eventcount until ready(lane, limit). */
static int await(struct mpf_park *park, struct mpf_eventcount_shm *ec, const struct mpf_lane_shm *lane,
                 const struct mpf_lane_limit *limit,
                 bool (*ready)(const struct mpf_lane_shm *, const struct mpf_lane_limit *)) {
    int rc = 0;
    while (rc == 0 && !ready(lane, limit)) {
        struct mpf_eventcount_key key = mpf_eventcount_prepare(ec);
        if (ready(lane, limit))
            mpf_eventcount_finish(ec, key);
        else
            rc = mpf_eventcount_wait(park, ec, key);
    }
    mpf_park_finish(park);
    return rc == -ETIMEDOUT && ready(lane, limit) ? 0 : rc;
}

void mpf_lane_seek_begin(struct mpf_lane_shm *lane) {
    atomic_fetch_add_explicit(&lane->seekers, 1, memory_order_relaxed);
}

void mpf_lane_seek_end(struct mpf_lane_shm *lane) {
    uint32_t seekers = atomic_load_explicit(&lane->seekers, memory_order_relaxed);
    while (seekers != 0 && !atomic_compare_exchange_weak_explicit(&lane->seekers, &seekers, seekers - 1,
                                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

int mpf_lane_await_message(struct mpf_park *park, struct mpf_lane_shm *lane) {
    mpf_lane_seek_begin(lane);
    int rc = mpf_lane_spin(park, lane) ? 0 : await(park, &lane->readers, lane, NULL, message_or_end);
    mpf_lane_seek_end(lane);
    return rc;
}

int mpf_lane_await_room(struct mpf_park *park, struct mpf_lane_shm *lane, const struct mpf_lane_limit *limit) {
    struct mpf_spin spin;
    bool ready = false;
    /* Enough for a reader to be at for longer than a spin. */
    if (lane->resume_bytes != 0 && mpf_lane_count(lane) >= MPF_LANE_RESUME_MESSAGES)
        return await(park, &lane->writers, lane, limit, room_or_end);
    for (mpf_spin_begin(&spin, park, &lane->consumed); !ready && mpf_spin_next(&spin);)
        ready = room_or_end(lane, limit);
    mpf_spin_end(&spin, ready);
    return ready ? 0 : await(park, &lane->writers, lane, limit, room_or_end);
}

void mpf_lane_pass_message(struct mpf_lane_shm *lane) {
    if (!mpf_lane_is_empty(lane))
        mpf_eventcount_notify(&lane->readers, 1);
}

void mpf_lane_pass_room(struct mpf_lane_shm *lane) { mpf_eventcount_notify(&lane->writers, 1); }

void mpf_lane_close(struct mpf_lane_shm *lane, uint32_t what) {
    /* release pairs with the acquire in mpf_lane_closed_for: all that was put before is seen by who sees the end */
    atomic_fetch_or_explicit(&lane->closed, what, memory_order_release);
    mpf_eventcount_notify(&lane->readers, MPF_EVENTCOUNT_ALL);
    mpf_eventcount_notify(&lane->writers, MPF_EVENTCOUNT_ALL);
}

void mpf_lane_divert(struct mpf_arena *arena, struct mpf_lane_shm *lane, const struct mpf_lane_ringer *ringer) {
    mpf_section_enter(arena, &lane->tail);
    if (ringer != NULL && !mpf_lane_diverted(lane) && mpf_lane_count(lane) != 0)
        ringer->ring(ringer->context);
    MPF_FAULT("lane.divert.rung");
    atomic_fetch_or_explicit(&lane->closed, MPF_LANE_DIVERTED, memory_order_release); /* pairs with mpf_lane_closed_for */
    mpf_section_leave(arena, &lane->tail);
    mpf_eventcount_notify(&lane->readers, MPF_EVENTCOUNT_ALL);
    mpf_eventcount_notify(&lane->writers, MPF_EVENTCOUNT_ALL);
}

bool mpf_lane_diverted(const struct mpf_lane_shm *lane) { return mpf_lane_closed_for(lane, MPF_LANE_DIVERTED); }
