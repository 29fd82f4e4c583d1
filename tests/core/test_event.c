/* Event: whoever waits is let go by a set, also one that is cleared at once, also one in a signal handler. */
#include "sync_check.h"

#include <sys/time.h>

#include "sync/event.h"

static struct mpf_event_shm *event;
static struct mpf_ref ref;
static _Atomic int *turns;

static void setup(void) {
    start();
    event = make(MPF_BLOCK_EVENT, sizeof *event, &ref);
    turns = check_shared(sizeof *turns);
}

static int wait_for(struct mpf_park park) { return mpf_event_wait(&park, event); }

static void test_flag(void) {
    setup();
    CHECK(!mpf_event_is_set(event));
    CHECK_EQUAL(wait_for(MPF_PARK_INIT(arena, 0)), -ETIMEDOUT);
    CHECK_EQUAL(wait_for(within(30 * MS)), -ETIMEDOUT);
    mpf_event_set(event);
    mpf_event_set(event);
    CHECK(mpf_event_is_set(event));
    CHECK_EQUAL(wait_for(MPF_PARK_INIT(arena, 0)), 0);
    mpf_event_clear(event);
    CHECK(!mpf_event_is_set(event));
    CHECK_EQUAL(wait_for(MPF_PARK_INIT(arena, 0)), -ETIMEDOUT);
    finish(&ref);
}

static void wait_patiently(void *unused) {
    (void)unused;
    CHECK_EQUAL(wait_for(patient()), 0);
}

static void test_set_then_clear_lets_all_go(void) {
    setup();
    for (int wait_ms = 0; wait_ms <= 60; wait_ms += 60) {
        pid_t pids[4];
        for (int i = 0; i < 4; i++)
            pids[i] = check_fork(wait_patiently, NULL);
        for (int i = 0; i < 4; i++)
            await_asleep(pids[i]);
        usleep((useconds_t)wait_ms * 1000);
        mpf_event_set(event);
        mpf_event_clear(event);
        for (int i = 0; i < 4; i++)
            CHECK_EQUAL(check_wait(pids[i]), 0);
    }
    finish(&ref);
}

static void on_alarm(int signal) {
    (void)signal;
    mpf_event_set(event);
}

static void test_set_in_a_handler(void) {
    setup();
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    for (int i = 0; i < 20; i++) {
        struct itimerval soon = {.it_value = {.tv_usec = 1 + i * 100}};
        setitimer(ITIMER_REAL, &soon, NULL);
        CHECK_EQUAL(wait_for(patient()), 0);
        mpf_event_clear(event);
    }
    finish(&ref);
}

static void *ping(void *unused) {
    for (int i = 0; i < 2000; i++) {
        mpf_event_set(event);
        while (atomic_load(turns) <= i)
            sched_yield();
    }
    return unused;
}

static void test_threads(void) {
    setup();
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, ping, NULL), 0);
    for (int i = 0; i < 2000; i++) {
        CHECK_EQUAL(wait_for(patient()), 0);
        mpf_event_clear(event);
        atomic_fetch_add(turns, 1);
    }
    pthread_join(thread, NULL);
    finish(&ref);
}

/* Worker 0 and the last one set and clear, the others wait for their share of settings. */
static void exchange(int index) {
    for (int i = 0; i < 60; i++) {
        if (index == 0) {
            mpf_event_set(event);
            mpf_event_clear(event);
        } else if (index == 3) {
            while (atomic_load(turns) < 120) {
                mpf_event_set(event);
                sched_yield();
                mpf_event_clear(event);
            }
        } else {
            CHECK_EQUAL(wait_for(patient()), 0);
            atomic_fetch_add(turns, 1);
        }
    }
}

static void exchange_victim_waits(int index) {
    if (index == 0)
        for (;;)
            wait_for(patient());
    exchange(index);
}

static int check_killed(const char *point, int nth, uint64_t *random) {
    atomic_store(turns, 0);
    int kills = crowd_run(&(struct crowd){4, exchange}, point, nth, random);
    atomic_store(turns, 0);
    if (point && strncmp(point, "park", 4) != 0)
        return kills;
    return kills + crowd_run(&(struct crowd){4, exchange_victim_waits}, NULL, 0, random);
}

static void test_killed_at_random(void) {
    uint64_t random = 4;
    setup();
    for (int round = 0; round < 40; round++)
        check_killed(NULL, 0, &random);
    finish(&ref);
}

#ifdef MPF_DEBUG
static void test_killed_at_each_point(void) {
    static const char *points[] = {"event.set", "park.wake"};
    int kills = 0;
    setup();
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int nth = 1; nth <= 9; nth += 4) {
            uint64_t random = (uint64_t)nth;
            kills += check_killed(points[p], nth, &random);
        }
    CHECK(kills >= (int)COUNT_OF(points));
    finish(&ref);
}

static void set_and_die(void *unused) {
    (void)unused;
    die_at("event.set", 1);
    mpf_event_set(event);
}

static void test_setter_killed_before_its_wake(void) {
    setup();
    for (int wait_ms = 0; wait_ms <= 60; wait_ms += 60) {
        pid_t first = check_fork(wait_patiently, NULL), second = check_fork(wait_patiently, NULL);
        await_asleep(first);
        await_asleep(second);
        usleep((useconds_t)wait_ms * 1000);
        CHECK_EQUAL(check_wait(check_fork(set_and_die, NULL)), -SIGKILL);
        CHECK_EQUAL(check_wait(first), 0);
        CHECK_EQUAL(check_wait(second), 0);
        mpf_event_clear(event);
    }
    finish(&ref);
}
#endif

CHECK_MAIN({"flag", test_flag}, {"set_then_clear_lets_all_go", test_set_then_clear_lets_all_go},
           {"set_in_a_handler", test_set_in_a_handler}, {"threads", test_threads},
#ifdef MPF_DEBUG
           {"killed_at_each_point", test_killed_at_each_point},
           {"setter_killed_before_its_wake", test_setter_killed_before_its_wake},
#endif
           {"killed_at_random", test_killed_at_random})
