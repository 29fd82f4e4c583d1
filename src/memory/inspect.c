/*
 * Purpose: figures of the arena, and a check of everything that the allocator promises.
 *
 * Layout, states: see span.c, slab.c, reference.c, block.c. Private memory: the sorted offsets of all entries, for the check.
 *
 * Invariants: nothing here changes shared memory.
 *
 * Callers: tests, doctor, the inspector; no section held. They stay in the arena's section while they look, so that the
 * whole program waits: not for a hot path.
 *
 * Death of the caller: the section has an empty log; the next to come takes it over.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory/layout.h"

static void broken(const char *what, uint64_t where)
{
    fprintf(stderr, "mpfast: the arena is inconsistent: %s (at %#llx)\n", what, (unsigned long long)where);
    abort();
}

static void expect(bool holds, const char *what, uint64_t where)
{
    if (!holds)
        broken(what, where);
}

/* Calls visit for the first span of every run. */
static void walk_runs(const struct mpf_arena *arena, void (*visit)(const struct mpf_arena *, uint32_t, void *),
                      void *context)
{
    uint32_t end = mpf_header(arena)->span_count;
    for (uint32_t span = (uint32_t)mpf_header(arena)->first_span; span < end;) {
        expect(mpf_span_kind(arena, span) != MPF_SPAN_INNER, "a run without a head", span);
        uint32_t order = mpf_span_order(mpf_span(arena, span));
        expect(order < MPF_ORDERS && span % (UINT32_C(1) << order) == 0, "a run that is not aligned", span);
        visit(arena, span, context);
        span += UINT32_C(1) << order;
    }
}

static void walk_blocks(const struct mpf_arena *arena, uint32_t span,
                        void (*visit)(const struct mpf_arena *, const struct mpf_block_shm *, void *), void *context)
{
    const struct mpf_span_shm *entry = mpf_span(arena, span);
    mpf_off start = (uint64_t)span << MPF_SPAN_SHIFT;
    if (mpf_span_kind(arena, span) == MPF_SPAN_LARGE) {
        visit(arena, mpf_at(arena, start + 32), context);
        return;
    }
    uint32_t klass = mpf_span_class(entry), stride = mpf_slab_stride(klass);
    mpf_off first = start + (stride >= MPF_PAGE_BYTES ? 32 : 0);
    for (uint32_t i = 0; i < (entry->blocks >> 32 & 0xffff); i++)
        visit(arena, mpf_at(arena, first + (uint64_t)i * stride), context);
}

/* Figures. */

static void count_block(const struct mpf_arena *arena, const struct mpf_block_shm *block, void *context)
{
    struct mpf_block_stats *stats = context;
    uint32_t type = mpf_block_type(block);
    if (mpf_block_state(block) == MPF_BLOCK_FREE || type == 0 || type >= MPF_BLOCK_TYPES)
        return;
    (void)arena;
    stats->blocks[type]++;
    stats->bytes += block->bytes + MPF_BLOCK_HEADER;
}

static void count_run(const struct mpf_arena *arena, uint32_t span, void *context)
{
    enum mpf_span_kind kind = mpf_span_kind(arena, span);
    if (kind == MPF_SPAN_SLAB || kind == MPF_SPAN_LARGE)
        walk_blocks(arena, span, count_block, context);
}

/* Calls visit for every entry in use of every list. */
static void walk_entries(const struct mpf_arena *arena, void (*visit)(const struct mpf_arena *, uint64_t, void *),
                         void *context)
{
    uint32_t high = atomic_load_explicit(&mpf_header(arena)->slots_high, memory_order_acquire);
    for (uint32_t slot = 0; slot < high; slot++)
        for (uint32_t index = 0; index < mpf_slot(arena, slot)->list_top; index++) {
            uint64_t entry = *mpf_reference_at(arena, slot, index);
            if (mpf_entry_kind(entry) != MPF_ENTRY_FREE)
                visit(arena, entry, context);
        }
}

static void count_entry(const struct mpf_arena *arena, uint64_t entry, void *context)
{
    (void)arena;
    if (mpf_entry_kind(entry) != MPF_ENTRY_DYING)
        ((struct mpf_block_stats *)context)->references++;
}

void mpf_block_stats(struct mpf_arena *arena, struct mpf_block_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    mpf_arena_enter(arena);
    const struct mpf_header_shm *header = mpf_header(arena);
    walk_runs(arena, count_run, stats);
    walk_entries(arena, count_entry, stats);
    stats->committed =
        (uint64_t)mpf_span_committed(arena, (uint32_t)header->first_span, header->span_count - (uint32_t)header->first_span)
        << MPF_SPAN_SHIFT;
    stats->committed += header->meta_bytes;
    for (mpf_off page = 0; page < header->meta_at; page += MPF_PAGE_BYTES)
        stats->committed += mpf_meta_ready(arena, page, 1) ? MPF_PAGE_BYTES : 0;
    mpf_arena_leave(arena);
}

/* The check. */

struct census {
    uint64_t *offsets; /* of the blocks that REF and TICKET entries name, then sorted */
    size_t count, capacity;
    uint32_t free_runs, held_runs, slabs_with_room;
    uint32_t empty[MPF_CLASSES];
    uint64_t hot;
};

static void note_entry(const struct mpf_arena *arena, uint64_t entry, void *context)
{
    struct census *census = context;
    mpf_off off = mpf_entry_off(entry);
    if (mpf_entry_kind(entry) == MPF_ENTRY_DYING) {
        expect(mpf_block_state((struct mpf_block_shm *)mpf_at(arena, off) - 1) == MPF_BLOCK_DYING,
               "a dying entry names a block that is not", off);
        return;
    }
    expect(mpf_block_find(arena, off) != NULL, "an entry names no live block", off);
    if (census->count == census->capacity) {
        census->capacity = census->capacity ? 2 * census->capacity : 1024;
        census->offsets = realloc(census->offsets, census->capacity * sizeof *census->offsets);
        expect(census->offsets != NULL, "no memory for the check", 0);
    }
    census->offsets[census->count++] = off;
}

static int by_offset(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint32_t entries_of(const struct census *census, mpf_off off)
{
    size_t low = 0, high = census->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (census->offsets[middle] < off)
            low = middle + 1;
        else
            high = middle;
    }
    uint32_t count = 0;
    while (low < census->count && census->offsets[low] == off)
        low++, count++;
    return count;
}

static void check_block(const struct mpf_arena *arena, const struct mpf_block_shm *block, void *context)
{
    mpf_off off = mpf_offset_of(arena, block + 1);
    uint32_t type = mpf_block_type(block);
    expect(mpf_block_state(block) <= MPF_BLOCK_DYING, "a block without a state", off);
    if (mpf_block_state(block) != MPF_BLOCK_LIVE || type == 0)
        return;
    expect(type < MPF_BLOCK_TYPES, "a block of an unknown type", off);
    /* A word may own a reference that has no entry (mpf_block_put). */
    expect(entries_of(context, off) <= block->refs && block->refs > 0, "more entries than references", off);
}

static void count_busy(const struct mpf_arena *arena, const struct mpf_block_shm *block, void *context)
{
    (void)arena;
    *(uint32_t *)context += mpf_block_state(block) != MPF_BLOCK_FREE;
}

static void check_slab(const struct mpf_arena *arena, uint32_t span, struct census *census)
{
    const struct mpf_span_shm *entry = mpf_span(arena, span);
    uint32_t klass = mpf_span_class(entry), stride = mpf_slab_stride(klass), busy = 0, free = 0;
    uint32_t used = entry->blocks >> 16 & 0xffff, fresh = entry->blocks >> 32 & 0xffff;
    mpf_off first = ((uint64_t)span << MPF_SPAN_SHIFT) + (stride >= MPF_PAGE_BYTES ? 32 : 0);
    expect(klass < MPF_CLASSES && fresh <= mpf_slab_capacity(klass), "a slab beyond its span", span);
    for (uint32_t next = entry->blocks & 0xffff; next; free++) {
        expect(next <= fresh && free < fresh, "a slab's free list leads astray", span);
        const struct mpf_block_shm *block = mpf_at(arena, first + (uint64_t)(next - 1) * stride);
        expect(mpf_block_state(block) == MPF_BLOCK_FREE, "a block in use on the free list", mpf_offset_of(arena, block));
        next = block->next;
    }
    walk_blocks(arena, span, count_busy, &busy);
    expect(busy == used && used + free == fresh, "a slab whose counts differ", span);
    census->slabs_with_room += used < mpf_slab_capacity(klass);
    census->empty[klass] += used == 0;
    walk_blocks(arena, span, check_block, census);
}

static void check_run(const struct mpf_arena *arena, uint32_t span, void *context)
{
    struct census *census = context;
    uint32_t order = mpf_span_order(mpf_span(arena, span)), buddy = span ^ UINT32_C(1) << order;
    switch (mpf_span_kind(arena, span)) {
    case MPF_SPAN_FREE:
        census->free_runs++;
        census->hot += mpf_span_committed(arena, span, UINT32_C(1) << order);
        expect(mpf_span_kind(arena, buddy) != MPF_SPAN_FREE || mpf_span_order(mpf_span(arena, buddy)) != order,
               "two free buddies", span);
        break;
    case MPF_SPAN_HELD:
        census->held_runs++;
        break;
    case MPF_SPAN_SLAB:
        check_slab(arena, span, census);
        break;
    case MPF_SPAN_LARGE:
        walk_blocks(arena, span, check_block, census);
        break;
    default:
        break;
    }
}

static uint32_t check_list(const struct mpf_arena *arena, uint32_t head, enum mpf_span_kind kind)
{
    uint32_t count = 0;
    for (uint32_t span = head, prev = 0; span; prev = span, span = mpf_span(arena, span)->next, count++) {
        expect(mpf_span_kind(arena, span) == kind, "a list with a run of another kind", span);
        expect(mpf_span(arena, span)->prev == prev, "a list that does not lead back", span);
    }
    return count;
}

void mpf_block_check(struct mpf_arena *arena)
{
    struct census census = {0};
    mpf_arena_enter(arena);
    const struct mpf_allocator_shm *allocator = mpf_allocator(arena);
    walk_entries(arena, note_entry, &census);
    if (census.count)
        qsort(census.offsets, census.count, sizeof *census.offsets, by_offset);
    walk_runs(arena, check_run, &census);
    uint32_t free_runs = 0, with_room = 0;
    for (uint32_t order = 0; order < MPF_ORDERS; order++)
        free_runs += check_list(arena, allocator->free_head[order], MPF_SPAN_FREE);
    for (uint32_t klass = 0; klass < MPF_CLASSES; klass++) {
        with_room += check_list(arena, allocator->partial_head[klass], MPF_SPAN_SLAB);
        expect(allocator->empty[klass] == census.empty[klass], "a class miscounts its empty spans", klass);
    }
    expect(free_runs == census.free_runs, "free runs that are in no list", free_runs);
    expect(with_room == census.slabs_with_room, "slabs with room that are in no list", with_room);
    expect(check_list(arena, allocator->held_head, MPF_SPAN_HELD) == census.held_runs, "held runs in no list", 0);
    expect(allocator->hot == census.hot, "hot spans miscounted", allocator->hot);
    mpf_arena_leave(arena);
    free(census.offsets);
}
