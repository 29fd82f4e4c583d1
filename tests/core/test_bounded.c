/* Bounded semaphore: permits come back from the dead, once each. */
#include "sync_check.h"

#include "sync/bounded.h"

static struct mpf_bounded_shm *semaphore;
static struct mpf_ref ref;
static _Atomic int *stage;

static void setup(uint32_t value) {
    start();
    semaphore = make(MPF_BLOCK_BOUNDED_SEMAPHORE, mpf_bounded_bytes(), &ref);
    mpf_bounded_init(semaphore, value);
    stage = check_shared(sizeof *stage);
}

static int acquire(struct mpf_park park) { return mpf_bounded_acquire(&park, semaphore); }

static void test_bound(void) {
    setup(2);
    CHECK_EQUAL(mpf_bounded_bound(semaphore), 2);
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), -EOVERFLOW);
    CHECK_EQUAL(mpf_bounded_try(arena, semaphore), 0);
    CHECK_EQUAL(acquire(patient()), 0);
    CHECK_EQUAL(mpf_bounded_value(semaphore), 0);
    CHECK_EQUAL(mpf_bounded_try(arena, semaphore), -EAGAIN);
    CHECK_EQUAL(acquire(within(30 * MS)), -ETIMEDOUT);
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), 0);
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), 0);
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), -EOVERFLOW);
    CHECK_EQUAL(mpf_bounded_value(semaphore), 2);
    finish(&ref);
}

static void hold(void *permits) {
    for (int i = 0; i < *(int *)permits; i++)
        CHECK_EQUAL(mpf_bounded_try(arena, semaphore), 0);
    atomic_fetch_add(stage, 1);
    raise(SIGKILL);
}

/* More holders than fit in the structure itself. */
static void test_many_dead_holders(void) {
    setup(100);
    pid_t pids[20];
    int permits = 3;
    for (int i = 0; i < 20; i++)
        pids[i] = check_fork(hold, &permits);
    for (int i = 0; i < 20; i++)
        CHECK_EQUAL(check_wait(pids[i]), -SIGKILL);
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK_EQUAL(mpf_bounded_value(semaphore), 100);
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), -EOVERFLOW);
    finish(&ref);
}

static void test_waiter_gets_a_dead_holders_permit(void) {
    setup(2);
    int permits = 2;
    pid_t pid = check_fork(hold, &permits);
    await_flag(stage, 1);
    CHECK_EQUAL(acquire(patient()), 0);
    CHECK_EQUAL(mpf_bounded_try(arena, semaphore), 0);
    CHECK_EQUAL(mpf_bounded_try(arena, semaphore), -EAGAIN);
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), 0);
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), 0);
    CHECK_EQUAL(check_wait(pid), -SIGKILL);
    finish(&ref);
}

static void release_and_die(void *unused) {
    (void)unused;
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), 0);
    raise(SIGKILL);
}

/* A permit that somebody else returned is not returned a second time when its holder dies. */
static void test_permit_returned_by_another(void) {
    setup(3);
    CHECK_EQUAL(mpf_bounded_try(arena, semaphore), 0);
    CHECK_EQUAL(mpf_bounded_try(arena, semaphore), 0);
    CHECK_EQUAL(check_wait(check_fork(release_and_die, NULL)), -SIGKILL);
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK_EQUAL(mpf_bounded_value(semaphore), 2);
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), 0);
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), -EOVERFLOW);
    finish(&ref);
}

static void leave_holding(void *unused) {
    (void)unused;
    CHECK_EQUAL(mpf_bounded_try(arena, semaphore), 0);
    mpf_participant_leave_all();
}

static void test_holder_that_left_keeps_it(void) {
    setup(1);
    CHECK_EQUAL(check_wait(check_fork(leave_holding, NULL)), 0);
    CHECK_EQUAL(acquire(within(80 * MS)), -ETIMEDOUT);
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), 0);
    CHECK_EQUAL(acquire(patient()), 0);
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), 0);
    finish(&ref);
}

static void *use_in_thread(void *unused) {
    for (int i = 0; i < 3000; i++) {
        CHECK_EQUAL(acquire(patient()), 0);
        int inside = atomic_fetch_add(stage, 1);
        CHECK(inside < 2);
        atomic_fetch_sub(stage, 1);
        CHECK_EQUAL(mpf_bounded_release(arena, semaphore), 0);
    }
    return unused;
}

static void test_threads(void) {
    setup(2);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, use_in_thread, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(mpf_bounded_value(semaphore), 2);
    finish(&ref);
}

static void worker(int index) {
    (void)index;
    for (int i = 0; i < 60; i++) {
        CHECK_EQUAL(acquire(patient()), 0);
        if (i % 4 == 0)
            sched_yield();
        CHECK_EQUAL(mpf_bounded_release(arena, semaphore), 0);
    }
}

static int check_killed(const char *point, int nth, uint64_t *random) {
    int kills = crowd_run(&(struct crowd){4, worker}, point, nth, random);
    while (mpf_participant_reap(arena) > 0)
        ;
    /* a process of this size of table may have died inside the section: entering repairs it */
    CHECK_EQUAL(mpf_bounded_release(arena, semaphore), -EOVERFLOW);
    CHECK_EQUAL(mpf_bounded_value(semaphore), 2);
    return kills;
}

static void test_killed_at_random(void) {
    uint64_t random = 3;
    setup(2);
    for (int round = 0; round < 50; round++)
        check_killed(NULL, 0, &random);
    finish(&ref);
}

#ifdef MPF_DEBUG
static void test_killed_at_each_point(void) {
    static const char *points[] = {"bounded.set", "bounded.taken", "bounded.released", "bounded.announced", "section.logged",
                                   "section.set", "section.commit", "section.committed", "section.left", "park.sleep",
                                   "park.woken"};
    int kills = 0;
    setup(2);
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int nth = 1; nth <= 8; nth++)
            kills += check_killed(points[p], nth, NULL);
    CHECK(kills >= (int)COUNT_OF(points));
    finish(&ref);
}

static void test_reaper_killed(void) {
    static const char *points[] = {"bounded.set", "section.commit", "section.committed", "bounded.recovered"};
    setup(4);
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        int permits = 2;
        kill_reaper_at(points[p], 1, hold, &permits);
        CHECK_EQUAL(mpf_bounded_release(arena, semaphore), -EOVERFLOW);
        CHECK_EQUAL(mpf_bounded_value(semaphore), 4);
    }
    finish(&ref);
}
#endif

CHECK_MAIN({"bound", test_bound}, {"many_dead_holders", test_many_dead_holders},
           {"waiter_gets_a_dead_holders_permit", test_waiter_gets_a_dead_holders_permit},
           {"permit_returned_by_another", test_permit_returned_by_another},
           {"holder_that_left_keeps_it", test_holder_that_left_keeps_it}, {"threads", test_threads},
#ifdef MPF_DEBUG
           {"killed_at_each_point", test_killed_at_each_point}, {"reaper_killed", test_reaper_killed},
#endif
           {"killed_at_random", test_killed_at_random})
