/* Purpose: a list in shared memory: one item at a time. Many at a time: list_update.c.
 *
 * Layout: a block of type MPF_BLOCK_LIST with a struct mpf_container_shm; the body is a row (row.c).
 *
 * What each operation changes, in one step:
 *
 *   set              the item's words, outgoing (the old cell), incoming
 *   append           the item at `used`, of which nobody knows; then used, live, incoming
 *   insert, remove   at the ends: start or used, live; near them: the words of the few items behind, too;
 *                    elsewhere: a body that is made anew
 *
 * Invariants, callers, death of the caller: see container.c and row.c. */
#include "containers/list.h"

#include <errno.h>

#include "containers/row.h"
#include "platform/fault.h"

#define SET(field, value) mpf_container_set(arena, list, &(field), value)
#define SHIFT_MAX 6 /* items that are moved in place: three words each, which the log holds with room to spare */

void mpf_list_init(struct mpf_container_shm *list) { mpf_container_init(list); }

/* ---- reading ---- */

/* One look without the section: 0 or -ERANGE as at that instant, -EAGAIN: no instant, or not for a look. */
static int glimpse(struct mpf_arena *arena, const struct mpf_container_shm *list, int64_t index, char *buffer,
                   struct mpf_fetched *value) {
    uint64_t version;
    if (!mpf_container_look(list, &version))
        return -EAGAIN;
    mpf_off body = mpf_datum_load(&list->body);
    int64_t live = (int64_t)mpf_datum_load(&list->live);
    if (!mpf_container_unchanged(list, version))
        return -EAGAIN;
    index += index < 0 ? live : 0;
    if (index < 0 || index >= live)
        return -ERANGE;
    const struct mpf_body_shm *row = mpf_at(arena, body);
    uint64_t at = mpf_datum_peek(&row->start) + (uint64_t)index;
    if (at >= (arena->size - body) / sizeof(struct mpf_datum_shm) - 4) /* the head is less than four items */
        return -EAGAIN;
    struct mpf_datum_shm datum = mpf_datum_read((const struct mpf_datum_shm *)(row + 1) + at);
    bool got = mpf_datum_glimpse(arena, &datum, buffer, value);
    return got && mpf_container_unchanged(list, version) ? 0 : -EAGAIN;
}

/* In the section: the item, or NULL. *index becomes its number. */
static struct mpf_datum_shm *find(struct mpf_arena *arena, const struct mpf_container_shm *list, int64_t *index) {
    int64_t live = (int64_t)list->live;
    *index += *index < 0 ? live : 0;
    if (*index < 0 || *index >= live)
        return NULL;
    return mpf_row_item(mpf_body_of(arena, list), (uint64_t)*index);
}

int mpf_list_get(struct mpf_arena *arena, struct mpf_container_shm *list, int64_t index, char *buffer,
                 struct mpf_fetched *value) {
    for (int i = 0; i < MPF_CONTAINER_GLIMPSES; i++) {
        int rc = glimpse(arena, list, index, buffer, value);
        if (rc != -EAGAIN)
            return rc;
    }
    mpf_container_enter(arena, list);
    const struct mpf_datum_shm *item = find(arena, list, &index);
    int rc = item ? mpf_datum_fetch(arena, item, buffer, value) : -ERANGE;
    mpf_container_leave(arena, list);
    return rc;
}

/* ---- writing, in the section ---- */

static void set_words(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_datum_shm *item,
                      const struct mpf_datum_shm *image) {
    for (int i = 0; i < MPF_DATUM_WORDS; i++)
        if (item->word[i] != image->word[i])
            SET(item->word[i], image->word[i]);
}

int mpf_list_set(struct mpf_arena *arena, struct mpf_container_shm *list, int64_t index, struct mpf_datum *value) {
    mpf_container_enter(arena, list);
    struct mpf_datum_shm *item = find(arena, list, &index);
    if (item) {
        mpf_container_bring(list, &value->cell, MPF_PLACE_VALUE);
        mpf_container_change(list);
        mpf_container_dismiss(arena, list, item, MPF_PLACE_VALUE);
        set_words(arena, list, item, &value->image);
        mpf_container_arrive(arena, list, MPF_PLACE_VALUE);
        mpf_container_commit(list);
    }
    mpf_container_leave(arena, list);
    return item ? 0 : -ERANGE;
}

/* Moves items [from, to) by one place, up or down. Places outside [start, used) are nobody's: they need no log. */
static void shift(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_body_shm *body, uint64_t from, uint64_t to,
                  bool up) {
    uint64_t live = list->live;
    for (uint64_t k = 0; k < to - from; k++) {
        uint64_t i = up ? to - 1 - k : from + k;
        struct mpf_datum_shm *place = up ? mpf_row_item(body, i) + 1 : mpf_row_item(body, i) - 1;
        if ((up && i + 1 == live) || (!up && i == 0))
            mpf_datum_write(place, mpf_row_item(body, i));
        else
            set_words(arena, list, place, mpf_row_item(body, i));
    }
}

static void insert_by(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_body_shm *body, uint64_t index,
                      struct mpf_datum *value, bool up) {
    mpf_container_bring(list, &value->cell, MPF_PLACE_VALUE);
    mpf_container_change(list);
    struct mpf_datum_shm *place;
    if (up) {
        shift(arena, list, body, index, list->live, true);
        place = mpf_row_item(body, index);
    } else {
        shift(arena, list, body, 0, index, false);
        place = mpf_row_item(body, index) - 1;
    }
    if ((up && index == list->live) || (!up && index == 0))
        mpf_datum_write(place, &value->image);
    else
        set_words(arena, list, place, &value->image);
    if (up)
        SET(body->used, body->used + 1);
    else
        SET(body->start, body->start - 1);
    SET(list->live, list->live + 1);
    mpf_container_arrive(arena, list, MPF_PLACE_VALUE);
    mpf_container_commit(list);
}

static bool insert_in_place(struct mpf_arena *arena, struct mpf_container_shm *list, uint64_t index, struct mpf_datum *value) {
    struct mpf_body_shm *body = mpf_body_of(arena, list);
    if (body && body->used < body->capacity && list->live - index <= SHIFT_MAX)
        insert_by(arena, list, body, index, value, true);
    else if (body && body->start > 0 && index <= SHIFT_MAX)
        insert_by(arena, list, body, index, value, false);
    else
        return false;
    return true;
}

/* Inserts in place; else into the body that was supplied, if it is large enough: 0, or -EAGAIN with *wanted. */
static int insert(struct mpf_arena *arena, struct mpf_container_shm *list, int64_t index, struct mpf_datum *value,
                  struct mpf_ref *supplied, uint64_t *wanted) {
    int64_t live = (int64_t)list->live;
    index += index < 0 ? live : 0;
    uint64_t at = index < 0 ? 0 : index > live ? list->live : (uint64_t)index;
    if (insert_in_place(arena, list, at, value))
        return 0;
    *wanted = list->live + list->live / 2 + 8;
    if (!supplied->off || ((struct mpf_body_shm *)mpf_at(arena, supplied->off))->capacity < list->live + 1)
        return -EAGAIN;
    const struct mpf_row_range range = {at, 1, 0, false};
    mpf_row_remake(arena, list, supplied, &range, value, 1);
    return 0;
}

int mpf_list_insert(struct mpf_arena *arena, struct mpf_container_shm *list, int64_t index, struct mpf_datum *value) {
    struct mpf_ref body = {0};
    uint64_t wanted = 0;
    int rc;
    do {
        mpf_container_enter(arena, list);
        rc = insert(arena, list, index, value, &body, &wanted);
        mpf_container_leave(arena, list);
        if (rc != -EAGAIN)
            break;
        mpf_block_unref(&body);
        rc = mpf_row_make(arena, wanted, &body);
    } while (rc == 0);
    mpf_block_unref(&body);
    return rc;
}

int mpf_list_append(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_datum *value) {
    return mpf_list_insert(arena, list, INT64_MAX, value);
}

static void remove_by(struct mpf_arena *arena, struct mpf_container_shm *list, struct mpf_body_shm *body, uint64_t index,
                      bool from_above) {
    mpf_container_change(list);
    mpf_container_dismiss(arena, list, mpf_row_item(body, index), MPF_PLACE_VALUE);
    if (from_above) {
        for (uint64_t i = index; i + 1 < list->live; i++)
            set_words(arena, list, mpf_row_item(body, i), mpf_row_item(body, i + 1));
        SET(body->used, body->used - 1);
    } else {
        for (uint64_t i = index; i > 0; i--)
            set_words(arena, list, mpf_row_item(body, i), mpf_row_item(body, i - 1));
        SET(body->start, body->start + 1);
    }
    SET(list->live, list->live - 1);
    mpf_container_commit(list);
}

/* 0, or -EAGAIN: a body for *wanted items is wanted. */
static int remove_item(struct mpf_arena *arena, struct mpf_container_shm *list, uint64_t index, struct mpf_ref *supplied,
                       uint64_t *wanted) {
    struct mpf_body_shm *body = mpf_body_of(arena, list);
    if (list->live - index <= SHIFT_MAX || index < SHIFT_MAX) {
        remove_by(arena, list, body, index, list->live - index <= SHIFT_MAX);
        return 0;
    }
    *wanted = list->live + list->live / 8;
    if (!supplied->off || ((struct mpf_body_shm *)mpf_at(arena, supplied->off))->capacity < list->live)
        return -EAGAIN;
    const struct mpf_row_range range = {index, 1, 1, false};
    mpf_row_remake(arena, list, supplied, &range, NULL, 0);
    return 0;
}

static int try_remove(struct mpf_arena *arena, struct mpf_container_shm *list, int64_t index, const uint64_t *version,
                      char *buffer, struct mpf_fetched *value, struct mpf_ref *supplied, uint64_t *wanted) {
    if (version && atomic_load_explicit(&list->version, memory_order_relaxed) != *version)
        return -ESTALE;
    const struct mpf_datum_shm *item = find(arena, list, &index);
    int rc = item ? 0 : -ERANGE;
    if (rc == 0 && value)
        rc = mpf_datum_fetch(arena, item, buffer, value);
    if (rc == 0)
        rc = remove_item(arena, list, (uint64_t)index, supplied, wanted);
    return rc;
}

int mpf_list_remove(struct mpf_arena *arena, struct mpf_container_shm *list, int64_t index, const uint64_t *version,
                    char *buffer, struct mpf_fetched *value) {
    struct mpf_ref body = {0};
    uint64_t wanted = 0;
    int rc;
    if (value)
        *value = (struct mpf_fetched){0};
    for (;;) {
        mpf_container_enter(arena, list);
        rc = try_remove(arena, list, index, version, buffer, value, &body, &wanted);
        mpf_container_leave(arena, list);
        if (rc < 0 && value)
            mpf_fetched_drop(value);
        if (rc != -EAGAIN)
            break;
        mpf_block_unref(&body);
        if ((rc = mpf_row_make(arena, wanted, &body)) < 0)
            break;
    }
    mpf_block_unref(&body);
    return rc;
}
