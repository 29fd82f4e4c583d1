/* How one element of a simple ctypes type is made into a Python object and back. See item.c. */
#ifndef MPF_OBJECTS_ITEM_H
#define MPF_OBJECTS_ITEM_H

#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

struct mpf_item {
    char code;         /* ctypes' own letter: the simple type's _type_ */
    bool integer;      /* arithmetic with wrap-around is defined */
    uint8_t size;      /* bytes of one element */
    const char *same;  /* struct-module formats whose memory means the same values, for copies as a whole */
    const char *format; /* struct-module format for the buffer protocol; NULL: ask ctypes */
    /* A new reference, or NULL with an exception. */
    PyObject *(*load)(const char *at);
    /* 1: stored; 0: not a plain value of this type, nothing stored (ctypes decides); -1: exception, nothing stored.
     * Never runs Python code. */
    int (*store)(char *at, PyObject *value);
    /* Fills list[0, count) from at, at + step, ... (step in bytes). 0 or -1. */
    int (*load_many)(PyObject *list, const char *at, Py_ssize_t step, Py_ssize_t count);
};

/* The item for a ctypes letter, or NULL when there is no native path for it. */
const struct mpf_item *mpf_item_find(char code);

/* Arithmetic of the integer items: atomic, wraps around as in C. `operand` holds one element. old receives the element
 * that was there before. */
enum mpf_item_operation { MPF_ITEM_ADD, MPF_ITEM_SUB, MPF_ITEM_EXCHANGE };
void mpf_item_combine(const struct mpf_item *item, char *at, enum mpf_item_operation operation, const char *operand,
                      char *old);
void mpf_item_compare_exchange(const struct mpf_item *item, char *at, const char *expected, const char *desired,
                               char *old);

#define MPF_ITEM_MAX 16 /* bytes of the largest element */

#endif
