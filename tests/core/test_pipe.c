/* Pipes: both directions, sleeping on the socket, diversion, and the death of either side. */
#include <poll.h>
#include <sys/socket.h>

#include "transport_check.h"

static struct mpf_ref ends[2];
static int sockets[2];

static void setup(bool duplex) {
    transport_start();
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    CHECK_EQUAL(mpf_pipe_open(arena, duplex, ends), 0);
}

static void teardown(void) {
    close(sockets[0]);
    close(sockets[1]);
    mpf_block_unref(&ends[1]);
    finish(&ends[0]);
}

static int put_from(int side, uint32_t number) {
    struct mpf_lane_shm *out = mpf_pipe_out(&ends[side]);
    struct mpf_pipe_bell bell = {out, sockets[side]};
    const struct mpf_lane_ringer ringer = {mpf_pipe_ring, &bell};
    struct parcel parcel = {(uint32_t)side, number};
    struct mpf_lane_message message = {.data = &parcel, .bytes = sizeof parcel, .tag = number ^ 7};
    return mpf_lane_put(arena, out, &message, NULL, &ringer);
}

static int prepare(int side) { return mpf_pipe_prepare_sleep(arena, mpf_pipe_in(&ends[side]), sockets[side]); }

static int look(int side) { return mpf_pipe_look(arena, mpf_pipe_in(&ends[side]), sockets[side]); }

static bool readable(int side, int milliseconds) {
    struct pollfd target = {.fd = sockets[side], .events = POLLIN};
    return poll(&target, 1, milliseconds) == 1;
}

static void test_both_ways(void) {
    setup(true);
    for (uint32_t i = 0; i < 100; i++) {
        CHECK_EQUAL(put_from(0, i), 0);
        CHECK_EQUAL(put_from(1, i), 0);
        expect_next(mpf_pipe_in(&ends[1]), 0, i);
        expect_next(mpf_pipe_in(&ends[0]), 1, i);
    }
    teardown();
}

static void test_one_way(void) {
    setup(false);
    CHECK(mpf_pipe_in(&ends[1]) == NULL && mpf_pipe_out(&ends[0]) == NULL);
    CHECK(mpf_pipe_in(&ends[0]) == mpf_pipe_out(&ends[1]));
    teardown();
}

/* The socket is rung once for each sleep, and never while nobody sleeps. */
static void test_rings(void) {
    setup(true);
    CHECK_EQUAL(put_from(0, 0), 0);
    CHECK(!readable(1, 0));
    CHECK_EQUAL(prepare(1), 0); /* something to get: no sleep */
    expect_next(mpf_pipe_in(&ends[1]), 0, 0);
    CHECK_EQUAL(prepare(1), 1);
    CHECK(!readable(1, 0));
    CHECK_EQUAL(put_from(0, 1), 0);
    CHECK(readable(1, 0));
    expect_next(mpf_pipe_in(&ends[1]), 0, 1);
    CHECK_EQUAL(prepare(1), 1); /* took the ring off */
    CHECK(!readable(1, 0));
    teardown();
}

/* Who only looks is not rung for; a ring that it takes off, which may be another's, is made up for. */
static void test_look(void) {
    setup(true);
    CHECK_EQUAL(look(1), 1);
    CHECK_EQUAL(put_from(0, 0), 0);
    CHECK(!readable(1, 0));
    CHECK_EQUAL(look(1), 0); /* something to get */
    expect_next(mpf_pipe_in(&ends[1]), 0, 0);
    CHECK_EQUAL(prepare(1), 1);
    CHECK_EQUAL(put_from(0, 1), 0);
    CHECK(readable(1, 0));
    expect_next(mpf_pipe_in(&ends[1]), 0, 1);
    CHECK_EQUAL(look(1), 1);
    CHECK(!readable(1, 0)); /* took the ring off */
    CHECK_EQUAL(put_from(0, 2), 0);
    CHECK(readable(1, 0)); /* for whoever still sleeps */
    expect_next(mpf_pipe_in(&ends[1]), 0, 2);
    CHECK_EQUAL(shutdown(sockets[0], SHUT_RDWR), 0);
    CHECK_EQUAL(look(1), -EPIPE);
    teardown();
}

static enum mpf_pipe_state settle(int i) { return mpf_pipe_settle(arena, mpf_pipe_in(&ends[i]), sockets[i]); }

static void test_diversion(void) {
    setup(true);
    CHECK_EQUAL(prepare(1), 1);
    CHECK_EQUAL(put_from(0, 0), 0);
    CHECK(!mpf_pipe_diverted(&ends[1]));
    mpf_pipe_divert(&ends[1], sockets[1]);
    CHECK(mpf_pipe_diverted(&ends[0]) && mpf_pipe_diverted(&ends[1]));
    CHECK_EQUAL(put_from(0, 1), -ESHUTDOWN);
    CHECK_EQUAL(put_from(1, 1), -ESHUTDOWN);
    CHECK_EQUAL(settle(1), MPF_PIPE_RUNG);
    CHECK(readable(1, 0)); /* for whoever sleeps */
    expect_next(mpf_pipe_in(&ends[1]), 0, 0);
    CHECK_EQUAL(settle(1), MPF_PIPE_SETTLED);
    CHECK(!readable(1, 0));
    /* what looks like a ring belongs to a frame now */
    CHECK_EQUAL(send(sockets[0], "\xff\xff\xff\xfe", 4, 0), 4);
    CHECK_EQUAL(settle(1), MPF_PIPE_SETTLED);
    CHECK(readable(1, 0));
    teardown();
}

/* Who diverts what it has sent rings for what is left, if it is the first to divert it. */
static void test_diversion_with_messages(void) {
    setup(true);
    CHECK_EQUAL(put_from(0, 0), 0);
    CHECK(!readable(1, 0));
    mpf_pipe_divert(&ends[0], sockets[0]);
    CHECK(readable(1, 0));
    CHECK_EQUAL(settle(1), MPF_PIPE_RUNG);
    expect_next(mpf_pipe_in(&ends[1]), 0, 0);
    CHECK_EQUAL(settle(1), MPF_PIPE_SETTLED);
    CHECK(!readable(1, 0) && !readable(0, 0));
    teardown();

    setup(true);
    CHECK_EQUAL(put_from(0, 0), 0);
    mpf_pipe_divert(&ends[1], sockets[1]);
    mpf_pipe_divert(&ends[0], sockets[0]);
    CHECK_EQUAL(settle(1), MPF_PIPE_SILENT);
    CHECK(!readable(1, 0));
    expect_next(mpf_pipe_in(&ends[1]), 0, 0);
    CHECK_EQUAL(settle(1), MPF_PIPE_SETTLED);
    teardown();
}

static void test_closing(void) {
    uint32_t sender, number;
    setup(true);
    CHECK_EQUAL(put_from(0, 0), 0);
    mpf_block_unref(&ends[0]);
    CHECK_EQUAL(put_from(1, 0), -EPIPE);
    expect_next(mpf_pipe_in(&ends[1]), 0, 0);
    CHECK_EQUAL(get_parcel(mpf_pipe_in(&ends[1]), &sender, &number), -EPIPE);
    close(sockets[0]);
    CHECK_EQUAL(prepare(1), -EPIPE);
    close(sockets[1]);
    finish(&ends[1]);
}

/* Several small messages fit where one long one was: all who wait for room are let in. */
static const struct mpf_lane_limit limit = {.bytes = 4000};

static void put_small(void *unused) {
    (void)unused;
    put_patiently(mpf_pipe_out(&ends[0]), 0, 1, 8, &limit);
}

static void test_room_for_several(void) {
    pid_t pids[3];
    setup(true);
    CHECK_EQUAL(put_parcel(mpf_pipe_out(&ends[0]), 0, 0, LONG_BYTES, &limit), 0);
    for (int i = 0; i < 3; i++)
        pids[i] = check_fork(put_small, NULL);
    for (int i = 0; i < 3; i++)
        await_asleep(pids[i]);
    expect_next(mpf_pipe_in(&ends[1]), 0, 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    teardown();
}

/* A sender that sleeps goes on when half of what the pipe holds is left, or after a number of messages, whichever is first. */
static const struct mpf_lane_limit pipe_limit = {.bytes = MPF_PIPE_LIMIT_BYTES};

static void put_one_more(void *bytes) {
    put_patiently(mpf_pipe_out(&ends[0]), 0, UINT32_MAX, *(size_t *)bytes, &pipe_limit);
}

static void check_resume(size_t bytes, uint32_t most) {
    uint32_t put = 0, got = 0;
    setup(true);
    while (put_parcel(mpf_pipe_out(&ends[0]), 0, put, bytes, &pipe_limit) == 0)
        put++;
    pid_t pid = check_fork(put_one_more, &bytes);
    await_asleep(pid);
    while (got < most)
        expect_next(mpf_pipe_in(&ends[1]), 0, got++);
    CHECK_EQUAL(check_wait(pid), 0);
    while (got < put)
        expect_next(mpf_pipe_in(&ends[1]), 0, got++);
    expect_next(mpf_pipe_in(&ends[1]), 0, UINT32_MAX);
    teardown();
}

static void test_senders_resume(void) {
    check_resume(64, 256); /* so many short messages */
    check_resume(8192, 64);/* half of the bytes */
    check_resume(LONG_BYTES, 1);/* each long one */
}

#ifdef MPF_DEBUG
static void divert_and_die(void *unused) {
    (void)unused;
    die_at("pipe.half_diverted", 1);
    mpf_pipe_divert(&ends[1], sockets[1]);
}

/* A pipe that is diverted in one direction only is not taken for one that is in both. */
static void test_kill_half_way(void) {
    setup(true);
    CHECK_EQUAL(check_wait(check_fork(divert_and_die, NULL)), -SIGKILL);
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK(!mpf_pipe_diverted(&ends[0]));
    CHECK_EQUAL(put_from(0, 0), -ESHUTDOWN);
    CHECK_EQUAL(put_from(1, 0), 0);
    expect_next(mpf_pipe_in(&ends[0]), 1, 0);
    mpf_pipe_divert(&ends[0], sockets[0]);
    CHECK(mpf_pipe_diverted(&ends[1]));
    CHECK_EQUAL(put_from(1, 1), -ESHUTDOWN);
    teardown();
}

static void put_and_die(void *point) {
    die_at(point, 1);
    (void)put_from(0, 0);
}

/* A reader that was announced wakes when its sender is killed, for nothing or for the message. */
static void test_kill_the_ringer(void) {
    static const char *const points[] = {"pipe.ring.sent", "lane.put.written", "lane.put.published", "section.left"};
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        setup(true);
        CHECK_EQUAL(prepare(1), 1);
        CHECK_EQUAL(check_wait(check_fork(put_and_die, (void *)(uintptr_t)points[p])), -SIGKILL);
        CHECK(readable(1, 0));
        if (mpf_lane_count(mpf_pipe_in(&ends[1])) == 0) {
            CHECK_EQUAL(prepare(1), 1);
            CHECK_EQUAL(put_from(0, 0), 0);
            CHECK(readable(1, 0));
        }
        expect_next(mpf_pipe_in(&ends[1]), 0, 0);
        while (mpf_participant_reap(arena) > 0)
            ;
        teardown();
    }
}

static void prepare_and_die(void *point) {
    die_at(point, 1);
    (void)prepare(1);
}

/* A reader that is killed with the ring in its hands leaves the others announced. */
static void test_kill_a_reader(void) {
    static const char *const points[] = {"pipe.announced", "pipe.rings.taken"};
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        setup(true);
        CHECK_EQUAL(prepare(1), 1);
        CHECK_EQUAL(put_from(0, 0), 0);
        expect_next(mpf_pipe_in(&ends[1]), 0, 0);
        CHECK_EQUAL(check_wait(check_fork(prepare_and_die, (void *)(uintptr_t)points[p])), -SIGKILL);
        while (mpf_participant_reap(arena) > 0)
            ;
        CHECK_EQUAL(put_from(0, 1), 0);
        CHECK(readable(1, 0));
        expect_next(mpf_pipe_in(&ends[1]), 0, 1);
        teardown();
    }
}

static void settle_and_die(void *unused) {
    (void)unused;
    die_at("pipe.settled", 1);
    (void)settle(1);
}

static void ring_and_die(void *unused) {
    (void)unused;
    die_at("lane.divert.rung", 2);
    mpf_pipe_divert(&ends[0], sockets[0]);
}

static void test_kill_the_diverter(void) {
    setup(true);
    CHECK_EQUAL(put_from(0, 0), 0);
    CHECK_EQUAL(check_wait(check_fork(ring_and_die, NULL)), -SIGKILL);
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK(readable(1, 0) && !mpf_pipe_diverted(&ends[0]));
    expect_next(mpf_pipe_in(&ends[1]), 0, 0);
    mpf_pipe_divert(&ends[0], sockets[0]);
    CHECK_EQUAL(settle(1), MPF_PIPE_SETTLED);
    CHECK(!readable(1, 0));
    teardown();
}

static void test_kill_the_settler(void) {
    setup(true);
    CHECK_EQUAL(prepare(1), 1);
    CHECK_EQUAL(put_from(0, 0), 0);
    expect_next(mpf_pipe_in(&ends[1]), 0, 0);
    mpf_pipe_divert(&ends[1], sockets[1]);
    CHECK_EQUAL(check_wait(check_fork(settle_and_die, NULL)), -SIGKILL);
    CHECK_EQUAL(settle(1), MPF_PIPE_SETTLED);
    CHECK(!readable(1, 0));
    while (mpf_participant_reap(arena) > 0)
        ;
    teardown();
}
#endif

CHECK_MAIN({"both_ways", test_both_ways}, {"one_way", test_one_way}, {"rings", test_rings}, {"look", test_look}, {"diversion", test_diversion},
           {"diversion_with_messages", test_diversion_with_messages},
           {"closing", test_closing}, {"room_for_several", test_room_for_several}, {"senders_resume", test_senders_resume},
#ifdef MPF_DEBUG
           {"kill_half_way", test_kill_half_way}, {"kill_the_ringer", test_kill_the_ringer}, {"kill_a_reader", test_kill_a_reader},
           {"kill_the_settler", test_kill_the_settler}, {"kill_the_diverter", test_kill_the_diverter},
#endif
)
