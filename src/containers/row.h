/* The row of a list: its items in a body. For list.c and list_update.c. */
#ifndef MPF_CONTAINERS_ROW_H
#define MPF_CONTAINERS_ROW_H

#include "containers/list.h"

/* A range, cut to `live` items, in ascending order. */
struct mpf_row_range {
    uint64_t first, step, count;
    bool backwards; /* it was given in descending order */
};
struct mpf_row_range mpf_row_cut(struct mpf_list_range range, uint64_t live);
static inline bool mpf_row_selects(const struct mpf_row_range *range, uint64_t i) {
    return range->count && i >= range->first && (i - range->first) % range->step == 0 &&
           (i - range->first) / range->step < range->count;
}

static inline struct mpf_datum_shm *mpf_row_item(struct mpf_body_shm *body, uint64_t i) {
    return (struct mpf_datum_shm *)(body + 1) + body->start + i;
}

/* A body for that many items. Not in the section. 0, -ENOMEM. */
int mpf_row_make(struct mpf_arena *arena, uint64_t items, struct mpf_ref *body);

/* In the section: items of a list of `live`, without those in the range, which the values replace, go to a body of this process's
 * with room for them all, and it becomes the list's. Values are taken from what is stored. */
void mpf_row_remake(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_ref *body,
                    const struct mpf_row_range *range, struct mpf_datum *values, size_t count);

#endif
