/* Shapes: the keys of dicts that come again and again, as programs send records of one kind. A dict whose shape is known is
 * a copy of a blank one, into which only the values are put: no key is made, hashed or inserted. */
#ifndef MPF_CODEC_SHAPE_H
#define MPF_CODEC_SHAPE_H

#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MPF_SHAPE_MIN 4  /* pairs; a smaller dict is made as fast without */
#define MPF_SHAPE_MAX 48

#define MPF_SHAPE_BITS 5 /* 1 << this places for shapes */

struct mpf_shape_key {
    PyObject *string;  /* borrowed from `blank` */
    const uint8_t *at; /* as it is in a message, with its operation */
    size_t bytes;      /* at least MPF_SHAPE_KEY_MIN */
};

#define MPF_SHAPE_KEY_MIN 4

struct mpf_shape {
    size_t holders; /* its place, and who decodes with it */
    PyObject *blank; /* owned: the keys in their order, each with None; nobody else sees it */
    size_t count;
    size_t first, stride; /* words: where the first key lies in a copy's table, and how far the next; stride 0: not known */
    struct mpf_shape_key keys[MPF_SHAPE_MAX];
    uint8_t bytes[];
};

struct mpf_shape_place {
    uint64_t sign;    /* of the dicts that came here last */
    struct mpf_shape *shape; /* or NULL */
    uint32_t seen;    /* dicts of that sign, one after the other, without a shape */
    uint32_t patience; /* how many of them it takes to make one; more after each that was wrong */
    uint32_t strangers; /* dicts of other signs since one of this sign */
};

struct mpf_shapes {
    struct mpf_shape_place places[1 << MPF_SHAPE_BITS];
};

/* What tells dicts of `count` pairs, the first 8 bytes of which are `first`, from most others; 0: they have no shape. */
static inline uint64_t
mpf_shape_sign(size_t count, uint64_t first, uint8_t key_op)
{
    unsigned length = (unsigned)(first >> 8) & 0xff;
    if (count < MPF_SHAPE_MIN || count > MPF_SHAPE_MAX || (uint8_t)first != key_op || length < 2)
        return 0;
    if (length < 6)
        first &= (UINT64_C(1) << (8 * (length + 2))) - 1;
    return first ^ (uint64_t)count * UINT64_C(0x9E3779B97F4A7C15);
}

static inline struct mpf_shape_place *
mpf_shape_place(struct mpf_shapes *shapes, uint64_t sign)
{
    return &shapes->places[sign * UINT64_C(0x9E3779B97F4A7C15) >> (64 - MPF_SHAPE_BITS)];
}

/* The shape that a dict of that sign and of n pairs may have, held for the caller; or NULL. */
static inline struct mpf_shape *
mpf_shape_find(struct mpf_shapes *shapes, uint64_t sign, size_t n)
{
    struct mpf_shape_place *place = mpf_shape_place(shapes, sign);
    if (place->sign != sign || !place->shape || place->shape->count != n)
        return NULL;
    place->strangers = 0;
    place->shape->holders++;
    return place->shape;
}

void mpf_shape_release(struct mpf_shape *shape);

/* New reference to a dict with the keys of the shape and these values, or NULL with an exception set. Steals all values. */
PyObject *mpf_shape_fill(const struct mpf_shape *shape, PyObject *const *values);

/* A dict of that sign was made of n pairs without a shape. No exception is ever set. */
void mpf_shape_note(struct mpf_shapes *shapes, uint64_t sign, PyObject *dict, size_t n);
/* A dict of that sign had another shape than the one found. */
void mpf_shape_doubt(struct mpf_shapes *shapes, uint64_t sign);

void mpf_shape_forget_all(struct mpf_shapes *shapes);

/* Whether the n bytes (MPF_SHAPE_KEY_MIN or more) at both places are the same; each is looked at once. */
static inline bool
mpf_shape_same(const uint8_t *p, const uint8_t *q, size_t n)
{
    if (n > 16)
        return memcmp(p, q, n) == 0;
    if (n >= 8) {
        uint64_t a, b, c, d;
        memcpy(&a, p, 8);
        memcpy(&b, q, 8);
        memcpy(&c, p + n - 8, 8);
        memcpy(&d, q + n - 8, 8);
        return ((a ^ b) | (c ^ d)) == 0;
    }
    uint32_t a, b, c, d;
    memcpy(&a, p, 4);
    memcpy(&b, q, 4);
    memcpy(&c, p + n - 4, 4);
    memcpy(&d, q + n - 4, 4);
    return ((a ^ b) | (c ^ d)) == 0;
}

#endif
