/* What a child wrote to is copied in advance for the next one: fewer page faults, and nothing else is different. */
#include "platform/written.h"

#include "check.h"

#include <sys/resource.h>

#define PAGE 4096
#define PAGES 3000

static struct mpf_written *written;
static volatile char *memory; /* PAGES of the parent's own, each with content */

/* Whether it is to be had here: not under a sanitizer, whose own memory is too much to look through. */
static bool begin(void)
{
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    for (int i = 0; i < PAGES; i++)
        memory[i * PAGE] = (char)i;
    int rc = mpf_written_open(&written);
    CHECK(rc == 0 || rc == -ENOTSUP || ((UNDER_ASAN || UNDER_TSAN) && rc == -EFBIG));
    return rc == 0;
}

static long write_to(int from, int to)
{
    struct rusage before, after;
    CHECK_EQUAL(getrusage(RUSAGE_SELF, &before), 0);
    for (int i = from; i < to; i++)
        memory[i * PAGE]++;
    CHECK_EQUAL(getrusage(RUSAGE_SELF, &after), 0);
    return after.ru_minflt - before.ru_minflt;
}

static bool always(void *asked)
{
    (*(int *)asked)++;
    return true;
}

static bool never(void *asked)
{
    (*(int *)asked)++;
    return false;
}

static void write_and_note(void *unused)
{
    (void)unused;
    CHECK(write_to(100, 200) >= 100);
    CHECK(write_to(2000, 2050) >= 50);
    for (int i = 2200; i < 2260; i += 2) /* runs enough for whether to go on to be asked again */
        (void)write_to(i, i + 1);
    mpf_written_note(written);
}

static void write_too_much_and_note(void *unused)
{
    (void)unused;
    write_to(0, PAGES);
    mpf_written_note(written);
}

static void repeat_and_write(void *unused)
{
    (void)unused;
    int asked = 0;
    mpf_written_repeat(written, always, &asked);
    CHECK(asked >= 2);
    for (int i = 0; i < PAGES; i++)
        CHECK_EQUAL(memory[i * PAGE], (char)i);
    CHECK(write_to(100, 200) < 10);
    CHECK(write_to(2000, 2050) < 10);
    CHECK(write_to(300, 400) >= 100);
}

static void repeat_without_time(void *unused)
{
    (void)unused;
    int asked = 0;
    mpf_written_repeat(written, never, &asked);
    CHECK_EQUAL(asked, 1);
    CHECK(write_to(2000, 2050) >= 50);
}

static void repeat_nothing(void *unused)
{
    (void)unused;
    int asked = 0;
    mpf_written_repeat(written, always, &asked);
    CHECK_EQUAL(asked, 0);
    CHECK(write_to(100, 200) >= 100);
}

static void repeat_what_is_gone(void *unused)
{
    (void)unused;
    int asked = 0;
    CHECK_EQUAL(munmap((void *)(memory + 100 * PAGE), 50 * PAGE), 0);
    CHECK_EQUAL(mprotect((void *)(memory + 2000 * PAGE), 50 * PAGE, PROT_READ), 0);
    mpf_written_repeat(written, always, &asked);
    CHECK_EQUAL(memory[2000 * PAGE], (char)2000);
}

static void in_child(void (*body)(void *)) { CHECK_EQUAL(check_wait(check_fork(body, NULL)), 0); }

static void test_the_next_one_has_copies(void)
{
    if (!begin())
        return;
    in_child(repeat_nothing);
    in_child(write_and_note);
    in_child(repeat_and_write);
    in_child(repeat_without_time);
    in_child(repeat_what_is_gone);
    in_child(write_too_much_and_note); /* the first one counts */
    in_child(repeat_and_write);
    mpf_written_close(written);
}

static void test_who_writes_a_lot_is_no_example(void)
{
    if (!begin())
        return;
    in_child(write_too_much_and_note);
    in_child(repeat_nothing);
    in_child(write_and_note);
    in_child(repeat_and_write);
    mpf_written_close(written);
}

static void test_looking_in_vain_ends(void)
{
    if (!begin())
        return;
    for (int i = 0; i < 8; i++)
        in_child(write_too_much_and_note);
    in_child(write_and_note);
    in_child(repeat_nothing);
    mpf_written_close(written);
}

static void die_noting(void *unused)
{
    (void)unused;
    setenv("MPFAST_FAULT", "written.noting:1:kill", 1);
    mpf_written_note(written);
}

static void test_one_that_dies_noting_costs_time_only(void)
{
    if (!begin())
        return;
    int status = check_wait(check_fork(die_noting, NULL));
    CHECK(status == 0 || status == -SIGKILL); /* 0: without fault points */
    if (status == -SIGKILL)
        in_child(repeat_nothing);
    mpf_written_close(written);
}

static void test_nothing_to_have(void)
{
    int asked = 0;
    mpf_written_note(NULL);
    mpf_written_repeat(NULL, always, &asked);
    CHECK_EQUAL(asked, 0);
    mpf_written_close(NULL);
}

CHECK_MAIN({"the_next_one_has_copies", test_the_next_one_has_copies},
           {"looking_in_vain_ends", test_looking_in_vain_ends},
           {"who_writes_a_lot_is_no_example", test_who_writes_a_lot_is_no_example},
           {"one_that_dies_noting_costs_time_only", test_one_that_dies_noting_costs_time_only},
           {"nothing_to_have", test_nothing_to_have})
