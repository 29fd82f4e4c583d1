/* What a task costs: each step alone in one process, then round trips and streams through worker processes. */
#include "engine_check.h"

#define STEPS 2000 /* tasks in flight */
#define ROUNDS 200

static struct mpf_worker worker;

static double per_task(int64_t since) { return (double)(mpf_clock_now() - since) / ((double)STEPS * ROUNDS); }

/* As an encoder does: the bytes are there already. */
static void put_bytes(size_t bytes) {
    static const char zeros[4096];
    uint64_t ticket;
    struct mpf_task_order order = {.message = {.data = zeros, .bytes = bytes}, .cookie = 1};
    CHECK_EQUAL(mpf_crew_put(&crew, &order, &ticket), 0);
}

static void steps(size_t bytes) {
    static struct mpf_crew_result results[STEPS];
    double put = 0, work_on = 0, collect = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t at = mpf_clock_now();
        for (int i = 0; i < STEPS; i++) {
            put_bytes(bytes);
            mpf_crew_wake(&crew, 1);
        }
        put += per_task(at);
        at = mpf_clock_now();
        for (int i = 0; i < STEPS; i++) {
            struct mpf_task task;
            struct mpf_lane_message message = {.data = "12345678", .bytes = 8};
            CHECK_EQUAL(mpf_worker_claim(&worker, &task), 0);
            CHECK_EQUAL(mpf_worker_report(&worker, &message, NULL), 0);
            mpf_block_unref(&task.block);
        }
        work_on += per_task(at);
        at = mpf_clock_now();
        for (int got = 0; got < STEPS;)
            got += mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, results, STEPS);
        collect += per_task(at);
    }
    printf("%5zu bytes: put and wake %6.1f ns   claim and report %6.1f ns   collect %6.1f ns\n", bytes, put, work_on, collect);
}

/* A worker that answers 8 bytes to everything. */
static void echo(void *slot) {
    CHECK_EQUAL(mpf_worker_join(&worker, &crew.ref, *(uint32_t *)slot), 0);
    for (int rc = 0; rc != -EPIPE;) {
        struct mpf_task task;
        struct mpf_lane_message message = {.data = "12345678", .bytes = 8};
        struct mpf_park park = patient();
        rc = mpf_worker_claim(&worker, &task);
        if (rc == -EAGAIN)
            CHECK_EQUAL(mpf_worker_await(&park, &worker), 0);
        else if (rc == 0)
            CHECK_EQUAL(mpf_worker_report(&worker, &message, NULL), 0);
    }
    mpf_worker_leave(&worker);
}

static void drain(uint64_t tasks) {
    struct mpf_crew_result results[256];
    for (uint64_t done = 0; done < tasks;) {
        int count = mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, results, COUNT_OF(results));
        struct mpf_park park = patient();
        if (count > 0)
            done += (uint64_t)count;
        else
            CHECK_EQUAL(mpf_crew_await(&park, &crew, MPF_CREW_DIRECT, (uint32_t)(tasks - done), mpf_crew_bumps(&crew)), 0);
    }
}

static void round_trips(int count) {
    int64_t at = mpf_clock_now();
    for (int i = 0; i < count; i++) {
        put_bytes(8);
        mpf_crew_wake(&crew, 1);
        drain(1);
    }
    printf("round trip: %.2f us\n", (double)(mpf_clock_now() - at) / count / 1000);
}

static void stream(int count) {
    int64_t at = mpf_clock_now();
    for (int i = 0; i < count; i++) {
        put_bytes(8);
        mpf_crew_wake(&crew, 1);
    }
    double put = (double)(mpf_clock_now() - at) / count;
    drain((uint64_t)count);
    printf("stream of %d: put %.0f ns, in all %.0f ns a task\n", count, put, (double)(mpf_clock_now() - at) / count);
}

int main(void) {
    uint32_t slot;
    uint32_t slots[4];
    pid_t pids[4];
    engine_start();
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    CHECK_EQUAL(mpf_worker_join(&worker, &crew.ref, slot), 0);
    steps(8);
    steps(80);
    steps(200);
    steps(1000);
    steps(3000);
    mpf_worker_leave(&worker);
    for (int workers = 1; workers <= 2; workers++) {
        CHECK_EQUAL(mpf_crew_enlist(&crew, &slots[workers - 1]), 0);
        pids[workers - 1] = check_fork(echo, &slots[workers - 1]);
        put_bytes(8);
        mpf_crew_wake(&crew, 1);
        drain(1); /* it has begun */
        round_trips(20000);
        printf("%d worker(s): ", workers);
        stream(100000);
    }
    dismiss_all(pids, slots, 2);
    mpf_crew_free(&crew);
    return 0;
}
