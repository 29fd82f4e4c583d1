/*
 * Purpose: remember the keys of dicts that come again and again.
 *
 * Layout: private memory only: a table of places, one shape each at most. A shape is one piece of memory: its keys, then their
 * bytes as they stand in a message.
 *
 * States of a place: strange -> seen `patience` times -> with a shape -> strange again: when many others came by instead; or,
 * and more patient, when a dict of that sign turns out to have other keys. So a program whose dicts only look alike soon pays
 * nothing for shapes.
 *
 * Invariants: a shape does not change once it is made. Decoding may run finalizers, which may decode, and drop the shape from its
 * place: who uses one holds it.
 *
 * Where the values of a dict lie is nobody's business but the interpreter's, and putting a value through its interface costs a
 * search each. So it is looked up in the blank one: its table is searched for the keys in their order, each with its None after
 * it, at equal distances; and it is tried with a copy whether what is stored there is what the interface then finds. Where any
 * of this is not so, values go through the interface. A value that the collector may have to know goes there anyway.
 *
 * Callers: builtin_decode.c, holding the GIL; builds without one have no shapes.
 *
 * Death of the caller: nothing is shared.
 */
#include "codec/shape.h"

#include "codec/internal.h"
#include "codec/wire.h"

#define PATIENCE_FIRST 2
#define PATIENCE_MAX (1u << 20)
#define STRANGERS_MAX 64

void
mpf_shape_release(struct mpf_shape *shape)
{
    if (--shape->holders)
        return;
    Py_DECREF(shape->blank);
    PyMem_Free(shape);
}

static void
drop(struct mpf_shape_place *place)
{
    struct mpf_shape *shape = place->shape;
    place->shape = NULL;
    place->seen = place->strangers = 0;
    if (shape)
        mpf_shape_release(shape);
}

void
mpf_shape_forget_all(struct mpf_shapes *shapes)
{
    for (int i = 0; i < 1 << MPF_SHAPE_BITS; i++)
        drop(&shapes->places[i]);
}

/* Bytes of such a key in a message, or 0. */
static size_t
key_bytes(PyObject *key)
{
    Py_ssize_t length;
    if (!PyUnicode_CheckExact(key) || !PyUnicode_IS_ASCII(key))
        return 0;
    length = PyUnicode_GET_LENGTH(key);
    return length >= 2 && length <= UINT8_MAX ? 2 + (size_t)length : 0;
}

/* All keys of the dict, in a message; 0: not all of them can be part of a shape. */
static size_t
all_key_bytes(PyObject *dict)
{
    PyObject *key, *value; /* borrowed */
    Py_ssize_t pos = 0;
    size_t all = 0;
    while (PyDict_Next(dict, &pos, &key, &value)) {
        size_t bytes = key_bytes(key);
        if (!bytes)
            return 0;
        all += bytes;
    }
    return all;
}

/* New reference to a dict of these keys that the garbage collector does not show to anybody, or NULL. */
static PyObject *
make_blank(PyObject *dict)
{
    PyObject *key, *value, *blank = PyDict_Copy(dict); /* with all its room */
    Py_ssize_t pos = 0;
    while (blank && PyDict_Next(dict, &pos, &key, &value))
        if (PyDict_SetItem(blank, key, Py_None) < 0)
            Py_CLEAR(blank);
#if PY_VERSION_HEX < 0x030E0000 /* from there on every dict is known to the collector, and so is a copy of one that is */
    if (blank)
        PyObject_GC_UnTrack(blank);
#endif
    return blank;
}

/* ---- where the values lie ---- */

static PyObject **
table_of(PyObject *dict)
{
    return (PyObject **)((PyDictObject *)dict)->ma_keys;
}

/* Words of its table, or 0. */
static size_t
table_words(PyObject *dict)
{
    PyObject *size = PyObject_CallMethod(dict, "__sizeof__", NULL);
    Py_ssize_t bytes = size ? PyLong_AsSsize_t(size) - PyDict_Type.tp_basicsize : -1;
    Py_XDECREF(size);
    PyErr_Clear();
    return bytes > 0 ? (size_t)bytes / sizeof(PyObject *) : 0;
}

static bool
lie_at(const struct mpf_shape *shape, PyObject *const *table, size_t words, size_t first, size_t stride)
{
    if (first + (shape->count - 1) * stride + 2 > words)
        return false;
    for (size_t i = 0; i < shape->count; i++) {
        PyObject *const *entry = table + first + i * stride;
        if (entry[0] != shape->keys[i].string || entry[1] != Py_None)
            return false;
    }
    return true;
}

/* Whether a value that is stored into a copy is found there. */
static bool
work(struct mpf_shape *shape)
{
    PyObject *values[MPF_SHAPE_MAX], *dict;
    bool all = true;
    for (size_t i = 0; i < shape->count; i++)
        values[i] = Py_NewRef(i % 3 ? Py_True : Py_False);
    if (!(dict = mpf_shape_fill(shape, values))) {
        PyErr_Clear();
        return false;
    }
    for (size_t i = 0; i < shape->count; i++)
        all = all && PyDict_GetItemWithError(dict, shape->keys[i].string) == (i % 3 ? Py_True : Py_False);
    all = all && (size_t)PyDict_GET_SIZE(dict) == shape->count;
    Py_DECREF(dict);
    return all;
}

static void
locate(struct mpf_shape *shape)
{
    PyObject *const *table = table_of(shape->blank);
    size_t words = table_words(shape->blank);
    for (size_t first = 0; first < words; first++)
        for (size_t stride = 2; stride <= 3; stride++)
            if (table[first] == shape->keys[0].string && lie_at(shape, table, words, first, stride)) {
                shape->first = first;
                shape->stride = stride;
                if (!work(shape))
                    shape->stride = 0;
                return;
            }
}

PyObject *
mpf_shape_fill(const struct mpf_shape *shape, PyObject *const *values)
{
    PyObject *dict = PyDict_Copy(shape->blank), **entry;
    int failed = !dict;
    entry = shape->stride && dict ? table_of(dict) + shape->first : NULL;
    for (size_t i = 0; i < shape->count; i++) {
        PyObject *key = shape->keys[i].string, *value = values[i];
        if (entry && !PyType_IS_GC(Py_TYPE(value)) && entry[0] == key && entry[1] == Py_None) {
            entry[1] = value;
            Py_DECREF(Py_None);
        }
        else {
            failed = failed || PyDict_SetItem(dict, key, value) < 0;
            Py_DECREF(value);
        }
        if (entry)
            entry += shape->stride;
    }
    if (failed)
        Py_CLEAR(dict);
    return dict;
}

/* ---- learning ---- */

/* NULL, without an exception, where there is no memory. */
static struct mpf_shape *
make(PyObject *dict, size_t bytes)
{
    struct mpf_shape *shape = PyMem_Malloc(sizeof *shape + bytes);
    PyObject *key, *value; /* borrowed */
    Py_ssize_t pos = 0;
    uint8_t *at;
    if (!shape || !(shape->blank = make_blank(dict))) {
        PyMem_Free(shape);
        PyErr_Clear();
        return NULL;
    }
    shape->holders = 1;
    shape->count = shape->first = shape->stride = 0;
    at = shape->bytes;
    while (PyDict_Next(shape->blank, &pos, &key, &value)) {
        size_t length = (size_t)PyUnicode_GET_LENGTH(key);
        shape->keys[shape->count++] = (struct mpf_shape_key){key, at, 2 + length};
        at[0] = MPF_OP_ASCII8;
        at[1] = (uint8_t)length;
        memcpy(at + 2, PyUnicode_DATA(key), length);
        at += 2 + length;
    }
    locate(shape);
    return shape;
}

void
mpf_shape_note(struct mpf_shapes *shapes, uint64_t sign, PyObject *dict, size_t n)
{
    struct mpf_shape_place *place = mpf_shape_place(shapes, sign);
    struct mpf_shape *shape;
    size_t bytes;
    if (place->sign != sign) {
        if (place->shape && ++place->strangers < STRANGERS_MAX)
            return;
        drop(place);
        place->sign = sign;
        place->patience = PATIENCE_FIRST;
    }
    if (place->shape || ++place->seen < place->patience)
        return;
    place->seen = 0;
    if ((size_t)PyDict_GET_SIZE(dict) != n || !(bytes = all_key_bytes(dict)) || !(shape = make(dict, bytes)))
        return;
    /* Making it may have run finalizers, which may decode. */
    drop(place);
    if (place->sign == sign)
        place->shape = shape;
    else
        mpf_shape_release(shape);
}

void
mpf_shape_doubt(struct mpf_shapes *shapes, uint64_t sign)
{
    struct mpf_shape_place *place = mpf_shape_place(shapes, sign);
    if (place->sign != sign)
        return;
    drop(place);
    if (place->patience < PATIENCE_MAX)
        place->patience *= 4;
}
