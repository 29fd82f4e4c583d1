/* Barrier: rounds, indices, actions, timeouts, reset and abort; a killed party breaks it, and nobody waits for ever. */
#include "sync_check.h"

#include "sync/barrier.h"

static struct mpf_barrier_shm *barrier;
static struct mpf_ref ref;

static struct shared {
    _Atomic int stage, acting, done;
    _Atomic int arrivals[64];
    _Atomic int result[16];
    _Atomic int64_t deadline;
} *shared;

static void setup(uint32_t parties) {
    start();
    barrier = make(MPF_BLOCK_BARRIER, mpf_barrier_bytes(), &ref);
    mpf_barrier_init(barrier, parties);
    shared = check_shared(sizeof *shared);
}

static int arrive(struct mpf_park park) {
    bool leader;
    int rc = mpf_barrier_wait(&park, barrier, false, &leader);
    CHECK(!leader);
    return rc;
}

static void await_waiting(uint32_t count) {
    int64_t until = mpf_clock_now() + 20 * SECOND;
    while (mpf_barrier_waiting(barrier) < count) {
        CHECK(mpf_clock_now() < until);
        sched_yield();
    }
}

static void test_alone(void) {
    setup(1);
    CHECK_EQUAL(mpf_barrier_parties(barrier), 1);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(arrive(MPF_PARK_INIT(arena, 0)), 0);
    mpf_barrier_abort(arena, barrier);
    CHECK(mpf_barrier_broken(barrier));
    CHECK_EQUAL(arrive(patient()), -EPIPE);
    mpf_barrier_reset(arena, barrier);
    CHECK(!mpf_barrier_broken(barrier));
    CHECK_EQUAL(arrive(patient()), 0);
    finish(&ref);
}

static void test_deadline_breaks(void) {
    setup(2);
    CHECK_EQUAL(arrive(within(30 * MS)), -EPIPE);
    CHECK(mpf_barrier_broken(barrier));
    CHECK_EQUAL(mpf_barrier_waiting(barrier), 0);
    CHECK_EQUAL(arrive(patient()), -EPIPE);
    mpf_barrier_reset(arena, barrier);
    CHECK_EQUAL(arrive(MPF_PARK_INIT(arena, 0)), -EPIPE);
    CHECK(mpf_barrier_broken(barrier));
    finish(&ref);
}

/* Every party of a round gets another index, and nobody is let go before all have come. */
static void rounds(int index) {
    (void)index;
    for (int round = 0; round < 60; round++) {
        atomic_fetch_add(&shared->arrivals[round], 1);
        int rc = arrive(patient());
        CHECK(rc >= 0 && rc < 4);
        CHECK_EQUAL(shared->arrivals[round], 4);
        CHECK_EQUAL(atomic_exchange(&shared->result[rc], round + 1), round);
    }
}

static void rounds_then_leave(int index) {
    rounds(index);
    mpf_participant_leave_all();
}

static void test_processes(void) {
    setup(4);
    crowd_run(&(struct crowd){4, rounds_then_leave}, "no such point", 1, NULL);
    CHECK_EQUAL(mpf_barrier_waiting(barrier), 0);
    finish(&ref);
}

static void *rounds_in_thread(void *unused) {
    rounds(0);
    return unused;
}

static void test_threads(void) {
    setup(4);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, rounds_in_thread, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    finish(&ref);
}

/* As long as there are turns left somebody takes the next one, so nobody is left alone with an even number of turns. */
static void *come_and_go(void *unused) {
    while (atomic_fetch_add(&shared->acting, 1) < 800) {
        CHECK(arrive(patient()) >= 0);
        atomic_fetch_add(&shared->done, 1);
    }
    return unused;
}

/* More threads than parties: whoever was let go may come again before the others have left. */
static void test_more_threads_than_parties(void) {
    setup(2);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, come_and_go, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(shared->done, 800);
    finish(&ref);
}

static void act(int index) {
    for (int round = 0; round < 40; round++) {
        struct mpf_park park = patient();
        bool leader;
        int rc = mpf_barrier_wait(&park, barrier, true, &leader);
        CHECK(rc >= 0);
        CHECK_EQUAL(leader, rc == 2);
        if (leader) {
            CHECK_EQUAL(mpf_barrier_waiting(barrier), 3);
            CHECK_EQUAL(atomic_fetch_add(&shared->acting, 1), round);
            mpf_barrier_open(arena, barrier);
        }
        CHECK_EQUAL(shared->acting, round + 1);
        rc = arrive(patient()); /* so that nobody acts before all have looked */
        CHECK(rc >= 0);
    }
    (void)index;
    mpf_participant_leave_all();
}

static void test_action_runs_before_anyone_is_let_go(void) {
    setup(3);
    crowd_run(&(struct crowd){3, act}, "no such point", 1, NULL);
    finish(&ref);
}

static void wait_once(void *result) {
    atomic_store(&shared->result[*(int *)result], arrive(patient()));
    mpf_participant_leave_all();
}

static void wait_until_deadline(void *unused) {
    (void)unused;
    struct mpf_park park = within(500 * MS);
    atomic_store(&shared->deadline, park.deadline);
    atomic_store(&shared->result[0], arrive(park));
    mpf_participant_leave_all();
}

/* The deadline of a waiter comes while the action runs: it is let go all the same, as in the stdlib. */
static void test_deadline_during_the_action(void) {
    setup(2);
    pid_t pid = check_fork(wait_until_deadline, NULL);
    await_waiting(1);
    struct mpf_park park = patient();
    bool leader;
    CHECK_EQUAL(mpf_barrier_wait(&park, barrier, true, &leader), 1);
    CHECK(leader);
    while (mpf_clock_now() < atomic_load(&shared->deadline) + 20 * MS)
        usleep(1000);
    mpf_barrier_reset(arena, barrier);
    mpf_barrier_open(arena, barrier);
    CHECK_EQUAL(check_wait(pid), 0);
    CHECK_EQUAL(shared->result[0], 0);
    CHECK(!mpf_barrier_broken(barrier));
    finish(&ref);
}

static void test_failed_action_breaks(void) {
    int place = 0;
    setup(2);
    pid_t pid = check_fork(wait_once, &place);
    await_waiting(1);
    struct mpf_park park = patient();
    bool leader;
    CHECK_EQUAL(mpf_barrier_wait(&park, barrier, true, &leader), 1);
    mpf_barrier_fail(arena, barrier);
    CHECK_EQUAL(check_wait(pid), 0);
    CHECK_EQUAL(shared->result[0], -EPIPE);
    CHECK(mpf_barrier_broken(barrier));
    mpf_barrier_reset(arena, barrier);
    CHECK(!mpf_barrier_broken(barrier));
    finish(&ref);
}

static void check_waiters_fail(void (*breaks)(struct mpf_arena *, struct mpf_barrier_shm *), bool stays_broken) {
    pid_t pids[3];
    for (int i = 0; i < 3; i++)
        pids[i] = check_fork(wait_once, &i);
    await_waiting(3);
    breaks(arena, barrier);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(check_wait(pids[i]), 0);
        CHECK_EQUAL(shared->result[i], -EPIPE);
    }
    CHECK_EQUAL(mpf_barrier_broken(barrier), stays_broken);
    CHECK_EQUAL(mpf_barrier_waiting(barrier), 0);
}

static void test_reset_and_abort(void) {
    setup(4);
    check_waiters_fail(mpf_barrier_reset, false);
    check_waiters_fail(mpf_barrier_abort, true);
    mpf_barrier_reset(arena, barrier);
    pid_t pids[3];
    for (int i = 0; i < 3; i++)
        pids[i] = check_fork(wait_once, &i);
    CHECK(arrive(patient()) >= 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(check_wait(pids[i]), 0);
        CHECK(shared->result[i] >= 0);
    }
    finish(&ref);
}

static int interrupt(void *unused) {
    (void)unused;
    return 1;
}

/* Who is interrupted leaves; the others wait for another, as in the stdlib. */
static void test_interrupted_leaves(void) {
    int place = 0;
    setup(2);
    struct mpf_park park = patient();
    bool leader;
    park.interrupt = interrupt;
    park.interrupt_every = MS;
    CHECK_EQUAL(mpf_barrier_wait(&park, barrier, false, &leader), -EINTR);
    CHECK(!mpf_barrier_broken(barrier));
    CHECK_EQUAL(mpf_barrier_waiting(barrier), 0);
    pid_t pid = check_fork(wait_once, &place);
    CHECK(arrive(patient()) >= 0);
    CHECK_EQUAL(check_wait(pid), 0);
    CHECK(shared->result[0] >= 0);
    finish(&ref);
}

static void wait_then_die(void *when) {
    if (*(int *)when == 0) {
        arrive(patient());
    } else {
        CHECK(arrive(patient()) >= 0);
        tell(&shared->stage, 1);
    }
    raise(SIGKILL);
}

static void test_killed_while_waiting(void) {
    int when = 0, place = 0;
    setup(3);
    pid_t victim = check_fork(wait_then_die, &when);
    await_waiting(1);
    pid_t other = check_fork(wait_once, &place);
    await_waiting(2);
    CHECK_EQUAL(kill(victim, SIGKILL), 0);
    CHECK_EQUAL(check_wait(victim), -SIGKILL);
    CHECK_EQUAL(check_wait(other), 0);
    CHECK_EQUAL(shared->result[0], -EPIPE);
    CHECK(mpf_barrier_broken(barrier));
    mpf_barrier_reset(arena, barrier);
    CHECK(!mpf_barrier_broken(barrier));
    CHECK_EQUAL(mpf_barrier_waiting(barrier), 0);
    finish(&ref);
}

static void test_killed_after_waiting(void) {
    int when = 1;
    setup(2);
    pid_t victim = check_fork(wait_then_die, &when);
    CHECK(arrive(patient()) >= 0);
    CHECK_EQUAL(arrive(patient()), -EPIPE);
    CHECK_EQUAL(check_wait(victim), -SIGKILL);
    finish(&ref);
}

static void come_once(void *unused) {
    (void)unused;
    CHECK(arrive(patient()) >= 0);
    mpf_participant_leave_all();
}

/* Who ends in order does not break it; and many more processes than fit in the structure may come one after another. */
static void test_many_who_leave_in_order(void) {
    setup(2);
    for (int i = 0; i < 24; i++) {
        pid_t pid = check_fork(come_once, NULL);
        CHECK(arrive(patient()) >= 0);
        CHECK_EQUAL(check_wait(pid), 0);
    }
    CHECK(!mpf_barrier_broken(barrier));
    finish(&ref);
}

static void come_and_stay(void *unused) {
    (void)unused;
    CHECK(arrive(patient()) >= 0);
    atomic_fetch_add(&shared->done, 1);
    await_flag(&shared->stage, 1);
    mpf_participant_leave_all();
}

static void test_many_at_once(void) {
    pid_t pids[15];
    setup(16);
    for (int i = 0; i < 15; i++)
        pids[i] = check_fork(come_and_stay, NULL);
    CHECK(arrive(patient()) >= 0);
    await_flag(&shared->done, 15);
    tell(&shared->stage, 1);
    for (int i = 0; i < 15; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    CHECK(!mpf_barrier_broken(barrier));
    finish(&ref);
}

static bool round_or_broken(int round) {
    struct mpf_park park = patient();
    bool leader;
    int rc = mpf_barrier_wait(&park, barrier, round % 2, &leader);
    CHECK(rc >= 0 || rc == -EPIPE);
    if (leader)
        mpf_barrier_open(arena, barrier);
    return rc >= 0;
}

static void rounds_for_ever(int index) {
    (void)index;
    for (int round = 0; round_or_broken(round); round++)
        ;
    mpf_participant_leave_all();
}

static void check_after_kill(void) {
    while (mpf_participant_reap(arena) > 0)
        ;
    mpf_barrier_reset(arena, barrier);
    CHECK(!mpf_barrier_broken(barrier));
    CHECK_EQUAL(mpf_barrier_waiting(barrier), 0);
}

static void test_killed_at_random(void) {
    uint64_t random = 6;
    setup(3);
    for (int round = 0; round < 60; round++) {
        crowd_run(&(struct crowd){3, rounds_for_ever}, NULL, 0, &random);
        check_after_kill();
    }
    finish(&ref);
}

#ifdef MPF_DEBUG
/* Where the first of a crowd dies, once it has been let go and so is a member. */
static const char *fatal_point;
static int fatal_nth;

/* Whoever is alive ends its rounds or is told that the barrier is broken. */
static void rounds_or_broken(int index) {
    for (int round = 0; round < 60 && round_or_broken(round); round++)
        if (index == 0 && round == 0 && fatal_point)
            die_at(fatal_point, fatal_nth);
    mpf_participant_leave_all();
}

static void test_killed_at_each_point(void) {
    static const char *points[] = {"barrier.set", "barrier.changed", "barrier.announced", "barrier.open",
                                   "barrier.arrived", "section.logged", "section.set", "section.commit",
                                   "section.committed", "section.left", "park.sleep", "park.woken", "park.wake"};
    int kills = 0;
    setup(3);
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int nth = 1; nth <= 12; nth += 1 + (nth > 6)) {
            fatal_point = points[p];
            fatal_nth = nth;
            kills += crowd_run(&(struct crowd){3, rounds_or_broken}, "no such point", 1, NULL);
            check_after_kill();
        }
    CHECK(kills >= (int)COUNT_OF(points) * 4);
    finish(&ref);
}

static void die_coming(void *unused) {
    (void)unused;
    die_at(fatal_point, fatal_nth);
    arrive(MPF_PARK_INIT(arena, 0));
}

static void test_killed_while_it_comes_for_the_first_time(void) {
    static const char *points[] = {"barrier.set", "barrier.member", "barrier.arrived", "section.committed", "section.left"};
    int place = 0;
    setup(2);
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int nth = 1; nth <= 3; nth++) {
            fatal_point = points[p];
            fatal_nth = nth;
            check_wait(check_fork(die_coming, NULL));
            check_after_kill();
            pid_t pid = check_fork(wait_once, &place);
            CHECK(arrive(patient()) >= 0);
            CHECK_EQUAL(check_wait(pid), 0);
        }
    finish(&ref);
}

static void come_and_die(void *unused) {
    (void)unused;
    struct mpf_park past = MPF_PARK_INIT(arena, mpf_clock_now() + MS);
    bool leader;
    mpf_barrier_wait(&past, barrier, false, &leader);
    mpf_barrier_reset(arena, barrier);
    raise(SIGKILL);
}

static void test_reaper_killed(void) {
    static const char *points[] = {"barrier.set", "section.commit", "section.committed", "barrier.changed"};
    setup(2);
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        kill_reaper_at(points[p], 1, come_and_die, NULL);
        CHECK(mpf_barrier_broken(barrier));
        check_after_kill();
    }
    finish(&ref);
}
#endif

CHECK_MAIN({"alone", test_alone}, {"deadline_breaks", test_deadline_breaks}, {"processes", test_processes},
           {"threads", test_threads}, {"more_threads_than_parties", test_more_threads_than_parties},
           {"action_runs_before_anyone_is_let_go", test_action_runs_before_anyone_is_let_go},
           {"deadline_during_the_action", test_deadline_during_the_action},
           {"failed_action_breaks", test_failed_action_breaks}, {"reset_and_abort", test_reset_and_abort},
           {"interrupted_leaves", test_interrupted_leaves}, {"killed_while_waiting", test_killed_while_waiting},
           {"killed_after_waiting", test_killed_after_waiting},
           {"many_who_leave_in_order", test_many_who_leave_in_order}, {"many_at_once", test_many_at_once},
#ifdef MPF_DEBUG
           {"killed_at_each_point", test_killed_at_each_point},
           {"killed_while_it_comes_for_the_first_time", test_killed_while_it_comes_for_the_first_time},
           {"reaper_killed", test_reaper_killed},
#endif
           {"killed_at_random", test_killed_at_random})
