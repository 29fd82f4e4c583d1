/*
 * Purpose: take what a pickler produces into an encoder, large things without copying them.
 *
 * Layout: no shared memory.
 *
 * States: idle (no encoder) <-> in use by one dump.
 *
 * Invariants: has an encoder exactly while mpf_pickling_encode runs a dump on it.
 *
 * Callers: picklers, attached to the interpreter.
 *
 * Death of the caller: nothing is shared.
 */
#include "codec/sink.h"

struct sink {
    PyObject_HEAD
    struct mpf_encoder *encoder; /* borrowed, or NULL */
};

static struct mpf_encoder *
encoder_of(PyObject *self)
{
    struct mpf_encoder *e = ((struct sink *)self)->encoder;
    if (!e)
        PyErr_SetString(PyExc_ValueError, "write to the file of a pickler that is not in use");
    return e;
}

static PyObject *
sink_write(PyObject *self, PyObject *data)
{
    struct mpf_encoder *e = encoder_of(self);
    Py_buffer view;
    int failed;
    if (!e)
        return NULL;
    if (PyBytes_CheckExact(data)) {
        size_t bytes = (size_t)PyBytes_GET_SIZE(data);
        if (bytes >= MPF_ENCODER_PIECE_MIN)
            failed = mpf_encoder_add_piece(e, data, PyBytes_AS_STRING(data), bytes);
        else
            failed = mpf_encoder_append(e, PyBytes_AS_STRING(data), bytes);
        return failed ? NULL : Py_NewRef(Py_None);
    }
    /* Whatever else it is may be gone when this returns. */
    if (PyObject_GetBuffer(data, &view, PyBUF_CONTIG_RO) < 0)
        return NULL;
    failed = mpf_encoder_append(e, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return failed ? NULL : Py_NewRef(Py_None);
}

/* buffer_callback: false keeps the buffer out of the pickle. */
static PyObject *
sink_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct mpf_encoder *e = encoder_of(self);
    PyObject *buffer;
    const Py_buffer *view;
    if (!e || !PyArg_ParseTuple(args, "O", &buffer))
        return NULL;
    if (kwargs && PyDict_GET_SIZE(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "keyword arguments given");
        return NULL;
    }
    view = PyPickleBuffer_GetBuffer(buffer);
    if (!view)
        return NULL;
    if (view->len < MPF_SINK_BUFFER_MIN)
        return Py_NewRef(Py_True);
    if (mpf_encoder_add_buffer(e, buffer) < 0)
        return NULL;
    return Py_NewRef(Py_False);
}

static void
sink_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMethodDef sink_methods[] = {
    {"write", sink_write, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sink_slots[] = {
    {Py_tp_dealloc, sink_dealloc},
    {Py_tp_methods, sink_methods},
    {Py_tp_call, sink_call},
    {0, NULL},
};

static PyType_Spec sink_spec = {
    .name = "mpfast._core._Sink",
    .basicsize = sizeof(struct sink),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = sink_slots,
};

PyObject *
mpf_sink_new_type(void)
{
    return PyType_FromSpec(&sink_spec);
}

PyObject *
mpf_sink_new(PyObject *type)
{
    struct sink *sink = PyObject_New(struct sink, (PyTypeObject *)type);
    if (sink)
        sink->encoder = NULL;
    return (PyObject *)sink;
}

void
mpf_sink_set(PyObject *sink, struct mpf_encoder *e)
{
    ((struct sink *)sink)->encoder = e;
}
