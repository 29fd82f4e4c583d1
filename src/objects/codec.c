/*
 * Purpose: gives the module its codec, and two functions by which the codec can be tested: _encode and _decode.
 *
 * Layout: no shared memory.
 *
 * States: none.
 *
 * Invariants: the codec lives as long as the module's state.
 *
 * Callers: module.c at import; Python code.
 *
 * Death of the caller: nothing is shared.
 */
#include "codec/codec.h"
#include "objects/state.h"
#include "objects/types.h"

PyDoc_STRVAR(encode_doc, "_encode(obj, /) -> bytes\n\nThe message that a queue or connection would carry for obj.");

static PyObject *
codec_encode(PyObject *module, PyObject *obj)
{
    struct mpf_codec *codec = mpf_state_of(module)->codec;
    struct mpf_message m;
    PyObject *bytes;
    if (mpf_codec_encode(codec, obj, &m) < 0) {
        return NULL;
    }
    bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)m.bytes);
    if (bytes != NULL) {
        mpf_codec_write(&m, PyBytes_AS_STRING(bytes));
    }
    mpf_codec_release(codec, &m);
    return bytes;
}

/* Slices of the given object stand for blocks of the arena. */
static PyObject *
codec_adopt_slice(void *ctx, size_t offset, size_t length, bool readonly)
{
    PyObject *view = PyMemoryView_FromObject(ctx);
    PyObject *slice = view ? PySequence_GetSlice(view, (Py_ssize_t)offset, (Py_ssize_t)(offset + length)) : NULL;
    Py_XDECREF(view);
    if (slice != NULL && readonly) {
        Py_SETREF(slice, PyObject_CallMethod(slice, "toreadonly", NULL));
    }
    return slice;
}

PyDoc_STRVAR(decode_doc,
             "_decode(data, adopt=False, /)\n\nThe object in a message (a bytes-like object). With adopt, its large\n"
             "buffers stay where they are in data. Raises pickle.UnpicklingError for what is no message.");

static PyObject *
codec_decode(PyObject *module, PyObject *args)
{
    struct mpf_adopter adopter = {.adopt = codec_adopt_slice};
    PyObject *data, *obj;
    Py_buffer view;
    int adopt = 0;
    if (!PyArg_ParseTuple(args, "O|p:_decode", &data, &adopt) || PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    adopter.ctx = data;
    obj = mpf_codec_decode(mpf_state_of(module)->codec, view.buf, (size_t)view.len, adopt ? &adopter : NULL);
    PyBuffer_Release(&view);
    return obj;
}

static PyMethodDef codec_functions[] = {
    {"_encode", codec_encode, METH_O, encode_doc},
    {"_decode", codec_decode, METH_VARARGS, decode_doc},
    {NULL, NULL, 0, NULL},
};

int
mpf_codec_register(PyObject *module)
{
    struct mpf_state *state = mpf_state_of(module);
    state->codec = mpf_codec_new();
    return state->codec != NULL ? PyModule_AddFunctions(module, codec_functions) : -1;
}
