/*
 * Purpose: keys whose equality only Python code knows: the keys of a dict as this process has decoded and hashed them.
 *
 * Layout: private memory: a plain dict {key: serial of its entry}, and the serial of the last entry that is in it.
 *
 * States: in the object, idle; or taken by a thread that brings it up to date and looks something up in it. A thread that finds it
 * taken makes one of its own.
 *
 * Invariants: a key's hash is this process's own; nothing of it is shared. Serials only grow, so that what is new is what has
 * a higher one; an entry that is gone is found out by the dict itself.
 *
 * Callers: the dict's methods, when the dict asks for it (-EXDEV, -ESTALE).
 *
 * Death of the caller: nothing is shared.
 */
#include "objects/dict.h"
#include "objects/errors.h"

#define KNOWN_SURPLUS 64 /* keys that are gone and still known, beyond as many as there are */

struct mpf_known {
    PyObject *keys;
    uint64_t serial;
};

void
mpf_known_free(struct mpf_known *known)
{
    if (known != NULL) {
        Py_CLEAR(known->keys);
        PyMem_RawFree(known);
    }
}

int
mpf_known_traverse(const struct mpf_known *known, visitproc visit, void *arg)
{
    if (known != NULL) {
        Py_VISIT(known->keys);
    }
    return 0;
}

static struct mpf_known *
known_take(struct mpf_dict_object *dict)
{
    /* Acquire: pairs with the release in known_give_back. */
    struct mpf_known *known = __atomic_exchange_n(&dict->known, NULL, __ATOMIC_ACQUIRE);
    if (known != NULL) {
        return known;
    }
    known = PyMem_RawCalloc(1, sizeof(*known));
    if (known == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    known->keys = PyDict_New();
    if (known->keys == NULL) {
        mpf_known_free(known);
        return NULL;
    }
    return known;
}

static void
known_give_back(struct mpf_dict_object *dict, struct mpf_known *known)
{
    struct mpf_known *none = NULL;
    /* Release: pairs with the acquire in known_take. */
    if (!__atomic_compare_exchange_n(&dict->known, &none, known, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
        mpf_known_free(known);
    }
}

static int
known_add(PyObject *self, struct mpf_known *known, const struct mpf_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->count; i++) {
        const struct mpf_snapshot_item *item = &snapshot->items[i];
        PyObject *key = mpf_entry_from_snapshot(mpf_dict_state(self), snapshot, &item->datum[0], true);
        PyObject *serial = key != NULL ? PyLong_FromUnsignedLongLong(item->serial) : NULL;
        int done = serial != NULL ? PyDict_SetItem(known->keys, key, serial) : -1;
        Py_XDECREF(key);
        Py_XDECREF(serial);
        if (done < 0) {
            return -1;
        }
        known->serial = item->serial;
    }
    known->serial = snapshot->serial;
    return 0;
}

static int
known_update(PyObject *self, struct mpf_known *known)
{
    struct mpf_snapshot snapshot = {0};
    uint64_t live = mpf_container_count(mpf_dict_arena(self), mpf_dict_shm(self));
    if ((uint64_t)PyDict_GET_SIZE(known->keys) > 2 * live + KNOWN_SURPLUS) {
        PyDict_Clear(known->keys);
        known->serial = 0;
    }
    int rc = mpf_dict_snapshot(mpf_dict_arena(self), mpf_dict_shm(self), MPF_DICT_KEYS, known->serial, &snapshot);
    if (rc < 0) {
        mpf_errors_raise(rc);
        return -1;
    }
    rc = known_add(self, known, &snapshot);
    mpf_snapshot_free(&snapshot);
    return rc;
}

/* A key with links is made anew: an attempt to store it may have used them up. */
static int
known_renew(PyObject *self, struct mpf_key *key)
{
    PyObject *object = key->object;
    if (key->link_count == 0) {
        return 0;
    }
    struct mpf_persistence persistence = key->persistence;
    key->persistence.gated = false; /* goes on with the new one */
    mpf_key_drop(key);
    int done = mpf_key_make(mpf_dict_state(self), mpf_dict_arena(self), object, key);
    key->persistence = persistence;
    return done;
}

int
mpf_dict_resolve(PyObject *self, struct mpf_key *key)
{
    struct mpf_dict_object *dict = mpf_dict_of(self);
    struct mpf_known *known = known_renew(self, key) == 0 ? known_take(dict) : NULL;
    if (known == NULL) {
        return -1;
    }
    int done = known_update(self, known);
    if (done == 0) {
        PyObject *serial = PyDict_GetItemWithError(known->keys, key->object); /* borrowed */
        key->key.serial = serial != NULL ? PyLong_AsUnsignedLongLong(serial) : 0;
        key->key.as_of = known->serial;
        key->key.resolved = true;
        done = PyErr_Occurred() ? -1 : 0;
    }
    known_give_back(dict, known);
    return done;
}
