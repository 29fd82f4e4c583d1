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

/* While a value is encoded that a container will hold: handles that are dumped by this thread have no ticket; the container
 * gets references of its own instead, and keeps the objects for as long as it has the value. */
struct mpf_keeper {
    struct mpf_arena *arena; /* the container's; objects of other arenas get tickets as ever */
    struct mpf_ref *refs;    /* owned */
    unsigned count, room;
    struct mpf_keeper *up;
};
void mpf_keeper_begin(struct mpf_keeper *keeper, struct mpf_arena *arena);
void mpf_keeper_end(struct mpf_keeper *keeper);
/* After the end: drops the references that were not moved elsewhere. */
void mpf_keeper_drop(struct mpf_keeper *keeper);

#endif
