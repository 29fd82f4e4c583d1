/*
 * Purpose: choose how an object is encoded, keep encoders for the next message, decode any message.
 *
 * Layout: see wire.h.
 *
 * States: of an encoder: idle in codec->idle <-> in a message.
 *
 * Invariants: an idle encoder is empty. Who takes an encoder from a place of codec->idle by an exchange owns it alone, so
 * nested and concurrent encodes never share one.
 *
 * Callers: attached to the interpreter, but for mpf_codec_write and mpf_codec_runs_code.
 *
 * Death of the caller: nothing is shared.
 */
#include "codec/codec.h"

#include <string.h>

#include "codec/atom.h"
#include "codec/encoder.h"
#include "codec/wire.h"
#include "platform/heap.h"

struct mpf_codec *
mpf_codec_new(void)
{
    struct mpf_codec *codec = PyMem_RawCalloc(1, sizeof *codec);
    if (!codec)
        PyErr_NoMemory();
    return codec;
}

int
mpf_codec_clear(struct mpf_codec *codec)
{
    struct mpf_imports *im;
    struct mpf_forking *f;
    if (!codec)
        return 0;
    for (int i = 0; i < MPF_CODEC_IDLE; i++) {
        struct mpf_encoder *e = codec->idle[i];
        codec->idle[i] = NULL;
        mpf_encoder_free(e);
    }
#ifndef Py_GIL_DISABLED
    for (int i = 0; i < 2 << MPF_CODEC_KEY_BITS; i++) {
        codec->keys[i / 2][i % 2].length = 0;
        Py_CLEAR(codec->keys[i / 2][i % 2].string);
    }
    mpf_shape_forget_all(&codec->shapes);
#endif
    im = codec->imports;
    codec->imports = NULL;
    mpf_imports_free(im);
    f = codec->forking;
    codec->forking = NULL;
    mpf_forking_free(f);
    return 0;
}

void
mpf_codec_free(struct mpf_codec *codec)
{
    mpf_codec_clear(codec);
    PyMem_RawFree(codec);
}

int
mpf_codec_traverse(struct mpf_codec *codec, visitproc visit, void *arg)
{
    if (!codec)
        return 0;
    for (int i = 0; i < MPF_CODEC_IDLE; i++)
        if (codec->idle[i] && codec->idle[i]->pickler) {
            int stop = mpf_pickling_traverse(codec->idle[i]->pickler, visit, arg);
            if (stop)
                return stop;
        }
    int stop = mpf_imports_traverse(codec->imports, visit, arg);
    return stop ? stop : mpf_forking_traverse(codec->forking, visit, arg);
}

PyObject *
mpf_codec_reject(struct mpf_codec *codec, const char *why)
{
    const struct mpf_imports *im = mpf_imports_get(codec);
    const struct mpf_pickles *pickles = im ? mpf_pickles_get(im) : NULL;
    if (pickles)
        PyErr_Format(pickles->unpickling_error, "not a message of mpfast: %s", why);
    return NULL;
}

/* Exchanges are atomic in free-threaded builds; with a GIL nothing comes between. */
static struct mpf_encoder *
take_idle(struct mpf_codec *codec)
{
    for (int i = 0; i < MPF_CODEC_IDLE; i++) {
#ifdef Py_GIL_DISABLED
        /* Acquire: pairs with the release in give_back. */
        struct mpf_encoder *e = __atomic_exchange_n(&codec->idle[i], NULL, __ATOMIC_ACQUIRE);
#else
        struct mpf_encoder *e = codec->idle[i];
        codec->idle[i] = NULL;
#endif
        if (e)
            return e;
    }
    return mpf_encoder_new();
}

static void
give_back(struct mpf_codec *codec, struct mpf_encoder *e)
{
    mpf_encoder_retire(e);
    for (int i = 0; i < MPF_CODEC_IDLE; i++) {
#ifdef Py_GIL_DISABLED
        struct mpf_encoder *none = NULL;
        /* Release: pairs with the acquire in take_idle. */
        if (__atomic_compare_exchange_n(&codec->idle[i], &none, e, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
            return;
#else
        if (!codec->idle[i]) {
            codec->idle[i] = e;
            return;
        }
#endif
    }
    mpf_encoder_free(e);
}

static int
encode_with(struct mpf_codec *codec, const struct mpf_imports *im, struct mpf_encoder *e, PyObject *obj)
{
    int result;
    if (mpf_forking_must_call_dumps(codec, im))
        return mpf_pickling_encode_foreign(codec, e, obj);
    e->main_is_private = im->main_is_private;
    result = mpf_builtin_encode(e, obj);
    return result == 1 ? mpf_pickling_encode(codec, e, obj) : result;
}

/* New list of the items, which the caller may lose to code that runs when the list is made. */
static PyObject *
list_of(PyObject *const *items, Py_ssize_t count)
{
    PyObject *list, **held = PyMem_RawMalloc((size_t)(count + 1) * sizeof *held);
    if (!held)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++)
        held[i] = Py_NewRef(items[i]);
    list = PyList_New(count);
    for (Py_ssize_t i = 0; i < count; i++)
        if (list)
            PyList_SET_ITEM(list, i, held[i]); /* steals */
        else
            Py_DECREF(held[i]);
    PyMem_RawFree(held);
    return list;
}

static int
encode_items_with(struct mpf_codec *codec, const struct mpf_imports *im, struct mpf_encoder *e, PyObject *const *items,
                  Py_ssize_t count)
{
    PyObject *list;
    int result = 1;
    if (!mpf_forking_must_call_dumps(codec, im)) {
        e->main_is_private = im->main_is_private;
        result = mpf_builtin_encode_items(e, items, count);
    }
    if (result != 1)
        return result;
    list = list_of(items, count);
    if (!list)
        return -1;
    mpf_encoder_reset(e);
    result = mpf_forking_must_call_dumps(codec, im) ? mpf_pickling_encode_foreign(codec, e, list)
                                                    : mpf_pickling_encode(codec, e, list);
    Py_DECREF(list);
    return result;
}

/* What was encoded, as the message; after a failure the encoder goes back. */
static int
seal(struct mpf_codec *codec, struct mpf_encoder *e, int encoded, struct mpf_message *m)
{
    if (encoded < 0) {
        struct mpf_raised raised;
        mpf_raised_take(&raised);
        give_back(codec, e);
        mpf_raised_restore(&raised);
        return -1;
    }
    m->encoder = e;
    m->bytes = mpf_encoder_total(e);
    m->flat = e->pieces.count || e->buffers.count ? NULL : e->buf + e->start;
    if (e->buffers.count) {
        m->align = MPF_CODEC_ALIGN;
        m->buffers = (uint32_t)e->buffers.count;
    }
    return 0;
}

int
mpf_codec_encode(struct mpf_codec *codec, PyObject *obj, struct mpf_message *m)
{
    const struct mpf_imports *im = mpf_imports_get(codec);
    struct mpf_encoder *e;
    m->align = 1;
    m->buffers = 0;
    m->encoder = NULL;
    if (!im)
        return -1;
    if (!mpf_forking_must_call_dumps(codec, im) && (m->bytes = mpf_atom_put(m->small, obj))) {
        m->flat = m->small;
        return 0;
    }
    e = take_idle(codec);
    return e ? seal(codec, e, encode_with(codec, im, e, obj), m) : -1;
}

int
mpf_codec_encode_items(struct mpf_codec *codec, PyObject *const *items, Py_ssize_t count, struct mpf_message *m)
{
    const struct mpf_imports *im = mpf_imports_get(codec);
    struct mpf_encoder *e;
    m->align = 1;
    m->buffers = 0;
    m->encoder = NULL;
    if (!im || !(e = take_idle(codec)))
        return -1;
    return seal(codec, e, encode_items_with(codec, im, e, items, count), m);
}

void
mpf_codec_write(const struct mpf_message *m, void *dest)
{
    if (m->flat)
        memcpy(dest, m->flat, m->bytes);
    else
        mpf_encoder_write(m->encoder, dest);
}

void
mpf_codec_release_encoder(struct mpf_codec *codec, struct mpf_message *m)
{
    struct mpf_encoder *e = m->encoder;
    m->encoder = NULL;
    give_back(codec, e);
}

PyObject *
mpf_codec_bytes(const void *data, size_t bytes)
{
    if (bytes < MPF_HEAP_LARGE)
        return PyBytes_FromStringAndSize(data, (Py_ssize_t)bytes);
    PyObject *object = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bytes);
    if (!object)
        return NULL;
    mpf_heap_fill(PyBytes_AS_STRING(object), bytes);
    memcpy(PyBytes_AS_STRING(object), data, bytes);
    return object;
}

PyObject *
mpf_codec_decode(struct mpf_codec *codec, const void *data, size_t bytes, const struct mpf_adopter *adopter)
{
    const uint8_t *p = data;
    PyObject *obj;
    uint8_t first;
    if (bytes == 0)
        return mpf_codec_reject(codec, "it is empty");
    if (mpf_atom_get_small_int(p, bytes, &obj))
        return obj;
    first = *(const volatile uint8_t *)p;
    if (first == MPF_OP_PICKLE)
        return mpf_pickling_decode(codec, p, bytes, adopter);
    if (first == MPF_OP_FOREIGN)
        return mpf_pickling_decode_foreign(codec, p, bytes);
    mpf_heap_expect(bytes);
    if (first == MPF_OP_NAMES)
        return mpf_builtin_decode(codec, p + 1, bytes - 1);
    return mpf_builtin_decode(codec, p, bytes);
}

bool
mpf_codec_runs_code(const void *data, size_t bytes)
{
    uint8_t first = bytes ? *(const uint8_t *)data : 0;
    return first == MPF_OP_PICKLE || first == MPF_OP_FOREIGN || first == MPF_OP_NAMES;
}
