/* Purpose: claiming tasks and reporting results, in a worker.
 *
 * Layout: the worker's entry in the roster (roster.c), the ring (ring.c). Its place in the ring is private.
 *
 * States of a worker, as it goes round:
 *
 *   looking --claim--> task in hand --report: record REPORTING, result published--> looking
 *      |  ^
 *   spins (a seeker), then sleeps on `idle`
 *
 * Invariants.
 *   `started` is 0 whenever `intent` changes, so that a time and a ticket that are read together belong together.
 *   Who was awaiting a task and has claimed one looks whether there are more, and wakes one more sleeper if so: a task may have been
 *   put on the strength of this one being awake.
 *
 * Callers: one thread of the worker's process.
 *
 * Death of the worker
 *   before a claim's compare-and-swap: nothing happened. After it: the task is in hand, and lost with it.
 *   after REPORTING, before the result is published: likewise. (REPORTING says to the parent that it is too late to condemn.)
 *   after that: the result is in the lane, the task is done; a wake-up that is missing is made up for by whoever sleeps (park.h).
 *   while a seeker: the hook of the crew counts it out. */
#include "engine/worker.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/fault.h"
#include "sync/spin.h"

#define PARENT_NS (50 * 1000 * 1000) /* how often a busy worker looks whether it still has a parent */

static bool parent_gone(const struct mpf_worker *worker) {
    return worker->crew->owner != worker->arena->self && mpf_participant_gone(worker->arena, worker->crew->owner);
}

int mpf_worker_join(struct mpf_worker *worker, const struct mpf_ref *crew, uint32_t slot) {
    memset(worker, 0, sizeof *worker);
    worker->arena = crew->arena;
    worker->crew = mpf_at(crew->arena, crew->off);
    worker->slot = slot;
    if (slot >= mpf_roster_count(&worker->crew->roster))
        return -EINVAL;
    worker->entry = mpf_roster_at(crew->arena, &worker->crew->roster, slot);
    if (parent_gone(worker))
        return -EOWNERDEAD;
    uint32_t nobody = 0;
    /* acquire pairs with the release in take: the lane is made */
    if (atomic_load_explicit(&worker->entry->state, memory_order_acquire) != MPF_ROSTER_STARTING)
        return -EBUSY;
    if (!atomic_compare_exchange_strong(&worker->entry->participant, &nobody, worker->arena->self))
        return -EBUSY;
    MPF_FAULT("worker.joined");
    atomic_store_explicit(&worker->entry->pid, (int32_t)getpid(), memory_order_relaxed);
    atomic_store_explicit(&worker->entry->state, MPF_ROSTER_WORKING, memory_order_release);
    mpf_ring_begin(&worker->cursor, worker->arena, &worker->crew->ring);
    return 0;
}

/* ---- claiming ---- */

static enum mpf_crew_phase phase_of(const struct mpf_worker *worker) {
    return atomic_load_explicit(&worker->crew->phase, memory_order_acquire); /* pairs with the release in mpf_crew_close */
}

static bool is_to_leave(const struct mpf_worker *worker) {
    return phase_of(worker) == MPF_CREW_ABANDONED ||
           atomic_load_explicit(&worker->entry->dismissed, memory_order_relaxed) != 0;
}

static struct mpf_task_shm *claim(struct mpf_worker *worker) {
    return mpf_ring_claim(&worker->cursor, worker->slot, &worker->entry->intent, &worker->ticket);
}

/* No task was found. One that was put before the crew was closed is found now at the latest. */
static struct mpf_task_shm *claim_last(struct mpf_worker *worker, int *rc) {
    bool closed = phase_of(worker) != MPF_CREW_OPEN;
    struct mpf_task_shm *record = closed ? claim(worker) : NULL;
    *rc = closed ? -EPIPE : -EAGAIN;
    return record;
}

/* Others sleep, and a putter may have counted on this worker's being awake. */
static void rouse_next(struct mpf_worker *worker) {
    if (!worker->roused)
        return;
    worker->roused = false;
    if (mpf_eventcount_sleepers(atomic_load_explicit(&worker->crew->idle.state, memory_order_relaxed)) != 0 &&
        mpf_ring_pending(&worker->cursor))
        mpf_eventcount_notify(&worker->crew->idle, 1);
}

static bool orphaned(struct mpf_worker *worker, int64_t now) {
    if (now - worker->looked < PARENT_NS)
        return false;
    worker->looked = now;
    return parent_gone(worker);
}

int mpf_worker_claim(struct mpf_worker *worker, struct mpf_task *task) {
    int64_t now = mpf_clock_now();
    int rc = -EAGAIN;
    *task = (struct mpf_task){0};
    if (worker->record != NULL)
        return -EBUSY;
    if (orphaned(worker, now))
        return -EOWNERDEAD;
    if (is_to_leave(worker))
        return -EPIPE;
    struct mpf_task_shm *record = claim(worker);
    if (record == NULL)
        record = claim_last(worker, &rc);
    if (record == NULL)
        return rc;
    worker->record = record;
    atomic_store_explicit(&worker->entry->started, now, memory_order_release); /* pairs with started_at */
    atomic_store_explicit(&worker->entry->tasks, ++worker->tasks, memory_order_relaxed);
    rouse_next(worker);
    MPF_FAULT("worker.claim.started");
    rc = mpf_task_open(worker->arena, record, worker->gathered, task);
    task->ticket = worker->ticket;
    return rc;
}

int mpf_worker_open_job(struct mpf_worker *worker, const struct mpf_task *task, struct mpf_ref *job) {
    return mpf_block_attach(worker->arena, task->job, task->job_generation, MPF_BLOCK_MESSAGE, 0, job);
}

/* ---- waiting ---- */

static bool is_over(struct mpf_worker *worker) {
    return mpf_ring_pending(&worker->cursor) || phase_of(worker) != MPF_CREW_OPEN || is_to_leave(worker);
}

static void seek_end(struct mpf_crew_shm *crew) {
    uint32_t seekers = atomic_load_explicit(&crew->seekers, memory_order_relaxed);
    /* sequentially consistent: who still counted on this one has put its task before what this one looks at next */
    while (seekers != 0 && !atomic_compare_exchange_weak(&crew->seekers, &seekers, seekers - 1))
        ;
}

static bool spin(struct mpf_park *park, struct mpf_worker *worker) {
    struct mpf_spin spin;
    bool over = is_over(worker);
    if (over)
        return true;
    atomic_fetch_add(&worker->crew->seekers, 1);
    MPF_FAULT("worker.seeking");
    for (mpf_spin_begin(&spin, park, &worker->crew->idle); !over && mpf_spin_next(&spin);)
        over = is_over(worker);
    mpf_spin_end(&spin, over);
    seek_end(worker->crew);
    atomic_thread_fence(memory_order_seq_cst); /* where the hook had counted it out, the change of seekers was none */
    return over;
}

/* A direct sleeper waits for more than has come, and no more will come from here for now. */
static void hand_over(struct mpf_worker *worker) {
    if (mpf_lane_count(&worker->entry->results) != 0)
        mpf_eventcount_notify(&worker->crew->direct, 1);
}

int mpf_worker_await(struct mpf_park *park, struct mpf_worker *worker) {
    struct mpf_eventcount_shm *idle = &worker->crew->idle;
    int rc = 0;
    worker->roused = true;
    if (is_over(worker))
        return 0;
    hand_over(worker);
    if (spin(park, worker))
        return 0;
    while (rc == 0 && !is_over(worker)) {
        struct mpf_eventcount_key key = mpf_eventcount_prepare(idle);
        if (is_over(worker))
            mpf_eventcount_finish(idle, key);
        else
            rc = mpf_eventcount_wait(park, idle, key);
        if (rc == 0 && park->recheck && parent_gone(worker))
            rc = -EOWNERDEAD;
    }
    mpf_park_finish(park);
    if (rc == -ETIMEDOUT && is_over(worker))
        return 0;
    if (rc < 0 && mpf_ring_pending(&worker->cursor))
        mpf_eventcount_notify(idle, 1); /* it may have been woken for a task that it does not look at now */
    return rc;
}

/* ---- reporting ---- */

struct letter {
    uint64_t ticket;
    const struct mpf_lane_message *message;
};

static void store(const struct mpf_lane_message *message, void *to) {
    if (message->data != NULL)
        memcpy(to, message->data, message->bytes);
    else
        message->write(message->context, to);
}

static void write_short(const void *context, void *to) {
    const struct letter *letter = context;
    memcpy(to, &letter->ticket, sizeof letter->ticket);
    store(letter->message, (char *)to + MPF_WORKER_SHORT_PREFIX);
}

static void write_long(const void *context, void *to) {
    const struct letter *letter = context;
    memcpy(to, &letter->ticket, sizeof letter->ticket);
    store(letter->message, (char *)to + MPF_WORKER_PREFIX);
}

static int publish(struct mpf_worker *worker, const struct mpf_lane_message *message, struct mpf_ref *block) {
    struct letter letter = {.ticket = worker->ticket, .message = message};
    struct mpf_lane_message wrapped = {.write = write_short,
                                       .context = &letter,
                                       .bytes = MPF_WORKER_SHORT_PREFIX + message->bytes,
                                       .tag = message->tag};
    struct mpf_lane_shm *lane = &worker->entry->results;
    struct mpf_ref own = {0};
    if (block == NULL && message->bytes <= MPF_WORKER_INLINE_MAX)
        return mpf_lane_put(worker->arena, lane, &wrapped, NULL, NULL);
    wrapped.write = write_long;
    wrapped.bytes = MPF_WORKER_PREFIX + message->bytes;
    if (block == NULL) {
        int rc = mpf_lane_fill(worker->arena, &wrapped, &own);
        if (rc < 0)
            return rc;
        block = &own;
    } else {
        memcpy(mpf_at(worker->arena, block->off), &letter.ticket, sizeof letter.ticket);
    }
    int rc = mpf_lane_put_block(worker->arena, lane, block, &wrapped, NULL, NULL);
    mpf_block_unref(&own);
    return rc;
}

/* After publishing, which left a section: that exchange stands between the result and the look at who sleeps. */
static void announce(struct mpf_crew_shm *crew) {
    mpf_fence_after_exchange();
    uint64_t direct = atomic_load_explicit(&crew->direct.state, memory_order_relaxed);
    if (mpf_eventcount_sleepers(direct) == 0)
        mpf_eventcount_notify_fenced(&crew->background, 1);
    else if (atomic_fetch_sub(&crew->wanted, 1) <= 1)
        mpf_eventcount_notify_fenced(&crew->direct, 1);
}

/* From here on it is too late to condemn the task. 0, -ECANCELED. */
static int begin_report(struct mpf_worker *worker) {
    uint64_t ordinal = mpf_task_ordinal(worker->ticket);
    uint64_t state = mpf_task_state(ordinal, worker->slot, MPF_TASK_CLAIMED);
    uint64_t reporting = mpf_task_state(ordinal, worker->slot, MPF_TASK_REPORTING);
    if (atomic_compare_exchange_strong_explicit(&worker->record->state, &state, reporting, memory_order_acq_rel,
                                                memory_order_relaxed) ||
        state == reporting) /* the last attempt to report it found no memory */
        return 0;
    return -ECANCELED;
}

int mpf_worker_report(struct mpf_worker *worker, const struct mpf_lane_message *message, struct mpf_ref *block) {
    if (worker->record == NULL)
        return -EINVAL;
    int rc = begin_report(worker);
    if (rc < 0)
        return rc;
    MPF_FAULT("worker.report.begun");
    rc = publish(worker, message, block);
    if (rc < 0)
        return rc;
    MPF_FAULT("worker.report.published");
    worker->record = NULL;
    atomic_store_explicit(&worker->entry->started, 0, memory_order_release); /* before the next intent; pairs with started_at */
    announce(worker->crew);
    mpf_crew_ring(worker->arena, worker->crew);
    MPF_FAULT("worker.report.announced");
    return 0;
}

void mpf_worker_note_memory(struct mpf_worker *worker, uint64_t bytes) {
    atomic_store_explicit(&worker->entry->memory, bytes, memory_order_relaxed);
}

void mpf_worker_leave(struct mpf_worker *worker) {
    atomic_store_explicit(&worker->entry->state, MPF_ROSTER_LEAVING, memory_order_release);
    hand_over(worker);
    if (mpf_ring_pending(&worker->cursor))
        mpf_eventcount_notify(&worker->crew->idle, 1); /* a task may have been put on the strength of this worker's being awake */
}
