/* Encoder: the scratch memory of one message. Small things are written into it; large ones are left where they are, as
 * pieces to be put between its bytes, or as buffers to follow them at aligned places. */
#ifndef MPF_CODEC_ENCODER_H
#define MPF_CODEC_ENCODER_H

#include "codec/internal.h"

/* From this size on copying once more costs more than the bookkeeping of a piece. */
#define MPF_ENCODER_PIECE_MIN 4096

struct mpf_piece {
    size_t at;      /* pieces: goes before scratch byte `at`. Buffers: distance from the start of the message. */
    Py_buffer view; /* held */
};

struct mpf_pieces {
    struct mpf_piece **items; /* each has a place of its own: a Py_buffer may point into itself */
    size_t count, room;
    size_t bytes; /* in all of them */
};

struct mpf_memo_entry {
    const PyObject *object;
    uint64_t stamp; /* epoch << 48 | distance; another epoch: empty */
};

struct mpf_encoder {
    uint8_t *buf;
    size_t len, room;
    size_t start;            /* first byte of buf that belongs to the message */
    struct mpf_pieces pieces, buffers;
    struct mpf_memo_entry *memo;
    size_t memo_room, memo_used; /* room is 0 or a power of two */
    unsigned memo_shift;
    uint16_t epoch;
    bool main_is_private;       /* what __main__ has does not go by name alone */
    PyObject *keep;             /* list of copies of containers, or NULL (free-threaded builds) */
    struct mpf_pickler *pickler; /* or NULL */
};

struct mpf_encoder *mpf_encoder_new(void);
void mpf_encoder_free(struct mpf_encoder *e);
/* Back to an empty message. */
void mpf_encoder_reset(struct mpf_encoder *e);
/* Drops references, and memory that only a large message needs. */
void mpf_encoder_retire(struct mpf_encoder *e);
int mpf_encoder_grow(struct mpf_encoder *e, size_t more);
/* A piece here: the memory of obj, which never moves while obj lives (bytes, str); or that of a view, taken over. */
int mpf_encoder_add_piece(struct mpf_encoder *e, PyObject *obj, const void *ptr, size_t bytes);
int mpf_encoder_add_view(struct mpf_encoder *e, Py_buffer *view);
/* A buffer: the memory of obj through the buffer interface. */
int mpf_encoder_add_buffer(struct mpf_encoder *e, PyObject *obj);
size_t mpf_encoder_total(const struct mpf_encoder *e);
void mpf_encoder_write(const struct mpf_encoder *e, uint8_t *dest);
/* 1: seen before, at *distance; 0: noted, at the present end; -1: exception set. */
int mpf_encoder_visit(struct mpf_encoder *e, const PyObject *obj, size_t *distance);
/* The scratch byte at this distance. */
uint8_t *mpf_encoder_at(struct mpf_encoder *e, size_t distance);

/* Room for n more bytes at the end, or NULL with MemoryError set. */
static inline uint8_t *
mpf_encoder_reserve(struct mpf_encoder *e, size_t n)
{
    if (e->room - e->len < n && mpf_encoder_grow(e, n) < 0)
        return NULL;
    return e->buf + e->len;
}

static inline int
mpf_encoder_append(struct mpf_encoder *e, const void *data, size_t n)
{
    uint8_t *p = mpf_encoder_reserve(e, n);
    if (!p)
        return -1;
    memcpy(p, data, n);
    e->len += n;
    return 0;
}

/* Bytes appended so far, pieces included, counted from the first scratch byte after the one kept for a prefix. */
static inline size_t
mpf_encoder_distance(const struct mpf_encoder *e)
{
    return e->len - 1 + e->pieces.bytes;
}

#endif
