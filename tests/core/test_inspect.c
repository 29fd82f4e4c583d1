/* The figures are right, and the check sees what is wrong. */
#include "check.h"

#include "memory/layout.h"

static struct mpf_arena *arena;

static void test_figures(void)
{
    struct mpf_block_stats before, stats;
    struct mpf_ref refs[5], copy;
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    mpf_block_stats(arena, &before);
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(mpf_block_alloc(arena, 100, MPF_BLOCK_EVENT, &refs[i]), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 1000000, MPF_BLOCK_RAW, &refs[4]), 0);
    CHECK_EQUAL(mpf_block_ref(&refs[4], &copy), 0);
    mpf_block_stats(arena, &stats);
    CHECK_EQUAL(stats.blocks[MPF_BLOCK_EVENT], 4);
    CHECK_EQUAL(stats.blocks[MPF_BLOCK_RAW], 1);
    CHECK_EQUAL(stats.blocks[MPF_BLOCK_MUTEX], 0);
    CHECK_EQUAL(stats.references, 6);
    CHECK_EQUAL(stats.bytes, 4 * 132 + 1000032);
    CHECK(stats.committed >= before.committed + 1000000 && stats.committed < before.committed + 2000000);
}

static void test_committed_is_what_the_file_has(void)
{
    struct mpf_block_stats stats;
    struct mpf_ref ref;
    char path[64], line[256];
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 5000000, MPF_BLOCK_RAW, &ref), 0);
    mpf_block_stats(arena, &stats);
    int fd = dup(arena->fd); /* without close-on-exec */
    snprintf(path, sizeof path, "stat -Lc %%b /proc/self/fd/%d", fd);
    FILE *output = popen(path, "r");
    CHECK(output && fgets(line, sizeof line, output));
    CHECK_EQUAL(strtoull(line, NULL, 10) * 512, stats.committed);
}

static void damage_slab(void) { mpf_span(arena, mpf_allocator(arena)->partial_head[0])->blocks += 1 << 16; }
static void damage_hot(void) { mpf_allocator(arena)->hot++; }
static void damage_free_list(void)
{
    for (uint32_t order = 0; order < MPF_ORDERS; order++)
        mpf_allocator(arena)->free_head[order] = 0;
}
static void damage_entry(void) { *mpf_reference_at(arena, mpf_slot_of(arena->self), 0) += UINT64_C(1) << 27; }
static void damage_count(void)
{
    struct mpf_block_shm *block = mpf_at(arena, mpf_entry_off(*mpf_reference_at(arena, mpf_slot_of(arena->self), 0)));
    block[-1].refs = 0;
}
static void damage_run(void) { mpf_span(arena, (uint32_t)mpf_header(arena)->first_span)->tag = 0; }

static void damage_and_check(void *argument)
{
    struct mpf_ref ref;
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 10, MPF_BLOCK_RAW, &ref), 0);
    mpf_block_check(arena);
    (*(void (**)(void))argument)();
    CHECK(freopen("/dev/null", "w", stderr) != NULL);
    mpf_block_check(arena);
}

static void test_sees_damage(void)
{
    void (*damages[])(void) = {damage_slab, damage_hot, damage_free_list, damage_entry, damage_count, damage_run};
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++)
        CHECK_EQUAL(check_wait(check_fork(damage_and_check, &damages[i])), -SIGABRT);
}

CHECK_MAIN({"figures", test_figures}, {"committed_is_what_the_file_has", test_committed_is_what_the_file_has},
           {"sees_damage", test_sees_damage})
