/*
 * Purpose: to know before memory is committed whether there is any, because afterwards it is too late: where it runs out, the
 * kernel kills a process instead of refusing.
 *
 * Layout: none; everything is read anew.
 *
 *   the machine               /proc/meminfo: MemAvailable + SwapFree
 *   a unified control group   memory.max, memory.current, memory.stat
 *   a legacy one              memory.limit_in_bytes, memory.usage_in_bytes, memory.stat
 *
 * What counts is the least that any of them allows: the group of this process and each group around it. File pages are part of
 * a group's usage, but are given up before anybody is killed; pages of shared memory are not among them ("file" there includes
 * them, the two lists of the replacement policy do not).
 *
 * Invariants: what cannot be read limits nothing.
 *
 * Callers: anyone outside a section; some hundred microseconds, so for large requests only.
 *
 * Death of the caller: leaves nothing behind.
 */
#include "platform/budget.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PATH_BYTES 4352

struct group_files {
    const char *limit, *usage, *inactive, *active;
};

static const struct group_files unified_files = {"memory.max", "memory.current", "inactive_file", "active_file"};
static const struct group_files legacy_files = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                                                "total_active_file"};

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* The sum of the lines "key value" (or "key: value") of these two keys. False: not a single one is there. */
static bool read_sum(const char *path, const char *first, const char *second, uint64_t *sum)
{
    FILE *file = fopen(path, "re");
    char line[256], key[128];
    uint64_t value;
    bool found = false;
    *sum = 0;
    if (!file)
        return false;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%127[^: ]%*[: ]%" SCNu64, key, &value) == 2 && (!strcmp(key, first) || !strcmp(key, second))) {
            *sum += value;
            found = true;
        }
    }
    fclose(file);
    return found;
}

static bool read_number(const char *directory, const char *name, uint64_t *value)
{
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool found = fscanf(file, "%" SCNu64, value) == 1; /* "max" is no number, and no limit */
    fclose(file);
    return found;
}

static uint64_t machine_available(const char *root)
{
    char path[PATH_BYTES];
    uint64_t kib;
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    return read_sum(path, "MemAvailable", "SwapFree", &kib) ? kib * 1024 : UINT64_MAX;
}

static uint64_t group_available(const char *directory, const struct group_files *files)
{
    char path[PATH_BYTES + 64];
    uint64_t limit, usage, reclaimable;
    if (!read_number(directory, files->limit, &limit) || !read_number(directory, files->usage, &usage))
        return UINT64_MAX;
    snprintf(path, sizeof path, "%s/memory.stat", directory);
    read_sum(path, files->inactive, files->active, &reclaimable);
    usage = usage > reclaimable ? usage - reclaimable : 0;
    return limit > usage ? limit - usage : 0;
}

/* In the group at `group` below `mount`, and in all groups around it. */
static uint64_t groups_available(const char *mount, const char *group, const struct group_files *files)
{
    char directory[PATH_BYTES];
    uint64_t available = UINT64_MAX;
    size_t top = strlen(mount);
    int length = snprintf(directory, sizeof directory, "%s%s", mount, strcmp(group, "/") ? group : "");
    if (length < 0 || (size_t)length >= sizeof directory)
        return UINT64_MAX;
    for (;;) {
        available = least(available, group_available(directory, files));
        char *slash = strrchr(directory, '/');
        if (slash == NULL || (size_t)(slash - directory) < top)
            return available;
        *slash = '\0';
    }
}

static bool names_memory(char *controllers)
{
    char *rest;
    for (char *name = strtok_r(controllers, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest))
        if (!strcmp(name, "memory"))
            return true;
    return false;
}

uint64_t mpf_budget_available(const char *root)
{
    char path[PATH_BYTES - 256], line[4096 + 256], controllers[256], group[4096];
    uint64_t available = machine_available(root);
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (!file)
        return available;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%*d:%255[^:]:%4095[^\n]", controllers, group) == 2 && names_memory(controllers)) {
            snprintf(path, sizeof path, "%s/sys/fs/cgroup/memory", root);
            available = least(available, groups_available(path, group, &legacy_files));
        } else if (sscanf(line, "0::%4095[^\n]", group) == 1) {
            snprintf(path, sizeof path, "%s/sys/fs/cgroup", root);
            available = least(available, groups_available(path, group, &unified_files));
        }
    }
    fclose(file);
    return available;
}
