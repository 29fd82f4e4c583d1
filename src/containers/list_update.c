/* Purpose: many items of a list in one step: slices, extension, order; copies of many items.
 *
 * Layout, invariants, death of the caller: see row.c and container.c. What is changed is made anew as a body, but for a few
 * values at the end.
 *
 * Callers: holding nothing. */
#include <errno.h>
#include <string.h>

#include "containers/list.h"
#include "containers/row.h"
#include "platform/fault.h"

#define SET(field, value) mpf_container_set(arena, list, &(field), value)

static bool is_stale(const struct mpf_container_shm *list, const uint64_t *version) {
    return version && atomic_load_explicit(&list->version, memory_order_relaxed) != *version;
}

/* Appends values, a few, or such as own nothing, where there is room. */
static bool extend_in_place(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_datum *values, size_t count) {
    struct mpf_body_shm *body = mpf_body_of(arena, list);
    if (!body || body->capacity - body->used < count)
        return false;
    for (size_t i = 0; i < count && count > MPF_CONTAINER_FEW; i++)
        if (values[i].cell.off)
            return false;
    for (unsigned i = 0; i < count && i < MPF_CONTAINER_FEW; i++)
        mpf_container_bring(list, &values[i].cell, mpf_place_value(i));
    mpf_container_change(list);
    for (size_t i = 0; i < count; i++)
        mpf_datum_write(mpf_row_item(body, list->live + i), &values[i].image);
    SET(body->used, body->used + count);
    SET(list->live, list->live + count);
    for (unsigned i = 0; i < count && i < MPF_CONTAINER_FEW; i++)
        mpf_container_arrive(arena, list, mpf_place_value(i));
    mpf_container_commit(list);
    return true;
}

static void clear(struct mpf_arena *arena, struct mpf_container_shm *list) {
    mpf_container_change(list);
    mpf_container_send(arena, list, list->body, MPF_PLACE_BODY);
    SET(list->body, 0);
    SET(list->live, 0);
    mpf_container_commit(list);
}

struct splice {
    struct mpf_list_range range;
    bool removes;
    struct mpf_datum *values;
    size_t count;
    const uint64_t *version;
    uint64_t *had;
    struct mpf_ref body; /* supplied */
    uint64_t wanted;
};

/* 0, -EAGAIN (a body for `wanted` items is wanted), -EINVAL, -ESTALE. */
static int splice_inside(struct mpf_arena *arena, struct mpf_container_shm *list, struct splice *splice) {
    if (is_stale(list, splice->version))
        return -ESTALE;
    struct mpf_row_range range = mpf_row_cut(splice->range, list->live);
    *splice->had = range.count;
    if ((range.step != 1 || range.backwards) && !splice->removes && splice->count != range.count)
        return -EINVAL;
    if (range.count == 0 && splice->count == 0)
        return 0;
    if (range.count == list->live && splice->count == 0) {
        clear(arena, list);
        return 0;
    }
    if (range.count == 0 && range.first >= list->live && extend_in_place(arena, list, splice->values, splice->count))
        return 0;
    uint64_t total = list->live - range.count + splice->count;
    splice->wanted = total + (splice->count > range.count ? total / 2 + 8 : total / 8);
    if (!splice->body.off || ((struct mpf_body_shm *)mpf_at(arena, splice->body.off))->capacity < total)
        return -EAGAIN;
    mpf_row_remake(arena, list, &splice->body, &range, splice->values, splice->count);
    return 0;
}

int mpf_list_splice(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_list_range range, bool removes,
                    struct mpf_datum *values, size_t count, const uint64_t *version, uint64_t *had) {
    struct splice splice = {.range = range, .removes = removes, .values = values, .count = count, .version = version,
                            .had = had};
    int rc;
    do {
        mpf_container_enter(arena, list);
        rc = splice_inside(arena, list, &splice);
        mpf_container_leave(arena, list);
        if (rc != -EAGAIN)
            break;
        mpf_block_unref(&splice.body);
        rc = mpf_row_make(arena, splice.wanted, &splice.body);
    } while (rc == 0);
    mpf_block_unref(&splice.body);
    return rc;
}

/* ---- order ---- */

static void arrange_inside(struct mpf_arena *arena, struct mpf_container_shm *list, const uint64_t *order,
                           struct mpf_ref *ref) {
    struct mpf_body_shm *old = mpf_body_of(arena, list), *new = mpf_at(arena, ref->off);
    new->used = list->live;
    for (uint64_t i = 0; i < list->live; i++) {
        struct mpf_datum_shm *copy = mpf_row_item(new, i);
        *copy = *mpf_row_item(old, order ? order[i] : list->live - 1 - i);
        copy->word[0] &= ~MPF_DATUM_MARKS;
    }
    mpf_container_bring(list, ref, MPF_PLACE_BODY);
    mpf_container_change(list);
    mpf_body_switch(arena, list, MPF_BODY_BARE);
    mpf_container_commit(list);
}

int mpf_list_arrange(struct mpf_arena *arena, struct mpf_container_shm *list, const uint64_t *order, const uint64_t *version) {
    struct mpf_ref body = {0};
    uint64_t wanted = mpf_datum_load(&list->live);
    int rc = 0;
    for (bool done = false; !done && rc == 0;) {
        mpf_block_unref(&body);
        if ((rc = mpf_row_make(arena, wanted + wanted / 8, &body)) < 0)
            break;
        mpf_container_enter(arena, list);
        wanted = list->live;
        if (is_stale(list, version))
            rc = -ESTALE;
        done = ((struct mpf_body_shm *)mpf_at(arena, body.off))->capacity >= wanted;
        if (rc == 0 && done && wanted > 1)
            arrange_inside(arena, list, order, &body);
        mpf_container_leave(arena, list);
    }
    mpf_block_unref(&body);
    return rc;
}

/* ---- copies ---- */

int mpf_list_snapshot(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_list_range range,
                      struct mpf_snapshot *snapshot) {
    mpf_container_enter(arena, list);
    struct mpf_row_range cut = mpf_row_cut(range, list->live);
    struct mpf_body_shm *body = mpf_body_of(arena, list);
    int rc = mpf_snapshot_begin(snapshot, list, cut.count);
    for (uint64_t k = 0; rc == 0 && k < cut.count; k++) {
        uint64_t i = cut.first + cut.step * (cut.backwards ? cut.count - 1 - k : k);
        rc = mpf_snapshot_add(arena, snapshot, mpf_row_item(body, i), &snapshot->items[k].datum[0]);
        snapshot->count = k + 1;
    }
    mpf_container_leave(arena, list);
    if (rc < 0)
        mpf_snapshot_free(snapshot);
    return rc;
}
