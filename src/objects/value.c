/*
 * Purpose: the type Synchronized: one simple value with a lock.
 *
 * Layout, states, death of the caller: see synchronized.c.
 *
 * Invariants: every access takes the lock, also the atomic operations: they are atomic for other atomic operations, for
 * .value, and for whoever has get_lock().
 *
 * Callers: Python code, attached to the interpreter.
 */
#include "objects/synchronized.h"
#include "objects/types.h"

static PyObject *
value_get(PyObject *op, void *Py_UNUSED(closure))
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (self->item == NULL) {
        return mpf_synchronized_getattr(self, "value");
    }
    if (mpf_synchronized_enter(self) < 0) {
        return NULL;
    }
    return mpf_synchronized_return(self, self->item->load(self->data));
}

static int
value_set(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "can't delete attribute 'value'");
        return -1;
    }
    if (self->item == NULL) {
        return mpf_synchronized_setattr(self, "value", value);
    }
    _Alignas(MPF_ITEM_MAX) char element[MPF_ITEM_MAX];
    if (mpf_synchronized_store(self, value, false, element) < 0 || mpf_synchronized_enter(self) < 0) {
        return -1;
    }
    mpf_synchronized_copy(self->item, self->data, element);
    return mpf_synchronized_leave(self);
}

static PyObject *
value_combine(PyObject *op, enum mpf_item_operation operation, PyObject *value)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (mpf_synchronized_check_integer(self) < 0) {
        return NULL;
    }
    return mpf_synchronized_combine(self, self->data, operation, value);
}

static PyObject *
value_add(PyObject *op, PyObject *value)
{
    return value_combine(op, MPF_ITEM_ADD, value);
}

static PyObject *
value_sub(PyObject *op, PyObject *value)
{
    return value_combine(op, MPF_ITEM_SUB, value);
}

static PyObject *
value_exchange(PyObject *op, PyObject *value)
{
    return value_combine(op, MPF_ITEM_EXCHANGE, value);
}

static PyObject *
value_compare_exchange(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    _Alignas(MPF_ITEM_MAX) char expected[MPF_ITEM_MAX], desired[MPF_ITEM_MAX], old[MPF_ITEM_MAX];
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "compare_exchange() takes exactly 2 arguments (%zd given)", nargs);
        return NULL;
    }
    if (mpf_synchronized_check_integer(self) < 0 || mpf_synchronized_store(self, args[0], false, expected) < 0 ||
        mpf_synchronized_store(self, args[1], false, desired) < 0 || mpf_synchronized_enter(self) < 0) {
        return NULL;
    }
    mpf_item_compare_exchange(self->item, self->data, expected, desired, old);
    if (mpf_synchronized_leave(self) < 0) {
        return NULL;
    }
    return self->item->load(old);
}

PyDoc_STRVAR(add_doc,
"add($self, n, /)\n--\n\n"
"Add the integer n in one step, wrapping around as in C; returns the old value.  Not in the standard library.\n\n"
"Takes the value's lock: atomic also for whoever has get_lock().  TypeError: n, or the value, is no integer.");
PyDoc_STRVAR(sub_doc, "sub($self, n, /)\n--\n\nSubtract n in one step; see add().  Returns the old value.");
PyDoc_STRVAR(exchange_doc, "exchange($self, x, /)\n--\n\nStore x in one step; see add().  Returns the old value.");
PyDoc_STRVAR(compare_exchange_doc,
"compare_exchange($self, old, new, /)\n--\n\n"
"Store new if the value is old, in one step; see add().\n\n"
"Returns the value that was there: it equals old where new was stored.");

static PyMethodDef value_methods[] = {
    {"add", value_add, METH_O, add_doc},
    {"sub", value_sub, METH_O, sub_doc},
    {"exchange", value_exchange, METH_O, exchange_doc},
    {"compare_exchange", (PyCFunction)(void (*)(void))value_compare_exchange, METH_FASTCALL, compare_exchange_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef value_getset[] = {
    {"value", value_get, value_set, "the value; reading and writing takes the lock", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot value_slots[] = {
    {Py_tp_doc, "A simple value in shared memory with a lock."},
    {Py_tp_methods, value_methods},
    {Py_tp_getset, value_getset},
    {0, NULL},
};

static PyType_Spec value_spec = {
    .name = "mpfast._core.Synchronized",
    .basicsize = sizeof(struct mpf_synchronized),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, /* collectable like its base */
    .slots = value_slots,
};

int
mpf_value_register(PyObject *module)
{
    return mpf_state_add_type(module, &value_spec, mpf_state_of(module)->synchronized_type, NULL);
}
