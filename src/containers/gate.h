/* A gate: courtesy towards an operation that has to run the program's code between reading and writing, and is overtaken by writers
 * again and again. It closes the gate; writers wait before it for a while. Nobody relies on it: what is written after
 * all is found out by the version. */
#ifndef MPF_CONTAINERS_GATE_H
#define MPF_CONTAINERS_GATE_H

#include "containers/container.h"

#define MPF_GATE_PATIENCE 6                             /* times overtaken before the gate is closed */
#define MPF_GATE_NS (INT64_C(1000) * 1000 * 1000)       /* how long writers wait, and then open it themselves */

/* Whether this thread should wait. One look. */
static inline bool mpf_gate_is_closed(const struct mpf_container_shm *container) {
    return __builtin_expect(__atomic_load_n(&container->gate, __ATOMIC_RELAXED) != 0, 0);
}

/* Waits until it is open, or this thread's own, or has been closed for too long. May sleep. */
void mpf_gate_await(struct mpf_arena *arena, struct mpf_container_shm *container);
/* Closes it, after whoever has closed it before; may sleep. */
void mpf_gate_close(struct mpf_arena *arena, struct mpf_container_shm *container);
void mpf_gate_open(struct mpf_arena *arena, struct mpf_container_shm *container);

#endif
