/* The clock: nanoseconds, and never backwards. */
#include "check.h"

#include <time.h>

#include "platform/clock.h"

static void test_is_monotonic_clock(void)
{
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    int64_t now = mpf_clock_now();
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(now >= (int64_t)before.tv_sec * 1000000000 + before.tv_nsec);
    CHECK(now <= (int64_t)after.tv_sec * 1000000000 + after.tv_nsec);
}

static void test_never_backwards(void)
{
    int64_t last = mpf_clock_now();
    for (int i = 0; i < 100000; i++) {
        int64_t now = mpf_clock_now();
        CHECK(now >= last);
        last = now;
    }
}

CHECK_MAIN({"is_monotonic_clock", test_is_monotonic_clock}, {"never_backwards", test_never_backwards})
