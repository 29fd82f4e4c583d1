/* A table, in memory that a program's processes share, of the named memory they have made and nobody has unlinked. See names.c. */
#ifndef MPF_PLATFORM_NAMES_H
#define MPF_PLATFORM_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#define MPF_NAMES_COUNT 1024
#define MPF_NAMES_WORDS 7
#define MPF_NAMES_BYTES (8 * MPF_NAMES_WORDS) /* of a name, with at least one zero that ends it */

struct mpf_names_shm {
    _Atomic uint64_t inodes[MPF_NAMES_COUNT];
    _Atomic uint64_t names[MPF_NAMES_COUNT][MPF_NAMES_WORDS];
    _Atomic uint32_t high; /* places from here on were never used */
};

/* A new table, mapped. A descriptor of it, close-on-exec, the caller's to close; or -errno. */
int mpf_names_create(struct mpf_names_shm **names);

void mpf_names_unmap(struct mpf_names_shm *names);

/* Puts the name of the file with this inode number (2 or more) there. 0; -EINVAL: no name for this table (too long, or with other
 * characters than printable ASCII without ':'); -ENOSPC: it is full. */
int mpf_names_note(struct mpf_names_shm *names, const char *name, uint64_t inode);

/* Takes every file of that name away. Whether there was one. */
bool mpf_names_forget(struct mpf_names_shm *names, const char *name);

/* Whether the reading end of the pipe is open in some process. Of the calling process: the writing end. */
bool mpf_names_is_read(int pipe);

#endif
