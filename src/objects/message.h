/* Messages between the codec and a lane: sending an object, receiving one, with the long ones kept where they lie. */
#ifndef MPF_OBJECTS_MESSAGE_H
#define MPF_OBJECTS_MESSAGE_H

#include "codec/codec.h"
#include "objects/state.h"
#include "objects/wait.h"
#include "transport/lane.h"

/* mpf_codec_write as the lane calls it. */
void mpf_message_write(const void *message, void *destination);

/* The encoded message as the lane takes it; tag arrives with it. */
static inline struct mpf_lane_message mpf_message_parcel(const struct mpf_message *message, uint32_t tag) {
    return (struct mpf_lane_message){message->flat, message->bytes, mpf_message_write, message, tag};
}

/* Puts it in the lane, waiting for room until the wait's deadline. 0, or -errno: -EAGAIN / -ETIMEDOUT (no room in time),
 * -EPIPE, -ESHUTDOWN, -ENOMEM, -EINTR (an exception is set). */
int mpf_message_send(struct mpf_wait *wait, struct mpf_lane_shm *lane, const struct mpf_lane_message *parcel,
                     const struct mpf_lane_limit *limit, const struct mpf_lane_ringer *ringer);

/* Waits for a message until the wait's deadline. buffer: MPF_LANE_INLINE_MAX bytes. 0, -EAGAIN / -ETIMEDOUT (none came),
 * -EPIPE (none will), -EINTR (an exception is set). */
int mpf_message_receive(struct mpf_wait *wait, struct mpf_lane_shm *lane, void *buffer, struct mpf_lane_received *received);

/* The object in a received message (uses `received` up), or NULL with an exception. */
PyObject *mpf_message_decode_block(struct mpf_state *state, struct mpf_lane_received *received);
static inline PyObject *mpf_message_decode(struct mpf_state *state, struct mpf_lane_received *received) {
    return received->block.off != 0 ? mpf_message_decode_block(state, received)
                                    : mpf_codec_decode(state->codec, received->data, received->bytes, NULL);
}

#endif
