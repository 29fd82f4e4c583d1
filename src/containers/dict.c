/* Purpose: a dict in shared memory: one entry at a time. Many at a time: dict_update.c.
 *
 * Layout: a block of type MPF_BLOCK_DICT with a struct mpf_container_shm; the body is a table (table.c).
 *
 * Invariants: entries [0, used) of the body are in use or removed; `last` is above the last live one. `live` and `foreign`
 * count live entries.
 *
 * What each operation changes, in one step:
 *
 *   set, key there     the value's words, outgoing (the old cell), incoming
 *   set, new key       entry `used`, of which nobody knows; then index, used, last, live, serial, foreign, incoming
 *   remove             index, kinds of key and value, live, foreign, outgoing
 *   clear              body, shape, live, foreign, outgoing (the body, which keeps what is in it until it is dropped)
 *   grow               body, shape, state of the old and new body, incoming, outgoing
 *
 * Callers, death of the caller: see container.c. Growing is a step of its own before the one that needs it. */
#include "containers/dict.h"

#include <errno.h>
#include <string.h>

#include "containers/table.h"
#include "platform/fault.h"

#define SET(field, value) mpf_container_set(arena, dict, &(field), value)

void mpf_dict_init(struct mpf_container_shm *dict) { mpf_container_init(dict); }

/* ---- reading ---- */

/* One look without the section: 0 or -ENOENT as at that instant, -EAGAIN: no instant, or not for a look. */
static int glimpse(struct mpf_arena *arena, const struct mpf_container_shm *dict, const struct mpf_dict_key *key, char *buffer,
                   struct mpf_fetched *value) {
    uint64_t version, slot;
    struct mpf_table table;
    if (!mpf_container_look(dict, &version))
        return -EAGAIN;
    mpf_off body = mpf_datum_load(&dict->body);
    uint64_t shape = mpf_datum_load(&dict->shape), foreign = mpf_datum_load(&dict->foreign);
    if (!mpf_container_unchanged(dict, version) || !mpf_table_at_offset(arena, body, shape, &table))
        return -EAGAIN;
    const struct mpf_entry_shm *entry = mpf_table_find(&table, key, &slot);
    int rc = entry ? 0 : foreign ? -EXDEV : -ENOENT;
    if (entry && buffer) {
        struct mpf_datum_shm datum = mpf_datum_read(&entry->value);
        if (!mpf_datum_glimpse(arena, &datum, buffer, value))
            rc = -EAGAIN;
    }
    return mpf_container_unchanged(dict, version) ? rc : -EAGAIN;
}

/* In the section. */
static int search(struct mpf_arena *arena, const struct mpf_container_shm *dict, const struct mpf_dict_key *key,
                  struct mpf_table *table, struct mpf_entry_shm **entry) {
    mpf_table_of(arena, dict, table);
    return mpf_table_search(dict, table, key, entry);
}

static int get_inside(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key, char *buffer,
                      struct mpf_fetched *value) {
    struct mpf_table table;
    struct mpf_entry_shm *entry;
    mpf_container_enter(arena, dict);
    int rc = search(arena, dict, key, &table, &entry);
    if (rc == 0 && !entry)
        rc = -ENOENT;
    if (rc == 0 && buffer)
        rc = mpf_datum_fetch(arena, &entry->value, buffer, value);
    mpf_container_leave(arena, dict);
    return rc;
}

static int look_up(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key, char *buffer,
                   struct mpf_fetched *value) {
    if (key->canonical && !key->resolved)
        for (int i = 0; i < MPF_CONTAINER_GLIMPSES; i++) {
            int rc = glimpse(arena, dict, key, buffer, value);
            if (rc != -EAGAIN)
                return rc;
        }
    return get_inside(arena, dict, key, buffer, value);
}

int mpf_dict_get(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key, char *buffer,
                 struct mpf_fetched *value) {
    return look_up(arena, dict, key, buffer, value);
}

int mpf_dict_find(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key) {
    return look_up(arena, dict, key, NULL, NULL);
}

/* ---- writing, in the section ---- */

/* What the section cannot get by itself: made outside, on demand. */
struct supplies {
    struct mpf_ref body;
    uint64_t shape;
    struct mpf_datum key;
    bool has_key;
    uint64_t wanted; /* entries that the body must have room for; 0: no body is wanted */
};

/* Moves all live entries to the body that was supplied. */
static void grow(struct mpf_arena *arena, struct mpf_container_shm *dict, struct supplies *supplies) {
    struct mpf_table old, new;
    mpf_table_of(arena, dict, &old);
    (void)mpf_table_at_offset(arena, supplies->body.off, supplies->shape, &new);
    mpf_table_copy(&old, &new);
    MPF_FAULT("dict.copied");
    mpf_container_bring(dict, &supplies->body, MPF_PLACE_BODY);
    mpf_container_change(dict);
    mpf_body_switch(arena, dict, MPF_BODY_BARE);
    SET(dict->shape, supplies->shape);
    mpf_container_commit(dict);
    MPF_FAULT("dict.grown");
}

/* Room for one more entry: 0, or -EAGAIN with what is wanted. */
static int make_room(struct mpf_arena *arena, struct mpf_container_shm *dict, struct supplies *supplies) {
    struct mpf_body_shm *body = mpf_body_of(arena, dict);
    if (body && body->used < body->capacity)
        return 0;
    supplies->wanted = dict->live + dict->live / 2 + 8;
    if (!supplies->body.off || supplies->shape >> 32 < dict->live + 1)
        return -EAGAIN;
    grow(arena, dict, supplies);
    supplies->wanted = 0;
    return 0;
}

static void replace(struct mpf_arena *arena, struct mpf_container_shm *dict, struct mpf_entry_shm *entry, struct mpf_datum *value) {
    mpf_container_bring(dict, &value->cell, MPF_PLACE_VALUE);
    mpf_container_change(dict);
    mpf_container_dismiss(arena, dict, &entry->value, MPF_PLACE_VALUE);
    for (int i = 0; i < MPF_DATUM_WORDS; i++)
        if (entry->value.word[i] != value->image.word[i])
            SET(entry->value.word[i], value->image.word[i]);
    mpf_container_arrive(arena, dict, MPF_PLACE_VALUE);
    mpf_container_commit(dict);
}

static void insert(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key,
                   struct mpf_datum *key_datum, struct mpf_datum *value) {
    struct mpf_table table;
    mpf_table_of(arena, dict, &table);
    uint64_t i = table.body->used;
    struct mpf_entry_shm *entry = mpf_table_entry(&table, i);
    uint32_t *mark = &table.index[mpf_table_vacancy(&table, key->hash)];
    mpf_container_bring(dict, &key_datum->cell, MPF_PLACE_KEY);
    mpf_container_bring(dict, &value->cell, MPF_PLACE_VALUE);
    mpf_container_change(dict);
    mpf_datum_store(&entry->hash, key->hash); /* not in use yet: needs no log */
    mpf_datum_store(&entry->serial, dict->serial + 1);
    mpf_datum_write(&entry->key, &key_datum->image);
    mpf_datum_write(&entry->value, &value->image);
    mpf_section_set32(arena, &dict->section, mark, mpf_table_mark(i));
    SET(table.body->used, i + 1);
    SET(table.body->last, i + 1);
    SET(dict->live, dict->live + 1);
    SET(dict->serial, dict->serial + 1);
    if (key->foreign)
        SET(dict->foreign, dict->foreign + 1);
    mpf_container_arrive(arena, dict, MPF_PLACE_KEY);
    mpf_container_arrive(arena, dict, MPF_PLACE_VALUE);
    mpf_container_commit(dict);
}

/* Everything that goes into the entry is at hand: 0; else -EAGAIN with what is wanted. */
static int insert_if_supplied(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key,
                              struct mpf_datum *value, struct supplies *supplies) {
    struct mpf_datum in_place = {.image = key->image};
    bool needs_cell = key->bytes > MPF_DATUM_INLINE_MAX || key->link_count;
    if (needs_cell && !supplies->has_key)
        return -EAGAIN;
    if (make_room(arena, dict, supplies) < 0)
        return -EAGAIN;
    insert(arena, dict, key, needs_cell ? &supplies->key : &in_place, value);
    return 0;
}

/* Outside: what the last attempt lacked. */
static int supply(struct mpf_arena *arena, const struct mpf_dict_key *key, struct supplies *supplies) {
    int rc = 0;
    if (!supplies->has_key && (key->bytes > MPF_DATUM_INLINE_MAX || key->link_count)) {
        rc = mpf_table_key_datum(arena, key, &supplies->key);
        supplies->has_key = rc == 0;
    }
    if (rc == 0 && supplies->wanted) {
        mpf_block_unref(&supplies->body);
        rc = mpf_table_make(arena, supplies->wanted, &supplies->body, &supplies->shape);
    }
    return rc;
}

static void drop_supplies(struct supplies *supplies) {
    mpf_block_unref(&supplies->body);
    mpf_datum_drop(&supplies->key);
}

/* ---- writing ---- */

int mpf_dict_set(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key,
                 struct mpf_datum *value) {
    struct supplies supplies = {0};
    struct mpf_table table;
    struct mpf_entry_shm *entry;
    int rc;
    do {
        mpf_container_enter(arena, dict);
        rc = search(arena, dict, key, &table, &entry);
        if (rc == 0 && entry)
            replace(arena, dict, entry, value);
        else if (rc == 0)
            rc = insert_if_supplied(arena, dict, key, value, &supplies);
        mpf_container_leave(arena, dict);
    } while (rc == -EAGAIN && (rc = supply(arena, key, &supplies)) == 0);
    drop_supplies(&supplies);
    return rc;
}

int mpf_dict_set_default(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key,
                         struct mpf_datum *value, char *buffer, struct mpf_fetched *present) {
    struct supplies supplies = {0};
    struct mpf_table table;
    struct mpf_entry_shm *entry;
    int rc;
    do {
        mpf_container_enter(arena, dict);
        rc = search(arena, dict, key, &table, &entry);
        if (rc == 0 && entry) {
            rc = mpf_datum_fetch(arena, &entry->value, buffer, present);
            rc = rc == 0 ? 1 : rc;
        } else if (rc == 0) {
            rc = insert_if_supplied(arena, dict, key, value, &supplies);
        }
        mpf_container_leave(arena, dict);
    } while (rc == -EAGAIN && (rc = supply(arena, key, &supplies)) == 0);
    drop_supplies(&supplies);
    return rc;
}

static void remove_entry(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_table *table,
                         struct mpf_entry_shm *entry, bool foreign) {
    uint32_t *mark = &table->index[mpf_table_slot_of(table, entry)];
    mpf_container_change(dict);
    mpf_container_dismiss(arena, dict, &entry->key, MPF_PLACE_KEY);
    mpf_container_dismiss(arena, dict, &entry->value, MPF_PLACE_VALUE);
    mpf_section_set32(arena, &dict->section, mark, 1);
    SET(entry->key.word[0], MPF_DATUM_NONE);
    SET(entry->value.word[0], MPF_DATUM_NONE);
    SET(dict->live, dict->live - 1);
    if (foreign)
        SET(dict->foreign, dict->foreign - 1);
    mpf_container_commit(dict);
}

static bool is_foreign(struct mpf_arena *arena, const struct mpf_entry_shm *entry) {
    if (!mpf_datum_has_cell(entry->key.word[0]))
        return mpf_datum_canonical(entry->key.word[0]) == 0;
    return ((const struct mpf_cell_shm *)mpf_at(arena, entry->key.word[1]))->canonical == 0;
}

int mpf_dict_remove(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key, char *buffer,
                    struct mpf_fetched *value) {
    struct mpf_table table;
    struct mpf_entry_shm *entry;
    mpf_container_enter(arena, dict);
    int rc = search(arena, dict, key, &table, &entry);
    if (rc == 0 && !entry)
        rc = -ENOENT;
    if (rc == 0 && value)
        rc = mpf_datum_fetch(arena, &entry->value, buffer, value);
    if (rc == 0)
        remove_entry(arena, dict, &table, entry, is_foreign(arena, entry));
    mpf_container_leave(arena, dict);
    return rc;
}

/* The last live entry, or NULL; looks no further up than the one before did. */
static struct mpf_entry_shm *last_entry(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_table *table) {
    uint64_t last = table->body ? table->body->last : 0;
    while (last > 0 && mpf_datum_kind(mpf_table_entry(table, last - 1)->key.word[0]) == MPF_DATUM_NONE)
        last--;
    if (table->body && last != table->body->last) {
        mpf_container_change(dict);
        SET(table->body->last, last);
        mpf_container_commit(dict);
    }
    return last > 0 ? mpf_table_entry(table, last - 1) : NULL;
}

int mpf_dict_remove_last(struct mpf_arena *arena, struct mpf_container_shm *dict, char *key_buffer, struct mpf_fetched *key,
                         char *value_buffer, struct mpf_fetched *value) {
    struct mpf_table table;
    *key = *value = (struct mpf_fetched){0};
    mpf_container_enter(arena, dict);
    mpf_table_of(arena, dict, &table);
    struct mpf_entry_shm *entry = last_entry(arena, dict, &table);
    int rc = entry ? mpf_datum_fetch(arena, &entry->key, key_buffer, key) : -ENOENT;
    if (rc == 0)
        rc = mpf_datum_fetch(arena, &entry->value, value_buffer, value);
    if (rc == 0)
        remove_entry(arena, dict, &table, entry, is_foreign(arena, entry));
    mpf_container_leave(arena, dict);
    if (rc < 0)
        mpf_fetched_drop(key);
    return rc;
}

void mpf_dict_clear(struct mpf_arena *arena, struct mpf_container_shm *dict) {
    mpf_container_enter(arena, dict);
    if (dict->body) {
        mpf_container_change(dict);
        mpf_container_send(arena, dict, dict->body, MPF_PLACE_BODY);
        SET(dict->body, 0);
        SET(dict->shape, 0);
        SET(dict->live, 0);
        SET(dict->foreign, 0);
        mpf_container_commit(dict);
    }
    mpf_container_leave(arena, dict);
}
