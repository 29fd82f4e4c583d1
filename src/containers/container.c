/* Purpose: what dict and list have in common: versions, the places of blocks on their way, bodies, the hooks.
 *
 * Layout:
 *
 *   container   | version | body | shape | live | serial | foreign |  incoming body, keys, values | outgoing ... | section + log
 *   body        | geometry | start | used | last | index of a dict | entry | entry | ...
 *   entry       | dict: hash, serial, key, value            | list: value                        (key, value: see datum.c)
 *
 * Reading takes no lock: a reader notes an even version, reads, and counts what it read if the version is still the same. What
 * it meets in between may be anything, so that it checks every offset and every length before it follows them. After a
 * few vain attempts it enters the section like a writer.
 *
 * Writing: inside the section. The version is odd from mpf_container_change to mpf_container_commit; words that are
 * in use are changed through the section's log, so that a change is there as a whole or not at all. The version only grows:
 * it is not undone, so that a reader never takes a half-made change for what was before it.
 *
 * Blocks come in two steps, since who owns a block is the allocator's to record, in a section of its own: first into
 * `incoming` (mpf_block_put: one step), then by the change, which clears `incoming`. They go in two steps, too: a change moves
 * them to `outgoing`; then they are dropped. The next one to enter drops what a dead one left in either.
 *
 * A body is replaced as a whole when many entries change: the new one is filled while it still belongs to the writer,
 * and owns only what is marked NEW in it; the change makes it the owner of everything it has, and leaves to the old one what is
 * marked DOOMED there. Marks are no part of what readers read.
 *
 * States of a body: PREPARING -> OWNER -> LEFT or BARE; or OWNER until the end (cleared).
 *
 * Invariants: the cells of a container's data are owned each by one datum of one body. `serial` only grows, and grows
 * along the entries of a dict.
 *
 * Callers: any process with a reference, in no section but as said at each function.
 *
 * Death of the caller: inside a change: undone; the version stays odd until the next one enters, who makes it even.
 * Between commit and version: likewise, with the change there. With blocks in `incoming` or `outgoing`: dropped by the
 * next one. In a body's destroy hook: it runs again, and finds the words of what was dropped cleared. */
#include "containers/container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "platform/fault.h"

void mpf_container_init(struct mpf_container_shm *container) {
    mpf_section_init(&container->section, MPF_CONTAINER_LOG);
}

/* ---- the section ---- */

static bool any(const struct mpf_container_shm *container) {
    mpf_off all = 0;
    for (int i = 0; i < MPF_PLACES; i++)
        all |= container->incoming[i] | container->outgoing[i];
    return all != 0;
}

/* Before a place is filled: whoever comes after a kill must look. */
static void note_busy(struct mpf_container_shm *container) {
    mpf_datum_store(&container->busy, 1);
    atomic_signal_fence(memory_order_seq_cst);
}

/* Drops what a dead one left on its way. */
static void settle(struct mpf_arena *arena, struct mpf_container_shm *container) {
    for (int i = 0; i < MPF_PLACES; i++) {
        if (container->incoming[i])
            mpf_block_replace(arena, &container->incoming[i], 0);
        MPF_FAULT("container.settle");
        if (container->outgoing[i])
            mpf_block_replace(arena, &container->outgoing[i], 0);
    }
    mpf_datum_store(&container->busy, any(container));
}

void mpf_container_enter(struct mpf_arena *arena, struct mpf_container_shm *container) {
    mpf_section_enter(arena, &container->section);
    uint64_t version = atomic_load_explicit(&container->version, memory_order_relaxed);
    if (__builtin_expect(version & 1, 0)) {
        /* Release: what was undone comes first; pairs with the acquire in mpf_container_look. */
        atomic_store_explicit(&container->version, version + 1, memory_order_release);
    }
    if (__builtin_expect(container->busy != 0, 0))
        settle(arena, container);
}

void mpf_container_leave(struct mpf_arena *arena, struct mpf_container_shm *container) {
    struct mpf_ref gone[MPF_PLACES];
    int count = 0;
    if (container->busy) {
        for (int i = 0; i < MPF_PLACES; i++) /* what cannot be taken for lack of memory is dropped by the next one */
            if (container->outgoing[i] && mpf_block_take(arena, &container->outgoing[i], &gone[count]) == 0)
                count++;
        mpf_datum_store(&container->busy, any(container));
    }
    mpf_section_leave(arena, &container->section);
    MPF_FAULT("container.left");
    while (count > 0)
        mpf_block_unref(&gone[--count]);
}

uint64_t mpf_container_count(struct mpf_arena *arena, struct mpf_container_shm *container) {
    for (int i = 0; i < MPF_CONTAINER_GLIMPSES; i++) {
        uint64_t version;
        bool even = mpf_container_look(container, &version);
        uint64_t live = mpf_datum_load(&container->live);
        if (even && mpf_container_unchanged(container, version))
            return live;
    }
    mpf_container_enter(arena, container);
    uint64_t live = container->live;
    mpf_container_leave(arena, container);
    return live;
}

/* ---- blocks on their way ---- */

void mpf_container_bring(struct mpf_container_shm *container, struct mpf_ref *block, enum mpf_place place) {
    if (!block->off)
        return;
    note_busy(container);
    mpf_block_put(block, &container->incoming[place]);
    MPF_FAULT("container.brought");
}

void mpf_container_arrive(struct mpf_arena *arena, struct mpf_container_shm *container, enum mpf_place place) {
    if (container->incoming[place])
        mpf_container_set(arena, container, &container->incoming[place], 0);
}

void mpf_container_dismiss(struct mpf_arena *arena, struct mpf_container_shm *container, const struct mpf_datum_shm *datum,
                           enum mpf_place place) {
    if (mpf_datum_has_cell(datum->word[0]))
        mpf_container_send(arena, container, datum->word[1], place);
}

void mpf_container_send(struct mpf_arena *arena, struct mpf_container_shm *container, mpf_off block, enum mpf_place place) {
    note_busy(container);
    mpf_container_set(arena, container, &container->outgoing[place], block);
}

/* ---- bodies ---- */

int mpf_body_make(struct mpf_arena *arena, uint32_t data, uint32_t first, uint64_t index_bytes, uint64_t capacity,
                  struct mpf_ref *ref) {
    uint32_t stride = first + data * (uint32_t)sizeof(struct mpf_datum_shm);
    uint64_t entries_at = sizeof(struct mpf_body_shm) + index_bytes;
    if (capacity > (arena->size - entries_at) / stride)
        return -ENOMEM;
    int rc = mpf_block_alloc(arena, entries_at + capacity * stride, MPF_BLOCK_BODY, ref);
    if (rc < 0)
        return rc;
    struct mpf_body_shm *body = mpf_at(arena, ref->off);
    body->data = data;
    body->stride = stride;
    body->first = first;
    body->entries_at = entries_at;
    body->capacity = capacity;
    MPF_FAULT("body.made");
    return 0;
}

void mpf_body_store(struct mpf_datum_shm *where, struct mpf_datum *datum) {
    struct mpf_datum_shm image = datum->image;
    image.word[0] |= MPF_DATUM_NEW;
    if (mpf_datum_has_cell(image.word[0]))
        image.word[1] = 0;
    mpf_datum_write(where, &image);
    atomic_signal_fence(memory_order_seq_cst); /* a kill after the next step must find the datum marked */
    if (datum->cell.off)
        mpf_block_put(&datum->cell, &where->word[1]);
    MPF_FAULT("body.stored");
}

static void set_state(struct mpf_arena *arena, struct mpf_container_shm *container, mpf_off off, enum mpf_body_state state) {
    struct mpf_body_shm *body = mpf_at(arena, off);
    mpf_section_set32(arena, &container->section, &body->state, state);
}

void mpf_body_switch(struct mpf_arena *arena, struct mpf_container_shm *container, enum mpf_body_state state) {
    if (container->body)
        set_state(arena, container, container->body, state);
    set_state(arena, container, container->incoming[MPF_PLACE_BODY], MPF_BODY_OWNER);
    mpf_container_send(arena, container, container->body, MPF_PLACE_BODY);
    mpf_container_set(arena, container, &container->body, container->incoming[MPF_PLACE_BODY]);
    mpf_container_set(arena, container, &container->incoming[MPF_PLACE_BODY], 0);
}

static bool owns(enum mpf_body_state state, uint64_t first_word) {
    switch (state) {
    case MPF_BODY_PREPARING: return first_word & MPF_DATUM_NEW;
    case MPF_BODY_OWNER: return true;
    case MPF_BODY_LEFT: return first_word & MPF_DATUM_DOOMED;
    default: return false;
    }
}

void mpf_body_destroy(struct mpf_arena *arena, mpf_off off) {
    struct mpf_body_shm *body = mpf_at(arena, off);
    enum mpf_body_state state = (enum mpf_body_state)body->state;
    if (state == MPF_BODY_BARE)
        return;
    for (uint64_t i = body->start; i < body->used; i++) {
        struct mpf_datum_shm *datum = (struct mpf_datum_shm *)(mpf_body_entry(body, i) + body->first);
        for (uint32_t k = 0; k < body->data; k++, datum++) {
            if (!mpf_datum_has_cell(datum->word[0]) || !datum->word[1] || !owns(state, datum->word[0]))
                continue;
            mpf_block_replace(arena, &datum->word[1], 0);
            MPF_FAULT("body.dropped");
        }
    }
}

/* ---- hooks ---- */

void mpf_container_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead) {
    struct mpf_container_shm *container = mpf_at(arena, off);
    (void)dead;
    if (container->section.log_capacity == 0)
        return; /* killed before it was made */
    mpf_container_enter(arena, container);
    mpf_container_leave(arena, container);
}

void mpf_container_destroy(struct mpf_arena *arena, mpf_off off) {
    struct mpf_container_shm *container = mpf_at(arena, off);
    if (container->section.log_capacity == 0)
        return;
    mpf_container_recover(arena, off, 0); /* one that ended in order in the middle of a change was not repaired after */
    mpf_block_replace(arena, &container->body, 0);
    MPF_FAULT("container.destroyed");
}

void mpf_containers_register_hooks(void) {
    static const struct mpf_block_hooks container = {mpf_container_recover, mpf_container_destroy};
    static const struct mpf_block_hooks body = {NULL, mpf_body_destroy};
    static const struct mpf_block_hooks linked = {NULL, mpf_datum_destroy};
    mpf_block_set_hooks(MPF_BLOCK_DICT, &container);
    mpf_block_set_hooks(MPF_BLOCK_LIST, &container);
    mpf_block_set_hooks(MPF_BLOCK_BODY, &body);
    mpf_block_set_hooks(MPF_BLOCK_LINKED, &linked);
}
