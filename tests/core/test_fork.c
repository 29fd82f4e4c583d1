/* fork(): the child has its place and its references when fork() returns, whatever other threads do, whoever is killed. */
#include "check.h"

#include "memory/layout.h"
#include "memory/participant.h"
#include "platform/fault.h"

static struct mpf_arena *arena;

static uint64_t count(bool blocks)
{
    struct mpf_block_stats stats;
    uint64_t total = 0;
    mpf_block_stats(arena, &stats);
    for (int type = 0; type < MPF_BLOCK_TYPES; type++)
        total += stats.blocks[type];
    return blocks ? total : stats.references;
}

static void reap_all(void)
{
    while (mpf_participant_reap(arena) > 0)
        ;
    mpf_block_check(arena);
}

static void no_arena(void *argument)
{
    (void)argument;
    CHECK(mpf_arena_home_if_any() == NULL);
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
}

static void test_before_any_arena(void) { CHECK_EQUAL(check_wait(check_fork(no_arena, NULL)), 0); }

struct family {
    struct mpf_ref refs[1000];
    uint32_t parent;
};

static void check_inheritance(void *argument)
{
    struct family *family = argument;
    CHECK(arena->self != family->parent && !arena->lost);
    CHECK_EQUAL(mpf_participant_state(arena, arena->self), MPF_PARTICIPANT_LIVE);
    CHECK_EQUAL(mpf_participant_pid(arena, arena->self), getpid());
    CHECK_EQUAL(mpf_participant_pid(arena, family->parent), getppid());
    for (int i = 0; i < 1000; i++) {
        struct mpf_ref copy;
        if (!family->refs[i].arena)
            continue;
        CHECK_EQUAL(mpf_block_ref(&family->refs[i], &copy), 0);
        CHECK_EQUAL(*(int *)mpf_at(arena, copy.off), i);
        mpf_block_unref(&family->refs[i]);
        mpf_block_unref(&copy);
    }
    mpf_block_check(arena);
}

static void child_and_grandchild(void *argument)
{
    CHECK_EQUAL(check_wait(check_fork(check_inheritance, argument)), 0);
    ((struct family *)argument)->parent = 0;
    struct family *family = argument;
    for (int i = 0; i < 1000; i++)
        mpf_block_unref(&family->refs[i]);
}

static void make_family(struct family *family)
{
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    family->parent = arena->self;
    for (int i = 0; i < 1000; i++) {
        CHECK_EQUAL(mpf_block_alloc(arena, 40, MPF_BLOCK_RAW, &family->refs[i]), 0);
        *(int *)mpf_at(arena, family->refs[i].off) = i;
    }
    for (int i = 0; i < 1000; i += 3)
        mpf_block_unref(&family->refs[i]);
}

static void test_inherits(void)
{
    struct family family;
    make_family(&family);
    pid_t pid = check_fork(check_inheritance, &family);
    for (int i = 0; i < 1000; i++)
        mpf_block_unref(&family.refs[i]); /* at once */
    CHECK_EQUAL(check_wait(pid), 0);
    reap_all();
    CHECK_EQUAL(count(true), 0);
    CHECK_EQUAL(count(false), 0);
}

static void grandchild_only(void *argument)
{
    ((struct family *)argument)->parent = arena->self;
    child_and_grandchild(argument);
}

static void test_grandchild_inherits(void)
{
    struct family family;
    make_family(&family);
    CHECK_EQUAL(check_wait(check_fork(grandchild_only, &family)), 0);
    reap_all();
    CHECK_EQUAL(count(false), 666);
}

/* Threads that allocate and free all the time, and publish what they hold in memory that the child sees a copy of. */
struct busy {
    struct mpf_ref ref;
    _Atomic int stop;
};

static void *allocate_all_the_time(void *argument)
{
    struct busy *busy = argument;
    while (!atomic_load(&busy->stop)) {
        struct mpf_ref ref;
        CHECK_EQUAL(mpf_block_alloc(arena, 64, MPF_BLOCK_RAW, &ref), 0);
        mpf_block_unref(&ref);
    }
    return NULL;
}

static void use_in_child(void *argument)
{
    struct busy *busy = argument;
    struct mpf_ref ref;
    for (int i = 0; i < 50; i++) {
        CHECK_EQUAL(mpf_block_alloc(arena, 64, MPF_BLOCK_RAW, &ref), 0);
        mpf_block_unref(&ref);
    }
    CHECK(strcmp(mpf_at(arena, busy->ref.off), "held") == 0);
    mpf_block_unref(&busy->ref);
    mpf_participant_leave_all();
}

static void test_while_threads_allocate(void)
{
    enum { THREADS = 3, FORKS = UNDER_TSAN ? 20 : 150 };
    pthread_t threads[THREADS];
    struct busy busy = {.stop = 0};
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 64, MPF_BLOCK_RAW, &busy.ref), 0);
    strcpy(mpf_at(arena, busy.ref.off), "held");
    for (int i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, allocate_all_the_time, &busy), 0);
    for (int i = 0; i < FORKS; i++)
        CHECK_EQUAL(check_wait(check_fork_among_threads(use_in_child, &busy)), 0);
    atomic_store(&busy.stop, 1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    mpf_block_unref(&busy.ref);
    reap_all();
    CHECK_EQUAL(count(false), 0);
    CHECK_EQUAL(count(true), 0);
}

static void *fork_all_the_time(void *argument)
{
    for (int i = 0; i < 30; i++)
        CHECK_EQUAL(check_wait(check_fork_among_threads(use_in_child, argument)), 0);
    return NULL;
}

static void test_threads_that_fork(void)
{
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    struct busy busy = {.stop = 0};
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 64, MPF_BLOCK_RAW, &busy.ref), 0);
    strcpy(mpf_at(arena, busy.ref.off), "held");
    for (int i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, fork_all_the_time, &busy), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    mpf_block_unref(&busy.ref);
    reap_all();
    CHECK_EQUAL(count(true), 0);
}

static void test_tickets_stay_with_the_lender(void)
{
    struct mpf_ref ref;
    uint64_t ticket;
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 64, MPF_BLOCK_RAW, &ref), 0);
    CHECK_EQUAL(mpf_block_lend(&ref, &ticket), 0);
    struct busy busy = {.ref = ref};
    strcpy(mpf_at(arena, ref.off), "held");
    pid_t pid = check_fork(use_in_child, &busy);
    CHECK_EQUAL(check_wait(pid), 0);
    reap_all();
    CHECK_EQUAL(count(false), 2);
}

#ifdef MPF_DEBUG
static void fork_with_faults(void *argument)
{
    char rule[64];
    struct family family;
    make_family(&family);
    snprintf(rule, sizeof rule, "*:%d:kill", *(int *)argument);
    mpf_fault_set(rule);
    pid_t pid = fork();
    if (pid == 0) {
        mpf_fault_set(NULL);
        mpf_participant_leave_all();
        _exit(0);
    }
    CHECK(pid > 0);
    mpf_fault_set(NULL);
    int status = check_wait(pid); /* killed in fork() or not at all */
    CHECK(status == 0 || status == -SIGKILL);
    if (status)
        _exit(7);
}

/* Gives up what was set aside for children that never came, as if 30 s had passed. */
static void let_time_pass(void)
{
    for (uint32_t slot = 0; slot < MPF_SLOTS_FIRST; slot++)
        if (mpf_state_status(atomic_load(mpf_slot_state(arena, slot))) == MPF_SLOT_NASCENT)
            atomic_store(&mpf_slot(arena, slot)->born, 0);
}

#define FEW 37

static int fork_and_kill(int nth)
{
    int status = check_wait(check_fork(fork_with_faults, &nth));
    CHECK(status == 0 || status == 7 || status == -SIGKILL);
    reap_all();
    let_time_pass();
    reap_all();
    CHECK_EQUAL(count(true), 0);
    CHECK_EQUAL(count(false), 0);
    return status;
}

/* The first points and the last ones, each; of those between, at which one reference after the other is copied, one in FEW. */
static void test_killed_at_every_point(void)
{
    int status = 1, nth, parents = 0, children = 0;
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    for (nth = 1; status != 0; nth += nth < 20 ? 1 : FEW)
        status = fork_and_kill(nth);
    status = 1;
    for (nth = nth > 3 * FEW ? nth - 3 * FEW : 1; status != 0; nth++) {
        status = fork_and_kill(nth);
        parents += status == -SIGKILL;
        children += status == 7;
    }
    CHECK(parents > 10 && children > 2);
}

static void late_child(void *argument)
{
    struct mpf_ref *ref = argument, copy;
    uint64_t ticket;
    CHECK(arena->lost);
    CHECK(arena->self != 0);
    CHECK_EQUAL(mpf_block_ref(ref, &copy), -ESTALE);
    CHECK_EQUAL(mpf_block_lend(ref, &ticket), -ESTALE);
    mpf_block_unref(ref);
    CHECK_EQUAL(mpf_block_alloc(arena, 10, MPF_BLOCK_RAW, &copy), 0);
    mpf_block_unref(&copy);
}

static void test_child_that_comes_too_late(void)
{
    struct mpf_ref ref;
    int status;
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 64, MPF_BLOCK_RAW, &ref), 0);
    mpf_fault_set("fork.child:1:stop");
    pid_t pid = check_fork(late_child, &ref);
    mpf_fault_set(NULL);
    CHECK_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status));
    CHECK_EQUAL(count(false), 2);
    let_time_pass();
    reap_all();
    CHECK_EQUAL(count(false), 1);
    kill(pid, SIGCONT);
    CHECK_EQUAL(check_wait(pid), 0);
    reap_all();
    CHECK_EQUAL(count(false), 1);
    mpf_block_check(arena);
}

/* A child that is killed in its first instants leaves nothing that its parent would have to wait for. */
static void test_child_that_never_comes(void)
{
    struct mpf_ref ref;
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 64, MPF_BLOCK_RAW, &ref), 0);
    if (access("/proc/thread-self/children", R_OK) != 0)
        return;
    for (int i = 0; i < 5; i++) {
        mpf_fault_set("fork.child:1:kill");
        pid_t pid = check_fork(late_child, &ref);
        mpf_fault_set(NULL);
        CHECK_EQUAL(check_wait(pid), -SIGKILL);
        reap_all();
        CHECK_EQUAL(count(false), 1);
    }
    mpf_block_check(arena);
}

/* The same, where who forks tells the system's answer itself: that is all that is known of the child. */
static void test_announced_child_that_never_comes(void)
{
    struct mpf_ref ref;
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 64, MPF_BLOCK_RAW, &ref), 0);
    for (int i = 0; i < 6; i++) {
        bool is_told = i < 3;
        mpf_fault_set("fork.child:1:kill");
        mpf_fork_announce(i % 3 != 0);
        pid_t pid = check_fork(late_child, &ref);
        mpf_fork_tell(is_told ? pid : -1);
        mpf_fault_set(NULL);
        CHECK_EQUAL(check_wait(pid), -SIGKILL);
        reap_all();
        CHECK_EQUAL(count(false), is_told ? 1 : 2);
        let_time_pass();
        reap_all();
        CHECK_EQUAL(count(false), 1);
    }
    mpf_block_check(arena);
}

static pid_t fork_stopped(void (*body)(void *), void *argument)
{
    int status;
    mpf_fault_set("fork.child:1:stop");
    pid_t pid = check_fork(body, argument);
    mpf_fault_set(NULL);
    CHECK_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    return pid;
}

static void inheriting_child(void *argument)
{
    struct mpf_ref copy;
    CHECK(!arena->lost);
    CHECK_EQUAL(mpf_block_ref(argument, &copy), 0);
    mpf_block_unref(&copy);
}

/* What is told of an announced fork is not taken for another one that has come in between. */
static void test_announced_fork_and_another(void)
{
    struct mpf_ref ref;
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    CHECK_EQUAL(mpf_block_alloc(arena, 64, MPF_BLOCK_RAW, &ref), 0);
    for (int is_announced = 0; is_announced < 2; is_announced++) {
        mpf_fork_announce(false);
        pid_t first = fork_stopped(inheriting_child, &ref);
        if (is_announced)
            mpf_fork_announce(false);
        pid_t second = fork_stopped(inheriting_child, &ref);
        if (is_announced)
            mpf_fork_tell(second);
        mpf_fork_tell(first);
        kill(first, SIGKILL);
        CHECK_EQUAL(check_wait(first), -SIGKILL);
        reap_all();
        kill(second, SIGCONT);
        CHECK_EQUAL(check_wait(second), 0);
    }
}

static void test_no_memory_for_the_list(void)
{
    struct mpf_ref ref;
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    struct mpf_ref *many = malloc(20000 * sizeof *many);
    for (int i = 0; i < 20000; i++)
        CHECK_EQUAL(mpf_block_alloc(arena, 16, MPF_BLOCK_RAW, &many[i]), 0);
    ref = many[0];
    mpf_fault_set("memfd.commit:1:ENOMEM");
    pid_t pid = check_fork(late_child, &ref);
    CHECK_EQUAL(check_wait(pid), 0);
    mpf_fault_set(NULL);
    reap_all();
    CHECK_EQUAL(count(false), 20000);
    free(many);
}
#endif

CHECK_MAIN({"before_any_arena", test_before_any_arena}, {"inherits", test_inherits},
           {"grandchild_inherits", test_grandchild_inherits}, {"while_threads_allocate", test_while_threads_allocate},
           {"threads_that_fork", test_threads_that_fork},
           {"tickets_stay_with_the_lender", test_tickets_stay_with_the_lender},
#ifdef MPF_DEBUG
           {"killed_at_every_point", test_killed_at_every_point},
           {"child_that_comes_too_late", test_child_that_comes_too_late},
           {"child_that_never_comes", test_child_that_never_comes},
           {"announced_child_that_never_comes", test_announced_child_that_never_comes},
           {"announced_fork_and_another", test_announced_fork_and_another},
           {"no_memory_for_the_list", test_no_memory_for_the_list},
#endif
)
