/*
 * Purpose: copies of large blocks into shared memory that another process reads next.
 *
 * Why not memcpy: it reads each line of the place that it writes to, and leaves it in the caches of this CPU, which has no use
 * for it; the reader on another CPU has to get it from there. Stores past the caches save the reading and leave the caches to
 * what the program works with: a third less time for a block that is in nobody's cache.
 *
 * Invariants: stores past the caches may become visible in any order, so they are fenced before the call returns: who publishes the
 * block afterwards with a release has it all published, as after memcpy.
 *
 * Callers: anyone. Death of the caller: a block that was not published yet.
 */
#include "platform/copy.h"

#include <stdint.h>

#ifdef __SSE2__
#include <emmintrin.h>

#define LINE 64u

/* Whole lines to an aligned place. */
static void copy_lines(char *to, const char *from, size_t bytes)
{
    for (const char *end = from + bytes; from < end; from += LINE, to += LINE) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)from);
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(from + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(from + 48));
        _mm_stream_si128((__m128i *)(void *)to, a);
        _mm_stream_si128((__m128i *)(void *)(to + 16), b);
        _mm_stream_si128((__m128i *)(void *)(to + 32), c);
        _mm_stream_si128((__m128i *)(void *)(to + 48), d);
    }
    _mm_sfence();
}

void mpf_copy_away(void *to, const void *from, size_t bytes)
{
    if (bytes < MPF_COPY_AWAY_MIN) {
        memcpy(to, from, bytes);
        return;
    }
    size_t head = -(uintptr_t)to % LINE, lines = (bytes - head) / LINE * LINE;
    memcpy(to, from, head);
    copy_lines((char *)to + head, (const char *)from + head, lines);
    memcpy((char *)to + head + lines, (const char *)from + head + lines, bytes - head - lines);
}

#else

void mpf_copy_away(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

#endif
