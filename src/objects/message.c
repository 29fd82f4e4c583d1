/*
 * Purpose: carries objects between the codec and a lane.
 *
 * Layout: a short message is decoded from a buffer on the receiver's stack. A long one stays in its block: what the codec
 * can use in place (the memory of an array) is handed out as a _Buffer that keeps the block, the rest is copied.
 *
 *   array -> _Buffer (offset, length) -> _Message -> reference to the block
 *
 * Invariants: a block has one receiver, so what is handed out of it is private and may be written.
 *
 * Callers: the methods of queues and connections, attached to the interpreter. Copies of more than MESSAGE_DETACH bytes
 * are made detached.
 *
 * Death of the sender or the receiver: see transport/lane.c; a block in the hands of a Python object is one of the
 * references of this process.
 */
#include "objects/message.h"

#include <errno.h>

#include "objects/types.h"

#define MESSAGE_DETACH (256 * 1024)

struct message_block {
    PyObject_HEAD
    struct mpf_ref ref;
};

struct message_buffer {
    PyObject_HEAD
    PyObject *block; /* owned */
    char *data;
    Py_ssize_t bytes;
    bool readonly;
};

static void
message_block_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mpf_block_unref(&((struct message_block *)self)->ref);
    type->tp_free(self);
    Py_DECREF(type);
}

static void
message_buffer_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_DECREF(((struct message_buffer *)self)->block);
    type->tp_free(self);
    Py_DECREF(type);
}

static int
message_buffer_get(PyObject *self, Py_buffer *view, int flags)
{
    struct message_buffer *buffer = (struct message_buffer *)self;
    return PyBuffer_FillInfo(view, self, buffer->data, buffer->bytes, buffer->readonly, flags);
}

static PyType_Slot message_block_slots[] = {
    {Py_tp_dealloc, message_block_dealloc},
    {0, NULL},
};

static PyType_Spec message_block_spec = {
    .name = "mpfast._core._Message",
    .basicsize = sizeof(struct message_block),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = message_block_slots,
};

static PyType_Slot message_buffer_slots[] = {
    {Py_tp_dealloc, message_buffer_dealloc},
    {Py_bf_getbuffer, message_buffer_get},
    {0, NULL},
};

static PyType_Spec message_buffer_spec = {
    .name = "mpfast._core._Buffer",
    .basicsize = sizeof(struct message_buffer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = message_buffer_slots,
};

int
mpf_message_register(PyObject *module)
{
    struct mpf_state *state = mpf_state_of(module);
    if (mpf_state_add_type(module, &message_block_spec, NULL, &state->message_type) < 0) {
        return -1;
    }
    return mpf_state_add_type(module, &message_buffer_spec, NULL, &state->buffer_type);
}

/* ---- sending ---- */

void
mpf_message_write(const void *message, void *destination)
{
    mpf_codec_write(message, destination);
}

static int
message_fill(struct mpf_arena *arena, const struct mpf_lane_message *message, struct mpf_ref *block)
{
    int rc;
    if (message->bytes <= MESSAGE_DETACH) {
        return mpf_lane_fill(arena, message, block);
    }
    Py_BEGIN_ALLOW_THREADS
    rc = mpf_lane_fill(arena, message, block);
    Py_END_ALLOW_THREADS
    return rc;
}

int
mpf_message_send(struct mpf_wait *wait, struct mpf_lane_shm *lane, const struct mpf_lane_message *parcel,
                 const struct mpf_lane_limit *limit, const struct mpf_lane_ringer *ringer)
{
    struct mpf_arena *arena = wait->park.arena;
    struct mpf_ref block = {0};
    bool spill = parcel->bytes > MPF_LANE_INLINE_MAX;
    int rc = 0;
    for (;;) {
        /* A lane that is closed is tried, full or not: it says why it takes nothing. */
        if (spill && block.off == 0 && (!mpf_lane_full(lane, limit) || atomic_load(&lane->closed) != 0)) {
            rc = message_fill(arena, parcel, &block);
        }
        if (rc == 0) {
            rc = !spill             ? mpf_lane_put(arena, lane, parcel, limit, ringer)
                 : block.off == 0   ? -EAGAIN
                                    : mpf_lane_put_block(arena, lane, &block, parcel, limit, ringer);
        }
        if (rc != -EAGAIN || wait->park.deadline == 0) {
            break;
        }
        rc = mpf_lane_await_room(&wait->park, lane, limit);
        if (rc < 0) {
            break;
        }
    }
    if (rc < 0) {
        mpf_block_unref(&block);
    }
    if (rc == -ENOMEM) {
        mpf_lane_pass_room(lane);
    }
    return rc;
}

/* ---- receiving ---- */

int
mpf_message_receive(struct mpf_wait *wait, struct mpf_lane_shm *lane, void *buffer, struct mpf_lane_received *received)
{
    for (;;) {
        int rc = mpf_lane_get(wait->park.arena, lane, buffer, received);
        if (rc != -EAGAIN || wait->park.deadline == 0) {
            return rc;
        }
        rc = mpf_lane_await_message(&wait->park, lane);
        if (rc < 0) {
            return rc;
        }
    }
}

struct message_adoption {
    struct mpf_state *state;
    PyObject *block; /* owned */
    char *message;   /* where it begins in the block */
};

static PyObject *
message_adopt(void *context, size_t offset, size_t length, bool readonly)
{
    struct message_adoption *adoption = context;
    struct message_buffer *buffer = PyObject_New(struct message_buffer, adoption->state->buffer_type);
    if (buffer == NULL) {
        return NULL;
    }
    buffer->block = Py_NewRef(adoption->block);
    buffer->data = adoption->message + offset;
    buffer->bytes = (Py_ssize_t)length;
    buffer->readonly = readonly;
    return (PyObject *)buffer;
}

PyObject *
mpf_message_decode_block(struct mpf_state *state, struct mpf_lane_received *received)
{
    struct message_block *block = PyObject_New(struct message_block, state->message_type);
    if (block == NULL) {
        mpf_block_unref(&received->block);
        return NULL;
    }
    block->ref = received->block;
    received->block = (struct mpf_ref){0};
    struct message_adoption adoption = {state, (PyObject *)block, received->data};
    struct mpf_adopter adopter = {message_adopt, &adoption};
    PyObject *object = mpf_codec_decode(state->codec, received->data, received->bytes, &adopter);
    Py_DECREF(block);
    return object;
}
