/* Life words: a thread that registered and ended is not a process that died. */
#include "check.h"

#include "memory/layout.h"
#include "memory/participant.h"
#include "platform/clock.h"

static struct mpf_arena *arena;

struct report {
    _Atomic uint32_t id;
    _Atomic int go;
};
static struct report *report;

static void *open_and_join(void *argument)
{
    (void)argument;
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    return NULL;
}

static void home_made_by_thread_that_ends(void)
{
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, open_and_join, NULL), 0);
    pthread_join(thread, NULL);
}

static uint32_t word_of(uint32_t id) { return atomic_load(mpf_life_word(arena, mpf_slot_of(id))); }

static void look_at_parent(void *argument)
{
    struct mpf_futex_target targets[MPF_FUTEX_MANY_MAX];
    uint32_t parent = *(uint32_t *)argument;
    uint32_t epoch = atomic_load(mpf_participant_epoch(arena));
    CHECK(word_of(parent) & MPF_LIFE_DIED);
    CHECK_EQUAL(mpf_life_look(arena, mpf_slot_of(parent)), MPF_LIFE_POLLED);
    CHECK_EQUAL(mpf_participant_state(arena, parent), MPF_PARTICIPANT_LIVE);
    CHECK_EQUAL(mpf_participant_watch(arena, targets, MPF_FUTEX_MANY_MAX), -E2BIG);
    CHECK_EQUAL(mpf_participant_reap(arena), 0);
    CHECK_EQUAL(atomic_load(mpf_participant_epoch(arena)), epoch + 1); /* all sleepers learn that they have to poll */
    CHECK_EQUAL(mpf_participant_reap(arena), 0);
    CHECK_EQUAL(atomic_load(mpf_participant_epoch(arena)), epoch + 1); /* once */
    atomic_store(&report->id, arena->self);
    while (!atomic_load(&report->go))
        sched_yield();
    CHECK_EQUAL(mpf_participant_watch(arena, targets, MPF_FUTEX_MANY_MAX), 2);
}

static void test_thread_ended(void)
{
    report = check_shared(sizeof *report);
    home_made_by_thread_that_ends();
    uint32_t self = arena->self;
    while (!(word_of(self) & MPF_LIFE_DIED)) /* pthread_join may return before the kernel has marked the word */
        sched_yield();
    CHECK(!mpf_participant_gone(arena, self));
    CHECK_EQUAL(mpf_participant_join(arena), 0); /* any thread that comes along takes the word over */
    CHECK(!(word_of(self) & MPF_LIFE_DIED));
    CHECK_EQUAL(arena->self, self);
}

static void wait_then_look(void *argument)
{
    while (!atomic_load(&report->go))
        sched_yield();
    atomic_store(&report->go, 0);
    look_at_parent(argument);
}

static void *fork_waiting_child(void *argument)
{
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    uint32_t self = arena->self; /* which is another in the child */
    *(pid_t *)argument = check_fork(wait_then_look, &self);
    return NULL;
}

static void test_others_poll_until_it_is_taken_over(void)
{
    pthread_t thread;
    pid_t pid;
    report = check_shared(sizeof *report);
    CHECK_EQUAL(pthread_create(&thread, NULL, fork_waiting_child, &pid), 0);
    pthread_join(thread, NULL);
    while (!(word_of(arena->self) & MPF_LIFE_DIED))
        sched_yield();
    atomic_store(&report->go, 1);
    while (!atomic_load(&report->id))
        sched_yield();
    CHECK_EQUAL(mpf_participant_join(arena), 0);
    atomic_store(&report->go, 1);
    CHECK_EQUAL(check_wait(pid), 0);
}

static void *kill_later(void *argument)
{
    (void)argument;
    for (;;)
        pause();
    return NULL;
}

static void many_threads(void *argument)
{
    pthread_t threads[8];
    (void)argument;
    for (int i = 0; i < 8; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, kill_later, NULL), 0);
    atomic_store(&report->id, arena->self);
    for (;;)
        pause();
}

static void test_kill_of_many_threads(void)
{
    report = check_shared(sizeof *report);
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    for (int round = 0; round < 50; round++) {
        atomic_store(&report->id, 0);
        pid_t pid = check_fork(many_threads, NULL);
        while (!atomic_load(&report->id))
            sched_yield();
        kill(pid, SIGKILL);
        /* Seen dead without being waited for, while it is on its way out or a zombie. */
        while (!mpf_participant_gone(arena, atomic_load(&report->id)))
            sched_yield();
        CHECK_EQUAL(check_wait(pid), -SIGKILL);
    }
}

static void test_watchable(void)
{
    struct mpf_futex_target target = {.word = check_shared(4096), .expected = 1};
    CHECK_EQUAL(mpf_life_watchable(), mpf_futex_wait_many(&target, 1, 0) != -ENOSYS);
}

CHECK_MAIN({"thread_ended", test_thread_ended},
           {"others_poll_until_it_is_taken_over", test_others_poll_until_it_is_taken_over},
           {"kill_of_many_threads", test_kill_of_many_threads}, {"watchable", test_watchable})
