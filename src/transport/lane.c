/* Purpose: messages from any number of producers to any number of consumers, in shared memory, without loss.
 *
 * Layout. A chain of segments; each message is a record in one of them. Producers append at the tail cursor, consumers
 * take at the head cursor, each side behind a section of its own, so that one producer and one consumer share no lock:
 *
 *   first -> [segment | record record JUMP] -> [segment | record record record ....] -> 0
 *                            ^ head cursor                               ^ tail cursor
 *   record:  length 8 | kind 4 | tag 4 | payload, padded to 16     (INLINE: the bytes, SPILL: a block)
 *   cursors: two of each; the low bit of `published` (`consumed`) says which one is valid, the rest counts messages
 *
 * Invariants.
 *   consumed <= published; published - consumed messages are readable from the head cursor on.
 *   Bytes behind the tail cursor mean nothing. The blocks of readable SPILL records belong to the lane; so do the segments
 *   (chain.c), and `tail_block` and `head_block` as said below.
 *   A segment always has room for one JUMP after its last record.
 *
 * Alone. As long as nobody else can reach a lane, whoever has it needs no section: there is nobody to keep out, to wake, or to order
 * stores for. What a kill leaves is what it leaves inside a section, and is put right by the same repairs when the lane is destroyed.
 *
 * Commit. A producer writes its records and the other cursor, then stores `published`: that one store makes all of it
 * visible (a batch too). A consumer copies the message out, writes the other cursor, then stores `consumed`.
 *
 * Death of a producer: before `published` nothing has happened: the next one overwrites the bytes. The block of a long
 * message is moved into `tail_block` in one step, with the value of `published` beside it: if that has
 * not changed by the time the next producer comes, the message was not published and the block is dropped, else it is
 * the record's. After `published`, only the wake-up can be missing: sleepers look again after every death (park.h).
 *
 * Death of a consumer: before `consumed` the message is still there for the next one; after it the message is gone with the
 * consumer that had it. Where the lane has a ledger, `consumed` and the consumer's line change as one (the section's
 * log). A long message's block gets the consumer's reference first, while the record still has one; the record's
 * stands in `head_block`, with the value of `consumed`: the next consumer drops it if the message was consumed, and forgets
 * it if not. */
#include "transport/lane.h"

#include <errno.h>
#include <string.h>

#include "platform/copy.h"
#include "platform/fault.h"

/* Compiled once for one message, which is most of what happens here, and once for the rest. */
#define SPECIALIZED __attribute__((always_inline)) static inline

enum record_kind { RECORD_INLINE = 1, RECORD_SPILL, RECORD_JUMP };

struct record_shm {
    uint64_t length; /* of the message; an INLINE record's payload is as long */
    uint32_t kind;
    uint32_t tag;
};

/* A SPILL record's payload. */
struct spill_shm {
    mpf_off block;
    uint64_t generation;
};

#define RECORD_BYTES(payload) ((sizeof(struct record_shm) + (payload) + 15) & ~(uint64_t)15)

static uint64_t count_of(uint64_t word) { return mpf_lane_count_of(word); }
static uint64_t next_word(uint64_t word, uint64_t messages) { return ((count_of(word) + messages) << 1) | (~word & 1); }

static struct record_shm *record_at(struct mpf_arena *arena, mpf_off off) { return mpf_at(arena, off); }

static inline void copy_cursor(struct mpf_lane_cursor_shm *to, mpf_off pos, mpf_off segment, uint64_t bytes) {
    to->pos = pos;
    to->segment = segment;
    atomic_store_explicit(&to->bytes, bytes, memory_order_relaxed);
}

/* ---- creation and destruction ---- */

int mpf_lane_init(struct mpf_arena *arena, struct mpf_lane_shm *lane, uint32_t resume_bytes) {
    memset(lane, 0, sizeof *lane);
    lane->resume_bytes = resume_bytes;
    mpf_section_init(&lane->tail, 0);
    mpf_section_init(&lane->head, MPF_LANE_HEAD_LOG);
    int rc = mpf_chain_init(arena, &lane->chain_head);
    if (rc < 0)
        return rc;
    mpf_off first = lane->chain_head.first;
    copy_cursor(&lane->tail_cursor[0], mpf_segment_start(first), first, 0);
    copy_cursor(&lane->head_cursor[0], mpf_segment_start(first), first, 0);
    return 0;
}

static void repair_tail(struct mpf_arena *arena, struct mpf_lane_shm *lane);
static void repair_head(struct mpf_arena *arena, struct mpf_lane_shm *lane);

static void drop_messages(struct mpf_arena *arena, struct mpf_lane_shm *lane) {
    uint64_t left = mpf_lane_count(lane);
    const struct mpf_lane_cursor_shm *head = &lane->head_cursor[atomic_load(&lane->consumed) & 1];
    mpf_off pos = head->pos, segment = head->segment;
    while (left > 0) {
        struct record_shm *record = record_at(arena, pos);
        if (record->kind == RECORD_JUMP) {
            segment = mpf_segment_at(arena, segment)->next;
            pos = mpf_segment_start(segment);
            continue;
        }
        uint64_t payload = record->length;
        if (record->kind == RECORD_SPILL) {
            mpf_block_replace(arena, &((struct spill_shm *)(record + 1))->block, 0);
            payload = sizeof(struct spill_shm);
        }
        pos += RECORD_BYTES(payload);
        left--;
    }
    MPF_FAULT("lane.destroy.dropped");
    /* empty, so that destroying again does not look for messages in segments that are gone */
    uint64_t consumed = atomic_load(&lane->consumed);
    atomic_store(&lane->consumed, (atomic_load(&lane->published) & ~UINT64_C(1)) | (consumed & 1));
}

void mpf_lane_destroy(struct mpf_arena *arena, struct mpf_lane_shm *lane) {
    mpf_ledger_destroy(arena, &lane->ledger);
    if (lane->chain_head.first == 0)
        return;
    repair_tail(arena, lane);
    repair_head(arena, lane);
    drop_messages(arena, lane);
    mpf_chain_destroy(arena, &lane->chain_tail, &lane->chain_head, &lane->spare);
}

void mpf_lane_recover(struct mpf_lane_shm *lane) {
    mpf_eventcount_recover(&lane->readers);
    mpf_eventcount_recover(&lane->writers);
    atomic_store_explicit(&lane->seekers, 0, memory_order_relaxed);
}

/* ---- counting ---- */

uint64_t mpf_lane_count(const struct mpf_lane_shm *lane) {
    for (;;) {
        uint64_t consumed = atomic_load_explicit(&lane->consumed, memory_order_acquire);
        uint64_t published = atomic_load_explicit(&lane->published, memory_order_acquire);
        if (atomic_load_explicit(&lane->consumed, memory_order_relaxed) == consumed)
            return count_of(published) - count_of(consumed);
    }
}

uint64_t mpf_lane_taken(const struct mpf_lane_shm *lane) {
    return count_of(atomic_load_explicit(&lane->consumed, memory_order_acquire));
}

uint64_t mpf_lane_total(const struct mpf_lane_shm *lane) {
    return count_of(atomic_load_explicit(&lane->published, memory_order_acquire));
}

static uint64_t bytes_inside(const struct mpf_lane_shm *lane) {
    uint64_t consumed = atomic_load_explicit(&lane->consumed, memory_order_acquire);
    uint64_t published = atomic_load_explicit(&lane->published, memory_order_acquire);
    return atomic_load_explicit(&lane->tail_cursor[published & 1].bytes, memory_order_relaxed) -
           atomic_load_explicit(&lane->head_cursor[consumed & 1].bytes, memory_order_relaxed);
}

static inline bool is_full(const struct mpf_lane_shm *lane, const struct mpf_lane_limit *limit) {
    if (limit == NULL || (limit->messages | limit->bytes) == 0)
        return false;
    if (limit->messages != 0 && mpf_lane_count(lane) >= limit->messages)
        return true;
    return limit->bytes != 0 && !mpf_lane_is_empty(lane) && (int64_t)bytes_inside(lane) >= (int64_t)limit->bytes;
}

bool mpf_lane_full(const struct mpf_lane_shm *lane, const struct mpf_lane_limit *limit) { return is_full(lane, limit); }

/* ---- the producers' side, inside `tail` ---- */

static inline void repair_tail(struct mpf_arena *arena, struct mpf_lane_shm *lane) {
    if (lane->tail_block == 0)
        return;
    if (lane->tail_block_at == atomic_load_explicit(&lane->published, memory_order_relaxed))
        mpf_block_replace(arena, &lane->tail_block, 0);
    else
        lane->tail_block = 0;
}

struct tail {
    mpf_off pos, segment;
    uint64_t bytes;
};

__attribute__((noinline)) static int next_segment(struct mpf_arena *arena, struct mpf_lane_shm *lane, uint64_t need, struct tail *tail) {
    mpf_off next;
    int rc = mpf_chain_extend(arena, &lane->chain_tail, &lane->spare, tail->segment, need + RECORD_BYTES(0), &next);
    if (rc < 0)
        return rc;
    struct record_shm *jump = record_at(arena, tail->pos);
    jump->length = 0;
    jump->kind = RECORD_JUMP;
    tail->segment = next;
    tail->pos = mpf_segment_start(next);
    return 0;
}

/* Where the next record of `payload` bytes goes; moves on to a segment that has room for it. */
static inline int reserve(struct mpf_arena *arena, struct mpf_lane_shm *lane, uint64_t payload, struct tail *tail,
                   struct record_shm **record) {
    uint64_t need = RECORD_BYTES(payload);
    while (tail->pos + need + RECORD_BYTES(0) > mpf_segment_end(arena, tail->segment)) {
        int rc = next_segment(arena, lane, need, tail);
        if (rc < 0)
            return rc;
    }
    *record = record_at(arena, tail->pos);
    tail->pos += need;
    return 0;
}

static inline void copy_bytes(void *to, const void *from, size_t bytes) {
    if (bytes <= MPF_LANE_SHORT_MAX)
        mpf_copy_short(to, from, bytes);
    else
        memcpy(to, from, bytes);
}

static void store_message(void *to, const struct mpf_lane_message *message) {
    if (message->data != NULL)
        copy_bytes(to, message->data, message->bytes);
    else
        message->write(message->context, to);
}

SPECIALIZED int append_inline(struct mpf_arena *arena, struct mpf_lane_shm *lane, const struct mpf_lane_message *message,
                         struct tail *tail) {
    struct record_shm *record;
    int rc = reserve(arena, lane, message->bytes, tail, &record);
    if (rc < 0)
        return rc;
    record->length = message->bytes;
    record->kind = RECORD_INLINE;
    record->tag = message->tag;
    store_message(record + 1, message);
    tail->bytes += message->bytes;
    return 0;
}

static int append_spill(struct mpf_arena *arena, struct mpf_lane_shm *lane,
                        const struct mpf_lane_message *message, struct mpf_ref *block, struct tail *tail) {
    struct record_shm *record;
    int rc = reserve(arena, lane, sizeof(struct spill_shm), tail, &record);
    if (rc < 0)
        return rc;
    struct spill_shm *spill = (struct spill_shm *)(record + 1);
    spill->generation = block->generation;
    lane->tail_block_at = atomic_load_explicit(&lane->published, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst); /* the mark before the block it belongs to */
    mpf_block_put(block, &lane->tail_block);
    MPF_FAULT("lane.put.block_owned");
    record->length = message->bytes;
    record->kind = RECORD_SPILL;
    record->tag = message->tag;
    spill->block = lane->tail_block;
    tail->bytes += message->bytes;
    return 0;
}

static inline struct tail tail_begin(struct mpf_arena *arena, struct mpf_lane_shm *lane) {
    repair_tail(arena, lane);
    const struct mpf_lane_cursor_shm *now = &lane->tail_cursor[atomic_load_explicit(&lane->published, memory_order_relaxed) & 1];
    return (struct tail){now->pos, now->segment, atomic_load_explicit(&now->bytes, memory_order_relaxed)};
}

static inline void tail_commit(struct mpf_lane_shm *lane, const struct tail *tail, uint64_t messages,
                        const struct mpf_lane_ringer *ringer) {
    uint64_t word = next_word(atomic_load_explicit(&lane->published, memory_order_relaxed), messages);
    copy_cursor(&lane->tail_cursor[word & 1], tail->pos, tail->segment, tail->bytes);
    if (ringer != NULL && atomic_load_explicit(&lane->bells, memory_order_relaxed) != 0)
        ringer->ring(ringer->context);
    MPF_FAULT("lane.put.written");
    /* release pairs with the acquire of `published` in head_begin, count and full: the records come before it */
    atomic_store_explicit(&lane->published, word, memory_order_release);
    MPF_FAULT("lane.put.published");
    atomic_signal_fence(memory_order_seq_cst); /* published before the block is forgotten here */
    lane->tail_block = 0;
}

static uint64_t room(const struct mpf_lane_shm *lane, const struct mpf_lane_limit *limit, uint64_t wanted) {
    if (limit == NULL)
        return wanted;
    if (mpf_lane_full(lane, limit))
        return 0;
    if (limit->messages == 0)
        return wanted;
    uint64_t left = limit->messages - mpf_lane_count(lane);
    return left < wanted ? left : wanted;
}

/* After the section was left: the exchange that leaves it stands between `published` and the look at who sleeps. */
static inline void after_put(struct mpf_lane_shm *lane, unsigned messages) {
    MPF_FAULT("lane.put.before_wake");
    mpf_eventcount_notify_fenced(&lane->readers, (int)messages);
}

SPECIALIZED int put_one(struct mpf_arena *arena, struct mpf_lane_shm *lane, const struct mpf_lane_message *message,
                        struct mpf_ref *block, const struct mpf_lane_limit *limit, const struct mpf_lane_ringer *ringer,
                        bool alone) {
    int rc;
    if (mpf_lane_closed_for(lane, MPF_LANE_NO_READERS))
        return -EPIPE;
    if (!alone)
        mpf_section_enter(arena, &lane->tail);
    struct tail tail = tail_begin(arena, lane);
    if (mpf_lane_closed_for(lane, MPF_LANE_DIVERTED))
        rc = -ESHUTDOWN;
    else if (is_full(lane, limit))
        rc = -EAGAIN;
    else if (block != NULL)
        rc = append_spill(arena, lane, message, block, &tail);
    else
        rc = append_inline(arena, lane, message, &tail);
    if (rc == 0)
        tail_commit(lane, &tail, 1, ringer);
    if (alone)
        return rc;
    mpf_section_leave(arena, &lane->tail);
    if (rc == 0)
        after_put(lane, 1);
    else if (rc == -ENOMEM)
        mpf_lane_pass_room(lane);
    return rc;
}

int mpf_lane_put(struct mpf_arena *arena, struct mpf_lane_shm *lane, const struct mpf_lane_message *message,
                 const struct mpf_lane_limit *limit, const struct mpf_lane_ringer *ringer) {
    return put_one(arena, lane, message, NULL, limit, ringer, false);
}

int mpf_lane_put_alone(struct mpf_arena *arena, struct mpf_lane_shm *lane, const struct mpf_lane_message *message) {
    return put_one(arena, lane, message, NULL, NULL, NULL, true);
}

bool mpf_lane_put_short_alone(struct mpf_arena *arena, struct mpf_lane_shm *lane, const void *data, size_t bytes) {
    uint64_t published = atomic_load_explicit(&lane->published, memory_order_relaxed), word = next_word(published, 1);
    const struct mpf_lane_cursor_shm *now = &lane->tail_cursor[published & 1];
    mpf_off pos = now->pos, next = pos + RECORD_BYTES(bytes);
    if (next + RECORD_BYTES(0) > mpf_segment_end(arena, now->segment) || atomic_load_explicit(&lane->closed, memory_order_relaxed) != 0)
        return false;
    struct record_shm *record = record_at(arena, pos);
    *record = (struct record_shm){.length = bytes, .kind = RECORD_INLINE};
    mpf_copy_short(record + 1, data, bytes);
    copy_cursor(&lane->tail_cursor[word & 1], next, now->segment, atomic_load_explicit(&now->bytes, memory_order_relaxed) + bytes);
    MPF_FAULT("lane.put.written");
    atomic_store_explicit(&lane->published, word, memory_order_release); /* pairs as in tail_commit */
    return true;
}

int mpf_lane_fill(struct mpf_arena *arena, const struct mpf_lane_message *message, struct mpf_ref *block) {
    int rc = mpf_block_alloc_dirty(arena, message->bytes, MPF_BLOCK_MESSAGE, block);
    if (rc == 0)
        store_message(mpf_at(arena, block->off), message);
    return rc;
}

int mpf_lane_put_block(struct mpf_arena *arena, struct mpf_lane_shm *lane, struct mpf_ref *block,
                       const struct mpf_lane_message *message, const struct mpf_lane_limit *limit, const struct mpf_lane_ringer *ringer) {
    return put_one(arena, lane, message, block, limit, ringer, false);
}

int mpf_lane_put_many(struct mpf_arena *arena, struct mpf_lane_shm *lane, const struct mpf_lane_message *messages,
                      unsigned count, const struct mpf_lane_limit *limit, const struct mpf_lane_ringer *ringer) {
    int rc = 0;
    unsigned done = 0;
    if (mpf_lane_closed_for(lane, MPF_LANE_NO_READERS))
        return -EPIPE;
    mpf_section_enter(arena, &lane->tail);
    struct tail tail = tail_begin(arena, lane);
    if (mpf_lane_closed_for(lane, MPF_LANE_DIVERTED))
        rc = -ESHUTDOWN;
    unsigned allowed = rc == 0 ? (unsigned)room(lane, limit, count) : 0;
    while (done < allowed && (rc = append_inline(arena, lane, &messages[done], &tail)) == 0)
        done++;
    if (done > 0)
        tail_commit(lane, &tail, done, ringer);
    mpf_section_leave(arena, &lane->tail);
    if (rc == -ENOMEM)
        mpf_lane_pass_room(lane);
    if (done == 0)
        return rc < 0 ? rc : -EAGAIN;
    after_put(lane, done);
    return (int)done;
}

/* ---- the consumers' side, inside `head` ---- */

static void repair_head(struct mpf_arena *arena, struct mpf_lane_shm *lane) {
    if (lane->head_block != 0) {
        if (lane->head_block_at == atomic_load_explicit(&lane->consumed, memory_order_relaxed))
            lane->head_block = 0;
        else
            mpf_block_replace(arena, &lane->head_block, 0);
    }
    if (lane->chain_head.retired != 0)
        mpf_chain_repair(arena, &lane->chain_head, &lane->spare);
}

/* A long message: the record's block becomes this process's too. Undone by its own list of references until `consumed`. */
static int take_spill(struct mpf_arena *arena, struct mpf_lane_shm *lane, struct record_shm *record, struct tail *head,
                      struct mpf_lane_received *received) {
    const struct spill_shm *spill = (const struct spill_shm *)(record + 1);
    *received = (struct mpf_lane_received){.bytes = record->length, .tag = record->tag};
    int rc = mpf_block_attach(arena, spill->block, (uint32_t)spill->generation, MPF_BLOCK_MESSAGE, 0, &received->block);
    if (rc < 0)
        return rc;
    received->data = mpf_at(arena, received->block.off);
    MPF_FAULT("lane.get.block_attached");
    lane->head_block_at = atomic_load_explicit(&lane->consumed, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst); /* the mark before the block it belongs to */
    lane->head_block = spill->block;
    MPF_FAULT("lane.get.block_marked");
    head->pos += RECORD_BYTES(sizeof(struct spill_shm));
    head->bytes += record->length;
    return 1;
}

/* Copies messages into the buffer while they fit; a long one ends the batch and is only taken alone. How many, or -errno. */
SPECIALIZED int copy_out(struct mpf_arena *arena, struct mpf_lane_shm *lane, struct tail *head, uint64_t available,
                         char *buffer, size_t capacity, struct mpf_lane_received *received, unsigned count) {
    unsigned done = 0;
    size_t used = 0;
    while (done < count && done < available) {
        struct record_shm *record = record_at(arena, head->pos);
        if (record->kind == RECORD_JUMP) {
            head->segment = mpf_segment_at(arena, head->segment)->next;
            head->pos = mpf_segment_start(head->segment);
            continue;
        }
        if (record->kind == RECORD_SPILL)
            return done > 0 ? (int)done : take_spill(arena, lane, record, head, received);
        size_t bytes = record->length;
        if (bytes > capacity - used)
            break;
        copy_bytes(buffer + used, record + 1, bytes);
        received[done] = (struct mpf_lane_received){.data = buffer + used, .bytes = bytes, .tag = record->tag};
        used = (used + bytes + 7) & ~(size_t)7;
        used = used < capacity ? used : capacity;
        head->pos += RECORD_BYTES(bytes);
        head->bytes += bytes;
        done++;
    }
    return (int)done;
}

static inline void head_commit(struct mpf_arena *arena, struct mpf_lane_shm *lane, const struct tail *head, uint32_t messages,
                        uint64_t *line) {
    uint64_t word = next_word(atomic_load_explicit(&lane->consumed, memory_order_relaxed), messages);
    copy_cursor(&lane->head_cursor[word & 1], head->pos, head->segment, head->bytes);
    MPF_FAULT("lane.get.copied");
    if (line != NULL) {
        mpf_ledger_add(arena, &lane->head, line, messages);
        mpf_section_set64(arena, &lane->head, (uint64_t *)&lane->consumed, word);
        mpf_section_commit(&lane->head);
    } else {
        /* release pairs with the acquire of `consumed` in count and full: the room is real when it is seen */
        atomic_store_explicit(&lane->consumed, word, memory_order_release);
    }
    MPF_FAULT("lane.get.consumed");
    if (lane->head_block != 0)
        mpf_block_replace(arena, &lane->head_block, 0);
}

/* Messages that are there beyond `consumed`. Looks at the producers' word only when those seen last are used up. */
static uint64_t available_after(struct mpf_lane_shm *lane, uint64_t consumed) {
    uint64_t seen = atomic_load_explicit(&lane->seen, memory_order_relaxed);
    if (count_of(seen) == count_of(consumed)) {
        /* acquire pairs with the release in tail_commit */
        seen = atomic_load_explicit(&lane->published, memory_order_acquire);
        atomic_store_explicit(&lane->seen, seen, memory_order_relaxed);
    }
    return count_of(seen) - count_of(consumed);
}

/* Whether a consumer has already seen a message that nobody had taken a moment ago. */
static bool has_seen_more(const struct mpf_lane_shm *lane) {
    return count_of(atomic_load_explicit(&lane->seen, memory_order_relaxed)) >
           count_of(atomic_load_explicit(&lane->consumed, memory_order_relaxed));
}

/* One attempt. How many were taken; -EAGAIN: none there; -ENOSPC: the ledger has to grow from `*lines`; -ENOMEM. */
SPECIALIZED int get_inside(struct mpf_arena *arena, struct mpf_lane_shm *lane, void *buffer, size_t capacity,
                           struct mpf_lane_received *received, unsigned count, bool listed, uint32_t *lines) {
    uint64_t *line = NULL;
    repair_head(arena, lane);
    if (listed && (line = mpf_ledger_line(arena, &lane->ledger, lines)) == NULL)
        return -ENOSPC;
    uint64_t consumed = atomic_load_explicit(&lane->consumed, memory_order_relaxed);
    const struct mpf_lane_cursor_shm *now = &lane->head_cursor[consumed & 1];
    struct tail head = {now->pos, now->segment, atomic_load_explicit(&now->bytes, memory_order_relaxed)};
    int done = copy_out(arena, lane, &head, available_after(lane, consumed), buffer, capacity, received, count);
    if (done <= 0)
        return done < 0 ? done : -EAGAIN;
    head_commit(arena, lane, &head, (uint32_t)done, line);
    if (lane->chain_head.first != head.segment)
        mpf_chain_retire(arena, &lane->chain_head, &lane->spare, head.segment);
    return done;
}

/* Whether senders that sleep for room in a lane with a limit of bytes are to be woken. Waking them for the room of one short
 * message would have them asleep again after the next one. So they sleep on while much is left, but not for ever
 * where others who are awake fill the room each time. Who takes the last of what is to be taken sees it taken: the look comes
 * after the exchange that left the section. */
static bool is_time_to_resume(const struct mpf_lane_shm *lane, const struct mpf_lane_received *received, int messages) {
    return received->block.off != 0 || (int64_t)bytes_inside(lane) <= (int64_t)lane->resume_bytes ||
           mpf_lane_taken(lane) % MPF_LANE_RESUME_MESSAGES < (uint64_t)messages;
}

static inline void after_get(struct mpf_lane_shm *lane, const struct mpf_lane_received *received, int messages) {
    MPF_FAULT("lane.get.before_wake");
    if (lane->resume_bytes == 0)
        mpf_eventcount_notify_fenced(&lane->writers, messages);
    else if (mpf_eventcount_is_awaited(&lane->writers) && is_time_to_resume(lane, received, messages))
        mpf_eventcount_notify_fenced(&lane->writers, MPF_EVENTCOUNT_ALL);
}

/* In a function of its own it takes no registers from what most lanes go through. */
__attribute__((noinline)) static int get_listed(struct mpf_arena *arena, struct mpf_lane_shm *lane, void *buffer, size_t capacity,
                                                struct mpf_lane_received *received, unsigned count) {
    int rc;
    uint32_t lines;
    do {
        mpf_section_enter(arena, &lane->head);
        rc = get_inside(arena, lane, buffer, capacity, received, count, true, &lines);
        mpf_section_leave(arena, &lane->head);
    } while (rc == -ENOSPC && (rc = mpf_ledger_grow(arena, &lane->head, &lane->ledger, lines)) == 0);
    return rc;
}

SPECIALIZED int get_unlisted(struct mpf_arena *arena, struct mpf_lane_shm *lane, void *buffer, size_t capacity,
                             struct mpf_lane_received *received, unsigned count) {
    mpf_section_enter(arena, &lane->head);
    int rc = get_inside(arena, lane, buffer, capacity, received, count, false, NULL);
    mpf_section_leave(arena, &lane->head);
    return rc;
}

SPECIALIZED int get_up_to(struct mpf_arena *arena, struct mpf_lane_shm *lane, void *buffer, size_t capacity,
                          struct mpf_lane_received *received, unsigned count) {
    int rc;
    if (!has_seen_more(lane) && mpf_lane_is_empty(lane))
        return mpf_lane_closed_for(lane, MPF_LANE_NO_WRITERS) && mpf_lane_is_empty(lane) ? -EPIPE : -EAGAIN;
    if (!mpf_ledger_used(&lane->ledger))
        rc = get_unlisted(arena, lane, buffer, capacity, received, count);
    else
        rc = get_listed(arena, lane, buffer, capacity, received, count);
    if (rc > 0)
        after_get(lane, received, rc);
    else if (rc == -ENOMEM)
        mpf_lane_pass_message(lane);
    return rc;
}

int mpf_lane_get_many(struct mpf_arena *arena, struct mpf_lane_shm *lane, void *buffer, size_t capacity,
                      struct mpf_lane_received *received, unsigned count) {
    return get_up_to(arena, lane, buffer, capacity, received, count);
}

int mpf_lane_get_alone(struct mpf_arena *arena, struct mpf_lane_shm *lane, void *buffer, struct mpf_lane_received *received) {
    if (mpf_lane_is_empty(lane))
        return mpf_lane_closed_for(lane, MPF_LANE_NO_WRITERS) ? -EPIPE : -EAGAIN;
    int rc = get_inside(arena, lane, buffer, MPF_LANE_INLINE_MAX, received, 1, false, NULL);
    return rc < 0 ? rc : 0;
}

size_t mpf_lane_get_short_alone(struct mpf_arena *arena, struct mpf_lane_shm *lane, void *buffer) {
    uint64_t consumed = atomic_load_explicit(&lane->consumed, memory_order_relaxed), word = next_word(consumed, 1);
    uint64_t published = atomic_load_explicit(&lane->published, memory_order_acquire); /* pairs with tail_commit */
    const struct mpf_lane_cursor_shm *now = &lane->head_cursor[consumed & 1];
    const struct record_shm *record = record_at(arena, now->pos);
    if (count_of(published) == count_of(consumed) || record->kind != RECORD_INLINE || record->length > MPF_LANE_SHORT_MAX)
        return 0;
    size_t bytes = record->length;
    mpf_copy_short(buffer, record + 1, bytes);
    copy_cursor(&lane->head_cursor[word & 1], now->pos + RECORD_BYTES(bytes), now->segment,
                atomic_load_explicit(&now->bytes, memory_order_relaxed) + bytes);
    atomic_store_explicit(&lane->seen, published, memory_order_relaxed);
    MPF_FAULT("lane.get.copied");
    atomic_store_explicit(&lane->consumed, word, memory_order_release); /* pairs as in head_commit */
    return bytes;
}

int mpf_lane_get(struct mpf_arena *arena, struct mpf_lane_shm *lane, void *buffer, struct mpf_lane_received *received) {
    int rc = get_up_to(arena, lane, buffer, MPF_LANE_INLINE_MAX, received, 1);
    return rc < 0 ? rc : 0;
}
