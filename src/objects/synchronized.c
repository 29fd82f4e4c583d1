/*
 * Purpose: the type SynchronizedBase: a ctypes object in shared memory together with a lock.
 *
 * Layout: one Storage holds lock and data where create() made the object; an object made of a user's ctypes object or with
 * a user's lock refers to those.
 *
 *     Synchronized -- storage --> Storage -- ref --> block [ mutex | data ]
 *          |  \-- obj (lazily) --> ctypes object --> memoryview --> Storage
 *          \----- lock (lazily) --> RLock -- ref --> the same block
 *
 * States: bare (after __new__) -> bound, by create(), _bind() or assignment to _obj and _lock.
 *
 * Invariants: item != NULL implies that data points into `storage` and `type` is set. With item == NULL every access goes
 * through `obj`. mutex != NULL says that acquire() and release() of the lock are the native ones, not overridden.
 *
 * Callers: Python code, and the files of the types that derive from this one, attached to the interpreter. Nothing runs
 * Python code under the lock but what a ctypes object of the user's does.
 *
 * Death of the caller: while it has the lock: the next one gets it with OwnerDiedWarning, as for an RLock; elements are
 * whole, arrays may be half changed.
 */
#include "objects/synchronized.h"

#include <errno.h>

#include "objects/errors.h"
#include "objects/lock.h"
#include "objects/types.h"
#include "objects/wait.h"

#if PY_VERSION_HEX < 0x030D0000
#define Py_BEGIN_CRITICAL_SECTION(op) {
#define Py_END_CRITICAL_SECTION() }
#endif

static int
synchronized_check_bound(struct mpf_synchronized *self)
{
    if (self->state == NULL) {
        PyErr_Format(PyExc_AttributeError, "'%s' object has no attribute '_obj'", Py_TYPE(self)->tp_name);
        return -1;
    }
    return 0;
}

/* The lock. */

static int
synchronized_drop(struct mpf_synchronized *self)
{
    return self->recursive ? mpf_rmutex_release(self->arena, self->mutex, mpf_synchronized_thread())
                           : mpf_mutex_release(self->arena, self->mutex);
}

static int
synchronized_try(struct mpf_synchronized *self)
{
    return self->recursive ? mpf_rmutex_try(self->arena, self->mutex, mpf_synchronized_thread())
                           : mpf_mutex_try(self->arena, self->mutex, mpf_synchronized_thread());
}

static int
synchronized_wait(struct mpf_synchronized *self)
{
    struct mpf_wait wait;
    mpf_wait_init(&wait, self->arena, MPF_FOREVER);
    return self->recursive ? mpf_rmutex_acquire(&wait.park, self->mutex, mpf_synchronized_thread())
                           : mpf_mutex_acquire(&wait.park, self->mutex, mpf_synchronized_thread());
}

static int
synchronized_call(PyObject *method)
{
    PyObject *result = PyObject_CallNoArgs(method);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

int
mpf_synchronized_enter_slow(struct mpf_synchronized *self)
{
    if (synchronized_check_bound(self) < 0) {
        return -1;
    }
    if (self->mutex == NULL) {
        return synchronized_call(self->acquire);
    }
    int tried = synchronized_try(self);
    if (tried < 0) {
        tried = synchronized_wait(self);
    }
    if (tried == 1 && mpf_errors_owner_died(self->state, (PyObject *)self) < 0) {
        (void)synchronized_drop(self);
        return -1;
    }
    if (tried < 0) {
        mpf_errors_raise(tried);
        return -1;
    }
    return 0;
}

int
mpf_synchronized_leave_slow(struct mpf_synchronized *self)
{
    PyObject *type, *value, *traceback;
    int result = 0;
    PyErr_Fetch(&type, &value, &traceback);
    if (self->mutex == NULL) {
        result = synchronized_call(self->release);
    } else if (synchronized_drop(self) < 0) {
        PyErr_SetString(self->recursive ? PyExc_AssertionError : PyExc_ValueError,
                        self->recursive ? "attempt to release recursive lock not owned by thread"
                                        : "semaphore or lock released too many times");
        result = -1;
    }
    if (type != NULL) {
        PyErr_Restore(type, value, traceback); /* steals them; what release raised gives way */
    }
    return result;
}

static void
synchronized_unbind_lock(struct mpf_synchronized *self)
{
    self->recursive = false;
    self->mutex = NULL;
    Py_CLEAR(self->lock);
    Py_CLEAR(self->acquire);
    Py_CLEAR(self->release);
}

/* Uses the lock that lies in the storage. */
static void
synchronized_embed_lock(struct mpf_synchronized *self, struct mpf_storage *storage)
{
    self->arena = storage->shared.ref.arena;
    self->mutex = storage->mutex;
    self->recursive = true;
}

/* Uses the user's lock, without going through its methods where they are ours. 0 or -1. */
static int
synchronized_bind_lock(struct mpf_synchronized *self, PyObject *lock)
{
    synchronized_unbind_lock(self);
    if (mpf_lock_is_native(self->state, lock)) {
        struct mpf_shared *shared = (struct mpf_shared *)lock;
        self->arena = shared->ref.arena;
        self->recursive = PyObject_TypeCheck(lock, self->state->rlock_type);
        self->lock = Py_NewRef(lock);
        self->mutex = shared->shm;
        return 0;
    }
    self->acquire = PyObject_GetAttrString(lock, "acquire");
    self->release = self->acquire != NULL ? PyObject_GetAttrString(lock, "release") : NULL;
    if (self->release == NULL) {
        return -1;
    }
    self->lock = Py_NewRef(lock);
    return 0;
}

/* New reference to the lock object. */
static PyObject *
synchronized_lock(struct mpf_synchronized *self)
{
    if (self->lock != NULL) {
        return Py_NewRef(self->lock);
    }
    if (synchronized_check_bound(self) < 0) {
        return NULL;
    }
    if (self->mutex == NULL || self->storage == NULL) {
        PyErr_Format(PyExc_AttributeError, "'%s' object has no attribute '_lock'", Py_TYPE(self)->tp_name);
        return NULL;
    }
    PyObject *lock = mpf_storage_lock((struct mpf_storage *)self->storage);
    if (lock == NULL) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->lock == NULL) {
        self->lock = Py_NewRef(lock);
    } else {
        Py_SETREF(lock, Py_NewRef(self->lock));
    }
    Py_END_CRITICAL_SECTION();
    return lock;
}

/* The ctypes object. */

static PyObject *
synchronized_make_obj(struct mpf_synchronized *self)
{
    if (self->item == NULL) {
        PyErr_Format(PyExc_AttributeError, "'%s' object has no attribute '_obj'", Py_TYPE(self)->tp_name);
        return NULL;
    }
    PyObject *module = PyImport_ImportModule("mpfast.sharedctypes");
    if (module == NULL) {
        return NULL;
    }
    PyObject *length = self->length < 0 ? Py_NewRef(Py_None) : PyLong_FromSsize_t(self->length);
    PyObject *obj = NULL;
    if (length != NULL) {
        obj = PyObject_CallMethod(module, "rebuild_ctype", "OOO", self->type, self->storage, length);
        Py_DECREF(length);
    }
    Py_DECREF(module);
    return obj;
}

PyObject *
mpf_synchronized_obj(struct mpf_synchronized *self)
{
    if (self->obj != NULL) {
        return Py_NewRef(self->obj);
    }
    PyObject *obj = synchronized_make_obj(self);
    if (obj == NULL) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->obj == NULL) {
        self->obj = Py_NewRef(obj);
    } else {
        Py_SETREF(obj, Py_NewRef(self->obj));
    }
    Py_END_CRITICAL_SECTION();
    return obj;
}

PyObject *
mpf_synchronized_getattr(struct mpf_synchronized *self, const char *name)
{
    PyObject *obj = mpf_synchronized_obj(self);
    PyObject *result = NULL;
    if (obj != NULL && mpf_synchronized_enter(self) == 0) {
        result = mpf_synchronized_return(self, PyObject_GetAttrString(obj, name));
    }
    Py_XDECREF(obj);
    return result;
}

int
mpf_synchronized_setattr(struct mpf_synchronized *self, const char *name, PyObject *value)
{
    PyObject *obj = mpf_synchronized_obj(self);
    int result = -1;
    if (obj != NULL && mpf_synchronized_enter(self) == 0) {
        result = PyObject_SetAttrString(obj, name, value);
        if (mpf_synchronized_leave(self) < 0) {
            result = -1;
        }
    }
    Py_XDECREF(obj);
    return result;
}

/* New reference to a private object of the element's type, or to an array of one. */
static PyObject *
synchronized_scratch(struct mpf_synchronized *self, bool array)
{
    if (!array) {
        return PyObject_CallNoArgs(self->type);
    }
    PyObject *module = PyImport_ImportModule("mpfast.sharedctypes");
    PyObject *type = module != NULL ? PyObject_CallMethod(module, "_array_type", "Oi", self->type, 1) : NULL;
    Py_XDECREF(module);
    PyObject *scratch = type != NULL ? PyObject_CallNoArgs(type) : NULL;
    Py_XDECREF(type);
    return scratch;
}

int
mpf_synchronized_convert(struct mpf_synchronized *self, PyObject *value, bool array, char *at)
{
    PyObject *scratch = synchronized_scratch(self, array);
    if (scratch == NULL) {
        return -1;
    }
    int result = array ? PySequence_SetItem(scratch, 0, value) : PyObject_SetAttrString(scratch, "value", value);
    Py_buffer view;
    if (result == 0 && (result = PyObject_GetBuffer(scratch, &view, PyBUF_SIMPLE)) == 0) {
        memcpy(at, view.buf, self->item->size);
        PyBuffer_Release(&view);
    }
    Py_DECREF(scratch);
    return result;
}

/* Arithmetic. */

int
mpf_synchronized_check_integer(struct mpf_synchronized *self)
{
    if (synchronized_check_bound(self) < 0) {
        return -1;
    }
    if (self->item == NULL || !self->item->integer) {
        PyErr_Format(PyExc_TypeError, "atomic operations need a '%s' of a C integer type in shared memory",
                     Py_TYPE(self)->tp_name);
        return -1;
    }
    return 0;
}

PyObject *
mpf_synchronized_combine(struct mpf_synchronized *self, char *at, enum mpf_item_operation operation, PyObject *value)
{
    _Alignas(MPF_ITEM_MAX) char operand[MPF_ITEM_MAX], old[MPF_ITEM_MAX];
    if (mpf_synchronized_store(self, value, false, operand) < 0 || mpf_synchronized_enter(self) < 0) {
        return NULL;
    }
    mpf_item_combine(self->item, at, operation, operand, old);
    if (mpf_synchronized_leave(self) < 0) {
        return NULL;
    }
    return self->item->load(old);
}

/* Making one. */

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
        synchronized_embed_lock(self, (struct mpf_storage *)storage);
    }
    Py_DECREF(storage);
    return self;
}

static PyObject *
synchronized_create_value(PyObject *class, PyObject *const *args, Py_ssize_t nargs)
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

static PyObject *
synchronized_create_array(PyObject *class, PyObject *const *args, Py_ssize_t nargs)
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

static PyObject *
synchronized_attach(PyObject *class, PyObject *const *args, Py_ssize_t nargs)
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
        synchronized_embed_lock(self, storage);
    } else if (synchronized_bind_lock(self, args[3]) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* _bind(obj, lock, native): native is None or (type, length) where obj is that and nothing else, at the start of its Storage. */
static PyObject *
synchronized_bind(PyObject *op, PyObject *args)
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
        result = synchronized_bind_lock(self, lock);
    } else if (memory != NULL && memory->mutex != NULL) {
        Py_XSETREF(self->storage, Py_NewRef(storage));
        synchronized_embed_lock(self, memory);
    } else {
        PyErr_SetString(PyExc_ValueError, "the object has no lock of its own");
        result = -1;
    }
    Py_XDECREF(storage);
    return result == 0 && !PyErr_Occurred() ? Py_NewRef(Py_None) : NULL;
}

/* (typecode or None, length or None, storage or None, lock or None for the storage's own): what sharedctypes pickles. */
static PyObject *
synchronized_parts(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (synchronized_check_bound(self) < 0) {
        return NULL;
    }
    bool embedded = self->mutex != NULL && self->storage != NULL &&
                    self->mutex == ((struct mpf_storage *)self->storage)->mutex;
    PyObject *code = self->item != NULL ? PyUnicode_FromFormat("%c", self->item->code) : Py_NewRef(Py_None);
    PyObject *length = self->item != NULL && self->length >= 0 ? PyLong_FromSsize_t(self->length) : Py_NewRef(Py_None);
    PyObject *lock = embedded ? Py_NewRef(Py_None) : synchronized_lock(self);
    return Py_BuildValue("(NNON)", code, length, self->storage != NULL ? self->storage : Py_None, lock);
}

/* Python's view. */

static PyObject *
synchronized_get_obj(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return mpf_synchronized_obj((struct mpf_synchronized *)op);
}

static PyObject *
synchronized_get_lock(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return synchronized_lock((struct mpf_synchronized *)op);
}

static PyObject *
synchronized_enter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (self->mutex == NULL && self->lock != NULL) {
        return PyObject_CallMethod(self->lock, "__enter__", NULL);
    }
    if (mpf_synchronized_enter(self) < 0) {
        return NULL;
    }
    Py_RETURN_TRUE;
}

static PyObject *
synchronized_exit(PyObject *op, PyObject *args)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (self->mutex == NULL && self->lock != NULL) {
        PyObject *exit = PyObject_GetAttrString(self->lock, "__exit__");
        PyObject *result = exit != NULL ? PyObject_CallObject(exit, args) : NULL;
        Py_XDECREF(exit);
        return result;
    }
    if (synchronized_check_bound(self) < 0 || mpf_synchronized_leave(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
synchronized_obj_getter(PyObject *op, void *Py_UNUSED(closure))
{
    return mpf_synchronized_obj((struct mpf_synchronized *)op);
}

static PyObject *
synchronized_lock_getter(PyObject *op, void *Py_UNUSED(closure))
{
    return synchronized_lock((struct mpf_synchronized *)op);
}

/* acquire and release are attributes of the object that hold the lock's bound methods. */
static PyObject *
synchronized_method_getter(PyObject *op, void *name)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    PyObject *own = strcmp(name, "acquire") == 0 ? self->acquire : self->release;
    if (own != NULL) {
        return Py_NewRef(own);
    }
    PyObject *lock = synchronized_lock(self);
    PyObject *method = lock != NULL ? PyObject_GetAttrString(lock, name) : NULL;
    Py_XDECREF(lock);
    return method;
}

static int
synchronized_prepare_assignment(struct mpf_synchronized *self, PyObject *value, const char *name)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, name);
        return -1;
    }
    if (self->state == NULL) {
        self->state = mpf_state_of_type(Py_TYPE(self));
    }
    return self->state != NULL ? 0 : -1;
}

/* Assignments come from subclasses with an __init__ of their own: from then on all goes through the ctypes object. */
static int
synchronized_obj_setter(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (synchronized_prepare_assignment(self, value, "_obj") < 0) {
        return -1;
    }
    self->item = NULL;
    Py_XSETREF(self->obj, Py_NewRef(value));
    return 0;
}

static int
synchronized_lock_setter(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (synchronized_prepare_assignment(self, value, "_lock") < 0) {
        return -1;
    }
    return synchronized_bind_lock(self, value);
}

static int
synchronized_method_setter(PyObject *op, PyObject *value, void *name)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    if (synchronized_prepare_assignment(self, value, name) < 0) {
        return -1;
    }
    PyObject **slot = strcmp(name, "acquire") == 0 ? &self->acquire : &self->release;
    PyObject **other = slot == &self->acquire ? &self->release : &self->acquire;
    if (*other == NULL && self->mutex != NULL) {
        *other = synchronized_method_getter(op, slot == &self->acquire ? "release" : "acquire");
        if (*other == NULL) {
            return -1;
        }
    }
    if (*other != NULL) {
        self->recursive = false;
        self->mutex = NULL;
    }
    Py_XSETREF(*slot, Py_NewRef(value));
    return 0;
}

static int
synchronized_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->storage);
    Py_VISIT(self->type);
    Py_VISIT(self->obj);
    Py_VISIT(self->lock);
    Py_VISIT(self->acquire);
    Py_VISIT(self->release);
    return 0;
}

static int
synchronized_clear(PyObject *op)
{
    struct mpf_synchronized *self = (struct mpf_synchronized *)op;
    self->item = NULL;
    synchronized_unbind_lock(self);
    self->state = NULL;
    Py_CLEAR(self->obj);
    Py_CLEAR(self->type);
    Py_CLEAR(self->storage);
    return 0;
}

static void
synchronized_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)synchronized_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

PyDoc_STRVAR(get_obj_doc,
"get_obj($self, /)\n--\n\nThe ctypes object itself; access to it takes no lock.");
PyDoc_STRVAR(get_lock_doc,
"get_lock($self, /)\n--\n\nThe lock that every access through this object takes.");
PyDoc_STRVAR(create_value_doc,
"_create_value($type, typecode_or_type, args, /)\n--\n\n"
"A new value with a lock of its own; None where typecode_or_type or args are for ctypes to judge.");
PyDoc_STRVAR(create_array_doc,
"_create_array($type, typecode_or_type, size_or_initializer, /)\n--\n\n"
"A new array with a lock of its own; None where typecode_or_type or the size are for ctypes to judge.");
PyDoc_STRVAR(attach_doc,
"_attach($type, typecode_or_type, storage, length, lock, /)\n--\n\n"
"An object on a Storage that exists already; length None: a value; lock None: the storage's own.");
PyDoc_STRVAR(bind_doc,
"_bind($self, obj, lock, typecode_or_type=None, length=None, /)\n--\n\n"
"Wrap obj.  lock None: that of obj's Storage.  typecode_or_type: what obj is made of, where it is simple.");
PyDoc_STRVAR(parts_doc,
"_parts($self, /)\n--\n\n(typecode, length, storage, lock), each None where there is none of its own.");

static PyMethodDef synchronized_methods[] = {
    {"get_obj", synchronized_get_obj, METH_NOARGS, get_obj_doc},
    {"get_lock", synchronized_get_lock, METH_NOARGS, get_lock_doc},
    {"__enter__", synchronized_enter, METH_NOARGS, NULL},
    {"__exit__", synchronized_exit, METH_VARARGS, NULL},
    {"_create_value", (PyCFunction)(void (*)(void))synchronized_create_value, METH_FASTCALL | METH_CLASS,
     create_value_doc},
    {"_create_array", (PyCFunction)(void (*)(void))synchronized_create_array, METH_FASTCALL | METH_CLASS,
     create_array_doc},
    {"_attach", (PyCFunction)(void (*)(void))synchronized_attach, METH_FASTCALL | METH_CLASS, attach_doc},
    {"_bind", synchronized_bind, METH_VARARGS, bind_doc},
    {"_parts", synchronized_parts, METH_NOARGS, parts_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef synchronized_getset[] = {
    {"_obj", synchronized_obj_getter, synchronized_obj_setter, "the ctypes object", NULL},
    {"_lock", synchronized_lock_getter, synchronized_lock_setter, "the lock", NULL},
    {"acquire", synchronized_method_getter, synchronized_method_setter, "the lock's acquire()", "acquire"},
    {"release", synchronized_method_getter, synchronized_method_setter, "the lock's release()", "release"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot synchronized_slots[] = {
    {Py_tp_doc, "A ctypes object in shared memory together with a lock."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, synchronized_dealloc},
    {Py_tp_traverse, synchronized_traverse},
    {Py_tp_clear, synchronized_clear},
    {Py_tp_methods, synchronized_methods},
    {Py_tp_getset, synchronized_getset},
    {0, NULL},
};

static PyType_Spec synchronized_spec = {
    .name = "mpfast._core.SynchronizedBase",
    .basicsize = sizeof(struct mpf_synchronized),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = synchronized_slots,
};

/* set_simple_types({typecode or type: (type, ord(letter))}): once, by mpfast.sharedctypes, which imports ctypes. */
static PyObject *
synchronized_set_simple_types(PyObject *module, PyObject *types)
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

static PyMethodDef synchronized_functions[] = {
    {"_set_simple_types", synchronized_set_simple_types, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

int
mpf_synchronized_register(PyObject *module)
{
    struct mpf_state *state = mpf_state_of(module);
    if (mpf_state_add_type(module, &synchronized_spec, NULL, &state->synchronized_type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, synchronized_functions);
}
