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

#include "objects/types.h"

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
    if (mpf_synchronized_check_bound(self) < 0) {
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

/* Python's view. */

static PyObject *
synchronized_get_obj(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return mpf_synchronized_obj((struct mpf_synchronized *)op);
}

static PyObject *
synchronized_get_lock(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return mpf_synchronized_lock((struct mpf_synchronized *)op);
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
    if (mpf_synchronized_check_bound(self) < 0 || mpf_synchronized_leave(self) < 0) {
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
    return mpf_synchronized_lock((struct mpf_synchronized *)op);
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
    PyObject *lock = mpf_synchronized_lock(self);
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
    return mpf_synchronized_bind_lock(self, value);
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
    mpf_synchronized_unbind_lock(self);
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
    {"_create_value", (PyCFunction)(void (*)(void))mpf_synchronized_create_value, METH_FASTCALL | METH_CLASS,
     create_value_doc},
    {"_create_array", (PyCFunction)(void (*)(void))mpf_synchronized_create_array, METH_FASTCALL | METH_CLASS,
     create_array_doc},
    {"_attach", (PyCFunction)(void (*)(void))mpf_synchronized_attach, METH_FASTCALL | METH_CLASS, attach_doc},
    {"_bind", mpf_synchronized_bind, METH_VARARGS, bind_doc},
    {"_parts", mpf_synchronized_parts, METH_NOARGS, parts_doc},
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

static PyMethodDef synchronized_functions[] = {
    {"_set_simple_types", mpf_synchronized_set_simple_types, METH_O, NULL},
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
