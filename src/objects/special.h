/* __enter__ and __exit__ that cost a `with` statement no allocation. */
#ifndef MPF_OBJECTS_SPECIAL_H
#define MPF_OBJECTS_SPECIAL_H

#include "objects/state.h"

/* Whether the interpreter looks these methods up in a way that is worth a descriptor of our own: before 3.14 each `with`
 * makes two bound methods and drops them. The free list below needs the GIL. */
#if PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)
#define MPF_SPECIAL_WORTHWHILE 1
#else
#define MPF_SPECIAL_WORTHWHILE 0
#endif

/* New reference to a descriptor for cls that does what the method `definition` (METH_NOARGS or METH_FASTCALL) does;
 * looked up on the class it gives `method`, the ordinary descriptor. NULL with an exception. */
PyObject *mpf_special_new(struct mpf_state *state, PyTypeObject *cls, PyObject *method, PyMethodDef *definition);

/* Frees what the free list holds; for m_clear and m_free. */
void mpf_special_forget(struct mpf_state *state);

#endif
