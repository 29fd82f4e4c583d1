/*
 * Purpose: the iterator of SynchronizedArray.
 *
 * Layout: private memory.
 *
 * States: at index `next` of the array -> exhausted (array == NULL), for good.
 *
 * Invariants: each element is read under the array's lock, at the time it is asked for.
 *
 * Callers: Python code, attached to the interpreter.
 *
 * Death of the caller: see synchronized.c.
 */
#include "objects/array.h"
#include "objects/types.h"

struct array_iterator {
    PyObject_HEAD
    struct mpf_synchronized *array; /* owned */
    Py_ssize_t next;
};

PyObject *
mpf_array_iterator_new(struct mpf_synchronized *array)
{
    PyTypeObject *type = array->state->array_iterator_type;
    struct array_iterator *self = (struct array_iterator *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->array = (struct mpf_synchronized *)Py_NewRef((PyObject *)array);
    }
    return (PyObject *)self;
}

static PyObject *
array_iterator_next(PyObject *op)
{
    struct array_iterator *self = (struct array_iterator *)op;
    struct mpf_synchronized *array = self->array;
    if (array == NULL) {
        return NULL;
    }
    const struct mpf_item *item = array->item;
    if (item == NULL || self->next >= array->length) {
#ifdef Py_GIL_DISABLED
        self->next = PY_SSIZE_T_MAX; /* another thread may be using the array at this moment */
#else
        self->array = NULL;
        Py_DECREF(array);
#endif
        return NULL;
    }
    if (mpf_synchronized_enter(array) < 0) {
        return NULL;
    }
    return mpf_synchronized_return(array, item->load(array->data + self->next++ * item->size));
}

static PyObject *
array_iterator_length_hint(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct array_iterator *self = (struct array_iterator *)op;
    Py_ssize_t left = self->array != NULL ? self->array->length - self->next : 0;
    return PyLong_FromSsize_t(left > 0 ? left : 0);
}

static int
array_iterator_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((struct array_iterator *)op)->array);
    return 0;
}

static void
array_iterator_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_XDECREF(((struct array_iterator *)op)->array);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef array_iterator_methods[] = {
    {"__length_hint__", array_iterator_length_hint, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot array_iterator_slots[] = {
    {Py_tp_dealloc, array_iterator_dealloc},
    {Py_tp_traverse, array_iterator_traverse},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, array_iterator_next},
    {Py_tp_methods, array_iterator_methods},
    {0, NULL},
};

static PyType_Spec array_iterator_spec = {
    .name = "mpfast._core.SynchronizedArrayIterator",
    .basicsize = sizeof(struct array_iterator),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = array_iterator_slots,
};

int
mpf_array_iterator_register(PyObject *module)
{
    return mpf_state_add_type(module, &array_iterator_spec, NULL, &mpf_state_of(module)->array_iterator_type);
}
