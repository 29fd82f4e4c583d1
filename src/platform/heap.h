/* Has the C library's heap ready for what is large: memory that is kept, and pages that come 2 MiB at a time. See heap.c.
 *
 * Nothing here fails, and nothing depends on it but what new memory costs. */
#ifndef MPF_PLATFORM_HEAP_H
#define MPF_PLATFORM_HEAP_H

#include <stddef.h>

#define MPF_HEAP_LARGE ((size_t)128 << 10) /* from here on the C library asks the kernel for each block, if left alone */
#define MPF_HEAP_RESERVE (((size_t)32 << 20) - (64 << 10)) /* what is made ready at a time: its largest block, header and all */

/* The calling thread is about to take blocks of together so many bytes, MPF_HEAP_LARGE or more, with malloc(). */
void mpf_heap_expect_large(size_t bytes);

/* The same of any number of bytes. */
static inline void mpf_heap_expect(size_t bytes)
{
    if (bytes >= MPF_HEAP_LARGE)
        mpf_heap_expect_large(bytes);
}

/* The block of so many bytes at `at` is about to be filled for the first time. */
void mpf_heap_fill(void *at, size_t bytes);

#endif
