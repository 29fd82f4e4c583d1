/* A table that grows by parts, so that entries never move and can be slept on.
 *
 *   +------+----------+-------------+---------+        +------+----------+-------------+-----------------+
 *   | next | capacity | entry_bytes | entries |        | next | capacity | entry_bytes | twice the entries|
 *   +--|---+----------+-------------+---------+        +------+----------+-------------+-----------------+
 *      +--------- MPF_BLOCK_TABLE -------------------->
 *
 * Invariants: a part is complete before `next` names it; `next` goes from 0 to its final value once, in one step with the
 * ownership of the block (mpf_block_put); capacity and entry_bytes never change.
 *
 * Reading: inside the structure's section. Growing: outside of it, entering it for the last step.
 *
 * If the caller is killed
 *   in mpf_table_grow, before the put    the block is in its list of references, and comes back with them
 *   after the put                        the part is there
 *   in mpf_table_destroy                 the parts that were not taken yet are taken by whoever destroys the structure
 *                                        instead: it takes the last one first, and taking clears `next` in one step */
#include "sync/table.h"

#include <errno.h>
#include <stddef.h>

#include "memory/block.h"
#include "platform/fault.h"

static struct mpf_table_shm *next_part(struct mpf_arena *arena, const struct mpf_table_shm *part) {
    return part->next ? mpf_at(arena, part->next) : NULL;
}

void mpf_table_init(struct mpf_table_shm *table, uint32_t capacity, uint32_t entry_bytes) {
    table->next = 0;
    table->capacity = capacity;
    table->entry_bytes = entry_bytes;
}

void *mpf_table_at(struct mpf_arena *arena, struct mpf_table_shm *table, uint32_t index) {
    for (struct mpf_table_shm *part = table; part; part = next_part(arena, part)) {
        if (index < part->capacity)
            return (char *)(part + 1) + (size_t)index * part->entry_bytes;
        index -= part->capacity;
    }
    return NULL;
}

uint32_t mpf_table_capacity(struct mpf_arena *arena, struct mpf_table_shm *table) {
    uint32_t capacity = 0;
    for (struct mpf_table_shm *part = table; part; part = next_part(arena, part))
        capacity += part->capacity;
    return capacity;
}

int mpf_table_grow(struct mpf_arena *arena, struct mpf_section_shm *section, struct mpf_table_shm *table, uint32_t seen) {
    struct mpf_ref ref;
    uint32_t capacity = seen * 2;
    uint64_t bytes = sizeof(struct mpf_table_shm) + (uint64_t)capacity * table->entry_bytes;
    int rc = mpf_block_alloc(arena, bytes, MPF_BLOCK_TABLE, &ref);
    if (rc < 0)
        return rc;
    mpf_table_init(mpf_at(arena, ref.off), capacity, table->entry_bytes);
    MPF_FAULT("table.allocated");
    mpf_section_enter(arena, section);
    if (mpf_table_capacity(arena, table) == seen) {
        struct mpf_table_shm *last = table;
        while (last->next)
            last = next_part(arena, last);
        mpf_block_put(&ref, &last->next);
        MPF_FAULT("table.put");
    }
    mpf_section_leave(arena, section);
    mpf_block_unref(&ref);
    return 0;
}

void mpf_table_destroy(struct mpf_arena *arena, struct mpf_table_shm *table) {
    while (table->next) {
        struct mpf_table_shm *last = table;
        while (next_part(arena, last)->next)
            last = next_part(arena, last);
        struct mpf_ref ref;
        if (mpf_block_take(arena, &last->next, &ref) < 0)
            return;
        MPF_FAULT("table.taken");
        mpf_block_unref(&ref);
    }
}
