/* Purpose: the entries of a dict in order of insertion, and the index by hash.
 *
 * Layout of a body:
 *
 *   | head 64 | index: mask + 1 numbers of 4 bytes | entries: capacity times | hash 8 | serial 8 | key 24 | value 24 | |
 *   number: 0 never used, 1 the entry was removed, else entry + 2. The mask is a power of two less one.
 *
 * Invariants: index numbers that are not 0 are never more than the entries in use, capacity is at most two thirds of the
 * index: a search always ends at a 0. Serials grow along the entries.
 *
 * Callers: mpf_table_find also outside the section, on memory that may be anything by then: it stays within the table it was
 * given, and checks the offset of a long key.
 *
 * Death of the caller: nothing here changes what is in use. */
#include "containers/table.h"

#include <errno.h>
#include <string.h>

#define INDEX_LEAST 16u

MPF_DATUM_RACY static inline uint32_t load_mark(const uint32_t *mark) { return __atomic_load_n(mark, __ATOMIC_RELAXED); }

bool mpf_table_at_offset(struct mpf_arena *arena, mpf_off off, uint64_t shape, struct mpf_table *table) {
    *table = (struct mpf_table){.arena = arena};
    if (!off)
        return true;
    table->mask = (uint32_t)shape;
    table->capacity = shape >> 32;
    uint64_t bytes = sizeof(struct mpf_body_shm) + (table->mask + 1) * sizeof(uint32_t) +
                     table->capacity * sizeof(struct mpf_entry_shm);
    if (off % 8 || off > arena->size || bytes > arena->size - off)
        return false;
    table->body = mpf_at(arena, off);
    table->index = (uint32_t *)(table->body + 1);
    return true;
}

void mpf_table_of(struct mpf_arena *arena, const struct mpf_container_shm *dict, struct mpf_table *table) {
    (void)mpf_table_at_offset(arena, dict->body, dict->shape, table);
}

/* ---- keys ---- */

static inline uint64_t mix(uint64_t a, uint64_t b) {
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_bytes(const char *data, size_t bytes, uint64_t seed) {
    const uint64_t odd = UINT64_C(0x9E3779B97F4A7C15), other = UINT64_C(0xD1B54A32D192ED03);
    uint64_t hash = seed ^ (bytes * odd), word;
    for (; bytes > 8; bytes -= 8, data += 8) {
        memcpy(&word, data, 8);
        hash = mix(hash ^ word ^ other, odd);
    }
    word = 0;
    memcpy(&word, data, bytes);
    return mix(hash ^ word, other | 1) ^ hash;
}

void mpf_dict_key_seal(const struct mpf_arena *arena, struct mpf_dict_key *key) {
    uint64_t seed;
    memcpy(&seed, arena->id, sizeof seed);
    key->hash = hash_bytes(key->data, key->canonical ? key->canonical : key->bytes, seed);
    if (key->bytes <= MPF_DATUM_INLINE_MAX)
        mpf_datum_set_inline(&key->image, key->data, key->bytes, key->canonical);
    else
        key->image = (struct mpf_datum_shm){{MPF_DATUM_NONE, 0, 0}};
}

int mpf_table_key_datum(struct mpf_arena *arena, const struct mpf_dict_key *key, struct mpf_datum *datum) {
    struct mpf_datum_source source = {.data = key->data, .bytes = key->bytes, .canonical = key->canonical,
                                      .links = key->links, .link_count = key->link_count};
    return mpf_datum_make(arena, &source, datum);
}

static bool same_cell(struct mpf_arena *arena, mpf_off off, const struct mpf_dict_key *key) {
    if (off % 8 || off > arena->size || key->canonical + 8 > arena->size - off - sizeof(struct mpf_cell_shm))
        return false;
    const struct mpf_cell_shm *cell = mpf_at(arena, off);
    if (mpf_datum_peek(&cell->canonical) != key->canonical || mpf_datum_peek(&cell->links) != 0)
        return false;
    const uint64_t *theirs = (const uint64_t *)(cell + 1);
    const char *ours = key->data;
    for (size_t left = key->canonical; left > 0; theirs++) {
        uint64_t a = mpf_datum_peek(theirs), b = 0;
        size_t n = left < 8 ? left : 8;
        memcpy(&b, ours, n);
        if (n < 8)
            a &= (UINT64_C(1) << 8 * n) - 1; /* numbers are little endian on every machine that this runs on */
        if (a != b)
            return false;
        ours += n;
        left -= n;
    }
    return true;
}

static inline bool same_key(const struct mpf_table *table, const struct mpf_entry_shm *entry, const struct mpf_dict_key *key) {
    if (mpf_datum_peek(&entry->hash) != key->hash)
        return false;
    struct mpf_datum_shm datum = mpf_datum_read(&entry->key);
    uint64_t first = datum.word[0] & ~MPF_DATUM_MARKS;
    if (first == key->image.word[0] && datum.word[1] == key->image.word[1] && datum.word[2] == key->image.word[2])
        return key->canonical != 0 && mpf_datum_kind(first) == MPF_DATUM_INLINE;
    if (mpf_datum_kind(first) == MPF_DATUM_INLINE)
        return key->canonical != 0 && key->canonical <= MPF_DATUM_INLINE_MAX &&
               mpf_datum_canonical(first) == key->canonical &&
               memcmp(mpf_datum_inline(&datum), key->data, key->canonical) == 0;
    return mpf_datum_kind(first) == MPF_DATUM_CELL && key->canonical != 0 && same_cell(table->arena, datum.word[1], key);
}

/* ---- searching ---- */

struct mpf_entry_shm *mpf_table_find(const struct mpf_table *table, const struct mpf_dict_key *key, uint64_t *slot) {
    if (!table->body)
        return NULL;
    uint64_t at = key->hash & table->mask;
    for (uint64_t tries = 0; tries <= table->mask; tries++, at = (at + 1) & table->mask) {
        uint32_t mark = load_mark(&table->index[at]);
        if (mark == 0)
            return NULL;
        if (mark == 1 || mark - 2 >= table->capacity)
            continue;
        struct mpf_entry_shm *entry = mpf_table_entry(table, mark - 2);
        if (same_key(table, entry, key)) {
            *slot = at;
            return entry;
        }
    }
    return NULL;
}

struct mpf_entry_shm *mpf_table_locate(const struct mpf_table *table, uint64_t serial) {
    uint64_t low = 0, high = table->body ? table->body->used : 0;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct mpf_entry_shm *entry = mpf_table_entry(table, middle);
        if (entry->serial == serial)
            return mpf_datum_kind(entry->key.word[0]) == MPF_DATUM_NONE ? NULL : entry;
        if (entry->serial < serial)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

uint64_t mpf_table_slot_of(const struct mpf_table *table, const struct mpf_entry_shm *entry) {
    uint32_t mark = mpf_table_mark((uint64_t)(entry - mpf_table_entry(table, 0)));
    uint64_t at = entry->hash & table->mask;
    while (table->index[at] != mark)
        at = (at + 1) & table->mask;
    return at;
}

uint64_t mpf_table_vacancy(const struct mpf_table *table, uint64_t hash) {
    uint64_t at = hash & table->mask;
    while (table->index[at] > 1)
        at = (at + 1) & table->mask;
    return at;
}

int mpf_table_search(const struct mpf_container_shm *dict, const struct mpf_table *table, const struct mpf_dict_key *key,
                     struct mpf_entry_shm **entry) {
    uint64_t slot;
    if (!key->resolved) {
        *entry = key->canonical ? mpf_table_find(table, key, &slot) : NULL;
        return *entry || !(key->foreign || dict->foreign) ? 0 : -EXDEV;
    }
    *entry = key->serial ? mpf_table_locate(table, key->serial) : NULL;
    return *entry || dict->serial == key->as_of ? 0 : -ESTALE;
}

/* ---- making ---- */

int mpf_table_make(struct mpf_arena *arena, uint64_t entries, struct mpf_ref *body, uint64_t *shape) {
    uint64_t index = INDEX_LEAST;
    while (index / 3 * 2 < entries)
        index *= 2;
    /* An index filled to a third at least leaves the rest of the room to be asked for later. */
    uint64_t capacity = index == INDEX_LEAST ? index / 3 * 2 : entries;
    if (index > UINT32_C(1) << 31)
        return -ENOMEM;
    int rc = mpf_body_make(arena, 2, MPF_ENTRY_HEAD, index * sizeof(uint32_t), capacity, body);
    *shape = mpf_table_shape(index - 1, capacity);
    return rc;
}

static void enter_in_index(const struct mpf_table *table, const struct mpf_entry_shm *entry) {
    table->index[mpf_table_vacancy(table, entry->hash)] = mpf_table_mark((uint64_t)(entry - mpf_table_entry(table, 0)));
}

void mpf_table_copy(const struct mpf_table *from, const struct mpf_table *to) {
    uint64_t used = 0;
    for (uint64_t i = 0; from->body && i < from->body->used; i++) {
        const struct mpf_entry_shm *entry = mpf_table_entry(from, i);
        if (mpf_datum_kind(entry->key.word[0]) == MPF_DATUM_NONE)
            continue;
        struct mpf_entry_shm *copy = mpf_table_entry(to, used++);
        *copy = *entry;
        copy->key.word[0] &= ~MPF_DATUM_MARKS;
        copy->value.word[0] &= ~MPF_DATUM_MARKS;
        enter_in_index(to, copy);
    }
    to->body->used = to->body->last = used;
}

void mpf_table_add(const struct mpf_table *table, uint64_t hash, uint64_t serial, struct mpf_datum *key, struct mpf_datum *value) {
    struct mpf_entry_shm *entry = mpf_table_entry(table, table->body->used);
    entry->hash = hash;
    entry->serial = serial;
    table->body->used++; /* before it holds anything: what is not marked is not owned */
    table->body->last = table->body->used;
    mpf_body_store(&entry->key, key);
    mpf_body_store(&entry->value, value);
    enter_in_index(table, entry);
}
