/* Purpose: a descriptor of the parent's that becomes readable when there is something to collect, for a thread that sleeps in poll().
 *
 * Layout. In the crew: `listening`, and a bell (transport/bell.h) that the parent hangs up once.
 *
 * States: deaf (listening 0) <-> listening; while listening the bell is silent -> rung -> silent, as bell.c says.
 *
 * Invariants. A worker publishes first and looks at `listening` then; the parent says that it listens, or silences the bell, first
 * and collects then. Both sides have a sequentially consistent step in between, so one of them sees the other.
 * The bell is in the first place of its table: nobody else hangs one up.
 *
 * Callers: the parent, one thread at a time; workers ring.
 *
 * Death of a worker between marking the bell as rung and ringing it: the parent learns of the death elsewhere, and collects. Death
 * of the parent: its socket is gone, ringing fails and matters to nobody. */
#include "engine/crew.h"

#include <errno.h>
#include <unistd.h>

#include "platform/fault.h"

static int make(struct mpf_crew *crew) {
    uint64_t name[2];
    uint32_t seen;
    int rc = mpf_bell_make(crew->arena, &crew->bell, name);
    if (rc < 0)
        return rc;
    rc = mpf_bell_hang(crew->arena, &crew->shm->bells, &crew->bell, name, &seen);
    if (rc < 0)
        mpf_bell_drop(crew->arena, &crew->shm->bells, &crew->bell);
    return rc;
}

int mpf_crew_doorbell(struct mpf_crew *crew) {
    if (!mpf_crew_owned(crew))
        return -EPERM;
    int rc = crew->bell.owner == 0 ? make(crew) : 0;
    return rc < 0 ? rc : crew->bell.read_fd;
}

int mpf_crew_listen(struct mpf_crew *crew, bool on) {
    int fd = mpf_crew_doorbell(crew);
    if (fd < 0)
        return fd;
    MPF_FAULT("crew.listen");
    atomic_store(&crew->shm->listening, on);
    return 0;
}

void mpf_crew_silence(struct mpf_crew *crew) {
    if (mpf_crew_owned(crew) && crew->bell.owner != 0)
        mpf_bell_silence(crew->arena, &crew->shm->bells, &crew->bell);
}

void mpf_crew_ring(struct mpf_arena *arena, struct mpf_crew_shm *shm) {
    if (atomic_load(&shm->listening) && !atomic_load(&shm->bells.slots[0].rung))
        mpf_bell_ring(arena, &shm->bells);
}

void mpf_crew_drop_bell(struct mpf_crew *crew) {
    if (crew->bell.owner == 0)
        return;
    if (mpf_crew_owned(crew)) {
        atomic_store(&crew->shm->listening, 0);
        mpf_bell_drop(crew->arena, &crew->shm->bells, &crew->bell);
    } else {
        close(crew->bell.read_fd); /* a forked child's */
        crew->bell.owner = 0;
    }
}
