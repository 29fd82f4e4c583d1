/*
 * Purpose: the type SharedDict: its life, and what is done with one key.
 *
 * Layout: a block of type MPF_BLOCK_DICT (containers/dict.c).
 *
 * States: see shared.c.
 *
 * Invariants: keys and values are encoded before the dict is touched and decoded after it was left; no Python code runs in between.
 *
 * Callers: any thread attached to the interpreter.
 *
 * Death of the caller: see containers/container.c.
 */
#include "objects/dict.h"

#include "objects/errors.h"
#include "objects/types.h"

PyObject *
mpf_dict_raise_key(PyObject *key)
{
    PyObject *args = PyTuple_Pack(1, key); /* a tuple as such would be taken for the arguments */
    if (args != NULL) {
        PyErr_SetObject(PyExc_KeyError, args);
        Py_DECREF(args);
    }
    return NULL;
}

/* The exception of an operation that failed with rc. */
static void
dict_raise(PyObject *key, int rc)
{
    if (rc == -ENOENT) {
        mpf_dict_raise_key(key);
    } else {
        mpf_errors_raise(rc);
    }
}

/* ---- life ---- */

static int
dict_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    if (mpf_shared_create((struct mpf_shared *)self, sizeof(struct mpf_container_shm), MPF_BLOCK_DICT) < 0) {
        return -1;
    }
    mpf_dict_init(mpf_dict_shm(self));
    if (PyTuple_GET_SIZE(args) == 0 && (kwargs == NULL || PyDict_GET_SIZE(kwargs) == 0)) {
        return 0;
    }
    return mpf_dict_merge(self, ((PyTupleObject *)args)->ob_item, PyTuple_GET_SIZE(args), kwargs, "SharedDict");
}

static int
dict_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return mpf_known_traverse(mpf_dict_of(self)->known, visit, arg);
}

static int
dict_clear_known(PyObject *self)
{
    struct mpf_known *known = mpf_dict_of(self)->known;
    mpf_dict_of(self)->known = NULL;
    mpf_known_free(known);
    return 0;
}

static void
dict_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    if (mpf_dict_of(self)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    dict_clear_known(self);
    mpf_block_unref(&((struct mpf_shared *)self)->ref);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- one key ---- */

static Py_ssize_t
dict_length(PyObject *self)
{
    if (mpf_dict_shm(self) == NULL) {
        mpf_shared_missing(self);
        return -1;
    }
    return (Py_ssize_t)mpf_container_count(mpf_dict_arena(self), mpf_dict_shm(self));
}

static PyObject *
dict_subscript(PyObject *self, PyObject *object)
{
    struct mpf_key key;
    struct mpf_fetched value;
    _Alignas(MPF_CODEC_ALIGN) char buffer[MPF_DATUM_COPY_MAX];
    bool raised = false;
    int rc;
    MPF_SHARED_CHECK(self);
    if (mpf_key_make(mpf_dict_state(self), mpf_dict_arena(self), object, &key) < 0) {
        return NULL;
    }
    do {
        rc = mpf_dict_get(mpf_dict_arena(self), mpf_dict_shm(self), &key.key, buffer, &value);
    } while (mpf_dict_again(self, &key, &rc, &raised));
    mpf_key_drop(&key);
    if (rc == 0) {
        return mpf_entry_decode(mpf_dict_state(self), &value);
    }
    if (!raised) {
        dict_raise(object, rc);
    }
    return NULL;
}

static int
dict_store(PyObject *self, struct mpf_key *key, PyObject *value)
{
    struct mpf_datum datum;
    bool raised = false;
    int rc;
    if (mpf_entry_encode(mpf_dict_state(self), mpf_dict_arena(self), value, &datum) < 0) {
        return -1;
    }
    mpf_entry_give_way(mpf_dict_arena(self), mpf_dict_shm(self));
    do {
        rc = mpf_dict_set(mpf_dict_arena(self), mpf_dict_shm(self), &key->key, &datum);
    } while (mpf_dict_again(self, key, &rc, &raised));
    mpf_datum_drop(&datum);
    if (rc < 0 && !raised) {
        mpf_errors_raise(rc);
    }
    return rc < 0 ? -1 : 0;
}

static int
dict_delete(PyObject *self, struct mpf_key *key)
{
    bool raised = false;
    int rc;
    mpf_entry_give_way(mpf_dict_arena(self), mpf_dict_shm(self));
    do {
        rc = mpf_dict_remove(mpf_dict_arena(self), mpf_dict_shm(self), &key->key, NULL, NULL);
    } while (mpf_dict_again(self, key, &rc, &raised));
    if (rc < 0 && !raised) {
        dict_raise(key->object, rc);
    }
    return rc < 0 ? -1 : 0;
}

static int
dict_ass_subscript(PyObject *self, PyObject *object, PyObject *value)
{
    struct mpf_key key;
    if (mpf_dict_shm(self) == NULL) {
        mpf_shared_missing(self);
        return -1;
    }
    if (mpf_key_make(mpf_dict_state(self), mpf_dict_arena(self), object, &key) < 0) {
        return -1;
    }
    int done = value != NULL ? dict_store(self, &key, value) : dict_delete(self, &key);
    mpf_key_drop(&key);
    return done;
}

static int
dict_contains(PyObject *self, PyObject *object)
{
    struct mpf_key key;
    bool raised = false;
    int rc;
    if (mpf_dict_shm(self) == NULL) {
        mpf_shared_missing(self);
        return -1;
    }
    if (mpf_key_make(mpf_dict_state(self), mpf_dict_arena(self), object, &key) < 0) {
        return -1;
    }
    do {
        rc = mpf_dict_find(mpf_dict_arena(self), mpf_dict_shm(self), &key.key);
    } while (mpf_dict_again(self, &key, &rc, &raised));
    mpf_key_drop(&key);
    if (rc == 0 || rc == -ENOENT) {
        return rc == 0;
    }
    if (!raised) {
        mpf_errors_raise(rc);
    }
    return -1;
}

/* ---- the type ---- */

static PyMemberDef dict_members[] = {
    {"_offset", Py_T_ULONGLONG, offsetof(struct mpf_shared, ref.off), Py_READONLY, "Where it is in its arena, in bytes."},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(struct mpf_dict_object, weakrefs), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(dict_doc,
"SharedDict(*args, **kwargs)\n--\n\n"
"A dict in memory that processes share; made like a dict.\n\n"
"Keys and values go in as copies, by pickling where need be, and come out as copies.  Every method is atomic.  Sent to another\n"
"process, or put into another container, it stays the same dict.");

static PyType_Slot dict_slots[] = {
    {Py_tp_doc, (void *)dict_doc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, dict_init},
    {Py_tp_dealloc, dict_dealloc},
    {Py_tp_traverse, dict_traverse},
    {Py_tp_clear, dict_clear_known},
    {Py_tp_iter, mpf_dict_iter},
    {Py_tp_repr, mpf_dict_repr},
    {Py_tp_richcompare, mpf_dict_compare},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_methods, mpf_dict_methods},
    {Py_tp_members, dict_members},
    {Py_mp_length, dict_length},
    {Py_mp_subscript, dict_subscript},
    {Py_mp_ass_subscript, dict_ass_subscript},
    {Py_sq_contains, dict_contains},
    {Py_nb_or, mpf_dict_or},
    {Py_nb_inplace_or, mpf_dict_inplace_or},
    {0, NULL},
};

static PyType_Spec dict_spec = {
    .name = "mpfast.SharedDict",
    .basicsize = sizeof(struct mpf_dict_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_MAPPING,
    .slots = dict_slots,
};

int
mpf_dict_register(PyObject *module)
{
    return mpf_state_add_type(module, &dict_spec, NULL, &mpf_state_of(module)->dict_type);
}
