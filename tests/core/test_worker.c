/* Workers: killed, stopped and orphaned at every step; nothing is lost but what they had in hand, nothing is done twice. */
#include <sys/prctl.h>

#include "engine_check.h"

static struct mpf_worker me;
static _Atomic int *stage;

static void join_here(void) {
    uint32_t slot;
    engine_start();
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    CHECK_EQUAL(mpf_worker_join(&me, &crew.ref, slot), 0);
    stage = check_shared(sizeof *stage);
}

static struct mpf_task claim_one(void) {
    struct mpf_task task;
    CHECK_EQUAL(mpf_worker_claim(&me, &task), 0);
    return task;
}

static struct mpf_crew_result collect_one(void) {
    struct mpf_crew_result result;
    CHECK_EQUAL(mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, &result, 1), 1);
    return result;
}

static void test_one_at_a_time(void) {
    struct mpf_task task;
    struct mpf_lane_message message = {.data = "done", .bytes = 4};
    join_here();
    CHECK_EQUAL(mpf_worker_claim(&me, &task), -EAGAIN);
    CHECK_EQUAL(mpf_worker_report(&me, &message, NULL), -EINVAL);
    put_number(1);
    put_number(2);
    task = claim_one();
    CHECK_EQUAL(mpf_worker_claim(&me, &task), -EBUSY);
    CHECK_EQUAL(mpf_worker_report(&me, &message, NULL), 0);
    CHECK_EQUAL(mpf_worker_report(&me, &message, NULL), -EINVAL);
    claim_one();
    CHECK_EQUAL(mpf_worker_report(&me, &message, NULL), 0);
    CHECK_EQUAL(collect_one().cookie, 2);
    CHECK_EQUAL(collect_one().cookie, 3);
    engine_finish();
}

static void test_joining(void) {
    struct mpf_worker other;
    uint32_t slot;
    join_here();
    CHECK_EQUAL(mpf_worker_join(&other, &crew.ref, me.slot), -EBUSY);
    CHECK_EQUAL(mpf_worker_join(&other, &crew.ref, 100000), -EINVAL);
    CHECK_EQUAL(mpf_worker_join(&other, &crew.ref, me.slot + 1), -EBUSY); /* set aside for nobody */
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    CHECK(slot != me.slot);
    CHECK_EQUAL(mpf_worker_join(&other, &crew.ref, slot), 0);
    engine_finish();
}

static void write_reply(const void *context, void *to) { fill_payload(to, 9, *(const size_t *)context); }

/* Results of every kind of length, from memory, from a writer, in the caller's own block. */
static void test_results(void) {
    static char bytes[BLOCK_BYTES];
    join_here();
    for (size_t length = 8; length <= BLOCK_BYTES; length = length * 5 / 4 + 1)
        for (int way = 0; way < 3; way++) {
            struct mpf_lane_message message = {.bytes = length, .tag = 77};
            struct mpf_ref block = {0};
            put_number(length);
            claim_one();
            fill_payload(bytes, 9, length);
            if (way == 0) {
                message.data = bytes;
            } else if (way == 1) {
                message.write = write_reply;
                message.context = &length;
            } else {
                CHECK_EQUAL(mpf_block_alloc(arena, MPF_WORKER_PREFIX + length, MPF_BLOCK_MESSAGE, &block), 0);
                fill_payload((char *)mpf_at(arena, block.off) + MPF_WORKER_PREFIX, 9, length);
            }
            CHECK_EQUAL(mpf_worker_report(&me, &message, way == 2 ? &block : NULL), 0);
            CHECK_EQUAL(block.off, 0);
            struct mpf_crew_result result = collect_one();
            CHECK_EQUAL(result.cookie, length + 1);
            CHECK_EQUAL(result.slot, me.slot);
            CHECK_EQUAL(result.message.tag, 77);
            CHECK_EQUAL(result.message.bytes, length);
            CHECK_EQUAL(check_payload(result.message.data, length), 9);
            if (result.message.block.off != 0)
                CHECK_EQUAL(mpf_offset_of(arena, result.message.data) % 32, 0);
            mpf_block_unref(&result.message.block);
        }
    engine_finish();
}

static void test_jobs(void) {
    struct mpf_ref job, opened;
    uint64_t ticket;
    join_here();
    struct mpf_lane_message encoded = {.data = "a function", .bytes = 10};
    CHECK_EQUAL(mpf_crew_make_job(&crew, &encoded, &job), 0);
    for (int i = 0; i < 3; i++) {
        struct mpf_task_order order = {.message = {.data = "x", .bytes = 1}, .job = &job, .cookie = 1};
        CHECK_EQUAL(mpf_crew_put(&crew, &order, &ticket), 0);
        struct mpf_task task = claim_one();
        CHECK_EQUAL(task.job, job.off);
        CHECK_EQUAL(task.job_generation, job.generation);
        CHECK_EQUAL(mpf_worker_open_job(&me, &task, &opened), 0);
        CHECK_EQUAL(mpf_block_bytes(&opened), 10);
        CHECK(memcmp(mpf_at(arena, opened.off), "a function", 10) == 0);
        mpf_block_unref(&opened);
        CHECK_EQUAL(mpf_worker_report(&me, &encoded, NULL), 0);
        collect_one();
    }
    mpf_block_unref(&job);
    engine_finish();
}

static void test_leaving(void) {
    struct mpf_task task;
    struct mpf_lane_message message = {.data = "done", .bytes = 4};
    struct mpf_park park;
    join_here();
    put_number(1);
    put_number(2);
    mpf_crew_close(&crew, MPF_CREW_CLOSED);
    for (int i = 0; i < 2; i++) {
        park = patient();
        CHECK_EQUAL(mpf_worker_await(&park, &me), 0);
        claim_one();
        CHECK_EQUAL(mpf_worker_report(&me, &message, NULL), 0);
    }
    park = patient();
    CHECK_EQUAL(mpf_worker_await(&park, &me), 0);
    CHECK_EQUAL(mpf_worker_claim(&me, &task), -EPIPE);
    engine_finish();
}

static void test_leaving_at_once(void) {
    struct mpf_task task;
    join_here();
    put_number(1);
    mpf_crew_close(&crew, MPF_CREW_ABANDONED);
    mpf_crew_close(&crew, MPF_CREW_CLOSED); /* never back */
    CHECK_EQUAL(mpf_worker_claim(&me, &task), -EPIPE);
    engine_finish();
}

static void test_dismissed(void) {
    struct mpf_task task;
    struct mpf_lane_message message = {.data = "done", .bytes = 4};
    join_here();
    put_number(1);
    put_number(2);
    claim_one();
    mpf_crew_dismiss(&crew, me.slot);
    CHECK_EQUAL(mpf_worker_report(&me, &message, NULL), 0);
    CHECK_EQUAL(mpf_worker_claim(&me, &task), -EPIPE);
    engine_finish();
}

static void test_await_times_out(void) {
    join_here();
    struct mpf_park park = within(30 * MS);
    CHECK_EQUAL(mpf_worker_await(&park, &me), -ETIMEDOUT);
    put_number(1);
    park = within(0);
    CHECK_EQUAL(mpf_worker_await(&park, &me), 0);
    engine_finish();
}

/* ---- deaths ---- */

static void *sleep_for_task(void *unused) {
    struct mpf_park park = patient();
    CHECK_EQUAL(mpf_worker_await(&park, &me), 0);
    tell(stage, 1);
    return unused;
}

/* Sleepers are woken by what there is to be woken for. */
static void test_sleepers_are_woken(void) {
    for (int reason = 0; reason < 3; reason++) {
        pthread_t thread;
        join_here();
        tell(stage, 0);
        CHECK_EQUAL(pthread_create(&thread, NULL, sleep_for_task, NULL), 0);
        while (mpf_eventcount_sleepers(atomic_load(&crew.shm->idle.state)) == 0)
            sched_yield();
        if (reason == 0) {
            put_number(1);
            mpf_crew_wake(&crew, 1);
        } else if (reason == 1) {
            mpf_crew_dismiss(&crew, me.slot);
        } else {
            mpf_crew_close(&crew, MPF_CREW_CLOSED);
        }
        await_flag(stage, 1);
        pthread_join(thread, NULL);
        engine_finish();
    }
}

/* A seeker that is stopped was counted on for the task: another that sleeps does it in the end. */
static void test_a_stopped_seeker_keeps_no_task(void) {
    static struct gang gang = {.size = 2};
    engine_start();
    gang_start(&gang);
    gang_put(&gang, 10);
    gang_finish_tasks(&gang);
    atomic_store(&crew.shm->seekers, 1); /* as if */
    gang_put(&gang, 1);
    gang_end(&gang);
    engine_finish();
}

#define NEEDED 4

static _Atomic int *present;

/* Each task of a round waits for the others: all workers have to be awake at once. */
static void meet(void *slot) {
    struct mpf_lane_message message = {.data = "met", .bytes = 3};
    CHECK_EQUAL(mpf_worker_join(&me, &crew.ref, *(uint32_t *)slot), 0);
    for (int rc = 0; rc != -EPIPE;) {
        struct mpf_task task;
        struct mpf_park park = patient();
        rc = mpf_worker_claim(&me, &task);
        if (rc == -EAGAIN) {
            CHECK_EQUAL(mpf_worker_await(&park, &me), 0);
        } else if (rc == 0) {
            int round = (int)task.tag;
            atomic_fetch_add(present, 1);
            await_flag(present, (round + 1) * NEEDED);
            CHECK_EQUAL(mpf_worker_report(&me, &message, NULL), 0);
        }
    }
}

static void collect_meeting(int count) {
    struct mpf_crew_result results[NEEDED];
    while (count > 0) {
        struct mpf_park park = patient();
        int got = mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, results, NEEDED);
        if (got > 0)
            count -= got;
        else
            CHECK_EQUAL(mpf_crew_await(&park, &crew, MPF_CREW_DIRECT, (uint32_t)count, mpf_crew_bumps(&crew)), 0);
    }
}

static void test_as_many_are_woken_as_there_are_tasks(void) {
    pid_t pids[NEEDED];
    uint32_t slots[NEEDED];
    uint64_t random = 3, ticket;
    engine_start();
    present = check_shared(sizeof *present);
    for (int i = 0; i < NEEDED; i++) {
        CHECK_EQUAL(mpf_crew_enlist(&crew, &slots[i]), 0);
        pids[i] = check_fork(meet, &slots[i]);
    }
    for (uint32_t round = 0; round < (UNDER_TSAN ? 60 : 300); round++) {
        for (int i = 0; i < NEEDED; i++) {
            struct mpf_task_order order = {.message = {.data = "", .bytes = 0, .tag = round}, .cookie = 1};
            CHECK_EQUAL(mpf_crew_put(&crew, &order, &ticket), 0);
            if (round % 2 == 0)
                mpf_crew_wake(&crew, 1);
            if (round % 4 == 0)
                usleep(check_random(&random) % 60);
        }
        if (round % 2 == 1)
            mpf_crew_wake(&crew, NEEDED);
        collect_meeting(NEEDED);
    }
    dismiss_all(pids, slots, NEEDED);
    engine_finish();
}

/* The parent is killed while its workers are `busy`, or asleep: they see it and leave; nothing remains. */
static void orphan(void *unused) {
    (void)unused;
    tell(stage, *stage + 1);
    uint32_t slot;
    CHECK_EQUAL(mpf_crew_create(arena, &crew), 0);
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    for (int i = 0; i < 1000; i++)
        put_number((uint64_t)i);
    pid_t worker = fork();
    CHECK(worker >= 0);
    if (worker == 0) {
        CHECK_EQUAL(mpf_worker_join(&me, &crew.ref, slot), 0);
        tell(stage, 2);
        CHECK_EQUAL(work(&me), -EOWNERDEAD);
        tell(stage, 3);
        _exit(0);
    }
    for (;;)
        pause();
}

static void test_orphans_leave(void) {
    struct mpf_ref none = {0};
    mpf_crew_register_hooks();
    start();
    stage = check_shared(sizeof *stage);
    CHECK_EQUAL(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    pid_t parent = check_fork(orphan, NULL);
    await_flag(stage, 2);
    kill(parent, SIGKILL);
    CHECK_EQUAL(check_wait(parent), -SIGKILL);
    await_flag(stage, 3);
    CHECK_EQUAL(check_wait(-1), 0);
    finish(&none);
}

#ifdef MPF_DEBUG
/* Steps that a worker comes by, and whether with tasks that are kept, and with others. */
static const struct {
    const char *name;
    bool plain, kept;
} worker_points[] = {
    {"worker.joined", true, true},
    {"ring.claim.noted", true, true},
    {"ring.claim.claimed", true, true},
    {"worker.claim.started", true, true},
    {"task.opened", true, true},
    {"worker.report.begun", true, true},
    {"worker.report.published", true, true},
    {"worker.report.announced", true, true},
    {"worker.seeking", true, true},
    {"park.sleep", true, true},
    {"park.woken", true, true},
    {"block.alloc", true, true},
    {"block.alloc_large", true, true},
    {"block.put", true, true},
    {"lane.put.block_owned", true, true},
    {"lane.put.written", true, true},
    {"lane.put.published", true, true},
    {"lane.put.before_wake", true, true},
    {"section.entered", true, true},
    {"section.logged", true, true},
    {"section.commit", true, true},
    {"section.left", true, true},
    {"block.take", true, false},
    {"block.free", true, false},
    {"block.attach", false, true},
};

static void kill_first_at(const char *point, bool keep, int *kills) {
    struct mpf_ref none = {0};
    for (int nth = 1; nth < 300; nth = nth * 4 + 1) {
        static struct gang gang;
        memset(&gang, 0, sizeof gang);
        gang.size = 2;
        gang.keep = keep;
        gang.point = point;
        gang.nth = nth;
        CHECK_EQUAL(mpf_crew_create(arena, &crew), 0);
        gang_put(&gang, 100);
        gang_start(&gang);
        gang_finish_tasks(&gang);
        gang_rest(&gang);
        gang_put(&gang, 30);
        gang_end(&gang);
        *kills += gang.killed;
        mpf_crew_free(&crew);
        finish(&none);
    }
}

/* A worker is stopped between two steps while others go on for long, then goes on itself. */
static void stop_first_at(const char *point, int nth) {
    static struct gang gang;
    struct mpf_ref none = {0};
    int status = 0;
    memset(&gang, 0, sizeof gang);
    gang.size = 2;
    CHECK_EQUAL(mpf_crew_create(arena, &crew), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(mpf_crew_enlist(&crew, &gang.slots[i]), 0);
        fflush(NULL);
        gang.pids[i] = fork();
        CHECK(gang.pids[i] >= 0);
        if (gang.pids[i] == 0) {
            char rule[96];
            snprintf(rule, sizeof rule, "%s:%d:stop", point, nth);
            CHECK_EQUAL(mpf_fault_set(i == 0 ? rule : NULL), 0);
            gang_work(&gang, i, false);
        }
    }
    while (!WIFSTOPPED(status)) {
        gang_put(&gang, 1);
        while (collect_once(&gang.account) > 0)
            ;
        CHECK(waitpid(gang.pids[0], &status, WUNTRACED | WNOHANG) >= 0);
        CHECK(gang.put < TASKS_MAX / 2);
    }
    uint64_t before = gang.put;
    for (int round = 0; round < 20; round++) {
        gang_put(&gang, 100);
        collect_until(&gang.account, gang.put - 1); /* at most one is in the hands of the stopped one */
    }
    CHECK(gang.account.done >= before + 2000 - 1);
    kill(gang.pids[0], SIGCONT);
    gang_end(&gang);
    mpf_crew_free(&crew);
    finish(&none);
}

static void test_stop_workers(void) {
    static const char *const points[] = {"ring.claim.noted", "ring.claim.claimed", "worker.claim.started",
                                         "worker.report.begun", "worker.report.published", "worker.seeking"};
    mpf_crew_register_hooks();
    start();
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int nth = 1; nth < 50; nth = nth * 3 + 1)
            stop_first_at(points[p], nth);
}

static void test_kill_workers(void) {
    mpf_crew_register_hooks();
    start();
    for (int keep = 0; keep < 2; keep++)
        for (size_t p = 0; p < COUNT_OF(worker_points); p++) {
            int kills = 0, tries = 0;
            if (!(keep ? worker_points[p].kept : worker_points[p].plain))
                continue;
            for (; kills == 0 && tries < 20; tries++) /* who gets how far is chance */
                kill_first_at(worker_points[p].name, keep, &kills);
            if (kills == 0)
                fprintf(stderr, "nobody came by %s\n", worker_points[p].name);
            CHECK(kills > 0);
        }
}
#endif

/* Before it has joined it may not even be a participant. */
static void kill_joined(struct gang *gang, int index) {
    struct mpf_crew_worker worker;
    while (mpf_crew_look(&crew, gang->slots[index], &worker) == 0 && worker.pid == 0)
        sched_yield();
    kill(gang->pids[index], SIGKILL);
}

/* Random kills under load. */
static void test_random_kills(void) {
    static struct gang gangs[2];
    uint64_t random = 7;
    struct mpf_ref none = {0};
    mpf_crew_register_hooks();
    start();
    for (int keep = 0; keep < 2; keep++) {
        struct gang *gang = &gangs[keep];
        gang->size = 3;
        gang->keep = keep;
        CHECK_EQUAL(mpf_crew_create(arena, &crew), 0);
        gang_start(gang);
        for (int round = 0; round < (UNDER_TSAN || UNDER_ASAN ? 20 : 100); round++) {
            gang_put(gang, check_random(&random) % 200);
            usleep(check_random(&random) % 1500);
            kill_joined(gang, (int)(check_random(&random) % 3));
            if (round % 3 == 0)
                gang_finish_tasks(gang);
        }
        gang_end(gang);
        CHECK(gang->killed > 0);
        mpf_crew_free(&crew);
        finish(&none);
    }
}

CHECK_MAIN({"one_at_a_time", test_one_at_a_time}, {"joining", test_joining}, {"results", test_results}, {"jobs", test_jobs},
           {"leaving", test_leaving}, {"leaving_at_once", test_leaving_at_once}, {"dismissed", test_dismissed},
           {"await_times_out", test_await_times_out}, {"sleepers_are_woken", test_sleepers_are_woken},
           {"as_many_are_woken_as_there_are_tasks", test_as_many_are_woken_as_there_are_tasks},
           {"a_stopped_seeker_keeps_no_task", test_a_stopped_seeker_keeps_no_task}, {"orphans_leave", test_orphans_leave},
           {"random_kills", test_random_kills},
#ifdef MPF_DEBUG
           {"kill_workers", test_kill_workers}, {"stop_workers", test_stop_workers},
#endif
)
