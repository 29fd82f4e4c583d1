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

/* ---- workers that are killed ---- */

#define GANG_MAX 4

struct gang {
    int size;
    bool keep;         /* tasks are put with keep, and put again when lost */
    const char *point; /* where the first worker dies, if anywhere */
    int nth;
    pid_t pids[GANG_MAX];
    uint32_t slots[GANG_MAX];
    uint64_t put, lost;
    int killed;
    struct account account;
};

static inline void gang_work(struct gang *gang, int index, bool doomed) {
    static struct mpf_worker worker;
    if (doomed && gang->point)
        die_at(gang->point, gang->nth);
    CHECK_EQUAL(mpf_worker_join(&worker, &crew.ref, gang->slots[index]), 0);
    CHECK_EQUAL(work(&worker), -EPIPE);
    mpf_worker_leave(&worker);
    _exit(0);
}

static inline void gang_start_one(struct gang *gang, int index, bool doomed) {
    CHECK_EQUAL(mpf_crew_enlist(&crew, &gang->slots[index]), 0);
    fflush(NULL);
    gang->pids[index] = fork();
    CHECK(gang->pids[index] >= 0);
    if (gang->pids[index] == 0)
        gang_work(gang, index, doomed);
}

static inline void gang_start(struct gang *gang) {
    for (int i = 0; i < gang->size; i++)
        gang_start_one(gang, i, i == 0);
}

static inline void gang_put(struct gang *gang, uint64_t count) {
    for (; count > 0; count--, gang->put++)
        put_sized(gang->put, length_of(gang->put / 3), gang->keep);
    mpf_crew_wake(&crew, (uint32_t)gang->put);
}

/* The worker is gone: what it had is lost, or put again. */
static inline void gang_bury(struct gang *gang, int index) {
    struct mpf_crew_lost lost;
    int rc;
    while ((rc = mpf_crew_lost(&crew, gang->slots[index], &lost)) == -EBUSY)
        CHECK(collect_once(&gang->account) >= 0);
    CHECK(rc >= 0);
    if (rc == 1 && gang->keep) {
        CHECK_EQUAL(mpf_crew_put_again(&crew, lost.ticket, &lost.ticket), 0);
        mpf_crew_wake(&crew, 1);
    } else if (rc == 1) {
        CHECK(gang->account.seen[lost.cookie - 1] == 0);
        gang->account.seen[lost.cookie - 1] = 2;
        mpf_crew_settle(&crew, lost.ticket);
        gang->lost++;
    }
}

/* Sees to those who have died; whether any had. */
static inline bool gang_look(struct gang *gang) {
    bool any = false;
    for (int i = 0; i < gang->size; i++) {
        int status;
        if (waitpid(gang->pids[i], &status, WNOHANG) != gang->pids[i])
            continue;
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        gang->killed++;
        gang_bury(gang, i);
        gang_start_one(gang, i, false);
        any = true;
    }
    return any;
}

/* Until everything is done or lost. */
static inline void gang_finish_tasks(struct gang *gang) {
    while (gang->account.done + gang->lost < gang->put) {
        struct mpf_park park = patient();
        if (collect_once(&gang->account) > 0)
            continue;
        uint32_t wanted = (uint32_t)(gang->put - gang->account.done - gang->lost);
        int rc = mpf_crew_await(&park, &crew, MPF_CREW_DIRECT, wanted, mpf_crew_bumps(&crew));
        CHECK(rc == 0 || rc == -ECHILD);
        if (rc == -ECHILD && !gang_look(gang))
            sched_yield(); /* dead, but not yet for its parent */
    }
    CHECK_EQUAL(mpf_crew_pending(&crew), 0);
}

/* Until all workers sleep, those included that have taken the place of others. */
static inline void gang_rest(struct gang *gang) {
    int64_t until = mpf_clock_now() + 20 * SECOND;
    while (mpf_eventcount_sleepers(atomic_load(&crew.shm->idle.state)) < (uint32_t)gang->size) {
        CHECK(mpf_clock_now() < until);
        mpf_participant_reap(arena);
        gang_look(gang);
        sched_yield();
    }
}

/* Everything has an end: each task one, each worker its own. */
static inline void gang_end(struct gang *gang) {
    gang_finish_tasks(gang);
    mpf_crew_close(&crew, MPF_CREW_CLOSED);
    for (int i = 0; i < gang->size; i++) {
        int status = check_wait(gang->pids[i]);
        CHECK(status == 0 || status == -SIGKILL);
        gang->killed += status != 0;
        gang_bury(gang, i);
    }
    CHECK_EQUAL(gang->account.done + gang->lost, gang->put);
    CHECK(gang->lost <= (uint64_t)gang->killed);
    CHECK(!gang->keep || gang->lost == 0);
}

#endif
