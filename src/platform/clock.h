/* The monotonic clock, in nanoseconds. */
#ifndef MPF_PLATFORM_CLOCK_H
#define MPF_PLATFORM_CLOCK_H

#include <stdint.h>

int64_t mpf_clock_now(void);

#endif
