/* An end of one or two lanes: whoever holds a reference to it can put into `out` and get from `in`. When the last reference
 * goes (closed, ended or killed), the lanes learn that nobody is left on this side. */
#ifndef MPF_TRANSPORT_END_H
#define MPF_TRANSPORT_END_H

#include "memory/block.h"
#include "transport/bell.h"
#include "transport/lane.h"

#define MPF_END_NONE UINT64_MAX

struct mpf_end_shm {
    mpf_off target; /* the block in which the lanes are; one reference, owned by this word */
    uint64_t out;   /* where in it the lanes are, or MPF_END_NONE */
    uint64_t in;
    uint64_t bell;  /* the bells of `out`'s readers, or MPF_END_NONE */
};

/* Makes an end of `target` and gives the caller a reference to it. 0, -ENOMEM. */
int mpf_end_open(const struct mpf_ref *target, uint64_t out, uint64_t in, uint64_t bell, struct mpf_ref *end);

void mpf_end_destroy(struct mpf_arena *arena, mpf_off off);

#endif
