/* Bells: a descriptor that is readable while a lane has something to get, for select(), poll() and event loops.
 *
 * Lanes need no descriptor. A process that wants to sleep on one makes a bell: a pipe of its own, known in shared memory by
 * (participant, descriptor, inode). Producers ring it when the lane stops being empty, by opening it under /proc;
 * only a lane that somebody watches pays for this. */
#ifndef MPF_TRANSPORT_BELL_H
#define MPF_TRANSPORT_BELL_H

#include <stdatomic.h>
#include <stdint.h>

#include "memory/arena.h"

#define MPF_BELL_SLOTS 8

struct mpf_bell_slot_shm {
    _Atomic uint32_t owner; /* participant id, 0: free */
    _Atomic uint32_t rung;  /* 1 while the pipe holds the byte that says so */
    _Atomic int32_t fd;     /* the pipe's writing end in the owner; -1 until the slot is ready */
    uint32_t reserved;
    _Atomic uint64_t inode;
};

struct mpf_bell_shm {
    struct mpf_bell_slot_shm slots[MPF_BELL_SLOTS];
};

/* This process's end of a bell. */
struct mpf_bell {
    int read_fd, write_fd;
    unsigned slot;
    uint32_t owner; /* participant it was made for: a forked child has none of its own */
};

void mpf_bell_init(struct mpf_bell_shm *bells);

/* Makes a bell and hangs it up; *count is the lane's `bells`. 0, -EMFILE and the like, -ENOSPC (no free slot). */
int mpf_bell_open(struct mpf_arena *arena, struct mpf_bell_shm *bells, _Atomic uint32_t *count, struct mpf_bell *bell);
void mpf_bell_close(struct mpf_arena *arena, struct mpf_bell_shm *bells, _Atomic uint32_t *count, struct mpf_bell *bell);

/* Makes every bell readable. Errors are passed over: the bell of a dying process needs no ringing. */
void mpf_bell_ring(struct mpf_arena *arena, struct mpf_bell_shm *bells);

/* Makes this bell unreadable. */
void mpf_bell_silence(struct mpf_bell_shm *bells, const struct mpf_bell *bell);

void mpf_bell_recover(struct mpf_bell_shm *bells, _Atomic uint32_t *count, uint32_t dead);

#endif
