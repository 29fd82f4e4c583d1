/* Bells: a descriptor that is readable while a lane has something to get, for select(), poll() and event loops.
 *
 * Lanes need no descriptor. A process that wants to sleep on one makes a bell: a datagram socket of its own with a name that
 * nobody guesses, known in shared memory. Producers ring it when the lane stops being empty, by sending a datagram to
 * the name; that works whatever user they are and whether or not they see /proc. Only a lane that somebody watches pays
 * for this. */
#ifndef MPF_TRANSPORT_BELL_H
#define MPF_TRANSPORT_BELL_H

#include <stdatomic.h>
#include <stdint.h>

#include "memory/arena.h"
#include "sync/table.h"

#define MPF_BELL_INLINE 4

struct mpf_bell_slot_shm {
    _Atomic uint32_t owner; /* participant id, 0: free */
    _Atomic uint32_t ready; /* the name is valid */
    _Atomic uint32_t rung;  /* 1 while the socket holds the datagram that says so */
    uint32_t reserved;
    _Atomic uint64_t name[2];
};

struct mpf_bell_shm {
    struct mpf_table_shm table;
    struct mpf_bell_slot_shm slots[MPF_BELL_INLINE];
};

/* This process's end of a bell. */
struct mpf_bell {
    int read_fd;
    uint32_t slot;
    uint32_t owner; /* participant it was made for: a forked child has none of its own */
};

void mpf_bell_init(struct mpf_bell_shm *bells);
/* For the owner's destroy hook. */
void mpf_bell_destroy(struct mpf_arena *arena, struct mpf_bell_shm *bells);

/* Makes a bell that is not hung up yet. 0, -EMFILE and the like. */
int mpf_bell_make(struct mpf_arena *arena, struct mpf_bell *bell, uint64_t name[2]);

/* Hangs it up. 0, -ENOSPC: no free slot among *seen, the table has to grow. */
int mpf_bell_hang(struct mpf_arena *arena, struct mpf_bell_shm *bells, struct mpf_bell *bell, const uint64_t name[2],
                  uint32_t *seen);

/* Takes it down, if it hangs, and unmakes it. */
void mpf_bell_drop(struct mpf_arena *arena, struct mpf_bell_shm *bells, struct mpf_bell *bell);

/* How many hang. */
uint32_t mpf_bell_count(struct mpf_arena *arena, struct mpf_bell_shm *bells);

/* Makes every bell readable that is not. */
void mpf_bell_ring(struct mpf_arena *arena, struct mpf_bell_shm *bells);
/* The same, without trust in what is noted of their state. */
void mpf_bell_ring_anew(struct mpf_arena *arena, struct mpf_bell_shm *bells);

/* Makes this bell unreadable. */
void mpf_bell_silence(struct mpf_arena *arena, struct mpf_bell_shm *bells, const struct mpf_bell *bell);

/* Frees the slots of a participant that was killed; the other bells count as silent from now on. */
void mpf_bell_recover(struct mpf_arena *arena, struct mpf_bell_shm *bells, uint32_t dead);

#endif
