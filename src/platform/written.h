/* Which pages of the memory it was forked with a child writes to: learnt from one child, for those that are forked in advance
 * and have time to copy theirs before anybody waits for them. */
#ifndef MPF_PLATFORM_WRITTEN_H
#define MPF_PLATFORM_WRITTEN_H

#include <stdbool.h>

struct mpf_written;

/* In the process that will fork, with one thread: notes the memory that its children are going to be forked with.
 * 0; -EFBIG where that is too much to be looked through; -ENOTSUP where the kernel does not say what is written; else -errno. */
int mpf_written_open(struct mpf_written **written);

/* In a child, as late as may be: notes what it has written, unless another one has. written may be NULL. */
void mpf_written_note(struct mpf_written *written);

/* In a child, as early as may be: has the kernel copy what is noted, piece by piece as long as *goes_on* says so. Nothing
 * that the program could see changes. written may be NULL. */
void mpf_written_repeat(const struct mpf_written *written, bool (*goes_on)(void *context), void *context);

/* Where its children have it still, they keep it. */
void mpf_written_close(struct mpf_written *written);

#endif
