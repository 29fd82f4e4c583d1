/*
 * Purpose: the buddy system over 64 KiB spans, from which slabs, large blocks and lists of references are made.
 *
 * Layout: one entry per span (layout.h). A run of 2^order spans starts at a multiple of 2^order; its first entry says
 * what it is, the others are MPF_SPAN_INNER.
 *
 *     spans    |FREE .  .  . |SLAB|LARGE . |HELD|FREE|...
 *     order      2             0    1        0    0
 *     bitmap    1  0  0  0     1    1  1     ?    1         1: committed, may be dirty; 0: absent, or there and zero
 *
 * States of a run:
 *
 *     FREE --taken--> HELD by a participant --committed--> SLAB, LARGE or LIST --> FREE (stays committed)
 *                                                                             \--> HELD --punched--> FREE
 *
 * Invariants: outside of a section, every span belongs to exactly one run. A FREE run's buddy of the same order is not FREE.
 * The bits of a FREE run don't change; those of a HELD run are its owner's. hot counts the bits of all FREE runs.
 *
 * Callers: take, return and the setters in the arena's section; hold and drop outside of it (they call the system).
 *
 * Death of the caller: in the section: undone. While it holds a run (committing, zeroing, punching): the run is in the
 * list of the held ones with its owner's id; the reaper punches it, whatever its bits say, and frees it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memory/layout.h"
#include "platform/fault.h"

static uint32_t make_tag(enum mpf_span_kind kind, uint32_t order, uint32_t klass)
{
    return (uint32_t)kind | order << 8 | klass << 16;
}

enum mpf_span_kind mpf_span_kind(const struct mpf_arena *arena, uint32_t span)
{
    if (span >= mpf_header(arena)->span_count ||
        !mpf_meta_ready(arena, mpf_header(arena)->spans_at + (uint64_t)span * sizeof(struct mpf_span_shm), 1))
        return MPF_SPAN_INNER;
    return (enum mpf_span_kind)(mpf_span(arena, span)->tag & 0xff);
}

/* Doubly linked lists of runs, by span index; 0 ends them. */

static void push(struct mpf_arena *arena, uint32_t *head, uint32_t span)
{
    struct mpf_span_shm *entry = mpf_span(arena, span);
    MPF_SET32(arena, entry->prev, 0);
    MPF_SET32(arena, entry->next, *head);
    if (*head)
        MPF_SET32(arena, mpf_span(arena, *head)->prev, span);
    MPF_SET32(arena, *head, span);
}

static void unlink_run(struct mpf_arena *arena, uint32_t *head, uint32_t span)
{
    struct mpf_span_shm *entry = mpf_span(arena, span);
    if (entry->prev)
        MPF_SET32(arena, mpf_span(arena, entry->prev)->next, entry->next);
    else
        MPF_SET32(arena, *head, entry->next);
    if (entry->next)
        MPF_SET32(arena, mpf_span(arena, entry->next)->prev, entry->prev);
}

/* The bitmap. A page of it that was never committed holds no bit that is set. */

static _Atomic uint64_t *bitmap_word(const struct mpf_arena *arena, uint32_t span)
{
    return (_Atomic uint64_t *)mpf_at(arena, mpf_header(arena)->bitmap_at) + span / 64;
}

static bool bitmap_there(const struct mpf_arena *arena, uint32_t span)
{
    return mpf_meta_ready(arena, mpf_header(arena)->bitmap_at + span / 64 * 8, 8);
}

static uint64_t bits_from(uint32_t span, uint32_t count)
{
    uint32_t low = span % 64;
    uint64_t mask = count >= 64 - low ? UINT64_MAX : (UINT64_C(1) << count) - 1;
    return mask << low;
}

uint32_t mpf_span_committed(const struct mpf_arena *arena, uint32_t span, uint32_t count)
{
    uint32_t total = 0;
    while (count > 0) {
        if (span % 64 == 0 && !bitmap_there(arena, span)) {
            uint32_t rest_of_page = MPF_PAGE_BYTES * 8 - span % (MPF_PAGE_BYTES * 8);
            if (rest_of_page >= count)
                break;
            span += rest_of_page;
            count -= rest_of_page;
            continue;
        }
        uint32_t here = 64 - span % 64 < count ? 64 - span % 64 : count;
        if (bitmap_there(arena, span))
            total += (uint32_t)__builtin_popcountll(
                atomic_load_explicit(bitmap_word(arena, span), memory_order_relaxed) & bits_from(span, here));
        span += here;
        count -= here;
    }
    return total;
}

static void change_bits(struct mpf_arena *arena, uint32_t span, uint32_t count, bool set)
{
    while (count > 0) {
        uint32_t here = 64 - span % 64 < count ? 64 - span % 64 : count;
        if (set)
            atomic_fetch_or_explicit(bitmap_word(arena, span), bits_from(span, here), memory_order_relaxed);
        else if (bitmap_there(arena, span))
            atomic_fetch_and_explicit(bitmap_word(arena, span), ~bits_from(span, here), memory_order_relaxed);
        span += here;
        count -= here;
    }
}

static bool is_committed(const struct mpf_arena *arena, uint32_t span)
{
    return bitmap_there(arena, span) &&
           (atomic_load_explicit(bitmap_word(arena, span), memory_order_relaxed) >> span % 64 & 1);
}

static void add_hot(struct mpf_arena *arena, uint32_t span, uint32_t order, bool more)
{
    uint32_t count = mpf_span_committed(arena, span, UINT32_C(1) << order);
    struct mpf_allocator_shm *allocator = mpf_allocator(arena);
    if (count)
        MPF_SET64(arena, allocator->hot, more ? allocator->hot + count : allocator->hot - count);
}

/* The buddy system. */

static void set_free(struct mpf_arena *arena, uint32_t span, uint32_t order)
{
    MPF_SET32(arena, mpf_span(arena, span)->tag, make_tag(MPF_SPAN_FREE, order, 0));
    push(arena, &mpf_allocator(arena)->free_head[order], span);
}

static mpf_off entry_offset(const struct mpf_arena *arena, uint32_t span)
{
    return mpf_header(arena)->spans_at + (uint64_t)span * sizeof(struct mpf_span_shm);
}

/* The table page that splitting a run down to an order would write and that is not there yet, or 0. */
static mpf_off missing_page(const struct mpf_arena *arena, uint32_t span, uint32_t from, uint32_t to)
{
    for (uint32_t order = from; order-- > to;) {
        mpf_off upper = entry_offset(arena, span + (UINT32_C(1) << order));
        if (!mpf_meta_ready(arena, upper, sizeof(struct mpf_span_shm)))
            return upper;
    }
    return 0;
}

int mpf_span_take(struct mpf_arena *arena, uint32_t order, uint32_t *span, mpf_off *need)
{
    struct mpf_allocator_shm *allocator = mpf_allocator(arena);
    uint32_t from = order;
    while (from < MPF_ORDERS && !allocator->free_head[from])
        from++;
    if (from >= MPF_ORDERS)
        return -ENOMEM;
    uint32_t taken = allocator->free_head[from];
    *need = missing_page(arena, taken, from, order);
    if (*need)
        return -EAGAIN;
    unlink_run(arena, &allocator->free_head[from], taken);
    while (from > order)
        from--, set_free(arena, taken + (UINT32_C(1) << from), from);
    MPF_SET32(arena, mpf_span(arena, taken)->tag, make_tag(MPF_SPAN_INNER, order, 0));
    add_hot(arena, taken, order, false);
    MPF_FAULT("span.taken");
    *span = taken;
    return 0;
}

void mpf_span_return(struct mpf_arena *arena, uint32_t span)
{
    struct mpf_allocator_shm *allocator = mpf_allocator(arena);
    uint32_t order = mpf_span_order(mpf_span(arena, span));
    if ((mpf_span(arena, span)->tag & 0xff) == MPF_SPAN_HELD)
        unlink_run(arena, &allocator->held_head, span);
    add_hot(arena, span, order, true);
    for (; order + 1 < MPF_ORDERS; order++) {
        uint32_t buddy = span ^ UINT32_C(1) << order;
        if (mpf_span_kind(arena, buddy) != MPF_SPAN_FREE || mpf_span_order(mpf_span(arena, buddy)) != order)
            break;
        unlink_run(arena, &allocator->free_head[order], buddy);
        uint32_t upper = span > buddy ? span : buddy;
        MPF_SET32(arena, mpf_span(arena, upper)->tag, make_tag(MPF_SPAN_INNER, 0, 0));
        span &= buddy;
    }
    set_free(arena, span, order);
    MPF_FAULT("span.returned");
}

void mpf_span_set_held(struct mpf_arena *arena, uint32_t span)
{
    struct mpf_span_shm *entry = mpf_span(arena, span);
    MPF_SET32(arena, entry->tag, make_tag(MPF_SPAN_HELD, mpf_span_order(entry), 0));
    MPF_SET32(arena, entry->owner, arena->self);
    push(arena, &mpf_allocator(arena)->held_head, span);
}

void mpf_span_set_kind(struct mpf_arena *arena, uint32_t span, enum mpf_span_kind kind, uint32_t klass)
{
    struct mpf_span_shm *entry = mpf_span(arena, span);
    if ((entry->tag & 0xff) == MPF_SPAN_HELD)
        unlink_run(arena, &mpf_allocator(arena)->held_head, span);
    MPF_SET32(arena, entry->tag, make_tag(kind, mpf_span_order(entry), klass));
}

/* Whether freeing the run as it is would keep more memory committed than is worth while. */
bool mpf_span_cold(struct mpf_arena *arena, uint32_t span)
{
    uint32_t count = UINT32_C(1) << mpf_span_order(mpf_span(arena, span));
    return mpf_allocator(arena)->hot + mpf_span_committed(arena, span, count) > MPF_HOT_SPANS;
}

void mpf_span_init(struct mpf_arena *arena)
{
    uint32_t span = (uint32_t)mpf_header(arena)->first_span, end = mpf_header(arena)->span_count;
    while (span < end) {
        uint32_t order = (uint32_t)__builtin_ctz(span);
        while (order >= MPF_ORDERS || (uint64_t)span + (UINT64_C(1) << order) > end)
            order--;
        set_free(arena, span, order);
        span += UINT32_C(1) << order;
    }
}

/* Holding: with the system calls that may block outside of the section. */

static int take_held(struct mpf_arena *arena, uint32_t order, uint32_t *span)
{
    for (;;) {
        mpf_off need = 0;
        mpf_arena_enter(arena);
        int rc = mpf_span_take(arena, order, span, &need);
        if (rc == 0)
            mpf_span_set_held(arena, *span);
        mpf_arena_leave(arena);
        if (rc != -EAGAIN)
            return rc;
        rc = mpf_meta_commit(arena, need, sizeof(struct mpf_span_shm));
        if (rc < 0)
            return rc;
    }
}

static int commit_run(struct mpf_arena *arena, uint32_t span, uint32_t count, bool zero)
{
    uint32_t last = (span + count - 1) / 64;
    int rc = mpf_meta_commit(arena, mpf_header(arena)->bitmap_at + span / 64 * 8, (last - span / 64 + 1) * 8);
    for (uint32_t at = 0, next; rc == 0 && at < count; at = next) {
        bool there = is_committed(arena, span + at);
        for (next = at + 1; next < count && is_committed(arena, span + next) == there;)
            next++;
        mpf_off off = (uint64_t)(span + at) << MPF_SPAN_SHIFT;
        uint64_t bytes = (uint64_t)(next - at) << MPF_SPAN_SHIFT;
        if (there) {
            if (zero)
                memset(mpf_at(arena, off), 0, bytes);
            continue;
        }
        MPF_FAULT("span.commit");
        rc = mpf_arena_commit(arena, off, bytes);
        MPF_FAULT("span.committed");
        if (rc == 0)
            change_bits(arena, span + at, next - at, true);
    }
    return rc;
}

static void punch(struct mpf_arena *arena, uint32_t span)
{
    uint32_t count = UINT32_C(1) << mpf_span_order(mpf_span(arena, span));
    MPF_FAULT("span.punch");
    mpf_arena_release(arena, (uint64_t)span << MPF_SPAN_SHIFT, (uint64_t)count << MPF_SPAN_SHIFT);
    MPF_FAULT("span.punched");
    change_bits(arena, span, count, false);
}

void mpf_span_drop(struct mpf_arena *arena, uint32_t span, bool must_punch)
{
    if (must_punch)
        punch(arena, span);
    mpf_arena_enter(arena);
    mpf_span_return(arena, span);
    mpf_arena_leave(arena);
}

/* A free run that is committed in part, now held by this process; 0: there is none. */
static uint32_t take_hot(struct mpf_arena *arena)
{
    struct mpf_allocator_shm *allocator = mpf_allocator(arena);
    uint32_t found = 0;
    mpf_arena_enter(arena);
    for (uint32_t order = 0; allocator->hot != 0 && !found && order < MPF_ORDERS; order++)
        for (uint32_t span = allocator->free_head[order]; !found && span; span = mpf_span(arena, span)->next)
            if (mpf_span_committed(arena, span, UINT32_C(1) << order) > 0)
                found = span;
    if (found) {
        uint32_t order = mpf_span_order(mpf_span(arena, found));
        unlink_run(arena, &allocator->free_head[order], found);
        add_hot(arena, found, order, false);
        mpf_span_set_held(arena, found);
    }
    mpf_arena_leave(arena);
    return found;
}

/* For when memory has run out: free runs need not stay committed. Whether there were any that had. */
static bool give_back_hot(struct mpf_arena *arena)
{
    bool any = false;
    for (uint32_t span; (span = take_hot(arena)) != 0; any = true)
        mpf_span_drop(arena, span, true);
    return any;
}

int mpf_span_hold(struct mpf_arena *arena, uint64_t bytes, bool zero, uint32_t *span)
{
    uint64_t count = (bytes + MPF_SPAN_BYTES - 1) >> MPF_SPAN_SHIFT;
    uint32_t order = 0;
    if (count == 0 || count > mpf_header(arena)->span_count)
        return -ENOMEM;
    while (UINT64_C(1) << order < count)
        order++;
    int rc = take_held(arena, order, span);
    if (rc < 0)
        return rc;
    MPF_FAULT("span.held");
    rc = commit_run(arena, *span, (uint32_t)count, zero);
    if (rc == -ENOMEM && give_back_hot(arena))
        rc = commit_run(arena, *span, (uint32_t)count, zero);
    if (rc < 0)
        mpf_span_drop(arena, *span, true); /* what was committed in part is in no bitmap */
    return rc;
}

/* The held run of a dead participant that comes first, now held by this one; 0: none is left. */
static uint32_t inherit_held(struct mpf_arena *arena, uint32_t owner)
{
    mpf_arena_enter(arena);
    uint32_t span = mpf_allocator(arena)->held_head;
    while (span && mpf_span(arena, span)->owner != owner)
        span = mpf_span(arena, span)->next;
    if (span)
        MPF_SET32(arena, mpf_span(arena, span)->owner, arena->self);
    mpf_arena_leave(arena);
    return span;
}

void mpf_span_drop_of(struct mpf_arena *arena, uint32_t owner)
{
    for (uint32_t span; (span = inherit_held(arena, owner)) != 0;) {
        MPF_FAULT("span.inherited");
        mpf_span_drop(arena, span, true);
    }
}
