/*
 * Purpose: giving a forked child its own place in every arena, with its parent's references, before fork() returns.
 *
 * Layout: in private memory, the gate: 0, or the id of the thread that is forking; and in each arena's view, the id
 * set aside for the child.
 *
 * States, per fork:
 *
 *     prepare  the list's lock is taken, the gate shut: other threads of this process wait before they change anything in
 *              the arena, so that the list of references is exactly what the child's private memory will speak of.
 *              For each arena: a slot FREE -> COPYING, the list copied (every block counts one more), -> NASCENT.
 *     parent   notes the child's pid beside what it set aside, where the system tells it; the gate is opened. Who has
 *              announced the fork tells the pid itself afterwards, which spares asking the system twice; where a hook has
 *              forked meanwhile, nobody does.
 *     child    the gate is opened; its slot NASCENT -> JOINING -> LIVE. Where there is none (no memory for it, or the child
 *              was stopped for so long that it was given away): a fresh one, and arena->lost says that what was
 *              inherited is stale.
 *
 * Invariants: no lock of ours is held across the fork by a thread that the child does not have. The arena's section may be, by
 * another participant or another thread of the parent: the word names the parent, which will leave it.
 *
 * Callers: the C library, around fork().
 *
 * Death of the caller: the parent while COPYING: the slot is reaped as soon as it is dead. The parent after that, before it
 * has told the pid too, or fork() failing: the slot is given back after 30 s, for nobody can tell that no child will come. The
 * child before it takes its place: likewise, at once where its pid was noted. At any later step: a reaper frees its slot and
 * drops its references.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memory/layout.h"
#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/fault.h"
#include "platform/futex.h"
#include "platform/process.h"

static _Atomic uint32_t gate;
static int install_result;
static int32_t youngest_before; /* child of the thread that forks; while the gate is shut */
static uint64_t forks;          /* begun so far; under the list's lock */

/* Of the calling thread. */
static _Thread_local struct {
    bool pending, again;
    uint64_t fork; /* the one that was announced, once it is done; or 0 */
} announced;

static void wait_at_gate(struct mpf_arena *arena)
{
    uint32_t forker;
    while ((forker = atomic_load_explicit(&gate, memory_order_acquire)) != 0) {
        if (forker == (uint32_t)syscall(SYS_gettid))
            return;
        mpf_arena_leave(arena);
        mpf_futex_wait(&gate, forker, MPF_FOREVER);
        mpf_section_enter(arena, mpf_arena_section(arena));
    }
}

void mpf_arena_enter(struct mpf_arena *arena)
{
    mpf_section_enter(arena, mpf_arena_section(arena));
    /* Whoever shuts the gate enters the section next: who is inside sees it shut, or is done before the copy begins. */
    if (__builtin_expect(atomic_load_explicit(&gate, memory_order_relaxed) != 0, 0))
        wait_at_gate(arena);
}

static struct mpf_arena *next_of(struct mpf_arena *arena) { return __atomic_load_n(&arena->next, __ATOMIC_ACQUIRE); }

/* Gives a slot that was claimed for a child back. */
static void abandon(struct mpf_arena *arena, uint32_t id)
{
    uint32_t slot = mpf_slot_of(id);
    mpf_reap_abandoned(arena, slot, atomic_load_explicit(mpf_slot_state(arena, slot), memory_order_acquire));
}

static uint32_t set_aside(struct mpf_arena *arena)
{
    uint32_t id;
    if (!arena->self || mpf_slot_claim(arena, MPF_SLOT_COPYING, arena->self, &id) < 0)
        return 0;
    uint32_t slot = mpf_slot_of(id);
    if (mpf_reference_copy(arena, mpf_slot_of(arena->self), slot) < 0) {
        abandon(arena, id);
        return 0;
    }
    MPF_FAULT("fork.copied");
    atomic_store_explicit(&mpf_slot(arena, slot)->born, mpf_clock_now(), memory_order_relaxed);
    /* Release: pairs with the acquire in take_place; the list comes before the state. */
    atomic_store_explicit(mpf_slot_state(arena, slot),
                          mpf_state(MPF_SLOT_NASCENT, id >> MPF_SLOT_BITS, arena->self), memory_order_release);
    MPF_FAULT("fork.set_aside");
    return id;
}

static void prepare(void)
{
    mpf_process_before_fork();
    for (struct mpf_arena *arena = mpf_arena_list(); arena; arena = next_of(arena))
        if (arena->self && !announced.again)
            mpf_participant_reap(arena);
    pthread_mutex_lock(mpf_arena_list_lock());
    forks++;
    atomic_store_explicit(&gate, (uint32_t)syscall(SYS_gettid), memory_order_release);
    if (mpf_arena_list() && !announced.pending) {
        unsigned ignored;
        youngest_before = mpf_process_youngest_child(0, &ignored);
    }
    for (struct mpf_arena *arena = mpf_arena_list(); arena; arena = next_of(arena))
        mpf_view(arena)->nascent = set_aside(arena);
}

static void open_gate(void)
{
    atomic_store_explicit(&gate, 0, memory_order_release);
    mpf_futex_wake(&gate, INT_MAX);
    pthread_mutex_unlock(mpf_arena_list_lock());
}

/* Notes in each slot who is to take it, so that a child which is killed before it can is no riddle. */
static void name_child(int32_t pid)
{
    for (struct mpf_arena *arena = mpf_arena_list(); arena; arena = next_of(arena)) {
        uint32_t id = mpf_view(arena)->nascent;
        if (id)
            atomic_store_explicit(&mpf_slot(arena, mpf_slot_of(id))->child,
                                  (uint64_t)(id >> MPF_SLOT_BITS) << 32 | (uint32_t)pid, memory_order_relaxed);
    }
}

static void find_and_name_child(void)
{
    unsigned newer;
    int32_t pid = mpf_process_youngest_child(youngest_before, &newer);
    if (newer == 1) /* else fork() has failed, or this process was given an orphan meanwhile */
        name_child(pid);
}

static void parent(void)
{
    if (announced.pending) {
        announced.pending = announced.again = false;
        announced.fork = forks;
    } else if (mpf_arena_list()) {
        find_and_name_child();
    }
    open_gate();
}

void mpf_fork_announce(bool again)
{
    announced.pending = true;
    announced.again = again;
    announced.fork = 0;
}

void mpf_fork_tell(int32_t pid)
{
    announced.pending = announced.again = false;
    pthread_mutex_lock(mpf_arena_list_lock());
    if (pid > 0 && announced.fork == forks) /* else a hook has forked, too, and what was set aside is that child's */
        name_child(pid);
    announced.fork = 0; /* where this was the fork of a hook, the one around it is not told of in its place */
    pthread_mutex_unlock(mpf_arena_list_lock());
}

static int take_place(struct mpf_arena *arena, uint32_t id)
{
    if (!id)
        return -ESTALE;
    uint32_t slot = mpf_slot_of(id), generation = id >> MPF_SLOT_BITS;
    uint64_t state = atomic_load_explicit(mpf_slot_state(arena, slot), memory_order_acquire);
    uint64_t joining = mpf_state(MPF_SLOT_JOINING, generation, (uint32_t)getpid());
    if (mpf_state_id(slot, state) != id || mpf_state_status(state) != MPF_SLOT_NASCENT ||
        !atomic_compare_exchange_strong_explicit(mpf_slot_state(arena, slot), &state, joining, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return -ESTALE;
    MPF_FAULT("fork.taken");
    return mpf_slot_settle(arena, id, joining);
}

static void child(void)
{
    if (announced.pending)
        sched_yield(); /* where it has its parent's CPU: that has more to start */
    announced.pending = announced.again = false;
    mpf_process_after_fork();
    mpf_arena_after_fork();
    for (struct mpf_arena *arena = mpf_arena_list(); arena; arena = next_of(arena)) {
        MPF_FAULT("fork.child");
        arena->self = 0;
        if (take_place(arena, mpf_view(arena)->nascent) == 0)
            continue;
        arena->lost = true;
        (void)mpf_participant_join(arena); /* tried again by the first section that is entered */
    }
    open_gate();
}

static void install(void) { install_result = -pthread_atfork(prepare, parent, child); }

int mpf_fork_install(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
    return install_result;
}

/* When the library is loaded, so that no fork can catch the first arena half made. */
__attribute__((constructor)) static void install_early(void) { (void)mpf_fork_install(); }
