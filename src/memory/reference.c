/*
 * Purpose: each participant's list of references: what it must let go of when it dies.
 *
 * Layout: entries of 64 bits in chunks that double in size (512, 1024, 2048 ... entries), so that an index leads to its
 * entry in one step and an entry never moves:
 *
 *     slot->list[k]   chunk k, entries 512 * (2^k - 1) ... ; chunks below 32 KiB are slab blocks, larger ones runs
 *     entry           kind (3 bits) | nonce (24 bits) << 3 | offset of the payload / 32 << 27
 *     free entry      0 | index + 1 of the next free one << 27
 *
 * States of an entry:
 *
 *     FREE -> REF     this participant uses the block; counts as one reference
 *     FREE -> TICKET  the block is kept for a handle on its way; counts as one; anyone may take it over, by nonce
 *     REF, TICKET -> DYING   the last reference was dropped: destroy is running; then FREE
 *
 * Invariants: entries at or above list_top are garbage. A block's count is the number of REF and TICKET entries of all lists that
 * name it, plus the words that own it (mpf_block_put). A block has at most one DYING entry.
 *
 * Callers: in the arena's section, except grow, copy and free_list.
 *
 * Death of the caller: undone by the section's log. A chunk that is being made is a held run or not yet anything;
 * copying works in pieces, each whole or not at all, and the reaper drops what was copied.
 */
#include <errno.h>
#include <string.h>

#include "memory/layout.h"
#include "platform/fault.h"

#define COPY_PIECE 200u /* entries per section; each takes one entry of its log */

static uint32_t chunk_of(uint32_t index) { return 31u - (uint32_t)__builtin_clz(index / MPF_LIST_FIRST + 1); }
static uint32_t first_in(uint32_t chunk) { return MPF_LIST_FIRST * ((UINT32_C(1) << chunk) - 1); }
static uint64_t bytes_of(uint32_t chunk) { return (uint64_t)(MPF_LIST_FIRST << chunk) * sizeof(uint64_t); }

uint64_t *mpf_reference_at(const struct mpf_arena *arena, uint32_t slot, uint32_t index)
{
    const struct mpf_slot_shm *owner = mpf_slot(arena, slot);
    if (index >= owner->list_top)
        return NULL;
    uint32_t chunk = chunk_of(index);
    return (uint64_t *)mpf_at(arena, owner->list[chunk]) + (index - first_in(chunk));
}

int mpf_reference_add(struct mpf_arena *arena, uint32_t slot, uint64_t entry, uint32_t *index)
{
    struct mpf_slot_shm *owner = mpf_slot(arena, slot);
    if (owner->list_free) {
        *index = owner->list_free - 1;
        uint64_t *at = mpf_reference_at(arena, slot, *index);
        MPF_SET32(arena, owner->list_free, (uint32_t)(*at >> 27));
        MPF_SET64(arena, *at, entry);
        return 0;
    }
    uint32_t top = owner->list_top, chunk = chunk_of(top);
    if (chunk >= MPF_LIST_CHUNKS)
        return -ENOMEM;
    if (!owner->list[chunk])
        return -EAGAIN;
    *index = top;
    /* Above the top everything is garbage, so this needs no log: raising the top is what counts. */
    ((uint64_t *)mpf_at(arena, owner->list[chunk]))[top - first_in(chunk)] = entry;
    MPF_SET32(arena, owner->list_top, top + 1);
    return 0;
}

void mpf_reference_remove(struct mpf_arena *arena, uint32_t slot, uint32_t index)
{
    struct mpf_slot_shm *owner = mpf_slot(arena, slot);
    uint64_t *at = mpf_reference_at(arena, slot, index);
    MPF_SET64(arena, *at, (uint64_t)owner->list_free << 27);
    MPF_SET32(arena, owner->list_free, index + 1);
}

/* A chunk that is a slab block is the block's payload; it has type 0 and no reference, the slot itself is its owner. */
static int grow_by_block(struct mpf_arena *arena, uint32_t slot, uint32_t chunk)
{
    struct mpf_slot_shm *owner = mpf_slot(arena, slot);
    uint32_t klass = mpf_slab_class(bytes_of(chunk));
    for (;;) {
        struct mpf_block_shm *block;
        mpf_arena_enter(arena);
        int rc = owner->list[chunk] ? 0 : mpf_slab_take(arena, klass, &block);
        if (rc == 0 && !owner->list[chunk]) {
            block->bytes = bytes_of(chunk);
            block->refs = 1;
            MPF_SET32(arena, block->tag, (uint32_t)MPF_BLOCK_LIVE << 8);
            MPF_SET64(arena, owner->list[chunk], mpf_offset_of(arena, block + 1));
        }
        MPF_FAULT("reference.grown");
        mpf_arena_leave(arena);
        if (rc != -EAGAIN)
            return rc;
        rc = mpf_slab_grow(arena, klass);
        if (rc < 0)
            return rc;
    }
}

static int grow_by_run(struct mpf_arena *arena, uint32_t slot, uint32_t chunk)
{
    struct mpf_slot_shm *owner = mpf_slot(arena, slot);
    uint32_t span;
    int rc = mpf_span_hold(arena, bytes_of(chunk), false, &span);
    if (rc < 0)
        return rc;
    mpf_arena_enter(arena);
    if (owner->list[chunk]) { /* another thread was faster */
        mpf_span_return(arena, span);
    } else {
        mpf_span_set_kind(arena, span, MPF_SPAN_LIST, 0);
        MPF_SET64(arena, owner->list[chunk], (uint64_t)span << MPF_SPAN_SHIFT);
    }
    MPF_FAULT("reference.grown");
    mpf_arena_leave(arena);
    return 0;
}

static int grow_chunk(struct mpf_arena *arena, uint32_t slot, uint32_t chunk)
{
    if (mpf_slab_class(bytes_of(chunk)) < MPF_CLASSES)
        return grow_by_block(arena, slot, chunk);
    return grow_by_run(arena, slot, chunk);
}

int mpf_reference_grow(struct mpf_arena *arena, uint32_t slot)
{
    mpf_arena_enter(arena);
    uint32_t chunk = chunk_of(mpf_slot(arena, slot)->list_top);
    bool there = chunk < MPF_LIST_CHUNKS && mpf_slot(arena, slot)->list[chunk];
    mpf_arena_leave(arena);
    if (chunk >= MPF_LIST_CHUNKS)
        return -ENOMEM;
    return there ? 0 : grow_chunk(arena, slot, chunk);
}

/* Entries [first, end) of one list to the same indices of another, in one step. Tickets stay with who issued them. */
static void copy_piece(struct mpf_arena *arena, uint32_t from, uint32_t to, uint32_t first, uint32_t end)
{
    struct mpf_slot_shm *target = mpf_slot(arena, to);
    uint32_t free = target->list_free;
    mpf_arena_enter(arena);
    for (uint32_t index = first; index < end; index++) {
        uint64_t entry = *mpf_reference_at(arena, from, index);
        uint32_t chunk = chunk_of(index);
        if (mpf_entry_kind(entry) == MPF_ENTRY_REF) {
            struct mpf_block_shm *block = (struct mpf_block_shm *)mpf_at(arena, mpf_entry_off(entry)) - 1;
            MPF_SET32(arena, block->refs, block->refs + 1);
        } else {
            entry = (uint64_t)free << 27;
            free = index + 1;
        }
        ((uint64_t *)mpf_at(arena, target->list[chunk]))[index - first_in(chunk)] = entry;
        MPF_FAULT("reference.copied");
    }
    MPF_SET32(arena, target->list_free, free);
    MPF_SET32(arena, target->list_top, end);
    mpf_arena_leave(arena);
}

int mpf_reference_copy(struct mpf_arena *arena, uint32_t from, uint32_t to)
{
    mpf_arena_enter(arena);
    uint32_t top = mpf_slot(arena, from)->list_top;
    mpf_arena_leave(arena);
    for (uint32_t chunk = 0; top > 0 && chunk <= chunk_of(top - 1); chunk++) {
        int rc = grow_chunk(arena, to, chunk);
        if (rc < 0)
            return rc;
    }
    for (uint32_t first = 0; first < top; first += COPY_PIECE)
        copy_piece(arena, from, to, first, top - first < COPY_PIECE ? top : first + COPY_PIECE);
    return 0;
}

void mpf_reference_free_list(struct mpf_arena *arena, uint32_t slot)
{
    struct mpf_slot_shm *owner = mpf_slot(arena, slot);
    for (uint32_t chunk = 0; chunk < MPF_LIST_CHUNKS; chunk++) {
        uint32_t surplus = 0;
        mpf_arena_enter(arena);
        if (chunk == 0) {
            MPF_SET32(arena, owner->list_top, 0);
            MPF_SET32(arena, owner->list_free, 0);
        }
        mpf_off off = owner->list[chunk];
        if (off && mpf_slab_class(bytes_of(chunk)) < MPF_CLASSES) {
            struct mpf_block_shm *block = (struct mpf_block_shm *)mpf_at(arena, off) - 1;
            MPF_SET32(arena, block->tag, (uint32_t)MPF_BLOCK_FREE << 8);
            surplus = mpf_slab_return(arena, block);
        } else if (off) {
            mpf_span_return(arena, (uint32_t)(off >> MPF_SPAN_SHIFT));
        }
        if (off)
            MPF_SET64(arena, owner->list[chunk], 0);
        MPF_FAULT("reference.list_freed");
        mpf_arena_leave(arena);
        if (surplus)
            mpf_span_drop(arena, surplus, true);
        if (!off)
            break;
    }
}
