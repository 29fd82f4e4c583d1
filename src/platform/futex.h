/* Futex calls on words in shared memory. The only file that issues the system call.
 *
 * Deadlines are absolute nanoseconds on CLOCK_MONOTONIC; MPF_FOREVER means none.
 * A return of 0 is a hint, never a promise: the caller looks at its condition again. */
#ifndef MPF_PLATFORM_FUTEX_H
#define MPF_PLATFORM_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

#define MPF_FOREVER INT64_MAX
#define MPF_FUTEX_MANY_MAX 128 /* the kernel's own limit for one call */

struct mpf_futex_target {
    const _Atomic uint32_t *word;
    uint32_t expected;
};

/* Sleeps while *word == expected. 0 woken, -EAGAIN the word differs, -ETIMEDOUT, -EINTR. */
int mpf_futex_wait(const _Atomic uint32_t *word, uint32_t expected, int64_t deadline);

/* Sleeps while every target holds its expected value; same returns, -ENOSYS on kernels before 5.16. */
int mpf_futex_wait_many(const struct mpf_futex_target *targets, unsigned count, int64_t deadline);

/* Wakes up to count sleepers; how many were woken, or -errno. */
int mpf_futex_wake(const _Atomic uint32_t *word, int count);

#endif
