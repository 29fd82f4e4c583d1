/* Nanoseconds per operation of sections and blocks, uncontended. Figures only: nothing is asserted. */
#include "check.h"

#include "memory/block.h"
#include "memory/participant.h"
#include "memory/section.h"
#include "platform/clock.h"

static struct mpf_arena *arena;
static struct mpf_ref ref, part;
static mpf_off *word;

static void section_pair(void)
{
    static struct mpf_section_shm *section;
    if (!section)
        section = word ? (struct mpf_section_shm *)(word + 2) : NULL;
    mpf_section_enter(arena, section);
    mpf_section_leave(arena, section);
}

static void alloc_pair(void)
{
    struct mpf_ref fresh;
    mpf_block_alloc(arena, 24, MPF_BLOCK_MUTEX, &fresh);
    mpf_block_unref(&fresh);
}

static void large_pair(void)
{
    struct mpf_ref fresh;
    mpf_block_alloc_dirty(arena, 1 << 20, MPF_BLOCK_RAW, &fresh);
    mpf_block_unref(&fresh);
}

static void ref_pair(void)
{
    struct mpf_ref copy;
    mpf_block_ref(&ref, &copy);
    mpf_block_unref(&copy);
}

static void put_pair(void)
{
    mpf_block_put(&part, word);
    mpf_block_take(arena, word, &part);
}

static void reap(void) { mpf_participant_reap(arena); }

static void watch(void)
{
    struct mpf_futex_target targets[MPF_FUTEX_MANY_MAX];
    mpf_participant_watch(arena, targets, MPF_FUTEX_MANY_MAX);
}

static void fork_and_wait(void)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    check_wait(pid);
}

static void measure(const char *name, void (*operation)(void), int times)
{
    int64_t best = INT64_MAX;
    for (int round = 0; round < 5; round++) {
        int64_t start = mpf_clock_now();
        for (int i = 0; i < times; i++)
            operation();
        int64_t took = mpf_clock_now() - start;
        best = took < best ? took : best;
    }
    printf("%-28s %10.1f ns\n", name, (double)best / times);
}

int main(void)
{
    int64_t start = mpf_clock_now();
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    printf("%-28s %10.1f ns\n", "first arena", (double)(mpf_clock_now() - start));
    struct mpf_block_stats stats;
    CHECK_EQUAL(mpf_block_alloc(arena, 1024, MPF_BLOCK_DICT, &ref), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 100, MPF_BLOCK_TABLE, &part), 0);
    word = mpf_at(arena, ref.off);
    mpf_section_init((struct mpf_section_shm *)(word + 2), 8);
    measure("section enter+leave", section_pair, 1000000);
    measure("alloc+unref, 24 bytes", alloc_pair, 1000000);
    measure("alloc+unref, 1 MiB, hot", large_pair, 100000);
    measure("ref+unref", ref_pair, 1000000);
    measure("put+take", put_pair, 1000000);
    measure("reap, nobody dead", reap, 100000);
    measure("watch, nobody else", watch, 100000);
    measure("fork+exit+wait", fork_and_wait, 200);
    mpf_block_stats(arena, &stats);
    printf("%-28s %10.1f KiB\n", "committed by a small user", (double)stats.committed / 1024);

    enum { MANY = 1000000 };
    struct mpf_ref *many = malloc(MANY * sizeof *many);
    start = mpf_clock_now();
    for (int i = 0; i < MANY; i++)
        CHECK_EQUAL(mpf_block_alloc(arena, 24, MPF_BLOCK_MUTEX, &many[i]), 0);
    printf("%-28s %10.1f ns each\n", "a million blocks", (double)(mpf_clock_now() - start) / MANY);
    mpf_block_stats(arena, &stats);
    printf("%-28s %10.1f bytes each\n", "their memory", (double)stats.committed / MANY);
    start = mpf_clock_now();
    fork_and_wait();
    printf("%-28s %10.1f ms\n", "fork with them", (double)(mpf_clock_now() - start) / 1e6);
    start = mpf_clock_now();
    for (int i = 0; i < MANY; i++)
        mpf_block_unref(&many[i]);
    printf("%-28s %10.1f ns each\n", "dropping them", (double)(mpf_clock_now() - start) / MANY);
    return 0;
}
