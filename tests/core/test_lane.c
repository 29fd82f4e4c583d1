/* Lanes: every message once and in order, whatever its length, whoever is killed at whatever step. */
#include "transport_check.h"

static struct mpf_ref ref;
static struct mpf_lane_shm *lane;
static struct mpf_queue_shm *queue;

static void setup(bool joinable) {
    queue = make_queue(0, joinable, &ref);
    lane = &queue->lane;
}

/* ---- one process ---- */

static size_t length_of(uint32_t number) {
    static const size_t lengths[] = {8, 12, 100, 1000, 16, 5000, MPF_LANE_INLINE_MAX, LONG_BYTES, 2000, 8};
    return lengths[number % COUNT_OF(lengths)];
}

static void test_order_over_many_segments(void) {
    setup(false);
    uint32_t put = 0, got = 0;
    for (int round = 0; round < 30; round++) {
        for (int i = 0; i < 42 + round; i++, put++) {
            CHECK_EQUAL(put_parcel(lane, 1, put, length_of(put), NULL), 0);
            CHECK_EQUAL(mpf_lane_count(lane), put - got + 1);
        }
        for (int i = 0; i < 41; i++, got++)
            expect_next(lane, 1, got);
    }
    CHECK_EQUAL(mpf_lane_total(lane), put);
    while (got < put)
        expect_next(lane, 1, got++);
    uint32_t sender, number;
    CHECK_EQUAL(get_parcel(lane, &sender, &number), -EAGAIN);
    CHECK_EQUAL(mpf_lane_count(lane), 0);
    finish(&ref);
}

/* Segments that were read are given back while the lane lives. */
static void test_memory_stays_flat(void) {
    struct mpf_block_stats before, after;
    setup(false);
    uint32_t number = 0;
    for (int round = 0; round < 200; round++) {
        for (uint32_t i = 0; i < 20; i++)
            CHECK_EQUAL(put_parcel(lane, 1, number + i, length_of(number + i), NULL), 0);
        for (uint32_t i = 0; i < 20; i++)
            expect_next(lane, 1, number + i);
        number += 20;
        if (round == 20)
            mpf_block_stats(arena, &before);
    }
    mpf_block_stats(arena, &after);
    CHECK(after.blocks[MPF_BLOCK_TABLE] <= 3); /* two in use, one spare */
    CHECK_EQUAL(after.blocks[MPF_BLOCK_MESSAGE], 0);
    CHECK(after.committed <= before.committed + (UINT64_C(1) << 20));
    finish(&ref);
}

static void test_destroy_frees_what_was_not_read(void) {
    setup(false);
    for (uint32_t i = 0; i < 500; i++)
        CHECK_EQUAL(put_parcel(lane, 1, i, length_of(i), NULL), 0);
    for (uint32_t i = 0; i < 123; i++)
        expect_next(lane, 1, i);
    finish(&ref);
}

static void test_empty_messages(void) {
    setup(false);
    char buffer[MPF_LANE_INLINE_MAX];
    struct mpf_lane_received received;
    struct mpf_lane_message nothing = {.data = "", .bytes = 0, .tag = 5};
    for (int i = 0; i < 1000; i++)
        CHECK_EQUAL(mpf_lane_put(arena, lane, &nothing, NULL, NULL), 0);
    for (int i = 0; i < 1000; i++) {
        CHECK_EQUAL(mpf_lane_get(arena, lane, buffer, &received), 0);
        CHECK_EQUAL(received.bytes, 0);
        CHECK_EQUAL(received.tag, 5);
    }
    finish(&ref);
}

static void test_batches(void) {
    setup(false);
    static char bytes[64][64], buffer[MPF_LANE_BATCH_BYTES];
    struct mpf_lane_message messages[64];
    struct mpf_lane_received received[256];
    uint32_t sender, number, put = 0, got = 0;
    for (int round = 0; round < 50; round++) {
        for (unsigned i = 0; i < 64; i++) {
            fill_parcel((struct parcel *)bytes[i], 2, put + i, 64);
            messages[i] = (struct mpf_lane_message){.data = bytes[i], .bytes = 64, .tag = (put + i) ^ 7};
        }
        CHECK_EQUAL(mpf_lane_put_many(arena, lane, messages, 64, NULL, NULL), 64);
        put += 64;
        if (round % 10 == 9)
            CHECK_EQUAL(put_parcel(lane, 2, put++, LONG_BYTES, NULL), 0);
    }
    while (got < put) {
        int count = mpf_lane_get_many(arena, lane, buffer, sizeof buffer, received, 256);
        CHECK(count > 0);
        for (int i = 0; i < count; i++) {
            check_parcel(&received[i], &sender, &number);
            CHECK_EQUAL(number, got++);
            CHECK(received[i].block.off == 0 || count == 1); /* a long one comes alone */
            mpf_block_unref(&received[i].block);
        }
    }
    CHECK_EQUAL(mpf_lane_get_many(arena, lane, buffer, sizeof buffer, received, 256), -EAGAIN);
    finish(&ref);
}

/* Message `number` is that number, `words` times; put and got in a way that depends on it. */
static void put_numbered(uint64_t number, bool alone) {
    uint64_t data[2000];
    size_t words = number % 50 == 49 ? 1999 : number % 20 + 1;
    for (size_t i = 0; i < words; i++)
        data[i] = number;
    struct mpf_lane_message message = {.data = data, .bytes = 8 * words};
    if (alone && message.bytes <= MPF_LANE_SHORT_MAX && mpf_lane_put_short_alone(arena, lane, data, message.bytes))
        return;
    CHECK_EQUAL(alone ? mpf_lane_put_alone(arena, lane, &message) : mpf_lane_put(arena, lane, &message, NULL, NULL), 0);
}

static void get_numbered(uint64_t number, bool alone) {
    static uint64_t buffer[MPF_LANE_INLINE_MAX / 8];
    struct mpf_lane_received received = {.data = buffer};
    received.bytes = alone ? mpf_lane_get_short_alone(arena, lane, buffer) : 0;
    if (received.bytes == 0)
        CHECK_EQUAL(alone ? mpf_lane_get_alone(arena, lane, buffer, &received) : mpf_lane_get(arena, lane, buffer, &received), 0);
    CHECK_EQUAL(received.bytes, 8 * (number % 50 == 49 ? 1999 : number % 20 + 1));
    for (size_t i = 0; i < received.bytes / 8; i++)
        CHECK_EQUAL(((const uint64_t *)received.data)[i], number);
}

/* What nobody else can reach is used without its sections, before and after it is used with them. */
static void test_alone(void) {
    struct mpf_lane_received received;
    char buffer[MPF_LANE_INLINE_MAX];
    setup(false);
    uint64_t put = 0, got = 0;
    for (unsigned round = 0; round < 3000; round++) {
        for (unsigned i = 0; i < round % 7; i++, put++)
            put_numbered(put, put / 100 % 2 == 0);
        while (got < put && (got + round) % 11 != 0) {
            get_numbered(got, got / 70 % 2 == 0);
            got++;
        }
        CHECK_EQUAL(mpf_lane_count(lane), put - got);
    }
    for (; got < put; got++)
        get_numbered(got, true);
    CHECK_EQUAL(mpf_lane_get_short_alone(arena, lane, buffer), 0);
    CHECK_EQUAL(mpf_lane_get_alone(arena, lane, buffer, &received), -EAGAIN);
    CHECK_EQUAL(put_parcel(lane, 1, 2, LONG_BYTES, NULL), 0);
    CHECK_EQUAL(mpf_lane_get_short_alone(arena, lane, buffer), 0);
    CHECK_EQUAL(mpf_lane_get_alone(arena, lane, buffer, &received), 0);
    CHECK(received.block.off != 0 && received.bytes == LONG_BYTES);
    mpf_block_unref(&received.block);
    put_numbered(3, true);
    mpf_lane_close(lane, MPF_LANE_NO_WRITERS);
    get_numbered(3, true);
    CHECK_EQUAL(mpf_lane_get_alone(arena, lane, buffer, &received), -EPIPE);
    finish(&ref);
}

static void test_limit_of_messages(void) {
    setup(false);
    const struct mpf_lane_limit three = {.messages = 3};
    for (uint32_t i = 0; i < 3; i++) {
        CHECK(!mpf_lane_full(lane, &three));
        CHECK_EQUAL(put_parcel(lane, 1, i, 8, &three), 0);
    }
    CHECK(mpf_lane_full(lane, &three));
    CHECK_EQUAL(put_parcel(lane, 1, 3, 8, &three), -EAGAIN);
    CHECK_EQUAL(put_parcel(lane, 1, 3, LONG_BYTES, &three), -EAGAIN);
    struct mpf_park park = within(20 * MS);
    CHECK_EQUAL(mpf_lane_await_room(&park, lane, &three), -ETIMEDOUT);
    expect_next(lane, 1, 0);
    struct mpf_lane_message two[2] = {{.data = "12345678", .bytes = 8}, {.data = "12345678", .bytes = 8}};
    CHECK_EQUAL(mpf_lane_put_many(arena, lane, two, 2, &three, NULL), 1);
    CHECK_EQUAL(mpf_lane_put_many(arena, lane, two, 2, &three, NULL), -EAGAIN);
    finish(&ref);
}

static void test_limit_of_bytes(void) {
    setup(false);
    const struct mpf_lane_limit limit = {.bytes = 1000};
    CHECK_EQUAL(put_parcel(lane, 1, 0, LONG_BYTES, &limit), 0); /* an empty lane takes anything */
    CHECK_EQUAL(put_parcel(lane, 1, 1, 8, &limit), -EAGAIN);
    expect_next(lane, 1, 0);
    for (uint32_t i = 0; i < 10; i++)
        CHECK_EQUAL(put_parcel(lane, 1, i, 100, &limit), 0);
    CHECK_EQUAL(put_parcel(lane, 1, 10, 8, &limit), -EAGAIN);
    expect_next(lane, 1, 0);
    CHECK_EQUAL(put_parcel(lane, 1, 10, 8, &limit), 0);
    finish(&ref);
}

static void test_closing(void) {
    setup(false);
    uint32_t sender, number;
    CHECK_EQUAL(put_parcel(lane, 1, 0, 8, NULL), 0);
    mpf_lane_close(lane, MPF_LANE_NO_WRITERS);
    expect_next(lane, 1, 0); /* what was put before comes before the end */
    CHECK_EQUAL(get_parcel(lane, &sender, &number), -EPIPE);
    struct mpf_park park = patient();
    CHECK_EQUAL(mpf_lane_await_message(&park, lane), 0);
    mpf_lane_close(lane, MPF_LANE_NO_READERS);
    CHECK_EQUAL(put_parcel(lane, 1, 1, 8, NULL), -EPIPE);
    struct mpf_lane_message one = {.data = "12345678", .bytes = 8};
    CHECK_EQUAL(mpf_lane_put_many(arena, lane, &one, 1, NULL, NULL), -EPIPE);
    finish(&ref);
}

static void test_diverting(void) {
    setup(false);
    CHECK_EQUAL(put_parcel(lane, 1, 0, 8, NULL), 0);
    CHECK(!mpf_lane_diverted(lane));
    mpf_lane_divert(arena, lane, NULL);
    CHECK(mpf_lane_diverted(lane));
    CHECK_EQUAL(put_parcel(lane, 1, 1, 8, NULL), -ESHUTDOWN);
    CHECK_EQUAL(put_parcel(lane, 1, 1, LONG_BYTES, NULL), -ESHUTDOWN);
    struct mpf_lane_message one = {.data = "12345678", .bytes = 8};
    CHECK_EQUAL(mpf_lane_put_many(arena, lane, &one, 1, NULL, NULL), -ESHUTDOWN);
    expect_next(lane, 1, 0);
    finish(&ref);
}

/* ---- threads and processes ---- */

#define SENDERS 3
#define EACH 2000u

static const struct mpf_lane_limit few = {.messages = 7}, none = {0};
static const struct mpf_lane_limit *bound = &none;

static void *send_all(void *argument) {
    uint32_t sender = (uint32_t)(uintptr_t)argument;
    for (uint32_t i = 0; i < EACH; i++)
        put_patiently(lane, sender, i, i % 50 == 49 ? LONG_BYTES : length_of(i % 5), bound);
    return NULL;
}

struct tally {
    _Atomic uint32_t seen[SENDERS][EACH];
};
static struct tally *tally;

static void *receive_all(void *unused) {
    uint32_t sender, number;
    int64_t last[SENDERS] = {-1, -1, -1};
    while (get_patiently(lane, &sender, &number) == 0) {
        CHECK(sender < SENDERS && number < EACH);
        CHECK_EQUAL(atomic_fetch_add(&tally->seen[sender][number], 1), 0);
        CHECK((int64_t)number > last[sender]); /* each reader sees each sender's in order */
        last[sender] = number;
    }
    return unused;
}

static void expect_all(void) {
    for (int s = 0; s < SENDERS; s++)
        for (uint32_t i = 0; i < EACH; i++)
            CHECK_EQUAL(atomic_load(&tally->seen[s][i]), 1);
}

static void run_threads(const struct mpf_lane_limit *limit, bool joinable) {
    pthread_t senders[SENDERS], receivers[3];
    setup(joinable);
    bound = limit;
    tally = check_shared(sizeof *tally);
    for (uintptr_t i = 0; i < SENDERS; i++)
        CHECK_EQUAL(pthread_create(&senders[i], NULL, send_all, (void *)i), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(pthread_create(&receivers[i], NULL, receive_all, NULL), 0);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i], NULL);
    mpf_lane_close(lane, MPF_LANE_NO_WRITERS);
    for (int i = 0; i < 3; i++)
        pthread_join(receivers[i], NULL);
    expect_all();
    finish(&ref);
}

static void test_threads(void) { run_threads(&none, false); }
static void test_threads_with_a_limit(void) { run_threads(&few, false); }
static void test_threads_with_a_ledger(void) { run_threads(&few, true); }

static void send_process(void *argument) { send_all(argument); }
static void receive_process(void *argument) { receive_all(argument); }

static void test_processes(void) {
    pid_t senders[SENDERS], receivers[3];
    setup(false);
    bound = &few;
    tally = check_shared(sizeof *tally);
    for (uintptr_t i = 0; i < SENDERS; i++)
        senders[i] = check_fork(send_process, (void *)i);
    for (int i = 0; i < 3; i++)
        receivers[i] = check_fork(receive_process, NULL);
    for (int i = 0; i < SENDERS; i++)
        CHECK_EQUAL(check_wait(senders[i]), 0);
    mpf_lane_close(lane, MPF_LANE_NO_WRITERS);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(check_wait(receivers[i]), 0);
    expect_all();
    finish(&ref);
}

static _Atomic int *stage;

static void get_one(void *unused) {
    (void)unused;
    uint32_t sender, number;
    CHECK_EQUAL(get_patiently(lane, &sender, &number), 0);
    atomic_fetch_add(stage, 1);
}

/* Each of several sleepers gets one of several messages. */
static void test_sleepers_wake_one_each(void) {
    pid_t pids[4];
    setup(false);
    stage = check_shared(sizeof *stage);
    for (int i = 0; i < 4; i++)
        pids[i] = check_fork(get_one, NULL);
    for (int i = 0; i < 4; i++)
        await_asleep(pids[i]);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_EQUAL(put_parcel(lane, 1, i, 8, NULL), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    CHECK_EQUAL(atomic_load(stage), 4);
    finish(&ref);
}

/* Somebody who only looks does not keep the message from somebody who would get it. */
static void look(void *unused) {
    (void)unused;
    struct mpf_park park = patient();
    CHECK_EQUAL(mpf_lane_await_message(&park, lane), 0);
    mpf_lane_pass_message(lane);
}

static void test_a_look_passes_the_message_on(void) {
    setup(false);
    stage = check_shared(sizeof *stage);
    pid_t looker = check_fork(look, NULL);
    await_asleep(looker);
    pid_t getter = check_fork(get_one, NULL);
    await_asleep(getter);
    CHECK_EQUAL(put_parcel(lane, 1, 0, 8, NULL), 0);
    CHECK_EQUAL(check_wait(looker), 0);
    CHECK_EQUAL(check_wait(getter), 0);
    finish(&ref);
}

/* ---- kills ---- */

#ifdef MPF_DEBUG

#define KILL_EACH 60u

struct record {
    _Atomic uint32_t acknowledged; /* by the sender that may be killed */
    _Atomic uint32_t seen[2][KILL_EACH];
    _Atomic uint32_t held; /* messages that a receiver which may be killed took and did not record */
};
static struct record *record;

static size_t kill_length(uint32_t number) {
    return number % 5 == 4 ? LONG_BYTES : number % 7 == 6 ? 9000 : 24;
}

static void send_some(uint32_t sender, bool acknowledge) {
    for (uint32_t i = 0; i < KILL_EACH; i++) {
        put_patiently(lane, sender, i, kill_length(i), &none);
        if (acknowledge)
            atomic_store(&record->acknowledged, i + 1);
    }
}

static void receive_some(void) {
    uint32_t sender, number;
    while (get_patiently(lane, &sender, &number) == 0)
        atomic_fetch_add(&record->seen[sender][number], 1);
}

static void sender_work(int index) { send_some((uint32_t)index, index == 0); }

static void expect_delivered(uint32_t sender, uint32_t from, uint32_t to, uint32_t at_least) {
    for (uint32_t i = from; i < to; i++) {
        uint32_t seen = atomic_load(&record->seen[sender][i]);
        CHECK(seen <= 1 && seen >= at_least);
    }
}

static void after_kills(void) {
    mpf_block_unref(&ref);
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK_EQUAL(blocks_left(), 0);
    mpf_block_check(arena);
}

/* A sender is killed at each point, another goes on; what was acknowledged arrives, in order. */
static void test_kill_a_sender(void) {
    static const char *const points[] = {
        "lane.put.written", "lane.put.published", "lane.put.before_wake", "lane.put.block_owned", "chain.segment.allocated",
        "chain.segment.owned", "chain.segment.linked", "section.entered", "section.commit", "section.committed",
        "section.left", "block.put", "block.alloc", "block.alloc_large", "park.wake",
    };
    static const struct crowd two = {2, sender_work};
    uint64_t random = 1;
    transport_start();
    int kills = 0;
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int nth = 1; nth < 40; nth = nth * 3 + 1) {
            setup(p % 2 == 0);
            record = check_shared(sizeof *record);
            kills += crowd_run(&two, points[p], nth, &random);
            mpf_lane_close(lane, MPF_LANE_NO_WRITERS);
            receive_some();
            uint32_t acknowledged = atomic_load(&record->acknowledged);
            expect_delivered(0, 0, acknowledged, 1);
            expect_delivered(1, 0, KILL_EACH, 1);
            expect_delivered(0, acknowledged + 1, KILL_EACH, 0);
            for (uint32_t i = acknowledged + 1; i < KILL_EACH; i++)
                CHECK_EQUAL(atomic_load(&record->seen[0][i]), 0);
            after_kills();
            munmap(record, sizeof *record);
        }
    CHECK(kills > 20);
}

static void receiver_work(int index) {
    (void)index;
    receive_some();
}

/* A receiver is killed at each point: at most the one message that it held is missing. */
static void test_kill_a_receiver(void) {
    static const char *const points[] = {
        "lane.get.copied", "lane.get.consumed", "lane.get.block_attached", "lane.get.block_marked", "chain.retire.marked",
        "chain.retire.unlinked", "chain.retire.kept", "lane.get.before_wake", "section.entered", "section.commit", "section.committed",
        "section.left", "block.attach", "block.replace", "block.free", "block.unref", "section.logged", "section.set",
    };
    static const struct crowd two = {2, receiver_work};
    uint64_t random = 1;
    transport_start();
    int kills = 0;
    for (int joinable = 0; joinable < 2; joinable++)
        for (size_t p = 0; p < COUNT_OF(points); p++)
            for (int nth = 1; nth < 20; nth = nth * 3 + 1) {
                setup(joinable);
                record = check_shared(sizeof *record);
                send_some(0, false);
                send_some(1, false);
                mpf_lane_close(lane, MPF_LANE_NO_WRITERS);
                bool killed = crowd_run(&two, points[p], nth, &random);
                kills += killed;
                expect_delivered(0, 0, KILL_EACH, 0);
                expect_delivered(1, 0, KILL_EACH, 0);
                uint32_t missing = 0;
                for (int s = 0; s < 2; s++)
                    for (uint32_t i = 0; i < KILL_EACH; i++)
                        missing += atomic_load(&record->seen[s][i]) == 0;
                CHECK(missing <= (killed ? 1 : 0));
                CHECK_EQUAL(mpf_lane_count(lane), 0);
                after_kills();
                munmap(record, sizeof *record);
            }
    CHECK(kills > 40);
}

static void destroy_it(void *point) {
    die_at(point, 2);
    mpf_block_unref(&ref); /* the last: the parent dropped its own */
}

/* Whoever destroys a lane is killed in the middle of it. */
static void test_kill_the_destroyer(void) {
    static const char *const points[] = {"lane.destroy.dropped", "chain.destroy.segment", "block.replace", "block.free",
                                         "block.dying", "block.destroyed"};
    transport_start();
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        setup(true);
        for (uint32_t i = 0; i < 300; i++)
            CHECK_EQUAL(put_parcel(lane, 1, i, length_of(i), NULL), 0);
        for (uint32_t i = 0; i < 20; i++)
            expect_next(lane, 1, i);
        _Atomic int *go = check_shared(sizeof *go);
        fflush(NULL);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            await_flag(go, 1);
            destroy_it((void *)(uintptr_t)points[p]);
            _exit(0);
        }
        mpf_block_unref(&ref);
        tell(go, 1);
        check_wait(pid);
        while (mpf_participant_reap(arena) > 0)
            ;
        CHECK_EQUAL(blocks_left(), 0);
        mpf_block_check(arena);
    }
}

static void kill_random_work(int index) {
    uint32_t sender, number;
    for (uint32_t i = 0; i < 300; i++) {
        put_patiently(lane, (uint32_t)index, i, kill_length(i), &few);
        (void)get_parcel(lane, &sender, &number);
    }
    while (get_parcel(lane, &sender, &number) == 0)
        ;
}

/* Killed at any moment while others put and get. */
static void test_kill_anywhere(void) {
    static const struct crowd three = {3, kill_random_work};
    uint64_t random = 7;
    transport_start();
    for (int round = 0; round < 12; round++) {
        setup(round % 2);
        crowd_run(&three, NULL, 0, &random);
        after_kills();
    }
}

/* Without memory for a reference the long message stays where it is. */
static void test_no_memory_for_a_reference(void) {
    static struct mpf_ref many[20000];
    static char buffer[MPF_LANE_INLINE_MAX];
    struct mpf_lane_received received;
    size_t count = 0;
    int rc = 0;
    setup(false);
    CHECK_EQUAL(put_parcel(lane, 1, 0, LONG_BYTES, NULL), 0);
    CHECK_EQUAL(mpf_fault_set("memfd.commit:1:ENOMEM,memfd.commit:2:ENOMEM,memfd.commit:3:ENOMEM"), 0);
    while (count < COUNT_OF(many) && (rc = mpf_block_ref(&ref, &many[count])) == 0)
        count++;
    CHECK_EQUAL(rc, -ENOMEM);
    CHECK_EQUAL(mpf_lane_get(arena, lane, buffer, &received), -ENOMEM);
    CHECK_EQUAL(mpf_lane_count(lane), 1);
    CHECK_EQUAL(mpf_fault_set(""), 0);
    expect_next(lane, 1, 0);
    for (size_t i = 0; i < count; i++)
        mpf_block_unref(&many[i]);
    finish(&ref);
}

#endif

CHECK_MAIN({"order_over_many_segments", test_order_over_many_segments}, {"memory_stays_flat", test_memory_stays_flat},
           {"destroy_frees_what_was_not_read", test_destroy_frees_what_was_not_read},
           {"empty_messages", test_empty_messages}, {"batches", test_batches},
           {"alone", test_alone}, {"limit_of_messages", test_limit_of_messages}, {"limit_of_bytes", test_limit_of_bytes},
           {"closing", test_closing}, {"diverting", test_diverting}, {"threads", test_threads},
           {"threads_with_a_limit", test_threads_with_a_limit}, {"threads_with_a_ledger", test_threads_with_a_ledger},
           {"processes", test_processes}, {"sleepers_wake_one_each", test_sleepers_wake_one_each},
           {"a_look_passes_the_message_on", test_a_look_passes_the_message_on},
#ifdef MPF_DEBUG
           {"kill_a_sender", test_kill_a_sender}, {"kill_a_receiver", test_kill_a_receiver},
           {"kill_the_destroyer", test_kill_the_destroyer}, {"kill_anywhere", test_kill_anywhere},
           {"no_memory_for_a_reference", test_no_memory_for_a_reference},
#endif
)
