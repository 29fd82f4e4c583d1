/* Condition: order, deadlines, growth; no notification is lost, whoever dies. */
#include "sync_check.h"

#include "sync/condition.h"
#include "sync/mutex.h"

static struct mpf_condition_shm *condition;
static struct mpf_mutex_shm *mutex;
static struct mpf_ref ref, mutex_ref;

static struct shared {
    uint32_t tokens; /* guarded by the mutex */
    _Atomic int waiting, order, stage;
    _Atomic int place[16];
} *shared;

static void setup(void) {
    start();
    condition = make(MPF_BLOCK_CONDITION, mpf_condition_bytes(), &ref);
    mpf_condition_init(condition);
    mutex = make(MPF_BLOCK_MUTEX, sizeof *mutex, &mutex_ref);
    shared = check_shared(sizeof *shared);
}

static void teardown(void) {
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK_EQUAL(mpf_condition_notify(arena, condition, UINT32_MAX), 0);
    CHECK_EQUAL(mpf_condition_waiters(condition), 0);
    mpf_block_unref(&mutex_ref);
    finish(&ref);
}

static void lock(void) {
    struct mpf_park park = patient();
    CHECK(mpf_mutex_acquire(&park, mutex, 7) >= 0);
}

static void unlock(void) { CHECK_EQUAL(mpf_mutex_release(arena, mutex), 0); }

/* As a user's cond.wait() does it. */
static int wait_locked(struct mpf_park park) {
    uint32_t ticket;
    CHECK_EQUAL(mpf_condition_enlist(arena, condition, &ticket), 0);
    atomic_fetch_add(&shared->waiting, 1);
    unlock();
    int rc = mpf_condition_await(&park, condition, ticket);
    lock();
    return rc;
}

static void test_alone(void) {
    uint32_t ticket;
    setup();
    CHECK_EQUAL(mpf_condition_notify(arena, condition, 1), 0);
    lock();
    CHECK_EQUAL(wait_locked(MPF_PARK_INIT(arena, 0)), -ETIMEDOUT);
    CHECK_EQUAL(wait_locked(within(30 * MS)), -ETIMEDOUT);
    unlock();
    CHECK_EQUAL(mpf_condition_enlist(arena, condition, &ticket), 0);
    CHECK_EQUAL(mpf_condition_waiters(condition), 1);
    CHECK_EQUAL(mpf_condition_notify(arena, condition, 5), 1);
    CHECK_EQUAL(mpf_condition_waiters(condition), 0);
    struct mpf_park park = MPF_PARK_INIT(arena, 0);
    CHECK_EQUAL(mpf_condition_await(&park, condition, ticket), 0);
    teardown();
}

/* More tickets than fit in the structure; given up and notified in any order, each notification reaches the first in line. */
static void test_order_of_tickets(void) {
    uint32_t tickets[40];
    struct mpf_park past = MPF_PARK_INIT(arena, 0);
    setup();
    past.arena = arena;
    for (int i = 0; i < 40; i++)
        CHECK_EQUAL(mpf_condition_enlist(arena, condition, &tickets[i]), 0);
    for (int i = 0; i < 40; i += 4)
        mpf_condition_withdraw(arena, condition, tickets[i]);
    mpf_condition_withdraw(arena, condition, tickets[39]);
    CHECK_EQUAL(mpf_condition_waiters(condition), 29);
    CHECK_EQUAL(mpf_condition_notify(arena, condition, 12), 12); /* 1 2 3, 5 6 7, 9 10 11, 13 14 15 */
    for (int i = 1; i < 39; i++)
        if (i % 4)
            CHECK_EQUAL(mpf_condition_await(&past, condition, tickets[i]), i < 16 ? 0 : -ETIMEDOUT);
    CHECK_EQUAL(mpf_condition_waiters(condition), 0);
    for (int i = 0; i < 40; i++)
        CHECK_EQUAL(mpf_condition_enlist(arena, condition, &tickets[i]), 0);
    CHECK_EQUAL(mpf_condition_notify(arena, condition, UINT32_MAX), 40);
    for (int i = 0; i < 40; i++)
        CHECK_EQUAL(mpf_condition_await(&past, condition, tickets[i]), 0);
    teardown();
}

/* A notification that is given up goes to the next. */
static void test_withdrawn_notification(void) {
    uint32_t first, second;
    setup();
    CHECK_EQUAL(mpf_condition_enlist(arena, condition, &first), 0);
    CHECK_EQUAL(mpf_condition_enlist(arena, condition, &second), 0);
    CHECK_EQUAL(mpf_condition_notify(arena, condition, 1), 1);
    mpf_condition_withdraw(arena, condition, first);
    struct mpf_park past = MPF_PARK_INIT(arena, 0);
    CHECK_EQUAL(mpf_condition_await(&past, condition, second), 0);
    teardown();
}

static void on_alarm(int signal) { (void)signal; }

static int interrupt(void *ticket) {
    (void)ticket;
    mpf_condition_notify(arena, condition, 1); /* comes with the interruption */
    return 1;
}

static void test_interrupted_passes_it_on(void) {
    uint32_t first, second;
    setup();
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    CHECK_EQUAL(mpf_condition_enlist(arena, condition, &first), 0);
    CHECK_EQUAL(mpf_condition_enlist(arena, condition, &second), 0);
    struct mpf_park park = patient();
    park.interrupt = interrupt;
    park.interrupt_every = MS;
    CHECK_EQUAL(mpf_condition_await(&park, condition, first), -EINTR);
    struct mpf_park past = MPF_PARK_INIT(arena, 0);
    CHECK_EQUAL(mpf_condition_await(&past, condition, second), 0);
    teardown();
}

static void wait_in_line(void *place) {
    lock();
    CHECK_EQUAL(wait_locked(patient()), 0);
    atomic_store(&shared->place[*(int *)place], 1 + atomic_fetch_add(&shared->order, 1));
    unlock();
}

static void test_first_come_first_served(void) {
    setup();
    pid_t pids[8];
    for (int i = 0; i < 8; i++) {
        pids[i] = check_fork(wait_in_line, &i);
        await_flag(&shared->waiting, i + 1);
        await_asleep(pids[i]);
    }
    for (int i = 0; i < 8; i++) {
        lock();
        CHECK_EQUAL(mpf_condition_notify(arena, condition, 1), 1);
        unlock();
        CHECK_EQUAL(check_wait(pids[i]), 0);
        CHECK_EQUAL(shared->place[i], i + 1);
    }
    teardown();
}

static void test_notify_all_reaches_long_sleepers(void) {
    int place = 0;
    setup();
    pid_t pids[12];
    for (int i = 0; i < 12; i++)
        pids[i] = check_fork(wait_in_line, &place);
    await_flag(&shared->waiting, 12);
    usleep(60000);
    lock();
    CHECK_EQUAL(mpf_condition_waiters(condition), 12);
    CHECK_EQUAL(mpf_condition_notify(arena, condition, UINT32_MAX), 12);
    unlock();
    for (int i = 0; i < 12; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    teardown();
}

static void consume(int rounds) {
    for (int i = 0; i < rounds; i++) {
        lock();
        while (!shared->tokens)
            CHECK_EQUAL(wait_locked(patient()), 0);
        shared->tokens--;
        unlock();
    }
}

static void produce(int rounds, int each) {
    for (int i = 0; i < rounds; i++) {
        lock();
        shared->tokens += (uint32_t)each;
        mpf_condition_notify(arena, condition, (uint32_t)each);
        unlock();
        if (i % 8 == 0)
            sched_yield();
    }
}

static void *consume_in_thread(void *unused) {
    consume(1500);
    return unused;
}

static void *produce_in_thread(void *unused) {
    produce(750, 2);
    return unused;
}

static void test_threads(void) {
    setup();
    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, i % 2 ? produce_in_thread : consume_in_thread, NULL), 0);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(shared->tokens, 0);
    teardown();
}

/* Consumers and producers that may be killed, beside two that consume and one that produces until those have enough. */
static void produce_until_done(void) {
    while (atomic_load(&shared->stage) < 2)
        produce(1, 3);
}

static void victim_consumes(int index) {
    if (index == 3) {
        produce_until_done();
    } else {
        consume(index == 0 ? 1000000 : 60);
        atomic_fetch_add(&shared->stage, 1);
    }
}

static void victim_produces(int index) {
    if (index == 0)
        produce(1000000, 1);
    else
        victim_consumes(index);
}

static void reset_tokens(void) {
    atomic_store(&shared->stage, 0);
    lock();
    shared->tokens = 0;
    unlock();
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK_EQUAL(mpf_condition_notify(arena, condition, UINT32_MAX), 0);
}

static void test_killed_at_random(void) {
    uint64_t random = 5;
    setup();
    for (int round = 0; round < 60; round++) {
        crowd_run(&(struct crowd){4, round % 2 ? victim_consumes : victim_produces}, NULL, 0, &random);
        reset_tokens();
    }
    teardown();
}

#ifdef MPF_DEBUG
static void bounded_work(int index) {
    if (index < 3)
        consume(60);
    else
        produce(60, 3);
}

static void bounded_victim_produces(int index) {
    if (index == 0)
        produce(60, 1);
    else
        bounded_work(index);
}

static void test_killed_at_each_point(void) {
    static const char *points[] = {"condition.set", "condition.notified", "condition.enlisted", "condition.left",
                                   "section.logged", "section.set", "section.commit", "section.committed", "section.left",
                                   "mutex.acquired", "mutex.released", "park.sleep", "park.woken", "park.wake"};
    int kills = 0;
    setup();
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int nth = 1; nth <= 16; nth += 3) {
            kills += crowd_run(&(struct crowd){4, bounded_work}, points[p], nth, NULL);
            reset_tokens();
            kills += crowd_run(&(struct crowd){4, bounded_victim_produces}, points[p], nth, NULL);
            reset_tokens();
        }
    CHECK(kills >= (int)COUNT_OF(points));
    teardown();
}

static void enlist_and_die(void *unused) {
    uint32_t ticket;
    (void)unused;
    CHECK_EQUAL(mpf_condition_enlist(arena, condition, &ticket), 0);
    CHECK_EQUAL(mpf_condition_enlist(arena, condition, &ticket), 0);
    CHECK_EQUAL(mpf_condition_notify(arena, condition, 1), 1);
    raise(SIGKILL);
}

/* A dead waiter's notification reaches the living one, though the first to pass it on is killed, too. */
static void test_reaper_killed(void) {
    static const char *points[] = {"condition.set", "section.commit", "section.committed", "condition.recovered"};
    setup();
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int nth = 1; nth <= 2; nth++) {
            uint32_t ticket;
            struct mpf_park past = MPF_PARK_INIT(arena, 0);
            kill_reaper_at(points[p], nth, enlist_and_die, NULL);
            CHECK_EQUAL(mpf_condition_waiters(condition), 0);
            CHECK_EQUAL(mpf_condition_enlist(arena, condition, &ticket), 0);
            CHECK_EQUAL(mpf_condition_await(&past, condition, ticket), -ETIMEDOUT);
        }
    teardown();
}

static void notify_and_die(void *unused) {
    (void)unused;
    die_at("condition.notified", 1);
    lock();
    mpf_condition_notify(arena, condition, UINT32_MAX);
}

static void test_notifier_killed_before_its_wake(void) {
    int place = 0;
    setup();
    for (int wait_ms = 0; wait_ms <= 60; wait_ms += 60) {
        atomic_store(&shared->waiting, 0);
        pid_t pids[3];
        for (int i = 0; i < 3; i++)
            pids[i] = check_fork(wait_in_line, &place);
        await_flag(&shared->waiting, 3);
        for (int i = 0; i < 3; i++)
            await_asleep(pids[i]);
        usleep((useconds_t)wait_ms * 1000);
        CHECK_EQUAL(check_wait(check_fork(notify_and_die, NULL)), -SIGKILL);
        for (int i = 0; i < 3; i++)
            CHECK_EQUAL(check_wait(pids[i]), 0);
    }
    teardown();
}
#endif

CHECK_MAIN({"alone", test_alone}, {"order_of_tickets", test_order_of_tickets},
           {"withdrawn_notification", test_withdrawn_notification},
           {"interrupted_passes_it_on", test_interrupted_passes_it_on},
           {"first_come_first_served", test_first_come_first_served},
           {"notify_all_reaches_long_sleepers", test_notify_all_reaches_long_sleepers}, {"threads", test_threads},
#ifdef MPF_DEBUG
           {"killed_at_each_point", test_killed_at_each_point}, {"reaper_killed", test_reaper_killed},
           {"notifier_killed_before_its_wake", test_notifier_killed_before_its_wake},
#endif
           {"killed_at_random", test_killed_at_random})
