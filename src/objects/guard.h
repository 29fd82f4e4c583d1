/* What keeps an object's fields together: the GIL; in free-threaded builds the object's critical section, which, like the
 * GIL, may be given up by whatever runs Python code. Nothing jumps out of a guarded block. */
#ifndef MPF_OBJECTS_GUARD_H
#define MPF_OBJECTS_GUARD_H

#include <Python.h>

#ifdef Py_GIL_DISABLED
#define MPF_GUARD(object) Py_BEGIN_CRITICAL_SECTION(object)
#define MPF_UNGUARD() Py_END_CRITICAL_SECTION()
#else
#define MPF_GUARD(object) {
#define MPF_UNGUARD() }
#endif

#endif
