/* Shared memory that has a name: a file in memory, which any process can open, and its mapping. See named.c. */
#ifndef MPF_PLATFORM_NAMED_H
#define MPF_PLATFORM_NAMED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MPF_NAMED_BYTES 16 /* of "/psm_", eight hexadecimal digits and the zero */

struct mpf_named {
    char name[MPF_NAMED_BYTES]; /* of what mpf_named_create() has made */
    int fd;
    void *base; /* NULL: the file is empty */
    size_t bytes;
    uint64_t inode;
};

/* Makes a file of a name that nobody has, of so many bytes, and maps it: named->fd is the caller's to close, named->base to unmap.
 * 0, or -errno and nothing is left. */
int mpf_named_create(struct mpf_named *named, mode_t mode, off_t bytes);

/* Takes back what mpf_named_create() has made, but for the mapping. */
void mpf_named_discard(const struct mpf_named *named);

/* Makes the first `bytes` of a file real pages: to lack them is an error now, not a SIGBUS later. 0 or -errno. */
int mpf_named_commit(int fd, off_t bytes);

/* Maps the whole of the file named->fd. 0 or -errno. */
int mpf_named_map(struct mpf_named *named);

#endif
