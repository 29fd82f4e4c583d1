/*
 * Purpose: the methods of SharedList that have names, and its operators.
 *
 * Layout, states, invariants: see list.c.
 *
 * Callers: any thread attached to the interpreter.
 *
 * Death of the caller: see containers/container.c.
 */
#include "objects/list.h"
#include "objects/errors.h"

/* ---- one item ---- */

static PyObject *
list_insert_at(PyObject *self, int64_t index, PyObject *value)
{
    struct mpf_datum datum;
    if (mpf_entry_encode(mpf_list_state(self), mpf_list_arena(self), value, &datum) < 0) {
        return NULL;
    }
    mpf_entry_give_way(mpf_list_arena(self), mpf_list_shm(self));
    int rc = mpf_list_insert(mpf_list_arena(self), mpf_list_shm(self), index, &datum);
    mpf_datum_drop(&datum);
    if (rc < 0) {
        return mpf_errors_raise(rc);
    }
    Py_RETURN_NONE;
}

static PyObject *
list_append(PyObject *self, PyObject *value)
{
    MPF_SHARED_CHECK(self);
    return list_insert_at(self, INT64_MAX, value);
}

static PyObject *
list_insert(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    MPF_SHARED_CHECK(self);
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "insert expected 2 arguments, got %zd", nargs);
        return NULL;
    }
    PyObject *number = PyNumber_Index(args[0]);
    Py_ssize_t index = number != NULL ? PyLong_AsSsize_t(number) : -1;
    Py_XDECREF(number);
    return index == -1 && PyErr_Occurred() ? NULL : list_insert_at(self, index, args[1]);
}

static PyObject *
list_pop(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    struct mpf_fetched value;
    _Alignas(MPF_CODEC_ALIGN) char buffer[MPF_DATUM_COPY_MAX];
    Py_ssize_t index = -1;
    MPF_SHARED_CHECK(self);
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "pop expected at most 1 argument, got %zd", nargs);
        return NULL;
    }
    if (nargs == 1 && (index = PyNumber_AsSsize_t(args[0], PyExc_IndexError)) == -1 && PyErr_Occurred()) {
        return NULL;
    }
    mpf_entry_give_way(mpf_list_arena(self), mpf_list_shm(self));
    int rc = mpf_list_remove(mpf_list_arena(self), mpf_list_shm(self), index, NULL, buffer, &value);
    if (rc == -ERANGE) {
        bool empty = mpf_container_count(mpf_list_arena(self), mpf_list_shm(self)) == 0;
        PyErr_SetString(PyExc_IndexError, empty ? "pop from empty list" : "pop index out of range");
        return NULL;
    }
    return rc < 0 ? mpf_errors_raise(rc) : mpf_entry_decode(mpf_list_state(self), &value);
}

/* ---- all of it ---- */

/* The method of a plain copy. */
static PyObject *
list_ask_copy(PyObject *self, const char *name, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *plain = mpf_list_to_plain(self, MPF_LIST_ALL, NULL);
    PyObject *method = plain != NULL ? PyObject_GetAttrString(plain, name) : NULL;
    PyObject *result = method != NULL ? PyObject_Vectorcall(method, args, (size_t)nargs, NULL) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(plain);
    return result;
}

static PyObject *
list_index(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return list_ask_copy(self, "index", args, nargs);
}

static PyObject *
list_count(PyObject *self, PyObject *value)
{
    return list_ask_copy(self, "count", &value, 1);
}

static PyObject *
list_reversed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return list_ask_copy(self, "__reversed__", NULL, 0);
}

int
mpf_list_contains(PyObject *self, PyObject *value)
{
    PyObject *plain = mpf_list_to_plain(self, MPF_LIST_ALL, NULL);
    int found = plain != NULL ? PySequence_Contains(plain, value) : -1;
    Py_XDECREF(plain);
    return found;
}

PyObject *
mpf_list_iter(PyObject *self)
{
    PyObject *plain = mpf_list_to_plain(self, MPF_LIST_ALL, NULL);
    PyObject *iterator = plain != NULL ? PyObject_GetIter(plain) : NULL;
    Py_XDECREF(plain);
    return iterator;
}

PyObject *
mpf_list_repr(PyObject *self)
{
    return mpf_shared_repr(self, mpf_list_to_plain(self, MPF_LIST_ALL, NULL));
}

/* ---- operators ---- */

/* New reference to a plain list: a copy of a shared one, a list as it is; NULL without an exception for anything else. */
static PyObject *
list_operand(PyObject *self, PyObject *operand)
{
    if (PyObject_TypeCheck(operand, mpf_list_state(self)->list_type)) {
        return mpf_list_to_plain(operand, MPF_LIST_ALL, NULL);
    }
    return PyList_Check(operand) ? Py_NewRef(operand) : NULL;
}

PyObject *
mpf_list_compare(PyObject *self, PyObject *other, int operation)
{
    MPF_SHARED_CHECK(self);
    PyObject *theirs = list_operand(self, other), *result = NULL;
    if (theirs == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    }
    PyObject *mine = mpf_list_to_plain(self, MPF_LIST_ALL, NULL);
    if (mine != NULL) {
        result = PyObject_RichCompare(mine, theirs, operation);
    }
    Py_XDECREF(mine);
    Py_DECREF(theirs);
    return result;
}

PyObject *
mpf_list_concat(PyObject *self, PyObject *other)
{
    MPF_SHARED_CHECK(self);
    PyObject *theirs = list_operand(self, other), *result = NULL;
    if (theirs == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_TypeError, "can only concatenate list (not \"%.200s\") to list", Py_TYPE(other)->tp_name);
        }
        return NULL;
    }
    PyObject *mine = mpf_list_to_plain(self, MPF_LIST_ALL, NULL);
    if (mine != NULL) {
        result = PySequence_Concat(mine, theirs);
    }
    Py_XDECREF(mine);
    Py_DECREF(theirs);
    return result;
}

PyObject *
mpf_list_repeat(PyObject *self, Py_ssize_t times)
{
    PyObject *plain = mpf_list_to_plain(self, MPF_LIST_ALL, NULL);
    PyObject *result = plain != NULL ? PySequence_Repeat(plain, times) : NULL;
    Py_XDECREF(plain);
    return result;
}

/* ---- pickling ---- */

static PyObject *
list_getstate(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return mpf_shared_dump((struct mpf_shared *)self);
}

static PyObject *
list_setstate(PyObject *self, PyObject *handle)
{
    if (mpf_shared_load((struct mpf_shared *)self, handle, MPF_BLOCK_LIST) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(append_doc, "append($self, object, /)\n--\n\nAdd object at the end.");
PyDoc_STRVAR(extend_doc, "extend($self, iterable, /)\n--\n\nAdd what iterable gives at the end, in one step for all other processes.");
PyDoc_STRVAR(insert_doc, "insert($self, index, object, /)\n--\n\nInsert object before index.");
PyDoc_STRVAR(pop_doc, "pop($self, index=-1, /)\n--\n\nRemove and return the item at index; IndexError where there is none.");
PyDoc_STRVAR(remove_doc, "remove($self, value, /)\n--\n\nRemove the first item that equals value; ValueError where there is none.");
PyDoc_STRVAR(index_doc, "index(value[, start[, stop]])\n\nThe index of the first item that equals value; ValueError where there is none.");
PyDoc_STRVAR(count_doc, "count($self, value, /)\n--\n\nHow many items equal value.");
PyDoc_STRVAR(reverse_doc, "reverse($self, /)\n--\n\nReverse the order of the items.");
PyDoc_STRVAR(sort_doc,
"sort($self, /, *, key=None, reverse=False)\n--\n\n"
"Sort the items; stable.  Keys are compared again where others have changed the list meanwhile.");
PyDoc_STRVAR(copy_doc, "copy($self, /)\n--\n\nA plain list with the same items.");
PyDoc_STRVAR(clear_doc, "clear($self, /)\n--\n\nRemove all items.");
PyDoc_STRVAR(transact_doc,
"_transact($self, function, /)\n--\n\n"
"Call function with a plain copy, which then becomes the contents in one step; again if others came between.\n\n"
"Returns what function returned.");

PyMethodDef mpf_list_methods[] = {
    {"append", list_append, METH_O, append_doc},
    {"extend", mpf_list_extend, METH_O, extend_doc},
    {"insert", (PyCFunction)(void (*)(void))list_insert, METH_FASTCALL, insert_doc},
    {"pop", (PyCFunction)(void (*)(void))list_pop, METH_FASTCALL, pop_doc},
    {"remove", mpf_list_take_out, METH_O, remove_doc},
    {"index", (PyCFunction)(void (*)(void))list_index, METH_FASTCALL, index_doc},
    {"count", list_count, METH_O, count_doc},
    {"reverse", mpf_list_reverse, METH_NOARGS, reverse_doc},
    {"sort", (PyCFunction)(void (*)(void))mpf_list_sort, METH_VARARGS | METH_KEYWORDS, sort_doc},
    {"copy", mpf_list_copy, METH_NOARGS, copy_doc},
    {"clear", mpf_list_clear, METH_NOARGS, clear_doc},
    {"_transact", mpf_list_transact, METH_O, transact_doc},
    {"__reversed__", list_reversed, METH_NOARGS, NULL},
    {"__getstate__", list_getstate, METH_NOARGS, NULL},
    {"__setstate__", list_setstate, METH_O, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};
