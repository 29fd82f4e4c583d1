/* Entries of containers: from Python objects to data (containers/datum.h) and back. */
#ifndef MPF_OBJECTS_ENTRY_H
#define MPF_OBJECTS_ENTRY_H

#include "codec/codec.h"
#include "containers/container.h"
#include "containers/gate.h"
#include "objects/handle.h"
#include "objects/state.h"

/* The datum of a value. 0, or -1 with an exception: what pickling raises, OSError. To be dropped unless stored. */
int mpf_entry_encode(struct mpf_state *state, struct mpf_arena *arena, PyObject *value, struct mpf_datum *datum);

/* The value that was fetched, new reference or NULL with an exception. Uses `fetched` up. */
PyObject *mpf_entry_decode(struct mpf_state *state, struct mpf_fetched *fetched);

/* One datum of a snapshot; as_key: the key as it was written. New reference or NULL. */
PyObject *mpf_entry_from_snapshot(struct mpf_state *state, const struct mpf_snapshot *snapshot,
                                  const struct mpf_snapshot_datum *datum, bool as_key);

/* Before writing: waits for an operation that is in distress (containers/gate.h). */
static inline void
mpf_entry_give_way(struct mpf_arena *arena, struct mpf_container_shm *container)
{
    if (mpf_gate_is_closed(container)) {
        Py_BEGIN_ALLOW_THREADS
        mpf_gate_await(arena, container);
        Py_END_ALLOW_THREADS
    }
}

/* An operation that is done again and again until nobody comes between. */
struct mpf_persistence {
    struct mpf_arena *arena;
    struct mpf_container_shm *container;
    unsigned failures;
    bool gated;
};
/* After an attempt that was overtaken: 0, or -1 with a signal handler's exception. */
int mpf_entry_persist(struct mpf_persistence *persistence);
/* In the end, whatever came of it. */
void mpf_entry_desist(struct mpf_persistence *persistence);

/* The bytes behind the canonical ones, where there are any. */
static inline void
mpf_entry_skip_canonical(const char **data, size_t *bytes, size_t canonical)
{
    if (canonical < *bytes) {
        *data += canonical;
        *bytes -= canonical;
    }
}

#endif
