/* Handles: what a shared object is pickled as, and how the receiver gets at it.
 *
 * A handle is bytes: arena id, offset, generation, ticket, and the (pid, descriptor) under which the sender has the arena.
 * While a child is being spawned (multiprocessing.context.get_spawning_popen()) it is the tuple (bytes, descriptor of the
 * arena as the popen passes it, strict): the child then has the arena even if its parent is gone by the time it looks. */
#ifndef MPF_OBJECTS_HANDLE_H
#define MPF_OBJECTS_HANDLE_H

#include "memory/block.h"
#include "objects/state.h"

/* New reference to a handle, or NULL with an exception. The block lives until the handle is loaded or this process
 * ends; for a child that is being started, until the child's Process is closed or dropped. */
PyObject *mpf_handle_dump(struct mpf_state *state, const struct mpf_ref *ref);

/* This process's reference to what the handle names. 0, or -1 with TypeError / ValueError (not a handle),
 * FileNotFoundError (it is gone), OSError. */
int mpf_handle_load(struct mpf_state *state, PyObject *handle, enum mpf_block_type type, struct mpf_ref *ref);

#endif
