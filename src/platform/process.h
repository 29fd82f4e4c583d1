/* What the kernel knows of processes: identity, liveness, usable CPUs. */
#ifndef MPF_PLATFORM_PROCESS_H
#define MPF_PLATFORM_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* Clock ticks since boot at which pid started: with the pid, an identity that pid reuse cannot forge.
 * 0 or -errno (-ESRCH: no such process, a zombie counts as none). */
int mpf_process_start_time(int32_t pid, uint64_t *start_time);

/* Whether the process (pid, start_time) still runs; a zombie does not, a stopped one does. */
bool mpf_process_alive(int32_t pid, uint64_t start_time);

/* CPUs this process may run on (affinity mask); at least 1. Cached until the next fork. */
int mpf_process_cpus(void);

#endif
