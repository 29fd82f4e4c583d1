/* The table of names that a resource tracker of the standard library's has here. See names.c. */
#ifndef MPF_OBJECTS_NAMES_H
#define MPF_OBJECTS_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "objects/state.h"

/* Has `tracker` (borrowed, may be NULL) unlink the name at the end, if it is the file `inode` then. `names` and `fd` are the
 * attributes where the table and the pipe are. False, and nothing is done: it has no table for that. An exception may be set. */
bool mpf_names_note_for(struct mpf_state *state, PyObject *tracker, PyObject *names, PyObject *fd, const char *name, uint64_t inode);

/* Takes the name away. Whether it was there. An exception may be set. */
bool mpf_names_forget_for(struct mpf_state *state, PyObject *tracker, PyObject *names, const char *name);

#endif
