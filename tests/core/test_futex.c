/* Futexes between threads and processes: values, deadlines, wakes, several words at once. */
#include "check.h"

#include "platform/clock.h"
#include "platform/futex.h"

#define MS INT64_C(1000000)

static _Atomic uint32_t *words;

static void start(void) { words = check_shared(4096); }

static void test_value_differs(void)
{
    start();
    CHECK_EQUAL(mpf_futex_wait(&words[0], 1, MPF_FOREVER), -EAGAIN);
}

static void test_deadline(void)
{
    start();
    int64_t deadline = mpf_clock_now() + 5 * MS;
    CHECK_EQUAL(mpf_futex_wait(&words[0], 0, deadline), -ETIMEDOUT);
    CHECK(mpf_clock_now() >= deadline);
    CHECK_EQUAL(mpf_futex_wait(&words[0], 0, 0), -ETIMEDOUT);
    CHECK_EQUAL(mpf_futex_wait(&words[0], 0, -1), -ETIMEDOUT);
}

static void *wait_in_thread(void *argument)
{
    (void)argument;
    while (atomic_load(&words[0]) == 0)
        mpf_futex_wait(&words[0], 0, MPF_FOREVER);
    return NULL;
}

static void wait_in_process(void *argument) { wait_in_thread(argument); }

static void test_wakes_thread_and_process(void)
{
    pthread_t thread;
    start();
    pid_t pid = check_fork(wait_in_process, NULL);
    CHECK_EQUAL(pthread_create(&thread, NULL, wait_in_thread, NULL), 0);
    atomic_store(&words[0], 1);
    mpf_futex_wake(&words[0], INT32_MAX);
    pthread_join(thread, NULL);
    CHECK_EQUAL(check_wait(pid), 0);
    CHECK_EQUAL(mpf_futex_wake(&words[0], INT32_MAX), 0);
}

static void on_signal(int number) { (void)number; }

static void test_interrupted(void)
{
    start();
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, NULL);
    ualarm(3000, 3000);
    CHECK_EQUAL(mpf_futex_wait(&words[0], 0, MPF_FOREVER), -EINTR);
}

static void wait_for_many(void *argument)
{
    struct mpf_futex_target targets[3];
    (void)argument;
    for (int i = 0; i < 3; i++)
        targets[i] = (struct mpf_futex_target){&words[i], 0};
    while (atomic_load(&words[2]) == 0)
        mpf_futex_wait_many(targets, 3, MPF_FOREVER);
}

static bool have_many(void)
{
    struct mpf_futex_target target = {&words[0], 1};
    return mpf_futex_wait_many(&target, 1, 0) != -ENOSYS;
}

static void test_many(void)
{
    struct mpf_futex_target targets[MPF_FUTEX_MANY_MAX + 1];
    start();
    if (!have_many())
        return; /* before Linux 5.16 */
    for (int i = 0; i <= MPF_FUTEX_MANY_MAX; i++)
        targets[i] = (struct mpf_futex_target){&words[i], 0};
    CHECK_EQUAL(mpf_futex_wait_many(targets, MPF_FUTEX_MANY_MAX, mpf_clock_now() + MS), -ETIMEDOUT);
    CHECK_EQUAL(mpf_futex_wait_many(targets, MPF_FUTEX_MANY_MAX + 1, MPF_FOREVER), -EINVAL);
    CHECK_EQUAL(mpf_futex_wait_many(targets, 0, MPF_FOREVER), -EINVAL);
    targets[1].expected = 7;
    CHECK_EQUAL(mpf_futex_wait_many(targets, 3, MPF_FOREVER), -EAGAIN);
    pid_t pid = check_fork(wait_for_many, NULL);
    atomic_store(&words[2], 1);
    mpf_futex_wake(&words[2], 1);
    CHECK_EQUAL(check_wait(pid), 0);
}

CHECK_MAIN({"value_differs", test_value_differs}, {"deadline", test_deadline},
           {"wakes_thread_and_process", test_wakes_thread_and_process}, {"interrupted", test_interrupted},
           {"many", test_many})
