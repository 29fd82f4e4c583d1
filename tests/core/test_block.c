/* Blocks: allocating, sharing, sending, freeing; and everything coming back after kills. */
#include "check.h"

#include "memory/block.h"
#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/fault.h"

static struct mpf_arena *arena;

static void start(void) { CHECK_EQUAL(mpf_arena_home(&arena), 0); }

static uint64_t live_blocks(void)
{
    struct mpf_block_stats stats;
    uint64_t total = 0;
    mpf_block_stats(arena, &stats);
    for (int type = 0; type < MPF_BLOCK_TYPES; type++)
        total += stats.blocks[type];
    return total;
}

static uint64_t references(void)
{
    struct mpf_block_stats stats;
    mpf_block_stats(arena, &stats);
    return stats.references;
}

/* Waits until nobody but this process is left, and checks that nothing is. */
static void check_all_back(void)
{
    while (mpf_participant_reap(arena) > 0)
        ;
    mpf_block_check(arena);
    CHECK_EQUAL(live_blocks(), 0);
    CHECK_EQUAL(references(), 0);
}

static void test_sizes(void)
{
    start();
    for (uint64_t bytes = 0; bytes < 300000; bytes = bytes * 5 / 4 + 1) {
        struct mpf_ref ref;
        CHECK_EQUAL(mpf_block_alloc(arena, bytes, MPF_BLOCK_RAW, &ref), 0);
        CHECK_EQUAL(mpf_block_bytes(&ref), bytes);
        CHECK_EQUAL(mpf_block_references(&ref), 1);
        CHECK_EQUAL(ref.off % (bytes >= 4096 ? 64 : 32), 0);
        unsigned char *payload = mpf_at(arena, ref.off);
        for (uint64_t i = 0; i < bytes; i++)
            CHECK(payload[i] == 0);
        memset(payload, 0xee, bytes);
        mpf_block_check(arena);
        mpf_block_unref(&ref);
        CHECK(ref.arena == NULL);
        mpf_block_unref(&ref);
    }
    check_all_back();
}

static void test_zeroed_again(void)
{
    start();
    for (int round = 0; round < 3; round++)
        for (uint64_t bytes = 32; bytes < 3000000; bytes *= 3) {
            struct mpf_ref ref;
            CHECK_EQUAL(mpf_block_alloc(arena, bytes, MPF_BLOCK_RAW, &ref), 0);
            unsigned char *payload = mpf_at(arena, ref.off);
            for (uint64_t i = 0; i < bytes; i++)
                CHECK(payload[i] == 0);
            memset(payload, 0xee, bytes);
            mpf_block_unref(&ref);
        }
    check_all_back();
}

static void test_errors(void)
{
    struct mpf_ref ref, other;
    start();
    CHECK_EQUAL(mpf_block_alloc(arena, 8, (enum mpf_block_type)0, &ref), -EINVAL);
    CHECK_EQUAL(mpf_block_alloc(arena, 8, MPF_BLOCK_TYPES, &ref), -EINVAL);
    CHECK_EQUAL(mpf_block_alloc(arena, UINT64_MAX, MPF_BLOCK_RAW, &ref), -ENOMEM);
    CHECK_EQUAL(mpf_block_alloc(arena, arena->size, MPF_BLOCK_RAW, &ref), -ENOMEM);
    CHECK_EQUAL(mpf_block_alloc(arena, arena->size / 2, MPF_BLOCK_RAW, &ref), -ENOMEM);
    mpf_block_check(arena);
    CHECK_EQUAL(mpf_block_alloc(arena, 8, MPF_BLOCK_RAW, &ref), 0);
    CHECK_EQUAL(mpf_block_attach(arena, ref.off, ref.generation, MPF_BLOCK_MUTEX, 0, &other), -EINVAL);
    CHECK_EQUAL(mpf_block_attach(arena, ref.off + 32, ref.generation, MPF_BLOCK_RAW, 0, &other), -ESTALE);
    CHECK_EQUAL(mpf_block_attach(arena, ref.off + 1, ref.generation, MPF_BLOCK_RAW, 0, &other), -ESTALE);
    CHECK_EQUAL(mpf_block_attach(arena, ref.off, ref.generation + 1, MPF_BLOCK_RAW, 0, &other), -ESTALE);
    CHECK_EQUAL(mpf_block_attach(arena, 0, ref.generation, MPF_BLOCK_RAW, 0, &other), -ESTALE);
    CHECK_EQUAL(mpf_block_attach(arena, arena->size + 4096, 1, MPF_BLOCK_RAW, 0, &other), -ESTALE);
    CHECK_EQUAL(mpf_block_attach(arena, arena->size / 2 + 64, 1, MPF_BLOCK_RAW, 0, &other), -ESTALE);
    CHECK_EQUAL(mpf_block_attach(arena, UINT64_MAX - 31, 1, MPF_BLOCK_RAW, 0, &other), -ESTALE);
    struct mpf_ref stale = ref;
    mpf_block_unref(&ref);
    CHECK_EQUAL(mpf_block_ref(&stale, &other), -ESTALE);
    uint64_t ticket;
    CHECK_EQUAL(mpf_block_lend(&stale, &ticket), -ESTALE);
    mpf_block_unref(&stale);
    check_all_back();
}

static void test_shared_by_count(void)
{
    struct mpf_ref first, second;
    start();
    CHECK_EQUAL(mpf_block_alloc(arena, 100, MPF_BLOCK_RAW, &first), 0);
    CHECK_EQUAL(mpf_block_ref(&first, &second), 0);
    CHECK_EQUAL(second.off, first.off);
    mpf_block_unref(&first);
    CHECK_EQUAL(live_blocks(), 1);
    mpf_block_unref(&second);
    check_all_back();
}

static void test_many_references(void)
{
    enum { MANY = 40000 };
    start();
    struct mpf_ref *refs = malloc(MANY * sizeof *refs);
    for (int i = 0; i < MANY; i++)
        CHECK_EQUAL(mpf_block_alloc(arena, 16, MPF_BLOCK_MUTEX, &refs[i]), 0);
    CHECK_EQUAL(references(), MANY);
    mpf_block_check(arena);
    for (int i = 0; i < MANY; i += 2)
        mpf_block_unref(&refs[i]);
    mpf_block_check(arena);
    for (int i = 0; i < MANY; i += 2)
        CHECK_EQUAL(mpf_block_alloc(arena, 16, MPF_BLOCK_MUTEX, &refs[i]), 0);
    CHECK_EQUAL(references(), MANY);
    for (int i = 0; i < MANY; i++)
        mpf_block_unref(&refs[i]);
    free(refs);
    check_all_back();
}

static void test_large_blocks_come_back(void)
{
    struct mpf_block_stats before, after;
    struct mpf_ref ref;
    start();
    mpf_block_stats(arena, &before);
    CHECK_EQUAL(mpf_block_alloc(arena, UINT64_C(300) << 20, MPF_BLOCK_RAW, &ref), 0);
    ((char *)mpf_at(arena, ref.off))[(300 << 20) - 1] = 1;
    mpf_block_unref(&ref);
    mpf_block_stats(arena, &after);
    CHECK(after.committed < before.committed + (1 << 20)); /* more than is kept hot */
    CHECK_EQUAL(mpf_block_alloc(arena, UINT64_C(10) << 20, MPF_BLOCK_RAW, &ref), 0);
    mpf_off off = ref.off;
    mpf_block_unref(&ref);
    mpf_block_stats(arena, &after);
    CHECK(after.committed >= before.committed + (10 << 20)); /* less: kept */
    CHECK_EQUAL(mpf_block_alloc(arena, UINT64_C(10) << 20, MPF_BLOCK_RAW, &ref), 0);
    CHECK_EQUAL(ref.off, off);
    mpf_block_unref(&ref);
    check_all_back();
}

static void fork_child_lets_go(void *argument)
{
    struct mpf_ref *ref = argument;
    CHECK(!arena->lost);
    CHECK(strcmp(mpf_at(arena, ref->off), "from the parent") == 0);
    mpf_block_unref(ref);
    mpf_participant_leave_all();
}

static void test_fork_shares_references(void)
{
    struct mpf_ref ref;
    start();
    CHECK_EQUAL(mpf_block_alloc(arena, 100, MPF_BLOCK_RAW, &ref), 0);
    strcpy(mpf_at(arena, ref.off), "from the parent");
    pid_t pid = check_fork(fork_child_lets_go, &ref);
    mpf_block_unref(&ref); /* at once: the child has its own from the first instant */
    CHECK_EQUAL(check_wait(pid), 0);
    check_all_back();
}

struct letter {
    mpf_off off;
    uint32_t generation;
    uint64_t ticket;
    _Atomic int written;
};

static void read_letter(void *argument)
{
    struct letter *letter = argument;
    struct mpf_ref ref, again;
    while (!atomic_load(&letter->written))
        sched_yield();
    CHECK_EQUAL(mpf_block_attach(arena, letter->off, letter->generation, MPF_BLOCK_RAW, letter->ticket, &ref), 0);
    CHECK_EQUAL(mpf_block_attach(arena, letter->off, letter->generation, MPF_BLOCK_RAW, letter->ticket, &again), 0);
    CHECK(strcmp(mpf_at(arena, ref.off), "a letter") == 0);
    mpf_block_unref(&ref);
    CHECK_EQUAL(live_blocks(), 1);
    mpf_block_unref(&again);
    CHECK_EQUAL(live_blocks(), 0);
    CHECK_EQUAL(mpf_block_attach(arena, letter->off, letter->generation, MPF_BLOCK_RAW, letter->ticket, &ref), -ESTALE);
}

static void test_ticket_keeps_alive(void)
{
    struct letter *letter = check_shared(sizeof *letter);
    struct mpf_ref ref;
    start();
    pid_t pid = check_fork(read_letter, letter);
    CHECK_EQUAL(mpf_block_alloc(arena, 100, MPF_BLOCK_RAW, &ref), 0);
    strcpy(mpf_at(arena, ref.off), "a letter");
    letter->off = ref.off;
    letter->generation = ref.generation;
    CHECK_EQUAL(mpf_block_lend(&ref, &letter->ticket), 0);
    CHECK_EQUAL(mpf_block_references(&ref), 2);
    mpf_block_unref(&ref);
    CHECK_EQUAL(live_blocks(), 1);
    atomic_store(&letter->written, 1);
    CHECK_EQUAL(check_wait(pid), 0);
    check_all_back();
}

static void lend_and_die(void *argument)
{
    struct letter *letter = argument;
    struct mpf_ref ref;
    CHECK_EQUAL(mpf_block_alloc(arena, 100, MPF_BLOCK_RAW, &ref), 0);
    letter->off = ref.off;
    letter->generation = ref.generation;
    CHECK_EQUAL(mpf_block_lend(&ref, &letter->ticket), 0);
    kill(getpid(), SIGKILL);
}

static void test_ticket_ends_with_lender(void)
{
    struct letter *letter = check_shared(sizeof *letter);
    struct mpf_ref ref;
    start();
    CHECK_EQUAL(check_wait(check_fork(lend_and_die, letter)), -SIGKILL);
    while (mpf_participant_reap(arena) > 0)
        ;
    CHECK_EQUAL(mpf_block_attach(arena, letter->off, letter->generation, MPF_BLOCK_RAW, letter->ticket, &ref), -ESTALE);
    check_all_back();
}

static void test_put_and_take(void)
{
    struct mpf_ref owner, part, back;
    start();
    CHECK_EQUAL(mpf_block_alloc(arena, 64, MPF_BLOCK_DICT, &owner), 0);
    mpf_off *word = mpf_at(arena, owner.off);
    CHECK_EQUAL(mpf_block_alloc(arena, 5000, MPF_BLOCK_TABLE, &part), 0);
    mpf_off off = part.off;
    mpf_block_put(&part, word);
    CHECK_EQUAL(*word, off);
    CHECK(part.arena == NULL);
    mpf_block_check(arena);
    CHECK_EQUAL(live_blocks(), 2);
    CHECK_EQUAL(references(), 1);
    CHECK_EQUAL(mpf_block_take(arena, word, &back), 0);
    CHECK_EQUAL(*word, 0);
    CHECK_EQUAL(back.off, off);
    CHECK_EQUAL(mpf_block_take(arena, word, &part), -ESTALE);
    mpf_block_put(&back, word);
    CHECK_EQUAL(mpf_block_alloc(arena, 5000, MPF_BLOCK_TABLE, &back), 0);
    mpf_block_put(&back, word + 1);
    mpf_block_replace(arena, word, word[1]); /* drops the first, owns the second */
    word[1] = 0;
    mpf_block_check(arena);
    CHECK_EQUAL(live_blocks(), 2);
    mpf_block_replace(arena, word, 0);
    mpf_block_replace(arena, word, 0);
    CHECK_EQUAL(*word, 0);
    CHECK_EQUAL(live_blocks(), 1);
    mpf_block_unref(&owner);
    check_all_back();
}

/* Hooks. */

static struct {
    _Atomic int recovered, destroyed;
} *seen;

static void count_recover(struct mpf_arena *a, mpf_off off, uint32_t dead)
{
    CHECK(a == arena && off != 0 && dead != 0 && dead != arena->self);
    CHECK_EQUAL(mpf_participant_state(arena, dead), MPF_PARTICIPANT_KILLED);
    atomic_fetch_add(&seen->recovered, 1);
}

static void drop_part(struct mpf_arena *a, mpf_off off)
{
    struct mpf_ref part;
    if (mpf_block_take(a, mpf_at(a, off), &part) == 0)
        mpf_block_unref(&part);
    atomic_fetch_add(&seen->destroyed, 1);
}

static const struct mpf_block_hooks counting_hooks = {.recover = count_recover, .destroy = drop_part};

static void make_dict(struct mpf_ref *owner)
{
    struct mpf_ref part;
    CHECK_EQUAL(mpf_block_alloc(arena, 64, MPF_BLOCK_DICT, owner), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 100000, MPF_BLOCK_TABLE, &part), 0);
    mpf_block_put(&part, mpf_at(arena, owner->off));
}

static void die_with_dict(void *argument)
{
    struct mpf_ref owner;
    (void)argument;
    make_dict(&owner);
    kill(getpid(), SIGKILL);
}

static void leave_with_dict(void *argument)
{
    struct mpf_ref owner;
    (void)argument;
    make_dict(&owner);
    mpf_participant_leave_all();
}

static void test_hooks(void)
{
    struct mpf_ref owner;
    seen = check_shared(sizeof *seen);
    mpf_block_set_hooks(MPF_BLOCK_DICT, &counting_hooks);
    start();
    make_dict(&owner);
    mpf_block_unref(&owner);
    CHECK_EQUAL(seen->destroyed, 1);
    CHECK_EQUAL(seen->recovered, 0);
    check_all_back();
    CHECK_EQUAL(check_wait(check_fork(leave_with_dict, NULL)), 0);
    check_all_back();
    CHECK_EQUAL(seen->destroyed, 2);
    CHECK_EQUAL(seen->recovered, 0);
    CHECK_EQUAL(check_wait(check_fork(die_with_dict, NULL)), -SIGKILL);
    check_all_back();
    CHECK_EQUAL(seen->destroyed, 3);
    CHECK_EQUAL(seen->recovered, 1);
}

/* Random use by several processes and threads. */

struct user {
    uint64_t seed;
    int rounds;
};

static uint64_t random_size(uint64_t *seed)
{
    switch (check_random(seed) % 8) {
    case 0: return check_random(seed) % 100000;
    case 1: return check_random(seed) % 20000;
    case 2: return check_random(seed) % 1500;
    default: return check_random(seed) % 100;
    }
}

static void use_at_random(struct user *user)
{
    enum { HELD = 64 };
    struct mpf_ref held[HELD] = {{0}};
    uint64_t ticket;
    for (int round = 0; user->rounds < 0 || round < user->rounds; round++) {
        struct mpf_ref *ref = &held[check_random(&user->seed) % HELD];
        struct mpf_ref *other = &held[check_random(&user->seed) % HELD];
        if (!ref->arena) {
            uint64_t bytes = random_size(&user->seed);
            CHECK_EQUAL(mpf_block_alloc_dirty(arena, bytes, MPF_BLOCK_RAW, ref), 0);
            memset(mpf_at(arena, ref->off), 0x55, bytes < 200 ? bytes : 200);
            continue;
        }
        if (!other->arena && check_random(&user->seed) % 2) {
            CHECK_EQUAL(mpf_block_lend(ref, &ticket), 0);
            CHECK_EQUAL(mpf_block_attach(arena, ref->off, ref->generation, MPF_BLOCK_RAW, ticket, other), 0);
        } else if (!other->arena) {
            CHECK_EQUAL(mpf_block_ref(ref, other), 0);
        }
        mpf_block_unref(ref);
    }
    for (int i = 0; i < HELD; i++)
        mpf_block_unref(&held[i]);
}

static void *user_thread(void *argument)
{
    use_at_random(argument);
    return NULL;
}

static void test_threads(void)
{
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    struct user users[THREADS];
    start();
    for (int i = 0; i < THREADS; i++) {
        users[i] = (struct user){.seed = 77 + (uint64_t)i, .rounds = UNDER_TSAN ? 3000 : 20000};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, user_thread, &users[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check_all_back();
}

static void user_process(void *argument)
{
    struct user *user = argument;
    use_at_random(user);
}

static void test_processes(void)
{
    start();
    pid_t pids[3];
    for (int i = 0; i < 3; i++) {
        struct user user = {.seed = 5 + (uint64_t)i, .rounds = 20000};
        pids[i] = check_fork(user_process, &user);
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    check_all_back();
}

static void test_random_kills(void)
{
    enum { PROCESSES = 3, KILLS = 150 };
    uint64_t seed = 4711;
    pid_t pids[PROCESSES];
    start();
    for (int i = 0; i < KILLS; i++) {
        int which = i % PROCESSES;
        if (i >= PROCESSES) {
            int64_t until = mpf_clock_now() + check_random(&seed) % 5000000;
            while (mpf_clock_now() < until)
                ;
            kill(pids[which], SIGKILL);
            CHECK_EQUAL(check_wait(pids[which]), -SIGKILL);
            if (i % 10 == 0)
                mpf_block_check(arena);
        }
        struct user user = {.seed = seed + (uint64_t)i, .rounds = -1};
        pids[which] = check_fork(user_process, &user);
    }
    for (int i = 0; i < PROCESSES; i++) {
        kill(pids[i], SIGKILL);
        CHECK_EQUAL(check_wait(pids[i]), -SIGKILL);
    }
    check_all_back();
}

#ifdef MPF_DEBUG
/* A scenario that passes every fault point of blocks, killed at its nth. */
static void pass_all_points(void *argument)
{
    char rule[64];
    struct mpf_ref small, copy, large, again;
    uint64_t ticket;
    snprintf(rule, sizeof rule, "*:%d:kill", *(int *)argument);
    CHECK_EQUAL(mpf_fault_set(rule), 0);
    make_dict(&small);
    CHECK_EQUAL(mpf_block_ref(&small, &copy), 0);
    mpf_block_unref(&small);
    CHECK_EQUAL(mpf_block_alloc(arena, 3000000, MPF_BLOCK_RAW, &large), 0);
    CHECK_EQUAL(mpf_block_lend(&large, &ticket), 0);
    CHECK_EQUAL(mpf_block_attach(arena, large.off, large.generation, MPF_BLOCK_RAW, ticket, &again), 0);
    mpf_block_unref(&large);
    mpf_block_unref(&again);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(mpf_block_alloc(arena, 30000, MPF_BLOCK_RAW, &large), 0);
        CHECK_EQUAL(mpf_block_alloc(arena, 30000, MPF_BLOCK_RAW, &again), 0);
        CHECK_EQUAL(mpf_block_alloc(arena, 30000, MPF_BLOCK_RAW, &small), 0);
        mpf_block_unref(&large);
        mpf_block_unref(&again);
        mpf_block_unref(&small);
    }
    mpf_block_unref(&copy);
    mpf_fault_set(NULL);
}

static void test_killed_at_every_point(void)
{
    int status = -SIGKILL, nth;
    seen = check_shared(sizeof *seen);
    mpf_block_set_hooks(MPF_BLOCK_DICT, &counting_hooks);
    start();
    for (nth = 1; status == -SIGKILL; nth++) {
        status = check_wait(check_fork(pass_all_points, &nth));
        check_all_back();
    }
    CHECK_EQUAL(status, 0);
    CHECK(nth > 100);
}

static void die_with_everything(void *argument)
{
    struct mpf_ref ref, copy;
    (void)argument;
    make_dict(&ref);
    CHECK_EQUAL(mpf_block_ref(&ref, &copy), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 3000000, MPF_BLOCK_RAW, &ref), 0);
    mpf_fault_set("span.held:1:kill");
    (void)mpf_block_alloc(arena, 6000000, MPF_BLOCK_RAW, &ref);
}

static void reap_and_die(void *argument)
{
    char rule[64];
    snprintf(rule, sizeof rule, "*:%d:kill", *(int *)argument);
    CHECK_EQUAL(mpf_fault_set(rule), 0);
    while (mpf_participant_reap(arena) > 0)
        ;
    mpf_fault_set(NULL);
}

/* The reaper is killed at its nth point; the next reaper goes on. The corpse must be found by the child, so it is made
 * by a grandchild of the child that reaps. */
static void make_corpse_and_reap(void *argument)
{
    CHECK_EQUAL(check_wait(check_fork(die_with_everything, NULL)), -SIGKILL);
    reap_and_die(argument);
}

static void test_reaper_killed_at_every_point(void)
{
    int status = -SIGKILL, nth;
    seen = check_shared(sizeof *seen);
    mpf_block_set_hooks(MPF_BLOCK_DICT, &counting_hooks);
    start();
    for (nth = 1; status == -SIGKILL; nth++) {
        status = check_wait(check_fork(make_corpse_and_reap, &nth));
        check_all_back();
    }
    CHECK_EQUAL(status, 0);
    CHECK(nth > 50);
}

static void test_no_memory(void)
{
    struct mpf_ref ref;
    start();
    mpf_fault_set("memfd.commit:1:ENOSPC");
    CHECK_EQUAL(mpf_block_alloc(arena, 3000000, MPF_BLOCK_RAW, &ref), -ENOMEM);
    mpf_block_check(arena);
    mpf_fault_set("memfd.commit:1:ENOMEM");
    CHECK_EQUAL(mpf_block_alloc(arena, 10, MPF_BLOCK_RAW, &ref), -ENOMEM);
    mpf_fault_set("memfd.commit:2:ENOMEM");
    CHECK_EQUAL(mpf_block_alloc(arena, 10, MPF_BLOCK_RAW, &ref), -ENOMEM);
    mpf_fault_set(NULL);
    mpf_block_check(arena);
    CHECK_EQUAL(mpf_block_alloc(arena, 10, MPF_BLOCK_RAW, &ref), 0);
    mpf_block_unref(&ref);
    check_all_back();
}
#endif

CHECK_MAIN(
    {"sizes", test_sizes},
    {"zeroed_again", test_zeroed_again},
    {"errors", test_errors},
    {"shared_by_count", test_shared_by_count},
    {"many_references", test_many_references},
    {"large_blocks_come_back", test_large_blocks_come_back},
    {"fork_shares_references", test_fork_shares_references},
    {"ticket_keeps_alive", test_ticket_keeps_alive},
    {"ticket_ends_with_lender", test_ticket_ends_with_lender},
    {"put_and_take", test_put_and_take},
    {"hooks", test_hooks},
    {"threads", test_threads},
    {"processes", test_processes},
    {"random_kills", test_random_kills},
#ifdef MPF_DEBUG
    {"killed_at_every_point", test_killed_at_every_point},
    {"reaper_killed_at_every_point", test_reaper_killed_at_every_point},
    {"no_memory", test_no_memory},
#endif
)
