/* A crew: one parent process, its workers, the tasks between them. The engine below Pool and the executor.
 *
 * This header is the parent's side; worker.h is the worker's. Everything here except what is marked (any thread) may be called by
 * one thread of the parent at a time: the caller has a lock (the GIL, a critical section). No function blocks but
 * mpf_crew_await. In a forked child of the parent every function but mpf_crew_free answers -EPERM or does nothing. */
#ifndef MPF_ENGINE_CREW_H
#define MPF_ENGINE_CREW_H

#include "engine/ring.h"
#include "engine/roster.h"
#include "sync/eventcount.h"
#include "sync/park.h"
#include "transport/bell.h"

enum mpf_crew_phase {
    MPF_CREW_OPEN,
    MPF_CREW_CLOSED,    /* no more tasks: a worker leaves when there is none to claim */
    MPF_CREW_ABANDONED, /* a worker leaves as soon as it has nothing in hand */
};

struct mpf_crew_shm {
    uint32_t owner; /* participant id of the parent */
    _Atomic uint32_t phase;
    struct mpf_roster_shm roster;
    struct mpf_ring_shm ring;
    /* workers that look for a task */
    _Alignas(64) struct mpf_eventcount_shm idle;
    _Atomic uint32_t seekers; /* those awake, spinning: they find what is put without being woken. A hint */
    uint32_t idle_padding[11];
    /* threads of the parent that look for results */
    _Alignas(64) struct mpf_eventcount_shm direct;
    struct mpf_eventcount_shm background;
    _Atomic int32_t wanted; /* results until it is worth waking a direct sleeper */
    _Atomic uint32_t listening; /* the parent's bell is to be rung for results */
    uint32_t result_padding[6];
    struct mpf_bell_shm bells; /* at most one */
};

/* The parent's handle; private memory. */
struct mpf_crew {
    struct mpf_arena *arena;
    struct mpf_ref ref; /* of the block; mpf_block_lend and the like work on it */
    struct mpf_crew_shm *shm;
    struct mpf_ring ring;
    uint32_t next_lane; /* where the next collection starts */
    uint32_t idle_turn, to_wake; /* of the workers that had announced their sleep at that turn, those not woken yet */
    _Atomic uint32_t waiters; /* threads in mpf_crew_await */
    _Atomic uint32_t bumps;
    struct mpf_bell bell;      /* owner == 0: none */
    _Atomic int64_t looked; /* when somebody last looked for dead workers */
    _Atomic bool settled; /* no worker was starting when somebody last looked, and none was enlisted since. A hint */
};

/* Once per process, before the first arena is mapped. */
void mpf_crew_register_hooks(void);

/* 0, -ENOMEM. */
int mpf_crew_create(struct mpf_arena *arena, struct mpf_crew *crew);
/* Drops the parent's (or its forked child's) reference and private memory. Cookies of unsettled tasks: see mpf_crew_unsettled. */
void mpf_crew_free(struct mpf_crew *crew);
/* Whether this process is the parent. (any thread) */
bool mpf_crew_owned(const struct mpf_crew *crew);

/* ---- tasks ---- */

/* Puts a task where workers find it at once; wakes nobody: call mpf_crew_wake after one, or after a batch. A payload of more than
 * MPF_TASK_INLINE_MAX bytes goes into a block (order->block, if the caller has filled one; otherwise made here: one copy).
 * 0, -ENOMEM (nothing happened, order->block is still the caller's), -EPERM, -ESHUTDOWN (not OPEN). */
int mpf_crew_put(struct mpf_crew *crew, const struct mpf_task_order *order, uint64_t *ticket);
/* `tasks` tasks were put: wakes that many workers, fewer where some look for a task already. No system call unless a worker sleeps. */
void mpf_crew_wake(struct mpf_crew *crew, uint32_t tasks);

/* Takes a task back that nobody has claimed; it is settled, and *cookie is the caller's again.
 * 0, -EBUSY (claimed), -ENOENT (settled before), -EPERM. */
int mpf_crew_cancel(struct mpf_crew *crew, uint64_t ticket, uint64_t *cookie);

/* Who has it: 0 and the worker's slot; -EAGAIN nobody yet; -ENOENT settled before. */
int mpf_crew_holder(struct mpf_crew *crew, uint64_t ticket, uint32_t *slot);

/* The worker that has the task is about to be killed for it: from now on it cannot report it, nor claim another.
 * 0 and its slot, then kill it; mpf_crew_lost will say MPF_TASK_CONDEMNED. -EAGAIN nobody has it yet; -EALREADY it is reporting;
 * -ENOENT. */
int mpf_crew_condemn(struct mpf_crew *crew, uint64_t ticket, uint32_t *slot);

/* Every unsettled task in the order of putting: `visit` may settle, but not put. For clearing up. 0, -ENOMEM, -EPERM. */
int mpf_crew_unsettled(struct mpf_crew *crew, void (*visit)(void *context, uint64_t ticket, uint64_t cookie), void *context);
/* The task is over though no result came (its error was delivered otherwise); a result that comes later is dropped. Only for a
 * task that nobody can claim any more. */
void mpf_crew_settle(struct mpf_crew *crew, uint64_t ticket);
/* Tasks put and not settled. (any thread) */
uint64_t mpf_crew_pending(const struct mpf_crew *crew);

/* A job: what many tasks have in common, encoded once. *job is a plain block reference of the parent's; it must live until
 * every task that names it is settled, then mpf_block_unref. Workers share it: what is decoded in place is read only.
 * 0, -ENOMEM. (any thread) */
int mpf_crew_make_job(struct mpf_crew *crew, const struct mpf_lane_message *message, struct mpf_ref *job);

/* ---- results ---- */

/* A result. message.data begins where the worker's message began. message.block, if any, is the caller's. The task is settled. */
struct mpf_crew_result {
    uint64_t ticket;
    uint64_t cookie;
    uint32_t slot; /* of the worker */
    struct mpf_lane_received message;
};

#define MPF_CREW_BUFFER_BYTES 65536

/* Takes up to `count` results, as many as fit the buffer (at least MPF_LANE_INLINE_MAX bytes); fewer does not mean that there are no
 * more. How many, -EAGAIN (none), -ENOMEM (one is there, and no memory to own it), -EPERM. */
int mpf_crew_collect(struct mpf_crew *crew, void *buffer, size_t capacity, struct mpf_crew_result *results, unsigned count);

/* (any thread) Whether there is something to collect. */
bool mpf_crew_ready(const struct mpf_crew *crew);

enum mpf_crew_side {
    MPF_CREW_DIRECT,     /* a thread that waits for a result of its own: woken first */
    MPF_CREW_BACKGROUND, /* the one that serves callbacks: woken if no direct one waits */
};

/* (any thread) Until there is something to collect. `wanted`: how many results the caller needs at least: while no other thread
 * waits, a direct one is left asleep until that many came, or a worker has nothing more to do (bounded by
 * MPF_CREW_WANTED_MAX). `bumps` is a value of mpf_crew_bumps from before the caller looked at what it waits for: the wait
 * ends when that has changed.
 * 0, -ECHILD (a worker is dead: see mpf_crew_lost), -ETIMEDOUT, -EINTR.
 * Spins first, unless workers are starting. After a 0 or -ECHILD: collect, or call mpf_crew_pass when not. */
#define MPF_CREW_WANTED_MAX 64
int mpf_crew_await(struct mpf_park *park, struct mpf_crew *crew, enum mpf_crew_side side, uint32_t wanted, uint32_t bumps);

/* (any thread) The count of bumps; wakes everybody who waits, because somebody else's result was resolved. */
uint32_t mpf_crew_bumps(const struct mpf_crew *crew);
void mpf_crew_bump(struct mpf_crew *crew);
/* (any thread) The caller leaves and there may be something to collect: wakes another waiter, if so. */
void mpf_crew_pass(struct mpf_crew *crew);

/* A descriptor that becomes readable when there is something to collect, while the crew listens (crew_bell.c); what sleeps in
 * mpf_crew_await is woken all the same. The descriptor is made by the first call of either. Silence it, then collect.
 *   doorbell  the descriptor, or -errno
 *   listen    0, -errno */
int mpf_crew_doorbell(struct mpf_crew *crew);
int mpf_crew_listen(struct mpf_crew *crew, bool on);
void mpf_crew_silence(struct mpf_crew *crew);
/* The engine's own: by who has published, and by mpf_crew_free. */
void mpf_crew_ring(struct mpf_arena *arena, struct mpf_crew_shm *shm);
void mpf_crew_drop_bell(struct mpf_crew *crew);

/* ---- workers ---- */

/* A slot for a worker that is to be started. It goes to the worker with the crew's handle. 0, -ENOMEM, -E2BIG, -EPERM. */
int mpf_crew_enlist(struct mpf_crew *crew, uint32_t *slot);

/* What is known of a slot. A snapshot. (any thread) */
struct mpf_crew_worker {
    enum mpf_roster_state state;
    bool dead;           /* it had joined, and its process is gone */
    int32_t pid;         /* 0: has not joined */
    uint64_t ticket;     /* of the task in hand; 0: none */
    int64_t started;     /* when it was claimed, monotonic ns */
    uint64_t tasks;      /* claimed so far */
    uint64_t memory;     /* bytes, as it last said */
};
int mpf_crew_look(const struct mpf_crew *crew, uint32_t slot, struct mpf_crew_worker *worker); /* 0, -ENOENT (free) */
/* Those in use are below it, with free ones between them. (any thread) */
uint32_t mpf_crew_slots(const struct mpf_crew *crew);

/* The slot's process is gone (the caller knows that from the system): what it had is decided. First collect until this stops
 * answering -EBUSY (results of it are still to be collected). 1: *lost was in its hands; it is unsettled: see to its cookie, then
 * mpf_crew_settle or mpf_crew_put_again. 0: it had nothing. In both cases the slot is free again.
 * -ECHILD: the process is not gone; -ENOENT: no such slot in use. */
struct mpf_crew_lost {
    uint64_t ticket, cookie;
    bool condemned; /* mpf_crew_condemn was told to */
};
int mpf_crew_lost(struct mpf_crew *crew, uint32_t slot, struct mpf_crew_lost *lost);

/* A lost task that was put with `keep` is put again, with its cookie, under a new ticket; then mpf_crew_wake.
 * 0, -EINVAL (not kept), -ENOENT, -ENOMEM (still unsettled). */
int mpf_crew_put_again(struct mpf_crew *crew, uint64_t ticket, uint64_t *again);

/* The worker in this slot leaves as soon as it has nothing in hand. (any thread) */
void mpf_crew_dismiss(struct mpf_crew *crew, uint32_t slot);

/* CLOSED or ABANDONED; never back. Wakes all workers. (any thread) */
void mpf_crew_close(struct mpf_crew *crew, enum mpf_crew_phase phase);

#endif
