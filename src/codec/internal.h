/* What the files of the codec share. Not for the layers above. */
#ifndef MPF_CODEC_INTERNAL_H
#define MPF_CODEC_INTERNAL_H

#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/codec.h"
#include "codec/shape.h"

struct mpf_pickler;

#define MPF_CODEC_IDLE 4   /* encoders kept for the next message */
#define MPF_CODEC_KEY_BITS 8 /* 2 << this strings are kept for the next dict with such a key */

/* A short ASCII string: its characters, all of them, as two words. */
struct mpf_key {
    PyObject *string; /* owned, or NULL with length 0 */
    uint64_t first, last;
    size_t length;
};

/* The exception that is set, taken aside; put back by mpf_raised_restore or dropped by mpf_raised_drop. */
struct mpf_raised {
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *value;
#else
    PyObject *type, *value, *traceback;
#endif
};

static inline void
mpf_raised_take(struct mpf_raised *r)
{
#if PY_VERSION_HEX >= 0x030C0000
    r->value = PyErr_GetRaisedException();
#else
    PyErr_Fetch(&r->type, &r->value, &r->traceback);
#endif
}

static inline void
mpf_raised_restore(struct mpf_raised *r)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(r->value);
#else
    PyErr_Restore(r->type, r->value, r->traceback);
#endif
}

static inline void
mpf_raised_drop(struct mpf_raised *r)
{
#if PY_VERSION_HEX < 0x030C0000
    Py_XDECREF(r->type);
    Py_XDECREF(r->traceback);
#endif
    Py_XDECREF(r->value);
}

/* What pickling needs from Python modules, which a worker may never import: made when it is first needed, then constant. */
struct mpf_pickles {
    PyObject *copyreg_table; /* copyreg.dispatch_table */
    PyObject *pickler_type;  /* _pickle.Pickler, or a subclass for a private __main__ */
    PyObject *loads;         /* _pickle.loads */
    PyObject *pickling_error, *unpickling_error;
};

/* What the codec needs besides: made by the first message that needs it, then constant, but for `pickles`. */
struct mpf_imports {
    struct mpf_pickles *pickles; /* or NULL; set once */
    bool main_is_private;        /* no other process can import __main__: an interactive session, -c, standard input */
    PyObject *sink_type;
    PyObject *str_reduction, *str_dumps, *str_loads, *str_extra, *str_table; /* interned */
    PyObject *pickler_kwnames, *loads_kwnames;
};

/* multiprocessing.reduction.ForkingPickler: made when a message needs it or the program has its module, then constant. */
struct mpf_forking {
    PyObject *pickler;              /* the class */
    PyObject *own_dumps, *own_init; /* its attributes when nobody has replaced them; NULL: somebody had */
    Py_ssize_t own_size;            /* of its __dict__, then */
    PyObject *str_init;
};

struct mpf_codec {
    struct mpf_imports *imports; /* or NULL; set once */
    struct mpf_forking *forking; /* or NULL; set once */
    unsigned version;            /* ForkingPickler's tp_version_tag when it was last found unchanged, or 0 */
    int (*import)(void *context, PyObject *name); /* what is asked before a module is imported; or NULL */
    void *import_context;
    struct mpf_encoder *idle[MPF_CODEC_IDLE];
#ifndef Py_GIL_DISABLED
    struct mpf_key keys[1 << MPF_CODEC_KEY_BITS][2];
    struct mpf_shapes shapes;
#endif
};

/* Borrowed by the caller, or NULL with an exception set. */
const struct mpf_imports *mpf_imports_make(struct mpf_codec *codec);
static inline const struct mpf_imports *
mpf_imports_get(struct mpf_codec *codec)
{
    /* Pairs with the release in mpf_imports_make. */
    const struct mpf_imports *im = __atomic_load_n(&codec->imports, __ATOMIC_ACQUIRE);
    return im ? im : mpf_imports_make(codec);
}
void mpf_imports_free(struct mpf_imports *im);

/* Borrowed by the caller, or NULL with an exception set. */
const struct mpf_pickles *mpf_pickles_make(struct mpf_imports *im);
static inline const struct mpf_pickles *
mpf_pickles_get(const struct mpf_imports *im)
{
    /* Pairs with the release in mpf_pickles_make. */
    const struct mpf_pickles *pickles = __atomic_load_n(&im->pickles, __ATOMIC_ACQUIRE);
    return pickles ? pickles : mpf_pickles_make((struct mpf_imports *)im);
}

int mpf_imports_traverse(const struct mpf_imports *im, visitproc visit, void *arg);

/* New reference to the module of that name, or NULL, without an exception where it is not loaded. Waits, as an import would, for
 * another thread that is loading it. */
PyObject *mpf_imports_module(PyObject *name);

/* Borrowed by the caller, or NULL with an exception set. */
const struct mpf_forking *mpf_forking_make(struct mpf_codec *codec, const struct mpf_imports *im);
static inline const struct mpf_forking *
mpf_forking_known(struct mpf_codec *codec)
{
    return __atomic_load_n(&codec->forking, __ATOMIC_ACQUIRE); /* pairs with the release in mpf_forking_make */
}
static inline const struct mpf_forking *
mpf_forking_get(struct mpf_codec *codec, const struct mpf_imports *im)
{
    const struct mpf_forking *f = mpf_forking_known(codec);
    return f ? f : mpf_forking_make(codec, im);
}
void mpf_forking_free(struct mpf_forking *f);
int mpf_forking_traverse(const struct mpf_forking *f, visitproc visit, void *arg);

/* The same, but NULL without an exception where this process has not imported the module. */
const struct mpf_forking *mpf_forking_if_loaded(struct mpf_codec *codec, const struct mpf_imports *im);

/* Whether the class is not what the standard library made it, so that its dumps has to be called. */
bool mpf_forking_has_changed(struct mpf_codec *codec, const struct mpf_imports *im);
static inline bool
mpf_forking_must_call_dumps(struct mpf_codec *codec, const struct mpf_imports *im)
{
    const struct mpf_forking *f = mpf_forking_known(codec);
    /* Any change of a class gives it another version, or 0. */
    unsigned version = f ? __atomic_load_n(&((PyTypeObject *)f->pickler)->tp_version_tag, __ATOMIC_RELAXED) : 0;
    unsigned known = __atomic_load_n(&codec->version, __ATOMIC_RELAXED);
    return (version == 0 || version != known) && mpf_forking_has_changed(codec, im);
}

/* Calls ForkingPickler.dumps. */
int mpf_pickling_encode_foreign(struct mpf_codec *codec, struct mpf_encoder *e, PyObject *obj);
int mpf_pickling_encode(struct mpf_codec *codec, struct mpf_encoder *e, PyObject *obj);
PyObject *mpf_pickling_decode(struct mpf_codec *codec, const uint8_t *data, size_t bytes,
                              const struct mpf_adopter *adopter);
PyObject *mpf_pickling_decode_foreign(struct mpf_codec *codec, const uint8_t *data, size_t bytes);
void mpf_pickling_free(struct mpf_pickler *p);
int mpf_pickling_traverse(struct mpf_pickler *p, visitproc visit, void *arg);

/* 0: written. 1: something in it is not for this format, nothing of what was written counts. -1: exception set. */
int mpf_builtin_encode(struct mpf_encoder *e, PyObject *obj);
/* The same for a list of these items. */
int mpf_builtin_encode_items(struct mpf_encoder *e, PyObject *const *items, Py_ssize_t count);
PyObject *mpf_builtin_decode(struct mpf_codec *codec, const uint8_t *data, size_t bytes);

/* Always NULL, with pickle.UnpicklingError set. */
PyObject *mpf_codec_reject(struct mpf_codec *codec, const char *why);

#endif
