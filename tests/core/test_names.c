/* The table of names: what is noted can be forgotten by anybody, once; a death costs a place at most. */
#include "platform/names.h"

#include "check.h"

#include <stdatomic.h>

#include "platform/fault.h"

#define ROUNDS 2000
#define WORKERS 4

static struct mpf_names_shm *names;

static void begin(void)
{
    int fd = mpf_names_create(&names);
    CHECK(fd >= 0);
    CHECK_EQUAL(close(fd), 0);
}

static void end(void) { mpf_names_unmap(names); }

static int live(void)
{
    int count = 0;
    for (int i = 0; i < MPF_NAMES_COUNT; i++)
        count += names->inodes[i] > 1;
    return count;
}

static void test_noted_and_forgotten(void)
{
    begin();
    CHECK(!mpf_names_forget(names, "/a"));
    CHECK_EQUAL(mpf_names_note(names, "/a", 10), 0);
    CHECK_EQUAL(mpf_names_note(names, "/b", 11), 0);
    CHECK_EQUAL(live(), 2);
    CHECK(!mpf_names_forget(names, "/"));
    CHECK(!mpf_names_forget(names, "/aa"));
    CHECK(mpf_names_forget(names, "/a"));
    CHECK(!mpf_names_forget(names, "/a"));
    CHECK_EQUAL(live(), 1);
    CHECK(mpf_names_forget(names, "/b"));
    CHECK_EQUAL(live(), 0);
    end();
}

static void test_every_file_of_a_name_is_forgotten(void)
{
    begin();
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(mpf_names_note(names, "/same", 10 + (uint64_t)i), 0);
    CHECK(mpf_names_forget(names, "/same"));
    CHECK_EQUAL(live(), 0);
    end();
}

static void test_names_that_have_no_place(void)
{
    char name[MPF_NAMES_BYTES + 1] = "/";
    begin();
    memset(name + 1, 'x', MPF_NAMES_BYTES - 1);
    CHECK_EQUAL(mpf_names_note(names, name, 10), -EINVAL);
    CHECK(!mpf_names_forget(names, name));
    name[MPF_NAMES_BYTES - 1] = '\0';
    CHECK_EQUAL(mpf_names_note(names, name, 10), 0);
    CHECK(mpf_names_forget(names, name));
    CHECK_EQUAL(mpf_names_note(names, "", 10), -EINVAL);
    CHECK_EQUAL(mpf_names_note(names, "/a\nb", 10), -EINVAL);
    CHECK_EQUAL(mpf_names_note(names, "/a:b", 10), -EINVAL);
    CHECK_EQUAL(mpf_names_note(names, "/\xc3\xa4", 10), -EINVAL);
    CHECK_EQUAL(mpf_names_note(names, "/a", 1), -EINVAL);
    CHECK_EQUAL(live(), 0);
    end();
}

static void test_a_full_table(void)
{
    char name[16];
    begin();
    for (int i = 0; i < MPF_NAMES_COUNT; i++) {
        snprintf(name, sizeof name, "/%d", i);
        CHECK_EQUAL(mpf_names_note(names, name, 10 + (uint64_t)i), 0);
    }
    CHECK_EQUAL(mpf_names_note(names, "/more", 9), -ENOSPC);
    CHECK(mpf_names_forget(names, "/500"));
    CHECK_EQUAL(mpf_names_note(names, "/more", 9), 0);
    CHECK(mpf_names_forget(names, "/more"));
    CHECK_EQUAL(live(), MPF_NAMES_COUNT - 1);
    end();
}

/* Notes names of its own and forgets them, and tries to forget those of the others. */
static void *work(void *argument)
{
    unsigned self = (unsigned)(uintptr_t)argument;
    char own[16], other[16];
    for (unsigned i = 0; i < ROUNDS; i++) {
        snprintf(own, sizeof own, "/%u-%u", self, i % 3);
        snprintf(other, sizeof other, "/none-%u", i % 3);
        CHECK_EQUAL(mpf_names_note(names, own, ((uint64_t)self << 32) + i + 2), 0);
        CHECK(!mpf_names_forget(names, other));
        CHECK(mpf_names_forget(names, own));
    }
    return NULL;
}

static void test_threads(void)
{
    pthread_t threads[WORKERS];
    begin();
    for (uintptr_t i = 0; i < WORKERS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, work, (void *)(i + 1)), 0);
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    CHECK_EQUAL(live(), 0);
    end();
}

static void work_as_process(void *argument) { work(argument); }

static void test_processes(void)
{
    pid_t pids[WORKERS];
    begin();
    for (uintptr_t i = 0; i < WORKERS; i++)
        pids[i] = check_fork(work_as_process, (void *)(i + 1));
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    CHECK_EQUAL(live(), 0);
    end();
}

static void forget_common(void *forgotten)
{
    if (mpf_names_forget(names, "/common"))
        atomic_fetch_add((_Atomic int *)forgotten, 1);
}

static void test_one_of_many_forgets(void)
{
    _Atomic int *forgotten = check_shared(sizeof *forgotten);
    begin();
    CHECK_EQUAL(mpf_names_note(names, "/common", 10), 0);
    pid_t pids[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        pids[i] = check_fork(forget_common, forgotten);
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQUAL(check_wait(pids[i]), 0);
    CHECK_EQUAL(atomic_load(forgotten), 1);
    end();
}

static void test_who_reads_a_pipe(void)
{
    int ends[2];
    CHECK_EQUAL(pipe(ends), 0);
    CHECK(mpf_names_is_read(ends[1]));
    CHECK_EQUAL(close(ends[0]), 0);
    CHECK(!mpf_names_is_read(ends[1]));
    CHECK_EQUAL(close(ends[1]), 0);
    CHECK(!mpf_names_is_read(ends[1]));
    CHECK(!mpf_names_is_read(-1));
}

#ifdef MPF_DEBUG
static void die(void *point)
{
    char rule[64];
    snprintf(rule, sizeof rule, "%s:1:kill", (const char *)point);
    CHECK_EQUAL(mpf_fault_set(rule), 0);
    (void)mpf_names_note(names, "/victim", 20);
    (void)mpf_names_forget(names, "/victim");
}

/* What the table has after a kill is the name or nothing, and all other places serve as before. */
static void test_killed_anywhere(void)
{
    static const struct {
        const char *point;
        int left, places;
    } cases[] = {{"names.taken", 0, 1}, {"names.named", 0, 1}, {"names.noted", 1, 0}, {"names.found", 1, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin();
        CHECK_EQUAL(check_wait(check_fork(die, (void *)cases[i].point)), -SIGKILL);
        CHECK_EQUAL(live(), cases[i].left);
        CHECK_EQUAL(mpf_names_forget(names, "/victim"), cases[i].left);
        char name[16];
        for (int k = 0; k < MPF_NAMES_COUNT - cases[i].places; k++) {
            snprintf(name, sizeof name, "/%d", k);
            CHECK_EQUAL(mpf_names_note(names, name, 10 + (uint64_t)k), 0);
        }
        end();
    }
}

static void test_create_fails(void)
{
    CHECK_EQUAL(mpf_fault_set("names.create:1:ENOMEM"), 0);
    CHECK_EQUAL(mpf_names_create(&names), -ENOMEM);
    CHECK_EQUAL(mpf_fault_set(NULL), 0);
}
#endif

CHECK_MAIN({"noted_and_forgotten", test_noted_and_forgotten},
           {"every_file_of_a_name_is_forgotten", test_every_file_of_a_name_is_forgotten},
           {"names_that_have_no_place", test_names_that_have_no_place},
           {"a_full_table", test_a_full_table},
           {"threads", test_threads},
           {"processes", test_processes},
           {"one_of_many_forgets", test_one_of_many_forgets},
           {"who_reads_a_pipe", test_who_reads_a_pipe},
#ifdef MPF_DEBUG
           {"killed_anywhere", test_killed_anywhere},
           {"create_fails", test_create_fails},
#endif
)
