/* Entries of containers: from Python objects to data (containers/datum.h) and back. */
#ifndef MPF_OBJECTS_ENTRY_H
#define MPF_OBJECTS_ENTRY_H

#include "codec/codec.h"
#include "containers/container.h"
#include "objects/handle.h"
#include "objects/state.h"

/* The datum of a value. 0, or -1 with an exception: what pickling raises, OSError. To be dropped unless stored. */
int mpf_entry_encode(struct mpf_state *state, struct mpf_arena *arena, PyObject *value, struct mpf_datum *datum);

/* The value that was fetched, new reference or NULL with an exception. Uses `fetched` up. */
PyObject *mpf_entry_decode(struct mpf_state *state, struct mpf_fetched *fetched);

/* One datum of a snapshot; as_key: the key as it was written. New reference or NULL. */
PyObject *mpf_entry_from_snapshot(struct mpf_state *state, const struct mpf_snapshot *snapshot,
                                  const struct mpf_snapshot_datum *datum, bool as_key);

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
