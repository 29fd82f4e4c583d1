/* Eventcounts: nobody sleeps through a change, and nobody is woken for nothing. */
#include "sync_check.h"

#include "sync/eventcount.h"

struct shared {
    struct mpf_eventcount_shm ec;
    _Atomic int tickets; /* what the sleepers wait for */
    _Atomic int taken;
    _Atomic int wakes;
};

static struct shared *shared;
static struct mpf_ref ref;

static void setup(void) {
    start();
    shared = make(MPF_BLOCK_RAW, sizeof *shared, &ref);
}

static bool take(void) {
    int seen = atomic_load(&shared->tickets);
    while (seen > 0)
        if (atomic_compare_exchange_weak(&shared->tickets, &seen, seen - 1)) {
            atomic_fetch_add(&shared->taken, 1);
            return true;
        }
    return false;
}

static void take_patiently(void) {
    struct mpf_park park = patient();
    while (!take()) {
        struct mpf_eventcount_key key = mpf_eventcount_prepare(&shared->ec);
        if (atomic_load(&shared->tickets) > 0) {
            mpf_eventcount_finish(&shared->ec, key);
            continue;
        }
        CHECK_EQUAL(mpf_eventcount_wait(&park, &shared->ec, key), 0);
        atomic_fetch_add(&shared->wakes, 1);
    }
    mpf_park_finish(&park);
}

static void take_one(void *unused) {
    (void)unused;
    take_patiently();
}

static void give(int count) {
    atomic_fetch_add(&shared->tickets, count);
    mpf_eventcount_notify(&shared->ec, count);
}

static uint32_t sleepers(void) { return mpf_eventcount_sleepers(atomic_load(&shared->ec.state)); }

static void test_nobody_sleeps(void) {
    setup();
    uint32_t before = atomic_load(&shared->ec.signal);
    for (int i = 0; i < 10; i++)
        give(1);
    CHECK_EQUAL(atomic_load(&shared->ec.signal), before); /* no wake, hence no system call */
    finish(&ref);
}

static void test_one_wake_for_each(void) {
    pid_t pids[3];
    setup();
    for (int i = 0; i < 3; i++) {
        pids[i] = check_fork(take_one, NULL);
        await_asleep(pids[i]);
    }
    for (int i = 0; i < 3; i++)
        give(1);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    CHECK_EQUAL(atomic_load(&shared->taken), 3);
    CHECK_EQUAL(sleepers(), 0);
    finish(&ref);
}

/* A sleeper that was woken and does not run yet costs no further wake; one that comes after it gets its own. */
static void test_woken_is_not_woken_again(void) {
    setup();
    pid_t first = check_fork(take_one, NULL);
    await_asleep(first);
    kill(first, SIGSTOP);
    give(1);
    uint32_t signal = atomic_load(&shared->ec.signal);
    for (int i = 0; i < 5; i++)
        mpf_eventcount_notify(&shared->ec, 1);
    CHECK_EQUAL(atomic_load(&shared->ec.signal), signal);
    CHECK(take()); /* the stopped one comes too late */
    pid_t second = check_fork(take_one, NULL);
    await_asleep(second);
    give(1);
    CHECK_EQUAL(check_wait(second), 0);
    kill(first, SIGCONT);
    give(1);
    CHECK_EQUAL(check_wait(first), 0);
    CHECK_EQUAL(sleepers(), 0);
    finish(&ref);
}

/* The dead are not counted for ever, and the living are not forgotten. */
static void test_recovery(void) {
    setup();
    pid_t dead = check_fork(take_one, NULL), alive = check_fork(take_one, NULL);
    await_asleep(dead);
    await_asleep(alive);
    kill(dead, SIGKILL);
    CHECK_EQUAL(check_wait(dead), -SIGKILL);
    mpf_eventcount_recover(&shared->ec);
    mpf_eventcount_recover(&shared->ec);
    while (mpf_participant_reap(arena) > 0)
        ;
    give(1);
    CHECK_EQUAL(check_wait(alive), 0);
    CHECK_EQUAL(sleepers(), 0);
    finish(&ref);
}

#define ROUNDS 3000

static void *taker(void *unused) {
    for (int i = 0; i < ROUNDS; i++)
        take_patiently();
    return unused;
}

static void *giver(void *unused) {
    for (int i = 0; i < ROUNDS; i++) {
        give(1);
        if (i % 3 == 0)
            sched_yield();
    }
    return unused;
}

static void test_threads(void) {
    pthread_t takers[3], givers[3];
    setup();
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(pthread_create(&takers[i], NULL, taker, NULL), 0);
        CHECK_EQUAL(pthread_create(&givers[i], NULL, giver, NULL), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(takers[i], NULL);
        pthread_join(givers[i], NULL);
    }
    CHECK_EQUAL(atomic_load(&shared->taken), 3 * ROUNDS);
    CHECK_EQUAL(sleepers(), 0);
    finish(&ref);
}

CHECK_MAIN({"nobody_sleeps", test_nobody_sleeps}, {"one_wake_for_each", test_one_wake_for_each},
           {"woken_is_not_woken_again", test_woken_is_not_woken_again}, {"recovery", test_recovery},
           {"threads", test_threads})
