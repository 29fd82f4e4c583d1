/* Purpose: results on their way to the parent: who is woken for them, and how they are taken.
 *
 * Layout. Each worker's results stand in a lane of its entry in the roster. A message begins with the ticket of its task: 8 bytes ahead of
 * a short one, MPF_WORKER_PREFIX ahead of one in a block. In the crew: two eventcounts and the count `wanted`.
 *
 *   worker: publish, then  sleepers on direct? ---yes---> wanted - 1 <= 0 ---> wake one
 *                                              ---no----> sleepers on background? ---> wake one
 *
 * Invariants.
 *   Whoever is woken collects everything, or passes the wake on.
 *   `wanted` is above 1 only while one thread waits; a second one, of either kind, sets it to 1 before it sleeps.
 *   Whatever it says, a sleeper is woken when a worker that has published runs out of tasks, and looks for itself after a
 *   death.
 *
 * Callers: collecting, the parent, one thread at a time. Waiting, any thread of it.
 *
 * Death of a worker between publishing and waking: the sleeper is woken by the death (park.h), looks, and finds the result. Death of
 * the parent: nobody is left to tell. */
#include "engine/worker.h"

#include <errno.h>
#include <string.h>

#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/fault.h"
#include "sync/spin.h"

#define BATCH 64
#define LOOK_NS (50 * 1000 * 1000) /* how often a busy waiter looks for the dead */
#define SPIN_WANTED_MAX 4 /* more results than that take longer than a spin may */

/* ---- collecting ---- */

static struct mpf_roster_entry_shm *entry_at(const struct mpf_crew *crew, uint32_t slot) {
    return mpf_roster_at(crew->arena, &crew->shm->roster, slot);
}

/* Cuts the ticket off; settles. Whether the result is one that is waited for. */
static bool accept_result(struct mpf_crew *crew, uint32_t slot, struct mpf_lane_received *received,
                          struct mpf_crew_result *result) {
    size_t prefix = received->block.off != 0 ? MPF_WORKER_PREFIX : MPF_WORKER_SHORT_PREFIX;
    *result = (struct mpf_crew_result){.slot = slot, .message = *received};
    if (received->bytes >= prefix)
        memcpy(&result->ticket, received->data, sizeof result->ticket);
    if (received->bytes < prefix || mpf_ring_find(&crew->ring, result->ticket, &result->cookie) == NULL) {
        mpf_block_unref(&received->block);
        return false;
    }
    mpf_ring_settle(&crew->ring, result->ticket);
    result->message.data = (char *)received->data + prefix;
    result->message.bytes = received->bytes - prefix;
    return true;
}

struct basket {
    char *at; /* free room of the caller's buffer */
    size_t left;
    struct mpf_crew_result *results;
    unsigned room, filled;
};

/* One batch from one worker. How many messages, or as mpf_lane_get_many. */
static int collect_from(struct mpf_crew *crew, uint32_t slot, struct basket *basket) {
    struct mpf_lane_received received[BATCH];
    unsigned room = basket->room - basket->filled;
    int count = mpf_lane_get_many(crew->arena, &entry_at(crew, slot)->results, basket->at, basket->left, received,
                                  room < BATCH ? room : BATCH);
    if (count > 0 && received[count - 1].block.off == 0) {
        const struct mpf_lane_received *last = &received[count - 1];
        size_t used = ((size_t)((char *)last->data - basket->at) + last->bytes + 7) & ~(size_t)7;
        used = used < basket->left ? used : basket->left;
        basket->at += used;
        basket->left -= used;
    }
    for (int i = 0; i < count; i++)
        basket->filled += accept_result(crew, slot, &received[i], &basket->results[basket->filled]);
    return count;
}

static bool has_results(const struct mpf_crew *crew, uint32_t slot) {
    return mpf_lane_count(&entry_at(crew, slot)->results) != 0;
}

int mpf_crew_collect(struct mpf_crew *crew, void *buffer, size_t capacity, struct mpf_crew_result *results, unsigned count) {
    struct basket basket = {.at = buffer, .left = capacity, .results = results, .room = count};
    if (!mpf_crew_owned(crew))
        return -EPERM;
    uint32_t slots = mpf_roster_count(&crew->shm->roster);
    int rc = 0;
    for (uint32_t turn = 0; turn < slots && basket.filled < count && rc != -ENOMEM; turn++) {
        uint32_t slot = crew->next_lane < slots ? crew->next_lane : 0;
        crew->next_lane = slot + 1;
        if (has_results(crew, slot))
            rc = collect_from(crew, slot, &basket);
    }
    if (basket.filled > 0)
        return (int)basket.filled;
    return rc == -ENOMEM ? -ENOMEM : -EAGAIN;
}

bool mpf_crew_ready(const struct mpf_crew *crew) {
    uint32_t slots = mpf_roster_count(&crew->shm->roster);
    for (uint32_t slot = 0; slot < slots; slot++)
        if (has_results(crew, slot))
            return true;
    return false;
}

/* ---- waiting ---- */

uint32_t mpf_crew_bumps(const struct mpf_crew *crew) {
    return atomic_load_explicit(&crew->bumps, memory_order_acquire); /* pairs with the release in mpf_crew_bump */
}

void mpf_crew_bump(struct mpf_crew *crew) {
    atomic_fetch_add_explicit(&crew->bumps, 1, memory_order_release);
    mpf_eventcount_notify(&crew->shm->direct, MPF_EVENTCOUNT_ALL);
    mpf_eventcount_notify(&crew->shm->background, MPF_EVENTCOUNT_ALL);
}

void mpf_crew_pass(struct mpf_crew *crew) {
    if (!mpf_crew_ready(crew))
        return;
    atomic_thread_fence(memory_order_seq_cst); /* the caller has finished its own wait before it looks at who else waits */
    bool direct = mpf_eventcount_sleepers(atomic_load_explicit(&crew->shm->direct.state, memory_order_relaxed)) != 0;
    mpf_eventcount_notify(direct ? &crew->shm->direct : &crew->shm->background, 1);
    mpf_crew_ring(crew->arena, crew->shm);
}

struct waiter {
    struct mpf_crew *crew;
    struct mpf_eventcount_shm *ec;
    uint32_t wanted, bumps;
};

static bool is_over(const struct waiter *waiter) {
    return mpf_crew_ready(waiter->crew) || mpf_crew_bumps(waiter->crew) != waiter->bumps;
}

static bool anybody_dead(struct mpf_crew *crew) {
    uint32_t slots = mpf_roster_count(&crew->shm->roster);
    for (uint32_t slot = 0; slot < slots; slot++) {
        uint32_t participant = atomic_load_explicit(&entry_at(crew, slot)->participant, memory_order_acquire);
        if (participant != 0 && mpf_participant_gone(crew->arena, participant))
            return true;
    }
    return false;
}

/* Who waits without ever sleeping long would not be told of deaths: he looks now and then. */
static bool time_to_look(struct mpf_crew *crew) {
    int64_t now = mpf_clock_now(), last = atomic_load_explicit(&crew->looked, memory_order_relaxed);
    if (now - last < LOOK_NS)
        return false;
    atomic_store_explicit(&crew->looked, now, memory_order_relaxed);
    return true;
}

/* They need the CPUs for long: to offer them one for a moment while they do is to lose it for a time slice, where a sleeper is
 * woken on another. */
static bool anybody_starting(struct mpf_crew *crew) {
    if (atomic_load_explicit(&crew->settled, memory_order_relaxed))
        return false;
    uint32_t slots = mpf_roster_count(&crew->shm->roster);
    for (uint32_t slot = 0; slot < slots; slot++)
        if (atomic_load_explicit(&entry_at(crew, slot)->state, memory_order_relaxed) == MPF_ROSTER_STARTING)
            return true;
    atomic_store_explicit(&crew->settled, true, memory_order_relaxed);
    return false;
}

static bool spin(struct mpf_park *park, const struct waiter *waiter) {
    struct mpf_spin spin;
    bool over = is_over(waiter);
    if (over || waiter->wanted > SPIN_WANTED_MAX || anybody_starting(waiter->crew))
        return over;
    for (mpf_spin_begin(&spin, park, waiter->ec); !over && mpf_spin_next(&spin);)
        over = is_over(waiter);
    mpf_spin_end(&spin, over);
    return over;
}

/* Says how many results a sleeper wants, before it announces itself. */
static void say_wanted(const struct waiter *waiter) {
    bool alone = atomic_load(&waiter->crew->waiters) <= 1;
    atomic_store(&waiter->crew->shm->wanted, alone ? (int32_t)waiter->wanted : 1);
}

/* Another has come since: it may have said 1 before the sleeper said more. */
static void say_less(const struct waiter *waiter) {
    if (atomic_load(&waiter->crew->waiters) > 1)
        atomic_store(&waiter->crew->shm->wanted, 1);
}

/* A task that no worker was woken for, because a seeker was counted on that has been stopped or killed. */
static void look_after_tasks(struct mpf_crew *crew) {
    if (atomic_load_explicit(&crew->shm->ring.head, memory_order_relaxed) <
        atomic_load_explicit(&crew->shm->ring.tail, memory_order_relaxed))
        mpf_eventcount_notify(&crew->shm->idle, 1);
}

static int sleep_until_over(struct mpf_park *park, const struct waiter *waiter) {
    int rc = 0;
    while (rc == 0 && !is_over(waiter)) {
        say_wanted(waiter);
        struct mpf_eventcount_key key = mpf_eventcount_prepare(waiter->ec);
        say_less(waiter);
        if (is_over(waiter)) {
            mpf_eventcount_finish(waiter->ec, key);
            break;
        }
        look_after_tasks(waiter->crew);
        rc = mpf_eventcount_wait(park, waiter->ec, key);
        if (rc == 0 && park->recheck && anybody_dead(waiter->crew))
            rc = -ECHILD;
    }
    mpf_park_finish(park);
    if (rc == -ETIMEDOUT && is_over(waiter))
        return 0;
    if (rc < 0)
        mpf_crew_pass(waiter->crew); /* it may have been woken for what it does not look at now */
    return rc;
}

static uint32_t clamp(uint32_t wanted) {
    return wanted == 0 ? 1 : wanted < MPF_CREW_WANTED_MAX ? wanted : MPF_CREW_WANTED_MAX;
}

int mpf_crew_await(struct mpf_park *park, struct mpf_crew *crew, enum mpf_crew_side side, uint32_t wanted, uint32_t bumps) {
    struct waiter waiter = {.crew = crew, .bumps = bumps, .wanted = side == MPF_CREW_DIRECT ? clamp(wanted) : 1};
    if (!mpf_crew_owned(crew))
        return -EPERM;
    if (time_to_look(crew) && anybody_dead(crew))
        return -ECHILD;
    waiter.ec = side == MPF_CREW_DIRECT ? &crew->shm->direct : &crew->shm->background;
    atomic_fetch_add(&crew->waiters, 1);
    int rc = spin(park, &waiter) ? 0 : sleep_until_over(park, &waiter);
    atomic_fetch_sub(&crew->waiters, 1);
    return rc;
}
