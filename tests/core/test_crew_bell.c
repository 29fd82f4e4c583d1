/* A crew's bell: readable when there is something to collect and somebody listens. */
#include <dirent.h>
#include <poll.h>

#include "engine_check.h"

static struct mpf_worker me;
static struct account account;

static void setup(void) {
    uint32_t slot;
    engine_start();
    CHECK_EQUAL(mpf_crew_enlist(&crew, &slot), 0);
    CHECK_EQUAL(mpf_worker_join(&me, &crew.ref, slot), 0);
}

static bool is_readable(int fd, int ms) {
    struct pollfd poll_for = {.fd = fd, .events = POLLIN};
    return poll(&poll_for, 1, ms) == 1;
}

static void put_and_do(uint64_t number) {
    struct mpf_task task;
    put_number(number);
    CHECK_EQUAL(mpf_worker_claim(&me, &task), 0);
    answer(&me, &task);
}

static int count_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static void test_rings_for_results(void) {
    engine_start();
    int before = count_descriptors();
    engine_finish();
    setup();
    int fd = mpf_crew_doorbell(&crew);
    CHECK(fd >= 0);
    CHECK_EQUAL(mpf_crew_doorbell(&crew), fd);
    put_and_do(0);
    CHECK(!is_readable(fd, 0)); /* nobody listens */
    CHECK_EQUAL(collect_once(&account), 1);
    CHECK_EQUAL(mpf_crew_listen(&crew, true), 0);
    for (uint64_t number = 1; number < 50; number++) {
        CHECK(!is_readable(fd, 0));
        put_and_do(number);
        CHECK(is_readable(fd, 0));
        mpf_crew_silence(&crew);
        CHECK(!is_readable(fd, 0));
        CHECK_EQUAL(collect_once(&account), 1);
    }
    CHECK_EQUAL(mpf_crew_listen(&crew, false), 0);
    put_and_do(50);
    CHECK(!is_readable(fd, 0));
    engine_finish();
    CHECK_EQUAL(count_descriptors(), before);
}

/* Who collects nothing and leaves tells the bell of what is there. */
static void test_passing_rings(void) {
    setup();
    int fd = mpf_crew_doorbell(&crew);
    CHECK_EQUAL(mpf_crew_listen(&crew, true), 0);
    put_and_do(0);
    mpf_crew_silence(&crew);
    CHECK(!is_readable(fd, 0));
    mpf_crew_pass(&crew);
    CHECK(is_readable(fd, 0));
    mpf_crew_silence(&crew);
    CHECK_EQUAL(collect_once(&account), 1);
    mpf_crew_pass(&crew);
    CHECK(!is_readable(fd, 0));
    engine_finish();
}

static void have_none(void *unused) {
    (void)unused;
    CHECK_EQUAL(mpf_crew_doorbell(&crew), -EPERM);
    CHECK_EQUAL(mpf_crew_listen(&crew, true), -EPERM);
    mpf_crew_free(&crew);
}

/* A forked child has no part in it; the parent's goes on. */
static void test_after_a_fork(void) {
    setup();
    int fd = mpf_crew_doorbell(&crew);
    CHECK_EQUAL(mpf_crew_listen(&crew, true), 0);
    CHECK_EQUAL(check_wait(check_fork(have_none, NULL)), 0);
    put_and_do(0);
    CHECK(is_readable(fd, 0));
    engine_finish();
}

#define STREAM 20000

/* A listener that sleeps in poll() only, silences and collects, misses nothing. */
static void test_nothing_is_missed(void) {
    pid_t pids[2];
    uint32_t slots[2];
    engine_start();
    int fd = mpf_crew_doorbell(&crew);
    CHECK_EQUAL(mpf_crew_listen(&crew, true), 0);
    for (int i = 0; i < 2; i++)
        pids[i] = start_worker(&slots[i]);
    for (uint64_t number = 0; account.done < STREAM;) {
        for (int i = 0; i < 3 && number < STREAM; i++)
            put_number(number++);
        mpf_crew_wake(&crew, 3);
        CHECK(is_readable(fd, 20000) || account.done == STREAM);
        mpf_crew_silence(&crew);
        while (collect_once(&account) > 0)
            ;
    }
    dismiss_all(pids, slots, 2);
    engine_finish();
}

#ifdef MPF_DEBUG
/* Killed between marking the bell and ringing it: the next one rings it again. */
static void test_killed_while_ringing(void) {
    static const char *const points[] = {"bell.marked", "worker.report.published", "lane.put.published", "worker.report.announced"};
    struct mpf_ref none = {0};
    mpf_crew_register_hooks();
    start();
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        static struct gang gang;
        memset(&gang, 0, sizeof gang);
        gang.size = 1;
        gang.point = points[p];
        gang.nth = 1;
        CHECK_EQUAL(mpf_crew_create(arena, &crew), 0);
        int fd = mpf_crew_doorbell(&crew);
        CHECK_EQUAL(mpf_crew_listen(&crew, true), 0);
        gang_put(&gang, 10);
        gang_start(&gang);
        int status;
        CHECK_EQUAL(waitpid(gang.pids[0], &status, 0), gang.pids[0]);
        CHECK(WIFSIGNALED(status));
        while (mpf_participant_reap(arena) > 0)
            ;
        gang_bury(&gang, 0);
        mpf_crew_silence(&crew);
        while (collect_once(&gang.account) > 0)
            ;
        gang_start_one(&gang, 0, false);
        CHECK(is_readable(fd, 20000));
        gang_end(&gang);
        mpf_crew_free(&crew);
        finish(&none);
    }
}
#endif

CHECK_MAIN({"rings_for_results", test_rings_for_results}, {"passing_rings", test_passing_rings},
           {"after_a_fork", test_after_a_fork}, {"nothing_is_missed", test_nothing_is_missed},
#ifdef MPF_DEBUG
           {"killed_while_ringing", test_killed_while_ringing},
#endif
)
