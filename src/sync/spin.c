/* Adaptive spinning: a bet that what is waited for comes before a sleep and a wake-up would have been paid for.
 *
 * Private state only: a table of sites, one 32-bit word each, found by the address of the word waited for (two
 * words may share a site; it is a statistic).
 *
 *   bits 0-15   score, 0..SCORE_FULL: moves a quarter of the way up on a win, a quarter down on a loss
 *   bits 16-31  waits skipped since the last probe while the score is below SCORE_WORTH
 *
 * Shared state: the arena's spin permits (memory/participant.h), which come back if their holder is killed.
 *
 * A turn with a permit is a few pause instructions; every CLOCK_TURNS turns the CPU is offered to whoever is ready to run on
 * it, because what is waited for may be exactly that. Without a permit there are more waiters than CPUs: after a short
 * grace, in which the permit's last holder often lets go, each turn offers the CPU. A yield that took longer than a
 * sleep would have means that others need the CPU for long: the spin ends, and counts as lost even if it was won. One that took a
 * time slice means that there are more who want to run than CPUs: nothing in this process spins for CROWDED_NS. */
#include "sync/spin.h"

#include <sched.h>

#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/process.h"

#define SITES 256
#define SCORE_FULL 4096
#define SCORE_START 2048
#define SCORE_WORTH 512
#define GRACE_TURNS 32
#define PAUSES 4
#define CLOCK_TURNS 16
#define CROWDED_NS (50 * 1000 * 1000)

static _Atomic uint32_t sites[SITES]; /* score stored as its distance from SCORE_START, so that zero is the start */

/* Until then (monotonic ns) others need the CPUs: to offer one of them for a moment is to lose it for a whole time slice, where a
 * sleeper is given one as soon as he is woken. */
static _Atomic int64_t crowded_until;

static uint32_t site_score(uint32_t site) { return (site + SCORE_START) & 0xffff; }
static uint32_t site_skipped(uint32_t site) { return (site + SCORE_START) >> 16; }
static uint32_t site_make(uint32_t score, uint32_t skipped) { return (score | skipped << 16) - SCORE_START; }

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static bool worth_trying(_Atomic uint32_t *site) {
    uint32_t now = atomic_load_explicit(site, memory_order_relaxed);
    if (site_score(now) >= SCORE_WORTH)
        return true;
    uint32_t skipped = site_skipped(now) + 1;
    bool probe = skipped >= MPF_SPIN_PROBE;
    atomic_store_explicit(site, site_make(site_score(now), probe ? 0 : skipped), memory_order_relaxed);
    return probe;
}

void mpf_spin_begin(struct mpf_spin *spin, struct mpf_park *park, const void *word) {
    uintptr_t hash = (uintptr_t)word >> 3;
    spin->park = park;
    spin->site = &sites[(hash ^ hash >> 8) % SITES];
    spin->turns = 0;
    spin->permit = spin->late = false;
    spin->active = park->deadline > 0 && mpf_process_cpus() > 1 && worth_trying(spin->site);
    if (!spin->active)
        return;
    int64_t now = mpf_clock_now();
    spin->active = now >= atomic_load_explicit(&crowded_until, memory_order_relaxed);
    if (!spin->active)
        return;
    if (park->contended)
        mpf_park_begin(park);
    spin->until = now + MPF_SPIN_NS;
    if (park->deadline < spin->until)
        spin->until = park->deadline;
    spin->permit = mpf_participant_spin_begin(park->arena);
}

bool mpf_spin_next(struct mpf_spin *spin) {
    if (!spin->active)
        return false;
    spin->turns++;
    if (!spin->permit && spin->turns < GRACE_TURNS)
        spin->permit = mpf_participant_spin_begin(spin->park->arena);
    bool yield = !spin->permit && spin->turns >= GRACE_TURNS;
    if (spin->turns % CLOCK_TURNS == 0 || yield) {
        int64_t before = mpf_clock_now();
        if (before >= spin->until)
            return false;
        sched_yield();
        int64_t after = mpf_clock_now();
        spin->late = after >= spin->until;
        if (after - before > MPF_CLOCK_SLICE_NS)
            atomic_store_explicit(&crowded_until, after + CROWDED_NS, memory_order_relaxed);
        return true;
    }
    for (int i = 0; i < PAUSES; i++)
        relax();
    return true;
}

void mpf_spin_end(struct mpf_spin *spin, bool won) {
    if (!spin->active)
        return;
    if (spin->permit)
        mpf_participant_spin_end(spin->park->arena);
    uint32_t score = site_score(atomic_load_explicit(spin->site, memory_order_relaxed));
    score = won && !spin->late ? score + (SCORE_FULL - score) / 4 : score - score / 4;
    atomic_store_explicit(spin->site, site_make(score, 0), memory_order_relaxed);
    if (won)
        mpf_park_finish(spin->park);
}
