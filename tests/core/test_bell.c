/* Bells: readable exactly while there is something to get, whoever rings. */
#include <poll.h>

#include "transport_check.h"

static struct mpf_ref ref;
static struct mpf_queue_shm *queue;
static _Atomic int *stage;

static void setup(void) {
    queue = make_queue(0, false, &ref);
    stage = check_shared(sizeof *stage);
}

static struct mpf_bell hang(void) {
    struct mpf_bell bell;
    CHECK_EQUAL(mpf_queue_hang_bell(arena, queue, &bell), 0);
    return bell;
}

static bool readable(const struct mpf_bell *bell, int milliseconds) {
    struct pollfd target = {.fd = bell->read_fd, .events = POLLIN};
    return poll(&target, 1, milliseconds) == 1;
}

static void put(void) {
    struct mpf_queue_ringer ringer = {arena, queue};
    const struct mpf_lane_ringer ring = {mpf_queue_ring, &ringer};
    struct mpf_lane_message message = {.data = "12345678", .bytes = 8};
    CHECK_EQUAL(mpf_lane_put(arena, &queue->lane, &message, NULL, &ring), 0);
}

static void get(const struct mpf_bell *bell) {
    char buffer[MPF_LANE_INLINE_MAX];
    struct mpf_lane_received received;
    CHECK_EQUAL(mpf_lane_get(arena, &queue->lane, buffer, &received), 0);
    mpf_queue_settle_bell(arena, queue, bell);
}

static void test_readable_while_not_empty(void) {
    setup();
    struct mpf_bell bell = hang();
    CHECK(!readable(&bell, 0));
    for (int i = 0; i < 30; i++) {
        put();
        put();
        CHECK(readable(&bell, 0));
        get(&bell);
        CHECK(readable(&bell, 0));
        get(&bell);
        CHECK(!readable(&bell, 0));
    }
    put();
    struct mpf_bell late = hang(); /* hung up over a queue that is not empty */
    CHECK(readable(&late, 0));
    mpf_queue_drop_bell(arena, queue, &late);
    mpf_queue_drop_bell(arena, queue, &bell);
    CHECK_EQUAL(atomic_load(&queue->lane.bells), 0);
    finish(&ref);
}

static void test_many_bells(void) {
    struct mpf_bell bells[20];
    setup();
    for (int i = 0; i < 20; i++)
        bells[i] = hang();
    CHECK_EQUAL(atomic_load(&queue->lane.bells), 20);
    put();
    for (int i = 0; i < 20; i++)
        CHECK(readable(&bells[i], 0));
    for (int i = 0; i < 20; i++)
        mpf_queue_drop_bell(arena, queue, &bells[i]);
    CHECK_EQUAL(atomic_load(&queue->lane.bells), 0);
    finish(&ref);
}

static void put_as_nobody(void *unused) {
    (void)unused;
    if (getuid() == 0)
        CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    put();
}

/* The one who rings need not be able to look into the process of the one who sleeps. */
static void test_rung_by_another_user(void) {
    setup();
    struct mpf_bell bell = hang();
    pid_t pid = check_fork(put_as_nobody, NULL);
    CHECK(readable(&bell, 20000));
    CHECK_EQUAL(check_wait(pid), 0);
    get(&bell);
    CHECK(!readable(&bell, 0));
    mpf_queue_drop_bell(arena, queue, &bell);
    finish(&ref);
}

static void test_end_of_file(void) {
    struct mpf_ref end;
    setup();
    CHECK_EQUAL(mpf_end_open(&ref, offsetof(struct mpf_queue_shm, lane), MPF_END_NONE, offsetof(struct mpf_queue_shm, bell), &end), 0);
    struct mpf_bell bell = hang();
    CHECK(!readable(&bell, 0));
    mpf_block_unref(&end);
    CHECK(readable(&bell, 0));
    mpf_queue_settle_bell(arena, queue, &bell);
    CHECK(readable(&bell, 0)); /* and stays so */
    mpf_queue_drop_bell(arena, queue, &bell);
    finish(&ref);
}

static void hang_and_leave(void *killed) {
    (void)hang();
    if (killed != NULL)
        raise(SIGKILL);
    mpf_participant_leave_all();
}

/* Slots come back from the killed, and from those that ended without a word to the bell. */
static void test_slots_come_back(void) {
    setup();
    for (int i = 0; i < 20; i++)
        check_wait(check_fork(hang_and_leave, i % 2 ? &ref : NULL));
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK_EQUAL(mpf_table_capacity(arena, &queue->bell.table), MPF_BELL_INLINE);
    finish(&ref);
}

#ifdef MPF_DEBUG
static void put_and_die(void *point) {
    die_at(point, 1);
    put();
}

/* A sender that is killed while it rings does not leave the bell silent over what others put. */
static void test_kill_the_ringer(void) {
    static const char *const points[] = {"bell.marked", "lane.put.written", "lane.put.published"};
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        setup();
        struct mpf_bell bell = hang();
        CHECK_EQUAL(check_wait(check_fork(put_and_die, (void *)(uintptr_t)points[p])), -SIGKILL);
        while (mpf_participant_reap(arena) > 0)
            ;
        mpf_queue_settle_bell(arena, queue, &bell);
        CHECK_EQUAL(readable(&bell, 0), mpf_lane_count(&queue->lane) != 0);
        put();
        CHECK(readable(&bell, 0));
        mpf_queue_drop_bell(arena, queue, &bell);
        finish(&ref);
    }
}

static void hang_and_die(void *point) {
    die_at(point, 1);
    (void)hang();
}

static void test_kill_the_owner(void) {
    static const char *const points[] = {"bell.claimed", "bell.hung", "section.left"};
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        setup();
        CHECK_EQUAL(check_wait(check_fork(hang_and_die, (void *)(uintptr_t)points[p])), -SIGKILL);
        while (mpf_participant_reap(arena) > 0)
            ;
        CHECK_EQUAL(atomic_load(&queue->lane.bells), 0);
        struct mpf_bell bell = hang();
        CHECK_EQUAL(atomic_load(&queue->lane.bells), 1);
        put();
        CHECK(readable(&bell, 0));
        mpf_queue_drop_bell(arena, queue, &bell);
        finish(&ref);
    }
}

static struct mpf_ref end;

static void close_and_die(void *unused) {
    (void)unused;
    die_at("bell.marked", 1);
    mpf_block_unref(&end);
}

static void test_kill_the_closer(void) {
    setup();
    _Atomic int *go = stage;
    CHECK_EQUAL(mpf_end_open(&ref, offsetof(struct mpf_queue_shm, lane), MPF_END_NONE, offsetof(struct mpf_queue_shm, bell), &end), 0);
    struct mpf_bell bell = hang();
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        await_flag(go, 1);
        close_and_die(NULL);
        _exit(0);
    }
    mpf_block_unref(&end);
    tell(go, 1);
    CHECK_EQUAL(check_wait(pid), -SIGKILL);
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK(readable(&bell, 0));
    mpf_queue_drop_bell(arena, queue, &bell);
    finish(&ref);
}
#endif

CHECK_MAIN({"readable_while_not_empty", test_readable_while_not_empty}, {"many_bells", test_many_bells},
           {"rung_by_another_user", test_rung_by_another_user}, {"end_of_file", test_end_of_file},
           {"slots_come_back", test_slots_come_back},
#ifdef MPF_DEBUG
           {"kill_the_ringer", test_kill_the_ringer}, {"kill_the_owner", test_kill_the_owner},
           {"kill_the_closer", test_kill_the_closer},
#endif
)
