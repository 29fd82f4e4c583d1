/* Purpose: two processes talk through shared memory, with a socket for what only a descriptor can do.
 *
 * Layout. struct mpf_pipe_shm is a block of type MPF_BLOCK_CHANNEL, owned by its two ends (end.h). Each end's holder also has
 * one socket of a connected pair: the kernel says through it that the other side's processes are all gone.
 *
 *   end A --out--> lane 0 --in--> end B         socket A <==========> socket B
 *         <--in--- lane 1 <--out-
 *
 * States: by memory -> diverted. A new pipe works by memory; the socket carries rings only: frames of four bytes that a
 * sender writes when the reader has announced that it sleeps on the socket. As soon as a program asks for the descriptor
 * (to select on it, to give it to another program) the pipe is diverted for good: every message is a frame on the socket,
 * as the stdlib writes it. A ring is a frame whose length no message can have.
 *
 * Invariants. No ring is written after the diversion (both happen inside the lane's tail section), so rings only precede
 * frames; once the lane is empty and they were taken off a diverted pipe's socket (MPF_LANE_SETTLED) nobody looks for any more, which
 * could be mistaken for the middle of a frame that another thread is reading. Messages in a lane are older than frames on the socket.
 * SETTLED => diverted, empty, no ring on the socket; nobody reads frames before. Whoever diverts what it sends rings for what is
 * left in the lane, so that the other side's program, which may look at nothing but its socket, sees it.
 *
 * Callers hold nothing. Rings are written and taken off inside the tail section: what is peeked at is what is read. They
 * stay on the socket while there is something to get, so that every reader that sleeps there wakes.
 *
 * Death. A sender rings before it publishes, both inside the tail section, and a reader announces itself and looks at the lane
 * inside that section: a sender killed after ringing wakes the reader for nothing, one killed after publishing
 * has rung. The announcement is withdrawn after the ring, and made before rings are taken off: at worst it is rung twice,
 * and no reader sleeps unannounced that was to wake by a ring which a killed one took off. A reader killed between taking the
 * last message of a diverted lane and settling leaves the socket readable until the next one asks. Of a process killed between the two
 * diversions one direction goes on by memory, until somebody asks for a descriptor again. The rest is in lane.c and end.c. */
#include "transport/pipe.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "platform/fault.h"

static const unsigned char ring_frame[4] = {0xff, 0xff, 0xff, 0xfe};

int mpf_pipe_open(struct mpf_arena *arena, bool duplex, struct mpf_ref ends[2]) {
    struct mpf_ref pipe;
    const uint64_t lane0 = offsetof(struct mpf_pipe_shm, lanes[0]), lane1 = offsetof(struct mpf_pipe_shm, lanes[1]);
    int rc = mpf_block_alloc(arena, sizeof(struct mpf_pipe_shm), MPF_BLOCK_CHANNEL, &pipe);
    if (rc < 0)
        return rc;
    memset(ends, 0, 2 * sizeof *ends);
    struct mpf_pipe_shm *shm = mpf_at(arena, pipe.off);
    if ((rc = mpf_lane_init(arena, &shm->lanes[0], MPF_PIPE_RESUME_BYTES)) < 0 ||
        (duplex && (rc = mpf_lane_init(arena, &shm->lanes[1], MPF_PIPE_RESUME_BYTES)) < 0))
        goto done;
    if ((rc = mpf_end_open(&pipe, duplex ? lane1 : MPF_END_NONE, lane0, MPF_END_NONE, &ends[0])) < 0)
        goto done;
    if ((rc = mpf_end_open(&pipe, lane0, duplex ? lane1 : MPF_END_NONE, MPF_END_NONE, &ends[1])) < 0)
        mpf_block_unref(&ends[0]);
done:
    mpf_block_unref(&pipe);
    return rc;
}

static struct mpf_lane_shm *lane_of(const struct mpf_ref *end, uint64_t where) {
    const struct mpf_end_shm *shm = mpf_at(end->arena, end->off);
    return where == MPF_END_NONE ? NULL : mpf_at(end->arena, shm->target + where);
}

struct mpf_lane_shm *mpf_pipe_in(const struct mpf_ref *end) {
    return lane_of(end, ((const struct mpf_end_shm *)mpf_at(end->arena, end->off))->in);
}

struct mpf_lane_shm *mpf_pipe_out(const struct mpf_ref *end) {
    return lane_of(end, ((const struct mpf_end_shm *)mpf_at(end->arena, end->off))->out);
}

void mpf_pipe_divert(const struct mpf_ref *end, int fd) {
    struct mpf_lane_shm *in = mpf_pipe_in(end), *out = mpf_pipe_out(end);
    struct mpf_pipe_bell bell = {.out = out, .fd = fd};
    const struct mpf_lane_ringer ringer = {.ring = mpf_pipe_ring, .context = &bell};
    if (in != NULL)
        mpf_lane_divert(end->arena, in, NULL);
    MPF_FAULT("pipe.half_diverted");
    if (out != NULL)
        mpf_lane_divert(end->arena, out, &ringer);
}

bool mpf_pipe_diverted(const struct mpf_ref *end) {
    struct mpf_lane_shm *in = mpf_pipe_in(end), *out = mpf_pipe_out(end);
    return (in == NULL || mpf_lane_diverted(in)) && (out == NULL || mpf_lane_diverted(out));
}

void mpf_pipe_ring(void *context) {
    const struct mpf_pipe_bell *bell = context;
    /* a socket that is full of rings needs no more; a peer that is gone reads nothing */
    ssize_t sent = send(bell->fd, ring_frame, sizeof ring_frame, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)sent;
    MPF_FAULT("pipe.ring.sent");
    atomic_store_explicit(&bell->out->bells, 0, memory_order_relaxed);
}

static void announce(struct mpf_lane_shm *in) { atomic_store_explicit(&in->bells, 1, memory_order_relaxed); }

/* Inside the tail section: nobody rings meanwhile, and what is peeked at is what is read. A ring that is taken off may be the
 * one that another reader was to wake by: it is announced again. 1: the stream has ended. */
static int take_rings(struct mpf_lane_shm *in, int fd) {
    unsigned char frames[4 * 16];
    for (;;) {
        ssize_t seen = recv(fd, frames, sizeof frames, MSG_PEEK | MSG_DONTWAIT);
        size_t rings = 0;
        while (seen >= 4 && rings + 4 <= (size_t)seen && memcmp(frames + rings, ring_frame, 4) == 0)
            rings += 4;
        if (rings == 0)
            return seen == 0 || (seen < 0 && errno == ECONNRESET);
        announce(in);
        if (recv(fd, frames, rings, MSG_DONTWAIT) < 0)
            return 0;
    }
}

int mpf_pipe_prepare_sleep(struct mpf_arena *arena, struct mpf_lane_shm *in, int fd) {
    int rc = 0;
    mpf_section_enter(arena, &in->tail);
    if (mpf_lane_count(in) == 0 && !mpf_lane_diverted(in)) {
        announce(in);
        MPF_FAULT("pipe.announced");
        rc = take_rings(in, fd) ? -EPIPE : 1;
        MPF_FAULT("pipe.rings.taken");
    }
    mpf_section_leave(arena, &in->tail);
    return rc;
}

int mpf_pipe_look(struct mpf_arena *arena, struct mpf_lane_shm *in, int fd) {
    int rc = 0;
    mpf_section_enter(arena, &in->tail);
    if (mpf_lane_count(in) == 0 && !mpf_lane_diverted(in))
        rc = take_rings(in, fd) ? -EPIPE : 1;
    mpf_section_leave(arena, &in->tail);
    return rc;
}

static bool is_silent(int fd) {
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

enum mpf_pipe_state mpf_pipe_settle(struct mpf_arena *arena, struct mpf_lane_shm *in, int fd) {
    enum mpf_pipe_state state = MPF_PIPE_SETTLED;
    if (atomic_load_explicit(&in->closed, memory_order_acquire) & MPF_LANE_SETTLED)
        return state;
    mpf_section_enter(arena, &in->tail);
    if (mpf_lane_count(in) != 0) {
        state = is_silent(fd) ? MPF_PIPE_SILENT : MPF_PIPE_RUNG;
    } else {
        (void)take_rings(in, fd);
        MPF_FAULT("pipe.settled");
        atomic_fetch_or_explicit(&in->closed, MPF_LANE_SETTLED, memory_order_release);
    }
    mpf_section_leave(arena, &in->tail);
    return state;
}

void mpf_pipe_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead) {
    struct mpf_pipe_shm *pipe = mpf_at(arena, off);
    (void)dead;
    mpf_lane_recover(&pipe->lanes[0]);
    mpf_lane_recover(&pipe->lanes[1]);
}

void mpf_pipe_destroy(struct mpf_arena *arena, mpf_off off) {
    struct mpf_pipe_shm *pipe = mpf_at(arena, off);
    mpf_lane_destroy(arena, &pipe->lanes[0]);
    mpf_lane_destroy(arena, &pipe->lanes[1]);
}
