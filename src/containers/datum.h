/* A datum: the bytes of one key or one value. Short ones lie in place; longer ones, and those that refer to other shared
 * objects, have a block of their own, a cell. Layouts and ownership stand in datum.c. */
#ifndef MPF_CONTAINERS_DATUM_H
#define MPF_CONTAINERS_DATUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory/block.h"

#define MPF_DATUM_WORDS 3
#define MPF_DATUM_INLINE_MAX 20 /* bytes that fit in place */
#define MPF_DATUM_COPY_MAX 4096 /* longer cells are not copied but held */

enum mpf_datum_kind { MPF_DATUM_NONE, MPF_DATUM_INLINE, MPF_DATUM_CELL, MPF_DATUM_LINKED };

/* Marks of a body that is being made, or was left (body.c). No part of the value. */
#define MPF_DATUM_NEW UINT64_C(4)
#define MPF_DATUM_DOOMED UINT64_C(8)
#define MPF_DATUM_MARKS (MPF_DATUM_NEW | MPF_DATUM_DOOMED)

struct mpf_datum_shm {
    uint64_t word[MPF_DATUM_WORDS];
};

/* What a cell holds in front of its data. */
struct mpf_cell_shm {
    uint64_t bytes;
    uint64_t canonical; /* how many of them, from the first, two equal keys have in common */
    uint64_t links;
    uint64_t reserved;
    /* mpf_off link[links], each the owner of a block; data */
};

/* What a datum is made from: bytes at data, or, where data is NULL, what write(context, destination) stores. */
struct mpf_datum_source {
    const void *data;
    size_t bytes;
    size_t canonical;
    void (*write)(const void *context, void *destination);
    const void *context;
    struct mpf_ref *links; /* blocks that the value refers to: moved into the cell */
    unsigned link_count;
};

/* A datum that is ready to be stored: what it owns is this process's until then. */
struct mpf_datum {
    struct mpf_datum_shm image;
    struct mpf_ref cell;
};

/* A value that was fetched: `bytes` bytes at `data`, which is in the fetcher's buffer or in a cell that is held. */
struct mpf_fetched {
    const char *data;
    size_t bytes;
    size_t canonical; /* of a key: bytes before those that say how it was written; 0: equality is the program's matter */
    struct mpf_ref cell;
};

static inline enum mpf_datum_kind mpf_datum_kind(uint64_t first) { return (enum mpf_datum_kind)(first & 3); }
static inline size_t mpf_datum_bytes(uint64_t first) { return first >> 8 & 0xff; }
static inline size_t mpf_datum_canonical(uint64_t first) { return first >> 16 & 0xff; }
static inline bool mpf_datum_has_cell(uint64_t first) { return mpf_datum_kind(first) >= MPF_DATUM_CELL; }
static inline const char *mpf_datum_inline(const struct mpf_datum_shm *datum) { return (const char *)datum + 4; }
static inline const char *mpf_cell_data(const struct mpf_cell_shm *cell) {
    return (const char *)(cell + 1) + cell->links * sizeof(mpf_off);
}

/* Words are read and written one by one, some of them while others write: each whole, all in program order. */
static inline uint64_t mpf_datum_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static inline void mpf_datum_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }
/* A look without the section: the memory may be something else's by now, and be written without regard for us. What was read is
 * then thrown away, which ThreadSanitizer cannot know. */
#define MPF_DATUM_RACY __attribute__((no_sanitize("thread")))
MPF_DATUM_RACY static inline uint64_t mpf_datum_peek(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static inline struct mpf_datum_shm mpf_datum_read(const struct mpf_datum_shm *datum) {
    return (struct mpf_datum_shm){{mpf_datum_peek(&datum->word[0]), mpf_datum_peek(&datum->word[1]),
                                   mpf_datum_peek(&datum->word[2])}};
}
static inline void mpf_datum_write(struct mpf_datum_shm *datum, const struct mpf_datum_shm *image) {
    for (int i = 0; i < MPF_DATUM_WORDS; i++)
        mpf_datum_store(&datum->word[i], image->word[i]);
}

/* An inline datum of up to MPF_DATUM_INLINE_MAX bytes. */
void mpf_datum_set_inline(struct mpf_datum_shm *image, const void *data, size_t bytes, size_t canonical);

/* Makes a datum; not inside a section. 0, -ENOMEM (nothing is made; links are still the caller's). */
int mpf_datum_make(struct mpf_arena *arena, const struct mpf_datum_source *source, struct mpf_datum *datum);
/* Drops what a datum that was not stored owns. */
static inline void mpf_datum_drop(struct mpf_datum *datum) {
    if (datum->cell.off)
        mpf_block_unref(&datum->cell);
}

/* Holds the cell of a datum that is in a container whose section the caller is in. 0, -ENOMEM. */
int mpf_datum_hold(struct mpf_arena *arena, const struct mpf_datum_shm *image, struct mpf_ref *cell);
/* In the section as well: copies what is short into the buffer of MPF_DATUM_COPY_MAX bytes, holds the rest. 0, -ENOMEM. */
int mpf_datum_fetch(struct mpf_arena *arena, const struct mpf_datum_shm *image, char *buffer, struct mpf_fetched *fetched);
/* Outside of it: copies an inline datum, or a short cell without links, while others may be writing. What is copied counts only
 * if nothing was written meanwhile, which is the caller's to find out. false: this one has to be fetched. */
bool mpf_datum_glimpse(struct mpf_arena *arena, const struct mpf_datum_shm *image, char *buffer, struct mpf_fetched *fetched);

static inline void mpf_fetched_drop(struct mpf_fetched *fetched) {
    if (fetched->cell.off)
        mpf_block_unref(&fetched->cell);
}

/* Block hook of MPF_BLOCK_LINKED. */
void mpf_datum_destroy(struct mpf_arena *arena, mpf_off off);

#endif
