/*
 * Purpose: ending this process when the process it follows has ended, whatever ended that one.
 *
 * Layout: in private memory, who follows whom:
 *
 *     follower     pid of the process that these words are about; another one (a forked child) follows nobody
 *     whom, since  pid and start time of the followed process
 *     direct       it is the parent that the kernel knows; else `parent` is, a server that forks for others
 *     timer        where it is not direct: looks again four times a second once nothing else would tell
 *
 * States: nobody followed -> following -> (timer runs) -> ended.
 *
 * How it learns: the kernel sends SIGURG when the thread that forked this process ends (PR_SET_PDEATHSIG, which holds on
 * when the process passes to another thread of its parent), or the server sends it. The handler, in C, looks whether
 * the followed process has really ended. No thread, no descriptor (programs close those they do not know), nothing to do
 * while nothing happens. The signal is one whose default is to be ignored: a program that is exec'd in the
 * place of this one, and so without the handler, is not killed by the end of a thread.
 *
 * Invariants: the handler calls nothing but what is safe in a signal handler. "Gone" is final; a doubt means "not gone".
 *
 * Callers: anyone; starting and stopping from one thread at a time.
 *
 * Death of the caller: leaves nothing behind.
 */
#define _GNU_SOURCE
#include "platform/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "platform/process.h"

#define FOLLOW_SIGNAL SIGURG
#define FOLLOW_STATUS 1
#define LOOK_AGAIN_NS (250 * 1000 * 1000)

static _Atomic int32_t follower, whom;
static _Atomic uint64_t since;
static _Atomic int32_t parent;
static _Atomic int32_t timer_owner; /* pid of the process that has made the timer; timers are not inherited */
static timer_t timer;
static struct sigaction former;
static bool installed;

/* Writes the number behind the text; returns the end. */
static char *put_number(char *end, uint32_t number)
{
    char digits[12];
    int count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    while (count > 0)
        *end++ = digits[--count];
    return end;
}

static char *put_text(char *end, const char *text)
{
    while (*text)
        *end++ = *text++;
    return end;
}

/* The file's first bytes. How many, or -errno. */
static ssize_t read_stat(int32_t pid, char *text, size_t size)
{
    char path[40];
    char *end = put_text(path, "/proc/");
    end = put_number(end, (uint32_t)pid);
    end = put_text(end, "/stat");
    *end = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t length = read(fd, text, size);
    if (length < 0)
        length = -errno;
    close(fd);
    return length;
}

/* The n-th column behind the program's name, which is the second; NULL where the text ends before it. */
static const char *find_column(const char *text, const char *end, int n)
{
    const char *at = end;
    while (at > text && at[-1] != ')')
        at--;
    for (int column = 3; at < end; at++)
        if (*at == ' ' && column++ == n)
            return at + 1;
    return NULL;
}

static uint64_t read_number(const char *at, const char *end)
{
    uint64_t number = 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++)
        number = number * 10 + (uint64_t)(*at - '0');
    return number;
}

/* As mpf_process_alive() where that is not to be called. A process whose first thread alone is over is not gone. */
static bool process_gone(int32_t pid, uint64_t start_time)
{
    if (kill(pid, 0) < 0 && errno == ESRCH)
        return true;
    char text[1024];
    ssize_t length = read_stat(pid, text, sizeof text);
    if (length <= 0)
        return length == -ESRCH;
    const char *end = text + length;
    const char *state = find_column(text, end, 3), *threads = find_column(text, end, 20);
    const char *started = find_column(text, end, 22);
    if (!state || !threads || !started)
        return false;
    if (start_time != 0 && read_number(started, end) != start_time)
        return true;
    return (*state == 'Z' || *state == 'X') && read_number(threads, end) <= 1;
}

static int32_t followed(void) { return atomic_load_explicit(&whom, memory_order_relaxed); }

static bool is_direct(void) { return atomic_load_explicit(&parent, memory_order_relaxed) == followed(); }

/* The kernel gives a child to another parent exactly when its own has ended. */
static bool followed_gone(void)
{
    if (is_direct())
        return getppid() != followed();
    return process_gone(followed(), atomic_load_explicit(&since, memory_order_relaxed));
}

static void look_again_later(void)
{
    const struct itimerspec often = {.it_interval.tv_nsec = LOOK_AGAIN_NS, .it_value.tv_nsec = LOOK_AGAIN_NS};
    if (atomic_load_explicit(&timer_owner, memory_order_relaxed) == getpid())
        (void)timer_settime(timer, 0, &often, NULL);
}

static bool following(void) { return atomic_load_explicit(&follower, memory_order_acquire) == getpid(); }

static void look(void)
{
    if (followed_gone())
        _exit(FOLLOW_STATUS);
    if (!is_direct())
        look_again_later();
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    int error = errno;
    if (following())
        look();
    errno = error;
    if (former.sa_flags & SA_SIGINFO)
        former.sa_sigaction(number, info, context);
    else if (former.sa_handler != SIG_DFL && former.sa_handler != SIG_IGN)
        former.sa_handler(number);
}

static int install_handler(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    struct sigaction present;
    sigset_t only;
    sigemptyset(&action.sa_mask);
    sigemptyset(&only);
    sigaddset(&only, FOLLOW_SIGNAL);
    if (sigaction(FOLLOW_SIGNAL, NULL, &present) < 0)
        return -errno;
    if (!installed || !(present.sa_flags & SA_SIGINFO) || present.sa_sigaction != on_signal) {
        former = present;
        installed = true;
        if (sigaction(FOLLOW_SIGNAL, &action, NULL) < 0)
            return -errno;
    }
    return -pthread_sigmask(SIG_UNBLOCK, &only, NULL);
}

static int make_timer(void)
{
    if (atomic_load_explicit(&timer_owner, memory_order_relaxed) == getpid())
        return 0;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = FOLLOW_SIGNAL};
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
        return -errno;
    atomic_store_explicit(&timer_owner, getpid(), memory_order_relaxed);
    return 0;
}

int mpf_follow_start(int32_t pid, uint64_t start_time, bool told)
{
    if (pid <= 0)
        return -EINVAL;
    if (mpf_follow_whom() == pid)
        return 0;
    mpf_follow_stop();
    int32_t known = getppid();
    if (known != pid && start_time == 0 && mpf_process_start_time(pid, &start_time) == -ESRCH)
        _exit(FOLLOW_STATUS);
    atomic_store_explicit(&whom, pid, memory_order_relaxed);
    atomic_store_explicit(&since, start_time, memory_order_relaxed);
    atomic_store_explicit(&parent, known, memory_order_relaxed);
    int rc = known == pid ? 0 : make_timer();
    if (rc == 0)
        rc = install_handler();
    if (rc == 0 && prctl(PR_SET_PDEATHSIG, FOLLOW_SIGNAL) < 0)
        rc = -errno;
    if (rc < 0)
        return rc;
    /* Release: pairs with the acquire in following(); whom it is about comes before. */
    atomic_store_explicit(&follower, getpid(), memory_order_release);
    /* It may have ended, or the server, before there was a handler to hear of it. */
    if (followed_gone())
        _exit(FOLLOW_STATUS);
    if (known != pid && (!told || getppid() != known))
        look_again_later();
    return 0;
}

void mpf_follow_stop(void)
{
    const struct itimerspec never = {.it_value.tv_nsec = 0};
    if (!following())
        return;
    atomic_store_explicit(&follower, 0, memory_order_release);
    (void)prctl(PR_SET_PDEATHSIG, 0);
    if (atomic_load_explicit(&timer_owner, memory_order_relaxed) == getpid())
        (void)timer_settime(timer, 0, &never, NULL);
}

int32_t mpf_follow_whom(void) { return following() ? followed() : 0; }

int mpf_follow_signal(void) { return FOLLOW_SIGNAL; }
