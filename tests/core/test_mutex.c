/* Lock and RLock: exclusion, ownership, waiting, and every death. */
#include "sync_check.h"

#include "sync/mutex.h"

static struct mpf_mutex_shm *mutex;
static struct mpf_ref ref;

static struct shared {
    uint64_t counter; /* guarded by the mutex */
    _Atomic int stage;
    _Atomic int result;
    _Atomic int resumed, released;
} *shared;

static void setup(void) {
    start();
    mutex = make(MPF_BLOCK_MUTEX, sizeof *mutex, &ref);
    shared = check_shared(sizeof *shared);
}

static int acquire(struct mpf_park park) { return mpf_mutex_acquire(&park, mutex, 7); }

static void test_ownership(void) {
    setup();
    CHECK(!mpf_mutex_locked(mutex));
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), -EPERM);
    CHECK_EQUAL(mpf_mutex_try(arena, mutex, 7), 0);
    CHECK(mpf_mutex_locked(mutex));
    CHECK_EQUAL(mpf_mutex_owner(mutex), arena->self);
    CHECK(mpf_mutex_mine(arena, mutex, 7));
    CHECK(!mpf_mutex_mine(arena, mutex, 8));
    CHECK_EQUAL(mpf_mutex_try(arena, mutex, 7), -EAGAIN);
    CHECK_EQUAL(acquire(MPF_PARK_INIT(arena, 0)), -ETIMEDOUT);
    CHECK_EQUAL(acquire(within(30 * MS)), -ETIMEDOUT);
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    CHECK_EQUAL(mpf_mutex_owner(mutex), 0);
    CHECK(!mpf_mutex_mine(arena, mutex, 7));
    finish(&ref);
}

static void test_recursion(void) {
    setup();
    struct mpf_park park = patient();
    for (int i = 0; i < 5; i++)
        CHECK_EQUAL(mpf_rmutex_acquire(&park, mutex, 7), 0);
    CHECK_EQUAL(mpf_rmutex_try(arena, mutex, 8), -EAGAIN);
    CHECK_EQUAL(mpf_rmutex_release(arena, mutex, 8), -EPERM);
    for (int i = 0; i < 5; i++) {
        CHECK(mpf_mutex_mine(arena, mutex, 7));
        CHECK_EQUAL(mpf_rmutex_release(arena, mutex, 7), 0);
    }
    CHECK_EQUAL(mpf_rmutex_release(arena, mutex, 7), -EPERM);
    CHECK_EQUAL(mpf_rmutex_try(arena, mutex, 8), 0);
    CHECK_EQUAL(mpf_rmutex_release(arena, mutex, 8), 0);
    finish(&ref);
}

static void release_it(void *unused) {
    (void)unused;
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
}

static void test_released_by_another_process(void) {
    setup();
    CHECK_EQUAL(mpf_mutex_try(arena, mutex, 7), 0);
    CHECK_EQUAL(check_wait(check_fork(release_it, NULL)), 0);
    CHECK_EQUAL(mpf_mutex_try(arena, mutex, 7), 0);
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    finish(&ref);
}

static void count(int rounds) {
    for (int i = 0; i < rounds; i++) {
        CHECK(acquire(patient()) >= 0);
        shared->counter++;
        CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    }
}

static void *count_in_thread(void *unused) {
    count(5000);
    return unused;
}

static void test_threads_exclude(void) {
    setup();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, count_in_thread, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(shared->counter, 20000);
    finish(&ref);
}

static void count_in_child(int index) {
    (void)index;
    count(5000);
}

static void test_processes_exclude(void) {
    setup();
    crowd_run(&(struct crowd){4, count_in_child}, "no such point", 1, NULL);
    CHECK_EQUAL(shared->counter, 20000);
    finish(&ref);
}

static void hold_and(void (*then)(void)) {
    CHECK_EQUAL(mpf_mutex_try(arena, mutex, 7), 0);
    tell(&shared->stage, 1);
    then();
}

static void die(void) { raise(SIGKILL); }
static void stop(void) { raise(SIGSTOP); }
static void leave(void) {
    mpf_participant_leave_all();
    _exit(0);
}

static pid_t fork_holder(void (*then)(void)) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        hold_and(then);
        _exit(0);
    }
    await_flag(&shared->stage, 1);
    return pid;
}

static void test_dead_owner(void) {
    setup();
    pid_t pid = fork_holder(die);
    CHECK_EQUAL(acquire(patient()), 1);
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    CHECK_EQUAL(acquire(patient()), 0);
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    CHECK_EQUAL(check_wait(pid), -SIGKILL);
    finish(&ref);
}

static void test_dead_owner_found_by_try(void) {
    setup();
    CHECK_EQUAL(check_wait(fork_holder(die)), -SIGKILL);
    CHECK_EQUAL(mpf_mutex_try(arena, mutex, 7), 1);
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    finish(&ref);
}

static void wait_for_dead(int index) {
    (void)index;
    int rc = acquire(patient());
    CHECK(rc >= 0);
    atomic_fetch_add(&shared->result, rc);
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
}

static void hold_until_told(void) {
    await_flag(&shared->stage, 2);
    die();
}

/* The sleepers are past their short sleep: only the death can wake them. */
static void test_dead_owner_wakes_long_sleepers(void) {
    setup();
    pid_t owner = fork_holder(hold_until_told);
    pid_t waiters[3];
    for (int i = 0; i < 3; i++) {
        waiters[i] = fork();
        if (waiters[i] == 0) {
            wait_for_dead(i);
            _exit(0);
        }
    }
    for (int i = 0; i < 3; i++)
        await_asleep(waiters[i]);
    usleep(60000);
    for (int i = 0; i < 3; i++)
        await_asleep(waiters[i]);
    tell(&shared->stage, 2);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(check_wait(waiters[i]), 0);
    CHECK_EQUAL(shared->result, 1);
    CHECK_EQUAL(check_wait(owner), -SIGKILL);
    finish(&ref);
}

static void test_stopped_owner_is_not_dead(void) {
    setup();
    pid_t pid = fork_holder(stop);
    CHECK_EQUAL(acquire(within(80 * MS)), -ETIMEDOUT);
    CHECK_EQUAL(kill(pid, SIGKILL), 0);
    CHECK_EQUAL(acquire(patient()), 1);
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    CHECK_EQUAL(check_wait(pid), -SIGKILL);
    finish(&ref);
}

static void test_owner_that_left_keeps_it(void) {
    setup();
    CHECK_EQUAL(check_wait(fork_holder(leave)), 0);
    CHECK_EQUAL(acquire(within(80 * MS)), -ETIMEDOUT);
    CHECK(mpf_mutex_locked(mutex));
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    CHECK_EQUAL(acquire(patient()), 0);
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    finish(&ref);
}

static void on_alarm(int signal) { (void)signal; }

static void gil_off(void *unused) {
    (void)unused;
    atomic_fetch_add(&shared->released, 1);
}

static void gil_on(void *unused) {
    (void)unused;
    atomic_fetch_add(&shared->resumed, 1);
}

static int interrupt(void *unused) {
    (void)unused;
    CHECK_EQUAL(shared->resumed, shared->released);
    return atomic_load(&shared->stage) == 2;
}

static void *interrupter(void *waiter) {
    for (int i = 0; i < 200 && !atomic_load(&shared->result); i++) {
        if (i == 10)
            tell(&shared->stage, 2);
        pthread_kill(*(pthread_t *)waiter, SIGALRM);
        usleep(1000);
    }
    return NULL;
}

static void test_interrupted(void) {
    setup();
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    CHECK_EQUAL(mpf_mutex_try(arena, mutex, 9), 0);
    pthread_t self = pthread_self(), thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, interrupter, &self), 0);
    struct mpf_park park = patient();
    park.release = gil_off;
    park.resume = gil_on;
    park.interrupt = interrupt;
    CHECK_EQUAL(mpf_mutex_acquire(&park, mutex, 7), -EINTR);
    tell(&shared->result, 1);
    pthread_join(thread, NULL);
    CHECK(shared->released > 0);
    CHECK_EQUAL(shared->resumed, shared->released);
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    finish(&ref);
}

/* Holds the mutex until somebody waits for it. Bounded: the others may have ended, or died. */
static void hold_until_wanted(void) {
    for (int i = 0; i < 1000 && !(atomic_load(&mutex->word) & MPF_MUTEX_WAITERS); i++)
        sched_yield();
}

static void worker(int index) {
    (void)index;
    for (int i = 0; i < 60; i++) {
        CHECK(acquire(patient()) >= 0);
        shared->counter++;
        if (i % 4 == 0)
            hold_until_wanted();
        CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    }
}

static void check_usable(void) {
    CHECK(acquire(patient()) >= 0);
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    CHECK_EQUAL(acquire(patient()), 0);
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
}

static void endless(int index) {
    for (;;) {
        worker(index);
        if (index)
            return;
    }
}

static void test_killed_at_random(void) {
    uint64_t random = 1;
    setup();
    for (int round = 0; round < 60; round++) {
        crowd_run(&(struct crowd){3, endless}, NULL, 0, &random);
        check_usable();
    }
    finish(&ref);
}

#ifdef MPF_DEBUG
static void test_killed_at_each_point(void) {
    static const char *points[] = {"mutex.taken", "mutex.acquired", "mutex.release", "mutex.released", "mutex.wake",
                                   "mutex.nobody", "mutex.announced", "park.sleep", "park.woken", "park.wake"};
    int kills = 0;
    setup();
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int nth = 1; nth <= 21; nth += 10) {
            kills += crowd_run(&(struct crowd){3, worker}, points[p], nth, NULL);
            check_usable();
        }
    CHECK(kills >= (int)COUNT_OF(points));
    finish(&ref);
}

static void recurse(int index) {
    for (int i = 0; i < 60; i++) {
        struct mpf_park park = patient();
        for (int depth = 0; depth < 3; depth++)
            CHECK(mpf_rmutex_acquire(&park, mutex, 100 + index) >= 0);
        shared->counter++;
        for (int depth = 0; depth < 3; depth++)
            CHECK_EQUAL(mpf_rmutex_release(arena, mutex, 100 + index), 0);
    }
}

static void test_recursive_killed(void) {
    static const char *points[] = {"mutex.taken", "mutex.acquired", "rmutex.release", "mutex.release", "mutex.released"};
    setup();
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int nth = 1; nth <= 3; nth++) {
            crowd_run(&(struct crowd){3, recurse}, points[p], nth, NULL);
            check_usable();
        }
    finish(&ref);
}

static void hold_and_die(void *unused) {
    (void)unused;
    hold_and(die);
}

static void test_reaper_killed(void) {
    setup();
    kill_reaper_at("mutex.recover", 1, hold_and_die, NULL);
    CHECK_EQUAL(acquire(patient()), 1);
    CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0);
    finish(&ref);
}
#endif

CHECK_MAIN({"ownership", test_ownership}, {"recursion", test_recursion},
           {"released_by_another_process", test_released_by_another_process}, {"threads_exclude", test_threads_exclude},
           {"processes_exclude", test_processes_exclude}, {"dead_owner", test_dead_owner},
           {"dead_owner_found_by_try", test_dead_owner_found_by_try},
           {"dead_owner_wakes_long_sleepers", test_dead_owner_wakes_long_sleepers},
           {"stopped_owner_is_not_dead", test_stopped_owner_is_not_dead},
           {"owner_that_left_keeps_it", test_owner_that_left_keeps_it}, {"interrupted", test_interrupted},
#ifdef MPF_DEBUG
           {"killed_at_each_point", test_killed_at_each_point}, {"recursive_killed", test_recursive_killed},
           {"reaper_killed", test_reaper_killed},
#endif
           {"killed_at_random", test_killed_at_random})
