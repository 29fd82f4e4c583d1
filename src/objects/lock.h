/* Lock and RLock, and what Condition needs of them without going through attribute look-ups. */
#ifndef MPF_OBJECTS_LOCK_H
#define MPF_OBJECTS_LOCK_H

#include <stdbool.h>

#include "objects/state.h"

/* Whether acquire() and release() of this object are those of Lock or RLock here, not overridden: the rest may be used. */
bool mpf_lock_is_native(struct mpf_state *state, PyObject *lock);

/* How often the calling thread has it: 0 not, 1 or, for an RLock, more. */
uint32_t mpf_lock_held(PyObject *lock);

/* acquire() without a limit and release(). New reference or NULL with an exception. */
PyObject *mpf_lock_enter(PyObject *lock);
PyObject *mpf_lock_exit(PyObject *lock);

/* Lets go of all that the calling thread has; takes it `held` times again, waiting for it. restore: 0, or -1 with an
 * exception: a signal handler's (the lock was not taken), or OwnerDied (it was). */
void mpf_lock_suspend(PyObject *lock, uint32_t held);
int mpf_lock_restore(PyObject *lock, uint32_t held);

#endif
