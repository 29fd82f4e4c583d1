/* Sections: mutual exclusion between threads and processes, and all or nothing after a kill at any point. */
#include "check.h"

#include "memory/block.h"
#include "memory/participant.h"
#include "memory/section.h"
#include "platform/fault.h"

enum { WORDS = 6, CAPACITY = 16 };

/* What a section guards here: words that are all equal whenever nobody is inside. */
struct guarded {
    uint64_t wide[WORDS];
    uint32_t narrow[WORDS];
    struct mpf_section_shm section;
    struct mpf_section_entry_shm log[CAPACITY];
};

static struct mpf_arena *arena;
static struct mpf_ref ref;
static struct guarded *guarded;

static void start(void)
{
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, sizeof *guarded, MPF_BLOCK_RAW, &ref), 0);
    guarded = mpf_at(arena, ref.off);
    mpf_section_init(&guarded->section, CAPACITY);
}

static void raise_all(void)
{
    for (int i = 0; i < WORDS; i++) {
        mpf_section_set64(arena, &guarded->section, &guarded->wide[i], guarded->wide[i] + 1);
        mpf_section_set32(arena, &guarded->section, &guarded->narrow[i], guarded->narrow[i] + 1);
    }
}

static void step(void)
{
    mpf_section_enter(arena, &guarded->section);
    raise_all();
    mpf_section_leave(arena, &guarded->section);
}

/* The common value of all words. */
static uint64_t agreed(void)
{
    mpf_section_enter(arena, &guarded->section);
    uint64_t value = guarded->wide[0];
    for (int i = 0; i < WORDS; i++) {
        CHECK_EQUAL(guarded->wide[i], value);
        CHECK_EQUAL(guarded->narrow[i], (uint32_t)value);
    }
    mpf_section_leave(arena, &guarded->section);
    return value;
}

static void test_rollback(void)
{
    start();
    step();
    mpf_section_enter(arena, &guarded->section);
    raise_all();
    mpf_section_rollback(arena, &guarded->section);
    CHECK_EQUAL(guarded->wide[0], 1);
    mpf_section_set64(arena, &guarded->section, &guarded->wide[0], 1);
    mpf_section_leave(arena, &guarded->section);
    CHECK_EQUAL(agreed(), 1);
}

static void test_same_word_twice(void)
{
    start();
    mpf_section_enter(arena, &guarded->section);
    for (uint64_t value = 5; value < 8; value++)
        mpf_section_set64(arena, &guarded->section, &guarded->wide[0], value);
    CHECK_EQUAL(guarded->wide[0], 7);
    mpf_section_rollback(arena, &guarded->section);
    mpf_section_leave(arena, &guarded->section);
    CHECK_EQUAL(agreed(), 0);
}

static void overflow(void *argument)
{
    (void)argument;
    dup2(1, 2);
    mpf_section_enter(arena, &guarded->section);
    for (int i = 0; i <= CAPACITY; i++)
        mpf_section_set64(arena, &guarded->section, &guarded->wide[0], 1);
}

static void test_overflow_aborts(void)
{
    start();
    CHECK_EQUAL(freopen("/dev/null", "w", stdout) != NULL, 1);
    CHECK_EQUAL(check_wait(check_fork(overflow, NULL)), -SIGABRT);
    CHECK_EQUAL(agreed(), 0); /* the dead one's change is undone */
}

static void many_steps(void *argument)
{
    for (int i = 0; i < *(int *)argument; i++)
        step();
}

static void *many_steps_in_thread(void *argument)
{
    many_steps(argument);
    return NULL;
}

static void test_threads(void)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    int steps = UNDER_TSAN ? 2000 : 20000;
    start();
    for (int i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, many_steps_in_thread, &steps), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(agreed(), (uint64_t)THREADS * (uint64_t)steps);
}

static void test_processes(void)
{
    enum { PROCESSES = 4 };
    pid_t pids[PROCESSES];
    int steps = 20000;
    start();
    for (int i = 0; i < PROCESSES; i++)
        pids[i] = check_fork(many_steps, &steps);
    for (int i = 0; i < PROCESSES; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    CHECK_EQUAL(agreed(), (uint64_t)PROCESSES * (uint64_t)steps);
}

static void steps_without_end(void *argument)
{
    (void)argument;
    for (;;)
        step();
}

static void test_random_kills(void)
{
    uint64_t seed = 99, last = 0;
    start();
    for (int i = 0; i < 150; i++) {
        pid_t first = check_fork(steps_without_end, NULL), second = check_fork(steps_without_end, NULL);
        for (uint32_t n = check_random(&seed) % 2000; n > 0; n--)
            step();
        kill(first, SIGKILL);
        CHECK(agreed() >= last); /* may find the corpse before it is waited for */
        kill(second, SIGKILL);
        CHECK_EQUAL(check_wait(first), -SIGKILL);
        CHECK_EQUAL(check_wait(second), -SIGKILL);
        last = agreed();
    }
}

static void stop_inside(void *argument)
{
    _Atomic int *inside = argument;
    mpf_section_enter(arena, &guarded->section);
    mpf_section_set64(arena, &guarded->section, &guarded->wide[0], 77);
    atomic_store(inside, 1);
    while (atomic_load(inside) == 1)
        sched_yield();
    mpf_section_set64(arena, &guarded->section, &guarded->wide[0], guarded->wide[0] - 77);
    mpf_section_leave(arena, &guarded->section);
}

static void *enter_for_a_look(void *argument)
{
    *(uint64_t *)argument = agreed();
    return NULL;
}

static void test_stopped_owner_is_waited_for(void)
{
    _Atomic int *inside = check_shared(sizeof *inside);
    pthread_t thread;
    uint64_t value = 1;
    int status;
    start();
    pid_t pid = check_fork(stop_inside, (void *)inside);
    while (!atomic_load(inside))
        sched_yield();
    kill(pid, SIGSTOP);
    CHECK_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    CHECK_EQUAL(pthread_create(&thread, NULL, enter_for_a_look, &value), 0);
    while (!(atomic_load(&guarded->section.word) & MPF_SECTION_WAITERS)) /* it has gone to sleep */
        sched_yield();
    CHECK_EQUAL(guarded->wide[0], 77);
    atomic_store(inside, 2);
    kill(pid, SIGCONT);
    pthread_join(thread, NULL);
    CHECK_EQUAL(value, 0);
    CHECK_EQUAL(check_wait(pid), 0);
}

static void die_inside(void *argument)
{
    (void)argument;
    mpf_section_enter(arena, &guarded->section);
    raise_all();
    kill(getpid(), SIGKILL);
}

static void test_owner_reaped_before_the_next_entry(void)
{
    start();
    CHECK_EQUAL(check_wait(check_fork(die_inside, NULL)), -SIGKILL);
    CHECK_EQUAL(mpf_participant_reap(arena), 1); /* its id is void now, and the word still names it */
    CHECK_EQUAL(agreed(), 0);
}

#ifdef MPF_DEBUG
static void step_killed(void *argument)
{
    char rule[64];
    snprintf(rule, sizeof rule, "*:%d:kill", *(int *)argument);
    CHECK_EQUAL(mpf_fault_set(rule), 0);
    step();
    mpf_fault_set(NULL);
}

static void test_killed_at_every_point(void)
{
    int status = -SIGKILL, nth;
    uint64_t value = 0;
    start();
    for (nth = 1; status == -SIGKILL; nth++) {
        status = check_wait(check_fork(step_killed, &nth));
        CHECK(agreed() == value || agreed() == value + 1);
        value = agreed();
    }
    CHECK_EQUAL(status, 0);
    CHECK(nth > 2 * 2 * WORDS);
    CHECK(value >= 2); /* killed after it counted, at least once, and not killed at all */
}

static void repair_killed(void *argument)
{
    CHECK_EQUAL(check_wait(check_fork(die_inside, NULL)), -SIGKILL);
    step_killed(argument);
}

static void test_repair_killed_at_every_point(void)
{
    int status = -SIGKILL, nth;
    start();
    for (nth = 1; status == -SIGKILL; nth++) {
        uint64_t before = agreed();
        status = check_wait(check_fork(repair_killed, &nth));
        uint64_t after = agreed();
        CHECK(after == before || after == before + 1);
    }
    CHECK_EQUAL(status, 0);
    CHECK(nth > 3 * 2 * WORDS);
}
#endif

CHECK_MAIN({"rollback", test_rollback}, {"same_word_twice", test_same_word_twice},
           {"overflow_aborts", test_overflow_aborts}, {"threads", test_threads}, {"processes", test_processes},
           {"random_kills", test_random_kills}, {"stopped_owner_is_waited_for", test_stopped_owner_is_waited_for},
           {"owner_reaped_before_the_next_entry", test_owner_reaped_before_the_next_entry},
#ifdef MPF_DEBUG
           {"killed_at_every_point", test_killed_at_every_point},
           {"repair_killed_at_every_point", test_repair_killed_at_every_point},
#endif
)
