/* Atoms: None, bools, floats and ints of up to 64 bits; in a message one operation with at most eight bytes after it. */
#ifndef MPF_CODEC_ATOM_H
#define MPF_CODEC_ATOM_H

#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "codec/wire.h"

#define MPF_ATOM_ROOM 9 /* bytes that mpf_atom_put may store; the last ones may mean nothing */

/* The operation and what follows it in one store: bytes that were stored apart are slow to be read together. */
static inline size_t
mpf_atom_put_word(uint8_t *p, unsigned op, uint64_t value, size_t bytes)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t word = value << 8 | op;
#else
    uint64_t word = (uint64_t)op << 56 | value << (56 - 8 * bytes);
#endif
    memcpy(p, &word, sizeof word);
    return 1 + bytes;
}

static inline size_t
mpf_atom_put_wide(uint8_t *p, unsigned op, const void *value)
{
    p[0] = (uint8_t)op;
    memcpy(p + 1, value, 8);
    return 9;
}

static inline size_t
mpf_atom_put_int64(uint8_t *p, int64_t value)
{
    if (value >= MPF_INT_FIRST && value <= MPF_INT_LAST) {
        p[0] = (uint8_t)(0x80 + (value - MPF_INT_FIRST));
        return 1;
    }
    if (value == (int16_t)value)
        return mpf_atom_put_word(p, MPF_OP_INT16, (uint16_t)value, 2);
    if (value == (int32_t)value)
        return mpf_atom_put_word(p, MPF_OP_INT32, (uint32_t)value, 4);
    return mpf_atom_put_wide(p, MPF_OP_INT64, &value);
}

/* 0 when it has more than 64 bits. */
static inline size_t
mpf_atom_put_int(uint8_t *p, PyObject *obj)
{
    int overflow;
    long long value;
#if PY_VERSION_HEX >= 0x030C0000
    if (PyUnstable_Long_IsCompact((PyLongObject *)obj))
        return mpf_atom_put_int64(p, PyUnstable_Long_CompactValue((PyLongObject *)obj));
#else
    Py_ssize_t digits = Py_SIZE(obj);
    if (digits >= -1 && digits <= 1)
        return mpf_atom_put_int64(p, digits == 0 ? 0 : digits * (int64_t)((PyLongObject *)obj)->ob_digit[0]);
#endif
    value = PyLong_AsLongLongAndOverflow(obj, &overflow);
    return overflow ? 0 : mpf_atom_put_int64(p, value);
}

/* The bytes that count, or 0 when obj is no atom. */
static inline size_t
mpf_atom_put(uint8_t *p, PyObject *obj)
{
    if (PyLong_CheckExact(obj))
        return mpf_atom_put_int(p, obj);
    if (obj == Py_None) {
        p[0] = MPF_OP_NONE;
        return 1;
    }
    if (PyFloat_CheckExact(obj)) {
        double value = PyFloat_AS_DOUBLE(obj);
        return mpf_atom_put_wide(p, MPF_OP_FLOAT, &value);
    }
    if (PyBool_Check(obj)) {
        p[0] = obj == Py_True ? MPF_OP_TRUE : MPF_OP_FALSE;
        return 1;
    }
    return 0;
}

/* Whether the message is an int of up to 32 bits and nothing else: *obj is it, or NULL with an exception set. */
static inline bool
mpf_atom_get_small_int(const uint8_t *data, size_t bytes, PyObject **obj)
{
    uint8_t op = *(const volatile uint8_t *)data;
    int32_t value;
    if (bytes == 1 && op >= 0x80)
        value = op - 0x80 + MPF_INT_FIRST;
    else if (bytes == 3 && op == MPF_OP_INT16) {
        int16_t narrow;
        memcpy(&narrow, data + 1, sizeof narrow);
        value = narrow;
    }
    else if (bytes == 5 && op == MPF_OP_INT32)
        memcpy(&value, data + 1, sizeof value);
    else
        return false;
    *obj = PyLong_FromLong(value);
    return true;
}

#endif
