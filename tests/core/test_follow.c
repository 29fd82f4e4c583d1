/* Ending together with the parent: killed, a forking thread that ends, a server in between, a program that is exec'd. */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/prctl.h>

#include "platform/follow.h"
#include "platform/process.h"

/* What a follower and the case share. Pipes: questions to the follower, its answers. */
static struct shared {
    _Atomic int follower, server;
} *shared;
static int question[2], answer[2];

static void set_up(void)
{
    shared = check_shared(sizeof *shared);
    CHECK_EQUAL(pipe2(question, O_CLOEXEC), 0);
    CHECK_EQUAL(pipe2(answer, O_CLOEXEC), 0);
    /* Orphans come to this process, which can then wait for them. */
    CHECK_EQUAL(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
}

static void ask(void)
{
    char byte = 'q';
    CHECK_EQUAL(write(question[1], &byte, 1), 1);
    CHECK_EQUAL(read(answer[0], &byte, 1), 1);
    CHECK_EQUAL(byte, 'a');
}

static void answer_for_ever(void)
{
    for (;;) {
        char byte = 'a';
        struct pollfd asked = {.fd = question[0], .events = POLLIN};
        while (poll(&asked, 1, -1) < 0) /* a sanitizer runs handlers in poll(), not in read() */
            CHECK_EQUAL(errno, EINTR);
        if (read(question[0], &byte, 1) != 1)
            _exit(3);
        byte = 'a';
        CHECK_EQUAL(write(answer[1], &byte, 1), 1);
    }
}

static void follow_and_answer(pid_t whom, bool told)
{
    atomic_store(&shared->follower, getpid());
    CHECK_EQUAL(mpf_follow_start(whom, 0, told), 0);
    CHECK_EQUAL(mpf_follow_whom(), whom);
    CHECK_EQUAL(mpf_follow_start(whom, 0, told), 0);
    answer_for_ever();
}

static void sleep_for_ever(void)
{
    for (;;)
        pause();
}

static void fork_follower(void)
{
    pid_t self = getpid();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        follow_and_answer(self, false);
}

static void parent_of_one(void *argument)
{
    (void)argument;
    fork_follower();
    sleep_for_ever();
}

static void test_parent_killed(void)
{
    set_up();
    pid_t pid = check_fork(parent_of_one, NULL);
    ask();
    kill(pid, SIGKILL);
    CHECK_EQUAL(check_wait(pid), -SIGKILL);
    CHECK_EQUAL(check_wait(shared->follower), 1);
}

static void *fork_in_thread(void *argument)
{
    (void)argument;
    fork_follower();
    return NULL;
}

static int count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

static void parent_with_thread(void *argument)
{
    (void)argument;
    int threads = count_threads(); /* a sanitizer has one of its own */
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, fork_in_thread, NULL), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    while (count_threads() > threads)
        sched_yield();
    char byte = 't';
    CHECK_EQUAL(write(answer[1], &byte, 1), 1);
    sleep_for_ever();
}

static void test_end_of_the_forking_thread(void)
{
    if (UNDER_TSAN) /* which does not survive a fork by another thread than the first */
        return;
    set_up();
    pid_t pid = check_fork(parent_with_thread, NULL);
    char byte;
    CHECK_EQUAL(read(answer[0], &byte, 1), 1);
    CHECK_EQUAL(byte, 't');
    ask();
    kill(pid, SIGKILL);
    CHECK_EQUAL(check_wait(pid), -SIGKILL);
    CHECK_EQUAL(check_wait(shared->follower), 1);
}

static pid_t served;
static bool told;

static void serve(void *argument)
{
    (void)argument;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        follow_and_answer(served, told);
    atomic_store(&shared->server, getpid());
    sleep_for_ever();
}

static void start_served(bool is_told)
{
    set_up();
    told = is_told;
    served = check_fork((void (*)(void *))sleep_for_ever, NULL);
    check_fork(serve, NULL);
    ask();
    while (atomic_load(&shared->server) == 0)
        sched_yield();
}

static void test_the_server_ends_first(void)
{
    start_served(true);
    kill(shared->server, SIGKILL);
    check_wait(shared->server);
    ask();
    kill(served, SIGKILL);
    check_wait(served);
    CHECK_EQUAL(check_wait(shared->follower), 1);
}

static void test_the_server_tells(void)
{
    start_served(true);
    kill(shared->follower, mpf_follow_signal()); /* too early: looked at, found alive */
    ask();
    kill(served, SIGKILL);
    check_wait(served);
    kill(shared->follower, mpf_follow_signal());
    kill(shared->server, SIGKILL);
    check_wait(shared->server);
    CHECK_EQUAL(check_wait(shared->follower), 1);
}

static void test_nobody_tells(void)
{
    start_served(false);
    kill(served, SIGKILL);
    check_wait(served);
    while (kill(shared->follower, 0) == 0 && mpf_process_alive(shared->follower, 0))
        sched_yield();
    kill(shared->server, SIGKILL);
    check_wait(shared->server);
}

static void follow_the_dead(void *argument)
{
    (void)argument;
    mpf_follow_start(served, 0, true);
    _exit(7);
}

static void test_gone_already(void)
{
    set_up();
    served = check_fork((void (*)(void *))sleep_for_ever, NULL);
    kill(served, SIGKILL);
    check_wait(served);
    CHECK_EQUAL(check_wait(check_fork(follow_the_dead, NULL)), 1);
    CHECK_EQUAL(mpf_follow_start(0, 0, false), -EINVAL);
}

static void exec_after_following(void *argument)
{
    (void)argument;
    pid_t self = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        shared->follower = getpid();
        CHECK_EQUAL(mpf_follow_start(self, 0, false), 0);
        dup2(question[0], 0);
        dup2(answer[1], 1);
        execlp("cat", "cat", "-u", NULL);
        _exit(9);
    }
    sleep_for_ever();
}

static void test_an_executed_program_is_left_alone(void)
{
    set_up();
    pid_t pid = check_fork(exec_after_following, NULL);
    char byte = 'a';
    CHECK_EQUAL(write(question[1], &byte, 1), 1);
    CHECK_EQUAL(read(answer[0], &byte, 1), 1);
    kill(pid, SIGKILL);
    check_wait(pid);
    CHECK_EQUAL(write(question[1], &byte, 1), 1);
    CHECK_EQUAL(read(answer[0], &byte, 1), 1);
    close(question[0]);
    close(question[1]);
    CHECK_EQUAL(check_wait(shared->follower), 0);
}

static void stop_following(void *argument)
{
    (void)argument;
    pid_t self = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        shared->follower = getpid();
        CHECK_EQUAL(mpf_follow_start(self, 0, false), 0);
        mpf_follow_stop();
        CHECK_EQUAL(mpf_follow_whom(), 0);
        answer_for_ever();
    }
    sleep_for_ever();
}

static void test_stopped(void)
{
    set_up();
    pid_t pid = check_fork(stop_following, NULL);
    ask();
    kill(pid, SIGKILL);
    check_wait(pid);
    ask();
    kill(shared->follower, SIGKILL);
    CHECK_EQUAL(check_wait(shared->follower), -SIGKILL);
}

static int heard;

static void hear(int number)
{
    (void)number;
    heard++;
}

static void test_a_handler_that_was_there(void)
{
    signal(mpf_follow_signal(), hear);
    CHECK_EQUAL(mpf_follow_start(getppid(), 0, false), 0);
    raise(mpf_follow_signal());
    CHECK_EQUAL(heard, 1);
    mpf_follow_stop();
}

static void child_follows_nobody(void *argument)
{
    (void)argument;
    CHECK_EQUAL(mpf_follow_whom(), 0);
}

static void test_a_child_follows_nobody(void)
{
    CHECK_EQUAL(mpf_follow_start(getppid(), 0, false), 0);
    CHECK_EQUAL(check_wait(check_fork(child_follows_nobody, NULL)), 0);
    mpf_follow_stop();
}

CHECK_MAIN({"parent_killed", test_parent_killed}, {"end_of_the_forking_thread", test_end_of_the_forking_thread},
           {"the_server_ends_first", test_the_server_ends_first}, {"the_server_tells", test_the_server_tells},
           {"nobody_tells", test_nobody_tells}, {"gone_already", test_gone_already},
           {"an_executed_program_is_left_alone", test_an_executed_program_is_left_alone}, {"stopped", test_stopped},
           {"a_handler_that_was_there", test_a_handler_that_was_there},
           {"a_child_follows_nobody", test_a_child_follows_nobody})
