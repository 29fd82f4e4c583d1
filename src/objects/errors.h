/* From -errno to exceptions: the one place where the layers below meet Python's error classes. */
#ifndef MPF_OBJECTS_ERRORS_H
#define MPF_OBJECTS_ERRORS_H

#include "objects/state.h"

/* Creates OwnerDied and OwnerDiedWarning and adds them, set_strict() and get_strict() to the module. */
int mpf_errors_register(PyObject *module);

/* Sets the exception for a negative errno and returns NULL.
 *   -EINTR   a signal handler raised: its exception is set already and stays
 *   -ESTALE, -ENOENT   FileNotFoundError: the object, or everybody who had its arena, is gone
 *   anything else      OSError with that errno (lack of shared memory is an OSError, not a MemoryError) */
PyObject *mpf_errors_raise(int error);

/* The end of what a `finally` clause does: puts back what PyErr_Fetch() gave (stolen) where it did it, rc 0; with rc -1 the
 * exception of its own stays. Returns rc. */
int mpf_errors_finally(int rc, PyObject *type, PyObject *value, PyObject *traceback);

/* Says that the owner of `what` ("Lock", ...) was killed: 0 warned; -1 with an exception set (OwnerDied in strict mode,
 * or the warning turned into an error by a filter): the caller then gives back what it took, and reports failure. */
int mpf_errors_owner_died(struct mpf_state *state, PyObject *what);

/* Sets queue.Full, whose argument is `value` (borrowed; NULL: none), and returns NULL. */
PyObject *mpf_errors_raise_full(struct mpf_state *state, PyObject *value);

/* Sets queue.Empty and returns NULL. */
PyObject *mpf_errors_raise_empty(struct mpf_state *state);

/* Sets queue.ShutDown, which there is from 3.13 on, and returns NULL. */
PyObject *mpf_errors_raise_shut_down(struct mpf_state *state);

#endif
