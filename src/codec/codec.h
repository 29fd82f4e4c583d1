/* Codec: one Python object to the bytes of one message, and back.
 *
 *     struct mpf_message m;
 *     if (mpf_codec_encode(codec, obj, &m) < 0)          // -1: exception set, nothing to release
 *         return NULL;
 *     dest = ... m.bytes, aligned to m.align ...         // may block; the GIL may be released
 *     mpf_codec_write(&m, dest);                         // the one copy; needs no GIL
 *     mpf_codec_release(codec, &m);                      // always, also when nothing was written
 *
 *     obj = mpf_codec_decode(codec, data, bytes, adopter);
 *
 * Large bytes, strings and protocol-5 buffers are not copied by encode: the message holds them alive and write copies
 * them to their place. Encoding may run Python code (reducers), which may encode again: every message has its own
 * scratch memory. Unless said otherwise the caller is attached to the interpreter (holds the GIL). */
#ifndef MPF_CODEC_CODEC_H
#define MPF_CODEC_CODEC_H

#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where buffers lie in a message, relative to its start; a message with buffers should start at such an address. */
#define MPF_CODEC_ALIGN 64

struct mpf_codec;   /* one per module state: cached pickle machinery */
struct mpf_encoder; /* scratch memory of one message, private to the codec */

struct mpf_message {
    size_t bytes;          /* that mpf_codec_write will store */
    const uint8_t *flat;   /* the whole message when it is contiguous already, else NULL */
    uint32_t align;        /* MPF_CODEC_ALIGN when the message has buffers a receiver can adopt, else 1 */
    uint32_t buffers;      /* how many of them */
    struct mpf_encoder *encoder; /* private */
    uint8_t small[24];           /* private: holds atoms */
};

/* A receiver's way to keep a buffer where it lies. adopt() returns a new reference to an object with the buffer interface
 * that shows exactly `length` bytes at `offset` of the message and keeps that memory until it dies: writable, and private
 * to its holder, unless `readonly`. NULL with an exception set on failure. The offset is a multiple of MPF_CODEC_ALIGN. */
struct mpf_adopter {
    PyObject *(*adopt)(void *ctx, size_t offset, size_t length, bool readonly);
    void *ctx;
};

/* NULL with an exception set. Cheap: multiprocessing.reduction and pickle are imported by the first use. */
struct mpf_codec *mpf_codec_new(void);
void mpf_codec_free(struct mpf_codec *codec);
/* For the module's tp_traverse and tp_clear; harmless on NULL. A cleared codec has forgotten its caches; the next use makes them anew. */
int mpf_codec_traverse(struct mpf_codec *codec, visitproc visit, void *arg);
int mpf_codec_clear(struct mpf_codec *codec);

/* 0, or -1 with whatever the stdlib's ForkingPickler would raise for obj. *m must not be moved until it is released
 * (m->flat may point into it). */
int mpf_codec_encode(struct mpf_codec *codec, PyObject *obj, struct mpf_message *m);

/* As mpf_codec_encode for a list of these items, which must not change meanwhile; there need be no such list. */
int mpf_codec_encode_items(struct mpf_codec *codec, PyObject *const *items, Py_ssize_t count, struct mpf_message *m);

/* Stores the m->bytes bytes of the message. Needs no GIL. May be called more than once. */
void mpf_codec_write(const struct mpf_message *m, void *dest);

void mpf_codec_release_encoder(struct mpf_codec *codec, struct mpf_message *m);
static inline void
mpf_codec_release(struct mpf_codec *codec, struct mpf_message *m)
{
    if (m->encoder)
        mpf_codec_release_encoder(codec, m);
}

/* New reference to a bytes object with a copy of the data, NULL with an exception. */
PyObject *mpf_codec_bytes(const void *data, size_t bytes);

/* The object, or NULL with an exception set: pickle.UnpicklingError for bytes that are no message, MemoryError, or what
 * unpickling raised. Trusts no length in data. data must stay until it returns; nothing refers to it afterwards but what
 * adopter (NULL: buffers are copied) handed out. */
PyObject *mpf_codec_decode(struct mpf_codec *codec, const void *data, size_t bytes, const struct mpf_adopter *adopter);

/* Whether decoding these bytes may run Python code of the program (it is a pickle, or names a function that may have to
 * be imported). False: builtin objects only, decode then does nothing but create them. */
bool mpf_codec_runs_code(const void *data, size_t bytes);

/* Before decoding imports a module it calls import(context, its name), which may import it: 0, or -1 with an exception. NULL: it
 * does not any more, unless it is another context's. */
void mpf_codec_import_through(struct mpf_codec *codec, int (*import)(void *context, PyObject *name), void *context);

#endif
