/*
 * Purpose: the scratch memory of one message: bytes, pieces left in place, buffers, and which objects were met.
 *
 * Layout (private memory only): buf[0] is kept for a prefix byte; pieces go between scratch bytes, buffers after the
 * last one, each at the next multiple of MPF_CODEC_ALIGN:
 *
 *     message = buf[start .. pieces[0].at) piece 0 buf[.. pieces[1].at) piece 1 ... buf[.. len)  pad buffer 0 pad buffer 1
 *
 * States: empty (reset) -> filled by an encode -> written any number of times -> retired -> empty.
 *
 * Invariants: pieces are in ascending order of `at`. An entry of the memo counts only when its epoch is the present one,
 * so forgetting all of them is one increment. Every object in the memo stays alive until the encode ends: the object
 * being encoded holds it (nothing else runs meanwhile), or `keep` does.
 *
 * Callers: whoever has the message, attached to the interpreter; write and total may be called without.
 *
 * Death of the caller: nothing is shared.
 */
#include "codec/encoder.h"

#include <string.h>

#include "platform/copy.h"

#define SCRATCH_FIRST 512
#define SCRATCH_KEPT (256 * 1024)
#define MEMO_FIRST 64
#define MEMO_KEPT 4096
#define STAMP_BITS 48

struct mpf_encoder *
mpf_encoder_new(void)
{
    struct mpf_encoder *e = PyMem_RawCalloc(1, sizeof *e);
    if (!e) {
        PyErr_NoMemory();
        return NULL;
    }
    if (mpf_encoder_grow(e, SCRATCH_FIRST) < 0) {
        mpf_encoder_free(e);
        return NULL;
    }
    mpf_encoder_reset(e);
    return e;
}

static void
pieces_clear(struct mpf_pieces *list)
{
    while (list->count) {
        struct mpf_piece *piece = list->items[--list->count];
        PyBuffer_Release(&piece->view);
        PyMem_RawFree(piece);
    }
    list->bytes = 0;
}

void
mpf_encoder_free(struct mpf_encoder *e)
{
    if (!e)
        return;
    pieces_clear(&e->pieces);
    pieces_clear(&e->buffers);
    PyMem_RawFree(e->pieces.items);
    PyMem_RawFree(e->buffers.items);
    PyMem_RawFree(e->memo);
    PyMem_RawFree(e->buf);
    Py_CLEAR(e->keep);
    mpf_pickling_free(e->pickler);
    PyMem_RawFree(e);
}

void
mpf_encoder_reset(struct mpf_encoder *e)
{
    e->len = e->start = 1;
    if (e->pieces.count)
        pieces_clear(&e->pieces);
    if (e->buffers.count)
        pieces_clear(&e->buffers);
    e->memo_used = 0;
    if (++e->epoch == 0) {
        if (e->memo)
            memset(e->memo, 0, e->memo_room * sizeof *e->memo);
        e->epoch = 1;
    }
    if (e->keep)
        Py_CLEAR(e->keep);
}

void
mpf_encoder_retire(struct mpf_encoder *e)
{
    if (e->len > SCRATCH_KEPT && e->pickler) {
        mpf_pickling_free(e->pickler); /* its memo has grown as well */
        e->pickler = NULL;
    }
    mpf_encoder_reset(e);
    if (e->room > SCRATCH_KEPT) {
        void *less = PyMem_RawRealloc(e->buf, SCRATCH_FIRST);
        if (less) {
            e->buf = less;
            e->room = SCRATCH_FIRST;
        }
    }
    if (e->memo_room > MEMO_KEPT) {
        PyMem_RawFree(e->memo);
        e->memo = NULL;
        e->memo_room = 0;
    }
}

int
mpf_encoder_grow(struct mpf_encoder *e, size_t more)
{
    size_t room = e->room;
    uint8_t *buf;
    if (more > (size_t)PY_SSIZE_T_MAX / 4 || e->len > (size_t)PY_SSIZE_T_MAX / 4) {
        PyErr_NoMemory();
        return -1;
    }
    if (room < SCRATCH_FIRST)
        room = SCRATCH_FIRST;
    while (room - e->len < more)
        room *= 2;
    buf = PyMem_RawRealloc(e->buf, room);
    if (!buf) {
        PyErr_NoMemory();
        return -1;
    }
    e->buf = buf;
    e->room = room;
    return 0;
}

static struct mpf_piece *
pieces_add(struct mpf_pieces *list)
{
    struct mpf_piece *piece;
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 8;
        void *items = PyMem_RawRealloc(list->items, room * sizeof *list->items);
        if (!items) {
            PyErr_NoMemory();
            return NULL;
        }
        list->items = items;
        list->room = room;
    }
    piece = PyMem_RawMalloc(sizeof *piece);
    if (!piece) {
        PyErr_NoMemory();
        return NULL;
    }
    list->items[list->count] = piece;
    return piece;
}

int
mpf_encoder_add_piece(struct mpf_encoder *e, PyObject *obj, const void *ptr, size_t bytes)
{
    struct mpf_piece *piece = pieces_add(&e->pieces);
    if (!piece)
        return -1;
    /* Does what the buffer interface of bytes does; str has none. */
    if (PyBuffer_FillInfo(&piece->view, obj, (void *)ptr, (Py_ssize_t)bytes, 1, PyBUF_SIMPLE) < 0) {
        PyMem_RawFree(piece);
        return -1;
    }
    piece->at = e->len;
    e->pieces.count++;
    e->pieces.bytes += bytes;
    return 0;
}

int
mpf_encoder_add_buffer(struct mpf_encoder *e, PyObject *obj)
{
    struct mpf_piece *piece = pieces_add(&e->buffers);
    if (!piece)
        return -1;
    if (PyObject_GetBuffer(obj, &piece->view, PyBUF_FULL_RO) < 0) {
        PyMem_RawFree(piece);
        return -1;
    }
    e->buffers.count++;
    e->buffers.bytes += (size_t)piece->view.len;
    return 0;
}

int
mpf_encoder_add_view(struct mpf_encoder *e, Py_buffer *view)
{
    struct mpf_piece *piece = pieces_add(&e->pieces);
    if (!piece)
        return -1;
    piece->view = *view;
    view->obj = NULL;
    piece->at = e->len;
    e->pieces.count++;
    e->pieces.bytes += (size_t)piece->view.len;
    return 0;
}

size_t
mpf_encoder_total(const struct mpf_encoder *e)
{
    if (e->buffers.count) {
        const struct mpf_piece *last = e->buffers.items[e->buffers.count - 1];
        return last->at + (size_t)last->view.len;
    }
    return e->len - e->start + e->pieces.bytes;
}

void
mpf_encoder_write(const struct mpf_encoder *e, uint8_t *dest)
{
    const uint8_t *base = dest;
    size_t done = e->start;
    for (size_t i = 0; i < e->pieces.count; i++) {
        const struct mpf_piece *piece = e->pieces.items[i];
        memcpy(dest, e->buf + done, piece->at - done);
        dest += piece->at - done;
        done = piece->at;
        mpf_copy_away(dest, piece->view.buf, (size_t)piece->view.len);
        dest += piece->view.len;
    }
    memcpy(dest, e->buf + done, e->len - done);
    dest += e->len - done;
    for (size_t i = 0; i < e->buffers.count; i++) {
        const struct mpf_piece *piece = e->buffers.items[i];
        size_t pad = piece->at - (size_t)(dest - base);
        memset(dest, 0, pad); /* what lay there before is nobody's to see */
        mpf_copy_away(dest + pad, piece->view.buf, (size_t)piece->view.len);
        dest += pad + (size_t)piece->view.len;
    }
}

static size_t
memo_slot(const struct mpf_encoder *e, const PyObject *obj)
{
    return (size_t)(((uint64_t)(uintptr_t)obj >> 3) * UINT64_C(0x9E3779B97F4A7C15) >> e->memo_shift);
}

static struct mpf_memo_entry *
memo_find(const struct mpf_encoder *e, const PyObject *obj)
{
    size_t mask = e->memo_room - 1, i = memo_slot(e, obj);
    while (e->memo[i].stamp >> STAMP_BITS == e->epoch && e->memo[i].object != obj)
        i = (i + 1) & mask;
    return &e->memo[i];
}

static int
memo_grow(struct mpf_encoder *e)
{
    struct mpf_memo_entry *old = e->memo;
    size_t old_room = e->memo_room, room = old_room ? 4 * old_room : MEMO_FIRST;
    struct mpf_memo_entry *memo = PyMem_RawCalloc(room, sizeof *memo);
    if (!memo) {
        PyErr_NoMemory();
        return -1;
    }
    e->memo = memo;
    e->memo_room = room;
    e->memo_shift = 64 - (unsigned)__builtin_ctzll(room);
    for (size_t i = 0; i < old_room; i++)
        if (old[i].stamp >> STAMP_BITS == e->epoch)
            *memo_find(e, old[i].object) = old[i];
    PyMem_RawFree(old);
    return 0;
}

int
mpf_encoder_visit(struct mpf_encoder *e, const PyObject *obj, size_t *distance)
{
    struct mpf_memo_entry *entry;
    if (2 * e->memo_used >= e->memo_room && memo_grow(e) < 0)
        return -1;
    entry = memo_find(e, obj);
    if (entry->stamp >> STAMP_BITS == e->epoch) {
        *distance = (size_t)(entry->stamp & ((UINT64_C(1) << STAMP_BITS) - 1));
        return 1;
    }
    entry->object = obj;
    entry->stamp = (uint64_t)e->epoch << STAMP_BITS | mpf_encoder_distance(e);
    e->memo_used++;
    return 0;
}

uint8_t *
mpf_encoder_at(struct mpf_encoder *e, size_t distance)
{
    size_t before = 0;
    for (size_t i = 0; i < e->pieces.count; i++) {
        const struct mpf_piece *piece = e->pieces.items[i];
        if (distance < piece->at - 1 + before)
            break;
        before += (size_t)piece->view.len;
    }
    return e->buf + 1 + (distance - before);
}
