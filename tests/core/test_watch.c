/* Watching descriptors in a thread: called once, stopped in time, signals, a forked child. */
#include "check.h"

#include <stdatomic.h>

#include "platform/watch.h"

static int ends[2], other[2];
static _Atomic int calls;
static _Atomic bool may_end;

static void count(void *argument)
{
    CHECK(argument == &calls);
    atomic_fetch_add(&calls, 1);
}

static struct mpf_watch *start(void (*call)(void *), void *argument)
{
    struct mpf_watch *watch;
    if (ends[1] == 0) {
        CHECK_EQUAL(pipe(ends), 0);
        CHECK_EQUAL(pipe(other), 0);
    }
    const int fds[] = {other[0], ends[0]};
    CHECK_EQUAL(mpf_watch_start(fds, 2, call, argument, &watch), 0);
    return watch;
}

static void await(_Atomic int *number, int value)
{
    while (atomic_load(number) != value)
        sched_yield();
}

static int count_threads(void)
{
    int number = 0;
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status != NULL);
    while (fgets(line, sizeof line, status))
        if (sscanf(line, "Threads: %d", &number) == 1)
            break;
    fclose(status);
    return number;
}

/* One that was joined may have a moment left in the kernel. */
static void await_threads(int number)
{
    while (count_threads() != number)
        sched_yield();
}

static void test_calls_when_one_is_readable_and_once(void)
{
    struct mpf_watch *watch = start(count, &calls);
    CHECK_EQUAL(atomic_load(&calls), 0);
    CHECK_EQUAL(write(ends[1], "x", 1), 1);
    await(&calls, 1);
    CHECK(!mpf_watch_stop(watch));
    CHECK_EQUAL(write(other[1], "x", 1), 1);
    mpf_watch_free(watch);
    CHECK_EQUAL(atomic_load(&calls), 1);
}

static void test_calls_when_the_other_end_is_closed(void)
{
    struct mpf_watch *watch = start(count, &calls);
    close(ends[1]);
    await(&calls, 1);
    mpf_watch_free(watch);
}

static void test_stopped_never_calls_and_leaves_no_thread(void)
{
    struct mpf_watch *watch = start(count, &calls);
    int watching = count_threads();
    CHECK(mpf_watch_runs());
    CHECK(mpf_watch_stop(watch));
    CHECK(!mpf_watch_runs());
    await_threads(watching - 1);
    CHECK_EQUAL(write(ends[1], "x", 1), 1);
    CHECK(mpf_watch_stop(watch));
    mpf_watch_free(watch);
    CHECK_EQUAL(atomic_load(&calls), 0);
}

static void test_freed_without_being_stopped(void)
{
    struct mpf_watch *watch = start(count, &calls);
    int watching = count_threads();
    mpf_watch_free(watch);
    await_threads(watching - 1);
    CHECK_EQUAL(atomic_load(&calls), 0);
}

static void wait_to_end(void *argument)
{
    atomic_fetch_add(&calls, 1);
    while (!atomic_load(&may_end))
        sched_yield();
    atomic_fetch_add((_Atomic int *)argument, 1);
}

static void test_stopping_does_not_wait_for_the_call(void)
{
    static _Atomic int ended;
    struct mpf_watch *watch = start(wait_to_end, &ended);
    CHECK_EQUAL(write(ends[1], "x", 1), 1);
    await(&calls, 1);
    CHECK(!mpf_watch_stop(watch));
    mpf_watch_free(watch);
    CHECK_EQUAL(atomic_load(&ended), 0);
    CHECK(mpf_watch_runs());
    atomic_store(&may_end, true);
    await(&ended, 1);
    while (mpf_watch_runs())
        sched_yield();
}

/* Either it is called or stopping says that it will not be, whatever happens first. */
static void test_stopped_while_it_becomes_readable(void)
{
    int called = 0;
    for (int i = 0; i < 300; i++) {
        int before = atomic_load(&calls);
        struct mpf_watch *watch = start(count, &calls);
        CHECK_EQUAL(write(ends[1], "x", 1), 1);
        if (i % 3 != 0)
            sched_yield();
        if (!mpf_watch_stop(watch)) {
            await(&calls, before + 1);
            called++;
        }
        mpf_watch_free(watch);
        CHECK_EQUAL(atomic_load(&calls), called);
        char byte;
        CHECK_EQUAL(read(ends[0], &byte, 1), 1);
    }
}

static sigset_t seen;

static void look_at_mask(void *argument)
{
    pthread_sigmask(SIG_SETMASK, NULL, &seen);
    atomic_fetch_add((_Atomic int *)argument, 1);
}

static void test_the_call_has_the_signal_mask_of_who_started_it(void)
{
    sigset_t some, after;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &some, NULL);
    struct mpf_watch *watch = start(look_at_mask, &calls);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    CHECK(sigismember(&after, SIGUSR2) && !sigismember(&after, SIGTERM));
    CHECK_EQUAL(write(ends[1], "x", 1), 1);
    await(&calls, 1);
    CHECK(sigismember(&seen, SIGUSR2) && !sigismember(&seen, SIGTERM));
    mpf_watch_free(watch);
}

static void on_signal(int number) { (void)number; }

static void test_a_signal_does_not_end_the_sleep(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    CHECK_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    struct mpf_watch *watch = start(count, &calls);
    CHECK_EQUAL(kill(getpid(), SIGUSR1), 0);
    CHECK(mpf_watch_stop(watch));
    mpf_watch_free(watch);
    CHECK_EQUAL(atomic_load(&calls), 0);
}

static void stop_and_free(void *argument)
{
    CHECK(!mpf_watch_runs());
    CHECK(mpf_watch_stop(argument) == (atomic_load(&calls) == 0));
    mpf_watch_free(argument);
}

static void test_a_forked_child_leaves_it_alone(void)
{
    struct mpf_watch *watch = start(count, &calls);
    CHECK_EQUAL(check_wait(check_fork_among_threads(stop_and_free, watch)), 0);
    CHECK_EQUAL(write(ends[1], "x", 1), 1);
    await(&calls, 1);
    CHECK_EQUAL(check_wait(check_fork_among_threads(stop_and_free, watch)), 0);
    mpf_watch_free(watch);
}

CHECK_MAIN({"calls_when_one_is_readable_and_once", test_calls_when_one_is_readable_and_once},
           {"calls_when_the_other_end_is_closed", test_calls_when_the_other_end_is_closed},
           {"stopped_never_calls_and_leaves_no_thread", test_stopped_never_calls_and_leaves_no_thread},
           {"freed_without_being_stopped", test_freed_without_being_stopped},
           {"stopping_does_not_wait_for_the_call", test_stopping_does_not_wait_for_the_call},
           {"stopped_while_it_becomes_readable", test_stopped_while_it_becomes_readable},
           {"the_call_has_the_signal_mask_of_who_started_it", test_the_call_has_the_signal_mask_of_who_started_it},
           {"a_signal_does_not_end_the_sleep", test_a_signal_does_not_end_the_sleep},
           {"a_forked_child_leaves_it_alone", test_a_forked_child_leaves_it_alone})
