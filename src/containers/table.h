/* The table of a dict: its entries, and the index that finds them. For dict.c and dict_update.c. */
#ifndef MPF_CONTAINERS_TABLE_H
#define MPF_CONTAINERS_TABLE_H

#include "containers/dict.h"

#define MPF_ENTRY_HEAD 16u

struct mpf_entry_shm {
    uint64_t hash;
    uint64_t serial;
    struct mpf_datum_shm key; /* kind MPF_DATUM_NONE: removed */
    struct mpf_datum_shm value;
};

/* Where the body is and how large, as one reader or writer sees it. */
struct mpf_table {
    struct mpf_arena *arena;
    struct mpf_body_shm *body; /* NULL: no entry was ever made */
    uint32_t *index;
    uint64_t mask;
    uint64_t capacity;
};

static inline uint64_t mpf_table_shape(uint64_t mask, uint64_t capacity) { return mask | capacity << 32; }

/* body and shape as read from the container. false: they cannot belong together, something was changed meanwhile. */
bool mpf_table_at_offset(struct mpf_arena *arena, mpf_off body, uint64_t shape, struct mpf_table *table);

static inline struct mpf_entry_shm *mpf_table_entry(const struct mpf_table *table, uint64_t i) {
    return (struct mpf_entry_shm *)((char *)(table->index + table->mask + 1)) + i;
}

/* The entry with that key, or NULL; *slot is its place in the index. May run while others write. */
struct mpf_entry_shm *mpf_table_find(const struct mpf_table *table, const struct mpf_dict_key *key, uint64_t *slot);

/* In the section: the live entry with that serial, or NULL. */
struct mpf_entry_shm *mpf_table_locate(const struct mpf_table *table, uint64_t serial);
/* In the section: the place in the index of an entry. */
uint64_t mpf_table_slot_of(const struct mpf_table *table, const struct mpf_entry_shm *entry);

/* In the section: where in the index an entry with this hash goes. */
uint64_t mpf_table_vacancy(const struct mpf_table *table, uint64_t hash);
static inline uint32_t mpf_table_mark(uint64_t i) { return (uint32_t)i + 2; } /* 0: never used, 1: removed */

/* A body for at least `entries`. Not in the section. 0, -ENOMEM. */
int mpf_table_make(struct mpf_arena *arena, uint64_t entries, struct mpf_ref *body, uint64_t *shape);

/* In the section: the live entries of one table to an empty one of this process's. */
void mpf_table_copy(const struct mpf_table *from, const struct mpf_table *to);

/* In the section: adds an entry to a table that is being made. */
void mpf_table_add(const struct mpf_table *table, uint64_t hash, uint64_t serial, struct mpf_datum *key, struct mpf_datum *value);

/* In the section: what stands for a key is in the table: its entry, NULL, or -EXDEV, -ESTALE (see dict.h). */
int mpf_table_search(const struct mpf_container_shm *dict, const struct mpf_table *table, const struct mpf_dict_key *key,
                     struct mpf_entry_shm **entry);

/* In the section. */
void mpf_table_of(struct mpf_arena *arena, const struct mpf_container_shm *dict, struct mpf_table *table);

/* Outside: the datum of a key. 0, -ENOMEM. */
int mpf_table_key_datum(struct mpf_arena *arena, const struct mpf_dict_key *key, struct mpf_datum *datum);

#endif
