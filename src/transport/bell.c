/* Purpose: lets a process sleep on a descriptor for what happens in shared memory.
 *
 * Layout: a table of slots beside the lane (sync/table.h); a slot is free (owner 0), being hung up (owner set, not ready)
 * or ready. The name is an abstract address of 16 random bytes, which exists as long as the owner's socket.
 *
 * States of a ready bell: silent (rung 0, socket empty) -> rung (rung 1, a datagram in the socket, or about to be) -> silent.
 * Whoever turns rung from 0 to 1 sends the datagram, and turns it back if that failed. The owner empties the socket
 * first and then sets rung to 0.
 *
 * Callers: producers ring before they publish, owners hang up, silence and drop, recovery frees; all inside the lane's tail
 * section, so that a bell is never silenced between the ring and the message that it announces. The closing side of
 * a lane rings without, after the lane is closed: bells that are hung up later see that.
 *
 * Death of a producer between rung and the datagram: the bell would stay silent for ever although rung is 1, so recovery
 * sets rung to 0 in all slots, and the queue's rings them if there is something to get (twice at worst). The closing side,
 * which may die there too, always rings anew. Death of an
 * owner: recovery frees its slots. An owner that ended in order and left its bell hanging is found by the next that needs
 * a slot. */
#define _GNU_SOURCE
#include "transport/bell.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "memory/participant.h"
#include "platform/fault.h"

void mpf_bell_init(struct mpf_bell_shm *bells) {
    mpf_table_init(&bells->table, MPF_BELL_INLINE, sizeof(struct mpf_bell_slot_shm));
}

void mpf_bell_destroy(struct mpf_arena *arena, struct mpf_bell_shm *bells) { mpf_table_destroy(arena, &bells->table); }

static struct mpf_bell_slot_shm *slot_at(struct mpf_arena *arena, struct mpf_bell_shm *bells, uint32_t index) {
    return mpf_table_at(arena, &bells->table, index);
}

static socklen_t address_of(const uint64_t name[2], struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path + 1, name, 16); /* after the 0 that makes it abstract */
    return offsetof(struct sockaddr_un, sun_path) + 17;
}

static int make_socket(void) {
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

int mpf_bell_make(struct mpf_arena *arena, struct mpf_bell *bell, uint64_t name[2]) {
    struct sockaddr_un address;
    int fd = make_socket();
    if (fd < 0)
        return fd;
    if (getrandom(name, 16, 0) != 16 || bind(fd, (struct sockaddr *)&address, address_of(name, &address)) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    *bell = (struct mpf_bell){.read_fd = fd, .slot = UINT32_MAX, .owner = arena->self};
    return 0;
}

static void free_slot(struct mpf_bell_slot_shm *slot) {
    atomic_store(&slot->ready, 0);
    atomic_store(&slot->owner, 0);
}

/* Those of participants that have ended count as free. */
static bool is_free(struct mpf_arena *arena, struct mpf_bell_slot_shm *slot) {
    uint32_t owner = atomic_load(&slot->owner);
    if (owner != 0 && owner != arena->self && mpf_participant_gone(arena, owner))
        free_slot(slot);
    return atomic_load(&slot->owner) == 0;
}

int mpf_bell_hang(struct mpf_arena *arena, struct mpf_bell_shm *bells, struct mpf_bell *bell, const uint64_t name[2],
                  uint32_t *seen) {
    struct mpf_bell_slot_shm *slot;
    uint32_t i = 0;
    while ((slot = slot_at(arena, bells, i)) != NULL && !is_free(arena, slot))
        i++;
    *seen = i;
    if (slot == NULL)
        return -ENOSPC;
    bell->slot = i;
    atomic_store(&slot->owner, bell->owner);
    MPF_FAULT("bell.claimed");
    atomic_store(&slot->rung, 0);
    atomic_store(&slot->name[0], name[0]);
    atomic_store(&slot->name[1], name[1]);
    atomic_store_explicit(&slot->ready, 1, memory_order_release); /* pairs with the acquire in mpf_bell_ring */
    MPF_FAULT("bell.hung");
    return 0;
}

void mpf_bell_drop(struct mpf_arena *arena, struct mpf_bell_shm *bells, struct mpf_bell *bell) {
    if (bell->owner == arena->self && bell->slot != UINT32_MAX)
        free_slot(slot_at(arena, bells, bell->slot));
    close(bell->read_fd);
    bell->owner = 0;
}

uint32_t mpf_bell_count(struct mpf_arena *arena, struct mpf_bell_shm *bells) {
    struct mpf_bell_slot_shm *slot;
    uint32_t count = 0;
    for (uint32_t i = 0; (slot = slot_at(arena, bells, i)) != NULL; i++)
        count += atomic_load(&slot->ready);
    return count;
}

/* Whether the bell is readable now. A socket that takes no more has enough. */
static bool send_ring(const struct mpf_bell_slot_shm *slot) {
    uint64_t name[2] = {atomic_load(&slot->name[0]), atomic_load(&slot->name[1])};
    struct sockaddr_un address;
    socklen_t length = address_of(name, &address);
    int fd = make_socket();
    if (fd < 0)
        return false;
    ssize_t sent = sendto(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address, length);
    bool rung = sent == 1 || errno == EAGAIN;
    close(fd);
    return rung;
}

static void ring_all(struct mpf_arena *arena, struct mpf_bell_shm *bells, bool anew) {
    struct mpf_bell_slot_shm *slot;
    for (uint32_t i = 0; (slot = slot_at(arena, bells, i)) != NULL; i++) {
        /* acquire pairs with the release in mpf_bell_hang */
        if (!atomic_load_explicit(&slot->ready, memory_order_acquire) || (atomic_exchange(&slot->rung, 1) != 0 && !anew))
            continue;
        MPF_FAULT("bell.marked");
        if (!send_ring(slot))
            atomic_store(&slot->rung, 0);
    }
}

void mpf_bell_ring(struct mpf_arena *arena, struct mpf_bell_shm *bells) { ring_all(arena, bells, false); }

void mpf_bell_ring_anew(struct mpf_arena *arena, struct mpf_bell_shm *bells) { ring_all(arena, bells, true); }

void mpf_bell_silence(struct mpf_arena *arena, struct mpf_bell_shm *bells, const struct mpf_bell *bell) {
    char sink[8];
    while (recv(bell->read_fd, sink, sizeof sink, MSG_DONTWAIT) >= 0)
        ;
    atomic_store(&slot_at(arena, bells, bell->slot)->rung, 0);
}

void mpf_bell_recover(struct mpf_arena *arena, struct mpf_bell_shm *bells, uint32_t dead) {
    struct mpf_bell_slot_shm *slot;
    for (uint32_t i = 0; (slot = slot_at(arena, bells, i)) != NULL; i++)
        if (atomic_load(&slot->owner) == dead)
            free_slot(slot);
        else
            atomic_store(&slot->rung, 0);
}
