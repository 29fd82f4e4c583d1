/*
 * Purpose: bytes that are the same for keys that are equal in Python, whatever the process and its PYTHONHASHSEED.
 *
 * Layout of a key: canonical bytes | the key as written, where the canonical bytes do not give it back
 *
 *   canonical bytes    a value in the codec's format (codec/wire.h), with one way to write it:
 *     number           the int where it is one of 64 bits (1, 1.0, True, numbers of subclasses); else the float where it is
 *                      one exactly; else the int
 *     str, bytes       themselves
 *     tuple            its elements, canonical; frozenset: likewise, in the order of their bytes
 *   none               foreign: any other type, NaN, and what holds one. The program's own code compares it.
 *
 * States: being written -> sealed (key->key is complete) -> dropped.
 *
 * Invariants: canonical bytes are equal exactly if the keys are. A key of a subclass is canonical only if the subclass compares
 * and hashes as its base does.
 *
 * Callers: the dict's methods, attached to the interpreter.
 *
 * Death of the caller: nothing is shared; links are references of the process.
 */
#include "objects/dict_key.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"
#include "codec/wire.h"
#include "objects/errors.h"

enum { KEY_FAILED = -1, KEY_FOREIGN = 0, KEY_WRITTEN = 1 };

#define KEY_DEPTH 100
#define KEY_INT64_LIMIT 9223372036854775808.0 /* 2 ** 63 */

/* What is being written. */
struct key_writer {
    struct mpf_state *state;
    struct mpf_key *key;
    bool plain; /* what is written gives back the key itself */
    int depth;
};

static int key_write(struct key_writer *writer, PyObject *object);

/* ---- bytes ---- */

static char *
key_reserve(struct mpf_key *key, size_t more)
{
    if (key->room - key->used >= more) {
        return key->bytes + key->used;
    }
    size_t room = 2 * key->room > key->used + more ? 2 * key->room : key->used + more;
    char *bytes = PyMem_RawMalloc(room);
    if (bytes == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(bytes, key->bytes, key->used);
    if (key->bytes != key->small) {
        PyMem_RawFree(key->bytes);
    }
    key->bytes = bytes;
    key->room = room;
    return bytes + key->used;
}

static int
key_append(struct mpf_key *key, const void *data, size_t bytes)
{
    char *at = key_reserve(key, bytes);
    if (at == NULL) {
        return KEY_FAILED;
    }
    memcpy(at, data, bytes);
    key->used += bytes;
    return KEY_WRITTEN;
}

static int
key_append_head(struct mpf_key *key, int short_op, int op, size_t count)
{
    char head[9];
    if (short_op != op && count <= UINT8_MAX) {
        head[0] = (char)short_op;
        head[1] = (char)count;
        return key_append(key, head, 2);
    }
    uint64_t wide = count;
    head[0] = (char)op;
    memcpy(head + 1, &wide, sizeof(wide));
    return key_append(key, head, 9);
}

/* A message of the codec, at the end. Collects links. */
static int
key_append_message(struct key_writer *writer, struct mpf_arena *arena, PyObject *object)
{
    struct mpf_key *key = writer->key;
    struct mpf_message message;
    struct mpf_keeper keeper;
    mpf_keeper_begin(&keeper, arena);
    int done = mpf_codec_encode(writer->state->codec, object, &message);
    mpf_keeper_end(&keeper);
    if (done == 0) {
        char *at = key_reserve(key, message.bytes);
        if (at != NULL) {
            mpf_codec_write(&message, at);
            key->used += message.bytes;
        }
        done = at != NULL ? 0 : -1;
        mpf_codec_release(writer->state->codec, &message);
    }
    if (done < 0) {
        mpf_keeper_drop(&keeper);
        return KEY_FAILED;
    }
    key->links = keeper.refs;
    key->link_count = keeper.count;
    return KEY_WRITTEN;
}

/* ---- numbers ---- */

static int
key_write_int64(struct mpf_key *key, int64_t value)
{
    char bytes[9];
    if (value >= MPF_INT_FIRST && value <= MPF_INT_LAST) {
        bytes[0] = (char)(0x80 + (value - MPF_INT_FIRST));
        return key_append(key, bytes, 1);
    }
    if (value == (int16_t)value) {
        int16_t narrow = (int16_t)value;
        bytes[0] = MPF_OP_INT16;
        memcpy(bytes + 1, &narrow, sizeof(narrow));
        return key_append(key, bytes, 1 + sizeof(narrow));
    }
    if (value == (int32_t)value) {
        int32_t narrow = (int32_t)value;
        bytes[0] = MPF_OP_INT32;
        memcpy(bytes + 1, &narrow, sizeof(narrow));
        return key_append(key, bytes, 1 + sizeof(narrow));
    }
    bytes[0] = MPF_OP_INT64;
    memcpy(bytes + 1, &value, sizeof(value));
    return key_append(key, bytes, sizeof(bytes));
}

static int
key_write_double(struct mpf_key *key, double value)
{
    char bytes[9];
    bytes[0] = MPF_OP_FLOAT;
    memcpy(bytes + 1, &value, sizeof(value));
    return key_append(key, bytes, sizeof(bytes));
}

/* An int of more than 64 bits: the float that it equals, if there is one. */
static int
key_write_bigint(struct key_writer *writer, PyObject *object)
{
    double value = PyLong_AsDouble(object);
    if (value == -1.0 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return KEY_FAILED;
        }
        PyErr_Clear();
    } else {
        PyObject *back = PyLong_FromDouble(value);
        int same = back != NULL ? PyObject_RichCompareBool(back, object, Py_EQ) : -1;
        Py_XDECREF(back);
        if (same < 0) {
            return KEY_FAILED;
        }
        if (same) {
            writer->plain = false;
            return key_write_double(writer->key, value);
        }
    }
    PyObject *exact = PyLong_CheckExact(object) ? Py_NewRef(object) : PyNumber_Positive(object);
    struct mpf_message message;
    if (exact == NULL || mpf_codec_encode(writer->state->codec, exact, &message) < 0) {
        Py_XDECREF(exact);
        return KEY_FAILED;
    }
    char *at = key_reserve(writer->key, message.bytes);
    if (at != NULL) {
        mpf_codec_write(&message, at);
        writer->key->used += message.bytes;
    }
    mpf_codec_release(writer->state->codec, &message);
    Py_DECREF(exact);
    return at != NULL ? KEY_WRITTEN : KEY_FAILED;
}

static int
key_write_int(struct key_writer *writer, PyObject *object)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (value == -1 && PyErr_Occurred()) {
        return KEY_FAILED;
    }
    return overflow ? key_write_bigint(writer, object) : key_write_int64(writer->key, value);
}

static int
key_write_float(struct key_writer *writer, PyObject *object)
{
    double value = PyFloat_AS_DOUBLE(object);
    if (isnan(value)) {
        return KEY_FOREIGN;
    }
    if (value >= -KEY_INT64_LIMIT && value < KEY_INT64_LIMIT && floor(value) == value) {
        writer->plain = false;
        return key_write_int64(writer->key, (int64_t)value);
    }
    return key_write_double(writer->key, value);
}

/* ---- str, bytes ---- */

static int
key_write_str(struct key_writer *writer, PyObject *object)
{
    static const int wide[] = {[1] = MPF_OP_LATIN1, [2] = MPF_OP_UCS2, [4] = MPF_OP_UCS4};
    struct mpf_key *key = writer->key;
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(object) < 0) {
        return KEY_FAILED;
    }
#endif
    size_t length = (size_t)PyUnicode_GET_LENGTH(object), width = 1;
    int short_op = MPF_OP_ASCII8, op = MPF_OP_ASCII;
    if (!PyUnicode_IS_ASCII(object)) {
        width = (size_t)PyUnicode_KIND(object);
        short_op = op = wide[width];
    }
    if (key_append_head(key, short_op, op, length) < 0) {
        return KEY_FAILED;
    }
    return key_append(key, PyUnicode_DATA(object), length * width);
}

static int
key_write_bytes(struct key_writer *writer, PyObject *object)
{
    size_t length = (size_t)PyBytes_GET_SIZE(object);
    if (key_append_head(writer->key, MPF_OP_BYTES8, MPF_OP_BYTES, length) < 0) {
        return KEY_FAILED;
    }
    return key_append(writer->key, PyBytes_AS_STRING(object), length);
}

/* ---- tuple, frozenset ---- */

static int
key_write_tuple(struct key_writer *writer, PyObject *object)
{
    Py_ssize_t count = PyTuple_GET_SIZE(object);
    int result = key_append_head(writer->key, MPF_OP_TUPLE8, MPF_OP_TUPLE, (size_t)count);
    for (Py_ssize_t i = 0; i < count && result == KEY_WRITTEN; i++) {
        result = key_write(writer, PyTuple_GET_ITEM(object, i)); /* borrowed; a tuple keeps its elements */
    }
    return result;
}

static int
key_compare_bytes(const void *a, const void *b)
{
    PyObject *one = *(PyObject *const *)a, *other = *(PyObject *const *)b;
    size_t n = (size_t)PyBytes_GET_SIZE(one), m = (size_t)PyBytes_GET_SIZE(other);
    int order = memcmp(PyBytes_AS_STRING(one), PyBytes_AS_STRING(other), n < m ? n : m);
    return order != 0 ? order : (n > m) - (n < m);
}

/* Fills parts, a list, with the bytes of each element; takes them off the end of the key again. */
static int
key_collect_parts(struct key_writer *writer, PyObject *elements, PyObject *parts)
{
    size_t start = writer->key->used;
    int result = KEY_WRITTEN;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(elements) && result == KEY_WRITTEN; i++) {
        result = key_write(writer, PyList_GET_ITEM(elements, i));
        if (result == KEY_WRITTEN) {
            PyObject *part = PyBytes_FromStringAndSize(writer->key->bytes + start, (Py_ssize_t)(writer->key->used - start));
            if (part == NULL || PyList_Append(parts, part) < 0) {
                result = KEY_FAILED;
            }
            Py_XDECREF(part);
        }
        writer->key->used = start;
    }
    return result;
}

static int
key_write_frozenset(struct key_writer *writer, PyObject *object)
{
    PyObject *elements = PySequence_List(object), *parts = PyList_New(0);
    int result = KEY_FAILED;
    if (elements != NULL && parts != NULL) {
        result = key_append_head(writer->key, MPF_OP_FROZENSET, MPF_OP_FROZENSET, (size_t)PyList_GET_SIZE(elements));
    }
    if (result == KEY_WRITTEN) {
        result = key_collect_parts(writer, elements, parts);
    }
    if (result == KEY_WRITTEN) {
        Py_ssize_t count = PyList_GET_SIZE(parts);
        if (count > 1) {
            qsort(((PyListObject *)parts)->ob_item, (size_t)count, sizeof(PyObject *), key_compare_bytes);
        }
        for (Py_ssize_t i = 0; i < count && result == KEY_WRITTEN; i++) {
            PyObject *part = PyList_GET_ITEM(parts, i);
            result = key_append(writer->key, PyBytes_AS_STRING(part), (size_t)PyBytes_GET_SIZE(part));
        }
    }
    Py_XDECREF(elements);
    Py_XDECREF(parts);
    return result;
}

/* ---- any object ---- */

/* The builtin type that the object's own type is, or compares and hashes like; NULL: none of those that are known. */
static PyTypeObject *
key_kind(PyObject *object)
{
    static PyTypeObject *const bases[] = {&PyUnicode_Type, &PyLong_Type, &PyFloat_Type, &PyBytes_Type, &PyTuple_Type,
                                          &PyFrozenSet_Type};
    PyTypeObject *type = Py_TYPE(object);
    for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
        if (type == bases[i]) {
            return type;
        }
        if (PyType_IsSubtype(type, bases[i])) {
            bool alike = type->tp_hash == bases[i]->tp_hash && type->tp_richcompare == bases[i]->tp_richcompare;
            return alike ? bases[i] : NULL;
        }
    }
    return NULL;
}

static int
key_write_container(struct key_writer *writer, PyObject *object, PyTypeObject *kind)
{
    if (writer->depth >= KEY_DEPTH) {
        return KEY_FOREIGN;
    }
    writer->depth++;
    int result = kind == &PyTuple_Type ? key_write_tuple(writer, object) : key_write_frozenset(writer, object);
    writer->depth--;
    return result;
}

/* Canonical bytes: KEY_WRITTEN, KEY_FOREIGN (what was written does not count), KEY_FAILED with an exception. */
static int
key_write(struct key_writer *writer, PyObject *object)
{
    if (object == Py_None) {
        const char none = MPF_OP_NONE;
        return key_append(writer->key, &none, 1);
    }
    PyTypeObject *kind = key_kind(object);
    if (kind == NULL) {
        return KEY_FOREIGN;
    }
    if (kind != Py_TYPE(object)) {
        writer->plain = false;
    }
    if (kind == &PyUnicode_Type) {
        return key_write_str(writer, object);
    }
    if (kind == &PyLong_Type) {
        return key_write_int(writer, object);
    }
    if (kind == &PyFloat_Type) {
        return key_write_float(writer, object);
    }
    if (kind == &PyBytes_Type) {
        return key_write_bytes(writer, object);
    }
    return key_write_container(writer, object, kind);
}

/* What no short cut was taken for. */
static int
key_make_any(struct mpf_state *state, struct mpf_arena *arena, PyObject *object, struct mpf_key *key)
{
    struct key_writer writer = {.state = state, .key = key, .plain = true};
    if (PyObject_Hash(object) == -1) { /* says why, where it has none */
        return -1;
    }
    int result = key_write(&writer, object);
    size_t canonical = result == KEY_WRITTEN ? key->used : 0;
    if (result == KEY_FOREIGN || (result == KEY_WRITTEN && !writer.plain)) {
        key->used = canonical;
        result = key_append_message(&writer, arena, object);
    }
    if (result < 0) {
        return -1;
    }
    if (canonical != 0 && key->link_count != 0) {
        /* A cell with links is not compared by bytes. */
        memmove(key->bytes, key->bytes + canonical, key->used - canonical);
        key->used -= canonical;
        canonical = 0;
    }
    key->key.canonical = canonical;
    key->key.foreign = canonical == 0;
    return 0;
}

static inline bool
key_is_short_ascii(PyObject *object)
{
    return PyUnicode_CheckExact(object) &&
#if PY_VERSION_HEX < 0x030C0000
           PyUnicode_IS_READY(object) &&
#endif
           PyUnicode_IS_ASCII(object) && PyUnicode_GET_LENGTH(object) <= MPF_KEY_SMALL - 2;
}

int
mpf_key_make(struct mpf_state *state, struct mpf_arena *arena, PyObject *object, struct mpf_key *key)
{
    memset(&key->key, 0, offsetof(struct mpf_dict_key, image));
    key->key.foreign = key->key.resolved = false;
    key->key.serial = key->key.as_of = 0;
    key->key.links = NULL;
    key->key.link_count = 0;
    key->object = object;
    key->bytes = key->small;
    key->used = 0;
    key->room = MPF_KEY_SMALL;
    key->links = NULL;
    key->link_count = 0;
    key->persistence.failures = 0;
    key->persistence.gated = false;
    if (key_is_short_ascii(object)) {
        size_t length = (size_t)PyUnicode_GET_LENGTH(object);
        key->small[0] = MPF_OP_ASCII8;
        key->small[1] = (char)length;
        memcpy(key->small + 2, PyUnicode_DATA(object), length);
        key->used = key->key.canonical = length + 2;
    } else if (key_make_any(state, arena, object, key) < 0) {
        mpf_key_drop(key);
        return -1;
    }
    key->key.data = key->bytes;
    key->key.bytes = key->used;
    key->key.links = key->links;
    key->key.link_count = key->link_count;
    mpf_dict_key_seal(arena, &key->key);
    return 0;
}

void
mpf_key_drop_long(struct mpf_key *key)
{
    if (key->bytes != key->small) {
        PyMem_RawFree(key->bytes);
    }
    while (key->link_count > 0) {
        mpf_block_unref(&key->links[--key->link_count]);
    }
    PyMem_RawFree(key->links);
    mpf_entry_desist(&key->persistence);
    key->persistence.gated = false;
    key->bytes = key->small;
    key->links = NULL;
}
