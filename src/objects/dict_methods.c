/*
 * Purpose: the methods of SharedDict that have names, and its operators.
 *
 * Layout, states, invariants: see dict.c.
 *
 * Callers: any thread attached to the interpreter.
 *
 * Death of the caller: see containers/container.c.
 */
#include "objects/dict.h"
#include "objects/errors.h"

/* ---- one key ---- */

/* Whether so many arguments are right; an exception says if not. */
static bool
dict_arity(const char *name, Py_ssize_t given, Py_ssize_t least, Py_ssize_t most)
{
    if (given < least) {
        PyErr_Format(PyExc_TypeError, "%s expected at least %zd argument%s, got %zd", name, least, least == 1 ? "" : "s", given);
    } else if (given > most) {
        PyErr_Format(PyExc_TypeError, "%s expected at most %zd argument%s, got %zd", name, most, most == 1 ? "" : "s", given);
    }
    return given >= least && given <= most;
}

/* New reference to the value, or NULL: *missing says whether for want of the key, else there is an exception. */
static PyObject *
dict_look_up(PyObject *self, PyObject *object, bool take, bool *missing)
{
    struct mpf_key key;
    struct mpf_fetched value;
    _Alignas(MPF_CODEC_ALIGN) char buffer[MPF_DATUM_COPY_MAX];
    struct mpf_container_shm *dict = mpf_dict_shm(self);
    struct mpf_arena *arena = mpf_dict_arena(self);
    bool raised = false;
    int rc;
    *missing = false;
    MPF_SHARED_CHECK(self);
    if (mpf_key_make(mpf_dict_state(self), arena, object, &key) < 0) {
        return NULL;
    }
    if (take) {
        mpf_entry_give_way(arena, dict);
    }
    do {
        rc = take ? mpf_dict_remove(arena, dict, &key.key, buffer, &value) : mpf_dict_get(arena, dict, &key.key, buffer, &value);
    } while (mpf_dict_again(self, &key, &rc, &raised));
    mpf_key_drop(&key);
    if (rc == 0) {
        return mpf_entry_decode(mpf_dict_state(self), &value);
    }
    *missing = rc == -ENOENT;
    if (!*missing && !raised) {
        mpf_errors_raise(rc);
    }
    return NULL;
}

static PyObject *
dict_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    bool missing;
    if (!dict_arity("get", nargs, 1, 2)) {
        return NULL;
    }
    PyObject *value = dict_look_up(self, args[0], false, &missing);
    return missing ? Py_NewRef(nargs == 2 ? args[1] : Py_None) : value;
}

static PyObject *
dict_pop(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    bool missing;
    if (!dict_arity("pop", nargs, 1, 2)) {
        return NULL;
    }
    PyObject *value = dict_look_up(self, args[0], true, &missing);
    if (!missing) {
        return value;
    }
    return nargs == 2 ? Py_NewRef(args[1]) : mpf_dict_raise_key(args[0]);
}

static PyObject *
dict_setdefault_key(PyObject *self, struct mpf_key *key, PyObject *fallback)
{
    struct mpf_datum datum;
    struct mpf_fetched present;
    _Alignas(MPF_CODEC_ALIGN) char buffer[MPF_DATUM_COPY_MAX];
    struct mpf_container_shm *dict = mpf_dict_shm(self);
    bool raised = false;
    int rc;
    if (mpf_entry_encode(mpf_dict_state(self), mpf_dict_arena(self), fallback, &datum) < 0) {
        return NULL;
    }
    mpf_entry_give_way(mpf_dict_arena(self), dict);
    do {
        rc = mpf_dict_set_default(mpf_dict_arena(self), dict, &key->key, &datum, buffer, &present);
    } while (mpf_dict_again(self, key, &rc, &raised));
    mpf_datum_drop(&datum);
    if (rc < 0) {
        return raised ? NULL : mpf_errors_raise(rc);
    }
    return rc == 1 ? mpf_entry_decode(mpf_dict_state(self), &present) : Py_NewRef(fallback);
}

static PyObject *
dict_setdefault(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    struct mpf_key key;
    MPF_SHARED_CHECK(self);
    if (!dict_arity("setdefault", nargs, 1, 2) ||
        mpf_key_make(mpf_dict_state(self), mpf_dict_arena(self), args[0], &key) < 0) {
        return NULL;
    }
    PyObject *value = dict_setdefault_key(self, &key, nargs == 2 ? args[1] : Py_None);
    mpf_key_drop(&key);
    return value;
}

static PyObject *
dict_has_key(PyObject *self, PyObject *key)
{
    int found = PySequence_Contains(self, key);
    return found < 0 ? NULL : PyBool_FromLong(found);
}

static PyObject *
dict_popitem(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    _Alignas(MPF_CODEC_ALIGN) char key_buffer[MPF_DATUM_COPY_MAX], value_buffer[MPF_DATUM_COPY_MAX];
    struct mpf_fetched key, value;
    MPF_SHARED_CHECK(self);
    mpf_entry_give_way(mpf_dict_arena(self), mpf_dict_shm(self));
    int rc = mpf_dict_remove_last(mpf_dict_arena(self), mpf_dict_shm(self), key_buffer, &key, value_buffer, &value);
    if (rc == -ENOENT) {
        PyErr_SetString(PyExc_KeyError, "popitem(): dictionary is empty");
        return NULL;
    }
    if (rc < 0) {
        return mpf_errors_raise(rc);
    }
    mpf_entry_skip_canonical(&key.data, &key.bytes, key.canonical);
    PyObject *key_object = mpf_entry_decode(mpf_dict_state(self), &key);
    PyObject *value_object = mpf_entry_decode(mpf_dict_state(self), &value);
    PyObject *pair = NULL;
    if (key_object != NULL && value_object != NULL) {
        pair = PyTuple_Pack(2, key_object, value_object);
    }
    Py_XDECREF(key_object);
    Py_XDECREF(value_object);
    return pair;
}

/* ---- all of it ---- */

static PyObject *
dict_clear(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(self);
    mpf_entry_give_way(mpf_dict_arena(self), mpf_dict_shm(self));
    mpf_dict_clear(mpf_dict_arena(self), mpf_dict_shm(self));
    Py_RETURN_NONE;
}

static PyObject *
dict_copy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return mpf_dict_to_plain(self);
}

static PyObject *
dict_update(PyObject *self, PyObject *args, PyObject *kwargs)
{
    MPF_SHARED_CHECK(self);
    if (mpf_dict_merge(self, ((PyTupleObject *)args)->ob_item, PyTuple_GET_SIZE(args), kwargs, "update") < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
dict_fromkeys(PyObject *cls, PyObject *const *args, Py_ssize_t nargs)
{
    if (!dict_arity("fromkeys", nargs, 1, 2)) {
        return NULL;
    }
    PyObject *plain = PyObject_CallMethod((PyObject *)&PyDict_Type, "fromkeys", "OO", args[0], nargs == 2 ? args[1] : Py_None);
    PyObject *made = plain != NULL ? PyObject_CallOneArg(cls, plain) : NULL;
    Py_XDECREF(plain);
    return made;
}

PyObject *
mpf_dict_iter(PyObject *self)
{
    PyObject *keys = mpf_dict_keys(self, NULL);
    PyObject *iterator = keys != NULL ? PyObject_GetIter(keys) : NULL;
    Py_XDECREF(keys);
    return iterator;
}

static PyObject *
dict_reversed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *keys = mpf_dict_keys(self, NULL);
    if (keys == NULL || PyList_Reverse(keys) < 0) {
        Py_XDECREF(keys);
        return NULL;
    }
    PyObject *iterator = PyObject_GetIter(keys);
    Py_DECREF(keys);
    return iterator;
}

PyObject *
mpf_dict_repr(PyObject *self)
{
    return mpf_shared_repr(self, mpf_dict_to_plain(self));
}

/* ---- operators ---- */

/* New reference to a plain dict: a copy of a shared one, a dict as it is; NULL without an exception for anything else. */
static PyObject *
dict_operand(struct mpf_state *state, PyObject *operand)
{
    if (PyObject_TypeCheck(operand, state->dict_type)) {
        return mpf_dict_to_plain(operand);
    }
    return PyDict_Check(operand) ? Py_NewRef(operand) : NULL;
}

PyObject *
mpf_dict_compare(PyObject *self, PyObject *other, int operation)
{
    if (operation != Py_EQ && operation != Py_NE) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    MPF_SHARED_CHECK(self);
    PyObject *mine = NULL, *theirs = dict_operand(mpf_dict_state(self), other), *result = NULL;
    if (theirs == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    }
    mine = mpf_dict_to_plain(self);
    if (mine != NULL) {
        result = PyObject_RichCompare(mine, theirs, operation);
    }
    Py_XDECREF(mine);
    Py_DECREF(theirs);
    return result;
}

PyObject *
mpf_dict_or(PyObject *left, PyObject *right)
{
    struct mpf_state *state = mpf_state_of_type(Py_TYPE(left));
    if (state == NULL) {
        PyErr_Clear();
        state = mpf_state_of_type(Py_TYPE(right));
    }
    PyObject *one = state != NULL ? dict_operand(state, left) : NULL;
    PyObject *other = one != NULL ? dict_operand(state, right) : NULL;
    PyObject *result = NULL;
    if (other != NULL) {
        result = PyDict_Copy(one);
        if (result != NULL && PyDict_Update(result, other) < 0) {
            Py_CLEAR(result);
        }
    } else if (!PyErr_Occurred()) {
        result = Py_NewRef(Py_NotImplemented);
    }
    Py_XDECREF(one);
    Py_XDECREF(other);
    return result;
}

PyObject *
mpf_dict_inplace_or(PyObject *self, PyObject *other)
{
    MPF_SHARED_CHECK(self);
    return mpf_dict_merge(self, &other, 1, NULL, "update") < 0 ? NULL : Py_NewRef(self);
}

/* ---- pickling ---- */

static PyObject *
dict_getstate(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return mpf_shared_dump((struct mpf_shared *)self);
}

static PyObject *
dict_setstate(PyObject *self, PyObject *handle)
{
    if (mpf_shared_load((struct mpf_shared *)self, handle, MPF_BLOCK_DICT) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_doc, "get($self, key, default=None, /)\n--\n\nThe value of key, or default where there is none.");
PyDoc_STRVAR(pop_doc, "pop(key[, default])\n\nRemove key and return its value, or default where it is not there; KeyError without one.");
PyDoc_STRVAR(popitem_doc,
"popitem($self, /)\n--\n\n"
"Remove and return the pair (key, value) that was inserted last; KeyError where there is none.");
PyDoc_STRVAR(setdefault_doc,
"setdefault($self, key, default=None, /)\n--\n\n"
"The value of key, which is made default where it is not there.");
PyDoc_STRVAR(update_doc, "update([other], **kwargs)\n\nStore all pairs of other and kwargs, in one step for all other processes.");
PyDoc_STRVAR(clear_doc, "clear($self, /)\n--\n\nRemove everything.");
PyDoc_STRVAR(copy_doc, "copy($self, /)\n--\n\nA plain dict with the same contents.");
PyDoc_STRVAR(keys_doc, "keys($self, /)\n--\n\nA list of the keys, as they were at one instant.");
PyDoc_STRVAR(values_doc, "values($self, /)\n--\n\nA list of the values, as they were at one instant.");
PyDoc_STRVAR(items_doc, "items($self, /)\n--\n\nA list of the pairs (key, value), as they were at one instant.");
PyDoc_STRVAR(has_key_doc, "has_key($self, key, /)\n--\n\nWhether key is there.");
PyDoc_STRVAR(fromkeys_doc,
"fromkeys($type, iterable, value=None, /)\n--\n\n"
"A new shared dict with keys from iterable, all with that value.");
PyDoc_STRVAR(transact_doc,
"_transact($self, function, /)\n--\n\n"
"Call function with a plain copy, which then becomes the contents in one step; again if others came between.\n\n"
"Returns what function returned.");

PyMethodDef mpf_dict_methods[] = {
    {"get", (PyCFunction)(void (*)(void))dict_get, METH_FASTCALL, get_doc},
    {"pop", (PyCFunction)(void (*)(void))dict_pop, METH_FASTCALL, pop_doc},
    {"popitem", dict_popitem, METH_NOARGS, popitem_doc},
    {"setdefault", (PyCFunction)(void (*)(void))dict_setdefault, METH_FASTCALL, setdefault_doc},
    {"update", (PyCFunction)(void (*)(void))dict_update, METH_VARARGS | METH_KEYWORDS, update_doc},
    {"clear", dict_clear, METH_NOARGS, clear_doc},
    {"copy", dict_copy, METH_NOARGS, copy_doc},
    {"keys", mpf_dict_keys, METH_NOARGS, keys_doc},
    {"values", mpf_dict_values, METH_NOARGS, values_doc},
    {"items", mpf_dict_items, METH_NOARGS, items_doc},
    {"has_key", dict_has_key, METH_O, has_key_doc},
    {"fromkeys", (PyCFunction)(void (*)(void))dict_fromkeys, METH_FASTCALL | METH_CLASS, fromkeys_doc},
    {"_transact", mpf_dict_transact, METH_O, transact_doc},
    {"__reversed__", dict_reversed, METH_NOARGS, NULL},
    {"__getstate__", dict_getstate, METH_NOARGS, NULL},
    {"__setstate__", dict_setstate, METH_O, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};
