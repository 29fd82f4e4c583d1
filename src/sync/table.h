/* A table of fixed-size entries that is part of a shared structure and can grow: entries never move.
 *
 * The first entries stand in the structure itself, right behind the table's header; further ones are in MPF_BLOCK_TABLE
 * blocks, each twice the size of the one before it, linked by `next`. */
#ifndef MPF_SYNC_TABLE_H
#define MPF_SYNC_TABLE_H

#include <stdint.h>

#include "memory/arena.h"
#include "memory/section.h"

struct mpf_table_shm {
    mpf_off next;         /* the next part, 0: none; owned by this one */
    uint32_t capacity;    /* entries in this part */
    uint32_t entry_bytes; /* multiple of 8 */
    /* entries follow */
};

void mpf_table_init(struct mpf_table_shm *table, uint32_t capacity, uint32_t entry_bytes);

/* The entry, or NULL past the end. The caller is inside the structure's section, or knows that the entry exists. */
void *mpf_table_at(struct mpf_arena *arena, struct mpf_table_shm *table, uint32_t index);

/* Adds a part if the table still has `seen` entries (a part that somebody else added meanwhile serves as well).
 * The caller is outside the section. 0 or -ENOMEM. */
int mpf_table_grow(struct mpf_arena *arena, struct mpf_section_shm *section, struct mpf_table_shm *table, uint32_t seen);

/* Entries in all parts. */
uint32_t mpf_table_capacity(struct mpf_arena *arena, struct mpf_table_shm *table);

/* Frees all parts but the first. For the destroy hook: nobody else uses the structure any more. */
void mpf_table_destroy(struct mpf_arena *arena, struct mpf_table_shm *table);

#endif
