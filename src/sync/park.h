/* The one way to sleep: on a word, until it changes, the deadline passes, a signal wants attention or somebody died.
 *
 * Protocol. The waiter reads the word, finds that its condition does not hold, announces itself (in the word, or in
 * a second one that the waker reads after changing the first), and calls mpf_park with the value it read. The waker
 * changes the word, then wakes if it saw the announcement. The kernel compares word and value under its own lock, so no
 * wake-up can fall between the two.
 *
 * Death. A process may die between changing the word and waking, or after it was woken and before it acted. Both
 * lose a wake-up, and neither can be seen from the word. So every sleep is one of two kinds:
 *   short  the first MPF_PARK_SHORT_NS: sleeps on the word alone, with a timeout
 *   long   after that: sleeps on the word, the arena's epoch and the life words of all participants, without one
 * and after each return that was not a plain wake the waiter looks at everything afresh (park->recheck is set): whether
 * its condition holds after all, whether the owner is dead, and it drops hints (a "somebody was woken" bit) that a dead
 * process may have left. See park.c for why no death goes unnoticed.
 *
 * The GIL and Python's signal handlers come in through the callbacks; this layer knows neither. `release` is called
 * once before the first sleep and `resume` once when the wait is over (or before `interrupt`), so that a woken waiter takes
 * what it waited for before it queues for the GIL. */
#ifndef MPF_SYNC_PARK_H
#define MPF_SYNC_PARK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory/arena.h"
#include "platform/futex.h"

#define MPF_PARK_SHORT_NS (20 * 1000 * 1000)

struct mpf_park {
    struct mpf_arena *arena;
    int64_t deadline;               /* CLOCK_MONOTONIC ns; MPF_FOREVER; 0 or past: never sleeps */
    void (*release)(void *context); /* before a sleep (gives the GIL up); may be NULL */
    void (*resume)(void *context);  /* before mpf_park's caller returns to its own */
    int (*interrupt)(void *context); /* after a signal, resumed: nonzero ends the wait with -EINTR; may be NULL */
    int64_t interrupt_every;        /* ns; > 0: also call interrupt this often (main thread of a threaded process) */
    bool interrupt_roused;          /* also call interrupt when the arena's epoch has changed during a long sleep */
    void *context;
    bool contended; /* others want what release() gives up: it is given up before spinning, too */

    /* mpf_park's own */
    bool recheck;        /* the last return was not a plain wake: distrust hints, look for dead owners */
    bool released;       /* release() was called, resume() not yet */
    bool slept;          /* interrupt is due: the last sleep ended without a word of signals, and one may have come along */
    bool watching;       /* past the short sleeps: epoch is valid */
    uint32_t epoch;      /* the arena's, as of the last look at everything */
    int64_t short_until; /* when the short sleeps end; 0: has not slept yet */
    int64_t interrupt_at; /* when interrupt is due; 0: has not slept yet */
};

#define MPF_PARK_INIT(a, d) ((struct mpf_park){.arena = (a), .deadline = (d)})

/* Sleeps while *word == expected. 0: look again. -ETIMEDOUT: the deadline has passed (look once more: what was waited for
 * may have come with it). -EINTR: interrupt() said so; nothing was consumed. */
int mpf_park(struct mpf_park *park, const _Atomic uint32_t *word, uint32_t expected);

/* Calls release() unless that was done already; mpf_park does it before a sleep. */
void mpf_park_begin(struct mpf_park *park);

/* Ends a wait: calls resume() if release() was called. Every function that takes a park calls it before returning. */
void mpf_park_finish(struct mpf_park *park);

/* Wakes up to count sleepers; how many there were. */
int mpf_park_wake(const _Atomic uint32_t *word, int count);

#endif
