/*
 * Purpose: read what builtin_encode.c wrote, from bytes that may be anything.
 *
 * Layout: see wire.h.
 *
 * States: of one read: position, bytes owed, objects that later references may name.
 *
 * Invariants: every number is read once into a local before it is checked: another process may still write to the message.
 * `owed` is the number of values still to come, each of at least one byte; never more than the bytes left. A count is
 * accepted only when its values can still be there besides those, so all containers together are given no more slots than
 * the message has bytes. A tuple can be referred to only once it is complete.
 *
 * Callers: codec.c, attached to the interpreter. No Python code runs but that of finalizers (the collector may start) and,
 * for MPF_OP_NAME, that of an import.
 *
 * Death of the caller: nothing is shared.
 */
#include "codec/ascii.h"
#include "codec/internal.h"
#include "codec/wire.h"

#include <string.h>

#define MARKS_FIRST 8
#define SHAPE_DEPTH 8 /* dicts nested deeper than this are read without a shape, which takes more of the stack */

/* An object marked MPF_OP_SHARED; its operation is `distance` bytes from the start. */
struct mark {
    size_t distance;
    PyObject *object; /* owned; NULL while a tuple is incomplete */
};

struct reader {
    struct mpf_codec *codec;
    const uint8_t *start, *p, *end;
    size_t owed;
    unsigned depth;
    struct mark *marks; /* ascending distance */
    size_t mark_count, mark_room;
    struct mark first_marks[MARKS_FIRST];
};

static PyObject *get_value(struct reader *r);
static PyObject *get_key(struct reader *r);

static PyObject *
reject(struct reader *r, const char *why)
{
    return mpf_codec_reject(r->codec, why);
}

/* Whether n more bytes are there besides what is owed. */
static inline bool
has(const struct reader *r, uint64_t n)
{
    return n <= (size_t)(r->end - r->p) - r->owed;
}

static inline uint8_t
get_u8(struct reader *r)
{
    return *(const volatile uint8_t *)r->p++;
}

static inline uint64_t
get_u64(struct reader *r)
{
    uint64_t v;
    memcpy(&v, r->p, sizeof v);
    __asm__("" : "+r"(v)); /* the compiler must not read it a second time */
    r->p += sizeof v;
    return v;
}

/* The length or count of an operation with a u8 or a u64; false: exception set. Each unit takes `unit` bytes or more. */
static inline bool
get_count(struct reader *r, bool is_short, size_t unit, size_t *count)
{
    uint64_t n;
    if (!has(r, is_short ? 1 : 8)) {
        reject(r, "it is cut short");
        return false;
    }
    n = is_short ? get_u8(r) : get_u64(r);
    if (n > SIZE_MAX / unit || !has(r, n * unit)) {
        reject(r, "a length exceeds it");
        return false;
    }
    *count = (size_t)n;
    return true;
}

/* A place for an object that began at `distance`, or -1 with an exception set. */
static Py_ssize_t
add_mark(struct reader *r, size_t distance, PyObject *obj)
{
    if (r->mark_count == r->mark_room) {
        size_t room = 2 * r->mark_room;
        bool first = r->marks == r->first_marks;
        struct mark *marks = PyMem_RawRealloc(first ? NULL : r->marks, room * sizeof *marks);
        if (!marks) {
            PyErr_NoMemory();
            return -1;
        }
        if (first)
            memcpy(marks, r->first_marks, sizeof r->first_marks);
        r->marks = marks;
        r->mark_room = room;
    }
    r->marks[r->mark_count].distance = distance;
    r->marks[r->mark_count].object = Py_XNewRef(obj);
    return (Py_ssize_t)r->mark_count++;
}

/* Steals obj; NULL stays NULL. */
static inline PyObject *
marked(struct reader *r, bool shared, size_t distance, PyObject *obj)
{
    if (shared && obj && add_mark(r, distance, obj) < 0)
        Py_CLEAR(obj);
    return obj;
}

static PyObject *
get_reference(struct reader *r)
{
    uint64_t distance;
    size_t low = 0, high = r->mark_count;
    if (!has(r, 8))
        return reject(r, "it is cut short");
    distance = get_u64(r);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->marks[middle].distance < distance)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == r->mark_count || r->marks[low].distance != distance || !r->marks[low].object)
        return reject(r, "a reference leads nowhere");
    return Py_NewRef(r->marks[low].object);
}

static PyObject *
get_bigint(struct reader *r)
{
    const uint8_t *data;
    size_t n;
    if (!get_count(r, false, 1, &n))
        return NULL;
    data = r->p;
    r->p += n;
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_FromNativeBytes(data, n, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    return _PyLong_FromByteArray(data, n, 1, 1);
#endif
}

static inline PyObject *
get_ascii(struct reader *r, bool is_short, bool as_key)
{
    const uint8_t *data;
    size_t n;
    if (!get_count(r, is_short, 1, &n))
        return NULL;
    data = r->p;
    r->p += n;
    return as_key ? mpf_ascii_key(r->codec, data, n) : mpf_ascii_new(r->codec, data, n);
}

static PyObject *
get_wide(struct reader *r, int kind)
{
    const uint8_t *data;
    void *copy = NULL;
    PyObject *s;
    size_t n;
    if (!get_count(r, false, (size_t)kind, &n))
        return NULL;
    data = r->p;
    r->p += n * (size_t)kind;
    if (kind == PyUnicode_1BYTE_KIND)
        return PyUnicode_DecodeLatin1((const char *)data, (Py_ssize_t)n, NULL);
    /* A private copy at an aligned place: what is checked is what is used. */
    copy = PyMem_RawMalloc(n * (size_t)kind + 1);
    if (!copy)
        return PyErr_NoMemory();
    memcpy(copy, data, n * (size_t)kind);
    if (kind == PyUnicode_4BYTE_KIND)
        for (size_t i = 0; i < n; i++)
            if (((const Py_UCS4 *)copy)[i] > 0x10ffff) {
                PyMem_RawFree(copy);
                return reject(r, "a character is out of range");
            }
    s = PyUnicode_FromKindAndData(kind, copy, (Py_ssize_t)n);
    PyMem_RawFree(copy);
    return s;
}

static PyObject *
get_bytes(struct reader *r, bool is_short, bool mutable)
{
    const char *data;
    size_t n;
    if (!get_count(r, is_short, 1, &n))
        return NULL;
    data = (const char *)r->p;
    r->p += n;
    return mutable ? PyByteArray_FromStringAndSize(data, (Py_ssize_t)n) : mpf_codec_bytes(data, n);
}

/* Of a container of n values; false: exception set. To be paired with leave(). */
static inline bool
enter(struct reader *r, size_t n)
{
    if (r->depth >= MPF_WIRE_DEPTH) {
        reject(r, "it is nested too deeply");
        return false;
    }
    r->depth++;
    r->owed += n;
    return true;
}

static inline void
leave(struct reader *r)
{
    r->depth--;
}

static PyObject *
get_tuple(struct reader *r, bool is_short, bool shared, size_t distance)
{
    Py_ssize_t mark = -1;
    PyObject *tuple;
    size_t n;
    if (!get_count(r, is_short, 1, &n) || (shared && (mark = add_mark(r, distance, NULL)) < 0) || !enter(r, n))
        return NULL;
    tuple = PyTuple_New((Py_ssize_t)n);
    for (size_t i = 0; tuple && i < n; i++) {
        PyObject *item = get_value(r);
        if (item)
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item); /* steals */
        else
            Py_CLEAR(tuple);
    }
    if (tuple && shared)
        r->marks[mark].object = Py_NewRef(tuple);
    leave(r);
    return tuple;
}

static PyObject *
get_list(struct reader *r, bool is_short, bool shared, size_t distance)
{
    PyObject *list;
    size_t n;
    if (!get_count(r, is_short, 1, &n) || !enter(r, n))
        return NULL;
    list = marked(r, shared, distance, PyList_New((Py_ssize_t)n));
    for (size_t i = 0; list && i < n; i++) {
        PyObject *item = get_value(r);
        if (item)
            PyList_SET_ITEM(list, (Py_ssize_t)i, item); /* steals */
        else
            Py_CLEAR(list);
    }
    leave(r);
    return list;
}

/* After a failed insertion: what cannot be hashed did not come from an encoder. */
static void
blame_key(struct reader *r)
{
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        reject(r, "a key cannot be hashed");
    }
}

/* New reference to a dict with room for n pairs. */
static PyObject *
new_dict(size_t n)
{
#if PY_VERSION_HEX < 0x030D0000
    if (n > 5)
        return _PyDict_NewPresized((Py_ssize_t)n);
#endif
    (void)n;
    return PyDict_New();
}

/* 0 or -1 with an exception set. */
static int
put_pair(struct reader *r, PyObject *dict, PyObject *key, PyObject *value)
{
    if (PyDict_SetItem(dict, key, value) == 0)
        return 0;
    blame_key(r);
    return -1;
}

/* The n pairs that come next. 0 or -1 with an exception set. */
static int
get_pairs(struct reader *r, PyObject *dict, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        PyObject *key = get_key(r);
        PyObject *value = key ? get_value(r) : NULL;
        int failed = !value || put_pair(r, dict, key, value) < 0;
        Py_XDECREF(key);
        Py_XDECREF(value);
        if (failed)
            return -1;
    }
    return 0;
}

#ifndef Py_GIL_DISABLED
/* Values of pairs whose keys are the shape's, as far as they are: how many, or -1 with an exception set. */
static Py_ssize_t
get_shaped_values(struct reader *r, const struct mpf_shape *shape, PyObject **values)
{
    size_t i = 0;
    for (; i < shape->count; i++) {
        const struct mpf_shape_key *key = &shape->keys[i];
        r->owed--; /* it is there, at least its operation */
        if (!has(r, key->bytes) || !mpf_shape_same(r->p, key->at, key->bytes)) {
            r->owed++;
            break;
        }
        r->p += key->bytes;
        if (!(values[i] = get_value(r))) {
            while (i > 0)
                Py_DECREF(values[--i]);
            return -1;
        }
    }
    return (Py_ssize_t)i;
}

/* A dict whose first pairs were read as those of a shape, and whose others were not; steals the values. */
static PyObject *
get_misshapen_dict(struct reader *r, const struct mpf_shape *shape, PyObject *const *values, size_t got)
{
    PyObject *dict = new_dict(shape->count);
    int failed = !dict;
    for (size_t i = 0; i < got; i++) {
        failed = failed || PyDict_SetItem(dict, shape->keys[i].string, values[i]) < 0;
        Py_DECREF(values[i]);
    }
    if (failed || get_pairs(r, dict, shape->count - got) < 0)
        Py_CLEAR(dict);
    return dict;
}

/* A dict that probably has this shape. */
static PyObject *
get_shaped_dict(struct reader *r, const struct mpf_shape *shape, uint64_t sign)
{
    PyObject *values[MPF_SHAPE_MAX]; /* owned */
    Py_ssize_t got = get_shaped_values(r, shape, values);
    if (got < 0)
        return NULL;
    if ((size_t)got == shape->count)
        return mpf_shape_fill(shape, values);
    mpf_shape_doubt(&r->codec->shapes, sign);
    return get_misshapen_dict(r, shape, values, (size_t)got);
}

/* Of the dict of n pairs that comes next; 0: it has no shape. */
static uint64_t
shape_sign(const struct reader *r, size_t n)
{
    if (r->depth > SHAPE_DEPTH || r->end - r->p < 8)
        return 0;
    return mpf_shape_sign(n, load_word(r->p), MPF_OP_ASCII8);
}
#endif

static PyObject *
get_dict(struct reader *r, bool is_short, bool shared, size_t distance)
{
    PyObject *dict;
    size_t n;
    if (!get_count(r, is_short, 2, &n) || !enter(r, 2 * n))
        return NULL;
#ifndef Py_GIL_DISABLED
    uint64_t sign = shared ? 0 : shape_sign(r, n); /* what is shared may be met while its values are read */
    struct mpf_shape *shape = sign ? mpf_shape_find(&r->codec->shapes, sign, n) : NULL;
    if (shape) {
        dict = get_shaped_dict(r, shape, sign);
        mpf_shape_release(shape);
        leave(r);
        return dict;
    }
#endif
    dict = marked(r, shared, distance, new_dict(n));
    if (dict && get_pairs(r, dict, n) < 0)
        Py_CLEAR(dict);
#ifndef Py_GIL_DISABLED
    if (dict && sign)
        mpf_shape_note(&r->codec->shapes, sign, dict, n);
#endif
    leave(r);
    return dict;
}

static PyObject *
get_set(struct reader *r, bool frozen, bool shared, size_t distance)
{
    Py_ssize_t mark = -1;
    PyObject *set;
    size_t n;
    if (!get_count(r, false, 1, &n) || (shared && (mark = add_mark(r, distance, NULL)) < 0) || !enter(r, n))
        return NULL;
    set = frozen ? PyFrozenSet_New(NULL) : PySet_New(NULL);
    for (size_t i = 0; set && i < n; i++) {
        PyObject *item = get_value(r);
        if (!item)
            Py_CLEAR(set);
        else if (PySet_Add(set, item) < 0) {
            blame_key(r);
            Py_CLEAR(set);
        }
        Py_XDECREF(item);
    }
    if (set && shared)
        r->marks[mark].object = Py_NewRef(set);
    leave(r);
    return set;
}

/* As an unpickler finds it. */
static PyObject *
import_name(PyObject *module, PyObject *name)
{
    PyObject *m = PyImport_Import(module);
    PyObject *found = m ? PyObject_GetAttr(m, name) : NULL;
#if PY_VERSION_HEX < 0x030e0000
    if (m && !found && PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_Format(PyExc_AttributeError, "Can't get attribute %R on %R", name, m); /* that is what people search for */
#endif
    Py_XDECREF(m);
    return found;
}

static PyObject *
find_name(struct reader *r, PyObject *module, PyObject *name)
{
    PyObject *found = NULL, *m;
    if (PySys_Audit("pickle.find_class", "OO", module, name) < 0)
        return NULL;
    m = mpf_imports_module(module);
    if (!m && r->codec->import && r->codec->import(r->codec->import_context, module) < 0)
        return NULL;
    if (m && PyModule_CheckExact(m))
        found = Py_XNewRef(PyDict_GetItemWithError(PyModule_GetDict(m), name));
    Py_XDECREF(m);
    if (!found && !PyErr_Occurred())
        found = import_name(module, name);
    return found;
}

static PyObject *
get_name(struct reader *r)
{
    PyObject *module, *name = NULL, *found = NULL;
    size_t m, n;
    if (!has(r, 2))
        return reject(r, "it is cut short");
    m = get_u8(r);
    n = get_u8(r);
    if (!has(r, m + n))
        return reject(r, "a length exceeds it");
    module = mpf_ascii_key(r->codec, r->p, m);
    if (module)
        name = mpf_ascii_key(r->codec, r->p + m, n);
    r->p += m + n;
    if (name)
        found = find_name(r, module, name);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return found;
}

/* After a look whether it is there. */
static inline PyObject *
get_float(struct reader *r)
{
    double v;
    memcpy(&v, r->p, sizeof v);
    r->p += sizeof v;
    return PyFloat_FromDouble(v);
}

static PyObject *
get_number(struct reader *r, unsigned op)
{
    static const uint8_t widths[] = {[MPF_OP_INT16] = 2, [MPF_OP_INT32] = 4, [MPF_OP_INT64] = 8, [MPF_OP_FLOAT] = 8};
    const uint8_t *p = r->p;
    if (!has(r, widths[op]))
        return reject(r, "it is cut short");
    r->p += widths[op];
    if (op == MPF_OP_INT16) {
        int16_t v;
        memcpy(&v, p, sizeof v);
        return PyLong_FromLong(v);
    }
    if (op == MPF_OP_INT32) {
        int32_t v;
        memcpy(&v, p, sizeof v);
        return PyLong_FromLong(v);
    }
    if (op == MPF_OP_INT64) {
        int64_t v;
        memcpy(&v, p, sizeof v);
        return PyLong_FromLongLong(v);
    }
    r->p = p;
    return get_float(r);
}

/* A value whose operation, the last byte read, is `op`. */
static PyObject *
get_any(struct reader *r, unsigned op, bool as_key)
{
    size_t distance = (size_t)(r->p - r->start) - 1;
    bool shared = op & MPF_OP_SHARED;
    switch (op & ~(unsigned)MPF_OP_SHARED) {
    case MPF_OP_NONE:
        return Py_NewRef(Py_None);
    case MPF_OP_FALSE:
        return Py_NewRef(Py_False);
    case MPF_OP_TRUE:
        return Py_NewRef(Py_True);
    case MPF_OP_INT16:
    case MPF_OP_INT32:
    case MPF_OP_INT64:
    case MPF_OP_FLOAT:
        return get_number(r, op & ~(unsigned)MPF_OP_SHARED);
    case MPF_OP_BIGINT:
        return get_bigint(r);
    case MPF_OP_REF:
        return get_reference(r);
    case MPF_OP_NAME:
        return marked(r, shared, distance, get_name(r));
    case MPF_OP_ASCII8:
        return marked(r, shared, distance, get_ascii(r, true, as_key));
    case MPF_OP_ASCII:
        return marked(r, shared, distance, get_ascii(r, false, as_key));
    case MPF_OP_LATIN1:
        return marked(r, shared, distance, get_wide(r, PyUnicode_1BYTE_KIND));
    case MPF_OP_UCS2:
        return marked(r, shared, distance, get_wide(r, PyUnicode_2BYTE_KIND));
    case MPF_OP_UCS4:
        return marked(r, shared, distance, get_wide(r, PyUnicode_4BYTE_KIND));
    case MPF_OP_BYTES8:
        return marked(r, shared, distance, get_bytes(r, true, false));
    case MPF_OP_BYTES:
        return marked(r, shared, distance, get_bytes(r, false, false));
    case MPF_OP_BYTEARRAY:
        return marked(r, shared, distance, get_bytes(r, false, true));
    case MPF_OP_TUPLE8:
        return get_tuple(r, true, shared, distance);
    case MPF_OP_TUPLE:
        return get_tuple(r, false, shared, distance);
    case MPF_OP_LIST8:
        return get_list(r, true, shared, distance);
    case MPF_OP_LIST:
        return get_list(r, false, shared, distance);
    case MPF_OP_DICT8:
        return get_dict(r, true, shared, distance);
    case MPF_OP_DICT:
        return get_dict(r, false, shared, distance);
    case MPF_OP_SET:
        return get_set(r, false, shared, distance);
    case MPF_OP_FROZENSET:
        return get_set(r, true, shared, distance);
    default:
        return reject(r, "it holds an unknown operation");
    }
}

/* The next operation: there, for it is owed. */
static inline unsigned
next_op(struct reader *r)
{
    r->owed--;
    return get_u8(r);
}

static PyObject *
get_value(struct reader *r)
{
    unsigned op = next_op(r);
    if (op >= 0x80)
        return PyLong_FromLong((long)op - 0x80 + MPF_INT_FIRST);
    if (op == MPF_OP_ASCII8)
        return get_ascii(r, true, false);
    if (op == MPF_OP_FLOAT && has(r, sizeof(double)))
        return get_float(r);
    return get_any(r, op, false);
}

static PyObject *
get_key(struct reader *r)
{
    unsigned op = next_op(r);
    if (op >= 0x80)
        return PyLong_FromLong((long)op - 0x80 + MPF_INT_FIRST);
    if (op == MPF_OP_ASCII8)
        return get_ascii(r, true, true);
    return get_any(r, op, true);
}

PyObject *
mpf_builtin_decode(struct mpf_codec *codec, const uint8_t *data, size_t bytes)
{
    struct reader r; /* without its first marks, which are many and seldom used */
    PyObject *obj;
    r.codec = codec;
    r.start = r.p = data;
    r.end = data + bytes;
    r.mark_count = 0;
    r.mark_room = MARKS_FIRST;
    r.depth = 0;
    if (bytes == 0)
        return reject(&r, "it is empty");
    r.marks = r.first_marks;
    r.owed = 1;
    obj = get_value(&r);
    if (obj && r.p != r.end) {
        Py_CLEAR(obj);
        reject(&r, "bytes follow its end");
    }
    for (size_t i = 0; i < r.mark_count; i++)
        Py_XDECREF(r.marks[i].object);
    if (r.marks != r.first_marks)
        PyMem_RawFree(r.marks);
    return obj;
}
