/* Copies of a few bytes, for which a call of memcpy costs more than the copy; and of a great many, for another process. */
#ifndef MPF_PLATFORM_COPY_H
#define MPF_PLATFORM_COPY_H

#include <stddef.h>
#include <string.h>

#define MPF_COPY_SHORT_MAX 256

/* Of up to MPF_COPY_SHORT_MAX bytes that do not overlap. The last words are copied twice where n is no multiple of theirs. */
static inline void mpf_copy_short(void *to, const void *from, size_t n)
{
    char *t = to;
    const char *f = from;
    if (n >= 16) {
        for (size_t i = 0; i + 16 < n; i += 16)
            memcpy(t + i, f + i, 16);
        memcpy(t + n - 16, f + n - 16, 16);
    }
    else if (n >= 8) {
        memcpy(t, f, 8);
        memcpy(t + n - 8, f + n - 8, 8);
    }
    else if (n >= 4) {
        memcpy(t, f, 4);
        memcpy(t + n - 4, f + n - 4, 4);
    }
    else if (n >= 2) {
        memcpy(t, f, 2);
        memcpy(t + n - 2, f + n - 2, 2);
    }
    else if (n == 1)
        *t = *f;
}

#define MPF_COPY_AWAY_MIN ((size_t)4 << 20) /* what is smaller may stay in the cache of a CPU until it is read */

/* To shared memory that another process reads next: see copy.c. Blocks that do not overlap. */
void mpf_copy_away(void *to, const void *from, size_t bytes);

#endif
