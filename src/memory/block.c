/*
 * Purpose: typed, reference-counted blocks: allocating, sharing, sending and freeing them.
 *
 * Layout: a header (layout.h: generation, count, type, state) directly in front of the payload. Small blocks lie in slabs
 * (slab.c); a large one is a run of its own, with its header 32 bytes into the run and its payload at 64.
 *
 * States of a block:
 *
 *     FREE --alloc--> LIVE --last reference dropped--> FREE                 no destroy hook
 *                      LIVE --last reference dropped--> DYING --destroy--> FREE
 *
 * Invariants: see reference.c for counts. A generation is given to one allocation at a time; (offset, generation) names
 * a block for as long as anyone can have kept a handle of it (it comes back after 2^32 allocations). While a block is
 * DYING, one DYING entry names it, in the list of whoever runs the hook.
 *
 * Callers: any thread of a participant, holding at most an object's section; hooks run with none of ours held.
 *
 * Death of the caller: in the arena's section: undone as a whole. Between a new large block's run and its entry: the
 * run is held by the dead and is freed by the reaper. Between alloc and the zeroing of a payload: nobody else knows the block, its
 * entry brings it back; types with a destroy hook are zeroed before. While DYING: the reaper runs destroy again and frees the block.
 */
#include "memory/block.h"

#include <errno.h>
#include <string.h>

#include "memory/layout.h"
#include "platform/fault.h"

#define LARGE_HEADER_AT 32u

static const struct mpf_block_hooks *_Atomic type_hooks[MPF_BLOCK_TYPES];

void mpf_block_set_hooks(enum mpf_block_type type, const struct mpf_block_hooks *hooks)
{
    atomic_store_explicit(&type_hooks[type], hooks, memory_order_release);
}

const struct mpf_block_hooks *mpf_block_hooks(uint32_t type)
{
    static const struct mpf_block_hooks none;
    const struct mpf_block_hooks *hooks =
        type < MPF_BLOCK_TYPES ? atomic_load_explicit(&type_hooks[type], memory_order_acquire) : NULL;
    return hooks ? hooks : &none;
}

static struct mpf_block_shm *header_of(const struct mpf_arena *arena, mpf_off off)
{
    return (struct mpf_block_shm *)mpf_at(arena, off) - 1;
}

static uint32_t span_of(const struct mpf_arena *arena, const struct mpf_block_shm *block)
{
    return (uint32_t)(mpf_offset_of(arena, block) >> MPF_SPAN_SHIFT);
}

static void set_state(struct mpf_arena *arena, struct mpf_block_shm *block, enum mpf_block_state state)
{
    MPF_SET32(arena, block->tag, mpf_block_type(block) | (uint32_t)state << 8);
}

struct mpf_block_shm *mpf_block_find(const struct mpf_arena *arena, mpf_off off)
{
    struct mpf_block_shm *block = NULL;
    if (off % 32 || off < MPF_SPAN_BYTES || off >= arena->size)
        return NULL;
    uint32_t span = (uint32_t)((off - MPF_BLOCK_HEADER) >> MPF_SPAN_SHIFT);
    switch (mpf_span_kind(arena, span)) {
    case MPF_SPAN_SLAB:
        block = mpf_slab_block(arena, span, off);
        break;
    case MPF_SPAN_LARGE:
        if (off == ((uint64_t)span << MPF_SPAN_SHIFT) + LARGE_HEADER_AT + MPF_BLOCK_HEADER)
            block = header_of(arena, off);
        break;
    default:
        break;
    }
    return block && mpf_block_state(block) == MPF_BLOCK_LIVE ? block : NULL;
}

/* The block that a reference of this process stands for, or NULL where it is stale. In the section. */
static struct mpf_block_shm *find_by_ref(const struct mpf_ref *ref)
{
    const uint64_t *entry = mpf_reference_at(ref->arena, mpf_slot_of(ref->arena->self), ref->entry);
    if (!entry || mpf_entry_kind(*entry) != MPF_ENTRY_REF || mpf_entry_off(*entry) != ref->off)
        return NULL;
    struct mpf_block_shm *block = header_of(ref->arena, ref->off);
    return block->generation == ref->generation ? block : NULL;
}

/* Allocating. */

static void fill_header(struct mpf_arena *arena, struct mpf_block_shm *block, uint64_t bytes, enum mpf_block_type type)
{
    struct mpf_allocator_shm *allocator = mpf_allocator(arena);
    if (++allocator->generation == 0)
        allocator->generation = 1;
    block->generation = allocator->generation;
    block->refs = 1;
    block->bytes = bytes;
    MPF_SET32(arena, block->tag, (uint32_t)type | (uint32_t)MPF_BLOCK_LIVE << 8);
}

static void fill_ref(struct mpf_arena *arena, const struct mpf_block_shm *block, uint32_t entry, struct mpf_ref *ref)
{
    *ref = (struct mpf_ref){
        .arena = arena,
        .off = mpf_offset_of(arena, block + 1),
        .generation = block->generation,
        .entry = entry,
    };
}

/* One more entry in this process's list for the block. In the section; -EAGAIN: the list has to grow first. */
static int list_block(struct mpf_arena *arena, const struct mpf_block_shm *block, struct mpf_ref *ref)
{
    uint32_t index;
    uint64_t entry = mpf_entry(MPF_ENTRY_REF, 0, mpf_offset_of(arena, block + 1));
    int rc = mpf_reference_add(arena, mpf_slot_of(arena->self), entry, &index);
    if (rc == 0)
        fill_ref(arena, block, index, ref);
    return rc;
}

static int grow_list(struct mpf_arena *arena) { return mpf_reference_grow(arena, mpf_slot_of(arena->self)); }

static int alloc_small(struct mpf_arena *arena, uint32_t klass, uint64_t bytes, enum mpf_block_type type, bool zero,
                       struct mpf_ref *ref)
{
    for (;;) {
        struct mpf_block_shm *block;
        mpf_arena_enter(arena);
        int rc = mpf_slab_take(arena, klass, &block);
        bool list_full = false;
        if (rc == 0) {
            fill_header(arena, block, bytes, type);
            if (zero)
                memset(block + 1, 0, bytes);
            rc = list_block(arena, block, ref);
            list_full = rc == -EAGAIN;
            if (rc < 0)
                mpf_section_rollback(arena, mpf_arena_section(arena));
        }
        MPF_FAULT("block.alloc");
        mpf_arena_leave(arena);
        if (rc != -EAGAIN)
            return rc;
        rc = list_full ? grow_list(arena) : mpf_slab_grow(arena, klass);
        if (rc < 0)
            return rc;
    }
}

static int alloc_large(struct mpf_arena *arena, uint64_t bytes, enum mpf_block_type type, bool zero,
                       struct mpf_ref *ref)
{
    uint32_t span;
    int rc = mpf_span_hold(arena, bytes + LARGE_HEADER_AT + MPF_BLOCK_HEADER, zero, &span);
    if (rc < 0)
        return rc;
    struct mpf_block_shm *block = mpf_at(arena, ((uint64_t)span << MPF_SPAN_SHIFT) + LARGE_HEADER_AT);
    for (;;) {
        mpf_arena_enter(arena);
        fill_header(arena, block, bytes, type); /* nobody looks at it while the run is held */
        rc = list_block(arena, block, ref);
        if (rc == 0)
            mpf_span_set_kind(arena, span, MPF_SPAN_LARGE, 0);
        MPF_FAULT("block.alloc_large");
        mpf_arena_leave(arena);
        if (rc != -EAGAIN)
            break;
        rc = grow_list(arena);
        if (rc < 0)
            break;
    }
    if (rc < 0)
        mpf_span_drop(arena, span, false);
    return rc;
}

static int allocate(struct mpf_arena *arena, uint64_t bytes, enum mpf_block_type type, bool zero, struct mpf_ref *ref)
{
    if (type <= 0 || type >= MPF_BLOCK_TYPES)
        return -EINVAL;
    if (!arena->self)
        return -ESTALE;
    if (bytes > arena->size)
        return -ENOMEM;
    bool hooked = mpf_block_hooks(type)->destroy != NULL; /* which must never meet what was there before */
    uint32_t klass = mpf_slab_class(bytes);
    if (klass == MPF_CLASSES)
        return alloc_large(arena, bytes, type, zero || hooked, ref);
    int rc = alloc_small(arena, klass, bytes, type, hooked, ref);
    if (hooked)
        return rc;
    if (rc == 0 && zero)
        memset(mpf_at(arena, ref->off), 0, bytes);
    return rc;
}

int mpf_block_alloc(struct mpf_arena *arena, uint64_t bytes, enum mpf_block_type type, struct mpf_ref *ref)
{
    return allocate(arena, bytes, type, true, ref);
}

int mpf_block_alloc_dirty(struct mpf_arena *arena, uint64_t bytes, enum mpf_block_type type, struct mpf_ref *ref)
{
    return allocate(arena, bytes, type, false, ref);
}

/* Letting go. */

/* Frees a block to which nothing refers any more; leaves the section. */
static void free_and_leave(struct mpf_arena *arena, struct mpf_block_shm *block)
{
    uint32_t surplus = 0, span = span_of(arena, block);
    set_state(arena, block, MPF_BLOCK_FREE);
    if (mpf_span_kind(arena, span) == MPF_SPAN_SLAB) {
        surplus = mpf_slab_return(arena, block);
    } else if (mpf_span_cold(arena, span)) {
        mpf_span_set_held(arena, span);
        surplus = span;
    } else {
        mpf_span_return(arena, span);
    }
    MPF_FAULT("block.free");
    mpf_arena_leave(arena);
    MPF_FAULT("block.freed");
    if (surplus)
        mpf_span_drop(arena, surplus, true);
}

/* The block is DYING and named by this entry: runs its hook, then frees it. */
static void finish_dying(struct mpf_arena *arena, mpf_off off, uint32_t slot, uint32_t index)
{
    struct mpf_block_shm *block = header_of(arena, off);
    const struct mpf_block_hooks *hooks = mpf_block_hooks(mpf_block_type(block));
    MPF_FAULT("block.dying");
    if (hooks->destroy)
        hooks->destroy(arena, off);
    MPF_FAULT("block.destroyed");
    mpf_arena_enter(arena);
    mpf_reference_remove(arena, slot, index);
    free_and_leave(arena, block);
}

/* Drops what a REF or TICKET entry stands for. Called in the section, returns outside of it. */
static void release_and_leave(struct mpf_arena *arena, uint32_t slot, uint32_t index, uint64_t *entry)
{
    mpf_off off = mpf_entry_off(*entry);
    struct mpf_block_shm *block = header_of(arena, off);
    if (block->refs > 1) {
        MPF_SET32(arena, block->refs, block->refs - 1);
        mpf_reference_remove(arena, slot, index);
        MPF_FAULT("block.unref");
        mpf_arena_leave(arena);
    } else if (!mpf_block_hooks(mpf_block_type(block))->destroy) {
        mpf_reference_remove(arena, slot, index);
        free_and_leave(arena, block);
    } else {
        MPF_SET32(arena, block->refs, 0);
        set_state(arena, block, MPF_BLOCK_DYING);
        MPF_SET64(arena, *entry, mpf_entry(MPF_ENTRY_DYING, 0, off));
        MPF_FAULT("block.last_unref");
        mpf_arena_leave(arena);
        finish_dying(arena, off, slot, index);
    }
}

void mpf_block_unref(struct mpf_ref *ref)
{
    struct mpf_arena *arena = ref->arena;
    if (!arena)
        return;
    struct mpf_ref gone = *ref;
    *ref = (struct mpf_ref){0};
    if (!arena->self)
        return;
    uint32_t slot = mpf_slot_of(arena->self);
    mpf_arena_enter(arena);
    if (find_by_ref(&gone))
        release_and_leave(arena, slot, gone.entry, mpf_reference_at(arena, slot, gone.entry));
    else
        mpf_arena_leave(arena);
}

void mpf_block_release_entry(struct mpf_arena *arena, uint32_t slot, uint32_t index)
{
    mpf_arena_enter(arena);
    uint64_t *entry = mpf_reference_at(arena, slot, index);
    enum mpf_entry_kind kind = entry ? mpf_entry_kind(*entry) : MPF_ENTRY_FREE;
    if (kind == MPF_ENTRY_REF || kind == MPF_ENTRY_TICKET) {
        release_and_leave(arena, slot, index, entry);
        return;
    }
    mpf_arena_leave(arena);
    if (kind == MPF_ENTRY_DYING)
        finish_dying(arena, mpf_entry_off(*entry), slot, index);
}

/* Sharing. */

int mpf_block_ref(const struct mpf_ref *ref, struct mpf_ref *copy)
{
    struct mpf_arena *arena = ref->arena;
    if (!arena || !arena->self)
        return -ESTALE;
    for (;;) {
        mpf_arena_enter(arena);
        struct mpf_block_shm *block = find_by_ref(ref);
        int rc = block ? list_block(arena, block, copy) : -ESTALE;
        if (rc == 0)
            MPF_SET32(arena, block->refs, block->refs + 1);
        MPF_FAULT("block.ref");
        mpf_arena_leave(arena);
        if (rc != -EAGAIN)
            return rc;
        rc = grow_list(arena);
        if (rc < 0)
            return rc;
    }
}

/* A ticket: slot of the lender (14 bits) | index of its entry (26 bits) << 14 | nonce (24 bits) << 40. */

static uint32_t next_nonce(struct mpf_arena *arena)
{
    struct mpf_allocator_shm *allocator = mpf_allocator(arena);
    allocator->nonce = (allocator->nonce + 1) & MPF_NONCE_MASK;
    if (allocator->nonce == 0)
        allocator->nonce = 1;
    return allocator->nonce;
}

int mpf_block_lend(const struct mpf_ref *ref, uint64_t *ticket)
{
    struct mpf_arena *arena = ref->arena;
    if (!arena || !arena->self)
        return -ESTALE;
    uint32_t slot = mpf_slot_of(arena->self), index;
    for (;;) {
        mpf_arena_enter(arena);
        struct mpf_block_shm *block = find_by_ref(ref);
        uint32_t nonce = next_nonce(arena);
        int rc = block ? mpf_reference_add(arena, slot, mpf_entry(MPF_ENTRY_TICKET, nonce, ref->off), &index) : -ESTALE;
        if (rc == 0) {
            MPF_SET32(arena, block->refs, block->refs + 1);
            *ticket = slot | (uint64_t)index << MPF_SLOT_BITS | (uint64_t)nonce << 40;
        }
        MPF_FAULT("block.lend");
        mpf_arena_leave(arena);
        if (rc != -EAGAIN)
            return rc;
        rc = grow_list(arena);
        if (rc < 0)
            return rc;
    }
}

/* Whether the ticket is good for this block; if so its entry is gone and its count is the caller's. In the section. */
static bool use_ticket(struct mpf_arena *arena, uint64_t ticket, mpf_off off)
{
    uint32_t slot = ticket & (MPF_SLOTS - 1), index = ticket >> MPF_SLOT_BITS & 0x3ffffff;
    uint32_t nonce = (uint32_t)(ticket >> 40);
    if (!nonce || slot >= atomic_load_explicit(&mpf_header(arena)->slots_high, memory_order_acquire))
        return false;
    const uint64_t *entry = mpf_reference_at(arena, slot, index);
    if (!entry || *entry != mpf_entry(MPF_ENTRY_TICKET, nonce, off))
        return false;
    mpf_reference_remove(arena, slot, index);
    return true;
}

int mpf_block_attach(struct mpf_arena *arena, mpf_off off, uint32_t generation, enum mpf_block_type type,
                     uint64_t ticket, struct mpf_ref *ref)
{
    if (!arena->self)
        return -ESTALE;
    for (;;) {
        mpf_arena_enter(arena);
        struct mpf_block_shm *block = mpf_block_find(arena, off);
        int rc = !block || block->generation != generation ? -ESTALE : mpf_block_type(block) != type ? -EINVAL : 0;
        if (rc == 0)
            rc = list_block(arena, block, ref);
        if (rc == 0 && !use_ticket(arena, ticket, off))
            MPF_SET32(arena, block->refs, block->refs + 1);
        MPF_FAULT("block.attach");
        mpf_arena_leave(arena);
        if (rc != -EAGAIN)
            return rc;
        rc = grow_list(arena);
        if (rc < 0)
            return rc;
    }
}

uint64_t mpf_block_bytes(const struct mpf_ref *ref) { return header_of(ref->arena, ref->off)->bytes; }

uint32_t mpf_block_references(const struct mpf_ref *ref)
{
    mpf_arena_enter(ref->arena);
    uint32_t references = header_of(ref->arena, ref->off)->refs;
    mpf_arena_leave(ref->arena);
    return references;
}

/* Ownership by a word of shared memory. */

void mpf_block_put(struct mpf_ref *ref, mpf_off *where)
{
    struct mpf_arena *arena = ref->arena;
    struct mpf_ref given = *ref;
    *ref = (struct mpf_ref){0};
    if (!arena || !arena->self)
        return;
    mpf_arena_enter(arena);
    if (find_by_ref(&given)) {
        mpf_reference_remove(arena, mpf_slot_of(arena->self), given.entry);
        MPF_SET64(arena, *where, given.off);
    }
    MPF_FAULT("block.put");
    mpf_arena_leave(arena);
}

int mpf_block_take(struct mpf_arena *arena, mpf_off *where, struct mpf_ref *ref)
{
    if (!arena->self)
        return -ESTALE;
    for (;;) {
        mpf_arena_enter(arena);
        struct mpf_block_shm *block = mpf_block_find(arena, *where);
        int rc = block ? list_block(arena, block, ref) : -ESTALE;
        if (rc == 0)
            MPF_SET64(arena, *where, 0);
        MPF_FAULT("block.take");
        mpf_arena_leave(arena);
        if (rc != -EAGAIN)
            return rc;
        rc = grow_list(arena);
        if (rc < 0)
            return rc;
    }
}

/* Drops the last reference to a block with a destroy hook, which *where holds, and stores value there. Called in the
 * section, returns outside of it; -EAGAIN: nothing was done, the list has to grow first. */
static int replace_last_and_leave(struct mpf_arena *arena, mpf_off *where, mpf_off value)
{
    uint32_t slot = mpf_slot_of(arena->self), index;
    /* For an instant the reference is ours: a ticket that nobody was told of. Then it is dropped like any other. */
    int rc = mpf_reference_add(arena, slot, mpf_entry(MPF_ENTRY_TICKET, 0, *where), &index);
    if (rc < 0) {
        mpf_arena_leave(arena);
        return rc;
    }
    MPF_SET64(arena, *where, value);
    MPF_FAULT("block.replace");
    release_and_leave(arena, slot, index, mpf_reference_at(arena, slot, index));
    return 0;
}

static int replace_once(struct mpf_arena *arena, mpf_off *where, mpf_off value)
{
    mpf_arena_enter(arena);
    struct mpf_block_shm *block = mpf_block_find(arena, *where);
    bool last = block && block->refs == 1;
    if (last && mpf_block_hooks(mpf_block_type(block))->destroy)
        return replace_last_and_leave(arena, where, value);
    MPF_SET64(arena, *where, value);
    MPF_FAULT("block.replace");
    if (last) {
        free_and_leave(arena, block);
        return 0;
    }
    if (block)
        MPF_SET32(arena, block->refs, block->refs - 1);
    mpf_arena_leave(arena);
    return 0;
}

void mpf_block_replace(struct mpf_arena *arena, mpf_off *where, mpf_off value)
{
    /* Without memory for an entry *where keeps the block, and whoever destroys the structure drops it. */
    while (replace_once(arena, where, value) == -EAGAIN)
        if (grow_list(arena) < 0)
            return;
}
