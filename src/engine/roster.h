/* The roster: one entry per worker of a crew, with the lane of its results. See roster.c. */
#ifndef MPF_ENGINE_ROSTER_H
#define MPF_ENGINE_ROSTER_H

#include "engine/task.h"

enum mpf_roster_state {
    MPF_ROSTER_FREE,
    MPF_ROSTER_STARTING, /* set aside for a process that is being started */
    MPF_ROSTER_WORKING,  /* a process has joined */
    MPF_ROSTER_LEAVING,  /* it claims no more; its last results are published */
};

/* Written by the worker, except state FREE and STARTING, `dismissed` and the consumers' half of the lane. */
struct mpf_roster_entry_shm {
    _Alignas(64) _Atomic uint32_t state;
    _Atomic uint32_t participant; /* of the worker, 0: has not joined */
    _Atomic int32_t pid;
    _Atomic uint32_t dismissed;   /* != 0: to leave as soon as it has nothing in hand */
    _Atomic uint64_t intent;      /* ticket of the task that it has or is about to claim */
    _Atomic int64_t started;      /* when it claimed the task in hand, monotonic ns; 0: none in hand */
    _Atomic uint64_t tasks;       /* claimed so far by this worker */
    _Atomic uint64_t memory;      /* bytes: the most it has had resident, as it last said */
    uint64_t made; /* the lane is: by the parent, which alone asks */
    struct mpf_lane_shm results;
};

#define MPF_ROSTER_FIRST 8 /* entries in part 0; each further part has twice as many */
#define MPF_ROSTER_PARTS 12
#define MPF_ROSTER_MAX (MPF_ROSTER_FIRST * ((1u << MPF_ROSTER_PARTS) - 1))

struct mpf_roster_shm {
    _Atomic uint32_t count; /* entries that are there */
    uint32_t reserved;
    mpf_off parts[MPF_ROSTER_PARTS]; /* owned */
};

struct mpf_roster_entry_shm *mpf_roster_at(struct mpf_arena *arena, struct mpf_roster_shm *roster, uint32_t slot);

/* Entries that are there; those of slots below exist. */
uint32_t mpf_roster_count(const struct mpf_roster_shm *roster);

/* The parent: the first free entry becomes STARTING. 0, -ENOMEM, -E2BIG (MPF_ROSTER_MAX workers). */
int mpf_roster_reserve(struct mpf_arena *arena, struct mpf_roster_shm *roster, uint32_t *slot);

/* The parent: the entry's process is gone and nothing of it is left to see to. */
void mpf_roster_release(struct mpf_roster_entry_shm *entry);

/* For the owner's hooks. */
void mpf_roster_recover(struct mpf_arena *arena, struct mpf_roster_shm *roster);
void mpf_roster_destroy(struct mpf_arena *arena, struct mpf_roster_shm *roster);

#endif
