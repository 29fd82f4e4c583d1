/* Spinning: stops where it does not pay, starts again where it does, keeps its time and gives its permit back. */
#include "sync_check.h"

#include "platform/process.h"
#include "sync/spin.h"

static uint32_t word;

/* How many of `waits` waits span at all, each of them ending as `won` says. */
static int spin_some(int waits, bool won) {
    int active = 0;
    for (int i = 0; i < waits; i++) {
        struct mpf_park park = patient();
        struct mpf_spin spin;
        mpf_spin_begin(&spin, &park, &word);
        if (mpf_spin_next(&spin)) {
            active++;
            while (!won && mpf_spin_next(&spin))
                ;
        }
        mpf_spin_end(&spin, won);
    }
    return active;
}

static void test_adapts(void) {
    start();
    if (mpf_process_cpus() == 1) {
        CHECK_EQUAL(spin_some(50, true), 0);
        return;
    }
    CHECK_EQUAL(spin_some(20, true), 20);
    spin_some(40, false);
    CHECK(spin_some(MPF_SPIN_PROBE * 4, false) <= 5);
    /* where it pays it starts again, though not while the machine has more to do than it has CPUs, as it may have had just now */
    int64_t until = mpf_clock_now() + 20 * SECOND;
    while (spin_some(20, true) != 20)
        CHECK(mpf_clock_now() < until);
}

static void test_not_past_the_deadline(void) {
    start();
    struct mpf_park park = MPF_PARK_INIT(arena, 0);
    struct mpf_spin spin;
    mpf_spin_begin(&spin, &park, &word);
    CHECK(!mpf_spin_next(&spin));
    mpf_spin_end(&spin, false);
    park = within(-SECOND);
    mpf_spin_begin(&spin, &park, &word);
    for (int turns = 0; mpf_spin_next(&spin); turns++)
        CHECK(turns < 64);
    mpf_spin_end(&spin, false);
}

static void test_permit_comes_back(void) {
    start();
    for (int i = 0; i < 100; i++)
        spin_some(1, i % 2);
    if (mpf_process_cpus() > 1)
        CHECK(mpf_participant_spin_begin(arena));
}

CHECK_MAIN({"adapts", test_adapts}, {"not_past_the_deadline", test_not_past_the_deadline},
           {"permit_comes_back", test_permit_comes_back})
