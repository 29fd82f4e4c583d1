/* libFuzzer target of src/codec: any bytes are decoded; what comes out of them is encoded and decoded again.
 *
 * Built and run briefly by test_fuzz_codec.py; by hand, from the top of the source tree:
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -Isrc $(python3-config --includes) src/codec/[a-z]*.c \
 *         tests/fuzz/fuzz_codec.c $(python3-config --embed --ldflags) -o fuzz_codec
 *     PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 ./fuzz_codec
 */
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"
#include "codec/wire.h"

static struct mpf_codec *codec;

/* No module is imported and no function found by what is decoded. */
static int
refuse_find_class(const char *event, PyObject *args, void *data)
{
    (void)args;
    (void)data;
    if (strcmp(event, "pickle.find_class") != 0)
        return 0;
    PyErr_SetString(PyExc_PermissionError, "not in here");
    return -1;
}

static void
die(const char *why)
{
    fprintf(stderr, "fuzz_codec: %s\n", why);
    PyErr_Print();
    abort();
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    Py_InitializeEx(0);
    /* Without the package there is no sending of a __main__ that cannot be imported. */
    if (PyRun_SimpleString("__file__ = 'fuzz_codec'") < 0)
        die("no __main__");
    codec = mpf_codec_new();
    if (!codec)
        die("no codec");
    {
        struct mpf_message m; /* imports what the codec needs */
        if (mpf_codec_encode(codec, Py_None, &m) < 0)
            die("cannot encode None");
        mpf_codec_release(codec, &m);
    }
    return PySys_AddAuditHook(refuse_find_class, NULL);
}

static PyObject *
adopt_copy(void *ctx, size_t offset, size_t length, bool readonly)
{
    return readonly ? PyBytes_FromStringAndSize((const char *)ctx + offset, (Py_ssize_t)length)
                    : PyByteArray_FromStringAndSize((const char *)ctx + offset, (Py_ssize_t)length);
}

/* Encodes obj and decodes that. */
static void
round_trip(PyObject *obj)
{
    struct mpf_message m;
    PyObject *again;
    uint8_t *copy;
    if (mpf_codec_encode(codec, obj, &m) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_RecursionError) && !PyErr_ExceptionMatches(PyExc_MemoryError))
            die("cannot encode what was decoded");
        PyErr_Clear();
        return;
    }
    copy = malloc(m.bytes);
    mpf_codec_write(&m, copy);
    again = mpf_codec_decode(codec, copy, m.bytes, NULL);
    if (!again && !PyErr_ExceptionMatches(PyExc_RecursionError) && !PyErr_ExceptionMatches(PyExc_PermissionError))
        die("cannot decode what was encoded");
    if (again && Py_TYPE(again) != Py_TYPE(obj))
        die("another type came back");
    PyErr_Clear();
    Py_XDECREF(again);
    mpf_codec_release(codec, &m);
    free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct mpf_adopter adopter = {.adopt = adopt_copy, .ctx = (void *)data};
    PyObject *obj;
    /* What pickle.loads does with bytes that no pickler made is not ours to test: header and buffers are. */
    if (bytes > 0 && data[0] == MPF_OP_FOREIGN)
        return 0;
    if (bytes > 17 && data[0] == MPF_OP_PICKLE && memcmp(data + 16, "N.", 2) != 0)
        return 0;
    obj = mpf_codec_decode(codec, data, bytes, bytes % 2 ? &adopter : NULL);
    if (!obj) {
        if (!PyErr_Occurred())
            die("no object and no exception");
        PyErr_Clear();
        return 0;
    }
    round_trip(obj);
    Py_DECREF(obj);
    return 0;
}
