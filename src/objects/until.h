/* What the waits of a call end with, from the events that Python code gives. See until.c. */
#ifndef MPF_OBJECTS_UNTIL_H
#define MPF_OBJECTS_UNTIL_H

#include "objects/state.h"
#include "objects/wait.h"

/* events: a tuple of Event objects; one_more: another one, or NULL; together at most MPF_WAIT_ENDS. Both are borrowed, and must live
 * as long as the ends are used. 0, or -1 with an exception. */
int mpf_until_parse(struct mpf_state *state, PyObject *events, PyObject *one_more, struct mpf_wait_ends *ends);

#endif
