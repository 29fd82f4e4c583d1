/* What the tests of the engine share: a crew, workers that answer numbered tasks, a parent that keeps account of them. */
#ifndef MPF_TESTS_ENGINE_CHECK_H
#define MPF_TESTS_ENGINE_CHECK_H

#include "sync_check.h"

#include "engine/worker.h"

#define TASKS_MAX 200000
#define BLOCK_BYTES 40000 /* a payload, and a result, that travels in a block */

static struct mpf_crew crew __attribute__((unused));
static char collected_bytes[MPF_CREW_BUFFER_BYTES] __attribute__((unused));

static inline void engine_start(void) {
    mpf_crew_register_hooks();
    start();
    CHECK_EQUAL(mpf_crew_create(arena, &crew), 0);
}

static inline void engine_finish(void) {
    struct mpf_ref none = {0};
    mpf_crew_free(&crew);
    finish(&none);
}

/* A payload: its number, and bytes that follow from it. */
static inline void fill_payload(void *to, uint64_t number, size_t bytes) {
    unsigned char *at = to;
    CHECK(bytes >= sizeof number);
    memcpy(at, &number, sizeof number);
    for (size_t i = sizeof number; i < bytes; i++)
        at[i] = (unsigned char)(number * 7 + i);
}

static inline uint64_t check_payload(const void *from, size_t bytes) {
    const unsigned char *at = from;
    uint64_t number;
    CHECK(bytes >= sizeof number);
    memcpy(&number, at, sizeof number);
    for (size_t i = sizeof number; i < bytes; i++)
        CHECK_EQUAL(at[i], (unsigned char)(number * 7 + i));
    return number;
}

/* Lengths of all kinds: in one slot, in several, in a block. */
static inline size_t length_of(uint64_t number) {
    static const size_t lengths[] = {8, 88, 89, 208, 209, 1000, MPF_TASK_INLINE_MAX, MPF_TASK_INLINE_MAX + 1, BLOCK_BYTES, 16};
    return lengths[number % COUNT_OF(lengths)];
}

static char payload_bytes[BLOCK_BYTES] __attribute__((unused));

static inline uint64_t put_sized(uint64_t number, size_t bytes, bool keep) {
    uint64_t ticket = 0;
    fill_payload(payload_bytes, number, bytes);
    struct mpf_task_order order = {
        .message = {.data = payload_bytes, .bytes = bytes, .tag = (uint32_t)number}, .cookie = number + 1, .keep = keep};
    CHECK_EQUAL(mpf_crew_put(&crew, &order, &ticket), 0);
    return ticket;
}

static inline uint64_t put_number(uint64_t number) { return put_sized(number, 8, false); }

static inline void answer(struct mpf_worker *worker, const struct mpf_task *task) {
    static _Thread_local char reply[BLOCK_BYTES];
    uint64_t number = check_payload(task->data, task->bytes);
    CHECK_EQUAL(task->tag, (uint32_t)number);
    size_t bytes = length_of(number);
    fill_payload(reply, number, bytes);
    struct mpf_lane_message message = {.data = reply, .bytes = bytes, .tag = (uint32_t)number ^ 5};
    CHECK_EQUAL(mpf_worker_report(worker, &message, NULL), 0);
}

/* Works until there is nothing more to come. 0, or what ended it. */
static inline int work(struct mpf_worker *worker) {
    int rc;
    for (;;) {
        struct mpf_task task;
        while ((rc = mpf_worker_claim(worker, &task)) == -EAGAIN) {
            struct mpf_park park = patient();
            rc = mpf_worker_await(&park, worker);
            if (rc < 0)
                return rc;
        }
        if (rc < 0)
            return rc;
        answer(worker, &task);
        mpf_block_unref(&task.block);
    }
}

static inline void worker_process(void *slot) {
    struct mpf_worker *worker = malloc(sizeof *worker);
    CHECK_EQUAL(mpf_worker_join(worker, &crew.ref, *(uint32_t *)slot), 0);
    CHECK_EQUAL(work(worker), -EPIPE);
    mpf_worker_leave(worker);
    free(worker);
}

static inline pid_t start_worker(uint32_t *slot) {
    CHECK_EQUAL(mpf_crew_enlist(&crew, slot), 0);
    return check_fork(worker_process, slot);
}

/* Results in, by number. */
struct account {
    uint64_t done;
    unsigned char seen[TASKS_MAX];
};

static inline void enter_result(struct account *account, struct mpf_crew_result *result) {
    uint64_t number = check_payload(result->message.data, result->message.bytes);
    CHECK_EQUAL(result->cookie, number + 1);
    CHECK_EQUAL(result->message.tag, (uint32_t)number ^ 5);
    CHECK(number < TASKS_MAX && account->seen[number] == 0);
    account->seen[number] = 1;
    account->done++;
    mpf_block_unref(&result->message.block);
}

static inline int collect_once(struct account *account) {
    struct mpf_crew_result results[100];
    int count = mpf_crew_collect(&crew, collected_bytes, sizeof collected_bytes, results, COUNT_OF(results));
    for (int i = 0; i < count; i++)
        enter_result(account, &results[i]);
    return count;
}

/* Until `count` results are in altogether; nobody dies meanwhile. */
static inline void collect_until(struct account *account, uint64_t count) {
    while (account->done < count) {
        struct mpf_park park = patient();
        if (collect_once(account) > 0)
            continue;
        CHECK_EQUAL(mpf_crew_await(&park, &crew, MPF_CREW_DIRECT, (uint32_t)(count - account->done), mpf_crew_bumps(&crew)), 0);
    }
}

/* Workers that have ended give their slots back. */
static inline void dismiss_all(pid_t *pids, uint32_t *slots, int count) {
    struct mpf_crew_lost lost;
    mpf_crew_close(&crew, MPF_CREW_CLOSED);
    for (int i = 0; i < count; i++) {
        CHECK_EQUAL(check_wait(pids[i]), 0);
        CHECK_EQUAL(mpf_crew_lost(&crew, slots[i], &lost), 0);
    }
}

#endif
