/* What a child does around the program's function: see bootstrap.c, and bootstrap_prepare.c for what comes first. */
#ifndef MPF_OBJECTS_BOOTSTRAP_H
#define MPF_OBJECTS_BOOTSTRAP_H

#include <Python.h>

#include <stdbool.h>

#define BOOTSTRAP_MODULES(X) X(process) X(util) X(context) X(threading) X(os) X(atexit)

#if PY_VERSION_HEX >= 0x030D0000
#define BOOTSTRAP_START_OF_THREADS(X) X(threading, _start_joinable_thread)
#else
#define BOOTSTRAP_START_OF_THREADS(X) X(threading, _start_new_thread)
#endif

/* What must be in its module as it was when the Bootstrap was made: X(module, name). */
#define BOOTSTRAP_KNOWN(X) \
    X(process, _ParentProcess) \
    X(process, AuthenticationString) \
    X(util, _close_stdin) \
    X(util, _exit_function) \
    X(util, _flush_std_streams) \
    X(util, _run_after_forkers) \
    X(util, info) \
    X(context, _force_start_method) \
    X(threading, _shutdown) \
    BOOTSTRAP_START_OF_THREADS(X) \
    X(threading, get_ident) \
    X(threading, main_thread)

#define BOOTSTRAP_NAMES(X) \
    X(_logger) X(_start_method) X(_default_context) X(_concrete_contexts) X(_actual_context) X(_process_counter) \
    X(_children) X(_current_process) X(_parent_process) X(_parent_name) X(_parent_pid) X(_main_thread) X(_native_id) \
    X(_finalizer_registry) X(_afterfork_registry) X(data) X(_after_fork) X(run) X(_target) X(_args) X(_kwargs) X(_exiting) \
    X(_active) X(_limbo) X(_dangling) X(__code__) X(_threading_atexits) X(_shutdown_locks) X(close) X(flush) X(_name) \
    X(_config) X(authkey) X(name) X(sys_path) X(sys_argv) X(dir) X(orig_dir) X(start_method) X(log_to_stderr) X(log_level) \
    X(ORIGINAL_DIR) X(_pid) X(_sentinel) X(_tstate_lock) X(_bootstrap) X(_exit) X(_is_stopped) \
    X(pid) X(sentinel) X(preserve_fd) X(_clear) X(_run_exitfuncs) X(register)

/* Owned, or NULL where nothing is said of it. */
#define BOOTSTRAP_OBJECTS(X) \
    X(run) X(after_fork) /* as they stand in BaseProcess.__dict__ */ \
    X(count) /* itertools.count */ \
    X(report) \
    X(open) /* io.open */ \
    X(stdin_made) /* what util._close_stdin() has put in the place of sys.stdin; NULL: nothing yet */ \
    X(streams) /* descriptor -> a stream on it that can be put there; a dict */ \
    X(hook) X(hook_body) /* threading's after a fork, and its code; NULL: it has none that is known */ \
    X(no_body) /* code that does what is left of that with one thread */ \
    X(ahead_family) X(ahead_name) X(ahead_counter) X(ahead_children) /* made for the next child; or NULL */ \
    X(former_counter) X(former_children) /* kept in a child: freeing them copies pages; or NULL */

struct bootstrap {
    PyObject_HEAD
#define FIELD(module) PyObject *module; /* its dict, owned */
    BOOTSTRAP_MODULES(FIELD)
#undef FIELD
#define FIELD(module, name) PyObject *known_##name, *known_name_##name; /* owned */
    BOOTSTRAP_KNOWN(FIELD)
#undef FIELD
#define FIELD(name) PyObject *str_##name; /* interned, owned */
    BOOTSTRAP_NAMES(FIELD)
#undef FIELD
#define FIELD(name) PyObject *name;
    BOOTSTRAP_OBJECTS(FIELD)
#undef FIELD
    int reserved;   /* in a forked child: a descriptor of /dev/null that its parent has opened for it; or -1 */
    long ahead_pid; /* ahead_family: of the process ahead_pid, of the name ahead_name */
    bool known;     /* false: it is another version, and nothing here is to be used */
    int exits;      /* whether BaseProcess._bootstrap itself calls util._exit_function(); else it is registered with atexit */
};

#define GET(module, name) PyDict_GetItemWithError(b->module, b->str_##name) /* borrowed */
#define SET(module, name, value) PyDict_SetItem(b->module, b->str_##name, value)
/* What the module has under a name of BOOTSTRAP_KNOWN now: borrowed; calls it: 0 or -1. */
#define GET_KNOWN(module, name) PyDict_GetItemWithError(b->module, b->known_name_##name)
#define CALL(module, name) mpf_bootstrap_call(GET_KNOWN(module, name))
#define IS_KNOWN(module, name) (GET_KNOWN(module, name) == b->known_##name)

/* Whether looking the name up in the instance gives what stands in BaseProcess.__dict__. */
bool mpf_bootstrap_inherits(PyObject *object, PyObject *attributes, PyObject *name, PyObject *base);
/* Calls a function without arguments. function: borrowed, NULL where it is missing. 0 or -1. */
int mpf_bootstrap_call(PyObject *function);
/* Does what BaseProcess._bootstrap does. New reference: the exit code, or NotImplemented and nothing is done; NULL: exception. */
PyObject *mpf_bootstrap_run(struct bootstrap *b, PyObject *process, PyObject *sentinel);
/* Does what util._flush_std_streams() does. 0 or -1. */
int mpf_bootstrap_flush(struct bootstrap *b);
/* Whether everything in BOOTSTRAP_KNOWN is in its place and nobody logs. */
bool mpf_bootstrap_is_known(struct bootstrap *b);
/* The context that get_context() returns from now on. method: its name, None for the platform's. 0 or -1. */
int mpf_bootstrap_set_context(struct bootstrap *b, PyObject *method);

/* bootstrap_ahead.c. Before a fork: makes ready what its child takes. No exception. */
void mpf_bootstrap_make_ahead(struct bootstrap *b);
/* In a child: new references. The object for the parent process; the counter of processes; the set of children. */
PyObject *mpf_bootstrap_take_family(struct bootstrap *b, PyObject *name, PyObject *pid, PyObject *sentinel);
PyObject *mpf_bootstrap_take_counter(struct bootstrap *b);
PyObject *mpf_bootstrap_take_children(struct bootstrap *b);

/* bootstrap_fork.c: methods of Bootstrap */
extern const char mpf_bootstrap_fork_doc[];
PyObject *mpf_bootstrap_fork(PyObject *self, PyObject *args);
PyObject *mpf_bootstrap_is_single_threaded(PyObject *self, PyObject *ignored);
PyObject *mpf_bootstrap_skip_hook(PyObject *self, PyObject *skip);

/* bootstrap_prepare.c: a method of Bootstrap, a function of the module */
extern const char mpf_bootstrap_prepare_doc[], mpf_bootstrap_read_start_doc[];
PyObject *mpf_bootstrap_prepare(PyObject *self, PyObject *data);
PyObject *mpf_bootstrap_read_start(PyObject *module, PyObject *descriptor);

#endif
