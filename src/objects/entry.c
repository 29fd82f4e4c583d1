/*
 * Purpose: what stands in a container, from Python objects and back.
 *
 * Layout: a value is a message of the codec. Handles in it have no ticket: the cell has references of its own to the objects
 * that they name, which are kept while the value is there.
 *
 * Invariants: a value is encoded before its container is touched, and decoded after its container was left. While a value with
 * handles is decoded its cell is held, so that what they name still exists.
 *
 * Callers: the types of containers, attached to the interpreter.
 *
 * Death of the caller: see containers/datum.c.
 */
#include "objects/entry.h"

#include "objects/errors.h"

static void
entry_write(const void *context, void *destination)
{
    mpf_codec_write(context, destination);
}

int
mpf_entry_encode(struct mpf_state *state, struct mpf_arena *arena, PyObject *value, struct mpf_datum *datum)
{
    struct mpf_message message;
    struct mpf_keeper keeper;
    datum->cell = (struct mpf_ref){0};
    mpf_keeper_begin(&keeper, arena);
    int done = mpf_codec_encode(state->codec, value, &message);
    mpf_keeper_end(&keeper);
    if (done == 0) {
        const struct mpf_datum_source source = {.data = message.flat, .bytes = message.bytes, .write = entry_write,
                                                .context = &message, .links = keeper.refs, .link_count = keeper.count};
        done = mpf_datum_make(arena, &source, datum);
        mpf_codec_release(state->codec, &message);
        if (done < 0) {
            mpf_errors_raise(done);
        }
    }
    if (keeper.refs != NULL) {
        mpf_keeper_drop(&keeper);
    }
    return done < 0 ? -1 : 0;
}

PyObject *
mpf_entry_decode(struct mpf_state *state, struct mpf_fetched *fetched)
{
    PyObject *value = mpf_codec_decode(state->codec, fetched->data, fetched->bytes, NULL);
    mpf_fetched_drop(fetched);
    return value;
}

PyObject *
mpf_entry_from_snapshot(struct mpf_state *state, const struct mpf_snapshot *snapshot, const struct mpf_snapshot_datum *datum,
                        bool as_key)
{
    const char *data = mpf_snapshot_data(snapshot, datum);
    size_t bytes = datum->bytes;
    if (as_key) {
        mpf_entry_skip_canonical(&data, &bytes, datum->canonical);
    }
    return mpf_codec_decode(state->codec, data, bytes, NULL);
}

int
mpf_entry_persist(struct mpf_persistence *persistence)
{
    if (++persistence->failures >= MPF_GATE_PATIENCE) {
        persistence->gated = true;
        Py_BEGIN_ALLOW_THREADS
        mpf_gate_close(persistence->arena, persistence->container);
        Py_END_ALLOW_THREADS
    }
    return PyErr_CheckSignals();
}

void
mpf_entry_desist(struct mpf_persistence *persistence)
{
    if (persistence->gated) {
        mpf_gate_open(persistence->arena, persistence->container);
    }
}
