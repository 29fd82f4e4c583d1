/* The list object, shared by the files that make up its type. */
#ifndef MPF_OBJECTS_LIST_H
#define MPF_OBJECTS_LIST_H

#include <errno.h>

#include "containers/list.h"
#include "objects/entry.h"
#include "objects/shared.h"

struct mpf_list_object {
    struct mpf_shared base;
    PyObject *weakrefs;
};

static inline struct mpf_container_shm *mpf_list_shm(PyObject *self) { return ((struct mpf_shared *)self)->shm; }
static inline struct mpf_arena *mpf_list_arena(PyObject *self) { return ((struct mpf_shared *)self)->ref.arena; }
static inline struct mpf_state *mpf_list_state(PyObject *self) { return ((struct mpf_shared *)self)->state; }

/* ---- list_many.c ---- */

/* A new list of what the range names, or NULL; *version, where given: of the shared list at that instant. */
PyObject *mpf_list_to_plain(PyObject *self, struct mpf_list_range range, uint64_t *version);
/* Puts the items of a plain list in the place of the range. 0, -ESTALE (the list is not at *version any more, where that is
 * given), or -1 with an exception. */
int mpf_list_splice_from(PyObject *self, struct mpf_list_range range, PyObject *plain, const uint64_t *version);
int mpf_list_extend_from(PyObject *self, PyObject *iterable);
PyObject *mpf_list_extend(PyObject *self, PyObject *iterable);
PyObject *mpf_list_clear(PyObject *self, PyObject *ignored);
PyObject *mpf_list_copy(PyObject *self, PyObject *ignored);
PyObject *mpf_list_take_out(PyObject *self, PyObject *value);
PyObject *mpf_list_reverse(PyObject *self, PyObject *ignored);
PyObject *mpf_list_sort(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *mpf_list_transact(PyObject *self, PyObject *function);
PyObject *mpf_list_inplace_repeat(PyObject *self, Py_ssize_t times);

/* ---- list_methods.c ---- */

extern PyMethodDef mpf_list_methods[];
PyObject *mpf_list_iter(PyObject *self);
PyObject *mpf_list_repr(PyObject *self);
PyObject *mpf_list_compare(PyObject *self, PyObject *other, int operation);
int mpf_list_contains(PyObject *self, PyObject *value);
PyObject *mpf_list_concat(PyObject *self, PyObject *other);
PyObject *mpf_list_repeat(PyObject *self, Py_ssize_t times);

#endif
