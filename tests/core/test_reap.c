/* Reaping: what of a dead participant's is repaired, by whom, and how often. */
#include "check.h"

#include "memory/layout.h"
#include "memory/participant.h"
#include "platform/fault.h"

static struct mpf_arena *arena;

static struct {
    _Atomic int recovered, destroyed;
    _Atomic int ready, go;
} *seen;

static void on_recover(struct mpf_arena *a, mpf_off off, uint32_t dead)
{
    struct mpf_ref ref;
    CHECK(off != 0);
    CHECK_EQUAL(mpf_participant_state(a, dead), MPF_PARTICIPANT_KILLED);
    atomic_fetch_add(&seen->recovered, 1);
    CHECK_EQUAL(mpf_block_alloc(a, 100, MPF_BLOCK_RAW, &ref), 0); /* a hook may use the arena */
    mpf_block_unref(&ref);
}

static void on_destroy(struct mpf_arena *a, mpf_off off)
{
    (void)a;
    CHECK(off != 0);
    atomic_fetch_add(&seen->destroyed, 1);
}

static const struct mpf_block_hooks hooks = {.recover = on_recover, .destroy = on_destroy};

static void start(void)
{
    seen = check_shared(sizeof *seen);
    mpf_block_set_hooks(MPF_BLOCK_MUTEX, &hooks);
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
}

static uint64_t references(void)
{
    struct mpf_block_stats stats;
    mpf_block_check(arena);
    mpf_block_stats(arena, &stats);
    return stats.references;
}

static void own_and_die(void *argument)
{
    struct mpf_ref own, raw;
    uint64_t ticket;
    (void)argument;
    CHECK_EQUAL(mpf_block_alloc(arena, 16, MPF_BLOCK_MUTEX, &own), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 16, MPF_BLOCK_RAW, &raw), 0);
    CHECK_EQUAL(mpf_block_lend(&own, &ticket), 0);
    if (argument)
        mpf_participant_leave_all();
    else
        kill(getpid(), SIGKILL);
}

static void test_recovers_and_destroys_once(void)
{
    start();
    CHECK_EQUAL(check_wait(check_fork(own_and_die, NULL)), -SIGKILL);
    CHECK_EQUAL(references(), 3);
    CHECK_EQUAL(mpf_participant_reap(arena), 1);
    CHECK_EQUAL(seen->recovered, 1); /* for the reference, not for the ticket */
    CHECK_EQUAL(seen->destroyed, 1);
    CHECK_EQUAL(references(), 0);
    CHECK_EQUAL(mpf_participant_reap(arena), 0);
}

static void test_who_left_is_not_recovered(void)
{
    start();
    CHECK_EQUAL(check_wait(check_fork(own_and_die, seen)), 0);
    CHECK_EQUAL(mpf_participant_reap(arena), 1);
    CHECK_EQUAL(seen->recovered, 0);
    CHECK_EQUAL(seen->destroyed, 1);
    CHECK_EQUAL(references(), 0);
}

static void share_and_die(void *argument)
{
    (void)argument;
    kill(getpid(), SIGKILL);
}

static void test_shared_block_survives(void)
{
    struct mpf_ref ref;
    start();
    CHECK_EQUAL(mpf_block_alloc(arena, 16, MPF_BLOCK_MUTEX, &ref), 0);
    CHECK_EQUAL(check_wait(check_fork(share_and_die, NULL)), -SIGKILL);
    CHECK_EQUAL(mpf_participant_reap(arena), 1);
    CHECK_EQUAL(seen->recovered, 1);
    CHECK_EQUAL(seen->destroyed, 0);
    mpf_block_unref(&ref);
    CHECK_EQUAL(seen->destroyed, 1);
    CHECK_EQUAL(references(), 0);
}

static void reap_on_go(void *argument)
{
    (void)argument;
    atomic_fetch_add(&seen->ready, 1);
    while (atomic_load(&seen->go) < 2)
        sched_yield();
    mpf_participant_reap(arena);
    mpf_participant_leave_all();
}

static void die_on_go(void *argument)
{
    while (atomic_load(&seen->go) < 1)
        sched_yield();
    own_and_die(argument);
}

static void test_one_reaper_for_each_corpse(void)
{
    enum { REAPERS = 3, CORPSES = 8 };
    pid_t reapers[REAPERS], corpses[CORPSES];
    start();
    for (int i = 0; i < REAPERS; i++)
        reapers[i] = check_fork(reap_on_go, NULL);
    for (int i = 0; i < CORPSES; i++) /* they live until all are forked, for a fork reaps */
        corpses[i] = check_fork(die_on_go, NULL);
    while (atomic_load(&seen->ready) < REAPERS)
        sched_yield();
    atomic_store(&seen->go, 1);
    for (int i = 0; i < CORPSES; i++)
        CHECK_EQUAL(check_wait(corpses[i]), -SIGKILL);
    CHECK_EQUAL(seen->recovered, 0);
    atomic_store(&seen->go, 2);
    for (int i = 0; i < REAPERS; i++)
        CHECK_EQUAL(check_wait(reapers[i]), 0);
    CHECK_EQUAL(seen->recovered, CORPSES);
    CHECK_EQUAL(seen->destroyed, CORPSES);
    mpf_participant_reap(arena);
    CHECK_EQUAL(references(), 0);
}

#ifdef MPF_DEBUG
static void reap_and_stop(void *argument)
{
    CHECK_EQUAL(check_wait(check_fork(own_and_die, NULL)), -SIGKILL);
    mpf_fault_set(argument);
    mpf_participant_reap(arena);
    mpf_fault_set(NULL);
}

static void test_stopped_reaper_is_left_at_it(void)
{
    int status;
    start();
    pid_t pid = check_fork(reap_and_stop, "reap.recovered:1:stop");
    CHECK_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    CHECK_EQUAL(mpf_participant_reap(arena), 0);
    CHECK_EQUAL(seen->recovered, 1);
    kill(pid, SIGCONT);
    CHECK_EQUAL(check_wait(pid), 0);
    CHECK_EQUAL(seen->recovered, 1);
    CHECK_EQUAL(seen->destroyed, 1);
    mpf_participant_reap(arena);
    CHECK_EQUAL(references(), 0);
}

static void test_killed_reaper_is_replaced(void)
{
    static const char *const rules[] = {"reap.claimed:1:kill", "reap.recovered:1:kill", "block.dying:1:kill",
                                        "block.destroyed:1:kill", "reap.dropped:1:kill", "reap.cleared:1:kill",
                                        "reap.freed:1:kill"};
    start();
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        CHECK_EQUAL(check_wait(check_fork(reap_and_stop, (void *)(uintptr_t)rules[i])), -SIGKILL);
        while (mpf_participant_reap(arena) > 0)
            ;
        CHECK_EQUAL(references(), 0);
        CHECK(seen->recovered > (int)i && seen->destroyed > (int)i);
    }
}
#endif

CHECK_MAIN({"recovers_and_destroys_once", test_recovers_and_destroys_once},
           {"who_left_is_not_recovered", test_who_left_is_not_recovered},
           {"shared_block_survives", test_shared_block_survives},
           {"one_reaper_for_each_corpse", test_one_reaper_for_each_corpse},
#ifdef MPF_DEBUG
           {"stopped_reaper_is_left_at_it", test_stopped_reaper_is_left_at_it},
           {"killed_reaper_is_replaced", test_killed_reaper_is_replaced},
#endif
)
