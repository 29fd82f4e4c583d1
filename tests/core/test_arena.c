/* The arena: created, inherited, found by others, robust against programs that close descriptors, limited in size. */
#include "check.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "memory/arena.h"
#include "memory/block.h"
#include "memory/participant.h"
#include "platform/fault.h"

#define MIB (UINT64_C(1) << 20)

static struct mpf_arena *arena;

static void start(void) { CHECK_EQUAL(mpf_arena_home(&arena), 0); }

static void test_home(void)
{
    struct mpf_arena *again;
    CHECK(mpf_arena_home_if_any() == NULL);
    start();
    CHECK(mpf_arena_home_if_any() == arena);
    CHECK_EQUAL(mpf_arena_home(&again), 0);
    CHECK(again == arena);
    CHECK(arena->self != 0 && arena->size >= MIB && !arena->lost);
    CHECK_EQUAL(mpf_arena_find(arena->id, -1, 0, 0, &again), 0);
    CHECK(again == arena);
    char *p = mpf_at(arena, 12345);
    CHECK_EQUAL(mpf_offset_of(arena, p), 12345);
}

static void *make_home(void *argument)
{
    CHECK_EQUAL(mpf_arena_home(argument), 0);
    return NULL;
}

static void test_one_home_for_all_threads(void)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    struct mpf_arena *homes[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, make_home, &homes[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CHECK(homes[i] == homes[0]);
    }
}

static void test_size_from_environment(void)
{
    struct mpf_ref ref;
    setenv("MPFAST_ARENA_SIZE", "100M", 1);
    start();
    CHECK_EQUAL(arena->size, 100 * MIB);
    mpf_block_check(arena);
    CHECK_EQUAL(mpf_block_alloc(arena, 200 * MIB, MPF_BLOCK_RAW, &ref), -ENOMEM);
    CHECK_EQUAL(mpf_block_alloc(arena, 20 * MIB, MPF_BLOCK_RAW, &ref), 0);
    mpf_block_check(arena);
}

static void test_odd_sizes(void)
{
    const char *argument[] = {"1", "33M", "100000k", "3G", "2000G", "nonsense", ""};
    for (size_t i = 0; i < sizeof argument / sizeof argument[0]; i++) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            setenv("MPFAST_ARENA_SIZE", argument[i], 1);
            start();
            mpf_block_check(arena);
            _exit(0);
        }
        CHECK_EQUAL(check_wait(pid), 0);
    }
}

static void test_full(void)
{
    enum { MANY = 100 };
    struct mpf_ref refs[MANY];
    int count = 0, rc;
    setenv("MPFAST_ARENA_SIZE", "64M", 1);
    start();
    while (count < MANY && (rc = mpf_block_alloc(arena, 3 * MIB, MPF_BLOCK_RAW, &refs[count])) == 0)
        count++;
    CHECK_EQUAL(rc, -ENOMEM);
    CHECK(count >= 8);
    mpf_block_check(arena);
    while (count > 0)
        mpf_block_unref(&refs[--count]);
    mpf_block_check(arena);
    CHECK_EQUAL(mpf_block_alloc(arena, 3 * MIB, MPF_BLOCK_RAW, &refs[0]), 0);
}

static void test_pages_come_and_go(void)
{
    struct stat before, after;
    start();
    int fd = mpf_arena_descriptor(arena);
    mpf_off off = arena->size - 8 * MIB;
    CHECK_EQUAL(fstat(fd, &before), 0);
    CHECK_EQUAL(mpf_arena_commit(arena, off, MIB), 0);
    memset(mpf_at(arena, off), 1, MIB);
    CHECK_EQUAL(fstat(fd, &after), 0);
    CHECK_EQUAL((after.st_blocks - before.st_blocks) * 512, MIB);
    mpf_arena_release(arena, off, MIB);
    CHECK_EQUAL(fstat(fd, &after), 0);
    CHECK_EQUAL(after.st_blocks, before.st_blocks);
    CHECK_EQUAL(*(char *)mpf_at(arena, off), 0);
    CHECK_EQUAL(mpf_arena_commit(arena, arena->size, 1), -ENOMEM);
    CHECK_EQUAL(mpf_arena_commit(arena, 4096, UINT64_MAX), -ENOMEM);
}

struct address {
    unsigned char id[16];
    pid_t pid;
    int fd;
    mpf_off off;
    uint32_t generation;
    uint64_t ticket;
    _Atomic int written, done;
};

static void publish(struct address *address)
{
    struct mpf_ref ref;
    CHECK_EQUAL(mpf_block_alloc(arena, 100, MPF_BLOCK_RAW, &ref), 0);
    strcpy(mpf_at(arena, ref.off), "hello");
    memcpy(address->id, arena->id, 16);
    address->pid = getpid();
    address->fd = arena->fd;
    address->off = ref.off;
    address->generation = ref.generation;
    CHECK_EQUAL(mpf_block_lend(&ref, &address->ticket), 0);
    atomic_store(&address->written, 1);
}

static void read_there(struct mpf_arena *there, const struct address *address)
{
    struct mpf_ref ref;
    CHECK_EQUAL(mpf_block_attach(there, address->off, address->generation, MPF_BLOCK_RAW, address->ticket, &ref), 0);
    CHECK(strcmp(mpf_at(there, ref.off), "hello") == 0);
    mpf_block_unref(&ref);
}

/* A process that was there before the arena was made. */
static void find_by(struct address *address, bool with_hint)
{
    struct mpf_arena *there;
    while (!atomic_load(&address->written))
        sched_yield();
    int pid = with_hint ? address->pid : 0, fd = with_hint ? address->fd : -1;
    CHECK_EQUAL(mpf_arena_find(address->id, -1, pid, fd, &there), 0);
    CHECK(mpf_arena_home_if_any() == there);
    read_there(there, address);
}

static void find_by_hint(void *address) { find_by(address, true); }
static void find_by_search(void *address) { find_by(address, false); }

static void has_its_own_already(void *argument)
{
    struct address *address = argument;
    struct mpf_arena *own, *there;
    CHECK_EQUAL(mpf_arena_home(&own), 0);
    while (!atomic_load(&address->written))
        sched_yield();
    CHECK_EQUAL(mpf_arena_find(address->id, -1, address->pid, address->fd, &there), 0);
    CHECK(there != own && mpf_arena_home_if_any() == own);
    read_there(there, address);
}

static void wait_done(void *argument)
{
    struct address *address = argument;
    while (!atomic_load(&address->done))
        sched_yield();
}

static void test_found_by_others(void)
{
    struct address *address = check_shared(sizeof *address);
    pid_t hint = check_fork(find_by_hint, address), search = check_fork(find_by_search, address);
    pid_t other = check_fork(has_its_own_already, address);
    start();
    publish(address);
    CHECK_EQUAL(check_wait(hint), 0);
    CHECK_EQUAL(check_wait(search), 0);
    CHECK_EQUAL(check_wait(other), 0);
}

static void test_found_by_descriptor(void)
{
    unsigned char id[16];
    struct mpf_arena *there;
    int ends[2];
    CHECK_EQUAL(pipe(ends), 0);
    start();
    int fd = dup(mpf_arena_descriptor(arena));
    memcpy(id, arena->id, 16);
    CHECK_EQUAL(mpf_arena_find(id, fd, 0, -1, &there), 0);
    CHECK(there == arena);
    id[3] ^= 1;
    CHECK_EQUAL(mpf_arena_find(id, fd, 0, -1, &there), -ENOENT);
    CHECK_EQUAL(mpf_arena_find(id, ends[0], 0, -1, &there), -ENOENT);
    CHECK_EQUAL(mpf_arena_find(id, -1, getpid(), arena->fd, &there), -ENOENT);
}

static void use_much(void)
{
    struct mpf_ref ref;
    CHECK_EQUAL(mpf_block_alloc(arena, 10 * MIB, MPF_BLOCK_RAW, &ref), 0);
    memset(mpf_at(arena, ref.off), 1, 10 * MIB);
    mpf_block_unref(&ref);
    mpf_block_check(arena);
}

static void test_descriptor_closed(void)
{
    struct address *address = check_shared(sizeof *address);
    start();
    pid_t pid = check_fork(wait_done, address);
    int number = arena->fd;
    int other = open("/dev/null", O_RDWR);
    dup2(other, number); /* closed, and the number given to something else */
    use_much();
    CHECK(mpf_arena_descriptor(arena) >= 0 && mpf_arena_descriptor(arena) != number);
    struct stat st;
    CHECK(fstat(number, &st) == 0 && S_ISCHR(st.st_mode)); /* which is left alone */
    atomic_store(&address->done, 1);
    CHECK_EQUAL(check_wait(pid), 0);
}

static void test_descriptor_closed_everywhere(void)
{
    start();
    close(arena->fd);
    CHECK(mpf_arena_descriptor(arena) < 0);
    use_much(); /* through the mapping */
    CHECK(mpf_arena_descriptor(arena) < 0);
}

static void test_descriptors_run_out(void)
{
    struct rlimit limit = {.rlim_cur = 3, .rlim_max = 100};
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQUAL(mpf_arena_home(&arena), -EMFILE);
    limit.rlim_cur = 100;
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    start();
}

#ifdef MPF_DEBUG
static void test_no_memory(void)
{
    char rule[64];
    int rc = -ENOMEM, nth;
    for (nth = 1; rc == -ENOMEM; nth++) {
        snprintf(rule, sizeof rule, "memfd.commit:%d:ENOSPC", nth);
        mpf_fault_set(rule);
        rc = mpf_arena_home(&arena);
        CHECK(rc == 0 || mpf_arena_home_if_any() == NULL);
    }
    CHECK_EQUAL(rc, 0);
    CHECK(nth > 4);
    mpf_fault_set("memfd.create:1:ENOSYS");
}
#endif

CHECK_MAIN({"home", test_home}, {"one_home_for_all_threads", test_one_home_for_all_threads},
           {"size_from_environment", test_size_from_environment}, {"odd_sizes", test_odd_sizes}, {"full", test_full},
           {"pages_come_and_go", test_pages_come_and_go}, {"found_by_others", test_found_by_others},
           {"found_by_descriptor", test_found_by_descriptor}, {"descriptor_closed", test_descriptor_closed},
           {"descriptor_closed_everywhere", test_descriptor_closed_everywhere},
           {"descriptors_run_out", test_descriptors_run_out},
#ifdef MPF_DEBUG
           {"no_memory", test_no_memory},
#endif
)
