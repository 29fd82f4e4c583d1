/*
 * Purpose: blocks of up to 32 KiB, cut from spans of one size class each.
 *
 * Layout: a span of 64 KiB holds blocks of equal stride, headers (struct mpf_block_shm, 32 bytes) in front. Strides below 4 KiB
 * start at the span's beginning; larger ones start 32 bytes into it, so that their payloads are aligned to 64 bytes.
 *
 *     |header payload|header payload| ... |never used yet      |
 *
 *     entry->blocks   free (16 bits): first free block, index + 1; the others are linked through header->next
 *                     used (16 bits) << 16: blocks in use
 *                     fresh (16 bits) << 32: blocks from this index on were never used
 *
 * States of a span: empty -> partly used -> full and back. Those with room are linked in the class's list; at most one empty span
 * of a class is kept there, further ones go back to the buddy system.
 *
 * Invariants: used + length of the free list + (capacity - fresh) == capacity. A free block's header has the state FREE,
 * a block never used has it because its page was zero... or, in a span used before, because it gets it when the span is added.
 *
 * Callers: in the arena's section, except mpf_slab_grow.
 *
 * Death of the caller: undone by the section's log. Header fields written without it belong to a block that is free before
 * or after, and are written again before they are read.
 */
#include <errno.h>

#include "memory/layout.h"
#include "platform/fault.h"

#define LARGE_STRIDE 4096u
#define FIRST_OF_LARGE 32u
#define CLASS_STEP 32u
#define STRIDE_MAX 32704u

static const uint16_t strides[MPF_CLASSES] = {
    64,   96,   128,  160,  192,  256,  320,  384,  448,  512,  640,   768,   896,   1024,  1280,
    1536, 2048, 2560, 3072, 3584, 4160, 4672, 5440, 6528, 8128, 10880, 13056, 16320, 21824, STRIDE_MAX,
};

/* The class for each number of 32-byte steps, filled when the library is loaded. */
static uint8_t class_of_steps[STRIDE_MAX / CLASS_STEP + 1];

__attribute__((constructor)) static void fill_classes(void)
{
    uint32_t klass = 0;
    for (uint32_t steps = 0; steps <= STRIDE_MAX / CLASS_STEP; steps++) {
        while (steps * CLASS_STEP > strides[klass])
            klass++;
        class_of_steps[steps] = (uint8_t)klass;
    }
}

uint32_t mpf_slab_class(uint64_t bytes)
{
    if (bytes > STRIDE_MAX - MPF_BLOCK_HEADER)
        return MPF_CLASSES;
    return class_of_steps[(bytes + MPF_BLOCK_HEADER + CLASS_STEP - 1) / CLASS_STEP];
}

uint32_t mpf_slab_stride(uint32_t klass) { return strides[klass]; }

static uint32_t first_of(uint32_t klass) { return strides[klass] >= LARGE_STRIDE ? FIRST_OF_LARGE : 0; }

uint32_t mpf_slab_capacity(uint32_t klass)
{
    return ((uint32_t)MPF_SPAN_BYTES - first_of(klass)) / strides[klass];
}

static struct mpf_block_shm *block_at(const struct mpf_arena *arena, uint32_t span, uint32_t klass, uint32_t index)
{
    return mpf_at(arena, ((uint64_t)span << MPF_SPAN_SHIFT) + first_of(klass) + (uint64_t)index * strides[klass]);
}

struct mpf_block_shm *mpf_slab_block(const struct mpf_arena *arena, uint32_t span, mpf_off payload)
{
    const struct mpf_span_shm *entry = mpf_span(arena, span);
    uint32_t klass = mpf_span_class(entry);
    uint64_t header = payload - MPF_BLOCK_HEADER - ((uint64_t)span << MPF_SPAN_SHIFT) - first_of(klass);
    if (header >= MPF_SPAN_BYTES || header % strides[klass] || header / strides[klass] >= (entry->blocks >> 32 & 0xffff))
        return NULL;
    return block_at(arena, span, klass, (uint32_t)(header / strides[klass]));
}

static uint64_t pack(uint64_t free, uint64_t used, uint64_t fresh) { return free | used << 16 | fresh << 32; }

static void link_partial(struct mpf_arena *arena, uint32_t span, uint32_t klass)
{
    uint32_t *head = &mpf_allocator(arena)->partial_head[klass];
    struct mpf_span_shm *entry = mpf_span(arena, span);
    MPF_SET32(arena, entry->prev, 0);
    MPF_SET32(arena, entry->next, *head);
    if (*head)
        MPF_SET32(arena, mpf_span(arena, *head)->prev, span);
    MPF_SET32(arena, *head, span);
}

static void unlink_partial(struct mpf_arena *arena, uint32_t span, uint32_t klass)
{
    struct mpf_span_shm *entry = mpf_span(arena, span);
    if (entry->prev)
        MPF_SET32(arena, mpf_span(arena, entry->prev)->next, entry->next);
    else
        MPF_SET32(arena, mpf_allocator(arena)->partial_head[klass], entry->next);
    if (entry->next)
        MPF_SET32(arena, mpf_span(arena, entry->next)->prev, entry->prev);
}

int mpf_slab_take(struct mpf_arena *arena, uint32_t klass, struct mpf_block_shm **block)
{
    struct mpf_allocator_shm *allocator = mpf_allocator(arena);
    uint32_t span = allocator->partial_head[klass];
    if (!span)
        return -EAGAIN;
    struct mpf_span_shm *entry = mpf_span(arena, span);
    uint64_t free = entry->blocks & 0xffff, used = entry->blocks >> 16 & 0xffff, fresh = entry->blocks >> 32 & 0xffff;
    uint32_t index = free ? (uint32_t)free - 1 : (uint32_t)fresh;
    *block = block_at(arena, span, klass, index);
    free = free ? (*block)->next : 0;
    fresh += index == fresh;
    MPF_SET64(arena, entry->blocks, pack(free, used + 1, fresh));
    if (used == 0)
        MPF_SET32(arena, allocator->empty[klass], allocator->empty[klass] - 1);
    if (!free && fresh == mpf_slab_capacity(klass))
        unlink_partial(arena, span, klass);
    (*block)->index = (uint16_t)index;
    MPF_FAULT("slab.taken");
    return 0;
}

uint32_t mpf_slab_return(struct mpf_arena *arena, struct mpf_block_shm *block)
{
    struct mpf_allocator_shm *allocator = mpf_allocator(arena);
    uint32_t span = (uint32_t)(mpf_offset_of(arena, block) >> MPF_SPAN_SHIFT);
    struct mpf_span_shm *entry = mpf_span(arena, span);
    uint32_t klass = mpf_span_class(entry);
    uint64_t free = entry->blocks & 0xffff, used = entry->blocks >> 16 & 0xffff, fresh = entry->blocks >> 32 & 0xffff;
    bool was_full = !free && fresh == mpf_slab_capacity(klass);
    block->next = (uint16_t)free;
    MPF_SET64(arena, entry->blocks, pack(block->index + 1u, used - 1, fresh));
    if (was_full)
        link_partial(arena, span, klass);
    MPF_FAULT("slab.returned");
    if (used > 1)
        return 0;
    if (allocator->empty[klass] == 0) {
        MPF_SET32(arena, allocator->empty[klass], 1);
        return 0;
    }
    unlink_partial(arena, span, klass);
    if (mpf_span_cold(arena, span)) {
        mpf_span_set_held(arena, span);
        return span;
    }
    mpf_span_return(arena, span);
    return 0;
}

void mpf_slab_add(struct mpf_arena *arena, uint32_t span, uint32_t klass)
{
    mpf_span_set_kind(arena, span, MPF_SPAN_SLAB, klass);
    MPF_SET64(arena, mpf_span(arena, span)->blocks, pack(0, 0, 0));
    link_partial(arena, span, klass);
    MPF_SET32(arena, mpf_allocator(arena)->empty[klass], mpf_allocator(arena)->empty[klass] + 1);
}

int mpf_slab_grow(struct mpf_arena *arena, uint32_t klass)
{
    uint32_t span;
    int rc = mpf_span_hold(arena, MPF_SPAN_BYTES, false, &span);
    if (rc < 0)
        return rc;
    mpf_arena_enter(arena);
    mpf_slab_add(arena, span, klass);
    MPF_FAULT("slab.added");
    mpf_arena_leave(arena);
    return 0;
}
