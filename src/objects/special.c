/*
 * Purpose: descriptors for __enter__ and __exit__ whose bound methods come from a free list.
 *
 * Layout: private memory. A descriptor has the class it is for, the ordinary method and its definition; a bound method
 * has the object and the definition. Up to SPECIAL_KEPT bound methods that were dropped are kept in the module state, linked
 * through `self`.
 *
 * States of a bound method: in use (refcount >= 1, tracked) -> kept (refcount 0, untracked, holds nothing) -> in use.
 *
 * Invariants: a kept one holds no reference, not even to its type; the list is read and written under the GIL only.
 *
 * Callers: the interpreter, attached; mpf_state_own_methods() makes the descriptors.
 *
 * Death of the caller: nothing is shared.
 */
#include "objects/special.h"

#include "objects/shared.h"
#include "objects/types.h"

#define SPECIAL_KEPT 8

struct special_object {
    PyObject_HEAD
    struct mpf_state *state; /* the types belong to the module, which keeps it */
    PyTypeObject *cls;       /* owned */
    PyObject *method;        /* owned */
    PyMethodDef *definition;
};

struct bound_object {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *self; /* owned; the next one where it is kept */
    PyMethodDef *definition;
};

/* Bound methods. */

static PyObject *
bound_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    struct bound_object *bound = (struct bound_object *)op;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    const PyMethodDef *definition = bound->definition;
    if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0) {
        return PyErr_Format(PyExc_TypeError, "%s() takes no keyword arguments", definition->ml_name);
    }
    if (definition->ml_flags & METH_FASTCALL) {
        PyObject *(*function)(PyObject *, PyObject *const *, Py_ssize_t) = (void *)definition->ml_meth;
        return function(bound->self, args, nargs);
    }
    if (nargs != 0) {
        return PyErr_Format(PyExc_TypeError, "%s() takes no arguments (%zd given)", definition->ml_name, nargs);
    }
    return definition->ml_meth(bound->self, NULL);
}

static PyObject *
bound_new(struct mpf_state *state, PyObject *self, PyMethodDef *definition)
{
    struct bound_object *bound = state->bound_kept;
    if (bound != NULL) {
        state->bound_kept = (struct bound_object *)bound->self;
        state->bound_kept_count--;
        (void)PyObject_Init((PyObject *)bound, state->bound_type);
    } else {
        bound = PyObject_GC_New(struct bound_object, state->bound_type);
        if (bound == NULL) {
            return NULL;
        }
        bound->call = bound_call;
    }
    bound->self = Py_NewRef(self);
    bound->definition = definition;
    PyObject_GC_Track(bound);
    return (PyObject *)bound;
}

static void
bound_dealloc(PyObject *op)
{
    struct bound_object *bound = (struct bound_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject *module = ((PyHeapTypeObject *)type)->ht_module; /* borrowed; NULL once the collector has cleared the type */
    struct mpf_state *state = module != NULL ? mpf_state_of(module) : NULL;
    PyObject *self = bound->self; /* owned now */
    PyObject_GC_UnTrack(op);
    if (state != NULL && state->bound_type == type && state->bound_kept_count < SPECIAL_KEPT) {
        bound->self = (PyObject *)state->bound_kept;
        state->bound_kept = bound;
        state->bound_kept_count++;
    } else {
        PyObject_GC_Del(op);
    }
    Py_DECREF(type);
    Py_DECREF(self);
}

static int
bound_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((struct bound_object *)op)->self);
    Py_VISIT(Py_TYPE(op));
    return 0;
}

static PyObject *
bound_get_name(PyObject *op, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(((struct bound_object *)op)->definition->ml_name);
}

static PyMemberDef bound_members[] = {
    {"__vectorcalloffset__", Py_T_PYSSIZET, offsetof(struct bound_object, call), Py_READONLY, NULL},
    {"__self__", Py_T_OBJECT_EX, offsetof(struct bound_object, self), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef bound_getset[] = {
    {"__name__", bound_get_name, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot bound_slots[] = {
    {Py_tp_doc, "A bound __enter__ or __exit__."},
    {Py_tp_dealloc, bound_dealloc},
    {Py_tp_traverse, bound_traverse},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, bound_members},
    {Py_tp_getset, bound_getset},
    {0, NULL},
};

static PyType_Spec bound_spec = {
    .name = "mpfast._core.BoundSpecial",
    .basicsize = sizeof(struct bound_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = bound_slots,
};

/* Descriptors. */

PyObject *
mpf_special_new(struct mpf_state *state, PyTypeObject *cls, PyObject *method, PyMethodDef *definition)
{
    struct special_object *special = PyObject_GC_New(struct special_object, state->special_type);
    if (special == NULL) {
        return NULL;
    }
    special->state = state;
    special->cls = (PyTypeObject *)Py_NewRef(cls);
    special->method = Py_NewRef(method);
    special->definition = definition;
    PyObject_GC_Track(special);
    return (PyObject *)special;
}

static PyObject *
special_get(PyObject *op, PyObject *object, PyObject *Py_UNUSED(type))
{
    struct special_object *special = (struct special_object *)op;
    if (object == NULL) {
        return Py_NewRef(special->method);
    }
    if (!PyObject_TypeCheck(object, special->cls)) {
        return PyErr_Format(PyExc_TypeError, "descriptor '%s' for '%s' objects doesn't apply to a '%s' object",
                            special->definition->ml_name, special->cls->tp_name, Py_TYPE(object)->tp_name);
    }
    return bound_new(special->state, object, special->definition);
}

static int
special_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct special_object *special = (struct special_object *)op;
    Py_VISIT(special->cls);
    Py_VISIT(special->method);
    Py_VISIT(Py_TYPE(op));
    return 0;
}

/* No tp_clear: the class, which every cycle goes through, clears its dictionary. */
static void
special_dealloc(PyObject *op)
{
    struct special_object *special = (struct special_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_XDECREF(special->cls);
    Py_XDECREF(special->method);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyType_Slot special_slots[] = {
    {Py_tp_doc, "An __enter__ or __exit__ that a with statement gets at quickly."},
    {Py_tp_dealloc, special_dealloc},
    {Py_tp_traverse, special_traverse},
    {Py_tp_descr_get, special_get},
    {0, NULL},
};

static PyType_Spec special_spec = {
    .name = "mpfast._core.Special",
    .basicsize = sizeof(struct special_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = special_slots,
};

void
mpf_special_forget(struct mpf_state *state)
{
    while (state->bound_kept != NULL) {
        struct bound_object *bound = state->bound_kept;
        state->bound_kept = (struct bound_object *)bound->self;
        PyObject_GC_Del(bound);
    }
    state->bound_kept_count = SPECIAL_KEPT; /* none is kept from now on */
}

int
mpf_special_register(PyObject *module)
{
    struct mpf_state *state = mpf_state_of(module);
    if (mpf_state_add_type(module, &bound_spec, NULL, &state->bound_type) < 0) {
        return -1;
    }
    return mpf_state_add_type(module, &special_spec, NULL, &state->special_type);
}
