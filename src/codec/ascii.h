/* Strings of ASCII characters from a message that may be anything, and the strings that are kept for the next dict. Included by
 * builtin_decode.c alone, which is to have it inline. */
#ifndef MPF_CODEC_ASCII_H
#define MPF_CODEC_ASCII_H

#include "codec/internal.h"

#include <string.h>

#define MPF_ASCII_KEY_MAX 16 /* longest string that is kept for the next dict */

#define NOT_ASCII UINT64_C(0x8080808080808080)

static inline bool
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

#define ASCII_COPY_SHORT 128 /* up to this many bytes are copied and looked at in one go */

/* A word of the message, read once. */
static inline uint64_t
load_word(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    __asm__("" : "+r"(word));
    return word;
}

/* As copy_ascii, of 2 to 7 bytes. */
static inline bool
copy_few_ascii(uint8_t *to, const uint8_t *from, size_t n)
{
    if (n >= 4) {
        uint32_t first, last;
        memcpy(&first, from, 4);
        memcpy(&last, from + n - 4, 4);
        __asm__("" : "+r"(first), "+r"(last)); /* looked at and stored is what was read once */
        memcpy(to, &first, 4);
        memcpy(to + n - 4, &last, 4);
        return !((first | last) & (uint32_t)NOT_ASCII);
    }
    uint16_t first, last;
    memcpy(&first, from, 2);
    memcpy(&last, from + n - 2, 2);
    __asm__("" : "+r"(first), "+r"(last));
    memcpy(to, &first, 2);
    memcpy(to + n - 2, &last, 2);
    return !((first | last) & (uint16_t)NOT_ASCII);
}

/* Of 2 to ASCII_COPY_SHORT bytes; the last words may overlap. Whether what was stored is ASCII. */
static inline bool
copy_ascii(uint8_t *to, const uint8_t *from, size_t n)
{
    uint64_t word, seen = 0;
    if (n < 8)
        return copy_few_ascii(to, from, n);
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
mpf_ascii_new(struct mpf_codec *codec, const uint8_t *data, size_t n)
{
    PyObject *s;
    bool fits;
    if (n <= 1) { /* those that exist once */
        uint8_t c = n ? *(const volatile uint8_t *)data : 0;
        if (c >= 0x80)
            return mpf_codec_reject(codec, "a string is not ASCII");
        return n ? PyUnicode_FromOrdinal(c) : PyUnicode_New(0, 0);
    }
    s = PyUnicode_New((Py_ssize_t)n, 0x7f);
    if (!s)
        return NULL;
    if (n <= ASCII_COPY_SHORT)
        fits = copy_ascii(PyUnicode_DATA(s), data, n);
    else {
        memcpy(PyUnicode_DATA(s), data, n);
        fits = is_ascii(PyUnicode_DATA(s), n); /* of the copy, which nobody else can change */
    }
    if (!fits) {
        Py_DECREF(s);
        return mpf_codec_reject(codec, "a string is not ASCII");
    }
    return s;
}

#ifdef Py_GIL_DISABLED
static PyObject *
mpf_ascii_key(struct mpf_codec *codec, const uint8_t *data, size_t n)
{
    return mpf_ascii_new(codec, data, n);
}
#else
/* The first and last bytes of 2 to MPF_ASCII_KEY_MAX: all of them. */
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

/* As mpf_ascii_new, but the string that an earlier dict had there if it is the same: it exists, and knows its hash. */
static PyObject *
mpf_ascii_key(struct mpf_codec *codec, const uint8_t *data, size_t n)
{
    uint64_t first, last;
    struct mpf_key *way;
    PyObject *s;
    if (n < 2 || n > MPF_ASCII_KEY_MAX)
        return mpf_ascii_new(codec, data, n);
    key_words(data, n, &first, &last);
    __asm__("" : "+r"(first), "+r"(last)); /* compared and kept is what was read once */
    way = codec->keys[((first ^ last * 31) + n) * UINT64_C(0x9E3779B97F4A7C15) >> (64 - MPF_CODEC_KEY_BITS)];
    for (int i = 0; i < 2; i++)
        if (way[i].first == first && way[i].last == last && way[i].length == n)
            return Py_NewRef(way[i].string);
    s = mpf_ascii_new(codec, data, n);
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

#endif
