/* Fault points: the grammar, counting, the actions; and that a release build has none. */
#include "check.h"

#include "platform/clock.h"
#include "platform/fault.h"

#ifdef MPF_DEBUG
static void test_counts(void)
{
    CHECK_EQUAL(mpf_fault_set("a.b:2:ENOMEM,c:1:ENOSPC"), 0);
    CHECK_EQUAL(MPF_FAULT_ERROR("a.b"), 0);
    CHECK_EQUAL(MPF_FAULT_ERROR("a.bc"), 0);
    CHECK_EQUAL(MPF_FAULT_ERROR("a.b"), -ENOMEM);
    CHECK_EQUAL(MPF_FAULT_ERROR("a.b"), 0);
    CHECK_EQUAL(MPF_FAULT_ERROR("c"), -ENOSPC);
    CHECK_EQUAL(mpf_fault_set(""), 0);
    CHECK_EQUAL(MPF_FAULT_ERROR("c"), 0);
}

static void test_any_point(void)
{
    CHECK_EQUAL(mpf_fault_set("*:3:EIO"), 0);
    CHECK_EQUAL(MPF_FAULT_ERROR("one"), 0);
    CHECK_EQUAL(MPF_FAULT_ERROR("two"), 0);
    CHECK_EQUAL(MPF_FAULT_ERROR("three"), -EIO);
    CHECK_EQUAL(MPF_FAULT_ERROR("four"), 0);
}

static void test_malformed(void)
{
    static const char *const rules[] = {"a", "a:1", "a:0:kill", "a:x:kill", "a:1:explode", ":1:kill", "a:1:kill,b", "a:1:delay=-1"};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        CHECK_EQUAL(mpf_fault_set(rules[i]), -EINVAL);
    CHECK_EQUAL(MPF_FAULT_ERROR("a"), 0);
}

static void test_environment(void)
{
    setenv("MPFAST_FAULT", "from.outside:1:EMFILE", 1);
    CHECK_EQUAL(MPF_FAULT_ERROR("from.outside"), -EMFILE);
}

static void hit_twice(void *argument)
{
    (void)argument;
    MPF_FAULT("here");
    MPF_FAULT("here");
}

static void test_kill_and_stop(void)
{
    int status;
    CHECK_EQUAL(mpf_fault_set("here:2:kill"), 0);
    CHECK_EQUAL(check_wait(check_fork(hit_twice, NULL)), -SIGKILL);
    MPF_FAULT("here"); /* the child counts on: its first is the second */
    CHECK_EQUAL(check_wait(check_fork(hit_twice, NULL)), -SIGKILL);
    CHECK_EQUAL(mpf_fault_set("here:1:stop"), 0);
    pid_t pid = check_fork(hit_twice, NULL);
    CHECK_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status));
    kill(pid, SIGCONT);
    CHECK_EQUAL(check_wait(pid), 0);
}

static void test_delay(void)
{
    CHECK_EQUAL(mpf_fault_set("slow:1:delay=2000"), 0);
    int64_t before = mpf_clock_now();
    CHECK_EQUAL(MPF_FAULT_ERROR("slow"), 0);
    CHECK(mpf_clock_now() - before >= 2000000);
}

CHECK_MAIN({"environment", test_environment}, {"counts", test_counts}, {"any_point", test_any_point},
           {"malformed", test_malformed}, {"kill_and_stop", test_kill_and_stop}, {"delay", test_delay})
#else
static void test_none_in_release(void)
{
    setenv("MPFAST_FAULT", "*:1:kill", 1);
    MPF_FAULT("anything");
    CHECK_EQUAL(MPF_FAULT_ERROR("anything"), 0);
}

CHECK_MAIN({"none_in_release", test_none_in_release})
#endif
