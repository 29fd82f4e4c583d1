/* A thread that sleeps until one of several descriptors is readable, and then calls a function, once. */
#ifndef MPF_PLATFORM_WATCH_H
#define MPF_PLATFORM_WATCH_H

#include <stdbool.h>
#include <stddef.h>

struct mpf_watch;

/* The descriptors stay the caller's, and open until mpf_watch_stop() or the call.
 * 0 or -errno: -EAGAIN where no thread can be had. */
int mpf_watch_start(const int *fds, size_t count, void (*call)(void *), void *argument, struct mpf_watch **watch);

/* Whether the function has not been called and will not be: the thread has ended then, if it is this process's. Else the call may
 * still go on. */
bool mpf_watch_stop(struct mpf_watch *watch);

/* Stops it; the memory goes when the call, if there is one, is over. */
void mpf_watch_free(struct mpf_watch *watch);

/* Whether this process has a thread that watches, or calls. */
bool mpf_watch_runs(void);

#endif
