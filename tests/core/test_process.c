/* Who lives: running, stopped, zombie, gone, exec'd, a process whose first thread has ended. */
#include "check.h"

#include "platform/process.h"

static void wait_forever(void *argument)
{
    (void)argument;
    for (;;)
        pause();
}

static uint64_t start_of(pid_t pid)
{
    uint64_t start = 0;
    CHECK_EQUAL(mpf_process_start_time(pid, &start), 0);
    return start;
}

static void test_self(void)
{
    uint64_t start = start_of(getpid());
    CHECK(start > 0);
    CHECK(mpf_process_alive(getpid(), start));
    CHECK(!mpf_process_alive(getpid(), start + 1)); /* another process that had the pid */
    CHECK(!mpf_process_alive(0, 0));
    CHECK(!mpf_process_alive(-1, 0));
}

static void test_zombie_and_gone(void)
{
    uint64_t start, ignored;
    siginfo_t info;
    pid_t pid = check_fork(wait_forever, NULL);
    start = start_of(pid);
    CHECK(mpf_process_alive(pid, start));
    kill(pid, SIGKILL);
    CHECK_EQUAL(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    CHECK(!mpf_process_alive(pid, start));
    CHECK_EQUAL(mpf_process_start_time(pid, &ignored), -ESRCH);
    CHECK_EQUAL(check_wait(pid), -SIGKILL);
    CHECK(!mpf_process_alive(pid, start));
    CHECK_EQUAL(mpf_process_start_time(pid, &ignored), -ESRCH);
}

static void test_stopped_is_alive(void)
{
    int status;
    pid_t pid = check_fork(wait_forever, NULL);
    uint64_t start = start_of(pid);
    kill(pid, SIGSTOP);
    CHECK_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(mpf_process_alive(pid, start));
    kill(pid, SIGKILL);
    check_wait(pid);
}

static void test_youngest_child(void)
{
    unsigned newer;
    CHECK_EQUAL(mpf_process_youngest_child(0, &newer), 0);
    CHECK_EQUAL(newer, 0);
    pid_t first = check_fork(wait_forever, NULL);
    if (access("/proc/thread-self/children", R_OK) == 0) {
        CHECK_EQUAL(mpf_process_youngest_child(0, &newer), first);
        CHECK_EQUAL(newer, 1);
        pid_t second = check_fork(wait_forever, NULL);
        kill(second, SIGKILL);
        siginfo_t info;
        CHECK_EQUAL(waitid(P_PID, (id_t)second, &info, WEXITED | WNOWAIT), 0);
        CHECK_EQUAL(mpf_process_youngest_child(first, &newer), second);
        CHECK_EQUAL(newer, 1);
        CHECK_EQUAL(check_wait(second), -SIGKILL);
        CHECK_EQUAL(mpf_process_youngest_child(second, &newer), first);
        CHECK_EQUAL(newer, 0);
    }
    kill(first, SIGKILL);
    check_wait(first);
}

static int gone[2];

static void *outlive(void *argument)
{
    (void)argument;
    close(gone[1]);
    for (;;)
        pause();
    return NULL;
}

static void first_thread_ends(void *argument)
{
    pthread_t thread;
    (void)argument;
    close(gone[0]);
    CHECK_EQUAL(pthread_create(&thread, NULL, outlive, NULL), 0);
    pthread_exit(NULL);
}

static void test_first_thread_ended(void)
{
    char byte;
    CHECK_EQUAL(pipe(gone), 0);
    pid_t pid = check_fork(first_thread_ends, NULL);
    uint64_t start = start_of(pid);
    close(gone[1]);
    CHECK_EQUAL(read(gone[0], &byte, 1), 0);
    for (int i = 0; i < 1000; i++) { /* before, while and after the first thread ends */
        CHECK(mpf_process_alive(pid, start));
        sched_yield();
    }
    kill(pid, SIGKILL);
    check_wait(pid);
    CHECK(!mpf_process_alive(pid, start));
}

static void test_maps(void)
{
    int fd = memfd_create("a-name-of-its-own", MFD_CLOEXEC);
    CHECK(!mpf_process_maps(getpid(), "/memfd:a-name-of-its-own"));
    CHECK_EQUAL(ftruncate(fd, 4096), 0);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
    CHECK(mpf_process_maps(getpid(), "/memfd:a-name-of-its-own"));
}

static void test_cpus(void)
{
    cpu_set_t all, one;
    CHECK_EQUAL(sched_getaffinity(0, sizeof all, &all), 0);
    CHECK_EQUAL(mpf_process_cpus(), CPU_COUNT(&all));
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all)) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
        }
    CHECK_EQUAL(sched_setaffinity(0, sizeof one, &one), 0);
    CHECK_EQUAL(mpf_process_cpus(), CPU_COUNT(&all)); /* cached */
    mpf_process_after_fork();
    CHECK_EQUAL(mpf_process_cpus(), 1);
}

static void test_namespace(void)
{
    CHECK(mpf_process_namespace() != 0);
    CHECK(mpf_process_namespace() == mpf_process_namespace());
}

static void be_first_of_another_namespace(void *former)
{
    mpf_process_after_fork();
    CHECK_EQUAL(getpid(), 1);
    CHECK(mpf_process_namespace() != *(uint64_t *)former);
}

static void fork_into_another_namespace(void *argument)
{
    (void)argument;
    uint64_t former = mpf_process_namespace();
    if (unshare(CLONE_NEWPID) < 0)
        return; /* not allowed here */
    mpf_process_before_fork();
    CHECK_EQUAL(check_wait(check_fork(be_first_of_another_namespace, &former)), 0);
    CHECK(mpf_process_namespace() == former);
}

static void test_namespace_of_a_child_elsewhere(void)
{
    CHECK_EQUAL(check_wait(check_fork(fork_into_another_namespace, NULL)), 0);
}

CHECK_MAIN({"self", test_self}, {"zombie_and_gone", test_zombie_and_gone}, {"stopped_is_alive", test_stopped_is_alive},
           {"youngest_child", test_youngest_child},
           {"first_thread_ended", test_first_thread_ended}, {"maps", test_maps}, {"cpus", test_cpus},
           {"namespace", test_namespace},
           {"namespace_of_a_child_elsewhere", test_namespace_of_a_child_elsewhere})
