/* The dict object, shared by the files that make up its type. */
#ifndef MPF_OBJECTS_DICT_H
#define MPF_OBJECTS_DICT_H

#include <errno.h>

#include "containers/dict.h"
#include "objects/dict_key.h"
#include "objects/entry.h"
#include "objects/shared.h"

struct mpf_known;

struct mpf_dict_object {
    struct mpf_shared base;
    PyObject *weakrefs;
    struct mpf_known *known; /* owned: keys as Python compares them, see dict_foreign.c; NULL: none, or in use */
};

static inline struct mpf_dict_object *mpf_dict_of(PyObject *self) { return (struct mpf_dict_object *)self; }
static inline struct mpf_container_shm *mpf_dict_shm(PyObject *self) { return ((struct mpf_shared *)self)->shm; }
static inline struct mpf_arena *mpf_dict_arena(PyObject *self) { return ((struct mpf_shared *)self)->ref.arena; }
static inline struct mpf_state *mpf_dict_state(PyObject *self) { return ((struct mpf_shared *)self)->state; }

/* ---- dict_foreign.c ---- */

/* Compares the key with those that are there, by the program's own code. 0, or -1 with an exception. */
int mpf_dict_resolve(PyObject *self, struct mpf_key *key);
void mpf_known_free(struct mpf_known *known);
int mpf_known_traverse(const struct mpf_known *known, visitproc visit, void *arg);

/* Whether an operation that answered rc has to be done again, with the key resolved. *raised becomes true where that raised. */
static inline bool
mpf_dict_again(PyObject *self, struct mpf_key *key, int *rc, bool *raised)
{
    if (*rc != -EXDEV && *rc != -ESTALE) {
        return false;
    }
    if (*rc == -ESTALE) {
        key->persistence.arena = mpf_dict_arena(self);
        key->persistence.container = mpf_dict_shm(self);
        *raised = mpf_entry_persist(&key->persistence) < 0;
    }
    *raised = *raised || mpf_dict_resolve(self, key) < 0;
    return !*raised;
}

/* ---- dict_many.c ---- */

/* A new dict with everything that is in it, or NULL. */
PyObject *mpf_dict_to_plain(PyObject *self);
/* Stores all of a plain dict in one step. 0 or -1. */
int mpf_dict_update_from(PyObject *self, PyObject *plain);
/* As dict.update. 0 or -1. */
int mpf_dict_merge(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwargs, const char *name);
/* New lists. */
PyObject *mpf_dict_keys(PyObject *self, PyObject *ignored);
PyObject *mpf_dict_values(PyObject *self, PyObject *ignored);
PyObject *mpf_dict_items(PyObject *self, PyObject *ignored);
PyObject *mpf_dict_transact(PyObject *self, PyObject *function);

/* ---- dict_methods.c ---- */

extern PyMethodDef mpf_dict_methods[];
PyObject *mpf_dict_iter(PyObject *self);
PyObject *mpf_dict_repr(PyObject *self);
PyObject *mpf_dict_compare(PyObject *self, PyObject *other, int operation);
PyObject *mpf_dict_or(PyObject *left, PyObject *right);
PyObject *mpf_dict_inplace_or(PyObject *self, PyObject *other);
PyObject *mpf_dict_raise_key(PyObject *key);

#endif
