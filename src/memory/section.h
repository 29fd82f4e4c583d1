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

struct mpf_arena;

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

/* Enters, after repairing what a dead owner left. Spins briefly, then sleeps; not interruptible (sections are short). */
void mpf_section_enter(struct mpf_arena *arena, struct mpf_section_shm *section);

/* Commits all that was set since entering, and leaves. */
void mpf_section_leave(struct mpf_arena *arena, struct mpf_section_shm *section);

/* Undoes all that was set since entering; still inside. */
void mpf_section_rollback(struct mpf_arena *arena, struct mpf_section_shm *section);

void mpf_section_set64(struct mpf_arena *arena, struct mpf_section_shm *section, uint64_t *where, uint64_t value);
void mpf_section_set32(struct mpf_arena *arena, struct mpf_section_shm *section, uint32_t *where, uint32_t value);

#endif
