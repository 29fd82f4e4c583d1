/*
 * Purpose: what SharedList does with many items at once: copies, slices, order, new contents.
 *
 * Layout: data of the values in private memory, until the list takes them.
 *
 * States, invariants: where Python code has to compare items, it does so on a copy; the change is made if the list is still as it
 * was copied, else all is done again.
 *
 * Callers: the list's methods, attached to the interpreter.
 *
 * Death of the caller: data that are not stored are references of this process.
 */
#include "objects/list.h"
#include "objects/errors.h"

/* ---- copies ---- */

PyObject *
mpf_list_to_plain(PyObject *self, struct mpf_list_range range, uint64_t *version)
{
    struct mpf_snapshot snapshot = {0};
    MPF_SHARED_CHECK(self);
    int rc = mpf_list_snapshot(mpf_list_arena(self), mpf_list_shm(self), range, &snapshot);
    if (rc < 0) {
        return mpf_errors_raise(rc);
    }
    if (version != NULL) {
        *version = snapshot.version;
    }
    PyObject *plain = PyList_New((Py_ssize_t)snapshot.count);
    for (size_t i = 0; plain != NULL && i < snapshot.count; i++) {
        PyObject *item = mpf_entry_from_snapshot(mpf_list_state(self), &snapshot, &snapshot.items[i].datum[0], false);
        if (item != NULL) {
            PyList_SET_ITEM(plain, (Py_ssize_t)i, item); /* steals */
        } else {
            Py_CLEAR(plain);
        }
    }
    mpf_snapshot_free(&snapshot);
    return plain;
}

PyObject *
mpf_list_copy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return mpf_list_to_plain(self, MPF_LIST_ALL, NULL);
}

/* ---- slices ---- */

static void
list_drop_data(struct mpf_datum *data, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mpf_datum_drop(&data[i]);
    }
    PyMem_RawFree(data);
}

/* The data of all items of a plain list that nobody else changes; NULL with an exception. */
static struct mpf_datum *
list_encode(PyObject *self, PyObject *plain, size_t *count)
{
    size_t wanted = (size_t)PyList_GET_SIZE(plain);
    struct mpf_datum *data = PyMem_RawCalloc(wanted + 1, sizeof(*data));
    if (data == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (*count = 0; *count < wanted; ++*count) {
        PyObject *item = PyList_GET_ITEM(plain, (Py_ssize_t)*count); /* borrowed */
        if (mpf_entry_encode(mpf_list_state(self), mpf_list_arena(self), item, &data[*count]) < 0) {
            list_drop_data(data, *count);
            return NULL;
        }
    }
    return data;
}

int
mpf_list_splice_from(PyObject *self, struct mpf_list_range range, PyObject *plain, const uint64_t *version)
{
    struct mpf_datum *data = NULL;
    size_t count = 0;
    uint64_t had = 0;
    if (plain != NULL && (data = list_encode(self, plain, &count)) == NULL) {
        return -1;
    }
    mpf_entry_give_way(mpf_list_arena(self), mpf_list_shm(self));
    int rc = mpf_list_splice(mpf_list_arena(self), mpf_list_shm(self), range, plain == NULL, data, count, version, &had);
    if (data != NULL) {
        list_drop_data(data, count);
    }
    if (rc == -EINVAL) {
        PyErr_Format(PyExc_ValueError, "attempt to assign sequence of size %zu to extended slice of size %zu", count,
                     (size_t)had);
        return -1;
    }
    if (rc < 0 && rc != -ESTALE) {
        mpf_errors_raise(rc);
        return -1;
    }
    return rc;
}

int
mpf_list_extend_from(PyObject *self, PyObject *iterable)
{
    PyObject *items = PySequence_List(iterable);
    if (items == NULL) {
        return -1;
    }
    int done = mpf_list_splice_from(self, MPF_LIST_END, items, NULL);
    Py_DECREF(items);
    return done;
}

PyObject *
mpf_list_extend(PyObject *self, PyObject *iterable)
{
    MPF_SHARED_CHECK(self);
    if (mpf_list_extend_from(self, iterable) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
mpf_list_clear(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(self);
    if (mpf_list_splice_from(self, MPF_LIST_ALL, NULL, NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- with Python code in the middle ---- */

static struct mpf_persistence
list_persistence(PyObject *self)
{
    return (struct mpf_persistence){.arena = mpf_list_arena(self), .container = mpf_list_shm(self)};
}

/* After an attempt that answered `done`: whether to make another. */
static bool
list_once_more(struct mpf_persistence *persistence, int done)
{
    if (done == -ESTALE && mpf_entry_persist(persistence) == 0) {
        return true;
    }
    mpf_entry_desist(persistence);
    return false;
}

PyObject *
mpf_list_inplace_repeat(PyObject *self, Py_ssize_t times)
{
    uint64_t version;
    int done;
    MPF_SHARED_CHECK(self);
    struct mpf_persistence persistence = list_persistence(self);
    do {
        PyObject *plain = mpf_list_to_plain(self, MPF_LIST_ALL, &version);
        PyObject *more = plain != NULL ? PySequence_Repeat(plain, times) : NULL;
        done = more != NULL ? mpf_list_splice_from(self, MPF_LIST_ALL, more, &version) : -1;
        Py_XDECREF(plain);
        Py_XDECREF(more);
    } while (list_once_more(&persistence, done));
    return done == 0 ? Py_NewRef(self) : NULL;
}

PyObject *
mpf_list_transact(PyObject *self, PyObject *function)
{
    uint64_t version;
    PyObject *result = NULL;
    int done;
    MPF_SHARED_CHECK(self);
    struct mpf_persistence persistence = list_persistence(self);
    do {
        Py_CLEAR(result);
        PyObject *plain = mpf_list_to_plain(self, MPF_LIST_ALL, &version);
        result = plain != NULL ? PyObject_CallOneArg(function, plain) : NULL;
        PyObject *items = result != NULL ? PySequence_List(plain) : NULL;
        done = items != NULL ? mpf_list_splice_from(self, MPF_LIST_ALL, items, &version) : -1;
        Py_XDECREF(items);
        Py_XDECREF(plain);
    } while (list_once_more(&persistence, done));
    if (done != 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* The index of the first item that equals value; -1: there is none; -2: exception. */
static Py_ssize_t
list_position(PyObject *plain, PyObject *value)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(plain); i++) {
        int same = PyObject_RichCompareBool(PyList_GET_ITEM(plain, i), value, Py_EQ);
        if (same != 0) {
            return same < 0 ? -2 : i;
        }
    }
    return -1;
}

PyObject *
mpf_list_take_out(PyObject *self, PyObject *value)
{
    uint64_t version;
    int done;
    MPF_SHARED_CHECK(self);
    struct mpf_persistence persistence = list_persistence(self);
    do {
        PyObject *plain = mpf_list_to_plain(self, MPF_LIST_ALL, &version);
        Py_ssize_t index = plain != NULL ? list_position(plain, value) : -2;
        Py_XDECREF(plain);
        if (index == -1) {
            PyErr_SetString(PyExc_ValueError, "list.remove(x): x not in list");
        }
        if (index < 0) {
            mpf_entry_desist(&persistence);
            return NULL;
        }
        mpf_entry_give_way(mpf_list_arena(self), mpf_list_shm(self));
        done = mpf_list_remove(mpf_list_arena(self), mpf_list_shm(self), index, &version, NULL, NULL);
    } while (list_once_more(&persistence, done));
    if (done < 0 && done != -ESTALE) {
        return mpf_errors_raise(done);
    }
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

/* ---- order ---- */

PyObject *
mpf_list_reverse(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MPF_SHARED_CHECK(self);
    mpf_entry_give_way(mpf_list_arena(self), mpf_list_shm(self));
    int rc = mpf_list_arrange(mpf_list_arena(self), mpf_list_shm(self), NULL, NULL);
    if (rc < 0) {
        return mpf_errors_raise(rc);
    }
    Py_RETURN_NONE;
}

/* A list of the numbers of the items in the order that sorting gives; NULL with an exception. */
static PyObject *
list_sorted_numbers(PyObject *plain, PyObject *key, PyObject *reverse)
{
    PyObject *numbers = PyList_New(0), *keys = PyList_New(0), *method = NULL, *sort = NULL, *kwargs = NULL, *none = NULL;
    if (numbers == NULL || keys == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(plain); i++) {
        PyObject *item = PyList_GET_ITEM(plain, i); /* borrowed */
        PyObject *of_item = key != Py_None ? PyObject_CallOneArg(key, item) : Py_NewRef(item);
        PyObject *number = of_item != NULL ? PyLong_FromSsize_t(i) : NULL;
        int failed = number == NULL || PyList_Append(keys, of_item) < 0 || PyList_Append(numbers, number) < 0;
        Py_XDECREF(of_item);
        Py_XDECREF(number);
        if (failed) {
            goto done;
        }
    }
    method = PyObject_GetAttrString(keys, "__getitem__");
    sort = PyObject_GetAttrString(numbers, "sort");
    kwargs = method != NULL ? Py_BuildValue("{s:O,s:O}", "key", method, "reverse", reverse) : NULL;
    PyObject *no_args = PyTuple_New(0);
    none = sort != NULL && kwargs != NULL && no_args != NULL ? PyObject_Call(sort, no_args, kwargs) : NULL;
    Py_XDECREF(no_args);
done:
    Py_XDECREF(kwargs);
    Py_XDECREF(sort);
    Py_XDECREF(method);
    Py_XDECREF(keys);
    if (none == NULL) {
        Py_CLEAR(numbers);
    }
    Py_XDECREF(none);
    return numbers;
}

static int
list_arrange(PyObject *self, PyObject *numbers, const uint64_t *version)
{
    size_t count = (size_t)PyList_GET_SIZE(numbers);
    uint64_t *order = PyMem_RawMalloc((count + 1) * sizeof(*order));
    if (order == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        order[i] = PyLong_AsUnsignedLongLong(PyList_GET_ITEM(numbers, (Py_ssize_t)i));
    }
    mpf_entry_give_way(mpf_list_arena(self), mpf_list_shm(self));
    int rc = mpf_list_arrange(mpf_list_arena(self), mpf_list_shm(self), order, version);
    PyMem_RawFree(order);
    if (rc < 0 && rc != -ESTALE) {
        mpf_errors_raise(rc);
        return -1;
    }
    return rc;
}

PyObject *
mpf_list_sort(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"key", "reverse", NULL};
    PyObject *key = Py_None, *reverse = Py_False; /* borrowed */
    uint64_t version;
    int done;
    MPF_SHARED_CHECK(self);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OO:sort", names, &key, &reverse)) {
        return NULL;
    }
    struct mpf_persistence persistence = list_persistence(self);
    do {
        PyObject *plain = mpf_list_to_plain(self, MPF_LIST_ALL, &version);
        PyObject *numbers = plain != NULL ? list_sorted_numbers(plain, key, reverse) : NULL;
        done = numbers != NULL ? list_arrange(self, numbers, &version) : -1;
        Py_XDECREF(plain);
        Py_XDECREF(numbers);
    } while (list_once_more(&persistence, done));
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}
