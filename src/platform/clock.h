/* The monotonic clock, in nanoseconds. */
#ifndef MPF_PLATFORM_CLOCK_H
#define MPF_PLATFORM_CLOCK_H

#include <stdint.h>

/* A yield that takes longer went to somebody who wants the CPU for as long as he gets it. */
#define MPF_CLOCK_SLICE_NS (1000 * 1000)

int64_t mpf_clock_now(void);

#endif
