/* Blocks: the arena's allocation unit, typed, reference-counted across processes, freed by whoever lets go last.
 *
 * A reference is held by a process, not by a pointer: each participant lists its references in shared memory, so that
 * those of a killed one come back. A forked child has the references of its parent from the first instant. A handle that is sent
 * elsewhere is (arena id, offset, generation): the generation tells a block from a later one at the same place.
 *
 * A handle on its way keeps its block alive: mpf_block_lend adds a reference that the receiver's mpf_block_attach takes
 * back; until then (or until the lender ends) the block stays. */
#ifndef MPF_MEMORY_BLOCK_H
#define MPF_MEMORY_BLOCK_H

#include <stdint.h>

#include "memory/arena.h"

enum mpf_block_type {
    MPF_BLOCK_RAW = 1, /* bytes of a Value or an Array */
    MPF_BLOCK_MUTEX,
    MPF_BLOCK_RMUTEX,
    MPF_BLOCK_SEMAPHORE,
    MPF_BLOCK_BOUNDED_SEMAPHORE,
    MPF_BLOCK_CONDITION,
    MPF_BLOCK_EVENT,
    MPF_BLOCK_BARRIER,
    MPF_BLOCK_TABLE, /* part of another structure, freed with it */
    MPF_BLOCK_QUEUE,
    MPF_BLOCK_PIPE,    /* one end of a channel */
    MPF_BLOCK_CHANNEL,
    MPF_BLOCK_MESSAGE,
    MPF_BLOCK_POOL,
    MPF_BLOCK_DICT,
    MPF_BLOCK_LIST,
    MPF_BLOCK_BODY,   /* of a dict or a list, part of it: the entries */
    MPF_BLOCK_CELL,   /* part of a dict or a list: one key or value */
    MPF_BLOCK_LINKED, /* the same, with references to other blocks */
    MPF_BLOCK_TYPES
};

/* A reference of this process. Plain private memory; after fork the child's copy is the child's own reference. */
struct mpf_ref {
    struct mpf_arena *arena;
    mpf_off off;         /* of the payload; 32-byte aligned, 64-byte aligned for payloads of 4 KiB or more */
    uint32_t generation;
    uint32_t entry;      /* index in this participant's list of references */
};

/* The two hooks of a type; both may be NULL. Called outside the arena's own section.
 *   recover  participant `dead` was killed and had a reference: repair what it may have left. Idempotent; may run again.
 *   destroy  the last reference is gone: drop what the block refers to (its MPF_BLOCK_TABLE parts, say). */
struct mpf_block_hooks {
    void (*recover)(struct mpf_arena *arena, mpf_off off, uint32_t dead);
    void (*destroy)(struct mpf_arena *arena, mpf_off off);
};
void mpf_block_set_hooks(enum mpf_block_type type, const struct mpf_block_hooks *hooks);

/* A new block with one reference, this process's. The payload is zeroed. 0, -ENOMEM, -EINVAL. */
int mpf_block_alloc(struct mpf_arena *arena, uint64_t bytes, enum mpf_block_type type, struct mpf_ref *ref);

/* The same without zeroing, for payloads that the caller overwrites whole. Types with a destroy hook are zeroed all the
 * same, before anything else can happen to the block: the hook may meet one whose maker was killed at once. */
int mpf_block_alloc_dirty(struct mpf_arena *arena, uint64_t bytes, enum mpf_block_type type, struct mpf_ref *ref);

/* Another reference of this process to the same block (two Python objects, say). */
int mpf_block_ref(const struct mpf_ref *ref, struct mpf_ref *copy);

/* Drops the reference and clears *ref. Harmless on a cleared one. */
void mpf_block_unref(struct mpf_ref *ref);

/* A handle that is about to be sent: *ticket goes with (offset, generation). The block lives until the ticket is used. */
int mpf_block_lend(const struct mpf_ref *ref, uint64_t *ticket);

/* The receiver's reference. Uses the ticket up if it is still valid (a handle may be decoded more than once).
 * 0, -ESTALE (the block is gone), -EINVAL (not a block of this type). */
int mpf_block_attach(struct mpf_arena *arena, mpf_off off, uint32_t generation, enum mpf_block_type type,
                     uint64_t ticket, struct mpf_ref *ref);

uint64_t mpf_block_bytes(const struct mpf_ref *ref);

/* How many references there are to the block: of all participants that are not reaped, and of handles on their way. */
uint32_t mpf_block_references(const struct mpf_ref *ref);

/* For blocks that are part of another structure (MPF_BLOCK_TABLE, MPF_BLOCK_MESSAGE): the owner is a word in shared memory
 * instead of a participant. Each call is one step for every observer and for every kill: the block is owned by exactly one
 * of the two places at any time. `where` lies in the same arena. The structure's own destroy hook answers for such blocks.
 *   put      this process's reference moves into *where (which was 0); *ref is cleared
 *   take     the reference in *where moves to this process; *where becomes 0. 0, -ENOMEM, -ESTALE where *where names no
 *            block (nothing changed)
 *   replace  drops the reference that *where holds (none if 0) and stores `value`, an offset that is owned already or 0 */
void mpf_block_put(struct mpf_ref *ref, mpf_off *where);
int mpf_block_take(struct mpf_arena *arena, mpf_off *where, struct mpf_ref *ref);
void mpf_block_replace(struct mpf_arena *arena, mpf_off *where, mpf_off value);

/* Figures for tests, doctor and the inspector. */
struct mpf_block_stats {
    uint64_t blocks[MPF_BLOCK_TYPES]; /* live, by type */
    uint64_t bytes;                   /* in live blocks, with their headers */
    uint64_t committed;               /* of the arena, in bytes */
    uint64_t references;              /* of all participants */
};
void mpf_block_stats(struct mpf_arena *arena, struct mpf_block_stats *stats);

/* Walks the whole allocator, in the arena's section, and aborts with a message at the first broken invariant. */
void mpf_block_check(struct mpf_arena *arena);

#endif
