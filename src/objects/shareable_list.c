/*
 * Purpose: the type ShareableList: items of a list in a SharedMemory, read and written in place.
 *
 * Layout of the memory, which is the standard library's; n items, native byte order:
 *
 *     | n, 8 bytes | offset of each item and of the end, 8 (n + 1) | items | format of each, 8 n | code of each, n |
 *
 * Offsets count from where the items begin. A format is that of the struct module, padded with NULs: "q", "d", "xxxxxxx?",
 * "xxxxxx?x", or "<bytes>s". A code says what to make of the item: 0 itself, 1 str, 2 bytes, 3 None.
 *
 * States: without a list (`shm` is unset, or no SharedMemory of ours) -> with one; follows the attribute `shm`.
 *
 * Invariants: this type does what is plain to see. Everything else (a list whose memory is closed, an index that is no int
 * or out of range, a value of another type or that does not fit, memory that makes no sense) goes to the standard
 * library's method, so that results and exceptions are those of the running version. Nothing that the memory says is
 * believed before it was compared with the size of the mapping.
 *
 * Callers: Python code, attached to the interpreter. As in the standard library, accesses by several processes are not
 * synchronised.
 *
 * Death of the caller: in the middle of an assignment, the item may have its new format and its old bytes.
 */
#include <Python.h>

#include <stdbool.h>
#include <string.h>

#include "objects/mapping.h"
#include "objects/types.h"

#define WORD 8
#define CODE_VALUE 0
#define CODE_STR 1
#define CODE_BYTES 2
#define CODE_NONE 3
#define FORMAT_INT "q\0\0\0\0\0\0"
#define FORMAT_FLOAT "d\0\0\0\0\0\0"
#define FORMAT_BOOL "xxxxxxx?"
#define FORMAT_NONE "xxxxxx?x"

struct shareable_list {
    PyObject_HEAD
    struct mpf_state *state;
    PyObject *shm;               /* owned, may be NULL */
    struct mpf_mapping *mapping; /* owned, may be NULL: the memory of shm */
};

/* Where one item is. */
struct place {
    char *data, *format, *code;
    int64_t room; /* bytes of data */
};

static int64_t
list_word(const char *at)
{
    int64_t word;
    memcpy(&word, at, sizeof(word));
    return word;
}

/* Finds item `index` in memory that is pinned. False: not there, or the memory makes no sense. */
static bool
list_locate(const struct mpf_mapping *mapping, Py_ssize_t index, struct place *place)
{
    if (mapping->size < 2 * WORD) {
        return false;
    }
    int64_t length = list_word(mapping->base), most = mapping->size / WORD;
    if (length < 0 || length > most - 2) {
        return false;
    }
    index += index < 0 ? length : 0;
    if (index < 0 || index >= length) {
        return false;
    }
    const char *offsets = mapping->base + WORD;
    int64_t start = list_word(offsets + index * WORD), end = list_word(offsets + (index + 1) * WORD);
    int64_t bytes = list_word(offsets + length * WORD), items = (length + 2) * WORD;
    if (start < 0 || end - start < WORD || end > bytes || bytes > mapping->size - items - length * (WORD + 1)) {
        return false;
    }
    char *formats = mapping->base + items + bytes;
    place->data = mapping->base + items + start;
    place->room = end - start;
    place->format = formats + index * WORD;
    place->code = formats + length * WORD + index;
    return true;
}

/* The bytes that a format "<bytes>s" stands for, -1 for any other. */
static int64_t
list_string_bytes(const char *format)
{
    int64_t bytes = 0;
    int i = 0;
    for (; i < WORD && format[i] >= '0' && format[i] <= '9'; i++) {
        bytes = bytes * 10 + (format[i] - '0');
    }
    return i > 0 && i < WORD && format[i] == 's' && (i + 1 == WORD || format[i + 1] == '\0') ? bytes : -1;
}

/* *value gets a new reference. False where the standard library has to look; no exception is set. */
static bool
list_load(const struct place *place, PyObject **value)
{
    int64_t bytes;
    switch (*place->code) {
    case CODE_VALUE:
        if (memcmp(place->format, FORMAT_INT, WORD) == 0) {
            *value = PyLong_FromLongLong(list_word(place->data));
        } else if (memcmp(place->format, FORMAT_FLOAT, WORD) == 0) {
            double number;
            memcpy(&number, place->data, sizeof(number));
            *value = PyFloat_FromDouble(number);
        } else if (memcmp(place->format, FORMAT_BOOL, WORD) == 0) {
            *value = Py_NewRef(place->data[WORD - 1] != 0 ? Py_True : Py_False);
        } else {
            return false;
        }
        break;
    case CODE_STR:
    case CODE_BYTES:
        bytes = list_string_bytes(place->format);
        if (bytes < 0 || bytes > place->room) {
            return false;
        }
        while (bytes > 0 && place->data[bytes - 1] == '\0') {
            bytes--;
        }
        *value = *place->code == CODE_STR ? PyUnicode_DecodeUTF8(place->data, bytes, NULL)
                                          : PyBytes_FromStringAndSize(place->data, bytes);
        break;
    case CODE_NONE:
        *value = Py_NewRef(Py_None);
        break;
    default:
        return false;
    }
    if (*value == NULL) {
        PyErr_Clear();
    }
    return *value != NULL;
}

static void
list_describe(const struct place *place, const char *format, char code)
{
    memcpy(place->format, format, WORD);
    *place->code = code;
}

static bool
list_store_string(const struct place *place, const char *string, Py_ssize_t bytes, char code)
{
    int64_t present = list_string_bytes(place->format);
    char format[32] = {0};
    if (bytes > place->room || (present >= 0 && present != place->room) || place->format[WORD - 1] != '\0') {
        return false;
    }
    int length = snprintf(format, sizeof(format), "%llds", (long long)place->room);
    if (length >= WORD) {
        return false;
    }
    list_describe(place, format, code);
    memcpy(place->data, string, (size_t)bytes);
    memset(place->data + bytes, 0, (size_t)(place->room - bytes));
    return true;
}

static bool
list_store_int(const struct place *place, PyObject *value)
{
    int overflow;
    int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0) {
        return false;
    }
    list_describe(place, FORMAT_INT, CODE_VALUE);
    memcpy(place->data, &number, sizeof(number));
    return true;
}

/* False where the standard library has to do it; no exception is set. */
static bool
list_store(const struct place *place, PyObject *value)
{
    if (PyLong_CheckExact(value)) {
        return list_store_int(place, value);
    }
    if (PyFloat_CheckExact(value)) {
        double number = PyFloat_AS_DOUBLE(value);
        list_describe(place, FORMAT_FLOAT, CODE_VALUE);
        memcpy(place->data, &number, sizeof(number));
        return true;
    }
    if (PyBool_Check(value) || value == Py_None) {
        list_describe(place, value == Py_None ? FORMAT_NONE : FORMAT_BOOL, value == Py_None ? CODE_NONE : CODE_VALUE);
        memset(place->data, 0, WORD);
        place->data[WORD - 1] = value == Py_True;
        return true;
    }
    if (PyBytes_CheckExact(value)) {
        return list_store_string(place, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), CODE_BYTES);
    }
    if (PyUnicode_CheckExact(value)) {
        Py_ssize_t bytes;
        const char *string = PyUnicode_AsUTF8AndSize(value, &bytes);
        if (string == NULL) {
            PyErr_Clear();
            return false;
        }
        return list_store_string(place, string, bytes, CODE_STR);
    }
    return false;
}

/* The index that `key` is. False: no int, or too long for one. */
static bool
list_index(PyObject *key, Py_ssize_t *index)
{
    if (!PyLong_CheckExact(key)) {
        return false;
    }
    *index = PyLong_AsSsize_t(key);
    if (*index == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return true;
}

/* The standard library's method of that name, bound to nothing. New reference. */
static PyObject *
list_original(struct shareable_list *self, const char *name)
{
    if (self->state->shareable_list_original == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "ShareableList is not set up");
        return NULL;
    }
    return PyObject_GetAttrString(self->state->shareable_list_original, name);
}

static PyObject *
list_subscript(PyObject *op, PyObject *key)
{
    struct shareable_list *self = (struct shareable_list *)op;
    Py_ssize_t index;
    if (self->mapping != NULL && list_index(key, &index) && mpf_mapping_pin(self->mapping)) {
        struct place place;
        PyObject *value;
        bool loaded = list_locate(self->mapping, index, &place) && list_load(&place, &value);
        mpf_mapping_unpin(self->mapping);
        if (loaded) {
            return value;
        }
    }
    PyObject *method = list_original(self, "__getitem__");
    PyObject *value = method != NULL ? PyObject_CallFunctionObjArgs(method, op, key, NULL) : NULL;
    Py_XDECREF(method);
    return value;
}

static int
list_assign(PyObject *op, PyObject *key, PyObject *value)
{
    struct shareable_list *self = (struct shareable_list *)op;
    Py_ssize_t index;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "__delitem__");
        return -1;
    }
    if (self->mapping != NULL && list_index(key, &index) && mpf_mapping_pin(self->mapping)) {
        struct place place;
        bool stored = list_locate(self->mapping, index, &place) && list_store(&place, value);
        mpf_mapping_unpin(self->mapping);
        if (stored) {
            return 0;
        }
    }
    PyObject *method = list_original(self, "__setitem__");
    PyObject *done = method != NULL ? PyObject_CallFunctionObjArgs(method, op, key, value, NULL) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static PyObject *
list_get_shm(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *shm = ((struct shareable_list *)op)->shm;
    if (shm == NULL) {
        PyErr_Format(PyExc_AttributeError, "'%s' object has no attribute 'shm'", Py_TYPE(op)->tp_name);
        return NULL;
    }
    return Py_NewRef(shm);
}

static int
list_set_shm(PyObject *op, PyObject *shm, void *Py_UNUSED(closure))
{
    struct shareable_list *self = (struct shareable_list *)op;
    self->state = mpf_state_of_type(Py_TYPE(op));
    if (self->state == NULL) {
        return -1;
    }
    PyObject *mapping = shm != NULL ? PyObject_GetAttrString(shm, "_mmap") : NULL;
    if (mapping == NULL) {
        PyErr_Clear();
    } else if (!Py_IS_TYPE(mapping, self->state->mapping_type)) {
        Py_CLEAR(mapping);
    }
    Py_XSETREF(self->mapping, (struct mpf_mapping *)mapping);
    Py_XSETREF(self->shm, Py_XNewRef(shm));
    return 0;
}

static int
list_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((struct shareable_list *)op)->shm);
    return 0;
}

static int
list_clear(PyObject *op)
{
    Py_CLEAR(((struct shareable_list *)op)->mapping);
    Py_CLEAR(((struct shareable_list *)op)->shm);
    return 0;
}

static void
list_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)list_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
list_set_original(PyObject *module, PyObject *class)
{
    Py_XSETREF(mpf_state_of(module)->shareable_list_original, Py_NewRef(class));
    Py_RETURN_NONE;
}

static PyGetSetDef list_getset[] = {
    {"shm", list_get_shm, list_set_shm, "the SharedMemory that the list is in", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot list_slots[] = {
    {Py_tp_doc, "Items of a list in a SharedMemory."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, list_dealloc},
    {Py_tp_traverse, list_traverse},
    {Py_tp_clear, list_clear},
    {Py_tp_getset, list_getset},
    {Py_mp_subscript, list_subscript},
    {Py_mp_ass_subscript, list_assign},
    {0, NULL},
};

static PyType_Spec list_spec = {
    .name = "mpfast._core.ShareableList",
    .basicsize = sizeof(struct shareable_list),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = list_slots,
};

static PyMethodDef list_functions[] = {
    {"_set_shareable_list", list_set_original, METH_O,
     "_set_shareable_list($module, cls, /)\n--\n\nHave ShareableList leave what is not plain to see to cls."},
    {NULL, NULL, 0, NULL},
};

int
mpf_shareable_list_register(PyObject *module)
{
    if (PyModule_AddFunctions(module, list_functions) < 0) {
        return -1;
    }
    return mpf_state_add_type(module, &list_spec, NULL, NULL);
}
