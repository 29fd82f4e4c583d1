/* Purpose: lets a process sleep on a descriptor for what happens in shared memory.
 *
 * Layout: MPF_BELL_SLOTS slots beside the lane; a slot is free (owner 0), being hung up (owner set, fd -1) or ready.
 *
 * States of a ready bell: silent (rung 0, pipe empty) -> rung (rung 1, one byte in the pipe, or about to be) -> silent.
 * Whoever turns rung from 0 to 1 writes the byte. The owner empties the pipe first and then sets rung to 0.
 *
 * Callers: producers ring before they publish, owners open, silence and close; all inside the lane's tail section, so that
 * a bell is never silenced between the ring and the message that it announces. The closing side of a lane rings without.
 *
 * Death of a producer between rung and the byte: the bell would stay silent for ever although rung is 1, so recovery
 * sets rung to 0 in all slots and rings (spuriously at worst). Death of an owner: recovery frees its slots. */
#define _GNU_SOURCE
#include "transport/bell.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory/participant.h"
#include "platform/fault.h"

void mpf_bell_init(struct mpf_bell_shm *bells) {
    for (unsigned i = 0; i < MPF_BELL_SLOTS; i++)
        atomic_store_explicit(&bells->slots[i].fd, -1, memory_order_relaxed);
}

static int claim_slot(struct mpf_bell_shm *bells, uint32_t owner, unsigned *slot) {
    for (unsigned i = 0; i < MPF_BELL_SLOTS; i++) {
        uint32_t none = 0;
        if (atomic_compare_exchange_strong(&bells->slots[i].owner, &none, owner)) {
            *slot = i;
            return 0;
        }
    }
    return -ENOSPC;
}

int mpf_bell_open(struct mpf_arena *arena, struct mpf_bell_shm *bells, _Atomic uint32_t *count, struct mpf_bell *bell) {
    int fds[2];
    struct stat st;
    int rc;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    if (fstat(fds[1], &st) < 0) {
        rc = -errno;
        goto fail;
    }
    if ((rc = claim_slot(bells, arena->self, &bell->slot)) < 0)
        goto fail;
    *bell = (struct mpf_bell){.read_fd = fds[0], .write_fd = fds[1], .slot = bell->slot, .owner = arena->self};
    struct mpf_bell_slot_shm *slot = &bells->slots[bell->slot];
    MPF_FAULT("bell.claimed");
    atomic_store(&slot->rung, 0);
    atomic_store(&slot->inode, st.st_ino);
    atomic_store_explicit(&slot->fd, fds[1], memory_order_release); /* pairs with the acquire in mpf_bell_ring */
    atomic_fetch_add(count, 1); /* sequentially consistent: before the caller's look at the lane */
    return 0;
fail:
    close(fds[0]);
    close(fds[1]);
    return rc;
}

static void free_slot(struct mpf_bell_slot_shm *slot, _Atomic uint32_t *count) {
    bool hung = atomic_exchange(&slot->fd, -1) >= 0;
    if (hung)
        atomic_fetch_sub(count, 1);
    atomic_store(&slot->owner, 0);
}

void mpf_bell_close(struct mpf_arena *arena, struct mpf_bell_shm *bells, _Atomic uint32_t *count, struct mpf_bell *bell) {
    if (bell->owner == arena->self)
        free_slot(&bells->slots[bell->slot], count);
    close(bell->read_fd);
    close(bell->write_fd);
    bell->owner = 0;
}

/* A descriptor for writing to the pipe of another process; the inode tells whether it is still that pipe. */
static int open_remote(int32_t pid, int fd, uint64_t inode) {
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
    int remote = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (remote < 0)
        return -errno;
    if (fstat(remote, &st) < 0 || !S_ISFIFO(st.st_mode) || st.st_ino != inode) {
        close(remote);
        return -ESTALE;
    }
    return remote;
}

static void ring_one(struct mpf_arena *arena, struct mpf_bell_slot_shm *slot) {
    uint32_t owner = atomic_load(&slot->owner);
    int fd = atomic_load_explicit(&slot->fd, memory_order_acquire); /* pairs with the release in mpf_bell_open */
    if (owner == 0 || fd < 0 || atomic_exchange(&slot->rung, 1) != 0)
        return;
    MPF_FAULT("bell.marked");
    int remote = open_remote(owner == arena->self ? (int32_t)getpid() : mpf_participant_pid(arena, owner), fd,
                             atomic_load(&slot->inode));
    if (remote < 0)
        return;
    ssize_t written = write(remote, "", 1); /* a full pipe is a rung bell */
    (void)written;
    close(remote);
}

void mpf_bell_ring(struct mpf_arena *arena, struct mpf_bell_shm *bells) {
    for (unsigned i = 0; i < MPF_BELL_SLOTS; i++)
        if (atomic_load_explicit(&bells->slots[i].owner, memory_order_relaxed) != 0)
            ring_one(arena, &bells->slots[i]);
}

void mpf_bell_silence(struct mpf_bell_shm *bells, const struct mpf_bell *bell) {
    char sink[64];
    while (read(bell->read_fd, sink, sizeof sink) == (ssize_t)sizeof sink)
        ;
    atomic_store(&bells->slots[bell->slot].rung, 0); /* sequentially consistent: before the caller's look at the lane */
}

void mpf_bell_recover(struct mpf_bell_shm *bells, _Atomic uint32_t *count, uint32_t dead) {
    for (unsigned i = 0; i < MPF_BELL_SLOTS; i++) {
        struct mpf_bell_slot_shm *slot = &bells->slots[i];
        if (atomic_load(&slot->owner) == dead)
            free_slot(slot, count);
        else
            atomic_store(&slot->rung, 0);
    }
}
