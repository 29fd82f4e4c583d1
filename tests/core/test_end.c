/* Ends: the lanes learn when nobody is left on a side, however the last one went. */
#include "transport_check.h"

static struct mpf_ref ref, end;
static struct mpf_queue_shm *queue;

static void setup(void) {
    queue = make_queue(0, false, &ref);
    CHECK_EQUAL(mpf_end_open(&ref, offsetof(struct mpf_queue_shm, lane), MPF_END_NONE, MPF_END_NONE, &end), 0);
}

static int state(void) {
    uint32_t sender, number;
    return get_parcel(&queue->lane, &sender, &number);
}

static void test_last_reference_closes(void) {
    struct mpf_ref copy;
    setup();
    CHECK_EQUAL(mpf_block_ref(&end, &copy), 0);
    mpf_block_unref(&end);
    CHECK_EQUAL(state(), -EAGAIN);
    mpf_block_unref(&copy);
    CHECK_EQUAL(state(), -EPIPE);
    finish(&ref);
}

/* The lanes live as long as an end that leads to them. */
static void test_target_outlives_its_ends(void) {
    setup();
    CHECK_EQUAL(put_parcel(&queue->lane, 0, 0, LONG_BYTES, NULL), 0);
    mpf_block_unref(&ref);
    CHECK_EQUAL(mpf_lane_count(&queue->lane), 1);
    finish(&end);
}

static void hold_and_die(void *unused) {
    (void)unused;
    raise(SIGKILL);
}

static void test_killed_holder(void) {
    setup();
    pid_t pid = check_fork(hold_and_die, NULL);
    mpf_block_unref(&end);
    CHECK_EQUAL(check_wait(pid), -SIGKILL);
    struct mpf_park park = patient();
    CHECK_EQUAL(mpf_lane_await_message(&park, &queue->lane), 0);
    CHECK_EQUAL(state(), -EPIPE);
    finish(&ref);
}

#ifdef MPF_DEBUG
static void make_and_die(void *point) {
    struct mpf_ref another;
    die_at(point, 1);
    (void)mpf_end_open(&ref, offsetof(struct mpf_queue_shm, lane), MPF_END_NONE, MPF_END_NONE, &another);
}

static void drop_when_told(_Atomic int *go) {
    await_flag(go, 1);
    die_at("end.closed", 1);
    mpf_block_unref(&end);
    _exit(0);
}

static void test_kills(void) {
    static const char *const points[] = {"end.made", "block.put", "block.alloc", "block.ref"};
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        setup();
        CHECK_EQUAL(check_wait(check_fork(make_and_die, (void *)(uintptr_t)points[p])), -SIGKILL);
        while (mpf_participant_reap(arena) > 0)
            ;
        mpf_block_unref(&end);
        finish(&ref);
    }
    setup();
    _Atomic int *go = check_shared(sizeof *go);
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        drop_when_told(go);
    mpf_block_unref(&end);
    tell(go, 1);
    CHECK_EQUAL(check_wait(pid), -SIGKILL);
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK_EQUAL(state(), -EPIPE);
    finish(&ref);
}
#endif

CHECK_MAIN({"last_reference_closes", test_last_reference_closes},
           {"target_outlives_its_ends", test_target_outlives_its_ends}, {"killed_holder", test_killed_holder},
#ifdef MPF_DEBUG
           {"kills", test_kills},
#endif
)
