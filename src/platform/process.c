/*
 * Purpose: what the kernel tells of processes, read from /proc.
 *
 * Layout: two cached figures in private memory, forgotten in a forked child.
 *
 * States of a process as seen here: running (any state, stopped included) -> leaving (the kernel's EXITING flag on all of
 * its threads: no instruction of the program will run again) -> zombie -> gone. The last three are "not alive".
 * The middle state matters: robust futexes are released while a process is leaving, and giving its memory back can take
 * the kernel many milliseconds more before it becomes a zombie.
 *
 * Invariants: "not alive" is final for a (pid, start time). A doubt (no permission, no memory) is answered "alive".
 *
 * Callers: anyone, but not on a hot path (tens of microseconds) and not in a section, except for a section's own repair.
 *
 * Death of the caller: leaves nothing behind.
 */
#define _GNU_SOURCE
#include "platform/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TASK_EXITING 0x4u /* the kernel's PF_EXITING, as shown in the flags column */

struct stat_line {
    char state;
    unsigned flags;
    long threads;
    uint64_t start_time;
};

static int read_small_file(const char *path, char *buffer, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n;
    do
        n = read(fd, buffer, size - 1);
    while (n < 0 && errno == EINTR);
    int rc = n < 0 ? -errno : 0;
    close(fd);
    if (rc == 0)
        buffer[n] = '\0';
    return rc;
}

/* Where the text goes on after so many blanks; NULL: it has fewer. */
static const char *skip_blanks(const char *text, unsigned count)
{
    while (text && count-- > 0) {
        text = strchr(text, ' ');
        text = text ? text + 1 : NULL;
    }
    return text;
}

static uint64_t number(const char *text)
{
    uint64_t value = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    return value;
}

/* By hand, as its path: a forked child reads its own line before anything else, and each page of printf and scanf is a fault more. */
static int read_stat(const char *path, struct stat_line *line)
{
    char text[1024];
    int rc = read_small_file(path, text, sizeof text);
    if (rc < 0)
        return rc;
    /* The second column is the program's name in parentheses and may hold any character, so count from its end. */
    const char *rest = strrchr(text, ')');
    if (!rest)
        return -EIO;
    const char *state = skip_blanks(rest, 1), *flags = skip_blanks(state, 6), *threads = skip_blanks(flags, 11),
               *started = skip_blanks(threads, 2);
    if (!started)
        return -EIO;
    line->state = *state;
    line->flags = (unsigned)number(flags);
    line->threads = (long)number(threads);
    line->start_time = number(started);
    return 0;
}

/* Of a process, in a buffer of 64 bytes. */
static const char *stat_path(char *path, int32_t pid)
{
    static const char before[] = "/proc/", after[] = "/stat";
    char digits[16], *at = digits + sizeof digits;
    uint32_t left = pid > 0 ? (uint32_t)pid : 0;
    do
        *--at = (char)('0' + left % 10);
    while ((left /= 10) != 0);
    size_t count = (size_t)(digits + sizeof digits - at);
    memcpy(path, before, sizeof before - 1);
    memcpy(path + sizeof before - 1, at, count);
    memcpy(path + sizeof before - 1 + count, after, sizeof after);
    return path;
}

static int read_process(int32_t pid, struct stat_line *line)
{
    char path[64];
    int rc = read_stat(stat_path(path, pid), line);
    if (rc == -ENOENT && access("/proc/self/stat", R_OK) == 0)
        return -ESRCH;
    return rc;
}

static bool task_over(const struct stat_line *line)
{
    return line->state == 'Z' || line->state == 'X' || line->state == 'x' || (line->flags & TASK_EXITING);
}

/* Whether every thread of a process whose first thread is over is over as well. */
static bool all_tasks_over(int32_t pid)
{
    char path[64 + 256];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        return errno == ENOENT || errno == ESRCH;
    bool over = true;
    for (struct dirent *entry; over && (entry = readdir(tasks)) != NULL;) {
        struct stat_line line;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/stat", (int)pid, entry->d_name);
        int rc = read_stat(path, &line);
        if (rc == 0)
            over = task_over(&line);
        else if (rc != -ENOENT && rc != -ESRCH)
            over = false;
    }
    closedir(tasks);
    return over;
}

static bool process_over(int32_t pid, const struct stat_line *line)
{
    if (!task_over(line))
        return false;
    return line->threads <= 1 || all_tasks_over(pid);
}

int mpf_process_start_time(int32_t pid, uint64_t *start_time)
{
    struct stat_line line;
    int rc = read_process(pid, &line);
    if (rc < 0)
        return rc;
    if (process_over(pid, &line))
        return -ESRCH;
    *start_time = line.start_time;
    return 0;
}

int mpf_process_open(int32_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

int32_t mpf_process_youngest_child(int32_t after, unsigned *newer)
{
    char text[1024];
    int32_t number = 0, youngest = 0;
    bool passed = after == 0;
    ssize_t n;
    *newer = 0;
    int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC); /* oldest first, each followed by a blank */
    if (fd < 0)
        return 0;
    while ((n = read(fd, text, sizeof text)) > 0 || (n < 0 && errno == EINTR))
        for (ssize_t i = 0; i < n; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                number = number * 10 + (text[i] - '0');
            } else if (number != 0) {
                youngest = number;
                *newer += passed;
                passed |= number == after;
                number = 0;
            }
        }
    close(fd);
    return youngest;
}

bool mpf_process_alive(int32_t pid, uint64_t start_time)
{
    struct stat_line line;
    if (pid <= 0)
        return false;
    if (kill(pid, 0) < 0 && errno == ESRCH) /* a hundredth of what a look into /proc costs */
        return false;
    int rc = read_process(pid, &line);
    if (rc < 0)
        return rc != -ESRCH;
    /* A start time of 0 was recorded where /proc could not be read: then the pid is all there is. */
    if (start_time != 0 && line.start_time != start_time)
        return false;
    return !process_over(pid, &line);
}

bool mpf_process_maps(int32_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    if (!maps)
        return true;
    bool found = false, any = false;
    char *line = NULL;
    size_t size = 0;
    while (!found && getline(&line, &size, maps) > 0) {
        any = true;
        found = strstr(line, name) != NULL;
    }
    free(line);
    fclose(maps);
    return found || !any;
}

static _Atomic uint64_t cached_namespace;
static _Atomic int cached_cpus;

uint64_t mpf_process_namespace(void)
{
    uint64_t known = atomic_load_explicit(&cached_namespace, memory_order_relaxed);
    if (known)
        return known;
    struct stat st;
    known = stat("/proc/self/ns/pid", &st) == 0 ? (uint64_t)st.st_ino : 1;
    atomic_store_explicit(&cached_namespace, known, memory_order_relaxed);
    return known;
}

static int count_cpus(void)
{
    cpu_set_t set[8192 / CPU_SETSIZE]; /* as many as the kernel can be built for; one type alone is too small for some machines */
    int count = sched_getaffinity(0, sizeof set, set) == 0 ? CPU_COUNT_S(sizeof set, set) : 0;
    return count > 0 ? count : 1;
}

int mpf_process_cpus(void)
{
    int known = atomic_load_explicit(&cached_cpus, memory_order_relaxed);
    if (known)
        return known;
    known = count_cpus();
    atomic_store_explicit(&cached_cpus, known, memory_order_relaxed);
    return known;
}

uint32_t mpf_process_forks;
_Atomic uint64_t mpf_process_copies = 1;
static _Atomic int32_t forking; /* the process that did so last */

void mpf_process_before_fork(void)
{
    atomic_store_explicit(&forking, (int32_t)getpid(), memory_order_relaxed);
    atomic_fetch_add_explicit(&mpf_process_copies, 1, memory_order_relaxed);
}

void mpf_process_after_fork(void)
{
    mpf_process_forks++;
    atomic_store_explicit(&cached_cpus, 0, memory_order_relaxed);
    /* A child in another namespace sees no parent, 0; one whose parent has died sees another. */
    if ((int32_t)getppid() != atomic_load_explicit(&forking, memory_order_relaxed))
        atomic_store_explicit(&cached_namespace, 0, memory_order_relaxed);
}
