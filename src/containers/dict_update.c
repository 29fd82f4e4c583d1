/* Purpose: many entries of a dict in one step: update, assignment of new contents; copies of all entries.
 *
 * Layout: see dict.c.
 *
 * An update of a few entries changes them in place. A larger one makes a second body with everything in it, and switches.
 * What it takes over from the old body it owns after the switch; values that it replaces are marked in the old one, which
 * keeps them until it is dropped.
 *
 * Invariants: until the switch nothing that others read has changed but marks, which mean nothing there.
 *
 * Callers: holding nothing.
 *
 * Death of the caller: before the switch the new body is dropped with what is marked NEW in it; after it the old one is
 * dropped with what is marked DOOMED. Marks that a dead one left are cleared by the next update before it makes its own. */
#include <errno.h>
#include <stdlib.h>

#include "containers/dict.h"
#include "containers/table.h"
#include "platform/fault.h"

#define SET(field, value) mpf_container_set(arena, dict, &(field), value)

/* ---- update ---- */

static int make_keys(struct mpf_arena *arena, struct mpf_dict_item *items, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct mpf_dict_key *key = &items[i].key;
        if (mpf_datum_kind(items[i].key_datum.image.word[0]) != MPF_DATUM_NONE)
            continue; /* made by a call that failed */
        if (key->bytes <= MPF_DATUM_INLINE_MAX && !key->link_count) {
            items[i].key_datum = (struct mpf_datum){.image = key->image};
            continue;
        }
        int rc = mpf_table_key_datum(arena, key, &items[i].key_datum);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Finds out which items replace a value. 0, -EXDEV, -ESTALE. */
static int match_items(const struct mpf_container_shm *dict, const struct mpf_table *old, struct mpf_dict_item *items,
                       size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct mpf_entry_shm *entry;
        int rc = mpf_table_search(dict, old, &items[i].key, &entry);
        if (rc < 0)
            return rc;
        items[i].serial = entry ? entry->serial : 0;
    }
    return 0;
}

static void clear_marks(const struct mpf_table *table) {
    for (uint64_t i = 0; table->body && i < table->body->used; i++) {
        struct mpf_entry_shm *entry = mpf_table_entry(table, i);
        if (mpf_datum_has_cell(entry->value.word[0]))
            mpf_datum_store(&entry->value.word[0], entry->value.word[0] & ~MPF_DATUM_MARKS);
        if (mpf_datum_has_cell(entry->key.word[0]))
            mpf_datum_store(&entry->key.word[0], entry->key.word[0] & ~MPF_DATUM_MARKS);
    }
}

/* The items go into the new table, which has all of the old one (or, where there is none, nothing). New entries: *added;
 * foreign ones among them: *foreign. */
static void store_items(const struct mpf_container_shm *dict, const struct mpf_table *old, const struct mpf_table *new,
                        struct mpf_dict_item *items, size_t count, uint64_t *added, uint64_t *foreign) {
    uint64_t serial = dict->serial;
    *added = *foreign = 0;
    for (size_t i = 0; i < count; i++) {
        struct mpf_dict_item *item = &items[i];
        if (!old || !item->serial) {
            mpf_table_add(new, item->key.hash, ++serial, &item->key_datum, &item->value);
            ++*added;
            *foreign += item->key.canonical == 0;
            continue;
        }
        uint64_t *doomed = &mpf_table_locate(old, item->serial)->value.word[0];
        if (mpf_datum_has_cell(*doomed))
            mpf_datum_store(doomed, *doomed | MPF_DATUM_DOOMED);
        mpf_body_store(&mpf_table_locate(new, item->serial)->value, &item->value);
    }
}

static void update_inside(struct mpf_arena *arena, struct mpf_container_shm *dict, struct mpf_dict_item *items, size_t count,
                          struct mpf_ref *body, uint64_t shape, bool keep) {
    struct mpf_table old, new;
    uint64_t added, foreign;
    mpf_table_of(arena, dict, &old);
    (void)mpf_table_at_offset(arena, body->off, shape, &new);
    if (keep) {
        clear_marks(&old);
        mpf_table_copy(&old, &new);
    }
    store_items(dict, keep ? &old : NULL, &new, items, count, &added, &foreign);
    MPF_FAULT("dict.update.filled");
    mpf_container_bring(dict, body, MPF_PLACE_BODY);
    mpf_container_change(dict);
    mpf_body_switch(arena, dict, keep ? MPF_BODY_LEFT : MPF_BODY_OWNER);
    SET(dict->shape, shape);
    SET(dict->live, keep ? dict->live + added : added);
    SET(dict->foreign, keep ? dict->foreign + foreign : foreign);
    SET(dict->serial, dict->serial + added);
    mpf_container_commit(dict);
    MPF_FAULT("dict.updated");
}

/* ---- a few entries, in place ---- */

static void replace_value(struct mpf_arena *arena, struct mpf_container_shm *dict, struct mpf_entry_shm *entry,
                          const struct mpf_datum *value, unsigned i) {
    mpf_container_dismiss(arena, dict, &entry->value, mpf_place_value(i));
    for (int k = 0; k < MPF_DATUM_WORDS; k++)
        if (entry->value.word[k] != value->image.word[k])
            SET(entry->value.word[k], value->image.word[k]);
}

/* At the end of the entries, of which nobody knows yet. */
static void add_entry(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_table *table,
                      const struct mpf_dict_item *item, uint64_t at, uint64_t serial) {
    struct mpf_entry_shm *entry = mpf_table_entry(table, at);
    mpf_datum_store(&entry->hash, item->key.hash);
    mpf_datum_store(&entry->serial, serial);
    mpf_datum_write(&entry->key, &item->key_datum.image);
    mpf_datum_write(&entry->value, &item->value.image);
    mpf_section_set32(arena, &dict->section, &table->index[mpf_table_vacancy(table, item->key.hash)], mpf_table_mark(at));
}

static void change_few(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_table *table,
                       struct mpf_dict_item *items, unsigned count) {
    uint64_t added = 0, foreign = 0, used = table->body->used;
    for (unsigned i = 0; i < count; i++) {
        if (!items[i].serial)
            mpf_container_bring(dict, &items[i].key_datum.cell, mpf_place_key(i));
        mpf_container_bring(dict, &items[i].value.cell, mpf_place_value(i));
    }
    mpf_container_change(dict);
    for (unsigned i = 0; i < count; i++) {
        if (items[i].serial) {
            replace_value(arena, dict, mpf_table_locate(table, items[i].serial), &items[i].value, i);
        } else {
            add_entry(arena, dict, table, &items[i], used + added, dict->serial + added + 1);
            foreign += items[i].key.canonical == 0;
            added++;
        }
        mpf_container_arrive(arena, dict, mpf_place_key(i));
        mpf_container_arrive(arena, dict, mpf_place_value(i));
    }
    if (added) {
        SET(table->body->used, used + added);
        SET(table->body->last, used + added);
        SET(dict->live, dict->live + added);
        SET(dict->serial, dict->serial + added);
        SET(dict->foreign, dict->foreign + foreign);
    }
    mpf_container_commit(dict);
}

/* 0: done. -EAGAIN: there are too many, or there is no room; or -EXDEV, -ESTALE. */
static int update_few(struct mpf_arena *arena, struct mpf_container_shm *dict, struct mpf_dict_item *items, size_t count) {
    struct mpf_table table;
    if (count > MPF_CONTAINER_FEW)
        return -EAGAIN;
    mpf_container_enter(arena, dict);
    mpf_table_of(arena, dict, &table);
    int rc = table.body && table.capacity - table.body->used >= count ? match_items(dict, &table, items, count) : -EAGAIN;
    if (rc == 0)
        change_few(arena, dict, &table, items, (unsigned)count);
    mpf_container_leave(arena, dict);
    return rc;
}

int mpf_dict_update(struct mpf_arena *arena, struct mpf_container_shm *dict, struct mpf_dict_item *items, size_t count) {
    struct mpf_ref body = {0};
    uint64_t shape = 0;
    if (count == 0)
        return 0;
    if (count == 1)
        return mpf_dict_set(arena, dict, &items[0].key, &items[0].value);
    int rc = make_keys(arena, items, count);
    if (rc == 0 && (rc = update_few(arena, dict, items, count)) != -EAGAIN)
        return rc;
    rc = rc == -EAGAIN ? 0 : rc;
    uint64_t wanted = mpf_datum_load(&dict->live) + count;
    while (rc == 0) {
        mpf_block_unref(&body);
        /* one entry after another wants room for later, all at once does not */
        uint64_t spare = count < wanted / 4 ? wanted / 2 : wanted / 8;
        if ((rc = mpf_table_make(arena, wanted + spare, &body, &shape)) < 0)
            break;
        struct mpf_table old;
        mpf_container_enter(arena, dict);
        mpf_table_of(arena, dict, &old);
        wanted = dict->live + count;
        bool fits = shape >> 32 >= wanted;
        rc = match_items(dict, &old, items, count);
        if (rc == 0 && fits)
            update_inside(arena, dict, items, count, &body, shape, true);
        mpf_container_leave(arena, dict);
        if (fits)
            break;
    }
    mpf_block_unref(&body);
    return rc;
}

int mpf_dict_assign(struct mpf_arena *arena, struct mpf_container_shm *dict, struct mpf_dict_item *items, size_t count,
                    uint64_t version) {
    struct mpf_ref body = {0};
    uint64_t shape = 0;
    int rc = make_keys(arena, items, count);
    if (rc == 0)
        rc = mpf_table_make(arena, count + count / 8, &body, &shape);
    if (rc == 0) {
        mpf_container_enter(arena, dict);
        if (atomic_load_explicit(&dict->version, memory_order_relaxed) != version)
            rc = -ESTALE;
        else
            update_inside(arena, dict, items, count, &body, shape, false);
        mpf_container_leave(arena, dict);
    }
    mpf_block_unref(&body);
    return rc;
}

/* ---- copies ---- */

/* The first entry with a higher serial. */
static uint64_t first_after(const struct mpf_table *table, uint64_t serial) {
    uint64_t low = 0, high = table->body ? table->body->used : 0;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (mpf_table_entry(table, middle)->serial <= serial)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int copy_entry(struct mpf_arena *arena, const struct mpf_entry_shm *entry, unsigned what, struct mpf_snapshot *snapshot) {
    struct mpf_snapshot_item *item = &snapshot->items[snapshot->count];
    *item = (struct mpf_snapshot_item){.serial = entry->serial};
    int rc = 0;
    if (what & MPF_DICT_KEYS)
        rc = mpf_snapshot_add(arena, snapshot, &entry->key, &item->datum[0]);
    if (rc == 0 && (what & MPF_DICT_VALUES))
        rc = mpf_snapshot_add(arena, snapshot, &entry->value, &item->datum[1]);
    if (rc == 0)
        snapshot->count++;
    return rc;
}

int mpf_dict_snapshot(struct mpf_arena *arena, struct mpf_container_shm *dict, unsigned what, uint64_t after,
                      struct mpf_snapshot *snapshot) {
    struct mpf_table table;
    mpf_container_enter(arena, dict);
    mpf_table_of(arena, dict, &table);
    uint64_t used = table.body ? table.body->used : 0, i = first_after(&table, after);
    int rc = mpf_snapshot_begin(snapshot, dict, used - i < dict->live ? used - i : dict->live);
    for (; rc == 0 && i < used; i++) {
        const struct mpf_entry_shm *entry = mpf_table_entry(&table, i);
        if (mpf_datum_kind(entry->key.word[0]) != MPF_DATUM_NONE)
            rc = copy_entry(arena, entry, what, snapshot);
    }
    mpf_container_leave(arena, dict);
    if (rc < 0)
        mpf_snapshot_free(snapshot);
    return rc;
}
