/* Modules that were found and read in advance: see prefetch.c. */
#ifndef MPF_OBJECTS_PREFETCH_H
#define MPF_OBJECTS_PREFETCH_H

#include <Python.h>

#include <stdint.h>

enum { SPEC, MODULE, CODE, SEARCH, FILES, STAMPS, ENTRY_SIZE };

#define PREFETCH_NAMES(X) \
    X(__path__) X(__package__) X(__builtins__) X(__getattr__) X(__import__) X(__spec__) X(__enter__) X(__exit__) X(name) \
    X(_initializing) X(_uninitialized_submodules)

struct prefetch {
    PyObject_HEAD
    PyObject *entries;  /* name -> entry */
    PyObject *missed;   /* set of names that were imported in another way */
    PyObject *import;   /* what __import__ is otherwise */
    PyObject *builtins; /* the dict, for the modules that are run */
    PyObject *finders, *hooks; /* what sys.meta_path and sys.path_hooks hold; tuples */
    PyObject *silent;          /* a finder that may stand before those: it finds nothing that is added */
    PyObject *lock;            /* importlib's context manager for the lock of a module */
    PyObject *tell;            /* whoever is told of what the codec imports in another way; or NULL */
    struct mpf_codec *codec;   /* that imports through this one; or NULL */
#define FIELD(name) PyObject *str_##name;
    PREFETCH_NAMES(FIELD)
#undef FIELD
};

/* What the import system can see of a change of a file, and more. All zero: there is none. */
struct stamp {
    uint64_t device, inode, size;
    int64_t seconds, nanoseconds;
};

struct stamp mpf_prefetch_stamp(const char *path);

/* Imports the module where there is an entry for it that holds, and its packages before it. modules: sys.modules.
 * 0, whether it did or not; -1: one of them has raised an exception. */
int mpf_prefetch_import(struct prefetch *p, PyObject *modules, PyObject *name);

#endif
