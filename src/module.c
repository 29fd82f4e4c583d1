/*
 * Purpose: the extension module mpfast._core: its state, its slots, the list of its types.
 *
 * Layout: no shared memory of its own; `mpf_module_state` is private to one interpreter.
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

typedef struct {
    PyObject *debug_build; /* owned: True in the checking build */
} mpf_module_state;

static mpf_module_state *
mpf_module_get_state(PyObject *module)
{
    return (mpf_module_state *)PyModule_GetState(module);
}

static int
mpf_module_exec(PyObject *module)
{
    mpf_module_state *state = mpf_module_get_state(module);
#ifdef MPF_DEBUG
    state->debug_build = Py_NewRef(Py_True);
#else
    state->debug_build = Py_NewRef(Py_False);
#endif
    return PyModule_AddObjectRef(module, "DEBUG", state->debug_build);
}

static int
mpf_module_traverse(PyObject *module, visitproc visit, void *arg)
{
    Py_VISIT(mpf_module_get_state(module)->debug_build);
    return 0;
}

static int
mpf_module_clear(PyObject *module)
{
    Py_CLEAR(mpf_module_get_state(module)->debug_build);
    return 0;
}

static void
mpf_module_free(void *module)
{
    (void)mpf_module_clear((PyObject *)module);
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

static struct PyModuleDef mpf_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "mpfast._core",
    .m_doc = "Native primitives of mpfast.",
    .m_size = sizeof(mpf_module_state),
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
