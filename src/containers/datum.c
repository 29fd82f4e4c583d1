/* Purpose: the bytes of one key or value, in place or in a block.
 *
 * Layout of a datum: three words.
 *
 *   in place   | kind 2, marks 2, - 4, bytes 8, canonical 8, - 8 | 20 bytes of data ...                        |
 *   cell       | the same, bytes and canonical 0 | generation 32 | offset of the cell      | bytes of the data |
 *   cell       | bytes | canonical | links | - | offset of a block, for each link | data ...
 *
 * MPF_DATUM_CELL: a block of type MPF_BLOCK_CELL, without links. MPF_DATUM_LINKED: of type MPF_BLOCK_LINKED, whose destroy
 * hook drops the links.
 *
 * Invariants: the words of an inline datum behind its data are zero, so that equal ones have equal words. A cell never
 * changes once it is in a container: who holds it may read it at leisure.
 *
 * Callers: as said at each function. A glimpse may follow an offset that is no longer the container's: every address is checked
 * to lie in the arena, and memory of the arena can always be read.
 *
 * Death of the caller: a cell that is not in a container yet is one of its references, and comes back with them; a link
 * is moved into the cell in one step (mpf_block_put). */
#include "containers/datum.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "platform/fault.h"

void mpf_datum_set_inline(struct mpf_datum_shm *image, const void *data, size_t bytes, size_t canonical) {
    *image = (struct mpf_datum_shm){{MPF_DATUM_INLINE | (uint64_t)bytes << 8 | (uint64_t)canonical << 16, 0, 0}};
    memcpy((char *)image + 4, data, bytes);
}

static mpf_off *links_of(struct mpf_cell_shm *cell) { return (mpf_off *)(cell + 1); }

static int make_cell(struct mpf_arena *arena, const struct mpf_datum_source *source, struct mpf_datum *datum) {
    uint64_t head = sizeof(struct mpf_cell_shm) + source->link_count * sizeof(mpf_off);
    enum mpf_block_type type = source->link_count ? MPF_BLOCK_LINKED : MPF_BLOCK_CELL;
    uint64_t room = (head + source->bytes + 7) & ~UINT64_C(7); /* glimpses read whole words */
    int rc = mpf_block_alloc_dirty(arena, room, type, &datum->cell);
    if (rc < 0)
        return rc;
    struct mpf_cell_shm *cell = mpf_at(arena, datum->cell.off);
    *cell = (struct mpf_cell_shm){.bytes = source->bytes, .canonical = source->canonical, .links = source->link_count};
    memset(cell + 1, 0, head - sizeof *cell);
    MPF_FAULT("datum.allocated");
    char *data = (char *)cell + head;
    if (source->data)
        memcpy(data, source->data, source->bytes);
    else
        source->write(source->context, data);
    for (unsigned i = 0; i < source->link_count; i++)
        mpf_block_put(&source->links[i], &links_of(cell)[i]);
    MPF_FAULT("datum.filled");
    uint64_t kind = source->link_count ? MPF_DATUM_LINKED : MPF_DATUM_CELL;
    datum->image = (struct mpf_datum_shm){{kind | (uint64_t)datum->cell.generation << 32, datum->cell.off, source->bytes}};
    return 0;
}

int mpf_datum_make(struct mpf_arena *arena, const struct mpf_datum_source *source, struct mpf_datum *datum) {
    datum->cell = (struct mpf_ref){0};
    if (source->bytes > MPF_DATUM_INLINE_MAX || source->link_count)
        return make_cell(arena, source, datum);
    char bytes[MPF_DATUM_INLINE_MAX];
    if (!source->data)
        source->write(source->context, bytes);
    mpf_datum_set_inline(&datum->image, source->data ? source->data : bytes, source->bytes, source->canonical);
    return 0;
}

int mpf_datum_hold(struct mpf_arena *arena, const struct mpf_datum_shm *image, struct mpf_ref *cell) {
    enum mpf_block_type type = mpf_datum_kind(image->word[0]) == MPF_DATUM_LINKED ? MPF_BLOCK_LINKED : MPF_BLOCK_CELL;
    return mpf_block_attach(arena, image->word[1], (uint32_t)(image->word[0] >> 32), type, 0, cell);
}

static void show_inline(const struct mpf_datum_shm *image, char *buffer, struct mpf_fetched *fetched) {
    memcpy(buffer, mpf_datum_inline(image), MPF_DATUM_INLINE_MAX);
    fetched->data = buffer;
    fetched->bytes = mpf_datum_bytes(image->word[0]);
    fetched->canonical = mpf_datum_canonical(image->word[0]);
}

int mpf_datum_fetch(struct mpf_arena *arena, const struct mpf_datum_shm *image, char *buffer, struct mpf_fetched *fetched) {
    *fetched = (struct mpf_fetched){0};
    if (!mpf_datum_has_cell(image->word[0])) {
        show_inline(image, buffer, fetched);
        return 0;
    }
    const struct mpf_cell_shm *cell = mpf_at(arena, image->word[1]);
    fetched->bytes = cell->bytes;
    fetched->canonical = cell->canonical;
    if (mpf_datum_kind(image->word[0]) == MPF_DATUM_CELL && cell->bytes <= MPF_DATUM_COPY_MAX) {
        memcpy(buffer, mpf_cell_data(cell), cell->bytes);
        fetched->data = buffer;
        return 0;
    }
    fetched->data = mpf_cell_data(cell);
    return mpf_datum_hold(arena, image, &fetched->cell);
}

bool mpf_datum_glimpse(struct mpf_arena *arena, const struct mpf_datum_shm *image, char *buffer, struct mpf_fetched *fetched) {
    *fetched = (struct mpf_fetched){0};
    if (!mpf_datum_has_cell(image->word[0])) {
        show_inline(image, buffer, fetched);
        return true;
    }
    mpf_off off = image->word[1];
    uint64_t bytes = image->word[2];
    if (mpf_datum_kind(image->word[0]) != MPF_DATUM_CELL || bytes > MPF_DATUM_COPY_MAX || off % 8 ||
        off > arena->size - sizeof(struct mpf_cell_shm) - MPF_DATUM_COPY_MAX)
        return false;
    const uint64_t *from = (const uint64_t *)((const struct mpf_cell_shm *)mpf_at(arena, off) + 1);
    for (size_t i = 0; i < (bytes + 7) / 8; i++) {
        uint64_t word = mpf_datum_peek(&from[i]);
        memcpy(buffer + i * 8, &word, 8);
    }
    fetched->data = buffer;
    fetched->bytes = bytes;
    fetched->canonical = mpf_datum_peek(&((const struct mpf_cell_shm *)mpf_at(arena, off))->canonical);
    return true;
}

/* ---- dropping ---- */

/* Containers may be in one another like links of a chain. So deep down one is not dropped at once but put off: it becomes this process's,
 * and is dropped when the outermost one has been. */
#define DEPTH_MAX 40

static _Thread_local struct {
    unsigned depth;
    struct mpf_ref *refs;
    size_t count, room;
} put_off;

static bool make_room(void) {
    if (put_off.count < put_off.room)
        return true;
    size_t room = put_off.room ? 2 * put_off.room : 16;
    struct mpf_ref *refs = realloc(put_off.refs, room * sizeof *refs);
    if (!refs)
        return false;
    put_off.refs = refs;
    put_off.room = room;
    return true;
}

static void drop_link(struct mpf_arena *arena, mpf_off *link) {
    bool deep = put_off.depth > DEPTH_MAX && *link && make_room();
    if (deep && mpf_block_take(arena, link, &put_off.refs[put_off.count]) == 0)
        put_off.count++;
    else
        mpf_block_replace(arena, link, 0);
    MPF_FAULT("datum.link.dropped");
}

void mpf_datum_destroy(struct mpf_arena *arena, mpf_off off) {
    struct mpf_cell_shm *cell = mpf_at(arena, off);
    put_off.depth++;
    for (uint64_t i = 0; i < cell->links; i++)
        drop_link(arena, &links_of(cell)[i]);
    while (put_off.depth == 1 && put_off.count > 0) {
        struct mpf_ref ref = put_off.refs[--put_off.count];
        mpf_block_unref(&ref);
    }
    if (--put_off.depth == 0) {
        free(put_off.refs);
        put_off.refs = NULL;
        put_off.room = 0;
    }
}
