/*
 * Purpose: the type SharedList: its life, and what is done by index and slice.
 *
 * Layout: a block of type MPF_BLOCK_LIST (containers/list.c).
 *
 * States: see shared.c.
 *
 * Invariants: values are encoded before the list is touched and decoded after it was left; no Python code runs in between.
 *
 * Callers: any thread attached to the interpreter.
 *
 * Death of the caller: see containers/container.c.
 */
#include "objects/list.h"

#include "objects/errors.h"
#include "objects/types.h"

/* ---- life ---- */

static int
list_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *iterable = NULL; /* borrowed */
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "SharedList() takes no keyword arguments");
        return -1;
    }
    if (!PyArg_UnpackTuple(args, "SharedList", 0, 1, &iterable)) {
        return -1;
    }
    if (mpf_shared_create((struct mpf_shared *)self, sizeof(struct mpf_container_shm), MPF_BLOCK_LIST) < 0) {
        return -1;
    }
    mpf_list_init(mpf_list_shm(self));
    return iterable != NULL ? mpf_list_extend_from(self, iterable) : 0;
}

static void
list_dealloc(PyObject *self)
{
    if (((struct mpf_list_object *)self)->weakrefs != NULL) {
        PyObject_GC_UnTrack(self);
        PyObject_ClearWeakRefs(self);
        PyObject_GC_Track(self);
    }
    mpf_shared_dealloc(self);
}

/* ---- items ---- */

static int
list_check(PyObject *self)
{
    if (mpf_list_shm(self) == NULL) {
        mpf_shared_missing(self);
        return -1;
    }
    return 0;
}

static Py_ssize_t
list_length(PyObject *self)
{
    if (list_check(self) < 0) {
        return -1;
    }
    return (Py_ssize_t)mpf_container_count(mpf_list_arena(self), mpf_list_shm(self));
}

static void
list_raise(int rc, const char *out_of_range)
{
    if (rc == -ERANGE) {
        PyErr_SetString(PyExc_IndexError, out_of_range);
    } else {
        mpf_errors_raise(rc);
    }
}

static PyObject *
list_get(PyObject *self, Py_ssize_t index)
{
    struct mpf_fetched value;
    _Alignas(MPF_CODEC_ALIGN) char buffer[MPF_DATUM_COPY_MAX];
    int rc = mpf_list_get(mpf_list_arena(self), mpf_list_shm(self), index, buffer, &value);
    if (rc < 0) {
        list_raise(rc, "list index out of range");
        return NULL;
    }
    return mpf_entry_decode(mpf_list_state(self), &value);
}

static int
list_set(PyObject *self, Py_ssize_t index, PyObject *value)
{
    struct mpf_datum datum;
    int rc;
    mpf_entry_give_way(mpf_list_arena(self), mpf_list_shm(self));
    if (value == NULL) {
        rc = mpf_list_remove(mpf_list_arena(self), mpf_list_shm(self), index, NULL, NULL, NULL);
    } else {
        if (mpf_entry_encode(mpf_list_state(self), mpf_list_arena(self), value, &datum) < 0) {
            return -1;
        }
        rc = mpf_list_set(mpf_list_arena(self), mpf_list_shm(self), index, &datum);
        mpf_datum_drop(&datum);
    }
    if (rc < 0) {
        list_raise(rc, "list assignment index out of range");
        return -1;
    }
    return 0;
}

static int
list_slice(PyObject *slice, struct mpf_list_range *range)
{
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(slice, &start, &stop, &step) < 0) {
        return -1;
    }
    *range = (struct mpf_list_range){start, stop, step};
    return 0;
}

static PyObject *
list_raise_subscript(PyObject *subscript)
{
    PyErr_Format(PyExc_TypeError, "list indices must be integers or slices, not %.200s", Py_TYPE(subscript)->tp_name);
    return NULL;
}

static PyObject *
list_subscript(PyObject *self, PyObject *subscript)
{
    struct mpf_list_range range;
    MPF_SHARED_CHECK(self);
    if (PyIndex_Check(subscript)) {
        Py_ssize_t index = PyNumber_AsSsize_t(subscript, PyExc_IndexError);
        return index == -1 && PyErr_Occurred() ? NULL : list_get(self, index);
    }
    if (!PySlice_Check(subscript)) {
        return list_raise_subscript(subscript);
    }
    return list_slice(subscript, &range) < 0 ? NULL : mpf_list_to_plain(self, range, NULL);
}

static int
list_set_slice(PyObject *self, struct mpf_list_range range, PyObject *value)
{
    if (value == NULL) {
        return mpf_list_splice_from(self, range, NULL, NULL);
    }
    PyObject *iterator = PyObject_GetIter(value);
    if (iterator == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        bool simple = range.step == 1 && PY_VERSION_HEX < 0x030D0000; /* later versions say the same of both */
        PyErr_SetString(PyExc_TypeError, simple ? "can only assign an iterable" : "must assign iterable to extended slice");
    }
    PyObject *items = iterator != NULL ? PySequence_List(iterator) : NULL;
    Py_XDECREF(iterator);
    if (items == NULL) {
        return -1;
    }
    int done = mpf_list_splice_from(self, range, items, NULL);
    Py_DECREF(items);
    return done;
}

static int
list_ass_subscript(PyObject *self, PyObject *subscript, PyObject *value)
{
    struct mpf_list_range range;
    if (list_check(self) < 0) {
        return -1;
    }
    if (PyIndex_Check(subscript)) {
        Py_ssize_t index = PyNumber_AsSsize_t(subscript, PyExc_IndexError);
        return index == -1 && PyErr_Occurred() ? -1 : list_set(self, index, value);
    }
    if (!PySlice_Check(subscript)) {
        list_raise_subscript(subscript);
        return -1;
    }
    return list_slice(subscript, &range) < 0 ? -1 : list_set_slice(self, range, value);
}

static PyObject *
list_inplace_concat(PyObject *self, PyObject *other)
{
    MPF_SHARED_CHECK(self);
    return mpf_list_extend_from(self, other) < 0 ? NULL : Py_NewRef(self);
}

/* ---- the type ---- */

static PyMemberDef list_members[] = {
    {"_offset", Py_T_ULONGLONG, offsetof(struct mpf_shared, ref.off), Py_READONLY, "Where it is in its arena, in bytes."},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(struct mpf_list_object, weakrefs), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(list_doc,
"SharedList(iterable=(), /)\n--\n\n"
"A list in memory that processes share.\n\n"
"Items go in as copies, by pickling where need be, and come out as copies.  Every method is atomic.  Sent to another process, or\n"
"put into another container, it stays the same list.");

static PyType_Slot list_slots[] = {
    {Py_tp_doc, (void *)list_doc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, list_init},
    {Py_tp_dealloc, list_dealloc},
    {Py_tp_traverse, mpf_shared_traverse},
    {Py_tp_iter, mpf_list_iter},
    {Py_tp_repr, mpf_list_repr},
    {Py_tp_richcompare, mpf_list_compare},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_methods, mpf_list_methods},
    {Py_tp_members, list_members},
    {Py_mp_length, list_length},
    {Py_mp_subscript, list_subscript},
    {Py_mp_ass_subscript, list_ass_subscript},
    {Py_sq_length, list_length},
    {Py_sq_contains, mpf_list_contains},
    {Py_sq_concat, mpf_list_concat},
    {Py_sq_repeat, mpf_list_repeat},
    {Py_sq_inplace_concat, list_inplace_concat},
    {Py_sq_inplace_repeat, mpf_list_inplace_repeat},
    {0, NULL},
};

static PyType_Spec list_spec = {
    .name = "mpfast.SharedList",
    .basicsize = sizeof(struct mpf_list_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_SEQUENCE,
    .slots = list_slots,
};

int
mpf_list_register(PyObject *module)
{
    return mpf_state_add_type(module, &list_spec, NULL, &mpf_state_of(module)->list_type);
}
