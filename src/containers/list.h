/* A sequence on encoded values. */
#ifndef MPF_CONTAINERS_LIST_H
#define MPF_CONTAINERS_LIST_H

#include "containers/container.h"

/* As in a slice: negative numbers count from the end, everything is cut to what there is. step is not 0. */
struct mpf_list_range {
    int64_t start, stop, step;
};
#define MPF_LIST_ALL ((struct mpf_list_range){0, INT64_MAX, 1})
#define MPF_LIST_END ((struct mpf_list_range){INT64_MAX, INT64_MAX, 1})

void mpf_list_init(struct mpf_container_shm *list);

/* Indices may be negative. -ERANGE: there is no such item. What is stored of a datum is the list's; the rest is still to be
 * dropped. Buffers: MPF_DATUM_COPY_MAX bytes. All of them may answer -ENOMEM, with nothing changed. */
int mpf_list_get(struct mpf_arena *arena, struct mpf_container_shm *list, int64_t index, char *buffer,
                 struct mpf_fetched *value);
int mpf_list_set(struct mpf_arena *arena, struct mpf_container_shm *list, int64_t index, struct mpf_datum *value);
/* The index is cut to what there is, as in list.insert. */
int mpf_list_insert(struct mpf_arena *arena, struct mpf_container_shm *list, int64_t index, struct mpf_datum *value);
int mpf_list_append(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_datum *value);
/* value may be NULL. version, where given: -ESTALE if the list has changed since. */
int mpf_list_remove(struct mpf_arena *arena, struct mpf_container_shm *list, int64_t index, const uint64_t *version,
                    char *buffer, struct mpf_fetched *value);

/* Puts the values in the place of what the range names, in one step. 0, -ENOMEM, -EINVAL (a range with a step takes as many
 * values as it has, or, to remove them, none: *had is how many it has), -ESTALE (the list has changed since `version`). */
int mpf_list_splice(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_list_range range, bool removes,
                    struct mpf_datum *values, size_t count, const uint64_t *version, uint64_t *had);

/* Puts item order[i] at i; each of the `count` items is named once. NULL: in reverse order. 0, -ENOMEM, -ESTALE. */
int mpf_list_arrange(struct mpf_arena *arena, struct mpf_container_shm *list, const uint64_t *order, const uint64_t *version);

/* data[0] of each item. 0, -ENOMEM. */
int mpf_list_snapshot(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_list_range range,
                      struct mpf_snapshot *snapshot);

#endif
