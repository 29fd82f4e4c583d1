/* Parking: deadlines, interruptions, wake-ups, and hearing of every death without a timeout. */
#include "sync_check.h"

#include <sys/resource.h>

static _Atomic uint32_t *word;
static struct mpf_ref ref;
static _Atomic int *stage;

static void setup(void) {
    start();
    word = make(MPF_BLOCK_RAW, sizeof *word, &ref);
    stage = check_shared(sizeof *stage);
}

static void test_past_deadline_never_sleeps(void) {
    setup();
    struct mpf_park park = MPF_PARK_INIT(arena, 0);
    CHECK_EQUAL(mpf_park(&park, word, 0), -ETIMEDOUT);
    park = within(-1);
    CHECK_EQUAL(mpf_park(&park, word, 0), -ETIMEDOUT);
    CHECK(!park.released);
    finish(&ref);
}

static void test_changed_word_never_sleeps(void) {
    setup();
    struct mpf_park park = patient();
    atomic_store(word, 5);
    CHECK_EQUAL(mpf_park(&park, word, 4), 0);
    CHECK(!park.recheck);
    finish(&ref);
}

static void test_deadline(void) {
    setup();
    for (int64_t ms = 5; ms <= 60; ms += 55) {
        struct mpf_park park = within(ms * MS);
        int rc;
        while ((rc = mpf_park(&park, word, 0)) == 0)
            CHECK(park.recheck);
        CHECK_EQUAL(rc, -ETIMEDOUT);
        CHECK(mpf_clock_now() >= park.deadline);
    }
    finish(&ref);
}

static void sleep_until_changed(void *unused) {
    (void)unused;
    struct mpf_park park = patient();
    while (atomic_load(word) == 0)
        CHECK_EQUAL(mpf_park(&park, word, 0), 0);
    CHECK(!park.recheck);
}

static void test_wake(void) {
    setup();
    for (int ms = 0; ms <= 60; ms += 60) {
        atomic_store(word, 0);
        pid_t pid = check_fork(sleep_until_changed, NULL);
        await_asleep(pid);
        usleep((useconds_t)ms * 1000);
        atomic_store(word, 1);
        mpf_park_wake(word, 1);
        CHECK_EQUAL(check_wait(pid), 0);
    }
    finish(&ref);
}

/* Past its first look a sleeper that nothing happens to does not run at all. */
static void sleep_and_count(void *unused) {
    (void)unused;
    struct mpf_park park = patient();
    struct rusage before, after;
    while (!park.watching)
        CHECK_EQUAL(mpf_park(&park, word, 0), 0);
    getrusage(RUSAGE_THREAD, &before);
    tell(stage, 1);
    while (atomic_load(word) == 0)
        CHECK_EQUAL(mpf_park(&park, word, 0), 0);
    getrusage(RUSAGE_THREAD, &after);
    CHECK(after.ru_nvcsw - before.ru_nvcsw <= 3);
}

static void test_sleeps_without_a_timeout(void) {
    setup();
    pid_t pid = check_fork(sleep_and_count, NULL);
    await_flag(stage, 1);
    usleep(400000);
    atomic_store(word, 1);
    mpf_park_wake(word, 1);
    CHECK_EQUAL(check_wait(pid), 0);
    finish(&ref);
}

static void sleep_until_recheck(void *unused) {
    (void)unused;
    struct mpf_park park = patient();
    while (!park.watching)
        CHECK_EQUAL(mpf_park(&park, word, 0), 0);
    atomic_fetch_add(stage, 1);
    do
        CHECK_EQUAL(mpf_park(&park, word, 0), 0);
    while (!park.recheck);
    atomic_fetch_add(stage, 1);
}

static void live_until_killed(void *unused) {
    (void)unused;
    for (;;)
        pause();
}

static void test_every_sleeper_hears_of_a_death(void) {
    setup();
    pid_t victim = check_fork(live_until_killed, NULL), pids[3];
    for (int i = 0; i < 3; i++)
        pids[i] = check_fork(sleep_until_recheck, NULL);
    await_flag(stage, 3);
    for (int i = 0; i < 3; i++)
        await_asleep(pids[i]);
    CHECK_EQUAL(kill(victim, SIGKILL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    CHECK_EQUAL(check_wait(victim), -SIGKILL);
    finish(&ref);
}

static int released, resumed, interrupted;

static void off(void *unused) {
    (void)unused;
    CHECK_EQUAL(released, resumed);
    released++;
}

static void on(void *unused) {
    (void)unused;
    resumed++;
    CHECK_EQUAL(released, resumed);
}

static int third_time(void *unused) {
    (void)unused;
    CHECK_EQUAL(released, resumed);
    return ++interrupted == 3;
}

static void test_interrupt_comes_regularly_and_resumed(void) {
    setup();
    struct mpf_park park = patient();
    park.release = off;
    park.resume = on;
    park.interrupt = third_time;
    park.interrupt_every = 2 * MS;
    int rc;
    while ((rc = mpf_park(&park, word, 0)) == 0)
        ;
    mpf_park_finish(&park);
    CHECK_EQUAL(rc, -EINTR);
    CHECK_EQUAL(interrupted, 3);
    CHECK_EQUAL(released, 3);
    CHECK_EQUAL(resumed, 3);
    finish(&ref);
}

static _Atomic int *signalled;

static int was_signalled(void *unused) {
    (void)unused;
    atomic_fetch_add(stage, 1);
    return atomic_load(signalled);
}

static void signal_along_with_a_wake(void *unused) {
    (void)unused;
    struct mpf_park park = patient();
    park.release = off;
    park.resume = on;
    park.interrupt = was_signalled;
    int rc;
    while ((rc = mpf_park(&park, word, 0)) == 0)
        ;
    mpf_park_finish(&park);
    CHECK_EQUAL(rc, -EINTR);
}

static void test_signal_that_comes_with_a_wake_is_not_lost(void) {
    setup();
    signalled = check_shared(sizeof *signalled);
    pid_t pid = check_fork(signal_along_with_a_wake, NULL);
    await_flag(stage, 1); /* asked as the short sleeps ended: asks no more by itself */
    await_asleep(pid);
    atomic_store(signalled, 1);
    CHECK_EQUAL(mpf_park_wake(word, 1), 1);
    CHECK_EQUAL(check_wait(pid), 0);
    finish(&ref);
}

static int has_ended(void *unused) {
    (void)unused;
    return atomic_load(signalled);
}

static void sleep_until_the_end(void *unused) {
    (void)unused;
    struct mpf_park park = patient();
    park.interrupt = has_ended;
    park.interrupt_roused = true;
    while (!park.watching)
        CHECK_EQUAL(mpf_park(&park, word, 0), 0);
    tell(stage, 1);
    int rc;
    while ((rc = mpf_park(&park, word, 0)) == 0)
        ;
    mpf_park_finish(&park);
    CHECK_EQUAL(rc, -EINTR);
}

static void test_roused_sleepers_look_for_interrupts(void) {
    setup();
    signalled = check_shared(sizeof *signalled);
    for (int asleep = 0; asleep < 2; asleep++) {
        atomic_store(stage, 0);
        atomic_store(signalled, 0);
        pid_t pid = check_fork(sleep_until_the_end, NULL);
        await_flag(stage, 1);
        if (asleep)
            await_asleep(pid);
        atomic_store(signalled, 1);
        mpf_participant_rouse(arena);
        CHECK_EQUAL(check_wait(pid), 0);
    }
    finish(&ref);
}

CHECK_MAIN({"past_deadline_never_sleeps", test_past_deadline_never_sleeps},
           {"changed_word_never_sleeps", test_changed_word_never_sleeps}, {"deadline", test_deadline}, {"wake", test_wake},
           {"sleeps_without_a_timeout", test_sleeps_without_a_timeout},
           {"every_sleeper_hears_of_a_death", test_every_sleeper_hears_of_a_death},
           {"interrupt_comes_regularly_and_resumed", test_interrupt_comes_regularly_and_resumed},
           {"signal_that_comes_with_a_wake_is_not_lost", test_signal_that_comes_with_a_wake_is_not_lost},
           {"roused_sleepers_look_for_interrupts", test_roused_sleepers_look_for_interrupts})
