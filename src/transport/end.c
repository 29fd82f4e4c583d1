/* Purpose: tells lanes that one of their sides is gone.
 *
 * Layout: struct mpf_end_shm, a block of type MPF_BLOCK_PIPE, written once at creation.
 *
 * Invariants: target is 0 only while the end is being made or destroyed; the target outlives its ends.
 *
 * Callers: any process, holding nothing. mpf_end_destroy is the block type's hook.
 *
 * Death: an end that was made but not handed out goes with its maker's references, and closes its side then. Destroying is
 * done again from the start when it was cut short: closing twice is closing. */
#include "transport/end.h"

#include "platform/fault.h"

int mpf_end_open(const struct mpf_ref *target, uint64_t out, uint64_t in, uint64_t bell, struct mpf_ref *end) {
    struct mpf_ref copy;
    int rc = mpf_block_alloc(target->arena, sizeof(struct mpf_end_shm), MPF_BLOCK_PIPE, end);
    if (rc < 0)
        return rc;
    if ((rc = mpf_block_ref(target, &copy)) < 0) {
        mpf_block_unref(end);
        return rc;
    }
    struct mpf_end_shm *shm = mpf_at(target->arena, end->off);
    shm->out = out;
    shm->in = in;
    shm->bell = bell;
    MPF_FAULT("end.made");
    mpf_block_put(&copy, &shm->target);
    return 0;
}

void mpf_end_destroy(struct mpf_arena *arena, mpf_off off) {
    struct mpf_end_shm *end = mpf_at(arena, off);
    if (end->target == 0)
        return;
    char *target = mpf_at(arena, end->target);
    if (end->in != MPF_END_NONE)
        mpf_lane_close((struct mpf_lane_shm *)(target + end->in), MPF_LANE_NO_READERS);
    if (end->out != MPF_END_NONE)
        mpf_lane_close((struct mpf_lane_shm *)(target + end->out), MPF_LANE_NO_WRITERS);
    MPF_FAULT("end.closed");
    if (end->bell != MPF_END_NONE)
        mpf_bell_ring_anew(arena, (struct mpf_bell_shm *)(target + end->bell));
    mpf_block_replace(arena, &end->target, 0);
}
