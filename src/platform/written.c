/*
 * Purpose: a page that a forked process writes to is copied at that moment, which costs more than most of what Python code does
 * in between; and a child that a server of one program forks writes to the same pages as the one before. Whoever is
 * forked in advance can have them copied while nobody waits.
 *
 * Layout, in memory that all forks share:
 *
 *     | state | ranges: what the parent could write to before it forked | runs of pages that a child wrote to |
 *
 * States: NONE -> NOTING (by one child) -> NOTED, or back to NONE where the child wrote to too much to be like others, but only
 * so often: looking costs every child time. A child that dies while it notes leaves NOTING, and so does the last one that may try:
 * nobody copies in advance then, which costs time only.
 *
 * Invariants: NOTED => runs lie within the ranges and do not change any more. In NOTING, what is not atomic is the noting child's.
 *
 * Callers: open, close: the parent. note, repeat: its children, each with one thread in the call.
 *
 * Death of the caller: see the states.
 */
#define _GNU_SOURCE
#include "platform/written.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/fault.h"

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE_PRESENT (UINT64_C(1) << 63)
#define PAGE_EXCLUSIVE (UINT64_C(1) << 56) /* nobody else maps it: copied, or new */

#define RANGES_MAX 256
#define RUNS_MAX 1024
#define LOOKED_THROUGH_MAX 65536 /* pages: more would take a child milliseconds */
#define NOTED_MAX 1024           /* pages: who writes to more does something of its own */
#define TRIES_MAX 8              /* children that may look in vain */
#define REPEATED_AT_ONCE 16      /* pages, some ten microseconds: asking whether to go on costs as much as one */

enum { NONE, NOTING, NOTED };

struct run {
    uintptr_t from;
    uintptr_t pages;
};

struct mpf_written {
    _Atomic uint32_t state;
    uint32_t tries;
    uint32_t range_count;
    uint32_t run_count;
    struct run ranges[RANGES_MAX];
    struct run runs[RUNS_MAX];
};

static uintptr_t page_size(void) { return (uintptr_t)sysconf(_SC_PAGESIZE); }

/* Whether the kernel can be asked to copy pages in advance. */
static bool can_copy(void *page) { return madvise(page, page_size(), MADV_POPULATE_WRITE) == 0; }

/* 0 or -errno. */
static int find_ranges(struct mpf_written *written)
{
    unsigned long from, to;
    char kinds[5], line[512];
    uintptr_t size = page_size(), pages = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps)
        return -errno;
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %4s", &from, &to, kinds) != 3 || strcmp(kinds, "rw-p") != 0)
            continue;
        pages += (to - from) / size;
        if (written->range_count == RANGES_MAX || pages > LOOKED_THROUGH_MAX) {
            fclose(maps);
            return -EFBIG;
        }
        written->ranges[written->range_count++] = (struct run){.from = from, .pages = (to - from) / size};
    }
    fclose(maps);
    return 0;
}

int mpf_written_open(struct mpf_written **written)
{
    struct mpf_written *new = mmap(NULL, sizeof *new, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (new == MAP_FAILED)
        return -errno;
    int rc = can_copy(new) ? find_ranges(new) : -ENOTSUP;
    if (rc == 0)
        *written = new;
    else
        munmap(new, sizeof *new);
    return rc;
}

/* Adds a page, which lies behind those that are noted. false: that is too many. */
static bool add_page(struct mpf_written *written, uintptr_t page, uintptr_t size)
{
    struct run *last = written->run_count > 0 ? &written->runs[written->run_count - 1] : NULL;
    if (last && last->from + last->pages * size == page) {
        last->pages++;
        return true;
    }
    if (written->run_count == RUNS_MAX)
        return false;
    written->runs[written->run_count++] = (struct run){.from = page, .pages = 1};
    return true;
}

/* Notes the pages of one range. How many, or -errno. */
static int note_range(struct mpf_written *written, const struct run *range, int pagemap, uintptr_t size)
{
    uint64_t entries[512];
    int noted = 0;
    for (uintptr_t done = 0; done < range->pages;) {
        uintptr_t count = range->pages - done < 512 ? range->pages - done : 512;
        off_t at = (off_t)((range->from / size + done) * sizeof entries[0]);
        ssize_t got = pread(pagemap, entries, count * sizeof entries[0], at);
        if (got != (ssize_t)(count * sizeof entries[0]))
            return got < 0 ? -errno : -EIO;
        for (uintptr_t i = 0; i < count; i++) {
            if ((~entries[i] & (PAGE_PRESENT | PAGE_EXCLUSIVE)) != 0)
                continue;
            if (++noted > NOTED_MAX || !add_page(written, range->from + (done + i) * size, size))
                return -EFBIG;
        }
        done += count;
    }
    return noted;
}

static bool note_all(struct mpf_written *written)
{
    int noted = 0, pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return false;
    written->run_count = 0;
    for (uint32_t i = 0; i < written->range_count && noted >= 0 && noted <= NOTED_MAX; i++) {
        int more = note_range(written, &written->ranges[i], pagemap, page_size());
        noted = more < 0 ? more : noted + more;
    }
    close(pagemap);
    return noted >= 0 && noted <= NOTED_MAX;
}

void mpf_written_note(struct mpf_written *written)
{
    uint32_t none = NONE;
    /* Acquire: pairs with the release below, of a child that has tried before. */
    if (!written || !atomic_compare_exchange_strong_explicit(&written->state, &none, NOTING, memory_order_acquire,
                                                             memory_order_relaxed))
        return;
    int error = errno;
    MPF_FAULT("written.noting");
    bool noted = note_all(written);
    /* The release pairs with the acquire in mpf_written_repeat(), who sees NOTED sees the runs, and with the one above. */
    if (noted || ++written->tries < TRIES_MAX)
        atomic_store_explicit(&written->state, noted ? NOTED : NONE, memory_order_release);
    errno = error;
}

void mpf_written_repeat(const struct mpf_written *written, bool (*goes_on)(void *context), void *context)
{
    /* Pairs with the release in mpf_written_note(). */
    if (!written || atomic_load_explicit(&written->state, memory_order_acquire) != NOTED)
        return;
    int error = errno;
    uintptr_t size = page_size();
    uint32_t count = written->run_count < RUNS_MAX ? written->run_count : RUNS_MAX; /* any child may have written there */
    uintptr_t unasked = REPEATED_AT_ONCE;
    for (uint32_t i = 0; i < count && (unasked < REPEATED_AT_ONCE || goes_on(context)); i++) {
        const struct run run = written->runs[i];
        unasked = (unasked < REPEATED_AT_ONCE ? unasked : 0) + run.pages;
        (void)madvise((void *)run.from, run.pages * size, MADV_POPULATE_WRITE);
    }
    errno = error;
}

void mpf_written_close(struct mpf_written *written)
{
    if (written)
        munmap(written, sizeof *written);
}
