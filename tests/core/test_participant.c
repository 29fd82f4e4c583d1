/* The participant table: who is LIVE, KILLED, LEFT; deaths wake sleepers; permits to spin. */
#include "check.h"

#include "memory/block.h"
#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/fault.h"
#include "platform/process.h"

static struct mpf_arena *arena;

/* What the parent learns of a child. */
struct report {
    _Atomic uint32_t id;
    _Atomic int go;
};
static struct report *report;

static void start(void)
{
    report = check_shared(sizeof *report);
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
}

static uint32_t id_of(struct report *from)
{
    while (!atomic_load(&from->id))
        sched_yield();
    return atomic_load(&from->id);
}

static void wait_to_be_killed(void *argument)
{
    (void)argument;
    atomic_store(&report->id, arena->self);
    for (;;)
        pause();
}

static void test_ids(void)
{
    start();
    uint32_t self = arena->self;
    CHECK(self != 0 && self < MPF_PARTICIPANT_ID_MASK);
    CHECK_EQUAL(mpf_participant_join(arena), 0);
    CHECK_EQUAL(arena->self, self);
    CHECK_EQUAL(mpf_participant_state(arena, self), MPF_PARTICIPANT_LIVE);
    CHECK_EQUAL(mpf_participant_pid(arena, self), getpid());
    CHECK(!mpf_participant_gone(arena, self));
    CHECK_EQUAL(mpf_participant_state(arena, self + (1u << 14)), MPF_PARTICIPANT_LEFT);
    CHECK_EQUAL(mpf_participant_state(arena, MPF_PARTICIPANT_ID_MASK), MPF_PARTICIPANT_LEFT);
    CHECK_EQUAL(mpf_participant_pid(arena, MPF_PARTICIPANT_ID_MASK), 0);
    CHECK(mpf_participant_gone(arena, MPF_PARTICIPANT_ID_MASK));
}

static void test_killed(void)
{
    start();
    pid_t pid = check_fork(wait_to_be_killed, NULL);
    uint32_t id = id_of(report);
    CHECK(id != arena->self);
    CHECK_EQUAL(mpf_participant_state(arena, id), MPF_PARTICIPANT_LIVE);
    CHECK_EQUAL(mpf_participant_pid(arena, id), pid);
    CHECK_EQUAL(mpf_participant_reap(arena), 0);
    kill(pid, SIGKILL);
    CHECK_EQUAL(check_wait(pid), -SIGKILL);
    CHECK_EQUAL(mpf_participant_state(arena, id), MPF_PARTICIPANT_KILLED);
    CHECK(mpf_participant_gone(arena, id));
    uint32_t epoch = atomic_load(mpf_participant_epoch(arena));
    CHECK_EQUAL(mpf_participant_reap(arena), 1);
    CHECK(atomic_load(mpf_participant_epoch(arena)) != epoch);
    CHECK_EQUAL(mpf_participant_state(arena, id), MPF_PARTICIPANT_LEFT);
    CHECK_EQUAL(mpf_participant_pid(arena, id), 0);
    CHECK(mpf_participant_gone(arena, id));
}

static void test_stopped_is_live(void)
{
    int status;
    start();
    pid_t pid = check_fork(wait_to_be_killed, NULL);
    uint32_t id = id_of(report);
    kill(pid, SIGSTOP);
    CHECK_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    CHECK_EQUAL(mpf_participant_state(arena, id), MPF_PARTICIPANT_LIVE);
    CHECK_EQUAL(mpf_participant_reap(arena), 0);
    kill(pid, SIGKILL);
    check_wait(pid);
}

static void leave_and_wait(void *argument)
{
    struct mpf_ref ref;
    (void)argument;
    CHECK_EQUAL(mpf_block_alloc(arena, 10, MPF_BLOCK_RAW, &ref), 0);
    mpf_participant_leave_all();
    atomic_store(&report->id, arena->self);
    while (!atomic_load(&report->go))
        sched_yield();
    strcpy(mpf_at(arena, ref.off), "still");
    CHECK_EQUAL(mpf_block_ref(&ref, &ref), 0); /* what is left of the process may go on using what it has */
}

static void test_left(void)
{
    struct mpf_block_stats stats;
    start();
    pid_t pid = check_fork(leave_and_wait, NULL);
    uint32_t id = id_of(report);
    CHECK_EQUAL(mpf_participant_state(arena, id), MPF_PARTICIPANT_LEFT);
    CHECK(!mpf_participant_gone(arena, id));
    CHECK_EQUAL(mpf_participant_reap(arena), 0);
    mpf_block_stats(arena, &stats);
    CHECK_EQUAL(stats.references, 1);
    atomic_store(&report->go, 1);
    CHECK_EQUAL(check_wait(pid), 0);
    CHECK_EQUAL(mpf_participant_reap(arena), 1);
    mpf_block_stats(arena, &stats);
    CHECK_EQUAL(stats.references, 0);
    CHECK_EQUAL(mpf_participant_state(arena, id), MPF_PARTICIPANT_LEFT);
}

static void execute(void *argument)
{
    atomic_store(&report->id, arena->self);
    dup2(*(int *)argument, 1);
    execl("/bin/sh", "sh", "-c", "echo; read x", (char *)NULL);
    abort();
}

/* A process that runs another program now keeps its pid, but is no participant any more, and was not killed. */
static void test_exec(void)
{
    int output[2], input[2];
    char byte;
    start();
    CHECK_EQUAL(pipe(output), 0);
    CHECK_EQUAL(pipe(input), 0);
    dup2(input[0], 0);
    pid_t pid = check_fork(execute, &output[1]);
    CHECK_EQUAL(read(output[0], &byte, 1), 1); /* it runs */
    CHECK_EQUAL(mpf_participant_state(arena, id_of(report)), MPF_PARTICIPANT_LEFT);
    CHECK(mpf_participant_gone(arena, id_of(report)));
    CHECK_EQUAL(mpf_participant_reap(arena), 1);
    kill(pid, SIGKILL);
    check_wait(pid);
}

static void test_slots_are_used_in_turn(void)
{
    enum { CHILDREN = 150 };
    uint32_t seen[CHILDREN];
    start();
    for (int i = 0; i < CHILDREN; i++) {
        atomic_store(&report->id, 0);
        pid_t pid = check_fork(wait_to_be_killed, NULL);
        seen[i] = id_of(report);
        kill(pid, SIGKILL);
        check_wait(pid);
        for (int j = 0; j < i; j++)
            CHECK(seen[j] != seen[i]);
        if (i > 0)
            CHECK(seen[i] % 16384 != seen[i - 1] % 16384);
    }
}

static void test_more_than_fit_at_first(void)
{
    enum { CHILDREN = 140 };
    pid_t pids[CHILDREN];
    struct mpf_futex_target targets[MPF_FUTEX_MANY_MAX];
    start();
    for (int i = 0; i < CHILDREN; i++) {
        atomic_store(&report->id, 0);
        pids[i] = check_fork(wait_to_be_killed, NULL);
        id_of(report);
        int watched = mpf_participant_watch(arena, targets, MPF_FUTEX_MANY_MAX);
        CHECK(watched == i + 2 || watched == -ENOSYS || (watched == -E2BIG && i > 100));
    }
    CHECK(mpf_participant_watch(arena, targets, MPF_FUTEX_MANY_MAX) < 0);
    for (int i = 0; i < CHILDREN; i++) {
        kill(pids[i], SIGKILL);
        check_wait(pids[i]);
    }
    CHECK_EQUAL(mpf_participant_reap(arena), CHILDREN);
    CHECK_EQUAL(mpf_participant_watch(arena, targets, 1), 1);
    CHECK_EQUAL(mpf_participant_watch(arena, targets, 0), -E2BIG);
}

/* Sleeps without a timeout until participant `id` is not LIVE any more. */
static void sleep_until_death(uint32_t id)
{
    struct mpf_futex_target targets[MPF_FUTEX_MANY_MAX];
    for (;;) {
        /* listed first, looked at afterwards: what is reaped in between has changed the epoch that was listed */
        int count = mpf_participant_watch(arena, targets, MPF_FUTEX_MANY_MAX);
        mpf_participant_reap(arena);
        if (mpf_participant_state(arena, id) != MPF_PARTICIPANT_LIVE)
            return;
        if (count >= 0)
            mpf_futex_wait_many(targets, (unsigned)count, MPF_FOREVER);
        else
            mpf_futex_wait(mpf_participant_epoch(arena), 0, mpf_clock_now() + 50000000);
    }
}

static void watch_other(void *argument)
{
    atomic_fetch_add(&report->go, 1);
    sleep_until_death(*(uint32_t *)argument);
}

static void test_death_wakes_all_sleepers(void)
{
    enum { SLEEPERS = 3 };
    pid_t sleepers[SLEEPERS];
    start();
    for (int round = 0; round < 30; round++) {
        atomic_store(&report->id, 0);
        atomic_store(&report->go, 0);
        pid_t pid = check_fork(wait_to_be_killed, NULL);
        uint32_t id = id_of(report);
        for (int i = 0; i < SLEEPERS; i++)
            sleepers[i] = check_fork(watch_other, &id);
        while (atomic_load(&report->go) < SLEEPERS)
            sched_yield();
        for (int i = 0; i < round * 20; i++)
            sched_yield(); /* more and more of them are asleep */
        kill(pid, SIGKILL);
        for (int i = 0; i < SLEEPERS; i++)
            CHECK_EQUAL(check_wait(sleepers[i]), 0);
        check_wait(pid);
    }
}

/* Only this process's permits: another's are never given back by it. */
static void hold_permit(void *argument)
{
    (void)argument;
    CHECK(mpf_participant_spin_begin(arena));
    wait_to_be_killed(NULL);
}

static void test_spin_permits(void)
{
    start();
    int cpus = mpf_process_cpus();
    for (int i = 0; i < cpus - 1 && i < 64; i++)
        CHECK(mpf_participant_spin_begin(arena));
    if (cpus <= 64)
        CHECK(!mpf_participant_spin_begin(arena));
    for (int i = 0; i < cpus - 1 && i < 64; i++)
        mpf_participant_spin_end(arena);
    if (cpus < 2)
        return;
    pid_t pid = check_fork(hold_permit, NULL);
    id_of(report);
    for (int i = 0; i < cpus - 2; i++)
        CHECK(mpf_participant_spin_begin(arena));
    CHECK(!mpf_participant_spin_begin(arena));
    kill(pid, SIGKILL);
    check_wait(pid);
    CHECK_EQUAL(mpf_participant_reap(arena), 1);
    CHECK(mpf_participant_spin_begin(arena));
}

#ifdef MPF_DEBUG
struct address {
    unsigned char id[16];
    pid_t pid;
    int fd;
    _Atomic int ready;
    int nth;
};

static void join_killed(void *argument)
{
    struct address *address = argument;
    struct mpf_arena *there;
    char rule[64];
    while (!atomic_load(&address->ready))
        sched_yield();
    snprintf(rule, sizeof rule, "*:%d:kill", address->nth);
    mpf_fault_set(rule);
    CHECK_EQUAL(mpf_arena_find(address->id, -1, address->pid, address->fd, &there), 0);
    mpf_fault_set(NULL);
    mpf_participant_leave_all();
}

static void test_joiner_killed_at_every_point(void)
{
    enum { JOINERS = 12 };
    pid_t pids[JOINERS];
    struct address *addresses = check_shared(JOINERS * sizeof *addresses);
    int completed = 0;
    for (int i = 0; i < JOINERS; i++) {
        addresses[i].nth = i + 1;
        pids[i] = check_fork(join_killed, &addresses[i]);
    }
    start();
    for (int i = 0; i < JOINERS; i++) {
        memcpy(addresses[i].id, arena->id, 16);
        addresses[i].pid = getpid();
        addresses[i].fd = arena->fd;
        atomic_store(&addresses[i].ready, 1);
        completed += check_wait(pids[i]) == 0;
        while (mpf_participant_reap(arena) > 0)
            ;
        mpf_block_check(arena);
        struct mpf_futex_target targets[MPF_FUTEX_MANY_MAX];
        CHECK_EQUAL(mpf_participant_watch(arena, targets, MPF_FUTEX_MANY_MAX), 1); /* nobody else is left */
    }
    CHECK(completed > 0 && completed < JOINERS);
}
#endif

CHECK_MAIN({"ids", test_ids}, {"killed", test_killed}, {"stopped_is_live", test_stopped_is_live}, {"left", test_left},
           {"exec", test_exec}, {"slots_are_used_in_turn", test_slots_are_used_in_turn},
           {"more_than_fit_at_first", test_more_than_fit_at_first},
           {"death_wakes_all_sleepers", test_death_wakes_all_sleepers}, {"spin_permits", test_spin_permits},
#ifdef MPF_DEBUG
           {"joiner_killed_at_every_point", test_joiner_killed_at_every_point},
#endif
)
