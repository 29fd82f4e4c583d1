/* The one way to wait: spin a little, then sleep on a word until it changes, the deadline passes, a signal wants
 * attention or somebody died.
 *
 * Protocol. The waiter reads the word, finds that its condition does not hold, announces itself in the word (a waiters
 * bit or count), and calls mpf_park with the value it read. The waker changes the word, then wakes if it saw the
 * announcement. The kernel compares word and value under its own lock, so no wake-up can fall between the two.
 *
 * Death. A process may die between changing the word and waking, or after it was woken and before it acted. Both
 * lose a wake-up, and neither can be seen from the word. So every sleep is one of two kinds:
 *   short  the first MPF_PARK_SHORT_NS: sleeps on the word alone, with a timeout
 *   long   after that: sleeps on the word, the arena's epoch and the life words of all participants, without one
 * and after each return that was not a plain wake the waiter looks at everything afresh (park->recheck is set): whether
 * its condition holds after all, whether the owner is dead, and it drops hints (a "somebody was woken" bit) that a dead process may have left.
 *
 * The GIL and Python's signal handlers come in through the callbacks; this layer knows neither. */
#ifndef MPF_SYNC_PARK_H
#define MPF_SYNC_PARK_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/arena.h"

#define MPF_PARK_SHORT_NS (20 * 1000 * 1000)

struct mpf_park {
    struct mpf_arena *arena;
    int64_t deadline;               /* CLOCK_MONOTONIC ns; MPF_FOREVER; 0 or past: never sleeps */
    void (*release)(void *context); /* before a sleep (gives the GIL up); may be NULL */
    void (*resume)(void *context);  /* after it */
    int (*interrupt)(void *context); /* after a signal, resumed: nonzero ends the wait with -EINTR; may be NULL */
    int64_t interrupt_every;        /* ns; > 0: also call interrupt this often (main thread of a threaded process) */
    void *context;

    /* mpf_park's own */
    bool recheck;     /* the last return was not a plain wake: distrust hints, look for dead owners */
    int64_t started;  /* when the first sleep began; 0: not yet */
    uint32_t epoch;   /* the arena's, as of the last look */
};

#define MPF_PARK_INIT(a, d) ((struct mpf_park){.arena = (a), .deadline = (d)})

/* Sleeps while *word == expected. 0: look again. -ETIMEDOUT: the deadline has passed (look once more: a wake may have
 * come with it). -EINTR: interrupt() said so. */
int mpf_park(struct mpf_park *park, const _Atomic uint32_t *word, uint32_t expected);

int mpf_park_wake(const _Atomic uint32_t *word, int count);

/* Adaptive spinning. for (mpf_spin_begin(&spin, arena, &site); mpf_spin_next(&spin);) if (condition) ...; mpf_spin_end(&spin, won).
 * At most MPF_SPIN_NS; not at all on one CPU, when all spin permits of the arena are taken, or where spinning at this
 * site has not paid lately (site: private memory, per object and process; may be NULL for a global average). */
struct mpf_spin {
    struct mpf_arena *arena;
    int32_t *site;
    uint32_t turns, limit;
    bool permit;
};
void mpf_spin_begin(struct mpf_spin *spin, struct mpf_arena *arena, int32_t *site);
bool mpf_spin_next(struct mpf_spin *spin);
void mpf_spin_end(struct mpf_spin *spin, bool won);

#endif
