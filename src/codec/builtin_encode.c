/*
 * Purpose: write objects of exact builtin types in the codec's own format (wire.h).
 *
 * Layout: see wire.h.
 *
 * States: none beyond the encoder's.
 *
 * Invariants: no Python code runs in here and nothing is allocated that the garbage collector knows, so in a build with a
 * GIL no object changes or goes away underway and borrowed references are safe. In a free-threaded build each mutable
 * container is copied first, atomically, and the copy is kept until the end of the message; so a memo entry's object
 * cannot die and give its address to another.
 * What pickle would keep identical stays identical: an object that may be met twice is noted, and met again becomes a
 * reference. One whose only reference is the one we came by cannot be met twice.
 *
 * Callers: codec.c, attached to the interpreter.
 *
 * Death of the caller: nothing is shared.
 */
#include "codec/atom.h"
#include "codec/encoder.h"
#include "codec/wire.h"
#include "platform/copy.h"

#include <string.h>

enum { WRITTEN = 0, NOT_OURS = 1, FAILED = -1 };

/* The tuples being written, innermost first: a reference to one of them could not be read back. */
struct nesting {
    const struct nesting *up;
    const PyObject *tuple; /* or NULL */
    unsigned depth;
};

static int put_value(struct mpf_encoder *e, PyObject *obj, const struct nesting *in);

/* The count or length `n` after an operation of its own size. */
static int
put_head(struct mpf_encoder *e, enum mpf_op op8, enum mpf_op op, size_t n)
{
    uint8_t *p = mpf_encoder_reserve(e, 9);
    if (!p)
        return FAILED;
    if (op8 != op && n <= UINT8_MAX) {
        p[0] = (uint8_t)op8;
        p[1] = (uint8_t)n;
        e->len += 2;
    }
    else {
        uint64_t n64 = n;
        p[0] = (uint8_t)op;
        memcpy(p + 1, &n64, sizeof n64);
        e->len += 9;
    }
    return WRITTEN;
}

static int
put_bigint(struct mpf_encoder *e, PyObject *obj)
{
    size_t bytes;
    uint8_t *p;
#if PY_VERSION_HEX >= 0x030D0000
    Py_ssize_t want = PyLong_AsNativeBytes(obj, NULL, 0, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
    if (want < 0)
        return FAILED;
    bytes = (size_t)want;
#else
    bytes = _PyLong_NumBits(obj);
    if (bytes == (size_t)-1 && PyErr_Occurred())
        return FAILED;
    bytes = bytes / 8 + 1;
#endif
    if (put_head(e, MPF_OP_BIGINT, MPF_OP_BIGINT, bytes) < 0 || !(p = mpf_encoder_reserve(e, bytes)))
        return FAILED;
#if PY_VERSION_HEX >= 0x030D0000
    if (PyLong_AsNativeBytes(obj, p, (Py_ssize_t)bytes, Py_ASNATIVEBYTES_LITTLE_ENDIAN) < 0)
        return FAILED;
#else
    if (_PyLong_AsByteArray((PyLongObject *)obj, p, bytes, 1, 1) < 0)
        return FAILED;
#endif
    e->len += bytes;
    return WRITTEN;
}

/* Whether obj may turn up again in this message. */
static inline bool
may_be_shared(PyObject *obj)
{
#ifdef Py_GIL_DISABLED
    (void)obj;
    return true;
#else
    return Py_REFCNT(obj) > 1;
#endif
}

static int
put_reference(struct mpf_encoder *e, PyObject *obj, size_t distance, const struct nesting *in)
{
    uint64_t distance64 = distance;
    uint8_t *p;
    if (PyTuple_CheckExact(obj))
        for (; in; in = in->up)
            if (in->tuple == obj)
                return NOT_OURS;
    *mpf_encoder_at(e, distance) |= MPF_OP_SHARED;
    p = mpf_encoder_reserve(e, 9);
    if (!p)
        return FAILED;
    p[0] = MPF_OP_REF;
    memcpy(p + 1, &distance64, sizeof distance64);
    e->len += 9;
    return WRITTEN;
}

/* Begins an object that has an identity: true when it is dealt with (*result says how), false when it is to be written. */
static inline bool
met(struct mpf_encoder *e, PyObject *obj, const struct nesting *in, int *result)
{
    size_t distance;
    int seen;
    if (!may_be_shared(obj))
        return false;
    seen = mpf_encoder_visit(e, obj, &distance);
    if (seen == 0)
        return false;
    *result = seen < 0 ? FAILED : put_reference(e, obj, distance, in);
    return true;
}

static int
put_data(struct mpf_encoder *e, PyObject *owner, const void *data, size_t bytes)
{
    if (bytes >= MPF_ENCODER_PIECE_MIN)
        return mpf_encoder_add_piece(e, owner, data, bytes);
    return mpf_encoder_append(e, data, bytes);
}

static int
put_short(struct mpf_encoder *e, enum mpf_op op8, const void *data, size_t bytes)
{
    uint8_t *p = mpf_encoder_reserve(e, 2 + bytes);
    if (!p)
        return FAILED;
    p[0] = (uint8_t)op8;
    p[1] = (uint8_t)bytes;
    mpf_copy_short(p + 2, data, bytes);
    e->len += 2 + bytes;
    return WRITTEN;
}

#define PLAIN_MAX (2 + UINT8_MAX)

/* A short ASCII string that is met once, or an atom, which is what most values are: WRITTEN, NOT_OURS when it is neither (nothing
 * is written then), FAILED. */
static inline int
put_plain(struct mpf_encoder *e, PyObject *obj)
{
    uint8_t *p = mpf_encoder_reserve(e, PLAIN_MAX);
    size_t n;
    if (!p)
        return FAILED;
    if (PyUnicode_CheckExact(obj)) {
        n = (size_t)PyUnicode_GET_LENGTH(obj);
        /* Of those of length 0 and 1 there is one each, here and at the receiver. */
        if (!PyUnicode_IS_COMPACT_ASCII(obj) || n > UINT8_MAX || (n > 1 && may_be_shared(obj)))
            return NOT_OURS;
        p[0] = MPF_OP_ASCII8;
        p[1] = (uint8_t)n;
        mpf_copy_short(p + 2, (PyASCIIObject *)obj + 1, n);
        e->len += 2 + n;
        return WRITTEN;
    }
    n = mpf_atom_put(p, obj);
    e->len += n;
    return n ? WRITTEN : NOT_OURS;
}

static int
put_str(struct mpf_encoder *e, PyObject *obj, const struct nesting *in)
{
    static const enum mpf_op wide[] = {[1] = MPF_OP_LATIN1, [2] = MPF_OP_UCS2, [4] = MPF_OP_UCS4};
    size_t length, width;
    enum mpf_op op;
    int result;
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(obj) < 0)
        return FAILED;
#endif
    length = (size_t)PyUnicode_GET_LENGTH(obj);
    if (PyUnicode_IS_ASCII(obj)) {
        /* Of those of length 0 and 1 there is one each, here and at the receiver. */
        if (length > 1 && met(e, obj, in, &result))
            return result;
        if (length <= UINT8_MAX)
            return put_short(e, MPF_OP_ASCII8, PyUnicode_DATA(obj), length);
        op = MPF_OP_ASCII;
        width = 1;
    }
    else {
        if (met(e, obj, in, &result))
            return result;
        width = (size_t)PyUnicode_KIND(obj);
        op = wide[width];
    }
    if (put_head(e, op, op, length) < 0)
        return FAILED;
    return put_data(e, obj, PyUnicode_DATA(obj), length * width);
}

static int
put_bytes(struct mpf_encoder *e, PyObject *obj, const struct nesting *in)
{
    size_t length = (size_t)PyBytes_GET_SIZE(obj);
    int result;
    if (length > 1 && met(e, obj, in, &result))
        return result;
    if (length <= UINT8_MAX)
        return put_short(e, MPF_OP_BYTES8, PyBytes_AS_STRING(obj), length);
    if (put_head(e, MPF_OP_BYTES, MPF_OP_BYTES, length) < 0)
        return FAILED;
    return put_data(e, obj, PyBytes_AS_STRING(obj), length);
}

static int
put_bytearray(struct mpf_encoder *e, PyObject *obj, const struct nesting *in)
{
    Py_buffer view; /* keeps another thread from resizing it */
    int result;
    if (met(e, obj, in, &result))
        return result;
    if (PyObject_GetBuffer(obj, &view, PyBUF_SIMPLE) < 0)
        return FAILED;
    result = put_head(e, MPF_OP_BYTEARRAY, MPF_OP_BYTEARRAY, (size_t)view.len);
    if (result == WRITTEN) {
        if (view.len >= MPF_ENCODER_PIECE_MIN)
            result = mpf_encoder_add_view(e, &view);
        else
            result = mpf_encoder_append(e, view.buf, (size_t)view.len);
    }
    PyBuffer_Release(&view); /* nothing when it was taken over */
    return result;
}

#ifdef Py_GIL_DISABLED
/* Borrowed: a copy that nobody else has, kept for the length of the message. NULL with an exception set. */
static PyObject *
settled(struct mpf_encoder *e, PyObject *obj)
{
    PyObject *copy;
    int failed;
    if (PyDict_CheckExact(obj))
        copy = PyDict_Copy(obj);
    else if (PyList_CheckExact(obj))
        copy = PyList_GetSlice(obj, 0, PY_SSIZE_T_MAX);
    else
        copy = PySequence_List(obj);
    if (!copy || (!e->keep && !(e->keep = PyList_New(0)))) {
        Py_XDECREF(copy);
        return NULL;
    }
    failed = PyList_Append(e->keep, copy);
    Py_DECREF(copy);
    return failed ? NULL : copy;
}
#endif

static inline int
put_item(struct mpf_encoder *e, PyObject *obj, const struct nesting *in)
{
    int result = put_plain(e, obj);
    return result == NOT_OURS ? put_value(e, obj, in) : result;
}

static int
put_items(struct mpf_encoder *e, PyObject *const *items, Py_ssize_t count, const struct nesting *in)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        int result = put_item(e, items[i], in);
        if (result != WRITTEN)
            return result;
    }
    return WRITTEN;
}

static int
put_tuple(struct mpf_encoder *e, PyObject *obj, const struct nesting *up)
{
    const struct nesting in = {.up = up, .tuple = obj, .depth = up->depth + 1};
    Py_ssize_t count = PyTuple_GET_SIZE(obj);
    int result;
    if (count > 0 && met(e, obj, up, &result))
        return result;
    if (put_head(e, MPF_OP_TUPLE8, MPF_OP_TUPLE, (size_t)count) < 0)
        return FAILED;
    return put_items(e, ((PyTupleObject *)obj)->ob_item, count, &in);
}

static int
put_list(struct mpf_encoder *e, PyObject *obj, const struct nesting *up)
{
    const struct nesting in = {.up = up, .depth = up->depth + 1};
    int result;
    if (met(e, obj, up, &result))
        return result;
#ifdef Py_GIL_DISABLED
    if (!(obj = settled(e, obj)))
        return FAILED;
#endif
    if (put_head(e, MPF_OP_LIST8, MPF_OP_LIST, (size_t)PyList_GET_SIZE(obj)) < 0)
        return FAILED;
    return put_items(e, ((PyListObject *)obj)->ob_item, PyList_GET_SIZE(obj), &in);
}

static int
put_dict(struct mpf_encoder *e, PyObject *obj, const struct nesting *up)
{
    const struct nesting in = {.up = up, .depth = up->depth + 1};
    PyObject *key, *value; /* borrowed */
    Py_ssize_t pos = 0;
    int result;
    if (met(e, obj, up, &result))
        return result;
#ifdef Py_GIL_DISABLED
    if (!(obj = settled(e, obj)))
        return FAILED;
#endif
    if (put_head(e, MPF_OP_DICT8, MPF_OP_DICT, (size_t)PyDict_GET_SIZE(obj)) < 0)
        return FAILED;
    while (PyDict_Next(obj, &pos, &key, &value)) {
        result = put_item(e, key, &in);
        if (result == WRITTEN)
            result = put_item(e, value, &in);
        if (result != WRITTEN)
            return result;
    }
    return WRITTEN;
}

static int
put_set(struct mpf_encoder *e, PyObject *obj, const struct nesting *up)
{
    const struct nesting in = {.up = up, .depth = up->depth + 1};
    enum mpf_op op = PyFrozenSet_CheckExact(obj) ? MPF_OP_FROZENSET : MPF_OP_SET;
    int result;
    if (met(e, obj, up, &result))
        return result;
#ifdef Py_GIL_DISABLED
    if (!(obj = settled(e, obj)) || put_head(e, op, op, (size_t)PyList_GET_SIZE(obj)) < 0)
        return FAILED;
    return put_items(e, ((PyListObject *)obj)->ob_item, PyList_GET_SIZE(obj), &in);
#else
    {
        /* Read in place: an iterator is an object of the garbage collector's. */
        const PySetObject *set = (const PySetObject *)obj;
        if (put_head(e, op, op, (size_t)set->used) < 0)
            return FAILED;
        for (Py_ssize_t i = 0; i <= set->mask; i++) {
            const setentry *entry = &set->table[i];
            if (!entry->key || entry->hash == -1) /* never used, or left by a removal */
                continue;
            result = put_value(e, entry->key, &in);
            if (result != WRITTEN)
                return result;
        }
        return WRITTEN;
    }
#endif
}

static bool
is_short_ascii(PyObject *s)
{
    return s && PyUnicode_CheckExact(s) &&
#if PY_VERSION_HEX < 0x030C0000
           PyUnicode_IS_READY(s) &&
#endif
           PyUnicode_IS_ASCII(s) && PyUnicode_GET_LENGTH(s) > 0 && PyUnicode_GET_LENGTH(s) <= UINT8_MAX;
}

/* New reference, or NULL without an exception: the attribute `name` of the module `module` as it lies in its dictionary.
 * Nothing that could run code is asked. */
static PyObject *
look_up(PyObject *module, PyObject *name)
{
    PyObject *found;
    PyObject *m = mpf_imports_module(module);
    if (!m || !PyModule_CheckExact(m)) {
        Py_XDECREF(m);
        PyErr_Clear();
        return NULL;
    }
    found = PyDict_GetItemWithError(PyModule_GetDict(m), name); /* borrowed */
    Py_XINCREF(found);
    if (!found)
        PyErr_Clear();
    Py_DECREF(m);
    return found;
}

/* Functions and classes go by name, as with pickle, if the name leads back to them; pickle decides about all others. */
static int
put_name(struct mpf_encoder *e, PyObject *obj, const struct nesting *in)
{
    PyObject *module, *name, *found = NULL;
    int result = NOT_OURS;
    if (met(e, obj, in, &result))
        return result;
#ifndef Py_GIL_DISABLED
    if (PyFunction_Check(obj)) {
        module = Py_XNewRef(((PyFunctionObject *)obj)->func_module);
        name = Py_XNewRef(((PyFunctionObject *)obj)->func_qualname);
    }
    else
#endif
    {
        module = PyObject_GetAttrString(obj, "__module__");
        name = module ? PyObject_GetAttrString(obj, "__qualname__") : NULL;
    }
    if (!module || !name) {
        PyErr_Clear();
        goto done;
    }
    if (e->main_is_private && PyUnicode_Check(module) && PyUnicode_CompareWithASCIIString(module, "__main__") == 0)
        goto done;
    if (!is_short_ascii(module) || !is_short_ascii(name) || !(found = look_up(module, name)) || found != obj)
        goto done;
    {
        size_t m = (size_t)PyUnicode_GET_LENGTH(module), n = (size_t)PyUnicode_GET_LENGTH(name);
        uint8_t *p = mpf_encoder_reserve(e, 3 + m + n);
        if (!p) {
            result = FAILED;
            goto done;
        }
        p[0] = MPF_OP_NAME;
        p[1] = (uint8_t)m;
        p[2] = (uint8_t)n;
        memcpy(p + 3, PyUnicode_DATA(module), m);
        memcpy(p + 3 + m, PyUnicode_DATA(name), n);
        e->len += 3 + m + n;
    }
    e->buf[0] = MPF_OP_NAMES;
    e->start = 0;
    result = WRITTEN;
done:
    Py_XDECREF(found);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return result;
}

static int
put_value(struct mpf_encoder *e, PyObject *obj, const struct nesting *in)
{
    PyTypeObject *type = Py_TYPE(obj);
    uint8_t *p;
    size_t n;
    if (type == &PyUnicode_Type)
        return put_str(e, obj, in);
    p = mpf_encoder_reserve(e, MPF_ATOM_ROOM);
    if (!p)
        return FAILED;
    n = mpf_atom_put(p, obj);
    if (n) {
        e->len += n;
        return WRITTEN;
    }
    if (type == &PyBytes_Type)
        return put_bytes(e, obj, in);
    if (type == &PyLong_Type)
        return put_bigint(e, obj);
    if (type == &PyByteArray_Type)
        return put_bytearray(e, obj, in);
    if (type == &PyFunction_Type || type == &PyType_Type)
        return put_name(e, obj, in);
    if (in->depth >= MPF_WIRE_DEPTH)
        return NOT_OURS;
    if (type == &PyTuple_Type)
        return put_tuple(e, obj, in);
    if (type == &PyDict_Type)
        return put_dict(e, obj, in);
    if (type == &PyList_Type)
        return put_list(e, obj, in);
    if (type == &PySet_Type || type == &PyFrozenSet_Type)
        return put_set(e, obj, in);
    return NOT_OURS;
}

int
mpf_builtin_encode(struct mpf_encoder *e, PyObject *obj)
{
    const struct nesting outermost = {.up = NULL, .tuple = NULL, .depth = 0};
    return put_value(e, obj, &outermost);
}

int
mpf_builtin_encode_items(struct mpf_encoder *e, PyObject *const *items, Py_ssize_t count)
{
    const struct nesting outermost = {.up = NULL, .tuple = NULL, .depth = 1};
    if (put_head(e, MPF_OP_LIST8, MPF_OP_LIST, (size_t)count) < 0)
        return FAILED;
    return put_items(e, items, count, &outermost);
}
