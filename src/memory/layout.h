/* The arena's shared layout, for the files of src/memory only. Everyone else sees offsets.
 *
 *   0          header       identity, geometry, epoch, spin permits
 *   4 KiB      allocator    free lists, size classes
 *   8 KiB      section      the arena's own section and its undo log
 *   16 KiB     states       one 64-bit state word per participant slot (128 KiB)
 *              slots        one struct mpf_slot_shm per participant (8 MiB of address space, committed as used)
 *              bitmap       one bit per span: its pages are committed, and may be dirty
 *              spans        one struct mpf_span_shm per span
 *              meta         one bit per page of the five areas above: committed (monotone: never given back)
 *   data       spans        64 KiB each; a run of 2^order aligned spans is the unit of the buddy system
 *
 * Everything from 'allocator' on that is not _Atomic is read and written inside the arena's section only, and changed
 * through mpf_section_set*, so that a kill at any instruction leaves all of a change or none of it. */
#ifndef MPF_MEMORY_LAYOUT_H
#define MPF_MEMORY_LAYOUT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory/arena.h"
#include "memory/block.h"
#include "memory/section.h"
#include "platform/memfd.h"

#define MPF_ARENA_MAGIC UINT64_C(0x3174736166706d7f)
#define MPF_ARENA_VERSION 1u
#define MPF_PAGE_BYTES 4096u
#define MPF_SPAN_SHIFT 16
#define MPF_SPAN_BYTES (UINT64_C(1) << MPF_SPAN_SHIFT)
#define MPF_ORDERS 26
#define MPF_CLASSES 30
#define MPF_SLOT_BITS 14
#define MPF_SLOTS (1u << MPF_SLOT_BITS)
#define MPF_SLOTS_FIRST 64u
#define MPF_LIST_CHUNKS 17
#define MPF_LIST_FIRST 512u /* entries in chunk 0; chunk k holds twice as many as k - 1 */
#define MPF_SPIN_PERMITS 64u
#define MPF_ARENA_LOG 500u
#define MPF_HEADER_AT 0u
#define MPF_ALLOCATOR_AT 4096u
#define MPF_SECTION_AT 8192u
#define MPF_STATES_AT 16384u
#define MPF_HOT_SPANS 4096u /* free spans that stay committed: 256 MiB */

struct mpf_header_shm {
    uint64_t magic; /* written last when the arena is created */
    uint32_t version;
    uint32_t span_count;
    unsigned char id[16];
    uint64_t size;
    uint64_t slots_at, bitmap_at, spans_at, meta_at, meta_bytes;
    uint64_t first_span; /* spans below hold the tables */
    _Alignas(64) _Atomic uint32_t epoch;
    _Atomic uint32_t slots_high; /* slots in rotation */
    _Atomic uint32_t slots_next; /* where the search for a free one starts */
    _Alignas(64) _Atomic uint32_t permits[MPF_SPIN_PERMITS]; /* 0 or the participant that spins */
};

/* A span's entry. Only the first span of a run has a kind; the others are MPF_SPAN_INNER. */
enum mpf_span_kind {
    MPF_SPAN_INNER, /* not the head of a run */
    MPF_SPAN_FREE,  /* head of a free run: prev and next link the free list of its order */
    MPF_SPAN_HELD,  /* being committed or punched by owner: prev and next link the held list */
    MPF_SPAN_SLAB,  /* blocks of one class: prev and next link the spans of the class that have room */
    MPF_SPAN_LARGE, /* one block */
    MPF_SPAN_LIST,  /* a chunk of a participant's list of references */
};

struct mpf_span_shm {
    uint32_t tag; /* kind | order << 8 | class << 16 */
    uint32_t owner;
    uint32_t prev, next; /* span indices; 0 is a table span and serves as null */
    uint64_t blocks;     /* MPF_SPAN_SLAB: free | used << 16 | fresh << 32, see slab.c */
    uint64_t reserved;
};

struct mpf_allocator_shm {
    uint32_t free_head[MPF_ORDERS];
    uint32_t held_head;
    uint32_t partial_head[MPF_CLASSES];
    uint32_t empty[MPF_CLASSES]; /* spans of the class that are kept though nothing is in them */
    uint32_t generation;         /* of the block allocated last; needs no undo: a gap is harmless */
    uint32_t nonce;              /* of the ticket issued last; likewise */
    uint64_t hot;                /* committed spans in free runs */
};

enum mpf_block_state { MPF_BLOCK_FREE, MPF_BLOCK_LIVE, MPF_BLOCK_DYING };

/* In front of every payload. */
struct mpf_block_shm {
    uint32_t generation;
    uint32_t refs;
    uint32_t tag;   /* type | state << 8 */
    uint16_t index; /* slab: which block of its span */
    uint16_t next;  /* slab, free: the next free block, index + 1 */
    uint64_t bytes; /* of the payload, as asked for */
    uint64_t reserved;
};
#define MPF_BLOCK_HEADER ((uint64_t)sizeof(struct mpf_block_shm))

/* A participant. Its state word is in the table of states. */
struct mpf_slot_shm {
    _Atomic int32_t pid;
    _Atomic uint32_t life_at; /* distance of the life word from the slot; 0: the kernel does not mark deaths */
    _Atomic uint64_t start_time;
    _Atomic uint64_t namespace_id;
    _Atomic int64_t born;    /* when the slot was set aside for a child, monotonic ns */
    _Atomic uint64_t child;  /* whom the slot was set aside for, where that is known: generation << 32 | pid */
    _Atomic uint32_t polled; /* the others know that the life word says nothing for now */
    pthread_mutex_t life;
    _Alignas(64) uint32_t list_top;  /* entries that were ever in use */
    uint32_t list_free;              /* first free entry below it, index + 1 */
    uint64_t list[MPF_LIST_CHUNKS];  /* offset of each chunk, 0: not there yet */
    uint64_t reserved[27];
};
_Static_assert(sizeof(struct mpf_slot_shm) == 512, "one slot");
_Static_assert(sizeof(struct mpf_span_shm) == 32, "one span entry");
_Static_assert(sizeof(struct mpf_block_shm) == 32, "one block header");
_Static_assert(sizeof(struct mpf_header_shm) <= MPF_PAGE_BYTES, "header fits its page");
_Static_assert(sizeof(struct mpf_allocator_shm) <= MPF_PAGE_BYTES, "allocator fits its page");
_Static_assert(MPF_SECTION_AT + MPF_SECTION_BYTES(MPF_ARENA_LOG) <= MPF_STATES_AT, "section fits its pages");

/* This process's view of an arena: what others see, then what is memory's own. */
struct mpf_arena_view {
    struct mpf_arena arena;
    struct mpf_memfd file;
    uint32_t nascent;      /* fork.c: the id set aside for the child that is being forked */
    int64_t reopen_after;  /* arena.c: when it makes sense to look for a descriptor again */
};

static inline struct mpf_arena_view *mpf_view(struct mpf_arena *arena) { return (struct mpf_arena_view *)arena; }
static inline struct mpf_header_shm *mpf_header(const struct mpf_arena *arena) { return mpf_at(arena, MPF_HEADER_AT); }
static inline struct mpf_allocator_shm *mpf_allocator(const struct mpf_arena *arena)
{
    return mpf_at(arena, MPF_ALLOCATOR_AT);
}
static inline struct mpf_section_shm *mpf_arena_section(const struct mpf_arena *arena)
{
    return mpf_at(arena, MPF_SECTION_AT);
}
static inline _Atomic uint64_t *mpf_slot_state(const struct mpf_arena *arena, uint32_t slot)
{
    return (_Atomic uint64_t *)mpf_at(arena, MPF_STATES_AT) + slot;
}
static inline struct mpf_slot_shm *mpf_slot(const struct mpf_arena *arena, uint32_t slot)
{
    return (struct mpf_slot_shm *)mpf_at(arena, mpf_header(arena)->slots_at) + slot;
}
static inline uint32_t mpf_slot_of(uint32_t id) { return id & (MPF_SLOTS - 1); }
static inline struct mpf_span_shm *mpf_span(const struct mpf_arena *arena, uint32_t span)
{
    return (struct mpf_span_shm *)mpf_at(arena, mpf_header(arena)->spans_at) + span;
}

#define MPF_SET32(arena, field, value) mpf_section_set32(arena, mpf_arena_section(arena), &(field), value)
#define MPF_SET64(arena, field, value) mpf_section_set64(arena, mpf_arena_section(arena), &(field), value)

/* arena.c: the table pages under [off, off + bytes). Known to be there; or made to be there (not in a section). */
bool mpf_meta_ready(const struct mpf_arena *arena, mpf_off off, uint64_t bytes);
int mpf_meta_commit(struct mpf_arena *arena, mpf_off off, uint64_t bytes);
/* arena.c: every arena of this process, under the lock of the list (fork.c holds it around a fork). */
pthread_mutex_t *mpf_arena_list_lock(void);
struct mpf_arena *mpf_arena_list(void);
/* arena.c: in a forked child, which has one thread: a lock that another thread of the parent may have held is free. */
void mpf_arena_after_fork(void);

/* fork.c: enters the arena's section; waits while this process is being forked. Leaves it. */
void mpf_arena_enter(struct mpf_arena *arena);
static inline void mpf_arena_leave(struct mpf_arena *arena) { mpf_section_leave(arena, mpf_arena_section(arena)); }
int mpf_fork_install(void);

/* span.c. In the section: */
int mpf_span_take(struct mpf_arena *arena, uint32_t order, uint32_t *span, mpf_off *need);
void mpf_span_return(struct mpf_arena *arena, uint32_t span);
void mpf_span_set_held(struct mpf_arena *arena, uint32_t span);
void mpf_span_set_kind(struct mpf_arena *arena, uint32_t span, enum mpf_span_kind kind, uint32_t klass);
bool mpf_span_cold(struct mpf_arena *arena, uint32_t span);
uint32_t mpf_span_committed(const struct mpf_arena *arena, uint32_t span, uint32_t count);
enum mpf_span_kind mpf_span_kind(const struct mpf_arena *arena, uint32_t span);
static inline uint32_t mpf_span_order(const struct mpf_span_shm *entry) { return entry->tag >> 8 & 0xff; }
static inline uint32_t mpf_span_class(const struct mpf_span_shm *entry) { return entry->tag >> 16 & 0xff; }
/* Outside of it: a held run for that many bytes, committed; and back, punched when enough is hot or when told to. */
int mpf_span_hold(struct mpf_arena *arena, uint64_t bytes, bool zero, uint32_t *span);
void mpf_span_drop(struct mpf_arena *arena, uint32_t span, bool punch);
void mpf_span_drop_of(struct mpf_arena *arena, uint32_t owner);
void mpf_span_init(struct mpf_arena *arena);

/* slab.c. In the section: */
uint32_t mpf_slab_class(uint64_t bytes); /* MPF_CLASSES where too large; needs no section */
uint32_t mpf_slab_stride(uint32_t klass);
uint32_t mpf_slab_capacity(uint32_t klass);
int mpf_slab_take(struct mpf_arena *arena, uint32_t klass, struct mpf_block_shm **block);
uint32_t mpf_slab_return(struct mpf_arena *arena, struct mpf_block_shm *block); /* a span to drop, or 0 */
void mpf_slab_add(struct mpf_arena *arena, uint32_t span, uint32_t klass);
struct mpf_block_shm *mpf_slab_block(const struct mpf_arena *arena, uint32_t span, mpf_off payload);
/* Outside of it: one more span for the class. */
int mpf_slab_grow(struct mpf_arena *arena, uint32_t klass);

/* reference.c. In the section: entries of the participant in a slot. */
enum mpf_entry_kind { MPF_ENTRY_FREE, MPF_ENTRY_REF, MPF_ENTRY_TICKET, MPF_ENTRY_DYING };
#define MPF_NONCE_MASK 0xffffffu
static inline uint64_t mpf_entry(enum mpf_entry_kind kind, uint32_t nonce, mpf_off off)
{
    return (uint64_t)kind | (uint64_t)nonce << 3 | off >> 5 << 27;
}
static inline enum mpf_entry_kind mpf_entry_kind(uint64_t entry) { return (enum mpf_entry_kind)(entry & 7); }
static inline uint32_t mpf_entry_nonce(uint64_t entry) { return entry >> 3 & MPF_NONCE_MASK; }
static inline mpf_off mpf_entry_off(uint64_t entry) { return entry >> 27 << 5; }
uint64_t *mpf_reference_at(const struct mpf_arena *arena, uint32_t slot, uint32_t index);
int mpf_reference_add(struct mpf_arena *arena, uint32_t slot, uint64_t entry, uint32_t *index);
void mpf_reference_remove(struct mpf_arena *arena, uint32_t slot, uint32_t index);
/* Outside of it: room for one more; room for count; all entries of another; all chunks given back. */
int mpf_reference_grow(struct mpf_arena *arena, uint32_t slot);
int mpf_reference_copy(struct mpf_arena *arena, uint32_t from, uint32_t to);
void mpf_reference_free_list(struct mpf_arena *arena, uint32_t slot);

/* block.c: the live block whose payload is at off, or NULL. In the section. */
struct mpf_block_shm *mpf_block_find(const struct mpf_arena *arena, mpf_off off);
static inline uint32_t mpf_block_type(const struct mpf_block_shm *block) { return block->tag & 0xff; }
static inline uint32_t mpf_block_state(const struct mpf_block_shm *block) { return block->tag >> 8 & 0xff; }
/* block.c: lets go of entry `index` of a slot's list, destroying the block if it was the last. Outside of the section. */
void mpf_block_release_entry(struct mpf_arena *arena, uint32_t slot, uint32_t index);
const struct mpf_block_hooks *mpf_block_hooks(uint32_t type);

/* participant.c: the state word. */
enum mpf_slot_status {
    MPF_SLOT_FREE,    /* actor 0 */
    MPF_SLOT_JOINING, /* actor: pid of the process that registers */
    MPF_SLOT_COPYING, /* actor: the parent, which writes the child's list of references */
    MPF_SLOT_NASCENT, /* actor: the parent; the child will take it */
    MPF_SLOT_LIVE,
    MPF_SLOT_LEFT,   /* said that it ends in order; still runs */
    MPF_SLOT_KILLED, /* actor: the reaper */
    MPF_SLOT_ENDED,  /* actor: the reaper; had left, or was never born */
};
static inline uint64_t mpf_state(enum mpf_slot_status status, uint32_t generation, uint32_t actor)
{
    return (uint64_t)status | (uint64_t)generation << 8 | (uint64_t)actor << 32;
}
static inline enum mpf_slot_status mpf_state_status(uint64_t state) { return (enum mpf_slot_status)(state & 0xff); }
static inline uint32_t mpf_state_generation(uint64_t state) { return state >> 8 & 0xffff; }
static inline uint32_t mpf_state_actor(uint64_t state) { return (uint32_t)(state >> 32); }
static inline uint32_t mpf_state_id(uint32_t slot, uint64_t state)
{
    return slot | mpf_state_generation(state) << MPF_SLOT_BITS;
}
int mpf_slot_claim(struct mpf_arena *arena, enum mpf_slot_status status, uint32_t actor, uint32_t *id);
int mpf_slot_settle(struct mpf_arena *arena, uint32_t id, uint64_t expected);
void mpf_slot_free(struct mpf_arena *arena, uint32_t slot);
void mpf_epoch_bump(struct mpf_arena *arena);

/* life.c: the robust mutex of a slot. */
enum mpf_life { MPF_LIFE_RUNS, MPF_LIFE_OVER, MPF_LIFE_EXECED, MPF_LIFE_POLLED };
void mpf_life_begin(struct mpf_arena *arena, uint32_t slot);
void mpf_life_refresh(struct mpf_arena *arena);
enum mpf_life mpf_life_look(const struct mpf_arena *arena, uint32_t slot);
_Atomic uint32_t *mpf_life_word(const struct mpf_arena *arena, uint32_t slot);
bool mpf_life_watchable(void);
#define MPF_LIFE_DIED 0x40000000u

/* reap.c: repairs and frees one slot whose state word is `state`, if its process is over. Whether it did. */
bool mpf_reap_slot(struct mpf_arena *arena, uint32_t slot, uint64_t state);
/* The same for a slot that this process itself claimed and has given up. */
void mpf_reap_abandoned(struct mpf_arena *arena, uint32_t slot, uint64_t state);

#endif
