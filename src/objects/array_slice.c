/*
 * Purpose: slices of SynchronizedArray.
 *
 * Layout, states, death of the caller: see synchronized.c.
 *
 * Invariants: a slice is read or written as a whole under the lock. What is to be written is made ready before, so that
 * the wrong type or the wrong length of it changes nothing. Where the source's memory means the same elements (bytes for
 * 'B', array.array and numpy arrays of the same type) it is copied as a whole.
 *
 * Callers: array.c, attached to the interpreter.
 */
#include "objects/array.h"

#include <string.h>

struct span {
    char *at;         /* the first element */
    Py_ssize_t step;  /* bytes from one to the next; may be negative */
    Py_ssize_t count;
};

static int
slice_resolve(struct mpf_synchronized *self, PyObject *slice, struct span *span)
{
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(slice, &start, &stop, &step) < 0) {
        return -1;
    }
    span->count = PySlice_AdjustIndices(self->length, &start, &stop, step);
    span->step = span->count > 1 ? step * self->item->size : self->item->size;
    span->at = self->data + (span->count > 0 ? start * self->item->size : 0);
    return 0;
}

static PyObject *
slice_bytes(struct mpf_synchronized *self, const struct span *span)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, span->count);
    if (bytes == NULL || span->count == 0) {
        return bytes;
    }
    if (mpf_synchronized_enter(self) < 0) {
        Py_DECREF(bytes);
        return NULL;
    }
    char *to = PyBytes_AS_STRING(bytes);
    if (span->step == 1) {
        memcpy(to, span->at, span->count);
    } else {
        const char *from = span->at;
        for (Py_ssize_t i = 0; i < span->count; i++, from += span->step) {
            to[i] = *from;
        }
    }
    return mpf_synchronized_return(self, bytes);
}

PyObject *
mpf_array_get_slice(struct mpf_synchronized *self, PyObject *slice)
{
    struct span span;
    if (self->item->load_many == NULL && self->item->code != 'c') {
        return mpf_array_get_through_obj(self, slice);
    }
    if (slice_resolve(self, slice, &span) < 0) {
        return NULL;
    }
    if (self->item->code == 'c') {
        return slice_bytes(self, &span);
    }
    PyObject *list = PyList_New(span.count);
    if (list == NULL || mpf_synchronized_enter(self) < 0) {
        Py_XDECREF(list);
        return NULL;
    }
    if (self->item->load_many(list, span.at, span.step, span.count) < 0) {
        Py_CLEAR(list);
    }
    return mpf_synchronized_return(self, list);
}

/* Writes count ready elements under the lock. */
static int
slice_write(struct mpf_synchronized *self, const struct span *span, const char *elements)
{
    Py_ssize_t size = self->item->size;
    if (mpf_synchronized_enter(self) < 0) {
        return -1;
    }
    if (span->step == size) {
        memmove(span->at, elements, span->count * size);
    } else {
        char *to = span->at;
        for (Py_ssize_t i = 0; i < span->count; i++, to += span->step, elements += size) {
            mpf_synchronized_copy(self->item, to, elements);
        }
    }
    return mpf_synchronized_leave(self);
}

/* Whether the elements that the source hands out are those of its memory, and ctypes would take them: c_char takes no
 * numbers of numpy's. */
static bool
slice_is_plain_memory(struct mpf_synchronized *self, PyObject *value)
{
    const char *name = Py_TYPE(value)->tp_name;
    return PyBytes_CheckExact(value) || PyByteArray_CheckExact(value) || PyMemoryView_Check(value) ||
           strcmp(name, "array.array") == 0 || (self->item->code != 'c' && strcmp(name, "numpy.ndarray") == 0);
}

static bool
slice_is_same(struct mpf_synchronized *self, const struct span *span, const Py_buffer *view)
{
    const char *format = view->format != NULL ? view->format : "B";
    const char *from = view->buf;
    Py_ssize_t bytes = span->count * self->item->size;
    return view->ndim == 1 && view->itemsize == self->item->size && view->len == bytes && format[0] != '\0' &&
           format[1] == '\0' && strchr(self->item->same, format[0]) != NULL &&
           (from + bytes <= self->data || from >= self->data + self->length * self->item->size);
}

/* Copies the source's memory where that is right. 1 done, 0 not that kind of source, -1 exception. */
static int
slice_copy_memory(struct mpf_synchronized *self, const struct span *span, PyObject *value)
{
    Py_buffer view;
    if (!slice_is_plain_memory(self, value)) {
        return 0;
    }
    if (PyObject_GetBuffer(value, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0) {
        PyErr_Clear();
        return 0;
    }
    int result = 0;
    if (slice_is_same(self, span, &view)) {
        result = slice_write(self, span, view.buf) < 0 ? -1 : 1;
    }
    PyBuffer_Release(&view);
    return result;
}

#ifdef Py_GIL_DISABLED
#define HAS_STABLE_ITEMS(value) PyTuple_CheckExact(value)
#else
#define HAS_STABLE_ITEMS(value) (PyTuple_CheckExact(value) || PyList_CheckExact(value))
#endif

/* Makes the elements ready. Nothing native runs Python code, so a list cannot change meanwhile; what ctypes has to judge
 * can, so from there on the items are asked for one by one. */
static int
slice_prepare(struct mpf_synchronized *self, PyObject *value, Py_ssize_t count, char *to)
{
    Py_ssize_t i = 0;
    if (HAS_STABLE_ITEMS(value) && PySequence_Fast_GET_SIZE(value) == count) {
        PyObject **items = PySequence_Fast_ITEMS(value); /* borrowed */
        int stored = 1;
        while (i < count && (stored = self->item->store(to, items[i])) == 1) {
            i++;
            to += self->item->size;
        }
        if (stored < 0) {
            return -1;
        }
    }
    for (; i < count; i++, to += self->item->size) {
        PyObject *element = PySequence_GetItem(value, i);
        if (element == NULL) {
            return -1;
        }
        int result = mpf_synchronized_store(self, element, true, to);
        Py_DECREF(element);
        if (result < 0) {
            return -1;
        }
    }
    return 0;
}

int
mpf_array_set_slice(struct mpf_synchronized *self, PyObject *slice, PyObject *value)
{
    struct span span;
    if (slice_resolve(self, slice, &span) < 0) {
        return -1;
    }
    Py_ssize_t given = PySequence_Size(value);
    if (given < 0) {
        return -1;
    }
    if (given != span.count) {
        PyErr_SetString(PyExc_ValueError, "Can only assign sequence of same size");
        return -1;
    }
    int copied = slice_copy_memory(self, &span, value);
    if (copied != 0) {
        return copied < 0 ? -1 : 0;
    }
    char *elements = PyMem_Malloc(span.count > 0 ? span.count * self->item->size : 1);
    if (elements == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int result = slice_prepare(self, value, span.count, elements);
    if (result == 0) {
        result = slice_write(self, &span, elements);
    }
    PyMem_Free(elements);
    return result;
}
