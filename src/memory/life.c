/*
 * Purpose: the life word of a participant: a robust mutex that its registering thread locks and never unlocks, so that
 * the kernel itself marks the word and wakes a sleeper when that thread ends, however it ends.
 *
 * Layout: in the slot (layout.h): the mutex, and life_at, the distance of its futex word from the slot. The word is found by
 * looking for the thread's id in the locked mutex, because the C libraries place it differently.
 *
 *     word    thread id (30 bits) | FUTEX_WAITERS (set by us, so that the kernel wakes) -- at death --> FUTEX_OWNER_DIED
 *
 * States: see above; and DIED -> locked again, when the thread ended but its process goes on: the next thread of that
 * process that comes along (mpf_life_refresh) takes the mutex over. Until then the kernel will not wake anybody on this word
 * again, so whoever finds it so bumps the epoch, once, and all sleepers poll.
 *
 * Invariants: a word without DIED means that the process runs. DIED alone means little: a thread may have ended, or the process
 * may have exec'd; the process table has the last word. life_at == 0: this kernel or library can't do it, and the
 * process table is all there is.
 *
 * Callers: participant.c, reap.c, fork.c; not in a section, except mpf_life_look, which a section's repair needs.
 *
 * Death of the caller: is the event that this file is about; a half-made mutex belongs to a slot that is not LIVE yet.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memory/layout.h"
#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/fault.h"
#include "platform/futex.h"
#include "platform/process.h"

#define LIFE_WAITERS 0x80000000u
#define LIFE_TID 0x3fffffffu

static bool make_robust(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;
    if (pthread_mutexattr_init(&attributes) != 0)
        return false;
    bool ok = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
              pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0 &&
              pthread_mutex_init(mutex, &attributes) == 0;
    pthread_mutexattr_destroy(&attributes);
    return ok;
}

/* Where in a mutex locked by this thread its id stands; the futex word comes first in the C libraries known. */
static _Atomic uint32_t *find_word(pthread_mutex_t *mutex)
{
    uint32_t tid = (uint32_t)syscall(SYS_gettid);
    for (size_t i = 0; i < sizeof *mutex / sizeof(uint32_t); i++) {
        _Atomic uint32_t *word = (_Atomic uint32_t *)(void *)mutex + i;
        if ((atomic_load_explicit(word, memory_order_relaxed) & LIFE_TID) == tid)
            return word;
    }
    return NULL;
}

/* The kernel wakes at death only where somebody is said to wait. */
static void ask_for_wake(_Atomic uint32_t *word)
{
    atomic_fetch_or_explicit(word, LIFE_WAITERS, memory_order_relaxed);
}

void mpf_life_begin(struct mpf_arena *arena, uint32_t slot)
{
    struct mpf_slot_shm *entry = mpf_slot(arena, slot);
    uint64_t start = 0;
    int32_t pid = (int32_t)getpid();
    (void)mpf_process_start_time(pid, &start);
    atomic_store_explicit(&entry->life_at, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->polled, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->pid, pid, memory_order_relaxed);
    atomic_store_explicit(&entry->start_time, start, memory_order_relaxed);
    atomic_store_explicit(&entry->namespace_id, mpf_process_namespace(), memory_order_relaxed);
    memset(&entry->life, 0, sizeof entry->life);
    /* Nobody else can have it. Trying says so to tools that look for locks taken in different orders: this is none. */
    if (!make_robust(&entry->life) || pthread_mutex_trylock(&entry->life) != 0)
        return;
    MPF_FAULT("life.locked");
    _Atomic uint32_t *word = find_word(&entry->life);
    if (!word)
        return;
    ask_for_wake(word);
    atomic_store_explicit(&entry->life_at, (uint32_t)((char *)word - (char *)entry), memory_order_release);
}

_Atomic uint32_t *mpf_life_word(const struct mpf_arena *arena, uint32_t slot)
{
    struct mpf_slot_shm *entry = mpf_slot(arena, slot);
    uint32_t at = atomic_load_explicit(&entry->life_at, memory_order_acquire);
    return at ? (_Atomic uint32_t *)(void *)((char *)entry + at) : NULL;
}

void mpf_life_refresh(struct mpf_arena *arena)
{
    uint32_t slot = mpf_slot_of(arena->self);
    _Atomic uint32_t *word = mpf_life_word(arena, slot);
    if (!word || !(atomic_load_explicit(word, memory_order_relaxed) & MPF_LIFE_DIED))
        return;
    /* EBUSY: another thread of this process was faster. */
    if (pthread_mutex_trylock(&mpf_slot(arena, slot)->life) == EOWNERDEAD) {
        pthread_mutex_consistent(&mpf_slot(arena, slot)->life);
        ask_for_wake(word);
        atomic_store_explicit(&mpf_slot(arena, slot)->polled, 0, memory_order_relaxed);
        mpf_epoch_bump(arena); /* those who had to poll because of this word can sleep on it again */
    }
}

enum mpf_life mpf_life_look(const struct mpf_arena *arena, uint32_t slot)
{
    struct mpf_slot_shm *entry = mpf_slot(arena, slot);
    const _Atomic uint32_t *word = mpf_life_word(arena, slot);
    bool died = word && (atomic_load_explicit(word, memory_order_acquire) & MPF_LIFE_DIED);
    if (word && !died)
        return MPF_LIFE_RUNS;
    if (atomic_load_explicit(&entry->namespace_id, memory_order_relaxed) != mpf_process_namespace())
        return died ? MPF_LIFE_OVER : MPF_LIFE_RUNS;
    int32_t pid = atomic_load_explicit(&entry->pid, memory_order_relaxed);
    if (pid == (int32_t)getpid())
        return MPF_LIFE_RUNS;
    if (!mpf_process_alive(pid, atomic_load_explicit(&entry->start_time, memory_order_relaxed)))
        return MPF_LIFE_OVER;
    if (died && !mpf_process_maps(pid, "/memfd:" MPF_MEMFD_NAME))
        /* Without the mapping it either runs another program now or is giving its memory back. */
        return mpf_process_alive(pid, atomic_load_explicit(&entry->start_time, memory_order_relaxed))
                   ? MPF_LIFE_EXECED
                   : MPF_LIFE_OVER;
    return MPF_LIFE_POLLED;
}

static bool probe_wait_many(void)
{
    static const _Atomic uint32_t word = 0;
    struct mpf_futex_target target = {.word = &word, .expected = 1};
    return mpf_futex_wait_many(&target, 1, mpf_clock_now()) != -ENOSYS;
}

bool mpf_life_watchable(void)
{
    static _Atomic int known; /* 0 not asked yet, 1 yes, 2 no */
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (!answer) {
        answer = probe_wait_many() ? 1 : 2;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 1;
}
