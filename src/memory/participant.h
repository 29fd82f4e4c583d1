/* The participant table: which processes use the arena, and which of them are dead.
 *
 * A participant is one process for the time it has the arena mapped. Its id (30 bits: slot and generation, never 0
 * nor all ones) names the owner in lock words. Each participant holds a robust mutex, its life word: the kernel marks it
 * (FUTEX_OWNER_DIED) and wakes one sleeper on it whenever the process ends, for whatever reason. A sleeper that has
 * waited for long therefore sleeps on the life words of all others too, and on the arena's epoch word, which is bumped
 * by every registration and every reaping: it sleeps without a timeout and still learns of every death. Where
 * the kernel lacks FUTEX_WAITV or robust lists, or there are more than 120 participants, sleepers look every 50 ms.
 *
 * A process that ends in order says so first (mpf_participant_leave_all): what it holds stays held. One that
 * does not is reaped by whoever notices: for every block it refers to, the block type's recover function is called
 * (locks get marked as orphaned, permits are returned, ...), then the reference is dropped. A reaper that dies in the
 * middle is replaced: recover functions are idempotent. The references of a process that has left are dropped
 * without recovery, and only once it has really ended: threads of it may still be at work. */
#ifndef MPF_MEMORY_PARTICIPANT_H
#define MPF_MEMORY_PARTICIPANT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory/arena.h"
#include "platform/futex.h"

#define MPF_PARTICIPANT_ID_BITS 30
#define MPF_PARTICIPANT_ID_MASK ((1u << MPF_PARTICIPANT_ID_BITS) - 1)

enum mpf_participant_state {
    MPF_PARTICIPANT_LIVE,   /* runs, or is stopped */
    MPF_PARTICIPANT_KILLED, /* dead without having said so; reaped or about to be */
    MPF_PARTICIPANT_LEFT,   /* ended in order, or long gone */
};

/* Registers this process; idempotent. Called when an arena is mapped, and in a forked child before fork() returns.
 * 0, -EAGAIN (16384 participants), -ENOMEM. */
int mpf_participant_join(struct mpf_arena *arena);

/* Says that this process ends in order: its locks stay held. Its references are dropped once it has ended. All arenas. */
void mpf_participant_leave_all(void);

/* Before fork(): this thread will tell with mpf_fork_tell() what has become of it, and the child lets its parent go on first.
 * again: right after another one, so that there is no need to look for the dead. */
void mpf_fork_announce(bool again);

/* After it, in the parent. pid: of the child, or not above 0 where there is none. */
void mpf_fork_tell(int32_t pid);

enum mpf_participant_state mpf_participant_state(struct mpf_arena *arena, uint32_t id);

/* Whether no instruction of that participant's process will run again, in whatever way it ended. */
bool mpf_participant_gone(struct mpf_arena *arena, uint32_t id);

/* pid of a participant, 0 when it is gone. */
int32_t mpf_participant_pid(struct mpf_arena *arena, uint32_t id);

/* Looks at every life word and reaps the dead. Cheap when nobody died. How many were reaped. Calls hooks: no section
 * may be held. */
int mpf_participant_reap(struct mpf_arena *arena);

/* The word that changes whenever a participant joins or has been reaped, or all were roused. */
_Atomic uint32_t *mpf_participant_epoch(struct mpf_arena *arena);

/* Has all who have slept for long look at everything. */
void mpf_participant_rouse(struct mpf_arena *arena);

/* Fills targets with the epoch word and the life words of all other participants. How many, or -E2BIG / -ENOSYS where
 * the caller has to poll instead. */
int mpf_participant_watch(struct mpf_arena *arena, struct mpf_futex_target *targets, unsigned capacity);

/* One of the few permits to spin in the whole arena (fewer than there are CPUs, so that whoever is waited for can run).
 * A killed process's permits come back with its reaping. */
bool mpf_participant_spin_begin(struct mpf_arena *arena);
void mpf_participant_spin_end(struct mpf_arena *arena);

#endif
