/* Keys of a dict: canonical bytes, by which keys are equal that are equal in Python, and what gives the key itself back. */
#ifndef MPF_OBJECTS_DICT_KEY_H
#define MPF_OBJECTS_DICT_KEY_H

#include "containers/dict.h"
#include "objects/entry.h"
#include "objects/handle.h"
#include "objects/state.h"

#define MPF_KEY_SMALL 64

struct mpf_key {
    struct mpf_dict_key key;
    PyObject *object; /* borrowed */
    char *bytes;      /* `small`, or memory of its own */
    size_t used, room;
    struct mpf_persistence persistence; /* of the operation that the key is made for */
    struct mpf_ref *links; /* owned */
    unsigned link_count;
    char small[MPF_KEY_SMALL];
};

/* 0, or -1 with an exception: TypeError (not hashable), what pickling or __hash__ raises. Must not be moved afterwards. */
int mpf_key_make(struct mpf_state *state, struct mpf_arena *arena, PyObject *object, struct mpf_key *key);
void mpf_key_drop_long(struct mpf_key *key);

static inline void
mpf_key_drop(struct mpf_key *key)
{
    if (key->bytes != key->small || key->links != NULL || key->persistence.gated) {
        mpf_key_drop_long(key);
    }
}

#endif
