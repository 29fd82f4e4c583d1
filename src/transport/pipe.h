/* A pipe: one lane in each direction, with a stream socket beside them. See pipe.c. */
#ifndef MPF_TRANSPORT_PIPE_H
#define MPF_TRANSPORT_PIPE_H

#include "transport/end.h"
#include "transport/lane.h"

#define MPF_PIPE_LIMIT_BYTES (1024 * 1024) /* a sender waits while more than this is under way */
#define MPF_PIPE_RESUME_BYTES (512 * 1024)  /* and, once it sleeps, until no more than this is: more than a socket holds */

struct mpf_pipe_shm {
    struct mpf_lane_shm lanes[2];
};

/* A new pipe. ends[0] gets what is put into ends[1], and, where duplex, the other way round. 0, -ENOMEM. */
int mpf_pipe_open(struct mpf_arena *arena, bool duplex, struct mpf_ref ends[2]);

/* The lane that this end gets from or puts into; NULL where it cannot. */
struct mpf_lane_shm *mpf_pipe_in(const struct mpf_ref *end);
struct mpf_lane_shm *mpf_pipe_out(const struct mpf_ref *end);

/* From now on everything goes through the socket, both ways. What is in the lanes comes first. fd: this side's socket. */
void mpf_pipe_divert(const struct mpf_ref *end, int fd);
/* Whether both ways are. */
bool mpf_pipe_diverted(const struct mpf_ref *end);

/* What a sender needs to wake a reader that sleeps on its socket: the lane and this side's socket. */
struct mpf_pipe_bell {
    struct mpf_lane_shm *out;
    int fd;
};
void mpf_pipe_ring(void *bell); /* an mpf_lane_ringer's; a socket that was closed behind our back stays unrung */

/* A reader is about to sleep on its socket: takes the rings off it and announces the sleeper. 1: it may sleep. 0: there is
 * something to get, or the pipe is diverted. -EPIPE: nothing to get, and the other side is gone. */
int mpf_pipe_prepare_sleep(struct mpf_arena *arena, struct mpf_lane_shm *in, int fd);
/* The same for one that will not sleep. */
int mpf_pipe_look(struct mpf_arena *arena, struct mpf_lane_shm *in, int fd);
/* Of a diverted pipe: where nothing is left in the lane, takes the rings off, and the socket holds frames only. */
enum mpf_pipe_state {
    MPF_PIPE_SETTLED, /* so it is */
    MPF_PIPE_RUNG,    /* there is something to get, and the socket is readable */
    MPF_PIPE_SILENT,  /* there is something to get, and the socket is not */
};
enum mpf_pipe_state mpf_pipe_settle(struct mpf_arena *arena, struct mpf_lane_shm *in, int fd);

/* Block hooks of the pipe itself (its ends have their own). */
void mpf_pipe_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead);
void mpf_pipe_destroy(struct mpf_arena *arena, mpf_off off);

#endif
