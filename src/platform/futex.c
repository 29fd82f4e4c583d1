/*
 * Purpose: futex calls on words in shared memory, with absolute deadlines on the monotonic clock.
 *
 * Layout: none of its own; the words belong to the callers. All calls are of the shared kind (keyed by the file page,
 * not by the address space), because the arena is mapped at different addresses in different processes.
 *
 * States: none. The kernel compares word and expected value under its own lock, so a change of the word that is
 * followed by a wake can never fall between the comparison and the sleep.
 *
 * Callers: anyone who may sleep; never with a section held.
 *
 * Death of the caller: a sleeper that is killed leaves the kernel's queue by itself; a wake that it had already been given is
 * lost, which is why every caller treats a return of 0 as a hint and every long sleep watches for deaths.
 */
#include "platform/futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449 /* the same number on every architecture */
#endif

/* The kernel's layout for futex_waitv; older headers lack it. */
struct waitv_target {
    uint64_t expected;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
};
#define WAITV_32_BITS 2u

static struct timespec *deadline_timespec(int64_t deadline, struct timespec *storage)
{
    if (deadline == MPF_FOREVER)
        return NULL;
    if (deadline < 0)
        deadline = 0;
    storage->tv_sec = deadline / 1000000000;
    storage->tv_nsec = deadline % 1000000000;
    return storage;
}

int mpf_futex_wait(const _Atomic uint32_t *word, uint32_t expected, int64_t deadline)
{
    struct timespec storage;
    /* The bitset form is the one with an absolute deadline. */
    long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, deadline_timespec(deadline, &storage), NULL,
                      FUTEX_BITSET_MATCH_ANY);
    return rc == 0 ? 0 : -errno;
}

int mpf_futex_wait_many(const struct mpf_futex_target *targets, unsigned count, int64_t deadline)
{
    struct waitv_target vector[MPF_FUTEX_MANY_MAX];
    struct timespec storage;
    if (count == 0 || count > MPF_FUTEX_MANY_MAX)
        return -EINVAL;
    for (unsigned i = 0; i < count; i++)
        vector[i] = (struct waitv_target){
            .expected = targets[i].expected,
            .address = (uint64_t)(uintptr_t)targets[i].word,
            .flags = WAITV_32_BITS,
        };
    long rc = syscall(SYS_futex_waitv, vector, count, 0, deadline_timespec(deadline, &storage), CLOCK_MONOTONIC);
    return rc >= 0 ? 0 : -errno;
}

int mpf_futex_wake(const _Atomic uint32_t *word, int count)
{
    long rc = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    return rc >= 0 ? (int)rc : -errno;
}
