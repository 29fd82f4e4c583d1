/* Purpose: the payload of a task's record: written by the parent, read by the worker that has claimed it.
 *
 * Layout. A record takes one slot, or several that follow one another. Every slot begins with a state word, so that whoever looks at
 * a slot, however late, finds one; a long payload is cut accordingly:
 *
 *   first    state 8 | block 8 | job 8 | generations 4+4 | bytes 4 | tag 4 | payload 88
 *   further  state 8 | payload 120
 *
 * States of a record, each change one compare-and-swap or one store of the state word by who is named:
 *
 *   FREE --parent--> PENDING --worker--> CLAIMED --worker--> REPORTING
 *     \ parent        ^   \ parent          \ parent
 *      FILLING -------+    CANCELLED         CONDEMNED
 *
 * A settled record keeps its last state until its slot is used again.
 *
 * Invariants: `block` is 0 or owned by the record in every state but FREE and PART. The fields are the parent's until PENDING and
 * from being settled on; in between nobody changes them but the claimer, who may take the block out.
 *
 * Callers: see ring.c. The functions here touch what the caller has.
 *
 * Death of the parent while FILLING: the destroy hook finds the block, if it had been moved in. Death of a worker after it claimed: the
 * block is in the record or in the worker's references, never in both places or none (mpf_block_take). */
#include "engine/task.h"

#include <string.h>

#include "platform/fault.h"

static struct mpf_task_part_shm *part_of(struct mpf_task_shm *record, uint32_t slot) {
    return (struct mpf_task_part_shm *)record + slot;
}

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

static void scatter(struct mpf_task_shm *record, const unsigned char *from, uint32_t bytes) {
    uint32_t done = smaller(bytes, MPF_TASK_FIRST_BYTES);
    memcpy(record->payload, from, done);
    for (uint32_t slot = 1; done < bytes; slot++) {
        uint32_t more = smaller(bytes - done, MPF_TASK_FURTHER_BYTES);
        memcpy(part_of(record, slot)->payload, from + done, more);
        done += more;
    }
}

void mpf_task_write(struct mpf_task_shm *record, const struct mpf_lane_message *message) {
    unsigned char whole[MPF_TASK_INLINE_MAX];
    uint32_t bytes = (uint32_t)message->bytes;
    if (message->data != NULL) {
        scatter(record, message->data, bytes);
    } else if (bytes <= MPF_TASK_FIRST_BYTES) {
        message->write(message->context, record->payload);
    } else {
        message->write(message->context, whole);
        scatter(record, whole, bytes);
    }
}

void mpf_task_gather(struct mpf_task_shm *record, void *to) {
    uint32_t bytes = record->bytes & ~MPF_TASK_KEEP, done = smaller(bytes, MPF_TASK_FIRST_BYTES);
    memcpy(to, record->payload, done);
    for (uint32_t slot = 1; done < bytes; slot++) {
        uint32_t more = smaller(bytes - done, MPF_TASK_FURTHER_BYTES);
        memcpy((unsigned char *)to + done, part_of(record, slot)->payload, more);
        done += more;
    }
}

static int open_block(struct mpf_arena *arena, struct mpf_task_shm *record, struct mpf_task *task) {
    if (!task->shared)
        return mpf_block_take(arena, &record->block, &task->block);
    return mpf_block_attach(arena, record->block, record->block_generation, MPF_BLOCK_MESSAGE, 0, &task->block);
}

int mpf_task_open(struct mpf_arena *arena, struct mpf_task_shm *record, void *gathered, struct mpf_task *task) {
    uint32_t bytes = record->bytes & ~MPF_TASK_KEEP;
    *task = (struct mpf_task){.tag = record->tag,
                              .job = record->job,
                              .job_generation = record->job_generation,
                              .bytes = bytes,
                              .data = record->payload,
                              .shared = (record->bytes & MPF_TASK_KEEP) != 0};
    if (record->block != 0) {
        int rc = open_block(arena, record, task);
        MPF_FAULT("task.opened");
        if (rc < 0)
            return rc;
        task->data = mpf_at(arena, task->block.off);
        task->bytes = mpf_block_bytes(&task->block);
    } else if (bytes > MPF_TASK_FIRST_BYTES) {
        mpf_task_gather(record, gathered);
        task->data = gathered;
    }
    return 0;
}
