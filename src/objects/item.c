/*
 * Purpose: the elements of shared values and arrays: for each simple ctypes type, how its bytes become a Python object
 * and how a Python object becomes its bytes.
 *
 * Layout: an element is `size` bytes in the machine's own order, aligned to its size.
 *
 * States: none.
 *
 * Invariants: what is stored natively is what ctypes would store; where that is not plain to see (a subclass with
 * methods of its own, a wrong type, a number out of range), store() declines and the caller lets ctypes decide, so that
 * exceptions are always ctypes' own. Neither load() nor store() runs Python code.
 *
 * Callers: the shared types of this directory, holding the GIL and the value's shared lock.
 *
 * Death of the caller: an element is written with one store of its size (long double: two), so it is old or new.
 */
#include "objects/item.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <wchar.h>

#define DEFINE_LOAD_MANY(name, type, make)                                                                             \
    static int name##_load_many(PyObject *list, const char *at, Py_ssize_t step, Py_ssize_t count)                     \
    {                                                                                                                  \
        for (Py_ssize_t i = 0; i < count; i++, at += step) {                                                           \
            PyObject *element = make(*(const type *)at);                                                               \
            if (element == NULL)                                                                                       \
                return -1;                                                                                             \
            PyList_SET_ITEM(list, i, element); /* stolen */                                                            \
        }                                                                                                              \
        return 0;                                                                                                      \
    }

#define DEFINE_LOAD(name, type, make)                                                                                  \
    static PyObject *name##_load(const char *at)                                                                       \
    {                                                                                                                  \
        return make(*(const type *)at);                                                                                \
    }                                                                                                                  \
    DEFINE_LOAD_MANY(name, type, make)

#define DEFINE_INTEGER(name, type, make)                                                                               \
    DEFINE_LOAD(name, type, make)                                                                                      \
    static int name##_store(char *at, PyObject *value)                                                                 \
    {                                                                                                                  \
        unsigned long long bits;                                                                                       \
        if (!PyLong_Check(value))                                                                                      \
            return 0;                                                                                                  \
        bits = PyLong_AsUnsignedLongLongMask(value);                                                                   \
        if (bits == (unsigned long long)-1 && PyErr_Occurred())                                                        \
            return -1;                                                                                                 \
        *(type *)at = (type)bits;                                                                                      \
        return 1;                                                                                                      \
    }

#define DEFINE_FLOAT(name, type)                                                                                       \
    DEFINE_LOAD(name, type, PyFloat_FromDouble)                                                                        \
    static int name##_store(char *at, PyObject *value)                                                                 \
    {                                                                                                                  \
        double number;                                                                                                 \
        if (PyFloat_Check(value)) {                                                                                    \
            number = PyFloat_AS_DOUBLE(value);                                                                         \
        } else if (PyLong_CheckExact(value)) {                                                                         \
            number = PyLong_AsDouble(value);                                                                           \
            if (number == -1.0 && PyErr_Occurred())                                                                    \
                return -1;                                                                                             \
        } else {                                                                                                       \
            return 0;                                                                                                  \
        }                                                                                                              \
        *(type *)at = (type)number;                                                                                    \
        return 1;                                                                                                      \
    }

DEFINE_INTEGER(byte, signed char, PyLong_FromLong)
DEFINE_INTEGER(ubyte, unsigned char, PyLong_FromLong)
DEFINE_INTEGER(short, short, PyLong_FromLong)
DEFINE_INTEGER(ushort, unsigned short, PyLong_FromLong)
DEFINE_INTEGER(int, int, PyLong_FromLong)
DEFINE_INTEGER(uint, unsigned int, PyLong_FromUnsignedLong)
DEFINE_INTEGER(long, long, PyLong_FromLong)
DEFINE_INTEGER(ulong, unsigned long, PyLong_FromUnsignedLong)
DEFINE_INTEGER(longlong, long long, PyLong_FromLongLong)
DEFINE_INTEGER(ulonglong, unsigned long long, PyLong_FromUnsignedLongLong)
DEFINE_FLOAT(float, float)
DEFINE_FLOAT(double, double)
DEFINE_FLOAT(longdouble, long double)
DEFINE_LOAD(truth, unsigned char, PyBool_FromLong)

static int
truth_store(char *at, PyObject *value)
{
    if (value != Py_True && value != Py_False)
        return 0;
    *(unsigned char *)at = value == Py_True;
    return 1;
}

static PyObject *
char_load(const char *at)
{
    return PyBytes_FromStringAndSize(at, 1);
}

static int
char_store(char *at, PyObject *value)
{
    if (PyLong_CheckExact(value)) {
        int overflow;
        long byte = PyLong_AsLongAndOverflow(value, &overflow);
        if (overflow || byte < 0 || byte > UCHAR_MAX)
            return 0;
        *at = (char)byte;
        return 1;
    }
    if (!PyBytes_Check(value) || PyBytes_GET_SIZE(value) != 1)
        return 0;
    *at = PyBytes_AS_STRING(value)[0];
    return 1;
}

static PyObject *
wchar_load(const char *at)
{
    return PyUnicode_FromWideChar((const wchar_t *)at, 1);
}

static int
wchar_store(char *at, PyObject *value)
{
    if (!PyUnicode_Check(value) || PyUnicode_GetLength(value) != 1)
        return 0;
    *(wchar_t *)at = (wchar_t)PyUnicode_ReadChar(value, 0);
    return 1;
}

#define INTEGER(code, letter, name, type, same)                                                                        \
    {code, true, sizeof(type), same, letter, name##_load, name##_store, name##_load_many}
#define FLOATING(code, letter, name, type, same)                                                                       \
    {code, false, sizeof(type), same, letter, name##_load, name##_store, name##_load_many}

#if SIZEOF_LONG == 8
#define SAME_LONG "lq"
#define SAME_ULONG "LQ"
#define SAME_INT "i"
#define SAME_UINT "I"
#else
#define SAME_LONG "li"
#define SAME_ULONG "LI"
#define SAME_INT "il"
#define SAME_UINT "IL"
#endif

/* Slices of characters are bytes and str, hence no load_many for them. */
static const struct mpf_item mpf_items[] = {
    INTEGER('b', "b", byte, signed char, "bB"),
    INTEGER('B', "B", ubyte, unsigned char, "Bb"),
    INTEGER('h', "h", short, short, "hH"),
    INTEGER('H', "H", ushort, unsigned short, "Hh"),
    INTEGER('i', "i", int, int, SAME_INT SAME_UINT),
    INTEGER('I', "I", uint, unsigned int, SAME_UINT SAME_INT),
    INTEGER('l', "l", long, long, SAME_LONG SAME_ULONG),
    INTEGER('L', "L", ulong, unsigned long, SAME_ULONG SAME_LONG),
    INTEGER('q', "q", longlong, long long, "qQ"),
    INTEGER('Q', "Q", ulonglong, unsigned long long, "Qq"),
    FLOATING('f', "f", float, float, "f"),
    FLOATING('d', "d", double, double, "d"),
    FLOATING('g', "g", longdouble, long double, ""),
    {'?', false, sizeof(unsigned char), "?", "?", truth_load, truth_store, truth_load_many},
    {'c', false, 1, "Bc", "c", char_load, char_store, NULL},
    {'u', false, sizeof(wchar_t), "", NULL, wchar_load, wchar_store, NULL},
};

const struct mpf_item *
mpf_item_find(char code)
{
    for (size_t i = 0; i < sizeof(mpf_items) / sizeof(mpf_items[0]); i++) {
        if (mpf_items[i].code == code)
            return &mpf_items[i];
    }
    return NULL;
}

#define COMBINE(type)                                                                                                  \
    do {                                                                                                               \
        type given, before;                                                                                            \
        memcpy(&given, operand, sizeof(given));                                                                        \
        if (operation == MPF_ITEM_ADD)                                                                                 \
            before = __atomic_fetch_add((type *)at, given, __ATOMIC_SEQ_CST);                                          \
        else if (operation == MPF_ITEM_SUB)                                                                            \
            before = __atomic_fetch_sub((type *)at, given, __ATOMIC_SEQ_CST);                                          \
        else                                                                                                           \
            before = __atomic_exchange_n((type *)at, given, __ATOMIC_SEQ_CST);                                         \
        memcpy(old, &before, sizeof(before));                                                                          \
    } while (0)

void
mpf_item_combine(const struct mpf_item *item, char *at, enum mpf_item_operation operation, const char *operand,
                 char *old)
{
    switch (item->size) {
    case 1: COMBINE(uint8_t); break;
    case 2: COMBINE(uint16_t); break;
    case 4: COMBINE(uint32_t); break;
    default: COMBINE(uint64_t); break;
    }
}

#define COMPARE_EXCHANGE(type)                                                                                         \
    do {                                                                                                               \
        type before, after;                                                                                            \
        memcpy(&before, expected, sizeof(before));                                                                     \
        memcpy(&after, desired, sizeof(after));                                                                        \
        (void)__atomic_compare_exchange_n((type *)at, &before, after, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);      \
        memcpy(old, &before, sizeof(before));                                                                          \
    } while (0)

void
mpf_item_compare_exchange(const struct mpf_item *item, char *at, const char *expected, const char *desired, char *old)
{
    switch (item->size) {
    case 1: COMPARE_EXCHANGE(uint8_t); break;
    case 2: COMPARE_EXCHANGE(uint16_t); break;
    case 4: COMPARE_EXCHANGE(uint32_t); break;
    default: COMPARE_EXCHANGE(uint64_t); break;
    }
}
