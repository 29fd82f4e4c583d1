/* The native end of a pipe, as wait.c's neighbours see it. */
#ifndef MPF_OBJECTS_CONNECTION_H
#define MPF_OBJECTS_CONNECTION_H

#include <stdbool.h>

#include "objects/state.h"
#include "transport/pipe.h"

enum mpf_connection_tag { MPF_CONNECTION_OBJECT = 0, MPF_CONNECTION_BYTES = 1 };

struct mpf_connection {
    PyObject_HEAD
    struct mpf_state *state; /* lives as long as the type */
    struct mpf_ref end;      /* off == 0: works by its socket alone */
    struct mpf_lane_shm *in, *out;
    int fd; /* the socket; -1: closed */
    int select_fd, pending_fd; /* see connection_fileno; -1: none */
    bool readable, writable;
};

/* Whether what is sent to this end arrives in its lane. */
static inline bool mpf_connection_by_memory(const struct mpf_connection *c) {
    return c->in != NULL && !mpf_lane_diverted(c->in);
}

#endif
