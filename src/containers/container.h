/* A container: what dict and list have in common. A version that readers check, so that they need no lock; a section for
 * whoever writes; a body with the entries; and places where blocks stand that are on their way in or out.
 * The protocol stands in container.c. */
#ifndef MPF_CONTAINERS_CONTAINER_H
#define MPF_CONTAINERS_CONTAINER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "containers/datum.h"
#include "memory/section.h"

#define MPF_CONTAINER_LOG 48u
#define MPF_CONTAINER_FEW 8u /* entries that are changed in place in one step */
#define MPF_CONTAINER_GLIMPSES 8 /* attempts to read without the section */

enum mpf_body_state {
    MPF_BODY_PREPARING, /* being made: owns the cells of data marked MPF_DATUM_NEW */
    MPF_BODY_OWNER,     /* the container's, or one that was cleared: owns the cells of all data */
    MPF_BODY_LEFT,      /* replaced: owns the cells of data marked MPF_DATUM_DOOMED */
    MPF_BODY_BARE,      /* replaced by one that has all of it: owns nothing */
};

/* A block of type MPF_BLOCK_BODY. An entry is `stride` bytes, and ends with `data` data. */
struct mpf_body_shm {
    uint32_t state;
    uint32_t data;
    uint32_t stride;
    uint32_t first;      /* bytes of an entry before its data */
    uint64_t entries_at; /* from the start of the body */
    uint64_t capacity;   /* entries */
    uint64_t start;      /* entries [start, used) may hold something; those from `used` on mean nothing */
    uint64_t used;
    uint64_t last; /* dict: no live entry from here on */
    uint64_t reserved;
};

/* Where blocks stand on their way: a body, and the key and the value of each of a few entries. */
enum mpf_place { MPF_PLACE_BODY, MPF_PLACE_KEY, MPF_PLACE_VALUE, MPF_PLACES = 1 + 2 * MPF_CONTAINER_FEW };
static inline enum mpf_place mpf_place_key(unsigned entry) { return (enum mpf_place)(MPF_PLACE_KEY + 2 * entry); }
static inline enum mpf_place mpf_place_value(unsigned entry) { return (enum mpf_place)(MPF_PLACE_VALUE + 2 * entry); }

struct mpf_container_shm {
    /* what readers look at */
    _Atomic uint64_t version; /* odd: being changed */
    mpf_off body;             /* 0: nothing was ever in it */
    uint64_t shape;           /* dict: index mask | capacity << 32 */
    uint64_t live;            /* entries */
    uint64_t serial;          /* dict: of the entry that was made last */
    uint64_t foreign;         /* dict: entries whose keys the program's own code compares */
    uint64_t gate;            /* see gate.c */
    uint64_t reserved;
    /* writers' */
    uint64_t busy; /* != 0: there may be something in one of the places */
    mpf_off incoming[MPF_PLACES];
    mpf_off outgoing[MPF_PLACES];
    struct mpf_section_shm section;
    struct mpf_section_entry_shm log[MPF_CONTAINER_LOG];
};

void mpf_container_init(struct mpf_container_shm *container);

/* The section, after repairing what a dead one left. Leaving drops what is outgoing, once outside. */
void mpf_container_enter(struct mpf_arena *arena, struct mpf_container_shm *container);
void mpf_container_leave(struct mpf_arena *arena, struct mpf_container_shm *container);

/* Inside: a change, all of whose stores to what readers see stand between the two. It counts from mpf_container_commit on. */
static inline void mpf_container_change(struct mpf_container_shm *container) {
    uint64_t version = atomic_load_explicit(&container->version, memory_order_relaxed);
    atomic_store_explicit(&container->version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* pairs with the fence in mpf_container_unchanged */
    MPF_FAULT("container.change");
}

static inline void mpf_container_commit(struct mpf_container_shm *container) {
    uint64_t version = atomic_load_explicit(&container->version, memory_order_relaxed);
    MPF_FAULT("container.commit");
    mpf_section_commit(&container->section);
    MPF_FAULT("container.committed");
    /* Release: pairs with the acquire in mpf_container_look. */
    atomic_store_explicit(&container->version, version + 1, memory_order_release);
}

/* Inside a change. */
static inline void mpf_container_set(struct mpf_arena *arena, struct mpf_container_shm *container, uint64_t *where,
                                     uint64_t value) {
    mpf_section_set64(arena, &container->section, where, value);
}

/* Without the section: what is read between the two holds if nothing was changed. */
static inline bool mpf_container_look(const struct mpf_container_shm *container, uint64_t *version) {
    *version = atomic_load_explicit(&container->version, memory_order_acquire);
    return !(*version & 1);
}

static inline bool mpf_container_unchanged(const struct mpf_container_shm *container, uint64_t version) {
    atomic_thread_fence(memory_order_acquire); /* pairs with the fence in mpf_container_change */
    return atomic_load_explicit(&container->version, memory_order_relaxed) == version;
}

/* How many entries there are. */
uint64_t mpf_container_count(struct mpf_arena *arena, struct mpf_container_shm *container);

/* In the section: this process's block becomes the container's, in the place of incoming blocks; the change that uses it
 * calls mpf_container_arrive. Nothing for a datum without a cell. */
void mpf_container_bring(struct mpf_container_shm *container, struct mpf_ref *block, enum mpf_place place);
/* In a change: the incoming block is where it belongs. */
void mpf_container_arrive(struct mpf_arena *arena, struct mpf_container_shm *container, enum mpf_place place);
/* In a change: the block that *datum owned (if any) leaves the container. */
void mpf_container_dismiss(struct mpf_arena *arena, struct mpf_container_shm *container, const struct mpf_datum_shm *datum,
                           enum mpf_place place);

/* In a change: a block that some word of the container owned leaves it; that word is changed, too. */
void mpf_container_send(struct mpf_arena *arena, struct mpf_container_shm *container, mpf_off block, enum mpf_place place);

/* ---- bodies ---- */

/* A new body, all zero but for its geometry. Not in a section. 0, -ENOMEM. */
int mpf_body_make(struct mpf_arena *arena, uint32_t data, uint32_t first, uint64_t index_bytes, uint64_t capacity,
                  struct mpf_ref *body);

static inline struct mpf_body_shm *mpf_body_of(struct mpf_arena *arena, const struct mpf_container_shm *container) {
    return container->body ? mpf_at(arena, container->body) : NULL;
}
static inline char *mpf_body_entry(struct mpf_body_shm *body, uint64_t index) {
    return (char *)body + body->entries_at + index * body->stride;
}

/* In the section, on a body that is being made: the datum becomes the entry's, with what it owns. The entry is below `used`. */
void mpf_body_store(struct mpf_datum_shm *where, struct mpf_datum *datum);

/* In a change: `incoming` becomes the container's body; the one before, if any, gets `state` and leaves. */
void mpf_body_switch(struct mpf_arena *arena, struct mpf_container_shm *container, enum mpf_body_state state);

/* ---- block hooks of containers and bodies ---- */

void mpf_container_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead);
void mpf_container_destroy(struct mpf_arena *arena, mpf_off off);
void mpf_body_destroy(struct mpf_arena *arena, mpf_off off);
void mpf_containers_register_hooks(void);

/* ---- copies of many entries ---- */

struct mpf_snapshot_datum {
    size_t at; /* in `bytes`, or in the cell that is held */
    size_t bytes;
    size_t canonical;
    uint32_t held; /* which cell is held, + 1; 0: none */
};

struct mpf_snapshot_item {
    uint64_t serial;
    struct mpf_snapshot_datum datum[2];
};

/* A copy of entries as they were at one instant. Private memory; all zero is an empty one. */
struct mpf_snapshot {
    struct mpf_snapshot_item *items;
    size_t count, item_room;
    char *bytes;
    size_t used, room;
    struct mpf_ref *held;
    uint32_t held_count, held_room;
    uint64_t version; /* of the container, then */
    uint64_t serial;
};

/* In the section. 0, -ENOMEM. */
int mpf_snapshot_begin(struct mpf_snapshot *snapshot, const struct mpf_container_shm *container, size_t items);
int mpf_snapshot_add(struct mpf_arena *arena, struct mpf_snapshot *snapshot, const struct mpf_datum_shm *datum,
                     struct mpf_snapshot_datum *copy);
/* Outside. */
static inline const char *mpf_snapshot_data(const struct mpf_snapshot *snapshot, const struct mpf_snapshot_datum *datum) {
    if (datum->held)
        return (const char *)mpf_at(snapshot->held[datum->held - 1].arena, snapshot->held[datum->held - 1].off) + datum->at;
    return snapshot->bytes + datum->at;
}
void mpf_snapshot_free(struct mpf_snapshot *snapshot);

#endif
