/*
 * Purpose: the type SynchronizedArray: many elements of one simple type with a lock.
 *
 * Layout, states, death of the caller: see synchronized.c.
 *
 * Invariants: one item, or one slice, is one operation under the lock. New elements are made ready in private memory
 * before the lock is taken: an assignment that fails changes nothing.
 *
 * Callers: Python code, attached to the interpreter.
 */
#include "objects/array.h"

#include "objects/types.h"

PyObject *
mpf_array_get_through_obj(struct mpf_synchronized *self, PyObject *key)
{
    PyObject *obj = mpf_synchronized_obj(self);
    PyObject *result = NULL;
    if (obj != NULL && mpf_synchronized_enter(self) == 0) {
        result = mpf_synchronized_return(self, PyObject_GetItem(obj, key));
    }
    Py_XDECREF(obj);
    return result;
}

int
mpf_array_set_through_obj(struct mpf_synchronized *self, PyObject *key, PyObject *value)
{
    PyObject *obj = mpf_synchronized_obj(self);
    int result = -1;
    if (obj != NULL && mpf_synchronized_enter(self) == 0) {
        result = PyObject_SetItem(obj, key, value);
        if (mpf_synchronized_leave(self) < 0) {
            result = -1;
        }
    }
    Py_XDECREF(obj);
    return result;
}

/* The element that key names. 1, 0: not the key of an element here (a slice, another type), -1 with an exception. */
static inline int
array_locate(struct mpf_synchronized *self, PyObject *key, char **at)
{
    if (self->item == NULL || !PyIndex_Check(key)) {
        return 0;
    }
    Py_ssize_t i = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (i == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (i < 0) {
        i += self->length;
    }
    if (i < 0 || i >= self->length) {
        PyErr_SetString(PyExc_IndexError, "invalid index");
        return -1;
    }
    *at = self->data + i * self->item->size;
    return 1;
}

static PyObject *
array_subscript(PyObject *op, PyObject *key)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    char *at;
    int located = array_locate(self, key, &at);
    if (located < 0) {
        return NULL;
    }
    if (located == 0) {
        return self->item != NULL && PySlice_Check(key) ? mpf_array_get_slice(self, key)
                                                        : mpf_array_get_through_obj(self, key);
    }
    if (mpf_synchronized_enter(self) < 0) {
        return NULL;
    }
    return mpf_synchronized_return(self, self->item->load(at));
}

static int
array_assign_subscript(PyObject *op, PyObject *key, PyObject *value)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    char *at;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "__delitem__");
        return -1;
    }
    int located = array_locate(self, key, &at);
    if (located < 0) {
        return -1;
    }
    if (located == 0) {
        return self->item != NULL && PySlice_Check(key) ? mpf_array_set_slice(self, key, value)
                                                        : mpf_array_set_through_obj(self, key, value);
    }
    _Alignas(MPF_ITEM_MAX) char element[MPF_ITEM_MAX];
    if (mpf_synchronized_store(self, value, true, element) < 0 || mpf_synchronized_enter(self) < 0) {
        return -1;
    }
    mpf_synchronized_copy(self->item, at, element);
    return mpf_synchronized_leave(self);
}

static Py_ssize_t
array_length(PyObject *op)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (self->item != NULL) {
        return self->length;
    }
    PyObject *obj = mpf_synchronized_obj(self);
    Py_ssize_t length = obj != NULL ? PyObject_Size(obj) : -1;
    Py_XDECREF(obj);
    return length;
}

static PyObject *
array_iterate(PyObject *op)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (self->item == NULL) {
        return PySeqIter_New(op);
    }
    return mpf_array_iterator_new(self);
}

static int
array_export_obj(struct mpf_synchronized *self, Py_buffer *view, int flags)
{
    PyObject *obj = mpf_synchronized_obj(self);
    if (obj == NULL) {
        view->obj = NULL;
        return -1;
    }
    int result = PyObject_GetBuffer(obj, view, flags);
    Py_DECREF(obj);
    return result;
}

/* What the ctypes array exports, but in the machine's own format, which memoryview can read and write items of. */
static int
array_export(PyObject *op, Py_buffer *view, int flags)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (self->item == NULL || self->item->format == NULL) {
        return array_export_obj(self, view, flags);
    }
    if (PyBuffer_FillInfo(view, op, self->data, self->length * self->item->size, 0, flags) < 0) {
        return -1;
    }
    view->itemsize = self->item->size;
    view->format = (flags & PyBUF_FORMAT) == PyBUF_FORMAT ? (char *)self->item->format : NULL;
    view->shape = (flags & PyBUF_ND) == PyBUF_ND ? &self->length : NULL; /* never changes */
    return 0;
}

static PyObject *
array_combine(PyObject *op, PyObject *const *args, Py_ssize_t nargs, const char *name,
              enum mpf_item_operation operation)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    char *at;
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "%s() takes exactly 2 arguments (%zd given)", name, nargs);
        return NULL;
    }
    if (mpf_synchronized_check_integer(self) < 0) {
        return NULL;
    }
    int located = array_locate(self, args[0], &at);
    if (located == 0) {
        PyErr_Format(PyExc_TypeError, "%s() needs an integer index, not '%s'", name, Py_TYPE(args[0])->tp_name);
    }
    return located == 1 ? mpf_synchronized_combine(self, at, operation, args[1]) : NULL;
}

static PyObject *
array_add(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    return array_combine(op, args, nargs, "add", MPF_ITEM_ADD);
}

static PyObject *
array_sub(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    return array_combine(op, args, nargs, "sub", MPF_ITEM_SUB);
}

static PyObject *
array_exchange(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    return array_combine(op, args, nargs, "exchange", MPF_ITEM_EXCHANGE);
}

PyDoc_STRVAR(add_doc,
"add($self, i, n, /)\n--\n\n"
"Add the integer n to element i in one step, wrapping around as in C; returns the element's old value.\n\n"
"Not in the standard library.  Takes the array's lock: atomic also for whoever has get_lock().\n"
"IndexError: there is no element i; TypeError: n, or the elements, are no integers.");
PyDoc_STRVAR(sub_doc, "sub($self, i, n, /)\n--\n\nSubtract n from element i in one step; see add().");
PyDoc_STRVAR(exchange_doc, "exchange($self, i, x, /)\n--\n\nStore x as element i in one step; see add().");

static PyMethodDef array_methods[] = {
    {"add", (PyCFunction)(void (*)(void))array_add, METH_FASTCALL, add_doc},
    {"sub", (PyCFunction)(void (*)(void))array_sub, METH_FASTCALL, sub_doc},
    {"exchange", (PyCFunction)(void (*)(void))array_exchange, METH_FASTCALL, exchange_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot array_slots[] = {
    {Py_tp_doc, "An array of simple values in shared memory with a lock."},
    {Py_tp_methods, array_methods},
    {Py_tp_iter, array_iterate},
    {Py_mp_subscript, array_subscript},
    {Py_mp_ass_subscript, array_assign_subscript},
    {Py_mp_length, array_length},
    {Py_bf_getbuffer, array_export},
    {0, NULL},
};

static PyType_Spec array_spec = {
    .name = "mpfast._core.SynchronizedArray",
    .basicsize = sizeof(struct mpf_synchronized),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, /* collectable like its base */
    .slots = array_slots,
};

int
mpf_array_register(PyObject *module)
{
    struct mpf_state *state = mpf_state_of(module);
    return mpf_state_add_type(module, &array_spec, state->synchronized_type, &state->array_type);
}
