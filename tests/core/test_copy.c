/* Copies: every byte arrives, and none beside them. */
#include "check.h"

#include <stdlib.h>

#include "platform/copy.h"

#define GUARD 64
#define ROOM (MPF_COPY_AWAY_MIN + 512)

static unsigned char byte_at(size_t i) { return (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16)); }

static bool is_copied(const unsigned char *to, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (to[i] != byte_at(i))
            return false;
    return true;
}

static bool is_untouched(const unsigned char *from, const unsigned char *end)
{
    while (from < end && *from == 0xee)
        from++;
    return from == end;
}

static void test_short(void)
{
    unsigned char from[MPF_COPY_SHORT_MAX], to[MPF_COPY_SHORT_MAX + 2 * GUARD];
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = byte_at(i);
    for (size_t bytes = 0; bytes <= MPF_COPY_SHORT_MAX; bytes++) {
        memset(to, 0xee, sizeof to);
        mpf_copy_short(to + GUARD, from, bytes);
        CHECK(is_copied(to + GUARD, bytes));
        CHECK(is_untouched(to, to + GUARD));
        CHECK(is_untouched(to + GUARD + bytes, to + sizeof to));
    }
}

static void test_away(void)
{
    static const size_t sizes[] = {0, 1, 4096, MPF_COPY_AWAY_MIN - 1, MPF_COPY_AWAY_MIN, MPF_COPY_AWAY_MIN + 1,
                                   MPF_COPY_AWAY_MIN + 63, MPF_COPY_AWAY_MIN + 64, MPF_COPY_AWAY_MIN + 81};
    static const size_t shifts[] = {0, 1, 16, 63};
    unsigned char *from = malloc(ROOM), *to = malloc(ROOM + 2 * GUARD);
    CHECK(from && to);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t f = 0; f < 4; f++)
            for (size_t t = 0; t < 4; t++) {
                unsigned char *start = to + GUARD + shifts[t];
                for (size_t i = 0; i < sizes[s]; i++)
                    from[shifts[f] + i] = byte_at(i);
                memset(to, 0xee, ROOM + 2 * GUARD);
                mpf_copy_away(start, from + shifts[f], sizes[s]);
                CHECK(is_copied(start, sizes[s]));
                CHECK(is_untouched(to, start));
                CHECK(is_untouched(start + sizes[s], to + ROOM + 2 * GUARD));
            }
    free(from);
    free(to);
}

CHECK_MAIN({"short", test_short}, {"away", test_away})
