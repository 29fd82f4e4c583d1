/*
 * Purpose: the type Crew: the parent's side of the workers of a pool or an executor, and what makes it travel to them.
 *
 * Layout: private memory around the engine's handle (engine/crew.h). Each unresolved task has an entry in a list; the engine
 * keeps its address as the task's cookie.
 *
 * States of an entry: in `entries` (submitted) -> forgotten (result delivered, cancelled), or -> in `lost` (its worker died)
 *   -> forgotten (failed) or -> in `entries` again (retried).
 * States of the object: made -> open -> closed; in any process but its parent it only names the crew.
 *
 * Invariants: an entry in a list has a cookie in the engine, and the other way round. The lists, `spare`, `batch` and the
 * figures change under the crew's guard (guard.h), which no Python code runs under.
 *
 * Callers: any thread attached to the interpreter.
 *
 * Death of the caller: workers see that their parent is gone and leave; the crew's block goes with the last of them.
 */
#include "objects/crew.h"

#include <errno.h>

#include "memory/arena.h"
#include "objects/errors.h"
#include "objects/guard.h"
#include "objects/handle.h"
#include "objects/shared.h"
#include "objects/types.h"

#define CREW_SPARES 4096

/* ---- entries ---- */

struct mpf_crew_entry *
mpf_crew_entry_new(struct mpf_crew_object *self)
{
    struct mpf_crew_entry *entry = self->spare;
    if (entry != NULL) {
        self->spare = entry->next;
        self->spares--;
    } else if ((entry = PyMem_RawMalloc(sizeof *entry)) == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    *entry = (struct mpf_crew_entry){0};
    return entry;
}

void
mpf_crew_entry_add(struct mpf_crew_entries *list, struct mpf_crew_entry *entry)
{
    entry->next = NULL;
    entry->previous = list->last;
    *(list->last != NULL ? &list->last->next : &list->first) = entry;
    list->last = entry;
}

void
mpf_crew_entry_remove(struct mpf_crew_entries *list, struct mpf_crew_entry *entry)
{
    *(entry->previous != NULL ? &entry->previous->next : &list->first) = entry->next;
    *(entry->next != NULL ? &entry->next->previous : &list->last) = entry->previous;
}

PyObject *
mpf_crew_entry_forget(struct mpf_crew_object *self, struct mpf_crew_entry *entry)
{
    PyObject *receiver = entry->receiver;
    self->bytes -= entry->bytes;
    self->timed -= entry->timeout != 0;
    if (self->spares < CREW_SPARES) {
        entry->next = self->spare;
        self->spare = entry;
        self->spares++;
    } else {
        PyMem_RawFree(entry);
    }
    return receiver;
}

/* ---- life ---- */

int
mpf_crew_check(struct mpf_crew_object *self)
{
    if (self->crew.shm == NULL && self->ref.off == 0) {
        mpf_shared_missing((PyObject *)self);
        return -1;
    }
    if (self->crew.shm == NULL || !mpf_crew_owned(&self->crew)) {
        PyErr_SetString(PyExc_RuntimeError, "this crew belongs to another process");
        return -1;
    }
    return 0;
}

static int
crew_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"workers", "undecodable", NULL};
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    PyObject *undecodable = Py_None; /* borrowed */
    unsigned int workers;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "I|O:Crew", names, &workers, &undecodable)) {
        return -1;
    }
    if (self->crew.shm != NULL || self->ref.off != 0) {
        PyErr_SetString(PyExc_RuntimeError, "Crew is initialised already");
        return -1;
    }
    if (workers < 1 || workers > MPF_ROSTER_MAX) {
        PyErr_Format(PyExc_ValueError, "a crew has 1 to %u workers", (unsigned)MPF_ROSTER_MAX);
        return -1;
    }
    if (undecodable != Py_None && !PyCallable_Check(undecodable)) {
        PyErr_SetString(PyExc_TypeError, "undecodable must be callable");
        return -1;
    }
    struct mpf_arena *arena;
    int error = mpf_arena_home(&arena);
    if (error == 0) {
        error = mpf_crew_create(arena, &self->crew);
    }
    if (error < 0) {
        self->crew = (struct mpf_crew){0};
        mpf_errors_raise(error);
        return -1;
    }
    self->workers = workers;
    Py_XSETREF(self->undecodable, undecodable != Py_None ? Py_NewRef(undecodable) : NULL);
    return 0;
}

static PyObject *
crew_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    struct mpf_state *state = mpf_state_of_type(type);
    PyObject *op = state != NULL ? type->tp_alloc(type, 0) : NULL;
    if (op != NULL) {
        mpf_crew_object_of(op)->state = state;
    }
    return op;
}

static int
crew_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->undecodable);
    for (struct mpf_crew_entry *entry = self->entries.first; entry != NULL; entry = entry->next) {
        Py_VISIT(entry->receiver);
    }
    for (struct mpf_crew_entry *entry = self->lost.first; entry != NULL; entry = entry->next) {
        Py_VISIT(entry->receiver);
    }
    return 0;
}

static int
crew_clear(PyObject *op)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    Py_CLEAR(self->undecodable);
    for (struct mpf_crew_entry *entry = self->entries.first; entry != NULL; entry = entry->next) {
        Py_CLEAR(entry->receiver);
    }
    for (struct mpf_crew_entry *entry = self->lost.first; entry != NULL; entry = entry->next) {
        Py_CLEAR(entry->receiver);
    }
    return 0;
}

static void
crew_free_entries(struct mpf_crew_entry *entry)
{
    while (entry != NULL) {
        struct mpf_crew_entry *next = entry->next;
        PyMem_RawFree(entry);
        entry = next;
    }
}

/* Drops the messages that were collected and not handed out. */
static void
crew_free_batch(struct mpf_crew_batch *batch)
{
    for (; batch != NULL && batch->next < batch->count; batch->next++) {
        mpf_block_unref(&batch->results[batch->next].message.block);
    }
    PyMem_RawFree(batch);
}

static void
crew_dealloc(PyObject *op)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)crew_clear(op);
    crew_free_entries(self->entries.first);
    crew_free_entries(self->lost.first);
    crew_free_entries(self->spare);
    crew_free_batch(self->batch);
    if (self->crew.shm != NULL) {
        if (mpf_crew_owned(&self->crew)) {
            mpf_crew_close(&self->crew, MPF_CREW_ABANDONED);
        }
        mpf_crew_free(&self->crew);
    }
    mpf_block_unref(&self->ref);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
crew_getstate(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    if (self->crew.shm == NULL && self->ref.off == 0) {
        return mpf_shared_missing(op);
    }
    return mpf_handle_dump(self->state, self->crew.shm != NULL ? &self->crew.ref : &self->ref);
}

static PyObject *
crew_setstate(PyObject *op, PyObject *handle)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    if (self->crew.shm != NULL || self->ref.off != 0) {
        PyErr_SetString(PyExc_RuntimeError, "Crew is initialised already");
        return NULL;
    }
    if (mpf_handle_load(self->state, handle, MPF_BLOCK_POOL, &self->ref) < 0) {
        self->ref = (struct mpf_ref){0};
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- closing ---- */

static PyObject *
crew_close_as(PyObject *op, enum mpf_crew_phase phase)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    MPF_CREW_CHECK(op);
    MPF_GUARD(self);
    self->closed = true;
    mpf_crew_close(&self->crew, phase);
    MPF_UNGUARD();
    Py_RETURN_NONE;
}

static PyObject *
crew_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return crew_close_as(op, MPF_CREW_CLOSED);
}

static PyObject *
crew_abandon(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return crew_close_as(op, MPF_CREW_ABANDONED);
}

static PyObject *
crew_wake(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MPF_CREW_CHECK(op);
    mpf_crew_bump(&mpf_crew_object_of(op)->crew);
    Py_RETURN_NONE;
}

static PyObject *
crew_listen(PyObject *op, PyObject *flag)
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    int on = PyObject_IsTrue(flag);
    MPF_CREW_CHECK(op);
    if (on < 0) {
        return NULL;
    }
    int rc;
    MPF_GUARD(self);
    rc = mpf_crew_listen(&self->crew, on);
    MPF_UNGUARD();
    if (rc < 0) {
        return mpf_errors_raise(rc);
    }
    Py_RETURN_NONE;
}

static PyObject *
crew_fileno(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    int fd;
    MPF_CREW_CHECK(op);
    MPF_GUARD(self);
    fd = mpf_crew_doorbell(&self->crew);
    MPF_UNGUARD();
    if (fd < 0) {
        return mpf_errors_raise(fd);
    }
    return PyLong_FromLong(fd);
}

/* ---- figures ---- */

static PyObject *
crew_get_pending(PyObject *op, void *Py_UNUSED(closure))
{
    MPF_CREW_CHECK(op);
    return PyLong_FromUnsignedLongLong(mpf_crew_pending(&mpf_crew_object_of(op)->crew));
}

/* Workers in that state, and how many of them have a task. */
static uint32_t
crew_count_workers(struct mpf_crew_object *self, uint32_t *busy)
{
    struct mpf_crew_worker worker;
    uint32_t working = 0;
    *busy = 0;
    for (uint32_t slot = 0; slot < mpf_crew_slots(&self->crew); slot++) {
        if (mpf_crew_look(&self->crew, slot, &worker) == 0 && worker.state == MPF_ROSTER_WORKING && !worker.dead) {
            working++;
            *busy += worker.ticket != 0;
        }
    }
    return working;
}

static PyObject *
crew_get_queued(PyObject *op, void *Py_UNUSED(closure))
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    uint32_t busy;
    MPF_CREW_CHECK(op);
    (void)crew_count_workers(self, &busy);
    uint64_t pending = mpf_crew_pending(&self->crew);
    return PyLong_FromUnsignedLongLong(pending > busy ? pending - busy : 0);
}

static PyObject *
crew_get_idle(PyObject *op, void *Py_UNUSED(closure))
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    uint32_t busy;
    MPF_CREW_CHECK(op);
    uint32_t working = crew_count_workers(self, &busy);
    return PyLong_FromUnsignedLong(working - busy);
}

static PyObject *
crew_get_delivering(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(mpf_crew_object_of(op)->delivering);
}

static PyObject *
crew_get_closed(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(mpf_crew_object_of(op)->closed);
}

static PyObject *
crew_get_offset(PyObject *op, void *Py_UNUSED(closure))
{
    struct mpf_crew_object *self = mpf_crew_object_of(op);
    return PyLong_FromUnsignedLongLong(self->crew.shm != NULL ? self->crew.ref.off : self->ref.off);
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\nTake no more tasks; workers leave when there is none left to do.");
PyDoc_STRVAR(abandon_doc, "abandon($self, /)\n--\n\nTake no more tasks; workers leave after the one they are at.");
PyDoc_STRVAR(wake_doc, "wake($self, /)\n--\n\nHave every thread that waits for results look again.");
PyDoc_STRVAR(fileno_doc,
"fileno($self, /)\n--\n\n"
"A descriptor that becomes readable when a result is there, while listen(True) is in force.");
PyDoc_STRVAR(listen_doc,
"listen($self, on, /)\n--\n\n"
"Have workers make fileno() readable when they have published a result, or stop that.  collect() makes it unreadable.");

static PyMethodDef crew_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))mpf_crew_object_submit, METH_FASTCALL | METH_KEYWORDS, mpf_crew_object_submit_doc},
    {"submit_pieces", (PyCFunction)(void (*)(void))mpf_crew_object_submit_pieces, METH_VARARGS | METH_KEYWORDS,
     mpf_crew_object_submit_pieces_doc},
    {"collect", (PyCFunction)(void (*)(void))mpf_crew_object_collect, METH_FASTCALL | METH_KEYWORDS, mpf_crew_object_collect_doc},
    {"wait_room", (PyCFunction)(void (*)(void))mpf_crew_object_wait_room, METH_VARARGS | METH_KEYWORDS,
     mpf_crew_object_wait_room_doc},
    {"cancel", mpf_crew_object_cancel, METH_O, mpf_crew_object_cancel_doc},
    {"cancel_all", mpf_crew_object_cancel_all, METH_VARARGS, mpf_crew_object_cancel_all_doc},
    {"claimed", mpf_crew_object_claimed, METH_O, mpf_crew_object_claimed_doc},
    {"is_pending", mpf_crew_object_is_pending, METH_O, mpf_crew_object_is_pending_doc},
    {"fail", mpf_crew_object_fail, METH_VARARGS, mpf_crew_object_fail_doc},
    {"retry", mpf_crew_object_retry, METH_O, mpf_crew_object_retry_doc},
    {"receivers", mpf_crew_object_receivers, METH_NOARGS, mpf_crew_object_receivers_doc},
    {"load", mpf_crew_object_load, METH_NOARGS, mpf_crew_object_load_doc},
    {"add_worker", mpf_crew_object_add_worker, METH_NOARGS, mpf_crew_object_add_worker_doc},
    {"worker", mpf_crew_object_worker, METH_O, mpf_crew_object_worker_doc},
    {"dismiss", mpf_crew_object_dismiss, METH_O, mpf_crew_object_dismiss_doc},
    {"lost", mpf_crew_object_lost, METH_O, mpf_crew_object_lost_doc},
    {"overdue", mpf_crew_object_overdue, METH_NOARGS, mpf_crew_object_overdue_doc},
    {"close", crew_close, METH_NOARGS, close_doc},
    {"abandon", crew_abandon, METH_NOARGS, abandon_doc},
    {"wake", crew_wake, METH_NOARGS, wake_doc},
    {"fileno", crew_fileno, METH_NOARGS, fileno_doc},
    {"listen", crew_listen, METH_O, listen_doc},
    {"__getstate__", crew_getstate, METH_NOARGS, NULL},
    {"__setstate__", crew_setstate, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef crew_attributes[] = {
    {"pending", crew_get_pending, NULL, "Tasks without a result.", NULL},
    {"delivering", crew_get_delivering, NULL, "Results that have come and not reached their receivers: some thread is at it.", NULL},
    {"queued", crew_get_queued, NULL, "Tasks that no worker has taken yet, at a glance.", NULL},
    {"idle", crew_get_idle, NULL, "Workers that wait for a task, at a glance.", NULL},
    {"closed", crew_get_closed, NULL, "Whether it takes no more tasks.", NULL},
    {"_offset", crew_get_offset, NULL, "Where it is in its arena, in bytes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot crew_slots[] = {
    {Py_tp_doc, "Crew(workers, undecodable=None)\n--\n\nTasks for worker processes, of which there are at most `workers` at a time."},
    {Py_tp_new, crew_new},
    {Py_tp_init, crew_init},
    {Py_tp_dealloc, crew_dealloc},
    {Py_tp_traverse, crew_traverse},
    {Py_tp_clear, crew_clear},
    {Py_tp_methods, crew_methods},
    {Py_tp_getset, crew_attributes},
    {0, NULL},
};

static PyType_Spec crew_spec = {
    .name = "mpfast._core.Crew",
    .basicsize = sizeof(struct mpf_crew_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = crew_slots,
};

int
mpf_crew_register(PyObject *module)
{
    return mpf_state_add_type(module, &crew_spec, NULL, &mpf_state_of(module)->crew_type);
}
