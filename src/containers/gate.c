/* Purpose: lets an operation that reads, runs the program's code and writes come to its end among many writers.
 *
 * Layout: the container's word `gate`: 0, or participant | thread << 32.
 *
 * States: open -> closed by a thread -> open: by that thread, or by the first to find it dead or too slow.
 *
 * Invariants: none that anybody relies on.
 *
 * Callers: outside the section, detached from the interpreter where they may sleep.
 *
 * Death of the caller: the next to come before the closed gate opens it. */
#include "containers/gate.h"

#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/futex.h"

#define LOOK_NS (5 * 1000 * 1000)

static uint64_t own(const struct mpf_arena *arena) {
    static _Thread_local char thread; /* its address tells threads of a process apart */
    return arena->self | (uint64_t)(uint32_t)((uintptr_t)&thread >> 4) << 32;
}

static _Atomic uint32_t *sleeping_place(struct mpf_container_shm *container) {
    return (_Atomic uint32_t *)(void *)&container->gate; /* the participant's half */
}

static void reopen(struct mpf_container_shm *container, uint64_t closed) {
    if (__atomic_compare_exchange_n(&container->gate, &closed, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        mpf_futex_wake(sleeping_place(container), INT32_MAX);
}

void mpf_gate_await(struct mpf_arena *arena, struct mpf_container_shm *container) {
    int64_t until = 0;
    for (uint64_t closed; (closed = __atomic_load_n(&container->gate, __ATOMIC_RELAXED)) != 0;) {
        if (closed == own(arena))
            return;
        int64_t now = mpf_clock_now();
        until = until ? until : now + MPF_GATE_NS;
        if (now >= until || mpf_participant_gone(arena, (uint32_t)closed))
            reopen(container, closed);
        else
            mpf_futex_wait(sleeping_place(container), (uint32_t)closed, now + LOOK_NS);
    }
}

void mpf_gate_close(struct mpf_arena *arena, struct mpf_container_shm *container) {
    uint64_t open = 0;
    while (!__atomic_compare_exchange_n(&container->gate, &open, own(arena), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED) &&
           open != own(arena)) {
        mpf_gate_await(arena, container);
        open = 0;
    }
}

void mpf_gate_open(struct mpf_arena *arena, struct mpf_container_shm *container) { reopen(container, own(arena)); }
