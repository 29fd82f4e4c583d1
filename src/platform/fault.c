/*
 * Purpose: named points at which a debug build kills, stops, delays or fails itself (see fault.h for the grammar).
 *
 * Layout: private memory only: a fixed array of rules, read from the environment on the first hit, and for each rule
 * the number of times its point was passed. A forked child has its parent's counts and goes on from there.
 *
 * States: unread -> being read (one thread) -> ready. mpf_fault_set goes back through 'being read'.
 *
 * Invariants: with no rule, a hit is one atomic load. Rules never change while the state is ready.
 *
 * Callers: anyone, holding anything: a hit takes no lock and allocates nothing.
 *
 * Death of the caller: is what this file is for.
 */
#include "platform/fault.h"

#ifdef MPF_DEBUG

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RULES_MAX 16
#define POINT_MAX 64

enum { UNREAD, READING, READY };
enum action { ACTION_KILL, ACTION_STOP, ACTION_DELAY, ACTION_ERROR };

struct rule {
    char point[POINT_MAX];
    uint64_t nth;
    enum action action;
    long argument; /* microseconds of a delay, or the errno */
    _Atomic uint64_t passed;
};

static struct rule rules[RULES_MAX];
static _Atomic int rule_count;
static _Atomic int reading_state;

static const struct {
    const char *name;
    int value;
} error_names[] = {
    {"ENOMEM", ENOMEM}, {"ENOSPC", ENOSPC}, {"EMFILE", EMFILE}, {"ENFILE", ENFILE}, {"EAGAIN", EAGAIN},
    {"EINTR", EINTR},   {"EACCES", EACCES}, {"EPERM", EPERM},   {"ENOSYS", ENOSYS}, {"EIO", EIO},
    {"EINVAL", EINVAL}, {"ESTALE", ESTALE}, {"E2BIG", E2BIG},   {"EPIPE", EPIPE},   {"ENOENT", ENOENT},
};

static int parse_action(const char *text, struct rule *rule)
{
    if (strcmp(text, "kill") == 0) {
        rule->action = ACTION_KILL;
        return 0;
    }
    if (strcmp(text, "stop") == 0) {
        rule->action = ACTION_STOP;
        return 0;
    }
    if (strncmp(text, "delay=", 6) == 0) {
        rule->action = ACTION_DELAY;
        rule->argument = strtol(text + 6, NULL, 10);
        return rule->argument >= 0 ? 0 : -EINVAL;
    }
    for (size_t i = 0; i < sizeof error_names / sizeof error_names[0]; i++)
        if (strcmp(text, error_names[i].name) == 0) {
            rule->action = ACTION_ERROR;
            rule->argument = error_names[i].value;
            return 0;
        }
    return -EINVAL;
}

static int parse_rule(char *text, struct rule *rule)
{
    char *nth = strchr(text, ':');
    char *action = nth ? strchr(nth + 1, ':') : NULL;
    if (!action)
        return -EINVAL;
    *nth++ = *action++ = '\0';
    if (!*text || strlen(text) >= sizeof rule->point)
        return -EINVAL;
    strcpy(rule->point, text);
    char *end;
    rule->nth = strtoull(nth, &end, 10);
    if (*end || rule->nth == 0)
        return -EINVAL;
    atomic_store_explicit(&rule->passed, 0, memory_order_relaxed);
    return parse_action(action, rule);
}

static int parse_rules(const char *text)
{
    char copy[RULES_MAX * (POINT_MAX + 48)];
    int count = 0;
    if (!text || !*text)
        return 0;
    if (strlen(text) >= sizeof copy)
        return -EINVAL;
    strcpy(copy, text);
    char *rest = copy;
    for (char *piece; (piece = strsep(&rest, ",")) != NULL; count++)
        if (count == RULES_MAX || parse_rule(piece, &rules[count]) < 0)
            return -EINVAL;
    return count;
}

static int load(const char *text)
{
    int count = parse_rules(text);
    atomic_store_explicit(&rule_count, count < 0 ? 0 : count, memory_order_relaxed);
    /* Release: pairs with the acquire in mpf_fault_hit; the rules are complete before anyone reads them. */
    atomic_store_explicit(&reading_state, READY, memory_order_release);
    return count < 0 ? count : 0;
}

static void read_environment(void)
{
    int unread = UNREAD;
    if (atomic_compare_exchange_strong(&reading_state, &unread, READING)) {
        const char *text = getenv("MPFAST_FAULT");
        if (load(text) < 0)
            fprintf(stderr, "mpfast: MPFAST_FAULT is malformed: %s\n", text);
    } else {
        while (atomic_load_explicit(&reading_state, memory_order_acquire) != READY)
            sched_yield();
    }
}

int mpf_fault_set(const char *text)
{
    atomic_store(&reading_state, READING);
    return load(text);
}

static int act(const struct rule *rule)
{
    switch (rule->action) {
    case ACTION_KILL:
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    case ACTION_STOP:
        kill(getpid(), SIGSTOP);
        return 0;
    case ACTION_DELAY: {
        struct timespec pause_for = {rule->argument / 1000000, rule->argument % 1000000 * 1000};
        nanosleep(&pause_for, NULL);
        return 0;
    }
    case ACTION_ERROR:
        return -(int)rule->argument;
    }
    return 0;
}

int mpf_fault_hit(const char *point)
{
    if (atomic_load_explicit(&reading_state, memory_order_acquire) != READY)
        read_environment();
    int result = 0;
    int count = atomic_load_explicit(&rule_count, memory_order_relaxed);
    for (int i = 0; i < count; i++) {
        struct rule *rule = &rules[i];
        if (strcmp(rule->point, "*") != 0 && strcmp(rule->point, point) != 0)
            continue;
        if (atomic_fetch_add_explicit(&rule->passed, 1, memory_order_relaxed) + 1 == rule->nth) {
            int rc = act(rule);
            result = rc ? rc : result;
        }
    }
    return result;
}

#else

/* A release build has no fault points; ISO C wants a translation unit to declare something. */
typedef int mpf_fault_unused;

#endif
