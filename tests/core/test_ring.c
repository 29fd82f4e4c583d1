/* Rings: tasks are claimed once and in order, by cursors however old; memory is used again; nothing is left. */
#include <sys/prctl.h>

#include "engine_check.h"

static struct mpf_ref ref;
static struct mpf_ring_shm *shm;
static struct mpf_ring ring;

static void ring_destroy(struct mpf_arena *of, mpf_off off) { mpf_ring_destroy(of, mpf_at(of, off)); }

static void setup_at(uint64_t first) {
    static const struct mpf_block_hooks hooks = {NULL, ring_destroy};
    mpf_block_set_hooks(MPF_BLOCK_POOL, &hooks);
    start();
    shm = make(MPF_BLOCK_POOL, 4096, &ref);
    CHECK_EQUAL(mpf_ring_init(arena, shm, first, &ring), 0);
}

static void setup(void) { setup_at(1); }

static void teardown(void) {
    mpf_ring_free(&ring);
    finish(&ref);
}

static uint64_t put_to(struct mpf_ring *to, uint64_t number, size_t bytes, bool keep) {
    uint64_t ticket = 0;
    fill_payload(payload_bytes, number, bytes);
    struct mpf_task_order order = {
        .message = {.data = payload_bytes, .bytes = bytes, .tag = (uint32_t)number}, .cookie = number + 1, .keep = keep};
    CHECK_EQUAL(mpf_ring_put(to, &order, &ticket), 0);
    return ticket;
}

static uint64_t put(uint64_t number, size_t bytes) { return put_to(&ring, number, bytes, false); }

struct claimer {
    struct mpf_ring_cursor cursor;
    uint32_t worker;
    _Atomic uint64_t intent;
};

static void begin(struct claimer *claimer, uint32_t worker) {
    mpf_ring_begin(&claimer->cursor, arena, shm);
    claimer->worker = worker;
    atomic_store(&claimer->intent, 0);
}

/* The number of the claimed task, and its ticket; -1: none. */
static int64_t claim(struct claimer *claimer, uint64_t *ticket) {
    static _Thread_local char gathered[MPF_TASK_INLINE_MAX];
    struct mpf_task task;
    struct mpf_task_shm *record = mpf_ring_claim(&claimer->cursor, claimer->worker, &claimer->intent, ticket);
    if (record == NULL)
        return -1;
    CHECK_EQUAL(atomic_load(&claimer->intent), *ticket);
    CHECK_EQUAL(atomic_load(&record->state), mpf_task_state(mpf_task_ordinal(*ticket), claimer->worker, MPF_TASK_CLAIMED));
    CHECK_EQUAL(mpf_task_open(arena, record, gathered, &task), 0);
    int64_t number = (int64_t)check_payload(task.data, task.bytes);
    CHECK_EQUAL(task.tag, (uint32_t)number);
    mpf_block_unref(&task.block);
    return number;
}

static void claim_and_settle(struct claimer *claimer, uint64_t number) {
    uint64_t ticket, cookie;
    CHECK_EQUAL(claim(claimer, &ticket), number);
    CHECK(mpf_ring_find(&ring, ticket, &cookie) != NULL);
    CHECK_EQUAL(cookie, number + 1);
    mpf_ring_settle(&ring, ticket);
    CHECK(mpf_ring_find(&ring, ticket, &cookie) == NULL);
}

static void test_in_order(void) {
    struct claimer one;
    uint64_t none;
    setup();
    begin(&one, 1);
    CHECK_EQUAL(claim(&one, &none), -1);
    CHECK(!mpf_ring_pending(&one.cursor));
    for (uint64_t number = 0; number < 2000; number++)
        put(number, length_of(number));
    CHECK_EQUAL(atomic_load(&ring.unsettled), 2000);
    CHECK(mpf_ring_pending(&one.cursor));
    for (uint64_t number = 0; number < 2000; number++)
        claim_and_settle(&one, number);
    CHECK_EQUAL(claim(&one, &none), -1);
    CHECK_EQUAL(atomic_load(&ring.unsettled), 0);
    teardown();
}

/* A long life of few tasks at a time takes no more memory than its first moments. */
static void test_segments_are_used_again(void) {
    struct claimer one;
    setup();
    begin(&one, 1);
    for (uint64_t number = 0; number < 50000; number++) {
        put(number, number % 3 == 0 ? 300 : 8);
        claim_and_settle(&one, number);
    }
    CHECK_EQUAL(ring.segment_count, 2);
    for (uint64_t number = 0; number < 5000; number++)
        put(number, 8);
    uint32_t most = ring.segment_count;
    for (int round = 0; round < 5; round++) {
        for (uint64_t number = 0; number < 5000; number++)
            claim_and_settle(&one, number);
        for (uint64_t number = 0; number < 5000; number++)
            put(number, 8);
    }
    CHECK(ring.segment_count <= most + 1);
    teardown();
}

/* One task that takes for ever holds one segment, not all that come after it. */
static void test_a_slow_task_holds_one_segment(void) {
    struct claimer slow, fast;
    uint64_t ticket, cookie;
    setup();
    begin(&slow, 1);
    begin(&fast, 2);
    put(7, 8);
    CHECK_EQUAL(claim(&slow, &ticket), 7);
    for (uint64_t number = 0; number < 20000; number++) {
        put(number, 8);
        claim_and_settle(&fast, number);
    }
    CHECK(ring.segment_count <= 3);
    CHECK(mpf_ring_find(&ring, ticket, &cookie) != NULL);
    CHECK_EQUAL(cookie, 8);
    mpf_ring_settle(&ring, ticket);
    teardown();
}

/* A worker that was stopped finds its way whenever it goes on, at every distance. */
static void test_old_cursors(void) {
    setup();
    uint64_t number = 0;
    struct claimer fast;
    begin(&fast, 1);
    for (uint64_t from = 0; from < 700; from += 7)
        for (uint64_t distance = 1; distance < 1500; distance += 211) {
            struct claimer old;
            uint64_t ticket;
            begin(&old, 2);
            for (uint64_t i = 0; i < from % 70; i++, number++) {
                put(number, 8);
                claim_and_settle(&old, number);
            }
            CHECK_EQUAL(claim(&old, &ticket), -1);
            for (uint64_t i = 0; i < distance; i++, number++) {
                put(number, 8);
                claim_and_settle(&fast, number);
            }
            CHECK_EQUAL(claim(&old, &ticket), -1);
            put(number, 8);
            CHECK(mpf_ring_pending(&old.cursor));
            claim_and_settle(&old, number++);
        }
    teardown();
}

/* Nobody has moved head: its owner was killed each time. The parent makes do, and so does a new worker. */
static void test_head_is_a_hint(void) {
    struct claimer one;
    uint64_t ticket;
    setup();
    begin(&one, 1);
    for (uint64_t number = 0; number < 5000; number++) {
        put(number, 8);
        claim_and_settle(&one, number);
        atomic_store(&shm->head, 0);
    }
    CHECK(ring.segment_count <= 2);
    put(5000, 8);
    struct claimer another;
    begin(&another, 2);
    CHECK_EQUAL(claim(&another, &ticket), 5000);
    teardown();
}

static void test_ordinals_wrap(void) {
    struct claimer one;
    setup_at((UINT64_C(1) << MPF_TASK_ORDINAL_BITS) - 100);
    begin(&one, 1);
    for (uint64_t number = 0; number < 1000; number++) {
        put(number, length_of(number));
        if (number % 2 == 1) {
            claim_and_settle(&one, number - 1);
            claim_and_settle(&one, number);
        }
    }
    teardown();
}

static void cancel(uint64_t ticket) {
    uint64_t cookie;
    struct mpf_task_shm *record = mpf_ring_find(&ring, ticket, &cookie);
    CHECK(record != NULL);
    atomic_store(&record->state, mpf_task_state(mpf_task_ordinal(ticket), 0, MPF_TASK_CANCELLED));
    mpf_ring_settle(&ring, ticket);
}

static void test_cancelled_ones_are_passed(void) {
    static uint64_t tickets[3000];
    struct claimer one;
    uint64_t none;
    setup();
    begin(&one, 1);
    for (int round = 0; round < 4; round++) {
        for (uint64_t number = 0; number < 3000; number++)
            tickets[number] = put(number, length_of(number));
        for (uint64_t number = 0; number < 3000; number++)
            if (number % 5 != 2)
                cancel(tickets[number]);
        for (uint64_t number = 2; number < 3000; number += 5)
            claim_and_settle(&one, number);
        CHECK_EQUAL(claim(&one, &none), -1);
    }
    teardown();
}

static uint64_t expected;

static void visit(void *context, uint64_t ticket, uint64_t cookie) {
    uint64_t found;
    CHECK_EQUAL(cookie, expected + 1);
    expected += *(uint64_t *)context;
    CHECK(mpf_ring_find(&ring, ticket, &found) != NULL);
    CHECK_EQUAL(found, cookie);
    mpf_ring_settle(&ring, ticket);
}

static void test_list(void) {
    static uint64_t tickets[3000];
    uint64_t step = 3;
    setup();
    for (int round = 0; round < 3; round++) {
        for (uint64_t number = 0; number < 3000; number++)
            tickets[number] = put(number, 8);
        for (uint64_t number = 0; number < 3000; number++)
            if (number % 3 != 0)
                cancel(tickets[number]);
        expected = 0;
        CHECK_EQUAL(mpf_ring_list(&ring, visit, &step), 0);
        CHECK_EQUAL(expected, 3000);
        CHECK_EQUAL(atomic_load(&ring.unsettled), 0);
        struct claimer one; /* what was settled by hand had not been claimed: it stands there still */
        begin(&one, 1);
        uint64_t ticket;
        while (claim(&one, &ticket) >= 0)
            ;
    }
    teardown();
}

static void test_put_again(void) {
    struct claimer one;
    uint64_t ticket, again, cookie;
    setup();
    begin(&one, 1);
    for (uint64_t number = 0; number < 100; number++) {
        uint64_t put_at = put_to(&ring, number, length_of(number), true);
        for (int time = 0; time < 3; time++) {
            CHECK_EQUAL(claim(&one, &ticket), number);
            CHECK_EQUAL(ticket, put_at);
            CHECK_EQUAL(mpf_ring_put_again(&ring, ticket, &again), 0);
            CHECK(again != ticket);
            CHECK(mpf_ring_find(&ring, ticket, &cookie) == NULL);
            CHECK_EQUAL(mpf_ring_put_again(&ring, ticket, &again), -ENOENT);
            put_at = again == 0 ? put_at : again;
        }
        claim_and_settle(&one, number);
    }
    ticket = put(5, 8);
    CHECK_EQUAL(mpf_ring_put_again(&ring, ticket, &again), -EINVAL);
    teardown();
}

static void test_strange_tickets(void) {
    uint64_t cookie, ticket = 0;
    setup();
    put(1, 300);
    CHECK(mpf_ring_find(&ring, 0, &cookie) == NULL);
    CHECK(mpf_ring_find(&ring, UINT64_MAX, &cookie) == NULL);
    ticket = put(2, 8);
    CHECK(mpf_ring_find(&ring, ticket + 1, &cookie) == NULL);
    CHECK(mpf_ring_find(&ring, ticket + (1 << 24), &cookie) == NULL);
    CHECK(mpf_ring_find(&ring, ticket - (1 << 24), &cookie) == NULL); /* a further slot of the first one */
    CHECK(mpf_ring_find(&ring, ticket, &cookie) != NULL);
    mpf_ring_settle(&ring, ticket + 1);
    CHECK_EQUAL(atomic_load(&ring.unsettled), 2);
    teardown();
}

/* Payloads that nobody has claimed go with the ring. */
static void test_destroying_drops_payloads(void) {
    struct claimer one;
    uint64_t ticket;
    setup();
    begin(&one, 1);
    for (uint64_t number = 0; number < 500; number++)
        put_to(&ring, number, length_of(number), number % 2 == 0);
    for (uint64_t number = 0; number < 250; number++)
        CHECK_EQUAL(claim(&one, &ticket), number);
    teardown();
}

/* ---- threads ---- */

#define THREADS 4
#define RACED (UNDER_TSAN ? 20000 : 100000)

static _Atomic uint32_t claimed[100000];
static _Atomic uint64_t claims;
static _Atomic uint64_t tickets_done[1024]; /* a small line back to the parent; 0: free */

static void *race(void *argument) {
    struct claimer *claimer = argument;
    while (atomic_load(&claims) < RACED) {
        uint64_t ticket;
        int64_t number = claim(claimer, &ticket);
        if (number < 0) {
            sched_yield();
            continue;
        }
        CHECK_EQUAL(atomic_fetch_add(&claimed[number], 1), 0);
        atomic_fetch_add(&claims, 1);
        for (size_t i = (size_t)number;; i++) {
            uint64_t nothing = 0;
            if (atomic_compare_exchange_strong(&tickets_done[i % COUNT_OF(tickets_done)], &nothing, ticket))
                break;
        }
    }
    return NULL;
}

static uint64_t settle_done(void) {
    uint64_t settled = 0;
    for (size_t i = 0; i < COUNT_OF(tickets_done); i++) {
        uint64_t ticket = atomic_load(&tickets_done[i]);
        if (ticket == 0)
            continue;
        mpf_ring_settle(&ring, ticket);
        atomic_store(&tickets_done[i], 0);
        settled++;
    }
    return settled;
}

static void test_claimed_once(void) {
    static struct claimer claimers[THREADS];
    pthread_t threads[THREADS];
    uint64_t number = 0, settled = 0;
    setup();
    for (uint32_t i = 0; i < THREADS; i++) {
        begin(&claimers[i], i);
        CHECK_EQUAL(pthread_create(&threads[i], NULL, race, &claimers[i]), 0);
    }
    while (settled < RACED) {
        while (number < RACED && number - settled < 400)
            put(number, number % 4 == 0 ? 200 : 8), number++;
        settled += settle_done();
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(ring.segment_count < 20);
    teardown();
}

/* ---- deaths ---- */

#ifdef MPF_DEBUG
static _Atomic int64_t *first_claimed;

static void stop_and_claim(void *point) {
    char rule[96];
    struct claimer late;
    uint64_t ticket;
    snprintf(rule, sizeof rule, "%s:1:stop", (const char *)point);
    CHECK_EQUAL(mpf_fault_set(rule), 0);
    begin(&late, 2);
    atomic_store(first_claimed, claim(&late, &ticket));
}

/* A worker begins with the segment at the front, and is stopped until that has come back behind another with tasks in it. */
static void test_stopped_at_the_front(void) {
    static char *const points[] = {"ring.begin.first", "ring.begin.base"};
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        struct claimer one;
        int status;
        setup();
        first_claimed = check_shared(sizeof *first_claimed);
        begin(&one, 1);
        put(0, 8);
        pid_t pid = check_fork(stop_and_claim, points[p]);
        CHECK_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
        CHECK(WIFSTOPPED(status));
        mpf_off front = atomic_load(&shm->first);
        for (uint64_t number = 0; number < 320; number++) {
            if (number > 0)
                put(number, 8);
            if (number < 306)
                claim_and_settle(&one, number);
        }
        CHECK_EQUAL(ring.segment_count, 2); /* both are in the chain, */
        CHECK(atomic_load(&shm->first) != front); /* the other one first */
        kill(pid, SIGCONT);
        CHECK_EQUAL(check_wait(pid), 0);
        CHECK_EQUAL(atomic_load(first_claimed), 306);
        teardown();
    }
}

static void live(struct mpf_ring *own, struct mpf_ring_shm *at) {
    static _Thread_local struct claimer one;
    uint64_t ticket, again;
    mpf_ring_begin(&one.cursor, arena, at);
    for (uint64_t number = 0; number < 400; number++) {
        put_to(own, number, length_of(number), number % 4 == 0);
        if (number % 3 == 0 && mpf_ring_claim(&one.cursor, 1, &one.intent, &ticket) != NULL &&
            mpf_ring_put_again(own, ticket, &again) != 0)
            mpf_ring_settle(own, ticket);
    }
}

static void live_and_die(void *point) {
    struct mpf_ring own;
    struct mpf_ref mine;
    static int nth;
    CHECK_EQUAL(mpf_block_alloc(arena, 4096, MPF_BLOCK_POOL, &mine), 0);
    nth = *(int *)point;
    die_at((const char *)point + sizeof(int), nth);
    CHECK_EQUAL(mpf_ring_init(arena, mpf_at(arena, mine.off), 1, &own), 0);
    live(&own, mpf_at(arena, mine.off));
    mpf_block_unref(&mine);
}

/* The parent is killed at each step: whoever reaps it gives everything back. */
static void test_kill_the_parent(void) {
    static const char *const points[] = {"ring.segment.allocated", "ring.segment.owned", "ring.segment.linked",
                                         "ring.segment.void", "ring.segment.retired", "ring.segment.ready",
                                         "ring.put.filling", "ring.put.written", "ring.put.published", "block.put",
                                         "block.take", "block.replace", "ring.destroy.segment"};
    struct {
        int nth;
        char point[60];
    } fault;
    struct mpf_ref none = {0};
    setup();
    mpf_ring_free(&ring);
    mpf_block_unref(&ref);
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        int kills = 0;
        for (fault.nth = 1; fault.nth < 400; fault.nth = fault.nth * 3 + 1) {
            snprintf(fault.point, sizeof fault.point, "%s", points[p]);
            int status = check_wait(check_fork(live_and_die, &fault));
            CHECK(status == -SIGKILL || status == 0);
            kills += status != 0;
            finish(&none);
        }
        CHECK(kills > 0);
    }
}
#endif

CHECK_MAIN({"in_order", test_in_order}, {"segments_are_used_again", test_segments_are_used_again},
           {"a_slow_task_holds_one_segment", test_a_slow_task_holds_one_segment}, {"old_cursors", test_old_cursors},
           {"head_is_a_hint", test_head_is_a_hint}, {"ordinals_wrap", test_ordinals_wrap},
           {"cancelled_ones_are_passed", test_cancelled_ones_are_passed}, {"list", test_list}, {"put_again", test_put_again},
           {"strange_tickets", test_strange_tickets},
           {"destroying_drops_payloads", test_destroying_drops_payloads}, {"claimed_once", test_claimed_once},
#ifdef MPF_DEBUG
           {"kill_the_parent", test_kill_the_parent}, {"stopped_at_the_front", test_stopped_at_the_front},
#endif
)
