/* Purpose: copies of many entries of a container, as they were at one instant.
 *
 * Layout: in private memory: items, the bytes of all that was copied, and references to the cells that were not: those that
 * are long, and those with links, whose blocks must live until the value has been decoded.
 *
 * States: empty -> begun and filled, in the section -> read, outside -> freed.
 *
 * Invariants: an item's data are in `bytes` or in the cell numbered `held`.
 *
 * Callers: dict.c and list.c, in the container's section.
 *
 * Death of the caller: what is held are references of the process. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "containers/container.h"

/* Room for `more` beyond `used` items of `each` bytes. The memory or NULL. */
static void *grown(void *memory, size_t used, size_t more, size_t each, size_t *room) {
    if (*room - used >= more && memory)
        return memory;
    size_t wanted = *room + *room / 2 > used + more ? *room + *room / 2 : used + more;
    wanted = wanted < 16 ? 16 : wanted;
    void *larger = wanted < SIZE_MAX / each ? realloc(memory, wanted * each) : NULL;
    if (larger)
        *room = wanted;
    return larger;
}

int mpf_snapshot_begin(struct mpf_snapshot *snapshot, const struct mpf_container_shm *container, size_t items) {
    void *memory = grown(snapshot->items, 0, items, sizeof *snapshot->items, &snapshot->item_room);
    if (!memory)
        return -ENOMEM;
    snapshot->items = memory;
    snapshot->version = atomic_load_explicit(&container->version, memory_order_relaxed);
    snapshot->serial = container->serial;
    return 0;
}

static int hold(struct mpf_arena *arena, struct mpf_snapshot *snapshot, const struct mpf_datum_shm *datum,
                struct mpf_snapshot_datum *copy) {
    size_t room = snapshot->held_room;
    void *memory = grown(snapshot->held, snapshot->held_count, 1, sizeof *snapshot->held, &room);
    if (!memory)
        return -ENOMEM;
    snapshot->held = memory;
    snapshot->held_room = (uint32_t)room;
    const struct mpf_cell_shm *cell = mpf_at(arena, datum->word[1]);
    int rc = mpf_datum_hold(arena, datum, &snapshot->held[snapshot->held_count]);
    if (rc < 0)
        return rc;
    copy->held = ++snapshot->held_count;
    copy->at = (size_t)(mpf_cell_data(cell) - (const char *)cell);
    copy->bytes = cell->bytes;
    copy->canonical = cell->canonical;
    return 0;
}

int mpf_snapshot_add(struct mpf_arena *arena, struct mpf_snapshot *snapshot, const struct mpf_datum_shm *datum,
                     struct mpf_snapshot_datum *copy) {
    const uint64_t first = datum->word[0];
    bool in_cell = mpf_datum_has_cell(first);
    *copy = (struct mpf_snapshot_datum){0};
    if (mpf_datum_kind(first) == MPF_DATUM_LINKED || (in_cell && datum->word[2] > MPF_DATUM_COPY_MAX))
        return hold(arena, snapshot, datum, copy);
    const struct mpf_cell_shm *cell = in_cell ? mpf_at(arena, datum->word[1]) : NULL;
    copy->bytes = cell ? cell->bytes : mpf_datum_bytes(first);
    copy->canonical = cell ? cell->canonical : mpf_datum_canonical(first);
    copy->at = snapshot->used;
    void *memory = grown(snapshot->bytes, snapshot->used, copy->bytes, 1, &snapshot->room);
    if (!memory)
        return -ENOMEM;
    snapshot->bytes = memory;
    memcpy(snapshot->bytes + copy->at, cell ? mpf_cell_data(cell) : mpf_datum_inline(datum), copy->bytes);
    snapshot->used += copy->bytes;
    return 0;
}

void mpf_snapshot_free(struct mpf_snapshot *snapshot) {
    for (uint32_t i = 0; i < snapshot->held_count; i++)
        mpf_block_unref(&snapshot->held[i]);
    free(snapshot->held);
    free(snapshot->items);
    free(snapshot->bytes);
    *snapshot = (struct mpf_snapshot){0};
}
