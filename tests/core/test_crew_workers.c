/* Workers as the parent sees them: looked at, sent away, buried with what they had in hand. */
#include "engine_check.h"

static struct mpf_worker me;

static uint32_t join_here(void) {
    uint32_t slot;
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    CHECK_EQUAL(mpf_worker_join(&me, &crew.ref, slot), 0);
    return slot;
}

static void test_looking(void) {
    struct mpf_crew_worker worker;
    struct mpf_task task;
    struct mpf_lane_message message = {.data = "done", .bytes = 4};
    uint32_t slot;
    engine_start();
    CHECK_EQUAL(mpf_crew_look(&crew, 0, &worker), -ENOENT);
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    CHECK_EQUAL(mpf_crew_look(&crew, slot, &worker), 0);
    CHECK_EQUAL(worker.state, MPF_ROSTER_STARTING);
    CHECK(worker.pid == 0 && !worker.dead);
    CHECK_EQUAL(mpf_crew_look(&crew, slot + 1, &worker), -ENOENT);
    CHECK_EQUAL(mpf_worker_join(&me, &crew.ref, slot), 0);
    int64_t before = mpf_clock_now();
    uint64_t ticket = put_number(3);
    CHECK_EQUAL(mpf_worker_claim(&me, &task), 0);
    mpf_worker_note_memory(&me, 12345);
    CHECK_EQUAL(mpf_crew_look(&crew, slot, &worker), 0);
    CHECK_EQUAL(worker.state, MPF_ROSTER_WORKING);
    CHECK_EQUAL(worker.pid, getpid());
    CHECK_EQUAL(worker.ticket, ticket);
    CHECK_EQUAL(worker.tasks, 1);
    CHECK_EQUAL(worker.memory, 12345);
    CHECK(worker.started >= before && worker.started <= mpf_clock_now());
    CHECK_EQUAL(mpf_worker_report(&me, &message, NULL), 0);
    CHECK_EQUAL(mpf_crew_look(&crew, slot, &worker), 0);
    CHECK(worker.ticket == 0 && worker.started == 0 && !worker.dead);
    mpf_worker_leave(&me);
    CHECK_EQUAL(mpf_crew_look(&crew, slot, &worker), 0);
    CHECK_EQUAL(worker.state, MPF_ROSTER_LEAVING);
    engine_finish();
}

static void test_the_living_are_not_lost(void) {
    struct mpf_crew_lost lost;
    engine_start();
    CHECK_EQUAL(mpf_crew_lost(&crew, 0, &lost), -ENOENT);
    uint32_t slot = join_here();
    CHECK_EQUAL(mpf_crew_lost(&crew, slot, &lost), -ECHILD);
    CHECK_EQUAL(mpf_crew_lost(&crew, slot + 1, &lost), -ENOENT);
    engine_finish();
}

/* One that never joined had nothing. */
static void test_a_stillborn_worker(void) {
    struct mpf_crew_lost lost;
    uint32_t slot, next;
    engine_start();
    put_number(1);
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    CHECK_EQUAL(mpf_crew_lost(&crew, slot, &lost), 0);
    CHECK_EQUAL(mpf_crew_enlist(&crew, &next), 0);
    CHECK_EQUAL(next, slot);
    engine_finish();
}

struct deed {
    uint32_t slot;
    int tasks; /* reported before it dies with one more in hand, if there is one */
};

static void do_and_die(void *argument) {
    struct deed *deed = argument;
    struct mpf_task task;
    CHECK_EQUAL(mpf_worker_join(&me, &crew.ref, deed->slot), 0);
    for (int i = 0; i < deed->tasks; i++) {
        CHECK_EQUAL(mpf_worker_claim(&me, &task), 0);
        answer(&me, &task);
        mpf_block_unref(&task.block);
    }
    (void)mpf_worker_claim(&me, &task);
    raise(SIGKILL);
}

static void test_what_the_dead_had(void) {
    static struct account account;
    struct mpf_crew_lost lost;
    struct mpf_crew_worker worker;
    engine_start();
    for (struct deed deed = {.tasks = 0}; deed.tasks < 30; deed.tasks += 7) {
        CHECK_EQUAL(mpf_crew_enlist(&crew, &deed.slot), 0);
        memset(&account, 0, sizeof account);
        uint64_t tickets[40];
        for (uint64_t number = 0; number < 40; number++)
            tickets[number] = put_sized(number, length_of(number), false);
        CHECK_EQUAL(check_wait(check_fork(do_and_die, &deed)), -SIGKILL);
        CHECK_EQUAL(mpf_crew_look(&crew, deed.slot, &worker), 0);
        CHECK(worker.dead);
        CHECK_EQUAL(worker.ticket, tickets[deed.tasks]);
        while (mpf_crew_lost(&crew, deed.slot, &lost) == -EBUSY)
            CHECK(collect_once(&account) > 0);
        CHECK_EQUAL(account.done, deed.tasks);
        CHECK_EQUAL(lost.ticket, tickets[deed.tasks]);
        CHECK_EQUAL(lost.cookie, deed.tasks + 1);
        CHECK(!lost.condemned);
        CHECK_EQUAL(mpf_crew_lost(&crew, deed.slot, &lost), -ENOENT);
        mpf_crew_settle(&crew, lost.ticket);
        CHECK_EQUAL(mpf_crew_pending(&crew), 39 - deed.tasks);
        for (uint64_t number = (uint64_t)deed.tasks + 1; number < 40; number++)
            CHECK_EQUAL(mpf_crew_cancel(&crew, tickets[number], &lost.cookie), 0);
    }
    engine_finish();
}

static void test_nothing_in_hand(void) {
    static struct account account;
    struct mpf_crew_lost lost;
    struct deed deed = {.tasks = 5};
    int rc;
    engine_start();
    CHECK_EQUAL(mpf_crew_enlist(&crew, &deed.slot), 0);
    for (uint64_t number = 0; number < 5; number++)
        put_number(number);
    CHECK_EQUAL(check_wait(check_fork(do_and_die, &deed)), -SIGKILL);
    while ((rc = mpf_crew_lost(&crew, deed.slot, &lost)) == -EBUSY)
        CHECK(collect_once(&account) > 0);
    CHECK_EQUAL(rc, 0);
    CHECK_EQUAL(account.done, 5);
    CHECK_EQUAL(mpf_crew_pending(&crew), 0);
    engine_finish();
}

/* Kept tasks go on to the next worker as they were. */
static void test_put_again(void) {
    static struct account account;
    struct mpf_crew_lost lost;
    uint64_t again;
    engine_start();
    for (uint64_t number = 0; number < 20; number++) {
        struct deed deed = {.tasks = 0};
        put_sized(number, length_of(number), true);
        for (int deaths = 0; deaths < 2; deaths++) {
            CHECK_EQUAL(mpf_crew_enlist(&crew, &deed.slot), 0);
            CHECK_EQUAL(check_wait(check_fork(do_and_die, &deed)), -SIGKILL);
            CHECK_EQUAL(mpf_crew_lost(&crew, deed.slot, &lost), 1);
            CHECK_EQUAL(lost.cookie, number + 1);
            CHECK_EQUAL(mpf_crew_put_again(&crew, lost.ticket, &again), 0);
            CHECK_EQUAL(mpf_crew_put_again(&crew, lost.ticket, &again), -ENOENT);
        }
        deed.tasks = 1;
        CHECK_EQUAL(mpf_crew_enlist(&crew, &deed.slot), 0);
        CHECK_EQUAL(check_wait(check_fork(do_and_die, &deed)), -SIGKILL);
        CHECK_EQUAL(collect_once(&account), 1);
        CHECK_EQUAL(mpf_crew_lost(&crew, deed.slot, &lost), 0);
        CHECK_EQUAL(account.seen[number], 1);
    }
    engine_finish();
}

static _Atomic int *stage;

static void claim_and_linger(void *slot) {
    struct mpf_task task;
    struct mpf_lane_message message = {.data = "late", .bytes = 4};
    CHECK_EQUAL(mpf_worker_join(&me, &crew.ref, *(uint32_t *)slot), 0);
    CHECK_EQUAL(mpf_worker_claim(&me, &task), 0);
    tell(stage, 1);
    await_flag(stage, 2);
    CHECK_EQUAL(mpf_worker_report(&me, &message, NULL), -ECANCELED);
    tell(stage, 3);
    for (;;)
        pause();
}

/* A task that took too long: it cannot be reported any more, and its worker takes no other. */
static void test_condemned(void) {
    struct mpf_crew_lost lost;
    uint32_t slot, holder;
    uint64_t cookie;
    engine_start();
    stage = check_shared(sizeof *stage);
    uint64_t ticket = put_number(1);
    CHECK_EQUAL(mpf_crew_condemn(&crew, ticket, &holder), -EAGAIN);
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    pid_t pid = check_fork(claim_and_linger, &slot);
    await_flag(stage, 1);
    put_number(2);
    CHECK_EQUAL(mpf_crew_cancel(&crew, ticket, &cookie), -EBUSY);
    CHECK_EQUAL(mpf_crew_condemn(&crew, ticket, &holder), 0);
    CHECK_EQUAL(holder, slot);
    CHECK_EQUAL(mpf_crew_condemn(&crew, ticket, &holder), 0);
    tell(stage, 2);
    await_flag(stage, 3);
    CHECK_EQUAL(mpf_crew_lost(&crew, slot, &lost), -ECHILD);
    kill(pid, SIGKILL);
    CHECK_EQUAL(check_wait(pid), -SIGKILL);
    CHECK_EQUAL(mpf_crew_lost(&crew, slot, &lost), 1);
    CHECK(lost.condemned);
    CHECK_EQUAL(lost.ticket, ticket);
    CHECK_EQUAL(lost.cookie, 2);
    mpf_crew_settle(&crew, ticket);
    CHECK_EQUAL(mpf_crew_condemn(&crew, ticket, &holder), -ENOENT);
    CHECK_EQUAL(mpf_crew_pending(&crew), 1);
    engine_finish();
}

static void test_too_late_to_condemn(void) {
    static struct account account;
    struct mpf_task task;
    uint32_t holder;
    engine_start();
    join_here();
    uint64_t ticket = put_number(1);
    CHECK_EQUAL(mpf_worker_claim(&me, &task), 0);
    answer(&me, &task);
    CHECK_EQUAL(mpf_crew_condemn(&crew, ticket, &holder), -EALREADY);
    CHECK_EQUAL(collect_once(&account), 1);
    CHECK_EQUAL(account.seen[1], 1);
    engine_finish();
}

CHECK_MAIN({"looking", test_looking}, {"the_living_are_not_lost", test_the_living_are_not_lost},
           {"a_stillborn_worker", test_a_stillborn_worker}, {"what_the_dead_had", test_what_the_dead_had},
           {"nothing_in_hand", test_nothing_in_hand}, {"put_again", test_put_again}, {"condemned", test_condemned},
           {"too_late_to_condemn", test_too_late_to_condemn})
