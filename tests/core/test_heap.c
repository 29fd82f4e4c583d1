/* The heap: what was freed is used again, what is new comes in large pages; without memory nothing happens. */
#include "platform/heap.h"

#include "check.h"

#include <sys/resource.h>

#define MIB ((size_t)1 << 20)
#define BLOCKS 24
#define MORE 40 /* more than a reserve, less than the C library keeps */
#define PAGES (BLOCKS * MIB / 4096)

#if defined(__GLIBC__) && !UNDER_ASAN && !UNDER_TSAN
#define KEEPS 1 /* the allocator is the one that heap.c knows */
#else
#define KEEPS 0
#endif

static long faults(void)
{
    struct rusage usage;
    CHECK_EQUAL(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_minflt;
}

/* Takes, fills and frees the blocks; the page faults that it cost. */
static long use(void)
{
    char *volatile blocks[BLOCKS];
    long before = faults();
    for (int i = 0; i < BLOCKS; i++) {
        mpf_heap_expect(MIB);
        blocks[i] = malloc(MIB);
        CHECK(blocks[i] != NULL);
        mpf_heap_fill(blocks[i], MIB);
        memset(blocks[i], i + 1, MIB);
    }
    long cost = faults() - before;
    for (int i = BLOCKS; i-- > 0;) {
        CHECK_EQUAL(blocks[i][0], i + 1);
        CHECK_EQUAL(blocks[i][MIB - 1], i + 1);
        free(blocks[i]);
    }
    return cost;
}

static void use_again(void *unused)
{
    (void)unused;
    use();
    long cost = use();
    if (KEEPS)
        CHECK(cost < (long)PAGES / 8);
}

static void test_what_is_freed_is_kept(void)
{
    use_again(NULL);
}

static void test_more_than_a_reserve_is_kept_in_one_place(void)
{
    char *volatile blocks[MORE];
    long before = 0;
    for (int round = 0; round < 20; round++) {
        if (round == 4)
            before = faults();
        for (int i = 0; i < MORE; i++) {
            mpf_heap_expect(MIB);
            blocks[i] = malloc(MIB);
            CHECK(blocks[i] != NULL);
            memset(blocks[i], i + 1, MIB);
        }
        for (int i = 0; i < MORE; i++)
            free(blocks[i]);
    }
    if (KEEPS)
        CHECK(faults() - before < 4);
}

static void test_a_child_goes_on_where_its_parent_was(void)
{
    use();
    CHECK_EQUAL(check_wait(check_fork(use_again, NULL)), 0);
}

static void *use_in_thread(void *unused)
{
    use();
    return unused;
}

static void test_threads(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, use_in_thread, NULL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
}

static void without_memory(void *unused)
{
    struct rlimit limit = {.rlim_cur = MIB, .rlim_max = MIB}; /* less than there is: nothing can be had any more */
    (void)unused;
    CHECK_EQUAL(setrlimit(RLIMIT_AS, &limit), 0);
    errno = EXDEV;
    for (int i = 0; i < 100; i++)
        mpf_heap_expect(MIB);
    mpf_heap_expect(SIZE_MAX);
    CHECK_EQUAL(errno, EXDEV);
}

static void test_lack_of_memory_is_no_error(void)
{
    if (!UNDER_ASAN && !UNDER_TSAN) /* whose allocators end the process */
        CHECK_EQUAL(check_wait(check_fork(without_memory, NULL)), 0);
}

static void test_filling_changes_nothing(void)
{
    size_t bytes = MPF_HEAP_RESERVE + 5 * MIB;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    for (size_t at = 0; at < bytes; at += 4096)
        memory[at] = (char)(at >> 12);
    errno = EXDEV;
    mpf_heap_fill(memory + 17, bytes - 17);
    mpf_heap_fill(memory + 17, 1);
    CHECK_EQUAL(errno, EXDEV);
    for (size_t at = 0; at < bytes; at += 4096)
        CHECK_EQUAL(memory[at], (char)(at >> 12));
    CHECK_EQUAL(munmap(memory, bytes), 0);
}

CHECK_MAIN({"what_is_freed_is_kept", test_what_is_freed_is_kept},
           {"more_than_a_reserve_is_kept_in_one_place", test_more_than_a_reserve_is_kept_in_one_place},
           {"a_child_goes_on_where_its_parent_was", test_a_child_goes_on_where_its_parent_was},
           {"threads", test_threads},
           {"lack_of_memory_is_no_error", test_lack_of_memory_is_no_error},
           {"filling_changes_nothing", test_filling_changes_nothing})
