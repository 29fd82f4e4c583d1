/* Crews: tasks go out, results come back, each once; whoever ends, nothing is left behind. */
#include <sys/prctl.h>

#include "engine_check.h"

static struct account account;

static void test_one_worker(void) {
    uint32_t slot;
    engine_start();
    pid_t pid = start_worker(&slot);
    for (uint64_t number = 0; number < 1000; number++) {
        put_sized(number, length_of(number / 3), false);
        mpf_crew_wake(&crew, 1);
        CHECK_EQUAL(mpf_crew_pending(&crew), 1);
        collect_until(&account, number + 1);
        CHECK_EQUAL(mpf_crew_pending(&crew), 0);
    }
    dismiss_all(&pid, &slot, 1);
    engine_finish();
}

static void test_many_workers(void) {
    pid_t pids[4];
    uint32_t slots[4];
    engine_start();
    for (uint64_t number = 0; number < 3000; number++)
        put_sized(number, length_of(number / 3), false);
    for (int i = 0; i < 4; i++)
        pids[i] = start_worker(&slots[i]);
    for (uint64_t number = 3000; number < 9000; number++)
        put_sized(number, length_of(number / 3), number % 2 == 0);
    mpf_crew_wake(&crew, 6000);
    collect_until(&account, 9000);
    dismiss_all(pids, slots, 4);
    engine_finish();
}

static void write_payload(const void *context, void *to) { fill_payload(to, 11, *(const size_t *)context); }

/* Payloads from memory, from a writer, in the caller's own block. */
static void test_orders(void) {
    static struct mpf_worker me;
    static char bytes[BLOCK_BYTES];
    uint32_t slot;
    engine_start();
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    CHECK_EQUAL(mpf_worker_join(&me, &crew.ref, slot), 0);
    for (size_t length = 8; length <= BLOCK_BYTES; length = length * 4 / 3)
        for (int way = 0; way < 6; way++) {
            struct mpf_task_order order = {.message = {.bytes = length, .tag = 5}, .cookie = 1, .keep = way >= 3};
            struct mpf_lane_message reply = {.data = "", .bytes = 0};
            struct mpf_crew_result result;
            struct mpf_ref block = {0};
            struct mpf_task task;
            uint64_t ticket;
            fill_payload(bytes, 11, length);
            if (way % 3 == 0) {
                order.message.data = bytes;
            } else if (way % 3 == 1) {
                order.message.write = write_payload;
                order.message.context = &length;
            } else {
                CHECK_EQUAL(mpf_block_alloc(arena, length, MPF_BLOCK_MESSAGE, &block), 0);
                fill_payload(mpf_at(arena, block.off), 11, length);
                order.block = &block;
            }
            CHECK_EQUAL(mpf_crew_put(&crew, &order, &ticket), 0);
            CHECK_EQUAL(block.off, 0);
            CHECK_EQUAL(mpf_worker_claim(&me, &task), 0);
            CHECK_EQUAL(task.ticket, ticket);
            CHECK_EQUAL(task.bytes, length);
            CHECK_EQUAL(task.tag, 5);
            CHECK_EQUAL(task.shared, order.keep);
            CHECK_EQUAL(check_payload(task.data, task.bytes), 11);
            mpf_block_unref(&task.block);
            CHECK_EQUAL(mpf_worker_report(&me, &reply, NULL), 0);
            CHECK_EQUAL(mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, &result, 1), 1);
            CHECK_EQUAL(result.ticket, ticket);
            CHECK_EQUAL(result.message.bytes, 0);
        }
    engine_finish();
}

static void test_cancelling(void) {
    static struct mpf_worker me;
    uint64_t cookie;
    uint32_t slot, holder;
    struct mpf_task task;
    engine_start();
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    CHECK_EQUAL(mpf_worker_join(&me, &crew.ref, slot), 0);
    for (uint64_t number = 0; number < 20; number++) {
        uint64_t taken_back = put_sized(number, length_of(number), number % 2 == 0), ticket = put_number(100 + number);
        CHECK_EQUAL(mpf_crew_holder(&crew, taken_back, &holder), -EAGAIN);
        CHECK_EQUAL(mpf_crew_cancel(&crew, taken_back, &cookie), 0);
        CHECK_EQUAL(cookie, number + 1);
        CHECK_EQUAL(mpf_crew_cancel(&crew, taken_back, &cookie), -ENOENT);
        CHECK_EQUAL(mpf_crew_holder(&crew, taken_back, &holder), -ENOENT);
        CHECK_EQUAL(mpf_worker_claim(&me, &task), 0);
        CHECK_EQUAL(task.ticket, ticket);
        CHECK_EQUAL(mpf_crew_cancel(&crew, ticket, &cookie), -EBUSY);
        CHECK_EQUAL(mpf_crew_holder(&crew, ticket, &holder), 0);
        CHECK_EQUAL(holder, slot);
        answer(&me, &task);
        CHECK_EQUAL(mpf_crew_cancel(&crew, ticket, &cookie), -EBUSY);
        CHECK_EQUAL(collect_once(&account), 1);
        CHECK_EQUAL(mpf_crew_cancel(&crew, ticket, &cookie), -ENOENT);
    }
    engine_finish();
}

/* Tasks are cancelled while workers take them: each is cancelled or done. */
static void test_cancelling_under_way(void) {
    static uint64_t tickets[20000];
    uint64_t cookie, cancelled = 0;
    pid_t pids[2];
    uint32_t slots[2];
    engine_start();
    for (int i = 0; i < 2; i++)
        pids[i] = start_worker(&slots[i]);
    for (uint64_t number = 0; number < COUNT_OF(tickets); number++) {
        tickets[number] = put_sized(number, number % 7 == 0 ? 3000 : 8, false);
        mpf_crew_wake(&crew, 1);
        if (number >= 3 && mpf_crew_cancel(&crew, tickets[number - 3], &cookie) == 0) {
            CHECK_EQUAL(cookie, number - 2);
            account.seen[number - 3] = 3;
            cancelled++;
        }
        if (number % 64 == 0)
            collect_once(&account);
    }
    collect_until(&account, COUNT_OF(tickets) - cancelled);
    for (uint64_t number = 0; number < COUNT_OF(tickets); number++)
        CHECK(account.seen[number] == 1 || account.seen[number] == 3);
    dismiss_all(pids, slots, 2);
    engine_finish();
}

static uint64_t visited;

static void visit(void *context, uint64_t ticket, uint64_t cookie) {
    CHECK_EQUAL(cookie, ++visited);
    mpf_crew_settle(context, ticket);
}

static void test_closing(void) {
    struct mpf_task_order order = {.message = {.data = "x", .bytes = 1}, .cookie = 1};
    uint64_t ticket;
    engine_start();
    for (uint64_t number = 0; number < 500; number++)
        put_sized(number, length_of(number), false);
    CHECK_EQUAL(mpf_crew_pending(&crew), 500);
    mpf_crew_close(&crew, MPF_CREW_CLOSED);
    CHECK_EQUAL(mpf_crew_put(&crew, &order, &ticket), -ESHUTDOWN);
    mpf_crew_close(&crew, MPF_CREW_ABANDONED);
    CHECK_EQUAL(mpf_crew_unsettled(&crew, visit, &crew), 0);
    CHECK_EQUAL(visited, 500);
    CHECK_EQUAL(mpf_crew_pending(&crew), 0);
    engine_finish();
}

/* Sleeping workers leave when the crew is freed, and take the last of it with them. */
static void test_freed_under_its_workers(void) {
    struct mpf_ref none = {0};
    pid_t pids[3];
    uint32_t slots[3];
    engine_start();
    for (int i = 0; i < 3; i++)
        pids[i] = start_worker(&slots[i]);
    while (mpf_eventcount_sleepers(atomic_load(&crew.shm->idle.state)) < 3)
        sched_yield();
    mpf_crew_free(&crew);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    finish(&none);
}

/* ---- other processes ---- */

static void try_everything(void *unused) {
    struct mpf_task_order order = {.message = {.data = "x", .bytes = 1}, .cookie = 1};
    struct mpf_crew_result result;
    struct mpf_crew_lost lost;
    struct mpf_park park = patient();
    uint64_t ticket = 0, cookie;
    uint32_t slot;
    (void)unused;
    CHECK(!mpf_crew_owned(&crew));
    CHECK_EQUAL(mpf_crew_put(&crew, &order, &ticket), -EPERM);
    CHECK_EQUAL(mpf_crew_cancel(&crew, ticket, &cookie), -EPERM);
    CHECK_EQUAL(mpf_crew_holder(&crew, ticket, &slot), -EPERM);
    CHECK_EQUAL(mpf_crew_condemn(&crew, ticket, &slot), -EPERM);
    CHECK_EQUAL(mpf_crew_unsettled(&crew, visit, &crew), -EPERM);
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), -EPERM);
    CHECK_EQUAL(mpf_crew_lost(&crew, 0, &lost), -EPERM);
    CHECK_EQUAL(mpf_crew_put_again(&crew, ticket, &ticket), -EPERM);
    CHECK_EQUAL(mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, &result, 1), -EPERM);
    CHECK_EQUAL(mpf_crew_await(&park, &crew, MPF_CREW_DIRECT, 1, 0), -EPERM);
    mpf_crew_wake(&crew, 1);
    mpf_crew_free(&crew);
}

static _Atomic bool forking;

static void *fork_on(void *unused) {
    while (atomic_load(&forking))
        CHECK_EQUAL(check_wait(check_fork_among_threads(try_everything, NULL)), 0);
    return unused;
}

/* Another thread forks while tasks are put: the children have no part in it. */
static void test_fork_while_putting(void) {
    pthread_t thread;
    uint32_t slot;
    engine_start();
    pid_t pid = start_worker(&slot);
    atomic_store(&forking, true);
    CHECK_EQUAL(pthread_create(&thread, NULL, fork_on, NULL), 0);
    uint64_t count = UNDER_TSAN || UNDER_ASAN ? 2000 : 20000;
    for (uint64_t number = 0; number < count; number++) {
        put_sized(number, length_of(number / 3), false);
        mpf_crew_wake(&crew, 1);
        if (number % 50 == 49)
            collect_until(&account, number);
    }
    collect_until(&account, count);
    atomic_store(&forking, false);
    pthread_join(thread, NULL);
    dismiss_all(&pid, &slot, 1);
    engine_finish();
}

#ifdef MPF_DEBUG
#define HUGE_BYTES (64 << 20) /* more than lies about committed */

static void run_out_of_memory(void) { CHECK_EQUAL(mpf_fault_set("memfd.commit:1:ENOMEM"), 0); }
static void have_memory_again(void) { CHECK_EQUAL(mpf_fault_set(NULL), 0); }

static void write_nothing(const void *unused, void *to) {
    (void)unused;
    memset(to, 0, 8);
}

/* What finds no memory has not happened, and can be done again or in another way. */
static void test_no_memory(void) {
    static struct mpf_worker me;
    struct mpf_lane_message huge = {.write = write_nothing, .bytes = HUGE_BYTES}, small = {.data = "small", .bytes = 5};
    struct mpf_task_order order = {.message = huge, .cookie = 1};
    struct mpf_crew_result result;
    struct mpf_task task;
    uint64_t ticket, refused = 0;
    uint32_t slot;
    engine_start();
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    CHECK_EQUAL(mpf_worker_join(&me, &crew.ref, slot), 0);
    run_out_of_memory();
    CHECK_EQUAL(mpf_crew_put(&crew, &order, &ticket), -ENOMEM);
    have_memory_again();
    CHECK_EQUAL(mpf_crew_pending(&crew), 0);
    CHECK_EQUAL(mpf_worker_claim(&me, &task), -EAGAIN);
    CHECK_EQUAL(mpf_crew_put(&crew, &order, &ticket), 0);
    CHECK_EQUAL(mpf_worker_claim(&me, &task), 0);
    CHECK_EQUAL(task.bytes, HUGE_BYTES);
    run_out_of_memory();
    CHECK_EQUAL(mpf_worker_report(&me, &huge, NULL), -ENOMEM);
    have_memory_again();
    CHECK_EQUAL(mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, &result, 1), -EAGAIN);
    CHECK_EQUAL(mpf_worker_report(&me, &small, NULL), 0);
    mpf_block_unref(&task.block);
    CHECK_EQUAL(mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, &result, 1), 1);
    CHECK(result.message.bytes == 5 && memcmp(result.message.data, "small", 5) == 0);
    order.message = small;
    for (uint64_t number = 0; number < 20000; number++) {
        order.cookie = number + 1;
        run_out_of_memory();
        if (mpf_crew_put(&crew, &order, &ticket) == -ENOMEM) {
            refused++;
            have_memory_again();
            CHECK_EQUAL(mpf_crew_pending(&crew), number);
            CHECK_EQUAL(mpf_crew_put(&crew, &order, &ticket), 0);
        }
    }
    have_memory_again();
    CHECK(refused > 0);
    for (uint64_t number = 0; number < 20000; number++) {
        CHECK_EQUAL(mpf_worker_claim(&me, &task), 0);
        CHECK_EQUAL(mpf_worker_report(&me, &small, NULL), 0);
        CHECK_EQUAL(mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, &result, 1), 1);
        CHECK_EQUAL(result.cookie, number + 1);
    }
    engine_finish();
}

struct fault {
    int nth;
    char point[60];
};

static void orphan(uint32_t slot) {
    static struct mpf_worker worker;
    CHECK_EQUAL(mpf_fault_set(NULL), 0);
    if (mpf_worker_join(&worker, &crew.ref, slot) == 0) {
        int rc = work(&worker);
        CHECK(rc == -EOWNERDEAD || rc == -EPIPE);
    }
    _exit(0);
}

static void lead_and_die(void *argument) {
    const struct fault *fault = argument;
    uint32_t slots[2];
    die_at(fault->point, fault->nth);
    CHECK_EQUAL(mpf_crew_create(arena, &crew), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(mpf_crew_enlist(&crew, &slots[i]), 0);
        fflush(NULL);
        if (fork() == 0)
            orphan(slots[i]);
    }
    for (uint64_t number = 0; number < 600; number++) {
        put_sized(number, length_of(number / 3), number % 2 == 0);
        mpf_crew_wake(&crew, 1);
        if (number % 8 == 0)
            collect_once(&account);
    }
    collect_until(&account, 600);
    raise(SIGKILL);
}

/* The parent is killed at each step: its workers leave, and nothing remains. */
static void test_kill_the_parent(void) {
    static const char *const points[] = {
        "crew.created", "crew.put.before_wake", "roster.owned", "roster.lane_made", "ring.segment.owned", "ring.segment.void",
        "ring.segment.ready", "ring.put.filling", "ring.put.written", "ring.put.published", "lane.get.copied",
        "lane.get.consumed", "lane.get.block_attached", "block.replace", "section.logged", "section.left", "park.woken"};
    struct mpf_ref none = {0};
    struct fault fault;
    mpf_crew_register_hooks();
    start();
    CHECK_EQUAL(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (fault.nth = 1; fault.nth < 400; fault.nth = fault.nth * 7 + 1) {
            snprintf(fault.point, sizeof fault.point, "%s", points[p]);
            CHECK_EQUAL(check_wait(check_fork(lead_and_die, &fault)), -SIGKILL);
            int status;
            while (wait(&status) > 0)
                CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            finish(&none);
        }
}
#endif

CHECK_MAIN({"one_worker", test_one_worker}, {"many_workers", test_many_workers}, {"orders", test_orders},
           {"cancelling", test_cancelling}, {"cancelling_under_way", test_cancelling_under_way}, {"closing", test_closing},
           {"freed_under_its_workers", test_freed_under_its_workers}, {"fork_while_putting", test_fork_while_putting},
#ifdef MPF_DEBUG
           {"no_memory", test_no_memory}, {"kill_the_parent", test_kill_the_parent},
#endif
)
