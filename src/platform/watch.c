/*
 * Purpose: waiting for something to happen without a thread of the interpreter, whose start and whose turns cost the others
 * a good deal: most of what could happen never does.
 *
 * Layout, in private memory, kept by its owner and by its thread:
 *
 *     | state | keepers | bell: an eventfd that ends the sleep | what to call | descriptors |
 *
 * States: WATCHING -> CALLED (by the thread) or STOPPED (by the owner), for good.
 *
 * Invariants: the function is called only after WATCHING -> CALLED, so at most once, and never after STOPPED. The thread is joined
 * by whoever stops it; that never waits for the function, which may want what the stopper holds: a thread that calls is on
 * its own. Signals are for other threads until the function is called, which runs with the mask of who started the watch.
 *
 * Callers: the owner, one call at a time. A forked child, which may have been forked at any moment of the thread's or even by
 * it, leaves all as it is: a descriptor and some bytes.
 *
 * Death of the caller: the thread goes with its process.
 */
#define _GNU_SOURCE
#include "platform/watch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { WATCHING, CALLED, STOPPED };

struct mpf_watch {
    _Atomic int state;
    _Atomic int keepers;
    pid_t process;
    pthread_t thread;
    int bell;
    void (*call)(void *);
    void *argument;
    sigset_t mask; /* of who started it */
    size_t count;
    struct pollfd fds[]; /* the bell comes last */
};

static _Atomic uint64_t threads; /* the process's number, and how many it has: those of its parent are none of a child's */

static void count(int change)
{
    uint64_t none = (uint64_t)getpid() << 32, now = atomic_load_explicit(&threads, memory_order_relaxed), next;
    do
        next = (now >> 32 == none >> 32 ? now : none) + (uint64_t)(int64_t)change;
    /* Release: what a thread has done is seen by who finds that it is over. */
    while (!atomic_compare_exchange_weak_explicit(&threads, &now, next, memory_order_acq_rel, memory_order_relaxed));
}

bool mpf_watch_runs(void)
{
    uint64_t now = atomic_load_explicit(&threads, memory_order_acquire); /* pairs with the release in count() */
    return now >> 32 == (uint64_t)getpid() && (uint32_t)now != 0;
}

static void drop(struct mpf_watch *watch)
{
    /* Release: what this keeper did comes before the end. Acquire: pairs with the releases of the others, in the last one. */
    if (atomic_fetch_sub_explicit(&watch->keepers, 1, memory_order_acq_rel) == 1) {
        close(watch->bell);
        free(watch);
    }
}

/* Whether the watch has passed from WATCHING to the state, by this call. */
static bool decide(struct mpf_watch *watch, int state)
{
    int expected = WATCHING;
    /* Acquire and release: pairs with the other one's; what either did before is seen by who comes second. */
    return atomic_compare_exchange_strong_explicit(&watch->state, &expected, state, memory_order_acq_rel, memory_order_acquire);
}

static void *run(void *argument)
{
    struct mpf_watch *watch = argument;
    while (poll(watch->fds, (nfds_t)watch->count, -1) < 0 && errno == EINTR)
        ;
    if (decide(watch, CALLED)) {
        pthread_detach(pthread_self());
        pthread_sigmask(SIG_SETMASK, &watch->mask, NULL);
        watch->call(watch->argument);
    }
    if (watch->process == getpid()) {
        drop(watch);
        count(-1);
    }
    return NULL;
}

static struct mpf_watch *make(const int *fds, size_t count, int bell)
{
    struct mpf_watch *watch = calloc(1, sizeof *watch + (count + 1) * sizeof watch->fds[0]);
    if (!watch)
        return NULL;
    watch->keepers = 2;
    watch->process = getpid();
    watch->bell = bell;
    watch->count = count + 1;
    for (size_t i = 0; i < count; i++)
        watch->fds[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    watch->fds[count] = (struct pollfd){.fd = bell, .events = POLLIN};
    return watch;
}

/* 0 or -errno. */
static int start_thread(struct mpf_watch *watch)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &watch->mask);
    count(1);
    int error = pthread_create(&watch->thread, NULL, run, watch);
    if (error != 0)
        count(-1);
    pthread_sigmask(SIG_SETMASK, &watch->mask, NULL);
    return -error;
}

int mpf_watch_start(const int *fds, size_t count, void (*call)(void *), void *argument, struct mpf_watch **made)
{
    int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bell < 0)
        return -errno;
    struct mpf_watch *watch = make(fds, count, bell);
    if (!watch) {
        close(bell);
        return -ENOMEM;
    }
    watch->call = call;
    watch->argument = argument;
    int rc = start_thread(watch);
    if (rc < 0) {
        close(bell);
        free(watch);
        return rc;
    }
    *made = watch;
    return 0;
}

bool mpf_watch_stop(struct mpf_watch *watch)
{
    const uint64_t once = 1;
    if (watch->process != getpid())
        return atomic_load_explicit(&watch->state, memory_order_relaxed) != CALLED;
    if (!decide(watch, STOPPED))
        return atomic_load_explicit(&watch->state, memory_order_relaxed) == STOPPED; /* final */
    while (write(watch->bell, &once, sizeof once) < 0 && errno == EINTR)
        ;
    pthread_join(watch->thread, NULL);
    return true;
}

void mpf_watch_free(struct mpf_watch *watch)
{
    if (watch->process != getpid())
        return;
    (void)mpf_watch_stop(watch);
    drop(watch);
}
