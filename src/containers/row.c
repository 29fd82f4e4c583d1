/* Purpose: the items of a list, and making them anew with some of them replaced.
 *
 * Layout of a body:
 *
 *   | head 64 | - - - | item 24 | item | ... | - - - |
 *                      ^ start                 ^ used     ^ capacity
 *
 * Invariants: all data in [start, used) are items, so that used - start is the list's `live`.
 *
 * Callers: in the list's section, but for mpf_row_make.
 *
 * Death of the caller: see container.c on bodies. */
#include "containers/row.h"

#include <errno.h>

#include "platform/fault.h"

struct mpf_row_range mpf_row_cut(struct mpf_list_range range, uint64_t live) {
    int64_t length = (int64_t)live, least = range.step < 0 ? -1 : 0, most = range.step < 0 ? length - 1 : length;
    int64_t *ends[] = {&range.start, &range.stop};
    for (int i = 0; i < 2; i++) {
        int64_t end = *ends[i];
        if (end < 0)
            end = end < -length ? least : end + length;
        *ends[i] = end > most ? most : end;
    }
    uint64_t count = 0, step = range.step < 0 ? -(uint64_t)range.step : (uint64_t)range.step;
    if (range.step > 0 && range.start < range.stop)
        count = ((uint64_t)(range.stop - range.start) - 1) / step + 1;
    if (range.step < 0 && range.stop < range.start)
        count = ((uint64_t)(range.start - range.stop) - 1) / step + 1;
    uint64_t first = (uint64_t)range.start;
    if (range.step < 0 && count)
        first = (uint64_t)range.start - (count - 1) * step;
    return (struct mpf_row_range){first, step, count, range.step < 0};
}

int mpf_row_make(struct mpf_arena *arena, uint64_t items, struct mpf_ref *body) {
    return mpf_body_make(arena, 1, 0, 0, items, body);
}

static void store_values(struct mpf_body_shm *body, uint64_t at, struct mpf_datum *values, size_t count) {
    for (size_t k = 0; k < count; k++)
        mpf_body_store(mpf_row_item(body, at + k), &values[k]);
}

/* Fills the new body from the old one. Whether the old one keeps something. */
static bool fill(struct mpf_body_shm *old, uint64_t live, struct mpf_body_shm *new, const struct mpf_row_range *range,
                 struct mpf_datum *values, size_t count) {
    bool one_by_one = count == range->count, keeps = false;
    uint64_t to = 0;
    for (uint64_t i = 0; i < live; i++) {
        struct mpf_datum_shm *item = mpf_row_item(old, i);
        uint64_t first = item->word[0] & ~MPF_DATUM_MARKS;
        bool goes = mpf_row_selects(range, i);
        if (mpf_datum_has_cell(first))
            mpf_datum_store(&item->word[0], goes ? first | MPF_DATUM_DOOMED : first);
        keeps |= goes && mpf_datum_has_cell(first);
        if (!one_by_one && i == range->first) {
            store_values(new, to, values, count);
            to += count;
        }
        if (goes && one_by_one) {
            uint64_t k = (i - range->first) / range->step;
            mpf_body_store(mpf_row_item(new, to++), &values[range->backwards ? count - 1 - k : k]);
        } else if (!goes) {
            struct mpf_datum_shm *copy = mpf_row_item(new, to++);
            *copy = *item;
            copy->word[0] = first;
        }
    }
    if (!one_by_one && range->first >= live)
        store_values(new, to, values, count);
    return keeps;
}

void mpf_row_remake(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_ref *ref,
                    const struct mpf_row_range *range, struct mpf_datum *values, size_t count) {
    struct mpf_body_shm *new = mpf_at(arena, ref->off);
    uint64_t total = list->live - range->count + count;
    /* What was inserted in front may be so again. */
    new->start = range->first == 0 && count > range->count && list->live ? (new->capacity - total) / 2 : 0;
    new->used = new->start + total;
    bool keeps = fill(mpf_body_of(arena, list), list->live, new, range, values, count);
    MPF_FAULT("list.filled");
    mpf_container_bring(list, ref, MPF_PLACE_BODY);
    mpf_container_change(list);
    mpf_body_switch(arena, list, keeps ? MPF_BODY_LEFT : MPF_BODY_BARE);
    mpf_container_set(arena, list, &list->live, total);
    mpf_container_commit(list);
    MPF_FAULT("list.remade");
}
