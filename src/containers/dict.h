/* A hash table with insertion order, on encoded keys and values. Keys are equal if their canonical bytes are; keys without
 * canonical bytes are `foreign`: only the caller can compare them, and says which entry it means. */
#ifndef MPF_CONTAINERS_DICT_H
#define MPF_CONTAINERS_DICT_H

#include "containers/container.h"

/* As prepared by the caller. */
struct mpf_dict_key {
    const void *data; /* canonical bytes, then whatever else is needed to have the key back as it was written */
    size_t bytes;
    size_t canonical; /* 0: foreign */
    uint64_t hash;    /* of the canonical bytes: the same in every process */
    struct mpf_datum_shm image; /* of a key of up to MPF_DATUM_INLINE_MAX bytes */
    bool foreign;
    bool resolved;    /* the caller has compared it with every key up to number `as_of` */
    uint64_t serial;  /* of the entry that it equals; 0: none */
    uint64_t as_of;
    struct mpf_ref *links; /* of a foreign key: what it refers to; moved when it is stored */
    unsigned link_count;
};

/* All of these: -EXDEV: only the caller can tell whether the key is there: it resolves the key and calls again;
 * -ESTALE: entries were made since then: it resolves it again. */

/* Fills image and hash from the rest. */
void mpf_dict_key_seal(const struct mpf_arena *arena, struct mpf_dict_key *key);

void mpf_dict_init(struct mpf_container_shm *dict);

/* buffer: MPF_DATUM_COPY_MAX bytes. 0, -ENOENT, -ENOMEM (no room to hold a long value). */
int mpf_dict_get(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key, char *buffer,
                 struct mpf_fetched *value);
/* 0, -ENOENT. */
int mpf_dict_find(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key);

/* What is stored of value is the dict's; the rest is still to be dropped. 0, -ENOMEM. */
int mpf_dict_set(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key,
                 struct mpf_datum *value);

/* 0: stored; 1: the key was there, `present` is its value; -ENOMEM. */
int mpf_dict_set_default(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key,
                         struct mpf_datum *value, char *buffer, struct mpf_fetched *present);

/* The value is fetched where `value` is given. 0, -ENOENT, -ENOMEM (nothing was removed). */
int mpf_dict_remove(struct mpf_arena *arena, struct mpf_container_shm *dict, const struct mpf_dict_key *key, char *buffer,
                    struct mpf_fetched *value);

/* The entry that was made last. Buffers: MPF_DATUM_COPY_MAX bytes each. 0, -ENOENT (empty), -ENOMEM. */
int mpf_dict_remove_last(struct mpf_arena *arena, struct mpf_container_shm *dict, char *key_buffer, struct mpf_fetched *key,
                         char *value_buffer, struct mpf_fetched *value);

void mpf_dict_clear(struct mpf_arena *arena, struct mpf_container_shm *dict);

/* One of many entries that are stored at once; keys are all different, key_datum is zero at first. */
struct mpf_dict_item {
    struct mpf_dict_key key;
    struct mpf_datum key_datum; /* to be dropped by the caller, as `value` */
    struct mpf_datum value;
    uint64_t serial; /* private */
};

/* Stores all of them in one step. 0, -ENOMEM. */
int mpf_dict_update(struct mpf_arena *arena, struct mpf_container_shm *dict, struct mpf_dict_item *items, size_t count);

/* The items become the contents if the dict's version is still the given one. 0, -ENOMEM, -ESTALE. */
int mpf_dict_assign(struct mpf_arena *arena, struct mpf_container_shm *dict, struct mpf_dict_item *items, size_t count,
                    uint64_t version);

enum { MPF_DICT_KEYS = 1, MPF_DICT_VALUES = 2 };

/* Entries with a serial above `after`, in order of insertion; data[0] of an item is the key, data[1] the value. 0, -ENOMEM. */
int mpf_dict_snapshot(struct mpf_arena *arena, struct mpf_container_shm *dict, unsigned what, uint64_t after,
                      struct mpf_snapshot *snapshot);

#endif
