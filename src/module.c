/*
 * Purpose: the extension module mpfast._core: its state, its slots, the list of its types.
 *
 * Layout: no shared memory of its own; `struct mpf_state` is private to one interpreter.
 *
 * States: created by the import system (multi-phase initialisation), filled by mpf_module_exec(), cleared when its
 * interpreter lets go of the module.
 *
 * Invariants: nothing Python-visible is kept in C globals, so several interpreters may each load a copy.
 *
 * Callers: the import system, holding the GIL (or attached to the interpreter in a free-threaded build).
 *
 * Death of the caller: nothing is shared, so nothing is left behind.
 */
#include <Python.h>

#include "codec/codec.h"
#include "containers/container.h"
#include "engine/crew.h"
#include "objects/errors.h"
#include "objects/special.h"
#include "objects/state.h"
#include "objects/types.h"
#include "sync/register.h"

#ifdef MPF_DEBUG
#define MODULE_DEBUG_BUILD Py_True
#else
#define MODULE_DEBUG_BUILD Py_False
#endif

/* In this order: each may use what the ones before it added. */
static int (*const module_registrations[])(PyObject *module) = {
    mpf_state_register,
    mpf_errors_register,
    mpf_codec_register,
    mpf_special_register,
    mpf_handle_register,
    mpf_lock_register,
    mpf_semaphore_register,
    mpf_condition_register,
    mpf_event_register,
    mpf_until_register,
    mpf_barrier_register,
    mpf_message_register,
    mpf_queue_register,
    mpf_managed_queue_register,
    mpf_connection_register,
    mpf_select_register,
    mpf_storage_register,
    mpf_synchronized_register,
    mpf_value_register,
    mpf_array_register,
    mpf_array_iterator_register,
    mpf_string_register,
    mpf_mapping_register,
    mpf_shared_memory_register,
    mpf_names_register,
    mpf_shareable_list_register,
    mpf_dict_register,
    mpf_receiver_register,
    mpf_stream_register,
    mpf_crew_register,
    mpf_crew_submit_register,
    mpf_crew_work_register,
    mpf_watch_register,
    mpf_definitions_register,
    mpf_list_register,
    mpf_inspect_register,
    mpf_process_register,
    mpf_zygote_register,
    mpf_bootstrap_register,
    mpf_prefetch_register,
};

static int
mpf_module_exec(PyObject *module)
{
    mpf_sync_register_hooks();
    mpf_containers_register_hooks();
    mpf_crew_register_hooks();
    for (size_t i = 0; i < sizeof(module_registrations) / sizeof(module_registrations[0]); i++) {
        if (module_registrations[i](module) < 0) {
            return -1;
        }
    }
    return PyModule_AddObjectRef(module, "DEBUG", MODULE_DEBUG_BUILD);
}

static int
mpf_module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct mpf_state *state = mpf_state_of(module);
#define MODULE_VISIT(type, name) Py_VISIT(state->name);
    MPF_STATE_OWNED(MODULE_VISIT)
#undef MODULE_VISIT
    return mpf_codec_traverse(state->codec, visit, arg);
}

static int
mpf_module_clear(PyObject *module)
{
    struct mpf_state *state = mpf_state_of(module);
#define MODULE_CLEAR(type, name) Py_CLEAR(state->name);
    MPF_STATE_OWNED(MODULE_CLEAR)
#undef MODULE_CLEAR
    mpf_special_forget(state);
    return mpf_codec_clear(state->codec);
}

static void
mpf_module_free(void *module)
{
    struct mpf_state *state = mpf_state_of((PyObject *)module);
    (void)mpf_module_clear((PyObject *)module);
    mpf_codec_free(state->codec);
    state->codec = NULL;
}

static PyModuleDef_Slot mpf_module_slots[] = {
    {Py_mod_exec, mpf_module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef mpf_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "mpfast._core",
    .m_doc = "Native primitives of mpfast.",
    .m_size = sizeof(struct mpf_state),
    .m_slots = mpf_module_slots,
    .m_traverse = mpf_module_traverse,
    .m_clear = mpf_module_clear,
    .m_free = mpf_module_free,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&mpf_module_def);
}
