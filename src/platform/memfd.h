/* A sealed memory file that several processes map: creating, opening, committing and punching it.
 *
 * Everything that touches pages reports lack of memory as -errno; a store to committed pages never raises SIGBUS. */
#ifndef MPF_PLATFORM_MEMFD_H
#define MPF_PLATFORM_MEMFD_H

#include <stdbool.h>
#include <stdint.h>

#define MPF_MEMFD_NAME "mpfast"

struct mpf_memfd {
    int fd; /* close-on-exec, or -1 */
    char *base;
    uint64_t size;
    uint64_t device, inode; /* which file it is, whatever becomes of the number fd */
};

/* A new file of at most *wish* bytes (halved as long as limits or address space forbid more, but not below least),
 * sealed against shrinking and growing, mapped shared. 0 or -errno (-ENOSYS, -EMFILE, -ENOMEM ...). */
int mpf_memfd_create(uint64_t wish, uint64_t least, struct mpf_memfd *file);

/* Maps the file behind fd (duplicated; the caller keeps its own). 0, -EINVAL where it is not such a file, or -errno. */
int mpf_memfd_adopt(int fd, struct mpf_memfd *file);

/* Unmaps and closes. */
void mpf_memfd_close(struct mpf_memfd *file);

/* Whether the number file->fd still stands for the file (programs close descriptors they know nothing of). */
bool mpf_memfd_intact(const struct mpf_memfd *file);

/* Opens descriptor number remote of process pid if it is a file of ours. The descriptor, or -errno. */
int mpf_memfd_open_remote(int32_t pid, int remote);

/* Offers every descriptor of every process of this user that is a file of ours, until accept returns true.
 * The accepted descriptor (the caller's to close), or -ENOENT. */
int mpf_memfd_search(bool (*accept)(int fd, void *context), void *context);

/* Makes [offset, offset + bytes) real pages, mapped here. fd may be -1 or stale where only the mapping is left. */
int mpf_memfd_commit(const struct mpf_memfd *file, bool intact, uint64_t offset, uint64_t bytes);

/* Gives the pages back; they read as zero from now on. */
void mpf_memfd_punch(const struct mpf_memfd *file, bool intact, uint64_t offset, uint64_t bytes);

#endif
