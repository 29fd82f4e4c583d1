/* The budget: the least of what the machine and each control group have left. */
#include "platform/budget.h"

#include "check.h"

#include <sys/stat.h>

#define MIB (UINT64_C(1) << 20)

static char root[64];

static void put(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        CHECK(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    CHECK(fputs(text, file) >= 0);
    CHECK(fclose(file) == 0);
}

static void begin(void)
{
    strcpy(root, "/tmp/test_budget_XXXXXX");
    CHECK(mkdtemp(root) != NULL);
}

static void end(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", root);
    CHECK(system(command) == 0);
}

static void test_nothing_known_limits_nothing(void)
{
    begin();
    CHECK(mpf_budget_available(root) == UINT64_MAX);
    end();
}

static void test_the_machine(void)
{
    begin();
    put("proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable:    2048 kB\nSwapTotal: 7 kB\nSwapFree:  1024 kB\n");
    CHECK_EQUAL(mpf_budget_available(root), 3 * MIB);
    end();
}

static void test_a_unified_group(void)
{
    begin();
    put("proc/meminfo", "MemAvailable: 102400 kB\n");
    put("proc/self/cgroup", "0::/outer/inner\n");
    put("sys/fs/cgroup/outer/inner/memory.max", "max\n");
    put("sys/fs/cgroup/outer/inner/memory.current", "1048576\n");
    CHECK_EQUAL(mpf_budget_available(root), 100 * MIB);
    put("sys/fs/cgroup/outer/memory.max", "52428800\n");
    put("sys/fs/cgroup/outer/memory.current", "10485760\n");
    CHECK_EQUAL(mpf_budget_available(root), 40 * MIB);
    put("sys/fs/cgroup/outer/memory.stat", "anon 12\nfile 9999999\nshmem 9999999\ninactive_file 2097152\nactive_file 1048576\n");
    CHECK_EQUAL(mpf_budget_available(root), 43 * MIB);
    put("sys/fs/cgroup/outer/inner/memory.max", "2097152\n");
    CHECK_EQUAL(mpf_budget_available(root), 1 * MIB);
    put("sys/fs/cgroup/outer/inner/memory.current", "2097153\n");
    CHECK_EQUAL(mpf_budget_available(root), 0);
    end();
}

static void test_a_legacy_group(void)
{
    begin();
    put("proc/self/cgroup", "9:name=systemd:/\n5:cpu,cpuacct:/other\n4:memory:/group\n");
    put("sys/fs/cgroup/memory/group/memory.limit_in_bytes", "20971520\n");
    put("sys/fs/cgroup/memory/group/memory.usage_in_bytes", "10485760\n");
    put("sys/fs/cgroup/memory/group/memory.stat", "cache 5\ninactive_file 4\ntotal_inactive_file 1048576\ntotal_active_file 0\n");
    CHECK_EQUAL(mpf_budget_available(root), 11 * MIB);
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n");
    CHECK_EQUAL(mpf_budget_available(root), 1 * MIB);
    end();
}

static void test_this_machine_says_something(void)
{
    CHECK(mpf_budget_available("") > 0);
}

CHECK_MAIN({"nothing_known_limits_nothing", test_nothing_known_limits_nothing}, {"the_machine", test_the_machine},
           {"a_unified_group", test_a_unified_group}, {"a_legacy_group", test_a_legacy_group},
           {"this_machine_says_something", test_this_machine_says_something})
