/*
 * Purpose: objects that are not of exact builtin types: pickle protocol 5 with ForkingPickler's reducers, its large
 * buffers outside the pickle.
 *
 * Layout: see wire.h.
 *
 * States: of a pickler: idle <-> dumping; thrown away after a failed dump.
 *
 * Invariants: what is pickled is what ForkingPickler would pickle. Its reducers are copyreg's and the ones registered on
 * it, at the time of the dump: a pickler has one merged table and remembers which entries went into it, so that a change
 * is noticed without merging anew each time. When ForkingPickler itself was changed, its dumps is called and nothing here
 * is used. A pickler belongs to one encoder, so encoding again from inside a reducer uses another one.
 *
 * Callers: codec.c, attached to the interpreter. Reducers and unpickling run code of the program.
 *
 * Death of the caller: nothing is shared.
 */
#include "codec/encoder.h"
#include "codec/sink.h"
#include "codec/wire.h"
#include "platform/heap.h"

#include <string.h>

#define HEADER_BYTES 16

/* One dictionary as it was, to see whether it has changed. */
struct snapshot {
    PyObject **entries; /* owned; key, value, key, value ... */
    Py_ssize_t count;   /* of pairs */
};

struct mpf_pickler {
    PyObject *sink;
    PyObject *dump, *clear_memo; /* bound to the pickler */
    PyObject *table;             /* its dispatch_table: a dict of its own */
    struct snapshot copyreg, extra;
};

/* ---- the table of reducers -------------------------------------------------------------------------------------- */

static bool
snapshot_holds(const struct snapshot *s, PyObject *dict)
{
    PyObject *key, *value; /* borrowed */
    Py_ssize_t pos = 0, i = 0;
    bool same = s->entries && PyDict_GET_SIZE(dict) == s->count;
#if PY_VERSION_HEX >= 0x030D0000
    Py_BEGIN_CRITICAL_SECTION(dict);
#endif
    while (same && PyDict_Next(dict, &pos, &key, &value)) {
        same = i < s->count && s->entries[2 * i] == key && s->entries[2 * i + 1] == value;
        i++;
    }
#if PY_VERSION_HEX >= 0x030D0000
    Py_END_CRITICAL_SECTION();
#endif
    return same && i == s->count;
}

static void
snapshot_clear(struct snapshot *s)
{
    PyObject **entries = s->entries;
    Py_ssize_t count = s->count;
    s->entries = NULL;
    s->count = 0;
    for (Py_ssize_t i = 0; entries && i < 2 * count; i++)
        Py_DECREF(entries[i]);
    PyMem_RawFree(entries);
}

/* Of a dict that only the caller has. */
static int
snapshot_take(struct snapshot *s, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t pos = 0, i = 0, count = PyDict_GET_SIZE(dict);
    snapshot_clear(s);
    s->entries = PyMem_RawMalloc((size_t)(2 * count + 1) * sizeof *s->entries);
    if (!s->entries) {
        PyErr_NoMemory();
        return -1;
    }
    while (PyDict_Next(dict, &pos, &key, &value)) {
        s->entries[i++] = Py_NewRef(key);
        s->entries[i++] = Py_NewRef(value);
    }
    s->count = count;
    return 0;
}

static int
table_add(PyObject *table, PyObject *from, struct snapshot *s)
{
    PyObject *copy = PyDict_Copy(from);
    int result = copy && PyDict_Update(table, copy) == 0 ? snapshot_take(s, copy) : -1;
    Py_XDECREF(copy);
    return result;
}

/* Makes the table what ForkingPickler's constructor would have made it now. */
static int
table_refresh(struct mpf_pickler *p, const struct mpf_imports *im, const struct mpf_forking *f)
{
    const struct mpf_pickles *pickles = mpf_pickles_get(im);
    PyObject *extra = pickles ? PyObject_GetAttr(f->pickler, im->str_extra) : NULL;
    int result = -1;
    if (!extra)
        return -1;
    if (!PyDict_Check(extra) || !PyDict_Check(pickles->copyreg_table)) {
        PyErr_SetString(PyExc_TypeError, "a table of reducers is not a dict");
        goto done;
    }
    if (snapshot_holds(&p->copyreg, pickles->copyreg_table) && snapshot_holds(&p->extra, extra)) {
        result = 0;
        goto done;
    }
    PyDict_Clear(p->table);
    if (table_add(p->table, pickles->copyreg_table, &p->copyreg) == 0 && table_add(p->table, extra, &p->extra) == 0)
        result = 0;
    else
        snapshot_clear(&p->copyreg); /* the next time begins anew */
done:
    Py_DECREF(extra);
    return result;
}

/* ---- the pickler ------------------------------------------------------------------------------------------------ */

void
mpf_pickling_free(struct mpf_pickler *p)
{
    if (!p)
        return;
    snapshot_clear(&p->copyreg);
    snapshot_clear(&p->extra);
    Py_CLEAR(p->dump);
    Py_CLEAR(p->clear_memo);
    Py_CLEAR(p->table);
    Py_CLEAR(p->sink);
    PyMem_RawFree(p);
}

int
mpf_pickling_traverse(struct mpf_pickler *p, visitproc visit, void *arg)
{
    const struct snapshot *const snapshots[] = {&p->copyreg, &p->extra};
    Py_VISIT(p->dump);
    Py_VISIT(p->clear_memo);
    Py_VISIT(p->table);
    Py_VISIT(p->sink);
    for (int s = 0; s < 2; s++)
        for (Py_ssize_t i = 0; i < 2 * snapshots[s]->count; i++)
            Py_VISIT(snapshots[s]->entries[i]);
    return 0;
}

static struct mpf_pickler *
pickler_new(const struct mpf_imports *im)
{
    const struct mpf_pickles *pickles = mpf_pickles_get(im);
    struct mpf_pickler *p = pickles ? PyMem_RawCalloc(1, sizeof *p) : NULL;
    PyObject *pickler = NULL, *protocol;
    if (!pickles)
        return NULL;
    if (!p) {
        PyErr_NoMemory();
        return NULL;
    }
    protocol = PyLong_FromLong(5);
    p->sink = mpf_sink_new(im->sink_type);
    p->table = PyDict_New();
    if (protocol && p->sink && p->table) {
        PyObject *args[] = {p->sink, protocol, p->sink};
        pickler = PyObject_Vectorcall(pickles->pickler_type, args, 1, im->pickler_kwnames);
    }
    if (pickler && PyObject_SetAttr(pickler, im->str_table, p->table) == 0) {
        p->dump = PyObject_GetAttrString(pickler, "dump");
        p->clear_memo = PyObject_GetAttrString(pickler, "clear_memo");
    }
    Py_XDECREF(pickler);
    Py_XDECREF(protocol);
    if (!p->dump || !p->clear_memo) {
        mpf_pickling_free(p);
        return NULL;
    }
    return p;
}

/* ---- encoding --------------------------------------------------------------------------------------------------- */

static int
begin(struct mpf_encoder *e)
{
    uint8_t *header;
    mpf_encoder_reset(e);
    header = mpf_encoder_reserve(e, HEADER_BYTES);
    if (!header)
        return -1;
    memset(header, 0, HEADER_BYTES);
    header[0] = MPF_OP_PICKLE;
    e->len += HEADER_BYTES;
    return 0;
}

/* Fills in the header and says where each buffer goes. */
static int
finish(struct mpf_encoder *e)
{
    uint64_t bytes = e->len - e->start - HEADER_BYTES + e->pieces.bytes;
    size_t end;
    if (e->buffers.count > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "an object has too many buffers");
        return -1;
    }
    {
        uint32_t count = (uint32_t)e->buffers.count;
        memcpy(e->buf + e->start + 4, &count, sizeof count);
        memcpy(e->buf + e->start + 8, &bytes, sizeof bytes);
    }
    for (size_t i = 0; i < e->buffers.count; i++) {
        const Py_buffer *view = &e->buffers.items[i]->view;
        uint64_t entry = (uint64_t)view->len << 1 | (view->readonly ? 1 : 0);
        if (mpf_encoder_append(e, &entry, sizeof entry) < 0)
            return -1;
    }
    end = e->len - e->start + e->pieces.bytes;
    for (size_t i = 0; i < e->buffers.count; i++) {
        struct mpf_piece *piece = e->buffers.items[i];
        piece->at = (end + MPF_CODEC_ALIGN - 1) & ~(size_t)(MPF_CODEC_ALIGN - 1);
        end = piece->at + (size_t)piece->view.len;
    }
    return 0;
}

static int
dump(struct mpf_encoder *e, PyObject *obj, const struct mpf_imports *im, const struct mpf_forking *f)
{
    struct mpf_pickler *p = e->pickler;
    PyObject *done;
    if (!p && !(p = pickler_new(im)))
        return -1;
    e->pickler = NULL; /* nobody else's while it runs, not even when it fails */
    if (table_refresh(p, im, f) < 0) {
        mpf_pickling_free(p);
        return -1;
    }
    mpf_sink_set(p->sink, e);
    done = PyObject_CallOneArg(p->dump, obj);
    mpf_sink_set(p->sink, NULL);
    if (done) {
        Py_DECREF(done);
        done = PyObject_CallNoArgs(p->clear_memo);
    }
    if (!done) {
        struct mpf_raised raised;
        mpf_raised_take(&raised);
        mpf_pickling_free(p);
        mpf_raised_restore(&raised);
        return -1;
    }
    Py_DECREF(done);
    e->pickler = p;
    return 0;
}

/* Once more with cloudpickle, which sends by value what cannot go by reference. Called with the first dump's exception
 * set; that is the one to be raised when there is no cloudpickle or it fails as well. */
static int
dump_by_value(struct mpf_encoder *e, PyObject *obj, const struct mpf_imports *im, const struct mpf_forking *f)
{
    PyObject *module, *function, *sink = NULL, *extra = NULL, *done = NULL;
    struct mpf_raised raised;
    bool written = false;
    mpf_raised_take(&raised);
    module = PyImport_ImportModule("mpfast._by_value");
    function = module ? PyObject_GetAttrString(module, "dump") : NULL;
    if (function && begin(e) == 0 && (extra = PyObject_GetAttr(f->pickler, im->str_extra)) &&
        (sink = mpf_sink_new(im->sink_type))) {
        mpf_sink_set(sink, e);
        done = PyObject_CallFunctionObjArgs(function, obj, sink, extra, NULL);
        mpf_sink_set(sink, NULL);
    }
    written = done == Py_True;
    Py_XDECREF(module);
    Py_XDECREF(function);
    Py_XDECREF(sink);
    Py_XDECREF(extra);
    Py_XDECREF(done);
    /* Ctrl-C is not cloudpickle's failure. */
    if (written || (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception))) {
        mpf_raised_drop(&raised);
        return written ? 0 : -1;
    }
    PyErr_Clear();
    mpf_raised_restore(&raised);
    return -1;
}

int
mpf_pickling_encode(struct mpf_codec *codec, struct mpf_encoder *e, PyObject *obj)
{
    const struct mpf_imports *im = mpf_imports_get(codec);
    const struct mpf_forking *f = im ? mpf_forking_get(codec, im) : NULL;
    if (!f || begin(e) < 0)
        return -1;
    if (dump(e, obj, im, f) < 0) {
        const struct mpf_pickles *pickles = __atomic_load_n(&im->pickles, __ATOMIC_ACQUIRE); /* as in mpf_pickles_get() */
        if (!pickles || (!PyErr_ExceptionMatches(pickles->pickling_error) && !PyErr_ExceptionMatches(PyExc_AttributeError)))
            return -1;
        if (dump_by_value(e, obj, im, f) < 0)
            return -1;
    }
    return finish(e);
}

int
mpf_pickling_encode_foreign(struct mpf_codec *codec, struct mpf_encoder *e, PyObject *obj)
{
    const struct mpf_imports *im = mpf_imports_get(codec);
    const struct mpf_forking *f = im ? mpf_forking_get(codec, im) : NULL;
    const uint8_t op = MPF_OP_FOREIGN;
    PyObject *data;
    Py_buffer view;
    int result = -1;
    if (!f)
        return -1;
    data = PyObject_CallMethodOneArg(f->pickler, im->str_dumps, obj);
    if (!data)
        return -1;
    if (PyObject_GetBuffer(data, &view, PyBUF_CONTIG_RO) == 0) {
        mpf_encoder_reset(e);
        result = mpf_encoder_append(e, &op, 1);
        if (result == 0)
            result = mpf_encoder_add_view(e, &view);
        PyBuffer_Release(&view); /* nothing when it was taken over */
    }
    Py_DECREF(data);
    return result;
}

/* ---- decoding --------------------------------------------------------------------------------------------------- */

static uint64_t
read_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    __asm__("" : "+r"(v)); /* the compiler must not read it a second time */
    return v;
}

/* New reference to one buffer of the message, as its adopter or a copy has it. */
static PyObject *
take_buffer(const uint8_t *data, size_t at, size_t length, bool readonly, const struct mpf_adopter *adopter)
{
    if (adopter)
        return adopter->adopt(adopter->ctx, at, length, readonly);
    if (readonly)
        return mpf_codec_bytes(data + at, length);
    return PyByteArray_FromStringAndSize((const char *)data + at, (Py_ssize_t)length);
}

/* New reference to the list of buffers; `end` is the end of the pickle and of what was checked. */
static PyObject *
take_buffers(struct mpf_codec *codec, const uint8_t *data, size_t bytes, size_t end, size_t count,
             const struct mpf_adopter *adopter)
{
    const uint8_t *entries = data + end;
    PyObject *list;
    if (count > (bytes - end) / 8)
        return mpf_codec_reject(codec, "it has more buffers than it can hold");
    end += 8 * count;
    list = PyList_New(0);
    for (size_t i = 0; list && i < count; i++) {
        uint64_t entry = read_u64(entries + 8 * i);
        size_t length = (size_t)(entry >> 1), pad = -end & (MPF_CODEC_ALIGN - 1);
        PyObject *buffer = NULL;
        if (pad > bytes - end || length > bytes - end - pad)
            mpf_codec_reject(codec, "a buffer exceeds it");
        else
            buffer = take_buffer(data, end + pad, length, entry & 1, adopter);
        end += pad + length;
        if (!buffer || PyList_Append(list, buffer) < 0)
            Py_CLEAR(list);
        Py_XDECREF(buffer);
    }
    if (list && end != bytes) {
        Py_DECREF(list);
        return mpf_codec_reject(codec, "bytes follow its end");
    }
    return list;
}

/* New reference: pickle.loads, or what the program has put in its place. */
static PyObject *
current_loads(struct mpf_codec *codec, const struct mpf_imports *im)
{
    const struct mpf_forking *f = mpf_forking_if_loaded(codec, im);
    if (f)
        return PyObject_GetAttr(f->pickler, im->str_loads);
    const struct mpf_pickles *pickles = PyErr_Occurred() ? NULL : mpf_pickles_get(im);
    return pickles ? Py_NewRef(pickles->loads) : NULL;
}

PyObject *
mpf_pickling_decode(struct mpf_codec *codec, const uint8_t *data, size_t bytes, const struct mpf_adopter *adopter)
{
    const struct mpf_imports *im = mpf_imports_get(codec);
    PyObject *loads, *pickle = NULL, *buffers = NULL, *obj = NULL;
    uint64_t length;
    uint32_t count;
    if (!im)
        return NULL;
    if (bytes < HEADER_BYTES)
        return mpf_codec_reject(codec, "it is cut short");
    memcpy(&count, data + 4, sizeof count);
    __asm__("" : "+r"(count));
    length = read_u64(data + 8);
    if (length > bytes - HEADER_BYTES)
        return mpf_codec_reject(codec, "a length exceeds it");
    if (count || length != bytes - HEADER_BYTES) {
        buffers = take_buffers(codec, data, bytes, HEADER_BYTES + (size_t)length, count, adopter);
        if (!buffers)
            return NULL;
    }
    mpf_heap_expect((size_t)length);
    loads = current_loads(codec, im);
    if (loads)
        pickle = PyMemoryView_FromMemory((char *)data + HEADER_BYTES, (Py_ssize_t)length, PyBUF_READ);
    if (pickle) {
        PyObject *args[] = {pickle, buffers};
        obj = PyObject_Vectorcall(loads, args, 1, buffers ? im->loads_kwnames : NULL);
    }
    Py_XDECREF(pickle);
    Py_XDECREF(loads);
    Py_XDECREF(buffers);
    return obj;
}

PyObject *
mpf_pickling_decode_foreign(struct mpf_codec *codec, const uint8_t *data, size_t bytes)
{
    const struct mpf_imports *im = mpf_imports_get(codec);
    PyObject *loads = im ? current_loads(codec, im) : NULL;
    mpf_heap_expect(bytes);
    PyObject *pickle = loads ? mpf_codec_bytes(data + 1, bytes - 1) : NULL;
    PyObject *obj = pickle ? PyObject_CallOneArg(loads, pickle) : NULL;
    Py_XDECREF(pickle);
    Py_XDECREF(loads);
    return obj;
}
