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
#include "codec/internal.h"
#include "codec/wire.h"

#include <string.h>

#define MARKS_FIRST 8
#define KEY_MAX 16 /* longest string that is kept for the next dict */

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

#define NOT_ASCII UINT64_C(0x8080808080808080)

static bool
is_ascii(const uint8_t *data, size_t n)
{
    uint64_t seen = 0, word;
    for (; n >= 64; n -= 64, data += 64)
        for (size_t i = 0; i < 64; i += 8) {
            memcpy(&word, data + i, sizeof word);
            seen |= word;
        }
    for (; n >= 8; n -= 8, data += 8) {
        memcpy(&word, data, sizeof word);
        seen |= word;
    }
    for (; n; n--)
        seen |= (uint64_t)*data++ << 56;
    return !(seen & NOT_ASCII);
}

#define COPY_SHORT 128 /* up to this many bytes are copied and looked at in one go */

/* A word of the message, read once. */
static inline uint64_t
load_word(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    __asm__("" : "+r"(word));
    return word;
}

/* Of 8 to COPY_SHORT bytes; the last words may overlap. Whether what was stored is ASCII. */
static inline bool
copy_ascii(uint8_t *to, const uint8_t *from, size_t n)
{
    uint64_t word, seen = 0;
    for (size_t i = 0; i + 8 < n; i += 8) {
        word = load_word(from + i);
        seen |= word;
        memcpy(to + i, &word, sizeof word);
    }
    word = load_word(from + n - 8);
    seen |= word;
    memcpy(to + n - 8, &word, sizeof word);
    return !(seen & NOT_ASCII);
}

static PyObject *
new_ascii(struct reader *r, const uint8_t *data, size_t n)
{
    PyObject *s;
    bool fits;
    if (n <= 1) { /* those that exist once */
        uint8_t c = n ? *(const volatile uint8_t *)data : 0;
        if (c >= 0x80)
            return reject(r, "a string is not ASCII");
        return n ? PyUnicode_FromOrdinal(c) : PyUnicode_New(0, 0);
    }
    s = PyUnicode_New((Py_ssize_t)n, 0x7f);
    if (!s)
        return NULL;
    if (n >= 8 && n <= COPY_SHORT)
        fits = copy_ascii(PyUnicode_DATA(s), data, n);
    else {
        memcpy(PyUnicode_DATA(s), data, n);
        fits = is_ascii(PyUnicode_DATA(s), n); /* of the copy, which nobody else can change */
    }
    if (!fits) {
        Py_DECREF(s);
        return reject(r, "a string is not ASCII");
    }
    return s;
}

#ifdef Py_GIL_DISABLED
static PyObject *
new_key(struct reader *r, const uint8_t *data, size_t n)
{
    return new_ascii(r, data, n);
}
#else
/* The first and last bytes of 2 to KEY_MAX: all of them. */
static inline void
key_words(const uint8_t *data, size_t n, uint64_t *first, uint64_t *last)
{
    if (n >= 8) {
        memcpy(first, data, 8);
        memcpy(last, data + n - 8, 8);
    }
    else if (n >= 4) {
        uint32_t low, high;
        memcpy(&low, data, 4);
        memcpy(&high, data + n - 4, 4);
        *first = (uint64_t)high << 32 | low;
        *last = 0;
    }
    else {
        uint16_t low, high;
        memcpy(&low, data, 2);
        memcpy(&high, data + n - 2, 2);
        *first = (uint64_t)high << 32 | low;
        *last = 0;
    }
}

/* As new_ascii, but the string that an earlier dict had there if it is the same: it exists, and knows its hash. */
static PyObject *
new_key(struct reader *r, const uint8_t *data, size_t n)
{
    uint64_t first, last;
    struct mpf_key *way;
    PyObject *s;
    if (n < 2 || n > KEY_MAX)
        return new_ascii(r, data, n);
    key_words(data, n, &first, &last);
    __asm__("" : "+r"(first), "+r"(last)); /* compared and kept is what was read once */
    way = r->codec->keys[((first ^ last * 31) + n) * UINT64_C(0x9E3779B97F4A7C15) >> (64 - MPF_CODEC_KEY_BITS)];
    for (int i = 0; i < 2; i++)
        if (way[i].first == first && way[i].last == last && way[i].length == n)
            return Py_NewRef(way[i].string);
    s = new_ascii(r, data, n);
    if (s) {
        PyObject *old = way[1].string;
        way[1] = way[0];
        way[0].string = Py_NewRef(s);
        key_words(PyUnicode_DATA(s), n, &way[0].first, &way[0].last);
        way[0].length = n;
        Py_XDECREF(old);
    }
    return s;
}
#endif

static inline PyObject *
get_ascii(struct reader *r, bool is_short, bool as_key)
{
    const uint8_t *data;
    size_t n;
    if (!get_count(r, is_short, 1, &n))
        return NULL;
    data = r->p;
    r->p += n;
    return as_key ? new_key(r, data, n) : new_ascii(r, data, n);
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

static PyObject *
get_dict(struct reader *r, bool is_short, bool shared, size_t distance)
{
    PyObject *dict;
    size_t n;
    if (!get_count(r, is_short, 2, &n) || !enter(r, 2 * n))
        return NULL;
#if PY_VERSION_HEX < 0x030D0000
    dict = n > 5 ? _PyDict_NewPresized((Py_ssize_t)n) : PyDict_New();
#else
    dict = PyDict_New();
#endif
    dict = marked(r, shared, distance, dict);
    for (size_t i = 0; dict && i < n; i++) {
        PyObject *key = get_key(r);
        PyObject *value = key ? get_value(r) : NULL;
        if (!value)
            Py_CLEAR(dict);
        else if (PyDict_SetItem(dict, key, value) < 0) {
            blame_key(r);
            Py_CLEAR(dict);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
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

static PyObject *
find_name(struct reader *r, PyObject *module, PyObject *name)
{
    PyObject *found = NULL, *m;
    const struct mpf_imports *im = mpf_imports_get(r->codec);
    if (!im || PySys_Audit("pickle.find_class", "OO", module, name) < 0)
        return NULL;
    m = mpf_imports_module(module);
    if (m && PyModule_CheckExact(m))
        found = Py_XNewRef(PyDict_GetItemWithError(PyModule_GetDict(m), name));
    Py_XDECREF(m);
    if (!found && !PyErr_Occurred())
        found = PyObject_CallFunctionObjArgs(im->find_class, module, name, NULL);
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
    module = new_key(r, r->p, m);
    if (module)
        name = new_key(r, r->p + m, n);
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
