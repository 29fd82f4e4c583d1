/* Adaptive spinning ahead of a sleep: worth it where the other side answers within microseconds.
 *
 *   struct mpf_spin spin;
 *   for (mpf_spin_begin(&spin, park, &word); mpf_spin_next(&spin);)
 *       if (condition) { won = true; break; }
 *   mpf_spin_end(&spin, won);
 *
 * A wait spins for at most MPF_SPIN_NS, once. It gives its CPU to whoever is ready to run every microsecond (at once when all
 * spin permits of the arena are taken), and it does not spin at all on one CPU, past the deadline, or where
 * spinning on this word has not paid lately in this process (then one wait in MPF_SPIN_PROBE tries again). */
#ifndef MPF_SYNC_SPIN_H
#define MPF_SYNC_SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sync/park.h"

#define MPF_SPIN_NS 25000
#define MPF_SPIN_PROBE 16

struct mpf_spin {
    struct mpf_park *park;
    _Atomic uint32_t *site; /* what this process knows of the word */
    int64_t until;
    uint32_t turns;
    bool permit;
    bool active;
    bool late; /* a yield took longer than the whole spin may: sleeping would have been better */
};

void mpf_spin_begin(struct mpf_spin *spin, struct mpf_park *park, const void *word);
bool mpf_spin_next(struct mpf_spin *spin);
void mpf_spin_end(struct mpf_spin *spin, bool won);

#endif
