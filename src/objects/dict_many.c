/*
 * Purpose: what SharedDict does with many entries at once: copies of it, update, new contents.
 *
 * Layout: a batch in private memory: for each entry its key and its datum.
 *
 * States: of a batch: filled, entry by entry -> handed to the dict, which takes what it stores -> dropped.
 *
 * Invariants: the keys of a batch come out of a plain dict, so that they are all different.
 *
 * Callers: the dict's methods, attached to the interpreter.
 *
 * Death of the caller: a batch holds references of this process.
 */
#include "objects/dict.h"
#include "objects/errors.h"

struct dict_batch {
    struct mpf_dict_item *items;
    struct mpf_key *keys;
    size_t count;
};

/* ---- copies ---- */

static int
dict_take_snapshot(PyObject *self, unsigned what, struct mpf_snapshot *snapshot)
{
    *snapshot = (struct mpf_snapshot){0};
    if (mpf_dict_shm(self) == NULL) {
        mpf_shared_missing(self);
        return -1;
    }
    int rc = mpf_dict_snapshot(mpf_dict_arena(self), mpf_dict_shm(self), what, 0, snapshot);
    if (rc < 0) {
        mpf_errors_raise(rc);
    }
    return rc;
}

/* New reference to what the item stands for: key, value, or a pair of both. */
static PyObject *
dict_item_object(struct mpf_state *state, const struct mpf_snapshot *snapshot, const struct mpf_snapshot_item *item,
                 unsigned what)
{
    if (what == MPF_DICT_KEYS) {
        return mpf_entry_from_snapshot(state, snapshot, &item->datum[0], true);
    }
    PyObject *value = mpf_entry_from_snapshot(state, snapshot, &item->datum[1], false);
    if (what == MPF_DICT_VALUES || value == NULL) {
        return value;
    }
    PyObject *key = mpf_entry_from_snapshot(state, snapshot, &item->datum[0], true);
    PyObject *pair = key != NULL ? PyTuple_Pack(2, key, value) : NULL;
    Py_XDECREF(key);
    Py_DECREF(value);
    return pair;
}

static PyObject *
dict_list(PyObject *self, unsigned what)
{
    struct mpf_snapshot snapshot;
    if (dict_take_snapshot(self, what, &snapshot) < 0) {
        return NULL;
    }
    PyObject *list = PyList_New((Py_ssize_t)snapshot.count);
    for (size_t i = 0; list != NULL && i < snapshot.count; i++) {
        PyObject *object = dict_item_object(mpf_dict_state(self), &snapshot, &snapshot.items[i], what);
        if (object != NULL) {
            PyList_SET_ITEM(list, (Py_ssize_t)i, object); /* steals */
        } else {
            Py_CLEAR(list);
        }
    }
    mpf_snapshot_free(&snapshot);
    return list;
}

PyObject *
mpf_dict_keys(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return dict_list(self, MPF_DICT_KEYS);
}

PyObject *
mpf_dict_values(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return dict_list(self, MPF_DICT_VALUES);
}

PyObject *
mpf_dict_items(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return dict_list(self, MPF_DICT_KEYS | MPF_DICT_VALUES);
}

/* *version: of the dict when the copy was made. */
static PyObject *
dict_to_plain(PyObject *self, uint64_t *version)
{
    struct mpf_snapshot snapshot;
    struct mpf_state *state = mpf_dict_state(self);
    if (dict_take_snapshot(self, MPF_DICT_KEYS | MPF_DICT_VALUES, &snapshot) < 0) {
        return NULL;
    }
    *version = snapshot.version;
    PyObject *plain = PyDict_New();
    for (size_t i = 0; plain != NULL && i < snapshot.count; i++) {
        PyObject *key = mpf_entry_from_snapshot(state, &snapshot, &snapshot.items[i].datum[0], true);
        PyObject *value = key != NULL ? mpf_entry_from_snapshot(state, &snapshot, &snapshot.items[i].datum[1], false) : NULL;
        if (value == NULL || PyDict_SetItem(plain, key, value) < 0) {
            Py_CLEAR(plain);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    mpf_snapshot_free(&snapshot);
    return plain;
}

PyObject *
mpf_dict_to_plain(PyObject *self)
{
    uint64_t version;
    return dict_to_plain(self, &version);
}

/* ---- batches ---- */

static void
dict_batch_drop(struct dict_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        mpf_datum_drop(&batch->items[i].value);
        mpf_datum_drop(&batch->items[i].key_datum);
        mpf_key_drop(&batch->keys[i]);
    }
    PyMem_RawFree(batch->items);
    PyMem_RawFree(batch->keys);
}

/* Adds one entry; there is room. The key object lives as long as the batch. */
static int
dict_batch_add(PyObject *self, struct dict_batch *batch, PyObject *key, PyObject *value)
{
    struct mpf_dict_item *item = &batch->items[batch->count];
    struct mpf_state *state = mpf_dict_state(self);
    if (mpf_key_make(state, mpf_dict_arena(self), key, &batch->keys[batch->count]) < 0) {
        return -1;
    }
    if (mpf_entry_encode(state, mpf_dict_arena(self), value, &item->value) < 0) {
        mpf_key_drop(&batch->keys[batch->count]);
        return -1;
    }
    batch->count++;
    return 0;
}

/* pairs: a list of (key, value), which nobody else has. */
static int
dict_batch_make(PyObject *self, PyObject *pairs, struct dict_batch *batch)
{
    size_t room = (size_t)PyList_GET_SIZE(pairs);
    *batch = (struct dict_batch){0};
    batch->items = PyMem_RawCalloc(room + 1, sizeof(*batch->items));
    batch->keys = PyMem_RawCalloc(room + 1, sizeof(*batch->keys));
    if (batch->items == NULL || batch->keys == NULL) {
        PyErr_NoMemory();
    }
    bool failed = batch->items == NULL || batch->keys == NULL;
    for (size_t i = 0; !failed && i < room; i++) {
        PyObject *pair = PyList_GET_ITEM(pairs, (Py_ssize_t)i); /* borrowed */
        failed = dict_batch_add(self, batch, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1)) < 0;
    }
    if (failed) {
        dict_batch_drop(batch);
        return -1;
    }
    return 0;
}

static void
dict_batch_present(struct dict_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        batch->items[i].key = batch->keys[i].key;
    }
}

static int
dict_batch_resolve(PyObject *self, struct dict_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        if (mpf_dict_resolve(self, &batch->keys[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static struct mpf_persistence
dict_persistence(PyObject *self)
{
    return (struct mpf_persistence){.arena = mpf_dict_arena(self), .container = mpf_dict_shm(self)};
}

/* ---- update ---- */

int
mpf_dict_update_from(PyObject *self, PyObject *plain)
{
    struct dict_batch batch;
    PyObject *pairs = PyDict_Items(plain);
    if (pairs == NULL || dict_batch_make(self, pairs, &batch) < 0) {
        Py_XDECREF(pairs);
        return -1;
    }
    int rc;
    bool raised = false;
    struct mpf_persistence persistence = dict_persistence(self);
    do {
        mpf_entry_give_way(mpf_dict_arena(self), mpf_dict_shm(self));
        dict_batch_present(&batch);
        rc = mpf_dict_update(mpf_dict_arena(self), mpf_dict_shm(self), batch.items, batch.count);
        raised = rc == -ESTALE && mpf_entry_persist(&persistence) < 0;
    } while ((rc == -EXDEV || rc == -ESTALE) && !raised && !(raised = dict_batch_resolve(self, &batch) < 0));
    mpf_entry_desist(&persistence);
    dict_batch_drop(&batch);
    Py_DECREF(pairs);
    if (rc < 0 && !raised) {
        mpf_errors_raise(rc);
    }
    return rc < 0 ? -1 : 0;
}

/* What dict.update() takes as its argument, into a plain dict. */
static int
dict_merge_argument(PyObject *self, PyObject *plain, PyObject *argument)
{
    if (PyDict_CheckExact(argument)) {
        return PyDict_Update(plain, argument);
    }
    if (PyObject_TypeCheck(argument, mpf_dict_state(self)->dict_type)) {
        PyObject *copy = mpf_dict_to_plain(argument);
        int done = copy != NULL ? PyDict_Update(plain, copy) : -1;
        Py_XDECREF(copy);
        return done;
    }
    PyObject *keys = PyObject_GetAttrString(argument, "keys");
    if (keys != NULL) {
        Py_DECREF(keys);
        return PyDict_Update(plain, argument);
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return PyDict_MergeFromSeq2(plain, argument, 1);
}

int
mpf_dict_merge(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwargs, const char *name)
{
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "%s expected at most 1 argument, got %zd", name, nargs);
        return -1;
    }
    PyObject *plain = PyDict_New();
    if (plain == NULL || (nargs == 1 && dict_merge_argument(self, plain, args[0]) < 0) ||
        (kwargs != NULL && PyDict_Update(plain, kwargs) < 0)) {
        Py_XDECREF(plain);
        return -1;
    }
    int done = mpf_dict_update_from(self, plain);
    Py_DECREF(plain);
    return done;
}

/* ---- new contents ---- */

/* 0, -ESTALE (others have changed the dict), or -1 with an exception. */
static int
dict_assign(PyObject *self, PyObject *plain, uint64_t version)
{
    struct dict_batch batch;
    PyObject *pairs = PyDict_Items(plain);
    if (pairs == NULL || dict_batch_make(self, pairs, &batch) < 0) {
        Py_XDECREF(pairs);
        return -1;
    }
    dict_batch_present(&batch);
    mpf_entry_give_way(mpf_dict_arena(self), mpf_dict_shm(self));
    int rc = mpf_dict_assign(mpf_dict_arena(self), mpf_dict_shm(self), batch.items, batch.count, version);
    dict_batch_drop(&batch);
    Py_DECREF(pairs);
    if (rc < 0 && rc != -ESTALE) {
        mpf_errors_raise(rc);
        return -1;
    }
    return rc;
}

PyObject *
mpf_dict_transact(PyObject *self, PyObject *function)
{
    uint64_t version;
    PyObject *result = NULL;
    int done;
    MPF_SHARED_CHECK(self);
    struct mpf_persistence persistence = dict_persistence(self);
    do {
        Py_CLEAR(result);
        PyObject *plain = dict_to_plain(self, &version);
        result = plain != NULL ? PyObject_CallOneArg(function, plain) : NULL;
        done = result != NULL ? dict_assign(self, plain, version) : -1;
        Py_XDECREF(plain);
    } while (done == -ESTALE && mpf_entry_persist(&persistence) == 0);
    mpf_entry_desist(&persistence);
    if (done != 0) {
        Py_CLEAR(result);
    }
    return result;
}
