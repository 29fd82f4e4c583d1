/*
 * Purpose: critical sections on shared memory that survive the death of whoever is inside.
 *
 * Layout:
 *
 *     word        0 | owner's participant id (30 bits) | MPF_SECTION_WAITERS
 *     log_used    how many log entries recovery must undo
 *     capacity
 *     log[]       (where, old value), oldest first
 *
 * States of the word:
 *
 *     free --enter--> owned --leave--> free
 *     owned --a waiter announces itself--> owned+WAITERS --leave--> free, one waiter woken
 *     owned by a dead participant --the next to come takes it over--> owned by that one, log undone
 *
 * Invariants: word == 0 implies an empty log and consistent data. Whoever owns the word is the only one to touch log and
 * data. Storing 0 to log_used is the moment at which a change counts.
 *
 * Taking an object's section over from the dead, one goes through the arena's section first: what the dead one was doing there to
 * words of the object (mpf_block_put and the like) is undone before anybody looks at them.
 *
 * Callers: any participant, holding at most a section of a lower rank (object before arena). Never from a signal handler.
 *
 * Death of the caller: before the compare-and-swap: nothing happened. Inside: the log undoes every store that was
 * made, and of a store that was announced but not made, it rewrites the value that is there. After the log was emptied
 * and before the word is freed: the change counts, the next to come takes the word over and undoes nothing. After the
 * word was freed and before the wake: sleepers look by themselves every 20 ms. While undoing another's log: the
 * next one undoes it again from the start, with the same result.
 */
#include "memory/section.h"

#include <stdio.h>
#include <stdlib.h>

#include "memory/layout.h"
#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/futex.h"
#include "platform/process.h"

#define OWNER MPF_PARTICIPANT_ID_MASK
#define SPIN_TURNS 150
#define SLEEP_NS (20 * 1000 * 1000)

void mpf_section_init(struct mpf_section_shm *section, uint32_t log_capacity)
{
    atomic_store_explicit(&section->word, 0, memory_order_relaxed);
    atomic_store_explicit(&section->log_used, 0, memory_order_relaxed);
    section->log_capacity = log_capacity;
    section->reserved = 0;
}

void mpf_section_overflow(const struct mpf_section_shm *section)
{
    fprintf(stderr, "mpfast: a section set more than its log of %u entries holds\n", section->log_capacity);
    abort();
}

static void undo(struct mpf_arena *arena, struct mpf_section_shm *section)
{
    struct mpf_section_entry_shm *log = mpf_section_log(section);
    for (uint32_t i = atomic_load_explicit(&section->log_used, memory_order_relaxed); i-- > 0;) {
        void *where = mpf_at(arena, log[i].where & ~UINT64_C(1));
        if (log[i].where & 1)
            __atomic_store_n((uint32_t *)where, (uint32_t)log[i].old, __ATOMIC_RELAXED);
        else
            __atomic_store_n((uint64_t *)where, log[i].old, __ATOMIC_RELAXED);
        MPF_FAULT("section.undo");
    }
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&section->log_used, 0, memory_order_relaxed);
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes the word over from a dead owner and repairs what that left. */
static bool take_over(struct mpf_arena *arena, struct mpf_section_shm *section, uint32_t seen)
{
    if (!(seen & OWNER) || (seen & OWNER) == arena->self || !mpf_participant_gone(arena, seen & OWNER))
        return false;
    if (!mpf_section_seize(section, seen, arena->self | MPF_SECTION_WAITERS))
        return false;
    MPF_FAULT("section.taken_over");
    if (section != mpf_arena_section(arena)) {
        /* The dead one may have been in the arena's section, too, changing who owns a block of this structure. */
        mpf_arena_enter(arena);
        mpf_arena_leave(arena);
    }
    undo(arena, section);
    return true;
}

/* A forked child that found no place in the arena: there are 16384 others, or no memory. It waits for one. */
static void insist_on_place(struct mpf_arena *arena)
{
    static _Atomic uint32_t never = 0;
    while (!arena->self && mpf_participant_join(arena) < 0)
        mpf_futex_wait(&never, 0, mpf_clock_now() + SLEEP_NS);
}

void mpf_section_enter_contended(struct mpf_arena *arena, struct mpf_section_shm *section)
{
    if (!arena->self)
        insist_on_place(arena);
    uint32_t self = arena->self;
    int turns = mpf_process_cpus() > 1 ? SPIN_TURNS : 0;
    for (int i = 0; i < turns; i++) {
        relax();
        uint32_t seen = atomic_load_explicit(&section->word, memory_order_relaxed);
        if (seen == 0 && mpf_section_seize(section, 0, self))
            return;
    }
    for (;;) {
        uint32_t seen = atomic_load_explicit(&section->word, memory_order_relaxed);
        if ((seen & OWNER) == 0) {
            /* Others may sleep behind us: keep the bit, so that our leaving wakes the next. */
            if (mpf_section_seize(section, seen, self | MPF_SECTION_WAITERS))
                return;
            continue;
        }
        if (take_over(arena, section, seen))
            return;
        uint32_t marked = seen | MPF_SECTION_WAITERS;
        if (seen != marked && !atomic_compare_exchange_strong_explicit(&section->word, &seen, marked,
                                                                       memory_order_relaxed, memory_order_relaxed))
            continue;
        mpf_futex_wait(&section->word, marked, mpf_clock_now() + SLEEP_NS);
    }
}

void mpf_section_wake(struct mpf_section_shm *section) { mpf_futex_wake(&section->word, 1); }

void mpf_section_rollback(struct mpf_arena *arena, struct mpf_section_shm *section) { undo(arena, section); }
