/* What the tests of the transport layer share: numbered messages, put and got, and who has seen which. */
#ifndef MPF_TESTS_TRANSPORT_CHECK_H
#define MPF_TESTS_TRANSPORT_CHECK_H

#include "sync_check.h"

#include "transport/end.h"
#include "transport/lane.h"
#include "transport/pipe.h"
#include "transport/queue.h"

#define LONG_BYTES (MPF_LANE_INLINE_MAX + 100)

static inline void transport_start(void) {
    static const struct mpf_block_hooks queue_hooks = {mpf_queue_recover, mpf_queue_destroy};
    static const struct mpf_block_hooks pipe_hooks = {mpf_pipe_recover, mpf_pipe_destroy};
    static const struct mpf_block_hooks end_hooks = {NULL, mpf_end_destroy};
    start();
    mpf_block_set_hooks(MPF_BLOCK_QUEUE, &queue_hooks);
    mpf_block_set_hooks(MPF_BLOCK_CHANNEL, &pipe_hooks);
    mpf_block_set_hooks(MPF_BLOCK_PIPE, &end_hooks);
}

static inline struct mpf_queue_shm *make_queue(uint64_t limit, bool joinable, struct mpf_ref *ref) {
    transport_start();
    struct mpf_queue_shm *queue = make(MPF_BLOCK_QUEUE, sizeof *queue, ref);
    CHECK_EQUAL(mpf_queue_init(arena, queue, limit, joinable), 0);
    return queue;
}

/* A message begins with who sent it and a number; the rest follows from them. */
struct parcel {
    uint32_t sender, number;
    uint32_t rest[];
};

static inline void fill_parcel(struct parcel *parcel, uint32_t sender, uint32_t number, size_t bytes) {
    parcel->sender = sender;
    parcel->number = number;
    for (size_t i = 0; i < (bytes - sizeof *parcel) / 4; i++)
        parcel->rest[i] = sender * 31 + number + (uint32_t)i;
}

static inline void check_parcel(const struct mpf_lane_received *received, uint32_t *sender, uint32_t *number) {
    const struct parcel *parcel = received->data;
    CHECK(received->bytes >= sizeof *parcel);
    *sender = parcel->sender;
    *number = parcel->number;
    CHECK_EQUAL(received->tag, *number ^ 7);
    for (size_t i = 0; i < (received->bytes - sizeof *parcel) / 4; i++)
        CHECK_EQUAL(parcel->rest[i], *sender * 31 + *number + (uint32_t)i);
}

/* 0 or as mpf_lane_put; does not wait. */
static inline int put_parcel(struct mpf_lane_shm *lane, uint32_t sender, uint32_t number, size_t bytes,
                             const struct mpf_lane_limit *limit) {
    static _Thread_local char buffer[LONG_BYTES + 4];
    fill_parcel((struct parcel *)buffer, sender, number, bytes);
    struct mpf_lane_message message = {.data = buffer, .bytes = bytes, .tag = number ^ 7};
    struct mpf_ref block = {0};
    if (bytes <= MPF_LANE_INLINE_MAX)
        return mpf_lane_put(arena, lane, &message, limit, NULL);
    int rc = mpf_lane_fill(arena, &message, &block);
    if (rc == 0)
        rc = mpf_lane_put_block(arena, lane, &block, &message, limit, NULL);
    mpf_block_unref(&block);
    return rc;
}

static inline void put_patiently(struct mpf_lane_shm *lane, uint32_t sender, uint32_t number, size_t bytes,
                                 const struct mpf_lane_limit *limit) {
    int rc;
    while ((rc = put_parcel(lane, sender, number, bytes, limit)) == -EAGAIN) {
        struct mpf_park park = patient();
        CHECK_EQUAL(mpf_lane_await_room(&park, lane, limit), 0);
    }
    CHECK_EQUAL(rc, 0);
}

/* 0, -EAGAIN or -EPIPE. */
static inline int get_parcel(struct mpf_lane_shm *lane, uint32_t *sender, uint32_t *number) {
    static _Thread_local char buffer[MPF_LANE_INLINE_MAX];
    struct mpf_lane_received received;
    int rc = mpf_lane_get(arena, lane, buffer, &received);
    if (rc == 0) {
        check_parcel(&received, sender, number);
        mpf_block_unref(&received.block);
    }
    return rc;
}

/* 0 or -EPIPE. */
static inline int get_patiently(struct mpf_lane_shm *lane, uint32_t *sender, uint32_t *number) {
    int rc;
    while ((rc = get_parcel(lane, sender, number)) == -EAGAIN) {
        struct mpf_park park = patient();
        CHECK_EQUAL(mpf_lane_await_message(&park, lane), 0);
    }
    return rc;
}

static inline void expect_next(struct mpf_lane_shm *lane, uint32_t sender, uint32_t number) {
    uint32_t from = 0, which = 0;
    CHECK_EQUAL(get_parcel(lane, &from, &which), 0);
    CHECK_EQUAL(from, sender);
    CHECK_EQUAL(which, number);
}

#endif
