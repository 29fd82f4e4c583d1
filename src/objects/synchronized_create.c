/*
 * Purpose: how synchronized objects come to be: new ones with memory of their own, ones on memory that exists already (an
 * unpickled object), and wrappers of a user's ctypes object.
 *
 * Layout: see synchronized.c.
 *
 * States: bare -> bound, at once: an object that fails half way is never seen.
 *
 * Invariants: item != NULL only where the elements are within the storage. A typecode or type that is not in the state's
 * table of simple types is left to sharedctypes, and ctypes.
 *
 * Callers: mpfast.sharedctypes, attached to the interpreter.
 *
 * Death of the caller: the block layer takes back what it had.
 */
#include "objects/synchronized.h"

/* Finds (type, item) for a typecode or a simple ctypes type. 1 found (*type borrowed), 0 not one of them, -1. */
static int
synchronized_look_up(struct mpf_state *state, PyObject *key, PyObject **type, const struct mpf_item **item)
{
    if (state->simple_types == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "mpfast.sharedctypes was not imported");
        return -1;
    }
    PyObject *found = PyDict_GetItemWithError(state->simple_types, key); /* borrowed; the dictionary never changes */
    if (found == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    *type = PyTuple_GET_ITEM(found, 0);
    *item = mpf_item_find((char)PyLong_AsLong(PyTuple_GET_ITEM(found, 1)));
    return *item != NULL;
}

static void
synchronized_set_elements(struct mpf_synchronized *self, PyObject *type, const struct mpf_item *item,
                          struct mpf_storage *storage, Py_ssize_t length)
{
    self->data = storage->data;
    self->length = length;
    self->item = item;
    Py_XSETREF(self->type, Py_NewRef(type));
    Py_XSETREF(self->storage, Py_NewRef((PyObject *)storage));
}

/* A new object of class on a new storage with an embedded lock. length: -1 for a single value. */
static struct mpf_synchronized *
synchronized_new(PyTypeObject *class, struct mpf_state *state, PyObject *type, const struct mpf_item *item,
                 Py_ssize_t length)
{
    Py_ssize_t bytes = item->size;
    if (length >= 0 && length > (PY_SSIZE_T_MAX - 4096) / item->size) {
        PyErr_SetString(PyExc_OverflowError, "array too large");
        return NULL;
    }
    if (length >= 0) {
        bytes = length * item->size;
    }
    PyObject *storage = mpf_storage_new(state, bytes, true);
    if (storage == NULL) {
        return NULL;
    }
    struct mpf_synchronized *self = (struct mpf_synchronized *)class->tp_alloc(class, 0);
    if (self != NULL) {
        self->state = state;
        synchronized_set_elements(self, type, item, (struct mpf_storage *)storage, length);
        mpf_synchronized_embed_lock(self, (struct mpf_storage *)storage);
    }
    Py_DECREF(storage);
    return self;
}

PyObject *
mpf_synchronized_create_value(PyObject *class, PyObject *const *args, Py_ssize_t nargs)
{
    struct mpf_state *state = mpf_state_of_type((PyTypeObject *)class);
    PyObject *type;
    const struct mpf_item *item;
    if (state == NULL || nargs != 2 || !PyTuple_Check(args[1]) || PyTuple_GET_SIZE(args[1]) > 1) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    int found = synchronized_look_up(state, args[0], &type, &item);
    if (found <= 0) {
        return found < 0 ? NULL : Py_NewRef(Py_None);
    }
    struct mpf_synchronized *self = synchronized_new((PyTypeObject *)class, state, type, item, -1);
    if (self != NULL && PyTuple_GET_SIZE(args[1]) == 1 &&
        mpf_synchronized_store(self, PyTuple_GET_ITEM(args[1], 0), false, self->data) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* Stores the elements of the initializer, as `array.__init__(*initializer)` of ctypes does. */
static int
synchronized_fill(struct mpf_synchronized *self, PyObject *initializer)
{
    PyObject *elements = PySequence_Tuple(initializer);
    if (elements == NULL) {
        return -1;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(elements);
    char *at = self->data;
    int result = 0;
    for (Py_ssize_t i = 0; i < count && result == 0; i++, at += self->item->size) {
        if (i == self->length) {
            PyErr_SetString(PyExc_IndexError, "invalid index");
            result = -1;
        } else {
            result = mpf_synchronized_store(self, PyTuple_GET_ITEM(elements, i), true, at);
        }
    }
    Py_DECREF(elements);
    return result;
}

PyObject *
mpf_synchronized_create_array(PyObject *class, PyObject *const *args, Py_ssize_t nargs)
{
    struct mpf_state *state = mpf_state_of_type((PyTypeObject *)class);
    PyObject *type;
    const struct mpf_item *item;
    if (state == NULL || nargs != 2) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    int found = synchronized_look_up(state, args[0], &type, &item);
    if (found <= 0) {
        return found < 0 ? NULL : Py_NewRef(Py_None);
    }
    bool sized = PyLong_Check(args[1]);
    Py_ssize_t length = sized ? PyLong_AsSsize_t(args[1]) : PyObject_Size(args[1]);
    if (length < 0) {
        if (!sized) {
            return NULL;
        }
        PyErr_Clear();
        Py_RETURN_NONE; /* ctypes finds the words for a negative or huge length */
    }
    struct mpf_synchronized *self = synchronized_new((PyTypeObject *)class, state, type, item, length);
    if (self != NULL && !sized && synchronized_fill(self, args[1]) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyObject *
mpf_synchronized_attach(PyObject *class, PyObject *const *args, Py_ssize_t nargs)
{
    struct mpf_state *state = mpf_state_of_type((PyTypeObject *)class);
    PyObject *type;
    const struct mpf_item *item;
    if (state == NULL) {
        return NULL;
    }
    if (nargs != 4 || !PyObject_TypeCheck(args[1], state->storage_type)) {
        PyErr_SetString(PyExc_TypeError, "attach(typecode_or_type, storage, length, lock) expected");
        return NULL;
    }
    struct mpf_storage *storage = (struct mpf_storage *)args[1];
    Py_ssize_t length = args[2] == Py_None ? -1 : PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    int found = synchronized_look_up(state, args[0], &type, &item);
    if (found < 0) {
        return NULL;
    }
    if (found == 0 || length < -1 || (length < 0 ? 1 : length) > storage->size / item->size ||
        (args[3] == Py_None && storage->mutex == NULL)) {
        PyErr_SetString(PyExc_ValueError, "the storage does not hold such an object");
        return NULL;
    }
    struct mpf_synchronized *self = (struct mpf_synchronized *)((PyTypeObject *)class)->tp_alloc((PyTypeObject *)class, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    synchronized_set_elements(self, type, item, storage, length);
    if (args[3] == Py_None) {
        mpf_synchronized_embed_lock(self, storage);
    } else if (mpf_synchronized_bind_lock(self, args[3]) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* _bind(obj, lock, native): native is None or (type, length) where obj is that and nothing else, at the start of its Storage. */
PyObject *
mpf_synchronized_bind(PyObject *op, PyObject *args)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    PyObject *obj, *lock, *key = Py_None, *length = Py_None, *storage = NULL, *type;
    const struct mpf_item *item;
    if (!PyArg_ParseTuple(args, "OO|OO:_bind", &obj, &lock, &key, &length)) {
        return NULL;
    }
    struct mpf_state *state = mpf_state_of_type(Py_TYPE(op));
    if (state == NULL) {
        return NULL;
    }
    Py_ssize_t count = length == Py_None ? -1 : PyLong_AsSsize_t(length);
    if (count == -1 && PyErr_Occurred()) {
        return NULL;
    }
    storage = PyObject_GetAttrString(obj, "_wrapper");
    if (storage == NULL || !PyObject_TypeCheck(storage, state->storage_type)) {
        PyErr_Clear();
        Py_CLEAR(storage);
    }
    struct mpf_storage *memory = (struct mpf_storage *)storage;
    self->state = state;
    self->item = NULL;
    Py_XSETREF(self->obj, Py_NewRef(obj));
    if (key != Py_None && memory != NULL && synchronized_look_up(state, key, &type, &item) == 1 &&
        (count < 0 ? 1 : count) <= memory->size / item->size) {
        synchronized_set_elements(self, type, item, memory, count);
    }
    int result = 0;
    if (lock != Py_None) {
        result = mpf_synchronized_bind_lock(self, lock);
    } else if (memory != NULL && memory->mutex != NULL) {
        Py_XSETREF(self->storage, Py_NewRef(storage));
        mpf_synchronized_embed_lock(self, memory);
    } else {
        PyErr_SetString(PyExc_ValueError, "the object has no lock of its own");
        result = -1;
    }
    Py_XDECREF(storage);
    return result == 0 && !PyErr_Occurred() ? Py_NewRef(Py_None) : NULL;
}

/* (typecode or None, length or None, storage or None, lock or None for the storage's own): what sharedctypes pickles. */
PyObject *
mpf_synchronized_parts(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (mpf_synchronized_check_bound(self) < 0) {
        return NULL;
    }
    bool embedded = self->mutex != NULL && self->storage != NULL &&
                    self->mutex == ((struct mpf_storage *)self->storage)->mutex;
    PyObject *code = self->item != NULL ? PyUnicode_FromFormat("%c", self->item->code) : Py_NewRef(Py_None);
    PyObject *length = self->item != NULL && self->length >= 0 ? PyLong_FromSsize_t(self->length) : Py_NewRef(Py_None);
    PyObject *lock = embedded ? Py_NewRef(Py_None) : mpf_synchronized_lock(self);
    return Py_BuildValue("(NNON)", code, length, self->storage != NULL ? self->storage : Py_None, lock);
}

PyObject *
mpf_synchronized_set_simple_types(PyObject *module, PyObject *types)
{
    struct mpf_state *state = mpf_state_of(module);
    PyObject *key, *value;
    Py_ssize_t position = 0;
    if (!PyDict_CheckExact(types)) {
        PyErr_SetString(PyExc_TypeError, "a dictionary is required");
        return NULL;
    }
    while (PyDict_Next(types, &position, &key, &value)) { /* both borrowed */
        if (!PyTuple_CheckExact(value) || PyTuple_GET_SIZE(value) != 2 ||
            !PyLong_CheckExact(PyTuple_GET_ITEM(value, 1))) {
            PyErr_SetString(PyExc_TypeError, "the values must be (type, letter)");
            return NULL;
        }
    }
    PyObject *copy = PyDict_Copy(types);
    if (copy == NULL) {
        return NULL;
    }
    Py_XSETREF(state->simple_types, copy);
    Py_RETURN_NONE;
}
