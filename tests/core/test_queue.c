/* Queues: tasks are finished once each, by whoever had them or for them. */
#include "transport_check.h"

static struct mpf_ref ref;
static struct mpf_queue_shm *queue;
static _Atomic int *stage;

static void setup(void) {
    queue = make_queue(0, true, &ref);
    stage = check_shared(sizeof *stage);
}

static void put(uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        CHECK_EQUAL(put_parcel(&queue->lane, 0, i, 16, NULL), 0);
}

static void get(void) {
    uint32_t sender, number;
    CHECK_EQUAL(get_parcel(&queue->lane, &sender, &number), 0);
}

static int done(void) { return mpf_queue_finish(arena, queue); }

static void join(void) {
    struct mpf_park park = patient();
    CHECK_EQUAL(mpf_queue_await_finished(&park, queue), 0);
}

static void test_counting(void) {
    setup();
    join();
    CHECK_EQUAL(done(), -ERANGE);
    put(3);
    CHECK_EQUAL(mpf_queue_unfinished(queue), 3);
    get();
    CHECK_EQUAL(mpf_queue_unfinished(queue), 3);
    struct mpf_park park = within(20 * MS);
    CHECK_EQUAL(mpf_queue_await_finished(&park, queue), -ETIMEDOUT);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(done(), 0);
    CHECK_EQUAL(done(), -ERANGE);
    CHECK_EQUAL(mpf_queue_unfinished(queue), 0);
    join();
    finish(&ref);
}

static void join_and_tell(void *unused) {
    (void)unused;
    join();
    atomic_fetch_add(stage, 1);
}

static void test_joiners_are_woken(void) {
    pid_t pids[3];
    setup();
    put(1);
    for (int i = 0; i < 3; i++)
        pids[i] = check_fork(join_and_tell, NULL);
    for (int i = 0; i < 3; i++)
        await_asleep(pids[i]);
    get();
    CHECK_EQUAL(done(), 0);
    put(1); /* all were finished for a moment: that ends a join */
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    finish(&ref);
}

static void take_and_die(void *count) {
    for (int i = 0; i < *(int *)count; i++)
        get();
    CHECK_EQUAL(done(), 0);
    raise(SIGKILL);
}

static void test_a_killed_consumers_tasks_are_finished(void) {
    setup();
    put(10);
    int count = 4;
    CHECK_EQUAL(check_wait(check_fork(take_and_die, &count)), -SIGKILL);
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK_EQUAL(mpf_queue_unfinished(queue), 6);
    for (int i = 0; i < 6; i++) {
        get();
        CHECK_EQUAL(done(), 0);
    }
    CHECK_EQUAL(done(), -ERANGE);
    join();
    finish(&ref);
}

static void wait_for_ever(void *unused) {
    (void)unused;
    get();
    tell(stage, 1);
    for (;;)
        pause();
}

/* A join that is already waiting ends when the last one that it waits for is killed. */
static void test_join_notices_the_death(void) {
    setup();
    put(1);
    pid_t consumer = check_fork(wait_for_ever, NULL);
    await_flag(stage, 1);
    pid_t joiner = check_fork(join_and_tell, NULL);
    await_asleep(joiner);
    kill(consumer, SIGKILL);
    CHECK_EQUAL(check_wait(joiner), 0);
    CHECK_EQUAL(check_wait(consumer), -SIGKILL);
    finish(&ref);
}

static void leave_with_one(void *unused) {
    (void)unused;
    get();
    mpf_participant_leave_all();
}

/* One who ends in order keeps what it has taken: that is a program's own mistake, as in the standard library. */
static void test_ending_in_order_finishes_nothing(void) {
    setup();
    put(1);
    CHECK_EQUAL(check_wait(check_fork(leave_with_one, NULL)), 0);
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK_EQUAL(mpf_queue_unfinished(queue), 1);
    finish(&ref);
}

#define THREADS 4
#define TASKS 3000u

static void *consume(void *unused) {
    uint32_t sender, number;
    while (get_patiently(&queue->lane, &sender, &number) == 0)
        CHECK_EQUAL(done(), 0);
    return unused;
}

static void test_threads(void) {
    pthread_t threads[THREADS];
    setup();
    for (int i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, consume, NULL), 0);
    put(TASKS);
    join();
    CHECK_EQUAL(mpf_queue_unfinished(queue), 0);
    mpf_lane_close(&queue->lane, MPF_LANE_NO_WRITERS);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(done(), -ERANGE);
    finish(&ref);
}

#ifdef MPF_DEBUG
static void consume_work(int index) {
    (void)index;
    (void)consume(NULL);
}

/* Consumers killed at each step between taking and finishing: nothing is finished twice, and join ends. */
static void test_kill_consumers(void) {
    static const char *const points[] = {"lane.get.copied", "lane.get.consumed", "lane.get.before_wake", "section.logged",
                                         "section.set", "section.commit", "section.committed", "section.left",
                                         "queue.finish.before_wake"};
    static const struct crowd two = {2, consume_work};
    uint64_t random = 1;
    transport_start();
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        int kills = 0, tries = 0;
        /* who gets how far is chance: a point counts as tried when somebody was killed there */
        for (int nth = 1; nth < 60 || (kills == 0 && tries < 100); nth = nth < 60 ? nth * 2 + 1 : 1, tries++) {
            setup();
            put(50);
            mpf_lane_close(&queue->lane, MPF_LANE_NO_WRITERS);
            kills += crowd_run(&two, points[p], nth, &random);
            join();
            CHECK_EQUAL(mpf_queue_unfinished(queue), 0);
            CHECK_EQUAL(mpf_lane_count(&queue->lane), 0);
            CHECK_EQUAL(done(), -ERANGE);
            finish(&ref);
        }
        CHECK(kills > 0);
    }
}

static void take_two_and_die(void *unused) {
    (void)unused;
    get();
    get();
    raise(SIGKILL);
}

/* Whoever finishes for the dead is killed in turn. */
static void test_kill_the_reaper(void) {
    static const char *const points[] = {"section.logged", "section.set", "section.commit", "section.left",
                                         "queue.finish.before_wake", "reap.recovered"};
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int nth = 1; nth < 20; nth += 3) {
            setup();
            put(5);
            _Atomic int *go = check_shared(sizeof *go);
            fflush(NULL);
            pid_t reaper = fork();
            CHECK(reaper >= 0);
            if (reaper == 0) {
                await_flag(go, 1);
                die_at(points[p], nth);
                mpf_participant_reap(arena);
                _exit(0);
            }
            CHECK_EQUAL(check_wait(check_fork(take_two_and_die, NULL)), -SIGKILL);
            tell(go, 1);
            check_wait(reaper);
            while (mpf_participant_reap(arena) > 0)
                ;
            CHECK_EQUAL(mpf_queue_unfinished(queue), 3);
            finish(&ref);
        }
}
#endif

CHECK_MAIN({"counting", test_counting}, {"joiners_are_woken", test_joiners_are_woken},
           {"a_killed_consumers_tasks_are_finished", test_a_killed_consumers_tasks_are_finished},
           {"join_notices_the_death", test_join_notices_the_death},
           {"ending_in_order_finishes_nothing", test_ending_in_order_finishes_nothing}, {"threads", test_threads},
#ifdef MPF_DEBUG
           {"kill_consumers", test_kill_consumers}, {"kill_the_reaper", test_kill_the_reaper},
#endif
)
