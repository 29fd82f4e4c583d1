/*
 * Purpose: to make large objects that a process receives cost their copy, not their pages. The first touch of a page costs
 * several times what copying into it does, and the C library has every large block fresh from the kernel: what is freed goes back
 * at once.
 *
 * Layout: the C library's heap, to which a thread's reserve is a promise, not a block:
 *
 *     | in use | freed ones ... | reserve: taken, marked for pages of 2 MiB, freed untouched |
 *                               \--- what is taken next comes from here: `left` counts down
 *
 * Two properties of the GNU C library are used, without settings that a program could have made its own: freeing a block that
 * came from the kernel directly raises the size from which blocks do so to that block's, and what is kept at the heap's end
 * to twice that. So a first block of 32 MiB, taken and freed, has all blocks below come from the heap, and up to 64 MiB
 * stay there. Where a program has set these limits itself, or another allocator is in place, they stay as they are.
 *
 * States of a thread: left 0 -> reserve (left = MPF_HEAP_RESERVE less what is expected) -> ... -> left too little -> reserve, unless
 * what comes next lies in memory that was marked before: freed and taken again, it needs no reserve, as often as that happens.
 *
 * Invariants: no memory is touched but the headers of free blocks, so what is never taken costs address space only. `marked` is
 * one stretch of addresses, marked but for parts of huge pages at its ends and where two reserves meet; the C library may have
 * given its end back meanwhile. In other arenas than the main one, and where a program has it give back everything at once, nothing
 * tells what became of a reserve: there one is taken for every so many bytes, as the counting of `left` has it.
 *
 * Callers: any thread, holding nothing that a system call must not be made with. A forked child has its parent's heap and the
 * forking thread's `left` and `marked`.
 *
 * Death of the caller: leaves nothing behind.
 */
#define _GNU_SOURCE
#include "platform/heap.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE ((uintptr_t)2 << 20)

/* Marks the huge pages that lie within the block. */
static void mark(void *at, size_t bytes)
{
    uintptr_t from = ((uintptr_t)at + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    uintptr_t to = ((uintptr_t)at + bytes) & ~(HUGE_PAGE - 1);
    if (from < to)
        (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
}

#ifdef __GLIBC__

static _Thread_local struct {
    uintptr_t from, to;
    bool is_data; /* they are in the data segment: as long as its end is not below them, they are there */
} marked;

static void note_marked(uintptr_t from, uintptr_t to)
{
    bool touches = from <= marked.to && to >= marked.from;
    marked.from = touches && marked.from < from ? marked.from : from;
    marked.to = touches && marked.to > to ? marked.to : to;
    marked.is_data = to <= (uintptr_t)sbrk(0);
}

static void reserve(void)
{
    static atomic_bool raised;
    void *volatile block; /* the compiler must not take a block that nobody uses for superfluous */
    if (!atomic_exchange_explicit(&raised, true, memory_order_relaxed)) {
        block = malloc(MPF_HEAP_RESERVE);
        free(block);
    }
    block = malloc(MPF_HEAP_RESERVE);
    if (!block)
        return;
    uintptr_t at = (uintptr_t)block;
    mark(block, MPF_HEAP_RESERVE);
    free(block);
    note_marked(at, at + MPF_HEAP_RESERVE);
}

/* The C library gives back what is free at the end of the data segment when it is much. */
static bool is_given_back(void)
{
    return marked.is_data && marked.to > (uintptr_t)sbrk(0);
}

/* Whether the next block of that size comes from memory that is marked. */
static bool is_at_hand(size_t bytes)
{
    if (!marked.is_data)
        return false;
    void *volatile block = malloc(bytes);
    uintptr_t at = (uintptr_t)block;
    free(block);
    return !is_given_back() && at >= marked.from && at + bytes <= marked.to;
}

#endif

void mpf_heap_expect_large(size_t bytes)
{
#ifdef __GLIBC__
    static _Thread_local size_t left;
    int error = errno;
    if (bytes > MPF_HEAP_RESERVE)
        bytes = MPF_HEAP_RESERVE;
    if (is_given_back()) {
        marked.from = marked.to = 0;
        left = 0;
    }
    if (bytes <= left) {
        left -= bytes;
    } else if (!is_at_hand(bytes)) {
        reserve();
        left = MPF_HEAP_RESERVE - bytes;
    }
    errno = error;
#else
    (void)bytes;
#endif
}

void mpf_heap_fill(void *at, size_t bytes)
{
    int error = errno;
    if (bytes > MPF_HEAP_RESERVE) /* smaller ones are part of a reserve */
        mark(at, bytes);
    errno = error;
}
