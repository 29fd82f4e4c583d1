/* The arena: one sealed memfd that every process of a program maps, at whatever address it gets.
 *
 * Shared structures refer to one another by mpf_off, the distance from the arena's base; 0 is null. A process can have
 * several arenas mapped: its home (created on first use, or inherited by fork, or adopted by a spawned child) and those
 * of unrelated programs whose handles it was sent. An arena stays mapped until the process ends.
 *
 * How another process gets at an arena: by fork (the mapping), by descriptor (spawn, forkserver), or by name: the handle
 * carries the arena's id and the (pid, descriptor) of a process that has it, opened as /proc/<pid>/fd/<fd>; where that
 * process is gone, any process of the same user that has the memfd open serves. */
#ifndef MPF_MEMORY_ARENA_H
#define MPF_MEMORY_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t mpf_off;

struct mpf_arena {
    char *base;
    uint64_t size;          /* bytes of address space; pages exist only where committed */
    int fd;                 /* close-on-exec; may have been closed behind our back: verified before each use */
    unsigned char id[16];   /* random; equal to the id in the shared header */
    uint32_t self;          /* this process's participant id here; changes in a forked child */
    bool lost;              /* a forked child that was stopped for so long that its place was given away: it has a new
                               one, and every reference it inherited is stale */
    struct mpf_arena *next; /* the process's list of mapped arenas, home first */
};

/* The home arena, created if need be. 0 or -errno (-ENOSYS where the kernel has no memfd, -ENOMEM, -EMFILE ...). */
int mpf_arena_home(struct mpf_arena **arena);

/* The home arena if this process has one, else NULL. */
struct mpf_arena *mpf_arena_home_if_any(void);

/* The arena with this id: already mapped, else adopted from fd (if >= 0; it is duplicated), else opened through the hint
 * (pid, remote_fd), else found among the processes of this user. Becomes home when this process has none yet.
 * 0, -ENOENT when nobody has it, or -errno. */
int mpf_arena_find(const unsigned char id[16], int fd, int32_t hint_pid, int hint_fd, struct mpf_arena **arena);

/* A descriptor of the arena that is valid now (reopened when the program closed ours), or -errno. Borrowed. */
int mpf_arena_descriptor(struct mpf_arena *arena);

/* Makes [off, off+bytes) real memory, or fails with -ENOMEM / -ENOSPC and no SIGBUS ever. */
int mpf_arena_commit(struct mpf_arena *arena, mpf_off off, uint64_t bytes);

/* Gives the pages of [off, off+bytes) back to the system; they read as zero when committed again. */
void mpf_arena_release(struct mpf_arena *arena, mpf_off off, uint64_t bytes);

static inline void *mpf_at(const struct mpf_arena *arena, mpf_off off) { return arena->base + off; }
static inline mpf_off mpf_offset_of(const struct mpf_arena *arena, const void *p) {
    return (mpf_off)((const char *)p - arena->base);
}

#endif
