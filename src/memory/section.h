/* A section: a short critical section on shared memory that survives the death of whoever is inside.
 *
 * A section is a lock word that names its owner, and an undo log. Every shared word that is changed inside goes
 * through mpf_section_set*, which first writes the old value to the log. Leaving empties the log with one store,
 * so that the whole change is there or none of it is. Whoever finds the owner dead takes the lock over, plays the
 * log backwards, and starts from a consistent state. A kill is not a power failure: all stores before it in program
 * order are seen, hence compiler fences are enough between log and data.
 *
 * Inside a section: no system call that can block, no second section of the same rank or above (object sections
 * come before the arena's own: object -> arena, never the other way), no Python. */
#ifndef MPF_MEMORY_SECTION_H
#define MPF_MEMORY_SECTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory/arena.h"
#include "platform/fault.h"

#define MPF_SECTION_WAITERS (1u << 31) /* somebody may sleep on the word */

struct mpf_section_entry_shm {
    uint64_t where; /* offset of the word from the arena's base; bit 0 set: 4 bytes wide, else 8 */
    uint64_t old;
};

struct mpf_section_shm {
    _Atomic uint32_t word;     /* 0 free | owner's participant id, with MPF_SECTION_WAITERS */
    _Atomic uint32_t log_used; /* entries that recovery must undo */
    uint32_t log_capacity;
    uint32_t reserved;
    /* struct mpf_section_entry_shm log[log_capacity] follows */
};

#define MPF_SECTION_BYTES(capacity) (sizeof(struct mpf_section_shm) + (capacity) * sizeof(struct mpf_section_entry_shm))

void mpf_section_init(struct mpf_section_shm *section, uint32_t log_capacity);

/* The parts of enter and leave that are not needed when nobody else is there. */
void mpf_section_enter_contended(struct mpf_arena *arena, struct mpf_section_shm *section);
void mpf_section_wake(struct mpf_section_shm *section);

/* One attempt to get from the observed value to owning the word. */
static inline bool mpf_section_seize(struct mpf_section_shm *section, uint32_t seen, uint32_t wanted)
{
    /* Acquire: pairs with the release in mpf_section_leave (and, taking over from a dead owner, with its last release
     * sequence on the word; its later plain stores were made visible by the kernel's exit path). */
    return atomic_compare_exchange_strong_explicit(&section->word, &seen, wanted, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* Enters, after repairing what a dead owner left. Spins briefly, then sleeps; not interruptible (sections are short). */
static inline void mpf_section_enter(struct mpf_arena *arena, struct mpf_section_shm *section)
{
    /* A process that has no place in the arena yet has id 0, and must not take a free word for its own. */
    if (__builtin_expect(!arena->self || !mpf_section_seize(section, 0, arena->self), 0))
        mpf_section_enter_contended(arena, section);
    MPF_FAULT("section.entered");
}

/* What was set since entering counts from now on; still inside. */
static inline void mpf_section_commit(struct mpf_section_shm *section)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&section->log_used, 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

/* Commits all that was set since entering, and leaves. */
static inline void mpf_section_leave(struct mpf_arena *arena, struct mpf_section_shm *section)
{
    (void)arena;
    MPF_FAULT("section.commit");
    mpf_section_commit(section);
    MPF_FAULT("section.committed");
    /* Release: pairs with the acquire in mpf_section_seize. */
    uint32_t was = atomic_exchange_explicit(&section->word, 0, memory_order_release);
    MPF_FAULT("section.left");
    if (__builtin_expect(was & MPF_SECTION_WAITERS, 0))
        mpf_section_wake(section);
}

/* Undoes all that was set since entering; still inside. */
void mpf_section_rollback(struct mpf_arena *arena, struct mpf_section_shm *section);

/* More was set than the log holds: a programming error, which would leave shared memory beyond repair. Aborts. */
_Noreturn void mpf_section_overflow(const struct mpf_section_shm *section);

static inline struct mpf_section_entry_shm *mpf_section_log(struct mpf_section_shm *section)
{
    return (struct mpf_section_entry_shm *)(section + 1);
}

static inline void mpf_section_record(struct mpf_section_shm *section, uint64_t where, uint64_t old)
{
    uint32_t used = atomic_load_explicit(&section->log_used, memory_order_relaxed);
    if (__builtin_expect(used >= section->log_capacity, 0))
        mpf_section_overflow(section);
    mpf_section_log(section)[used] = (struct mpf_section_entry_shm){where, old};
    /* The entry before the count, the count before the word: a kill between any two of them must find them so. */
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&section->log_used, used + 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    MPF_FAULT("section.logged");
}

static inline void mpf_section_set64(struct mpf_arena *arena, struct mpf_section_shm *section, uint64_t *where,
                                     uint64_t value)
{
    mpf_section_record(section, mpf_offset_of(arena, where), *where);
    __atomic_store_n(where, value, __ATOMIC_RELAXED); /* some words are also read outside the section */
    MPF_FAULT("section.set");
}

static inline void mpf_section_set32(struct mpf_arena *arena, struct mpf_section_shm *section, uint32_t *where,
                                     uint32_t value)
{
    mpf_section_record(section, mpf_offset_of(arena, where) | 1, *where);
    __atomic_store_n(where, value, __ATOMIC_RELAXED); /* some words are also read outside the section */
    MPF_FAULT("section.set");
}

#endif
