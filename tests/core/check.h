/* A small test harness: checks that say what was wrong, children that are waited for, threads. */
#ifndef MPF_TESTS_CHECK_H
#define MPF_TESTS_CHECK_H

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* gcc says so with macros, clang with features. */
#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#else
#define UNDER_ASAN 0
#endif

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, #condition);                      \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#define CHECK_EQUAL(actual, expected)                                                                                  \
    do {                                                                                                               \
        long long check_actual = (long long)(actual), check_expected = (long long)(expected);                          \
        if (check_actual != check_expected) {                                                                          \
            fprintf(stderr, "%s:%d: %s: %s is %lld, not %lld\n", __FILE__, __LINE__, __func__, #actual, check_actual,  \
                    check_expected);                                                                                   \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Forks a child that runs body(argument) and exits 0. */
static inline pid_t check_fork(void (*body)(void *), void *argument)
{
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        body(argument);
        _exit(0);
    }
    return pid;
}

#if UNDER_TSAN
static inline void check_end(void *unused) { (void)unused; }
#endif

/* The same while other threads run. ThreadSanitizer's heap may be locked or half changed in such a child, which then waits
   for ever or crashes: under it the child comes out of fork() and ends. */
static inline pid_t check_fork_among_threads(void (*body)(void *), void *argument)
{
#if UNDER_TSAN
    body = check_end;
#endif
    return check_fork(body, argument);
}

/* Waits for the child; its exit status, or minus the signal that ended it. */
static inline int check_wait(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        CHECK(errno == EINTR);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Memory shared with forked children, zeroed. */
static inline void *check_shared(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* A small generator, so that a failing run can be had again. */
static inline uint32_t check_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

struct check_case {
    const char *name;
    void (*run)(void);
};

static const char *check_running; /* the case, for whoever ends this program before its end */

/* On SIGTERM, which is what a time limit sends: says which case has hung. */
static inline void check_say_where(int signal)
{
    dprintf(STDERR_FILENO, "%s has not ended in time\n", check_running); /* it waits for the case: not inside stdio */
    _exit(128 + signal);
}

/* Runs the cases, or those named on the command line, each in a process of its own: no case sees another's arena. */
static inline int check_main(int argc, char **argv, const struct check_case *cases, size_t count)
{
    int failed = 0, ran = 0;
    for (size_t i = 0; i < count; i++) {
        bool wanted = argc < 2;
        for (int a = 1; a < argc; a++)
            wanted |= strcmp(argv[a], cases[i].name) == 0;
        if (!wanted)
            continue;
        fflush(NULL);
        check_running = cases[i].name;
        signal(SIGTERM, check_say_where);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            signal(SIGTERM, SIG_DFL);
            cases[i].run();
            fflush(NULL);
            exit(0);
        }
        int status = check_wait(pid);
        ran++;
        if (status != 0) {
            fprintf(stderr, "%s: %s FAILED (%d)\n", argv[0], cases[i].name, status);
            failed++;
        }
    }
    printf("%s: %d of %d passed\n", argv[0], ran - failed, ran);
    return failed != 0;
}

#define CHECK_MAIN(...)                                                                                                \
    int main(int argc, char **argv)                                                                                    \
    {                                                                                                                  \
        static const struct check_case cases[] = {__VA_ARGS__};                                                        \
        return check_main(argc, argv, cases, sizeof cases / sizeof cases[0]);                                          \
    }

#endif
