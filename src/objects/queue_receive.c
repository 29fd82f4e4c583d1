/*
 * Purpose: get() of the queue object.
 *
 * Layout: see queue.c. A short message is copied to the receiver's stack, a long one stays in its block.
 *
 * Invariants: messages that a batch left over (`stash`) come before those in the lane. An object that has put while others
 * waited lets them take what it has put.
 *
 * Callers: any thread attached to the interpreter; detached while it sleeps.
 *
 * Death of the caller: a message that it had taken is gone with it; any other is there for the next.
 */
#include <errno.h>
#include <stdbool.h>
#include <time.h>

#include "objects/errors.h"
#include "objects/guard.h"
#include "objects/message.h"
#include "objects/queue.h"
#include "platform/clock.h"

#define QUEUE_GIVE_WAY_NS (50 * 1000 * 1000)

PyObject *
mpf_queue_raise_get(struct mpf_state *state, int rc)
{
    if (rc == -EAGAIN || rc == -ETIMEDOUT) {
        return mpf_errors_raise_empty(state);
    }
    if (rc == -EPIPE) {
        PyErr_SetNone(PyExc_EOFError);
        return NULL;
    }
    return mpf_errors_raise(rc);
}

void
mpf_queue_silence(struct mpf_queue_object *queue)
{
    MPF_GUARD(queue);
    if (mpf_queue_has_bell(queue)) {
        mpf_queue_settle_bell(queue->base.ref.arena, queue->base.shm, &queue->bell);
    }
    MPF_UNGUARD();
}

/* In the stdlib's queue a reader that waits has the lock, and so the next item: a process that puts a request and then waits
 * for the answer on the same queue does not get its own request back. Here whoever comes first takes an item, so this
 * object first lets those take what it has put who waited for it then; for a while, as they may be gone. */
static void
queue_give_way(struct mpf_queue_object *queue)
{
    const struct mpf_lane_shm *lane = &((struct mpf_queue_shm *)queue->base.shm)->lane;
    uint64_t owed = queue->owed;
    queue->owed = 0;
    if (mpf_lane_taken(lane) >= owed) {
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    int64_t until = mpf_clock_now() + QUEUE_GIVE_WAY_NS;
    const struct timespec pause = {0, 20000};
    while (mpf_lane_taken(lane) < owed && mpf_clock_now() < until) {
        nanosleep(&pause, NULL);
    }
    Py_END_ALLOW_THREADS
}

PyObject *
mpf_queue_get_item(PyObject *self, int64_t deadline, const struct mpf_wait_ends *ends)
{
    struct mpf_queue_object *queue = mpf_queue_of(self);
    struct mpf_state *state = queue->base.state;
    struct mpf_queue_shm *shm = queue->base.shm;
    _Alignas(MPF_CODEC_ALIGN) char buffer[MPF_LANE_INLINE_MAX];
    struct mpf_lane_received received;
    struct mpf_wait wait;
    PyObject *left;
    if (queue->stash != NULL && mpf_queue_unstash(queue, &left)) {
        return left;
    }
    bool gives_way = queue->owed != 0, alone = mpf_queue_is_alone(queue) && !gives_way;
    if (alone) {
        size_t bytes = mpf_lane_get_short_alone(queue->base.ref.arena, &shm->lane, buffer);
        if (bytes != 0) {
            return mpf_codec_decode(state->codec, buffer, bytes, NULL);
        }
    }
    if (gives_way) {
        mpf_lane_seek_begin(&shm->lane); /* in line itself, behind those */
        queue_give_way(queue);
    }
    int rc = alone ? mpf_lane_get_alone(queue->base.ref.arena, &shm->lane, buffer, &received)
                   : mpf_lane_get(queue->base.ref.arena, &shm->lane, buffer, &received);
    if (rc == -EAGAIN && deadline != 0) {
        const struct mpf_wait_ends *former = ends != NULL ? mpf_wait_until(ends) : NULL;
        mpf_wait_init(&wait, queue->base.ref.arena, deadline);
        rc = mpf_message_receive(&wait, &shm->lane, buffer, &received);
        if (ends != NULL) {
            mpf_wait_until(former);
        }
    }
    if (gives_way) {
        mpf_lane_seek_end(&shm->lane);
    }
    mpf_queue_settle(queue);
    if (rc < 0) {
        return mpf_queue_raise_get(state, rc);
    }
    return mpf_message_decode(state, &received);
}

PyObject *
mpf_queue_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t deadline = MPF_FOREVER;
    MPF_QUEUE_HERE(self, "get", args, nargs, kwnames);
    MPF_QUEUE_CHECK_READER(self);
    if ((nargs != 0 || kwnames != NULL) && mpf_wait_parse_acquire(args, nargs, kwnames, &deadline) < 0) {
        return NULL;
    }
    return mpf_queue_get_item(self, deadline, NULL);
}
