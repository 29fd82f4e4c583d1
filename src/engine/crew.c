/* Purpose: a crew as a whole, and its tasks as the parent handles them. Results: crew_results.c; workers: crew_workers.c.
 *
 * Layout. One block of type MPF_BLOCK_POOL:
 *
 *   owner, phase | roster (roster.c) | ring of tasks (ring.c) | idle: who sleeps for a task | direct, background: who for a result
 *
 *   parent --put--> ring --claim--> worker --report--> its lane in the roster --collect--> parent
 *
 * States of a task, as the parent sees them: unsettled from put until one of
 *   collected (its result came) | cancelled (nobody had claimed it) | lost, then settled or put again | settled by hand
 *
 * Invariants.
 *   A worker has at most one task in hand, and publishes its result before it claims the next.
 *   Whatever a dead worker had published is in its lane; the task that it notes as its intent is then lost if it is unsettled and
 *   its record names the worker, and no other is. So no task is lost twice, and none both lost and done.
 *   A worker that sleeps is woken for a task that was put: by the putter, or by the worker that was awake and looking, and that the
 *   putter relied on (seekers), once that one has claimed a task and there are more.
 *
 * Callers: see crew.h.
 *
 * Death of the parent: nothing is repaired; workers see it and leave, the last reference destroys. Death of a worker: the hook
 * makes the counts of sleepers and seekers good; the rest waits for mpf_crew_lost. A seeker that is killed or stopped may leave a
 * task to nobody until it is reaped: who waits for results looks after that before it sleeps, and sleepers look every second. */
#include "engine/crew.h"

#include <errno.h>
#include <string.h>

#include "memory/participant.h"
#include "platform/fault.h"

/* From 4 KiB on blocks are aligned to cache lines. */
#define CREW_BYTES (sizeof(struct mpf_crew_shm) > 4096 ? sizeof(struct mpf_crew_shm) : 4096)

static void crew_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead) {
    struct mpf_crew_shm *shm = mpf_at(arena, off);
    mpf_eventcount_recover(&shm->idle);
    mpf_eventcount_recover(&shm->direct);
    mpf_eventcount_recover(&shm->background);
    atomic_store_explicit(&shm->seekers, 0, memory_order_relaxed);
    mpf_roster_recover(arena, &shm->roster);
    mpf_bell_recover(arena, &shm->bells, dead);
}

static void crew_destroy(struct mpf_arena *arena, mpf_off off) {
    struct mpf_crew_shm *shm = mpf_at(arena, off);
    mpf_ring_destroy(arena, &shm->ring);
    mpf_roster_destroy(arena, &shm->roster);
    mpf_bell_destroy(arena, &shm->bells);
}

void mpf_crew_register_hooks(void) {
    static const struct mpf_block_hooks hooks = {crew_recover, crew_destroy};
    mpf_block_set_hooks(MPF_BLOCK_POOL, &hooks);
}

int mpf_crew_create(struct mpf_arena *arena, struct mpf_crew *crew) {
    memset(crew, 0, sizeof *crew);
    int rc = mpf_block_alloc(arena, CREW_BYTES, MPF_BLOCK_POOL, &crew->ref);
    if (rc < 0)
        return rc;
    crew->arena = arena;
    crew->shm = mpf_at(arena, crew->ref.off);
    crew->shm->owner = arena->self;
    mpf_bell_init(&crew->shm->bells);
    MPF_FAULT("crew.created");
    rc = mpf_ring_init(arena, &crew->shm->ring, 1, &crew->ring); /* from 1: no ticket is 0 */
    if (rc < 0)
        mpf_crew_free(crew);
    return rc;
}

bool mpf_crew_owned(const struct mpf_crew *crew) {
    return crew->shm != NULL && crew->shm->owner == crew->arena->self;
}

void mpf_crew_free(struct mpf_crew *crew) {
    if (mpf_crew_owned(crew))
        mpf_crew_close(crew, MPF_CREW_ABANDONED);
    mpf_crew_drop_bell(crew);
    crew->shm = NULL;
    mpf_ring_free(&crew->ring);
    mpf_block_unref(&crew->ref);
}

/* ---- tasks ---- */

static enum mpf_crew_phase phase_of(const struct mpf_crew *crew) {
    return atomic_load_explicit(&crew->shm->phase, memory_order_relaxed);
}

int mpf_crew_put(struct mpf_crew *crew, const struct mpf_task_order *order, uint64_t *ticket) {
    if (!mpf_crew_owned(crew))
        return -EPERM;
    if (phase_of(crew) != MPF_CREW_OPEN)
        return -ESHUTDOWN;
    return mpf_ring_put(&crew->ring, order, ticket);
}

/* Wakes up to `count` of those who slept at this turn, each once: those that were woken and have not run yet are counted as sleepers
 * still, and a stream of tasks would pay a system call for each of them. */
static void wake_idle(struct mpf_crew *crew, uint32_t count) {
    struct mpf_eventcount_shm *idle = &crew->shm->idle;
    uint64_t seen = atomic_load_explicit(&idle->state, memory_order_relaxed);
    uint32_t turn = mpf_eventcount_turn(seen);
    if (mpf_eventcount_sleepers(seen) == 0)
        return;
    if (turn != crew->idle_turn) {
        crew->idle_turn = turn;
        crew->to_wake = mpf_eventcount_sleepers(seen);
    }
    count = count < crew->to_wake ? count : crew->to_wake;
    if (count == 0)
        return;
    crew->to_wake -= count;
    mpf_eventcount_wake(idle, seen, (int)count);
}

void mpf_crew_wake(struct mpf_crew *crew, uint32_t tasks) {
    if (!mpf_crew_owned(crew))
        return;
    MPF_FAULT("crew.put.before_wake");
    atomic_thread_fence(memory_order_seq_cst); /* the tasks before the look at who seeks; pairs with mpf_worker_await */
    uint32_t seekers = atomic_load_explicit(&crew->shm->seekers, memory_order_relaxed);
    if (seekers < tasks)
        wake_idle(crew, tasks - seekers);
}

int mpf_crew_cancel(struct mpf_crew *crew, uint64_t ticket, uint64_t *cookie) {
    if (!mpf_crew_owned(crew))
        return -EPERM;
    struct mpf_task_shm *record = mpf_ring_find(&crew->ring, ticket, cookie);
    if (record == NULL)
        return -ENOENT;
    uint64_t pending = mpf_task_state(mpf_task_ordinal(ticket), 0, MPF_TASK_PENDING);
    uint64_t cancelled = mpf_task_state(mpf_task_ordinal(ticket), 0, MPF_TASK_CANCELLED);
    if (!atomic_compare_exchange_strong_explicit(&record->state, &pending, cancelled, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return -EBUSY;
    mpf_ring_settle(&crew->ring, ticket);
    return 0;
}

/* The record and its state. 0, -EPERM, -ENOENT, -EAGAIN (nobody has it). */
static int find_claimed(struct mpf_crew *crew, uint64_t ticket, struct mpf_task_shm **record, uint64_t *state) {
    uint64_t cookie;
    if (!mpf_crew_owned(crew))
        return -EPERM;
    *record = mpf_ring_find(&crew->ring, ticket, &cookie);
    if (*record == NULL)
        return -ENOENT;
    *state = atomic_load_explicit(&(*record)->state, memory_order_acquire);
    return mpf_task_status(*state) == MPF_TASK_PENDING ? -EAGAIN : 0;
}

int mpf_crew_holder(struct mpf_crew *crew, uint64_t ticket, uint32_t *slot) {
    struct mpf_task_shm *record;
    uint64_t state;
    int rc = find_claimed(crew, ticket, &record, &state);
    if (rc == 0)
        *slot = mpf_task_worker(state);
    return rc;
}

int mpf_crew_condemn(struct mpf_crew *crew, uint64_t ticket, uint32_t *slot) {
    struct mpf_task_shm *record;
    uint64_t state;
    int rc = find_claimed(crew, ticket, &record, &state);
    if (rc < 0)
        return rc;
    *slot = mpf_task_worker(state);
    if (mpf_task_status(state) == MPF_TASK_CONDEMNED)
        return 0;
    uint64_t condemned = mpf_task_state(mpf_task_ordinal(state), *slot, MPF_TASK_CONDEMNED);
    if (mpf_task_status(state) != MPF_TASK_CLAIMED ||
        !atomic_compare_exchange_strong_explicit(&record->state, &state, condemned, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return -EALREADY;
    return 0;
}

int mpf_crew_unsettled(struct mpf_crew *crew, void (*visit)(void *context, uint64_t ticket, uint64_t cookie), void *context) {
    return mpf_crew_owned(crew) ? mpf_ring_list(&crew->ring, visit, context) : -EPERM;
}

void mpf_crew_settle(struct mpf_crew *crew, uint64_t ticket) {
    if (mpf_crew_owned(crew))
        mpf_ring_settle(&crew->ring, ticket);
}

uint64_t mpf_crew_pending(const struct mpf_crew *crew) {
    return atomic_load_explicit(&crew->ring.unsettled, memory_order_relaxed);
}

int mpf_crew_put_again(struct mpf_crew *crew, uint64_t ticket, uint64_t *again) {
    return mpf_crew_owned(crew) ? mpf_ring_put_again(&crew->ring, ticket, again) : -EPERM;
}

int mpf_crew_make_job(struct mpf_crew *crew, const struct mpf_lane_message *message, struct mpf_ref *job) {
    return mpf_lane_fill(crew->arena, message, job);
}

/* ---- the end ---- */

void mpf_crew_close(struct mpf_crew *crew, enum mpf_crew_phase phase) {
    uint32_t seen = phase_of(crew);
    /* release pairs with the acquire in mpf_worker_claim: all that was put is seen by who sees the end */
    while (seen < phase && !atomic_compare_exchange_weak_explicit(&crew->shm->phase, &seen, phase, memory_order_release,
                                                                  memory_order_relaxed))
        ;
    mpf_eventcount_notify(&crew->shm->idle, MPF_EVENTCOUNT_ALL);
}
