/* The buddy system: runs that do not overlap, merge again, and know which of their pages are there. */
#include "check.h"

#include "memory/layout.h"
#include "memory/participant.h"
#include "platform/fault.h"

static struct mpf_arena *arena;

static void start(void)
{
    setenv("MPFAST_ARENA_SIZE", "1G", 1);
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
}

static uint64_t free_spans(void)
{
    uint64_t total = 0;
    mpf_arena_enter(arena);
    for (uint32_t order = 0; order < MPF_ORDERS; order++)
        for (uint32_t span = mpf_allocator(arena)->free_head[order]; span; span = mpf_span(arena, span)->next)
            total += UINT64_C(1) << order;
    mpf_arena_leave(arena);
    return total;
}

static void test_split_and_merge(void)
{
    enum { RUNS = 200 };
    uint32_t runs[RUNS];
    uint64_t seed = 3;
    start();
    uint64_t before = free_spans();
    for (int i = 0; i < RUNS; i++) {
        uint64_t bytes = (uint64_t)(check_random(&seed) % 9 + 1) << MPF_SPAN_SHIFT;
        CHECK_EQUAL(mpf_span_hold(arena, bytes, true, &runs[i]), 0);
        uint32_t order = mpf_span_order(mpf_span(arena, runs[i]));
        CHECK_EQUAL(runs[i] % (1u << order), 0);
        CHECK((MPF_SPAN_BYTES << order) >= bytes);
        char *start_of_run = mpf_at(arena, (uint64_t)runs[i] << MPF_SPAN_SHIFT);
        for (uint64_t at = 0; at < bytes; at += 4096) {
            CHECK_EQUAL(start_of_run[at], 0);
            start_of_run[at] = 1;
        }
        CHECK_EQUAL(mpf_span_committed(arena, runs[i], (uint32_t)(bytes >> MPF_SPAN_SHIFT)), bytes >> MPF_SPAN_SHIFT);
    }
    mpf_block_check(arena);
    for (int i = 0; i < RUNS; i++)
        mpf_span_drop(arena, runs[(i * 7) % RUNS], i % 2);
    mpf_block_check(arena);
    CHECK_EQUAL(free_spans(), before);
}

static void test_kept_pages_are_zeroed_when_asked(void)
{
    uint32_t first, second;
    start();
    CHECK_EQUAL(mpf_span_hold(arena, 3 * MPF_SPAN_BYTES, false, &first), 0);
    memset(mpf_at(arena, (uint64_t)first << MPF_SPAN_SHIFT), 0x5a, 3 * MPF_SPAN_BYTES);
    mpf_span_drop(arena, first, false);
    CHECK_EQUAL(mpf_span_hold(arena, 4 * MPF_SPAN_BYTES, true, &second), 0);
    CHECK_EQUAL(second, first);
    const char *bytes = mpf_at(arena, (uint64_t)second << MPF_SPAN_SHIFT);
    for (uint64_t at = 0; at < 4 * MPF_SPAN_BYTES; at++)
        CHECK_EQUAL(bytes[at], 0);
    mpf_span_drop(arena, second, true);
    CHECK_EQUAL(mpf_span_committed(arena, second, 4), 0);
}

static void test_too_large(void)
{
    uint32_t span;
    start();
    CHECK_EQUAL(mpf_span_hold(arena, 0, false, &span), -ENOMEM);
    CHECK_EQUAL(mpf_span_hold(arena, UINT64_C(1) << 30, false, &span), -ENOMEM);
    CHECK_EQUAL(mpf_span_hold(arena, UINT64_C(1) << 60, false, &span), -ENOMEM);
    mpf_block_check(arena);
}

static void test_kind(void)
{
    uint32_t span;
    start();
    CHECK_EQUAL(mpf_span_hold(arena, 2 * MPF_SPAN_BYTES, false, &span), 0);
    CHECK_EQUAL(mpf_span_kind(arena, span), MPF_SPAN_HELD);
    CHECK_EQUAL(mpf_span_kind(arena, span + 1), MPF_SPAN_INNER);
    CHECK_EQUAL(mpf_span_kind(arena, UINT32_MAX), MPF_SPAN_INNER);
    mpf_span_drop(arena, span, false);
}

static void hold_and_die(void *argument)
{
    uint32_t span;
    (void)argument;
    for (int i = 0; i < 5; i++) {
        CHECK_EQUAL(mpf_span_hold(arena, (uint64_t)(i + 1) << MPF_SPAN_SHIFT, false, &span), 0);
        memset(mpf_at(arena, (uint64_t)span << MPF_SPAN_SHIFT), 0x5a, MPF_SPAN_BYTES);
    }
    kill(getpid(), SIGKILL);
}

static void test_runs_of_the_dead(void)
{
    start();
    uint64_t before = free_spans();
    CHECK_EQUAL(check_wait(check_fork(hold_and_die, NULL)), -SIGKILL);
    CHECK(free_spans() < before);
    CHECK_EQUAL(mpf_participant_reap(arena), 1);
    mpf_block_check(arena);
    CHECK_EQUAL(free_spans() + 1 >= before, 1); /* but for a span of slabs that stays */
    CHECK(mpf_allocator(arena)->hot <= 1);       /* nothing of theirs was kept */
}

#ifdef MPF_DEBUG
static void test_commit_fails(void)
{
    uint32_t span;
    start();
    uint64_t before = free_spans();
    for (int nth = 1; nth < 4; nth++) {
        mpf_fault_set("span.commit:1:delay=0,memfd.commit:1:ENOSPC");
        CHECK_EQUAL(mpf_span_hold(arena, 300 * MPF_SPAN_BYTES, false, &span), -ENOMEM);
        mpf_fault_set(NULL);
        mpf_block_check(arena);
        CHECK_EQUAL(free_spans(), before);
    }
}

static void test_what_is_hot_is_given_back_when_memory_is_short(void)
{
    uint32_t first, second, large;
    start();
    CHECK_EQUAL(mpf_span_hold(arena, 4 * MPF_SPAN_BYTES, false, &first), 0);
    CHECK_EQUAL(mpf_span_hold(arena, MPF_SPAN_BYTES, false, &second), 0);
    mpf_span_drop(arena, first, false);
    mpf_span_drop(arena, second, false);
    CHECK(mpf_allocator(arena)->hot >= 5);
    mpf_fault_set("memfd.commit:1:ENOMEM");
    CHECK_EQUAL(mpf_span_hold(arena, 300 * MPF_SPAN_BYTES, true, &large), 0);
    mpf_fault_set(NULL);
    CHECK_EQUAL(mpf_allocator(arena)->hot, 0);
    CHECK_EQUAL(mpf_span_committed(arena, first, 4) + mpf_span_committed(arena, second, 1), 0);
    mpf_block_check(arena);
    mpf_span_drop(arena, large, false);
    mpf_block_check(arena);
}
#endif

CHECK_MAIN({"split_and_merge", test_split_and_merge},
           {"kept_pages_are_zeroed_when_asked", test_kept_pages_are_zeroed_when_asked}, {"too_large", test_too_large},
           {"kind", test_kind}, {"runs_of_the_dead", test_runs_of_the_dead},
#ifdef MPF_DEBUG
           {"commit_fails", test_commit_fails},
           {"what_is_hot_is_given_back_when_memory_is_short", test_what_is_hot_is_given_back_when_memory_is_short},
#endif
)
