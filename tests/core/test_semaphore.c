/* Counting semaphore: no permit and no wake-up is lost, whoever dies. */
#include "sync_check.h"

#include "sync/semaphore.h"

static struct mpf_semaphore_shm *semaphore;
static struct mpf_ref ref;
static _Atomic int *taken;

static void setup(uint32_t value) {
    start();
    semaphore = make(MPF_BLOCK_SEMAPHORE, sizeof *semaphore, &ref);
    mpf_semaphore_init(semaphore, value);
    taken = check_shared(sizeof *taken);
}

static int acquire(struct mpf_park park) { return mpf_semaphore_acquire(&park, semaphore); }

static void test_counting(void) {
    setup(2);
    CHECK_EQUAL(mpf_semaphore_value(semaphore), 2);
    CHECK_EQUAL(mpf_semaphore_try(semaphore), 0);
    CHECK_EQUAL(acquire(MPF_PARK_INIT(arena, 0)), 0);
    CHECK_EQUAL(mpf_semaphore_try(semaphore), -EAGAIN);
    CHECK_EQUAL(acquire(MPF_PARK_INIT(arena, 0)), -ETIMEDOUT);
    CHECK_EQUAL(acquire(within(30 * MS)), -ETIMEDOUT);
    CHECK_EQUAL(mpf_semaphore_value(semaphore), 0);
    CHECK_EQUAL(mpf_semaphore_release(semaphore, 3), 0);
    CHECK_EQUAL(mpf_semaphore_value(semaphore), 3);
    finish(&ref);
}

static void test_overflow(void) {
    setup(MPF_SEMAPHORE_VALUE_MAX - 1);
    CHECK_EQUAL(mpf_semaphore_release(semaphore, 2), -EOVERFLOW);
    CHECK_EQUAL(mpf_semaphore_release(semaphore, UINT32_MAX), -EOVERFLOW);
    CHECK_EQUAL(mpf_semaphore_release(semaphore, 1), 0);
    CHECK_EQUAL(mpf_semaphore_release(semaphore, 1), -EOVERFLOW);
    CHECK_EQUAL(mpf_semaphore_value(semaphore), MPF_SEMAPHORE_VALUE_MAX);
    finish(&ref);
}

static void *consume(void *unused) {
    for (int i = 0; i < 2000; i++)
        CHECK_EQUAL(acquire(patient()), 0);
    return unused;
}

static void *produce(void *unused) {
    for (int i = 0; i < 1000; i++)
        CHECK_EQUAL(mpf_semaphore_release(semaphore, 2), 0);
    return unused;
}

static void test_threads(void) {
    setup(0);
    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, i % 2 ? produce : consume, NULL), 0);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(mpf_semaphore_value(semaphore), 0);
    finish(&ref);
}

static void take_one(void *unused) {
    (void)unused;
    CHECK_EQUAL(acquire(patient()), 0);
    atomic_fetch_add(taken, 1);
}

/* One release of n lets n sleepers go, and no more. */
static void test_one_release_for_many(void) {
    setup(0);
    pid_t pids[5];
    for (int i = 0; i < 5; i++)
        pids[i] = check_fork(take_one, NULL);
    for (int i = 0; i < 5; i++)
        await_asleep(pids[i]);
    CHECK_EQUAL(mpf_semaphore_release(semaphore, 4), 0);
    await_flag(taken, 4);
    CHECK_EQUAL(mpf_semaphore_value(semaphore), 0);
    CHECK_EQUAL(mpf_semaphore_release(semaphore, 1), 0);
    for (int i = 0; i < 5; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    finish(&ref);
}

/* Releasing workers 0 and 3, acquiring workers 1, 2: there are always enough permits for those who live. */
static void exchange(int index) {
    for (int i = 0; i < 60; i++) {
        if (index == 1 || index == 2) {
            CHECK_EQUAL(acquire(patient()), 0);
        } else {
            CHECK_EQUAL(mpf_semaphore_release(semaphore, index == 3 ? 3 : 1), 0);
            sched_yield();
        }
    }
}

/* The same with the victim among those who acquire. */
static void exchange_victim_acquires(int index) { exchange(index == 0 ? 1 : index == 1 ? 3 : 2); }

static int check_killed(const char *point, int nth, uint64_t *random) {
    int kills = crowd_run(&(struct crowd){4, exchange}, point, nth, random);
    kills += crowd_run(&(struct crowd){3, exchange_victim_acquires}, point, nth, random);
    while (mpf_semaphore_try(semaphore) == 0)
        ;
    return kills;
}

static void test_killed_at_random(void) {
    uint64_t random = 2;
    setup(0);
    for (int round = 0; round < 40; round++)
        check_killed(NULL, 0, &random);
    finish(&ref);
}

#ifdef MPF_DEBUG
static void test_killed_at_each_point(void) {
    static const char *points[] = {"semaphore.taken", "semaphore.released", "semaphore.announced",
                                   "park.sleep", "park.woken", "park.wake"};
    int kills = 0;
    setup(0);
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int nth = 1; nth <= 21; nth += 5)
            kills += check_killed(points[p], nth, NULL);
    CHECK(kills >= (int)COUNT_OF(points));
    finish(&ref);
}

static void release_and_die(void *unused) {
    (void)unused;
    die_at("semaphore.released", 1);
    mpf_semaphore_release(semaphore, 2);
}

/* Nobody but the death tells the sleepers, short and long, of the permits. */
static void test_releaser_killed_before_its_wake(void) {
    setup(0);
    for (int wait_ms = 0; wait_ms <= 60; wait_ms += 60) {
        pid_t first = check_fork(take_one, NULL), second = check_fork(take_one, NULL);
        await_asleep(first);
        await_asleep(second);
        usleep((useconds_t)wait_ms * 1000);
        CHECK_EQUAL(check_wait(check_fork(release_and_die, NULL)), -SIGKILL);
        CHECK_EQUAL(check_wait(first), 0);
        CHECK_EQUAL(check_wait(second), 0);
    }
    finish(&ref);
}
#endif

CHECK_MAIN({"counting", test_counting}, {"overflow", test_overflow}, {"threads", test_threads},
           {"one_release_for_many", test_one_release_for_many},
#ifdef MPF_DEBUG
           {"killed_at_each_point", test_killed_at_each_point},
           {"releaser_killed_before_its_wake", test_releaser_killed_before_its_wake},
#endif
           {"killed_at_random", test_killed_at_random})
