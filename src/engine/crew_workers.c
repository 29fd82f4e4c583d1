/* Purpose: the workers of a crew as the parent handles them: set aside, looked at, sent away, and what the dead had in hand.
 *
 * Layout, states: roster.c.
 *
 * Invariants: a slot is freed only when its process is gone, its results are collected, and what it had in hand is known.
 *
 * Callers: see crew.h.
 *
 * Death of the parent: see crew.c. */
#include <errno.h>

#include "engine/crew.h"
#include "memory/participant.h"
#include "platform/fault.h"

static struct mpf_roster_entry_shm *entry_at(const struct mpf_crew *crew, uint32_t slot) {
    return slot < mpf_roster_count(&crew->shm->roster) ? mpf_roster_at(crew->arena, &crew->shm->roster, slot) : NULL;
}

int mpf_crew_enlist(struct mpf_crew *crew, uint32_t *slot) {
    atomic_store_explicit(&crew->settled, false, memory_order_relaxed);
    return mpf_crew_owned(crew) ? mpf_roster_reserve(crew->arena, &crew->shm->roster, slot) : -EPERM;
}

uint32_t mpf_crew_slots(const struct mpf_crew *crew) { return mpf_roster_count(&crew->shm->roster); }

/* Since when the entry's worker has had which task in hand; 0: none. The worker clears `started` before it notes another. */
static int64_t started_at(struct mpf_roster_entry_shm *entry, uint64_t *ticket) {
    int64_t started;
    uint64_t before;
    *ticket = atomic_load_explicit(&entry->intent, memory_order_acquire);
    do {
        before = *ticket;
        started = atomic_load_explicit(&entry->started, memory_order_acquire);
        *ticket = atomic_load_explicit(&entry->intent, memory_order_acquire);
    } while (*ticket != before);
    return started;
}

int mpf_crew_look(const struct mpf_crew *crew, uint32_t slot, struct mpf_crew_worker *worker) {
    struct mpf_roster_entry_shm *entry = entry_at(crew, slot);
    *worker = (struct mpf_crew_worker){0};
    if (entry == NULL)
        return -ENOENT;
    uint32_t participant = atomic_load_explicit(&entry->participant, memory_order_acquire);
    worker->state = atomic_load_explicit(&entry->state, memory_order_acquire);
    worker->dead = participant != 0 && mpf_participant_gone(crew->arena, participant);
    worker->pid = atomic_load_explicit(&entry->pid, memory_order_relaxed);
    worker->started = started_at(entry, &worker->ticket);
    if (worker->started == 0)
        worker->ticket = 0;
    worker->tasks = atomic_load_explicit(&entry->tasks, memory_order_relaxed);
    worker->memory = atomic_load_explicit(&entry->memory, memory_order_relaxed);
    return worker->state == MPF_ROSTER_FREE ? -ENOENT : 0;
}

/* Whether the record of an unsettled task names this slot. */
static bool had_in_hand(const struct mpf_task_shm *record, uint32_t slot, bool *condemned) {
    uint64_t state = atomic_load_explicit(&record->state, memory_order_acquire);
    enum mpf_task_status status = mpf_task_status(state);
    *condemned = status == MPF_TASK_CONDEMNED;
    return mpf_task_worker(state) == slot &&
           (status == MPF_TASK_CLAIMED || status == MPF_TASK_REPORTING || status == MPF_TASK_CONDEMNED);
}

int mpf_crew_lost(struct mpf_crew *crew, uint32_t slot, struct mpf_crew_lost *lost) {
    if (!mpf_crew_owned(crew))
        return -EPERM;
    struct mpf_roster_entry_shm *entry = entry_at(crew, slot);
    if (entry == NULL || atomic_load_explicit(&entry->state, memory_order_acquire) == MPF_ROSTER_FREE)
        return -ENOENT;
    uint32_t participant = atomic_load_explicit(&entry->participant, memory_order_acquire);
    if (participant != 0 && !mpf_participant_gone(crew->arena, participant))
        return -ECHILD;
    if (mpf_lane_count(&entry->results) != 0)
        return -EBUSY;
    lost->ticket = atomic_load_explicit(&entry->intent, memory_order_acquire);
    const struct mpf_task_shm *record = mpf_ring_find(&crew->ring, lost->ticket, &lost->cookie);
    bool had_one = record != NULL && had_in_hand(record, slot, &lost->condemned);
    mpf_roster_release(entry);
    return had_one;
}

void mpf_crew_dismiss(struct mpf_crew *crew, uint32_t slot) {
    struct mpf_roster_entry_shm *entry = entry_at(crew, slot);
    if (entry == NULL)
        return;
    atomic_store_explicit(&entry->dismissed, 1, memory_order_release);
    mpf_eventcount_notify(&crew->shm->idle, MPF_EVENTCOUNT_ALL);
}
