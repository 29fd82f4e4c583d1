/* What the kernel knows of processes: identity, liveness, usable CPUs. */
#ifndef MPF_PLATFORM_PROCESS_H
#define MPF_PLATFORM_PROCESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Clock ticks since boot at which pid started: with the pid, an identity that pid reuse cannot forge.
 * 0 or -errno (-ESRCH: no such process, a zombie counts as none; -ENOENT: this system shows no processes in /proc). */
int mpf_process_start_time(int32_t pid, uint64_t *start_time);

/* Whether the process (pid, start_time) still runs; a zombie does not, nor does one whose every thread is on its way
 * out of the kernel (it executes nothing of the program any more); a stopped one does. */
bool mpf_process_alive(int32_t pid, uint64_t start_time);

/* A pidfd of the process, closed on exec; -errno (-ESRCH: no such process). */
int mpf_process_open(int32_t pid);

/* The youngest child of the calling thread (a zombie counts), 0 where there is none or this system does not say. *newer: how many children
 * are younger than `after`, a child as well; all of them where that is 0; 0 where that is none any more. */
int32_t mpf_process_youngest_child(int32_t after, unsigned *newer);

/* Whether a line of the process's memory map ends in this name ("/memfd:x (deleted)"). True where it can't be read, and where
 * there is none: the first thread has given it up on its way out, while others are still to follow. */
bool mpf_process_maps(int32_t pid, const char *name);

/* Identity of the pid namespace of this process; pids mean something only to processes with the same. Cached, for children in the
 * same one as well. */
uint64_t mpf_process_namespace(void);

/* CPUs this process may run on (affinity mask); at least 1. Cached until the next fork. */
int mpf_process_cpus(void);

/* How many forks lie between the process that loaded this library and this one. */
extern uint32_t mpf_process_forks;

/* One more than how many forks were begun by this process and those between it and the one that loaded this library: whatever is noted
 * here changes before there is a child. Never 0. */
extern _Atomic uint64_t mpf_process_copies;

/* Counts. Called by whoever is about to fork. */
void mpf_process_before_fork(void);
/* Drops what is cached, and counts. Called in a forked child. */
void mpf_process_after_fork(void);

#endif
