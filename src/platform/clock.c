/*
 * Purpose: the monotonic clock, in nanoseconds.
 *
 * Layout, states, invariants: none; the clock is the kernel's.
 *
 * Callers: anyone, holding anything (no system call: the vDSO answers).
 *
 * Death of the caller: leaves nothing behind.
 */
#include "platform/clock.h"

#include <time.h>

int64_t mpf_clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
