/* A lane: an unbounded first-in-first-out line of messages between any number of producers and consumers. Queues are
 * one lane, pipes two. The protocol, and what a kill at each step leaves, stand in lane.c. */
#ifndef MPF_TRANSPORT_LANE_H
#define MPF_TRANSPORT_LANE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory/block.h"
#include "memory/section.h"
#include "sync/eventcount.h"
#include "transport/chain.h"
#include "transport/ledger.h"

#define MPF_LANE_INLINE_MAX 16384 /* longer messages travel in a block of their own */
#define MPF_LANE_BATCH_BYTES 65536
#define MPF_LANE_SHORT_MAX 64
#define MPF_LANE_RESUME_MESSAGES 256 /* so many short messages are worth the waking of a sender */
#define MPF_LANE_HEAD_LOG 3u

struct mpf_lane_cursor_shm {
    mpf_off pos;     /* of the next record */
    mpf_off segment; /* in which it lies */
    _Atomic uint64_t bytes; /* payload bytes that have passed this cursor */
};

/* A small block is aligned to 32 bytes: half a cache line of padding keeps the groups in lines of their own. */
struct mpf_lane_shm {
    /* producers, inside `tail` */
    _Alignas(32) struct mpf_section_shm tail;
    _Atomic uint64_t published; /* messages << 1 | which of the two cursors is valid */
    struct mpf_lane_cursor_shm tail_cursor[2];
    struct mpf_chain_tail_shm chain_tail;
    mpf_off tail_block;   /* the block of a message that is being published ... */
    uint64_t tail_block_at; /* ... when `published` was this */
    char tail_padding[32];
    /* consumers, inside `head` */
    _Alignas(32) struct mpf_section_shm head;
    struct mpf_section_entry_shm head_log[MPF_LANE_HEAD_LOG];
    _Atomic uint64_t consumed; /* as published */
    struct mpf_lane_cursor_shm head_cursor[2];
    _Atomic uint64_t seen; /* of `published`, by a consumer: spares the next ones a look at the producers' cache line */
    struct mpf_chain_head_shm chain_head;
    mpf_off head_block; /* the block of a message that is being consumed ... */
    uint64_t head_block_at; /* ... when `consumed` was this */
    char head_padding[32];
    /* who sleeps */
    _Alignas(32) struct mpf_eventcount_shm readers;
    struct mpf_eventcount_shm writers;
    _Atomic uint32_t closed; /* MPF_LANE_NO_* */
    _Atomic uint32_t bells;  /* != 0: readers sleep on a descriptor; announced and withdrawn inside `tail` */
    _Atomic uint32_t seekers; /* readers that wait for a message, awake or asleep: a hint, wrong after a kill for a while */
    uint32_t resume_bytes; /* the limit is one of bytes, and who waits for room is woken when this is left; 0: one of messages.
                            * Set at creation */
    struct mpf_chain_spare_shm spare;
    struct mpf_ledger_shm ledger; /* inside `head`; used by queues whose tasks are finished one by one */
};

enum {
    MPF_LANE_NO_WRITERS = 1, /* nobody can put any more: the end of file, once drained */
    MPF_LANE_NO_READERS = 2, /* nobody can get any more: putting is a broken pipe */
    MPF_LANE_DIVERTED = 4,   /* what is put from now on has to go another way: putting is refused with -ESHUTDOWN */
    MPF_LANE_SETTLED = 8,    /* a pipe's: diverted and empty, and the rings are off its socket */
};

/* Limits on what may be in the lane; 0 for none. A message is let in when the lane is empty, however long it is. */
struct mpf_lane_limit {
    uint64_t messages;
    uint64_t bytes;
};

/* A message to send: `bytes` bytes at `data`, or, where data is NULL, what write(context, destination) stores. */
struct mpf_lane_message {
    const void *data;
    size_t bytes;
    void (*write)(const void *context, void *destination);
    const void *context;
    uint32_t tag; /* the caller's, arrives with the message */
};

/* How a reader that sleeps on a descriptor is woken. Called inside the lane's tail section before the message is published,
 * so that a sender which dies in between has rung for nothing rather than not at all; the reader, which looks at the
 * lane inside the same section, sees either no message and no sender at work, or the message. Must not block. */
struct mpf_lane_ringer {
    void (*ring)(void *context);
    void *context;
};

/* A received message: `bytes` bytes at `data`, which is inside the caller's buffer, or inside `block` when block.off != 0;
 * the caller then owns that reference. */
struct mpf_lane_received {
    void *data;
    size_t bytes;
    struct mpf_ref block;
    uint32_t tag;
};

/* resume_bytes: 0, or, where the lane's limit is to be one of bytes, how many may be left inside when senders that sleep for room are
 * woken. 0, -ENOMEM. */
int mpf_lane_init(struct mpf_arena *arena, struct mpf_lane_shm *lane, uint32_t resume_bytes);
/* Frees everything in the lane. Only when nobody can reach it any more (a block's destroy hook). */
void mpf_lane_destroy(struct mpf_arena *arena, struct mpf_lane_shm *lane);
/* Block hook's part: `dead` was killed and may have slept here. */
void mpf_lane_recover(struct mpf_lane_shm *lane);

/* For a message of up to MPF_LANE_INLINE_MAX bytes. 0, -EAGAIN (limit reached), -EPIPE (no readers), -ESHUTDOWN
 * (diverted), -ENOMEM. */
int mpf_lane_put(struct mpf_arena *arena, struct mpf_lane_shm *lane, const struct mpf_lane_message *message,
                 const struct mpf_lane_limit *limit, const struct mpf_lane_ringer *ringer);

/* For a longer one: first into a block of the caller's (this is the copy; no section is held), then the block into the
 * lane: as put, and *block is the lane's if 0 is returned, still the caller's if not. */
int mpf_lane_fill(struct mpf_arena *arena, const struct mpf_lane_message *message, struct mpf_ref *block);
int mpf_lane_put_block(struct mpf_arena *arena, struct mpf_lane_shm *lane, struct mpf_ref *block,
                       const struct mpf_lane_message *message, const struct mpf_lane_limit *limit, const struct mpf_lane_ringer *ringer);

/* Puts as many of the messages as the limit allows, in order, visible at once. How many, or as above if none. No message
 * may be longer than MPF_LANE_INLINE_MAX. */
int mpf_lane_put_many(struct mpf_arena *arena, struct mpf_lane_shm *lane, const struct mpf_lane_message *messages,
                      unsigned count, const struct mpf_lane_limit *limit, const struct mpf_lane_ringer *ringer);

/* buffer: at least MPF_LANE_INLINE_MAX bytes. 0, -EAGAIN (empty), -EPIPE (empty, and no writers), -ENOMEM (no room to own
 * the message's block; it is still there). */
int mpf_lane_get(struct mpf_arena *arena, struct mpf_lane_shm *lane, void *buffer, struct mpf_lane_received *received);

/* The same, put without a limit and a ringer, for a lane without a ledger to which the caller has the only reference, and where no other
 * thread is in any of these functions or waits. */
int mpf_lane_put_alone(struct mpf_arena *arena, struct mpf_lane_shm *lane, const struct mpf_lane_message *message);
int mpf_lane_get_alone(struct mpf_arena *arena, struct mpf_lane_shm *lane, void *buffer, struct mpf_lane_received *received);

/* The same for a message of up to MPF_LANE_SHORT_MAX bytes, with no tag, where no segment ends. Whether it was put; the bytes that
 * were got, 0 if none: then nothing happened, and the functions above say why or do it. */
bool mpf_lane_put_short_alone(struct mpf_arena *arena, struct mpf_lane_shm *lane, const void *data, size_t bytes);
size_t mpf_lane_get_short_alone(struct mpf_arena *arena, struct mpf_lane_shm *lane, void *buffer);

/* Up to count messages at once, as many as fit the buffer of capacity bytes. How many, or as above if none. */
int mpf_lane_get_many(struct mpf_arena *arena, struct mpf_lane_shm *lane, void *buffer, size_t capacity,
                      struct mpf_lane_received *received, unsigned count);

/* Of a value of `published` or `consumed`. */
static inline uint64_t mpf_lane_count_of(uint64_t word) { return word >> 1; }

/* Exact at the instant at which `published` is read: what was consumed by then was not less, and cannot be more. */
static inline bool mpf_lane_is_empty(const struct mpf_lane_shm *lane) {
    uint64_t consumed = atomic_load_explicit(&lane->consumed, memory_order_acquire);
    return mpf_lane_count_of(atomic_load_explicit(&lane->published, memory_order_acquire)) == mpf_lane_count_of(consumed);
}

/* Whether the lane has one of these marks. Acquire pairs with the releases in mpf_lane_close and mpf_lane_divert. */
static inline bool mpf_lane_closed_for(const struct mpf_lane_shm *lane, uint32_t what) {
    return (atomic_load_explicit(&lane->closed, memory_order_acquire) & what) != 0;
}

/* Messages inside. Exact at some instant during the call. */
uint64_t mpf_lane_count(const struct mpf_lane_shm *lane);
/* All messages ever taken. */
uint64_t mpf_lane_taken(const struct mpf_lane_shm *lane);
/* A reader stands in line for a message: between these two calls, or in mpf_lane_await_message. */
void mpf_lane_seek_begin(struct mpf_lane_shm *lane);
void mpf_lane_seek_end(struct mpf_lane_shm *lane);
/* Whether a reader stands in line. A hint. */
static inline bool mpf_lane_awaited(const struct mpf_lane_shm *lane) {
    return atomic_load_explicit(&lane->seekers, memory_order_relaxed) != 0;
}
/* All messages ever put. */
uint64_t mpf_lane_total(const struct mpf_lane_shm *lane);
bool mpf_lane_full(const struct mpf_lane_shm *lane, const struct mpf_lane_limit *limit);

/* Spins for what mpf_lane_await_message waits for. Whether it came. */
bool mpf_lane_spin(struct mpf_park *park, struct mpf_lane_shm *lane);
/* Until there is something to get or no writer is left. 0, -ETIMEDOUT, -EINTR. Sleepers are woken one for each message:
 * after a 0, get, or call mpf_lane_pass_message. */
int mpf_lane_await_message(struct mpf_park *park, struct mpf_lane_shm *lane);
/* Until there is room below the limit or no reader is left. After a 0, put, or call mpf_lane_pass_room. */
int mpf_lane_await_room(struct mpf_park *park, struct mpf_lane_shm *lane, const struct mpf_lane_limit *limit);

/* The caller was woken for a message, or room, that it makes no use of: the next sleeper's turn. */
void mpf_lane_pass_message(struct mpf_lane_shm *lane);
void mpf_lane_pass_room(struct mpf_lane_shm *lane);

/* Marks the lane with MPF_LANE_NO_* and wakes everybody who waits in shared memory. */
void mpf_lane_close(struct mpf_lane_shm *lane, uint32_t what);

/* No message is put any more once this has returned. ringer: called, as for a message, if some are left; or NULL. */
void mpf_lane_divert(struct mpf_arena *arena, struct mpf_lane_shm *lane, const struct mpf_lane_ringer *ringer);
bool mpf_lane_diverted(const struct mpf_lane_shm *lane);

#endif
