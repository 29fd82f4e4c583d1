/*
 * Purpose: the type SynchronizedString: an array of c_char with a lock, read and written as bytes.
 *
 * Layout, states, death of the caller: see synchronized.c.
 *
 * Invariants: `value` ends at the first zero byte, or with the array; `raw` is all of it.
 *
 * Callers: Python code, attached to the interpreter.
 */
#include "objects/array.h"

#include <string.h>

#include "objects/types.h"

static int
string_refuse_deletion(PyObject *value, const char *name)
{
    if (value == NULL) {
        PyErr_Format(PyExc_AttributeError, "can't delete attribute '%s'", name);
        return -1;
    }
    return 0;
}

static PyObject *
string_get_value(PyObject *op, void *Py_UNUSED(closure))
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (self->item == NULL) {
        return mpf_synchronized_getattr(self, "value");
    }
    if (mpf_synchronized_enter(self) < 0) {
        return NULL;
    }
    const char *end = self->length > 0 ? memchr(self->data, 0, self->length) : NULL;
    Py_ssize_t length = end != NULL ? end - self->data : self->length;
    return mpf_synchronized_return(self, PyBytes_FromStringAndSize(self->data, length));
}

static PyObject *
string_get_raw(PyObject *op, void *Py_UNUSED(closure))
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (self->item == NULL) {
        return mpf_synchronized_getattr(self, "raw");
    }
    if (mpf_synchronized_enter(self) < 0) {
        return NULL;
    }
    return mpf_synchronized_return(self, PyBytes_FromStringAndSize(self->data, self->length));
}

static int
string_set_value(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (string_refuse_deletion(value, "value") < 0) {
        return -1;
    }
    if (self->item == NULL || !PyBytes_Check(value) || PyBytes_GET_SIZE(value) > self->length) {
        return mpf_synchronized_setattr(self, "value", value);
    }
    Py_ssize_t length = PyBytes_GET_SIZE(value);
    if (mpf_synchronized_enter(self) < 0) {
        return -1;
    }
    memcpy(self->data, PyBytes_AS_STRING(value), length);
    if (length < self->length) {
        self->data[length] = '\0';
    }
    return mpf_synchronized_leave(self);
}

static int
string_set_raw(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (string_refuse_deletion(value, "raw") < 0) {
        return -1;
    }
    if (self->item == NULL || !PyBytes_Check(value) || PyBytes_GET_SIZE(value) > self->length) {
        return mpf_synchronized_setattr(self, "raw", value);
    }
    if (mpf_synchronized_enter(self) < 0) {
        return -1;
    }
    memcpy(self->data, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
    return mpf_synchronized_leave(self);
}

static PyGetSetDef string_getset[] = {
    {"value", string_get_value, string_set_value, "the bytes up to the first zero byte", NULL},
    {"raw", string_get_raw, string_set_raw, "all bytes", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot string_slots[] = {
    {Py_tp_doc, "An array of c_char in shared memory with a lock."},
    {Py_tp_getset, string_getset},
    {0, NULL},
};

static PyType_Spec string_spec = {
    .name = "mpfast._core.SynchronizedString",
    .basicsize = sizeof(struct mpf_synchronized),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, /* collectable like its base */
    .slots = string_slots,
};

int
mpf_string_register(PyObject *module)
{
    return mpf_state_add_type(module, &string_spec, mpf_state_of(module)->array_type, NULL);
}
