/* What the tests of the sync layer share: an arena, blocks, waits that give up, children that are killed at a fault point. */
#ifndef MPF_TESTS_SYNC_CHECK_H
#define MPF_TESTS_SYNC_CHECK_H

#include "check.h"

#include "memory/block.h"
#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/fault.h"
#include "sync/park.h"
#include "sync/register.h"

#define SECOND INT64_C(1000000000)
#define MS INT64_C(1000000)

static struct mpf_arena *arena __attribute__((unused));

static inline void start(void) {
    mpf_sync_register_hooks();
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
}

static inline void *make(enum mpf_block_type type, uint64_t bytes, struct mpf_ref *ref) {
    CHECK_EQUAL(mpf_block_alloc(arena, bytes, type, ref), 0);
    return mpf_at(arena, ref->off);
}

static inline uint64_t blocks_left(void) {
    struct mpf_block_stats stats;
    uint64_t left = 0;
    mpf_block_stats(arena, &stats);
    for (int type = 0; type < MPF_BLOCK_TYPES; type++)
        left += stats.blocks[type];
    return left;
}

/* Everybody else has ended and nothing is left behind. */
static inline void finish(struct mpf_ref *ref) {
    mpf_block_unref(ref);
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK_EQUAL(blocks_left(), 0);
    mpf_block_check(arena);
}

/* A wait that must come to its end: past this it is a hang. */
static inline struct mpf_park patient(void) { return MPF_PARK_INIT(arena, mpf_clock_now() + 20 * SECOND); }

static inline struct mpf_park within(int64_t ns) { return MPF_PARK_INIT(arena, mpf_clock_now() + ns); }

/* For a child: dies the nth time it passes the point (debug builds; elsewhere it lives). */
static inline void die_at(const char *point, int nth) {
#ifdef MPF_DEBUG
    char rule[96];
    snprintf(rule, sizeof rule, "%s:%d:kill", point, nth);
    CHECK_EQUAL(mpf_fault_set(rule), 0);
#else
    (void)point;
    (void)nth;
#endif
}

static inline void tell(_Atomic int *flag, int value) { atomic_store(flag, value); }

static inline void await_flag(_Atomic int *flag, int value) {
    int64_t until = mpf_clock_now() + 20 * SECOND;
    while (atomic_load(flag) < value) {
        CHECK(mpf_clock_now() < until);
        sched_yield();
    }
}

/* Whether pid sleeps in the kernel. */
static inline bool is_asleep(pid_t pid) {
    char path[64], state = '?';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (file) {
        if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
            state = '?';
        fclose(file);
    }
    return state == 'S';
}

static inline void await_asleep(pid_t pid) {
    int64_t until = mpf_clock_now() + 20 * SECOND;
    while (!is_asleep(pid)) {
        CHECK(mpf_clock_now() < until);
        sched_yield();
    }
}

/* Several workers, the first of which is killed: at a fault point, or (point NULL) at some moment of its work. */
struct crowd {
    int workers;
    void (*work)(int index);
};

/* Whether the first was killed. */
static inline bool crowd_run(const struct crowd *crowd, const char *point, int nth, uint64_t *random) {
    static _Atomic int *begun;
    pid_t pids[16];
    if (!begun)
        begun = check_shared(sizeof *begun);
    tell(begun, 0);
    fflush(NULL);
    for (int i = 0; i < crowd->workers; i++) {
        pids[i] = fork();
        CHECK(pids[i] >= 0);
        if (pids[i] == 0) {
            if (i == 0) {
                tell(begun, 1);
                if (point)
                    die_at(point, nth);
            }
            crowd->work(i);
            _exit(0);
        }
    }
    if (!point) {
        await_flag(begun, 1); /* before that it is not a participant yet */
        usleep(check_random(random) % 4000);
        kill(pids[0], SIGKILL);
    }
    bool killed = false;
    for (int i = 0; i < crowd->workers; i++) {
        int status = check_wait(pids[i]);
        killed |= i == 0 && status != 0;
        if (i == 0 ? status != 0 && status != -SIGKILL : status != 0) {
            fprintf(stderr, "worker %d ended with %d (killed at %s:%d)\n", i, status, point ? point : "random", nth);
            abort();
        }
    }
    return killed;
}

/* A process that ends in victim(argument) by SIGKILL is reaped by one that is killed at the point, then by this one. */
static inline void kill_reaper_at(const char *point, int nth, void (*victim)(void *), void *argument) {
    _Atomic int *go = check_shared(sizeof *go);
    fflush(NULL);
    pid_t reaper = fork(); /* first: a fork reaps, too */
    CHECK(reaper >= 0);
    if (reaper == 0) {
        await_flag(go, 1);
        die_at(point, nth);
        mpf_participant_reap(arena);
        _exit(0);
    }
    CHECK_EQUAL(check_wait(check_fork(victim, argument)), -SIGKILL);
    tell(go, 1);
    CHECK_EQUAL(check_wait(reaper), -SIGKILL);
    while (mpf_participant_reap(arena) > 0)
        ;
}

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
