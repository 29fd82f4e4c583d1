/* Results: taken once, in batches; whoever waits for them is woken, and no more than have to be. */
#include "engine_check.h"

static struct mpf_worker me;
static struct account account;

static void setup(void) {
    uint32_t slot;
    engine_start();
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    CHECK_EQUAL(mpf_worker_join(&me, &crew.ref, slot), 0);
}

static void do_one(void) {
    struct mpf_task task;
    CHECK_EQUAL(mpf_worker_claim(&me, &task), 0);
    answer(&me, &task);
    mpf_block_unref(&task.block);
}

static void put_and_do(uint64_t from, uint64_t count) {
    for (uint64_t number = from; number < from + count; number++) {
        put_sized(number, length_of(number), false);
        do_one();
    }
}

static void test_batches(void) {
    struct mpf_crew_result results[8];
    setup();
    CHECK_EQUAL(mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, results, 8), -EAGAIN);
    CHECK(!mpf_crew_ready(&crew));
    put_and_do(0, 200);
    CHECK(mpf_crew_ready(&crew));
    while (account.done < 200) {
        int count = mpf_crew_collect(&crew, collected_bytes, MPF_LANE_INLINE_MAX, results, 8);
        CHECK(count > 0 && count <= 8);
        for (int i = 0; i < count; i++)
            enter_result(&account, &results[i]);
    }
    CHECK_EQUAL(mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, results, 8), -EAGAIN);
    engine_finish();
}

/* A result for a task that is settled already is dropped, and what it holds with it. */
static void test_settled_by_hand(void) {
    struct mpf_crew_result result;
    setup();
    for (uint64_t number = 0; number < 20; number++) {
        uint64_t ticket = put_sized(number, length_of(number), false);
        do_one();
        mpf_crew_settle(&crew, ticket);
        CHECK_EQUAL(mpf_crew_pending(&crew), 0);
        CHECK_EQUAL(mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, &result, 1), -EAGAIN);
        CHECK(!mpf_crew_ready(&crew));
    }
    engine_finish();
}

/* What nobody has collected goes with the crew. */
static void test_left_in_the_lane(void) {
    setup();
    put_and_do(0, 100);
    engine_finish();
}

/* ---- waiting ---- */

struct wait {
    enum mpf_crew_side side;
    uint32_t wanted, bumps;
    int rc;
    pthread_t thread;
};

static void *wait_for_results(void *argument) {
    struct wait *wait = argument;
    struct mpf_park park = patient();
    wait->rc = mpf_crew_await(&park, &crew, wait->side, wait->wanted, wait->bumps);
    return NULL;
}

static struct mpf_eventcount_shm *side_of(const struct wait *wait) {
    return wait->side == MPF_CREW_DIRECT ? &crew.shm->direct : &crew.shm->background;
}

static void await_sleepers(struct mpf_eventcount_shm *ec, uint32_t count) {
    int64_t until = mpf_clock_now() + 20 * SECOND;
    while (mpf_eventcount_sleepers(atomic_load(&ec->state)) < count) {
        CHECK(mpf_clock_now() < until);
        sched_yield();
    }
}

static void start_waiting(struct wait *wait) {
    struct mpf_eventcount_shm *ec = side_of(wait);
    uint32_t before = mpf_eventcount_sleepers(atomic_load(&ec->state));
    wait->bumps = mpf_crew_bumps(&crew);
    CHECK_EQUAL(pthread_create(&wait->thread, NULL, wait_for_results, wait), 0);
    await_sleepers(ec, before + 1);
}

static uint32_t wakes_of(const struct wait *wait) { return atomic_load(&side_of(wait)->signal); }

static void test_woken_by_a_result(void) {
    struct wait waits[] = {{.side = MPF_CREW_DIRECT, .wanted = 1}, {.side = MPF_CREW_BACKGROUND}};
    setup();
    for (int i = 0; i < 2; i++) {
        start_waiting(&waits[i]);
        put_and_do((uint64_t)i, 1);
        pthread_join(waits[i].thread, NULL);
        CHECK_EQUAL(waits[i].rc, 0);
        CHECK_EQUAL(collect_once(&account), 1);
    }
    engine_finish();
}

static void test_direct_comes_first(void) {
    struct wait direct = {.side = MPF_CREW_DIRECT, .wanted = 1}, background = {.side = MPF_CREW_BACKGROUND};
    setup();
    start_waiting(&background);
    start_waiting(&direct);
    uint32_t wakes = wakes_of(&background);
    put_and_do(0, 1);
    pthread_join(direct.thread, NULL);
    CHECK_EQUAL(direct.rc, 0);
    CHECK_EQUAL(wakes_of(&background), wakes);
    mpf_crew_pass(&crew); /* it does not collect after all */
    CHECK(wakes_of(&background) != wakes);
    pthread_join(background.thread, NULL);
    CHECK_EQUAL(background.rc, 0);
    CHECK_EQUAL(collect_once(&account), 1);
    mpf_crew_pass(&crew);
    engine_finish();
}

/* What the parent's threads take turns by, as Python's do. */
static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;

static void drop_lock(void *unused) {
    (void)unused;
    pthread_mutex_unlock(&big_lock);
}

static void take_lock(void *unused) {
    (void)unused;
    pthread_mutex_lock(&big_lock);
}

static struct mpf_park patient_with_lock(void) {
    struct mpf_park park = patient();
    park.release = drop_lock;
    park.resume = take_lock;
    park.contended = true;
    return park;
}

static void *collect_ten(void *unused) {
    pthread_mutex_lock(&big_lock);
    while (account.done < 10) {
        struct mpf_park park = patient_with_lock();
        if (collect_once(&account) <= 0)
            CHECK_EQUAL(mpf_crew_await(&park, &crew, MPF_CREW_DIRECT, (uint32_t)(10 - account.done), mpf_crew_bumps(&crew)), 0);
    }
    pthread_mutex_unlock(&big_lock);
    return unused;
}

static void start_collecting(pthread_t *thread, uint64_t tasks) {
    setup();
    memset(&account, 0, sizeof account);
    for (uint64_t number = 0; number < tasks; number++)
        put_number(number);
    CHECK_EQUAL(pthread_create(thread, NULL, collect_ten, NULL), 0);
    await_sleepers(&crew.shm->direct, 1);
}

/* Who wants ten is woken for the tenth. */
static void test_woken_for_enough(void) {
    struct wait wait = {.side = MPF_CREW_DIRECT};
    pthread_t thread;
    start_collecting(&thread, 10);
    uint32_t wakes = wakes_of(&wait);
    for (int i = 0; i < 9; i++)
        do_one();
    CHECK_EQUAL(wakes_of(&wait), wakes);
    await_sleepers(&crew.shm->direct, 1);
    do_one();
    CHECK(wakes_of(&wait) != wakes);
    pthread_join(thread, NULL);
    CHECK_EQUAL(account.done, 10);
    engine_finish();
}

/* A worker that has nothing more to do hands over what there is. */
static void test_woken_when_no_more_come(void) {
    struct wait wait = {.side = MPF_CREW_DIRECT};
    pthread_t thread;
    start_collecting(&thread, 9);
    uint32_t wakes = wakes_of(&wait);
    for (int i = 0; i < 9; i++)
        do_one();
    await_sleepers(&crew.shm->direct, 1);
    struct mpf_park park = within(0);
    CHECK_EQUAL(mpf_worker_await(&park, &me), -ETIMEDOUT);
    CHECK(wakes_of(&wait) != wakes || mpf_lane_count(&me.entry->results) == 0);
    while (mpf_lane_count(&me.entry->results) != 0)
        sched_yield();
    pthread_mutex_lock(&big_lock);
    put_number(9);
    pthread_mutex_unlock(&big_lock);
    do_one();
    pthread_join(thread, NULL);
    CHECK_EQUAL(account.done, 10);
    engine_finish();
}

/* With a second one waiting nobody is left asleep for more than one. */
static void test_two_want_different_things(void) {
    struct wait many = {.side = MPF_CREW_DIRECT, .wanted = 50}, one = {.side = MPF_CREW_BACKGROUND};
    setup();
    start_waiting(&many);
    start_waiting(&one);
    uint32_t wakes = wakes_of(&many);
    put_and_do(0, 1);
    CHECK(wakes_of(&many) != wakes);
    pthread_join(many.thread, NULL);
    mpf_crew_pass(&crew);
    pthread_join(one.thread, NULL);
    engine_finish();
}

static void test_bumps(void) {
    struct wait waits[4] = {{.wanted = 9}, {.wanted = 1}, {.wanted = 2}, {.side = MPF_CREW_BACKGROUND}};
    setup();
    for (int i = 0; i < 4; i++)
        start_waiting(&waits[i]);
    mpf_crew_bump(&crew);
    for (int i = 0; i < 4; i++) {
        pthread_join(waits[i].thread, NULL);
        CHECK_EQUAL(waits[i].rc, 0);
    }
    struct mpf_park park = patient(); /* one that comes too late to see it happen */
    CHECK_EQUAL(mpf_crew_await(&park, &crew, MPF_CREW_DIRECT, 1, mpf_crew_bumps(&crew) - 1), 0);
    engine_finish();
}

static int say_stop(void *unused) {
    (void)unused;
    return 1;
}

static void test_ends_without_results(void) {
    setup();
    struct mpf_park park = within(30 * MS);
    CHECK_EQUAL(mpf_crew_await(&park, &crew, MPF_CREW_DIRECT, 1, mpf_crew_bumps(&crew)), -ETIMEDOUT);
    park = patient();
    park.interrupt = say_stop;
    park.interrupt_every = MS;
    CHECK_EQUAL(mpf_crew_await(&park, &crew, MPF_CREW_BACKGROUND, 1, mpf_crew_bumps(&crew)), -EINTR);
    put_and_do(0, 1);
    park = within(0);
    CHECK_EQUAL(mpf_crew_await(&park, &crew, MPF_CREW_DIRECT, 1, mpf_crew_bumps(&crew)), 0);
    engine_finish();
}

static void claim_and_wait(void *slot) {
    static struct mpf_worker worker;
    struct mpf_task task;
    CHECK_EQUAL(mpf_worker_join(&worker, &crew.ref, *(uint32_t *)slot), 0);
    CHECK_EQUAL(mpf_worker_claim(&worker, &task), 0);
    for (;;)
        pause();
}

static void test_told_of_a_death(void) {
    struct mpf_crew_lost lost;
    struct mpf_crew_worker worker;
    uint32_t slot;
    setup();
    for (int side = MPF_CREW_DIRECT; side <= MPF_CREW_BACKGROUND; side++) {
        struct wait wait = {.side = (enum mpf_crew_side)side, .wanted = 7};
        put_number(0);
        CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
        pid_t pid = check_fork(claim_and_wait, &slot);
        do
            CHECK_EQUAL(mpf_crew_look(&crew, slot, &worker), 0);
        while (worker.ticket == 0);
        start_waiting(&wait);
        kill(pid, SIGKILL);
        CHECK_EQUAL(check_wait(pid), -SIGKILL);
        pthread_join(wait.thread, NULL);
        CHECK_EQUAL(wait.rc, -ECHILD);
        CHECK_EQUAL(mpf_crew_lost(&crew, slot, &lost), 1);
        CHECK_EQUAL(lost.cookie, 1);
        mpf_crew_settle(&crew, lost.ticket);
    }
    engine_finish();
}

/* ---- many threads that each wait for a result of their own ---- */

#define WAITERS 4
#define TRIPS (UNDER_TSAN ? 500 : 3000)

static bool has_come[TASKS_MAX];

static bool collect_for_all(uint64_t mine) {
    struct mpf_crew_result results[16];
    bool others = false;
    int count = mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, results, COUNT_OF(results));
    for (int i = 0; i < count; i++) {
        enter_result(&account, &results[i]);
        has_come[results[i].cookie - 1] = true;
        others |= results[i].cookie - 1 != mine;
    }
    if (others)
        mpf_crew_bump(&crew);
    return count > 0;
}

static void *make_trips(void *argument) {
    uint64_t base = (uint64_t)(uintptr_t)argument * (uint64_t)TRIPS;
    pthread_mutex_lock(&big_lock);
    for (uint64_t number = base; number < base + (uint64_t)TRIPS; number++) {
        put_number(number);
        mpf_crew_wake(&crew, 1);
        for (;;) {
            uint32_t bumps = mpf_crew_bumps(&crew);
            while (!has_come[number] && collect_for_all(number))
                ;
            if (has_come[number])
                break;
            struct mpf_park park = patient_with_lock();
            CHECK_EQUAL(mpf_crew_await(&park, &crew, MPF_CREW_DIRECT, 1, bumps), 0);
        }
        mpf_crew_pass(&crew);
    }
    pthread_mutex_unlock(&big_lock);
    return NULL;
}

static void test_threads(void) {
    pthread_t threads[WAITERS];
    pid_t pids[2];
    uint32_t slots[2];
    engine_start();
    for (int i = 0; i < 2; i++)
        pids[i] = start_worker(&slots[i]);
    for (uintptr_t i = 0; i < WAITERS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, make_trips, (void *)i), 0);
    for (int i = 0; i < WAITERS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(account.done, WAITERS * TRIPS);
    dismiss_all(pids, slots, 2);
    engine_finish();
}

static void await_nothing(void) {
    struct mpf_park park = patient();
    park.deadline = mpf_clock_now() + 1000 * 1000;
    CHECK_EQUAL(mpf_crew_await(&park, &crew, MPF_CREW_DIRECT, 1, mpf_crew_bumps(&crew)), -ETIMEDOUT);
}

/* Who waits knows whether workers are still starting, in which case he does not spin. */
static void test_knows_who_is_starting(void) {
    struct mpf_worker late;
    uint32_t slot;
    setup();
    CHECK(!atomic_load(&crew.settled));
    await_nothing();
    CHECK(atomic_load(&crew.settled));
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    await_nothing();
    CHECK(!atomic_load(&crew.settled));
    CHECK_EQUAL(mpf_worker_join(&late, &crew.ref, slot), 0);
    await_nothing();
    CHECK(atomic_load(&crew.settled));
    engine_finish();
}

CHECK_MAIN({"batches", test_batches}, {"settled_by_hand", test_settled_by_hand}, {"left_in_the_lane", test_left_in_the_lane},
           {"woken_by_a_result", test_woken_by_a_result}, {"direct_comes_first", test_direct_comes_first},
           {"woken_for_enough", test_woken_for_enough},
           {"woken_when_no_more_come", test_woken_when_no_more_come}, {"two_want_different_things", test_two_want_different_things},
           {"bumps", test_bumps}, {"ends_without_results", test_ends_without_results},
           {"told_of_a_death", test_told_of_a_death}, {"threads", test_threads},
           {"knows_who_is_starting", test_knows_who_is_starting})
