/*
 * Purpose: what a child process of the fork server gets to know of its parent and takes over from it, as spawn.prepare() does
 * it; the second half of bootstrap.c, which says why this is in C.
 *
 * Layout of the file that a child reads: | preparation data, a pickle | process object, a pickle | size of the first, u64 |
 *
 * Invariants: prepare() does all or nothing, as run() does.
 *
 * Callers: Python code, attached to the interpreter, in a child that has one thread.
 *
 * Death of the caller: nothing is shared.
 */
#include "objects/bootstrap.h"

#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

int
mpf_bootstrap_set_context(struct bootstrap *b, PyObject *method)
{
    PyObject *contexts = GET(context, _concrete_contexts), *fallback = GET(context, _default_context);
    PyObject *chosen = method == Py_None ? Py_None : contexts != NULL ? PyDict_GetItemWithError(contexts, method) : NULL;
    if (chosen == NULL || fallback == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetObject(PyExc_KeyError, method);
        }
        return -1;
    }
    return PyObject_SetAttr(fallback, b->str__actual_context, chosen);
}

/* What the preparation data say of the process object that stands for this process while its main module is imported. */
static int
bootstrap_prepare_process(struct bootstrap *b, PyObject *data)
{
    PyObject *process = GET(process, _current_process);
    PyObject *attributes = process != NULL ? PyObject_GenericGetDict(process, NULL) : NULL;
    if (attributes == NULL) {
        return -1;
    }
    PyObject *name = PyDict_GetItemWithError(data, b->str_name), *key = PyDict_GetItemWithError(data, b->str_authkey);
    PyObject *config = PyDict_GetItemWithError(attributes, b->str__config);
    int error = name != NULL ? PyDict_SetItem(attributes, b->str__name, name) : 0;
    if (error == 0 && key != NULL && config != NULL) {
        bool plain = (PyObject *)Py_TYPE(key) != b->known_AuthenticationString;
        PyObject *converted = plain ? PyObject_CallOneArg(b->known_AuthenticationString, key) : Py_NewRef(key);
        error = converted != NULL ? PyDict_SetItem(config, b->str_authkey, converted) : -1;
        Py_XDECREF(converted);
    }
    Py_DECREF(attributes);
    return error;
}

static int
bootstrap_change_directory(PyObject *directory)
{
    PyObject *path;
    if (!PyUnicode_FSConverter(directory, &path)) {
        return -1;
    }
    int error = chdir(PyBytes_AS_STRING(path));
    Py_DECREF(path);
    if (error < 0) {
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, directory);
    }
    return error;
}

/* What the preparation data say of the interpreter. */
static int
bootstrap_prepare_interpreter(struct bootstrap *b, PyObject *data)
{
    PyObject *value;
    if ((value = PyDict_GetItemWithError(data, b->str_sys_path)) != NULL && PySys_SetObject("path", value) < 0) {
        return -1;
    }
    if ((value = PyDict_GetItemWithError(data, b->str_sys_argv)) != NULL && PySys_SetObject("argv", value) < 0) {
        return -1;
    }
    if ((value = PyDict_GetItemWithError(data, b->str_dir)) != NULL && bootstrap_change_directory(value) < 0) {
        return -1;
    }
    if ((value = PyDict_GetItemWithError(data, b->str_orig_dir)) != NULL && SET(process, ORIGINAL_DIR, value) < 0) {
        return -1;
    }
    value = PyDict_GetItemWithError(data, b->str_start_method);
    return value != NULL ? mpf_bootstrap_set_context(b, value) : 0;
}

const char mpf_bootstrap_prepare_doc[] = PyDoc_STR(
"prepare($self, data, /)\n--\n\n"
"Do what spawn.prepare(data) does before it comes to the main module, and return True; False, with nothing done, where\n"
"something of that was replaced or there is to be logging.");

PyObject *
mpf_bootstrap_prepare(PyObject *self, PyObject *data)
{
    struct bootstrap *b = (struct bootstrap *)self;
    if (!PyDict_CheckExact(data) || !mpf_bootstrap_is_known(b) || PyDict_GetItemWithError(data, b->str_log_level) != NULL ||
        PyDict_GetItemWithError(data, b->str_log_to_stderr) != Py_False) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    }
    if (bootstrap_prepare_process(b, data) < 0 || bootstrap_prepare_interpreter(b, data) < 0) {
        return NULL;
    }
    Py_RETURN_TRUE;
}

const char mpf_bootstrap_read_start_doc[] = PyDoc_STR(
"read_start($module, descriptor, /)\n--\n\n"
"Read a file in memory that holds two pieces of data and then the size of the first as eight bytes, and close it.\n\n"
"Returns the two, as bytes.  Raises ValueError for a file that is none of these.");

PyObject *
mpf_bootstrap_read_start(PyObject *Py_UNUSED(module), PyObject *argument)
{
    int fd = PyObject_AsFileDescriptor(argument);
    struct stat status;
    uint64_t first;
    PyObject *pieces[2] = {NULL, NULL}, *result = NULL;
    if (fd < 0) {
        return NULL;
    }
    int64_t end = fstat(fd, &status) == 0 ? (int64_t)status.st_size - (int64_t)sizeof first : -1;
    if (end < 0 || pread(fd, &first, sizeof first, end) != sizeof first || first > (uint64_t)end) {
        PyErr_SetString(PyExc_ValueError, "not what a child is started with");
        return NULL;
    }
    const int64_t sizes[2] = {(int64_t)first, end - (int64_t)first};
    for (int i = 0; i < 2; i++) {
        pieces[i] = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)sizes[i]);
        if (pieces[i] == NULL) {
            goto done;
        }
        if (pread(fd, PyBytes_AS_STRING(pieces[i]), (size_t)sizes[i], i == 0 ? 0 : sizes[0]) != sizes[i]) {
            PyErr_SetFromErrno(PyExc_OSError);
            goto done;
        }
    }
    close(fd);
    result = PyTuple_Pack(2, pieces[0], pieces[1]);
done:
    Py_XDECREF(pieces[0]);
    Py_XDECREF(pieces[1]);
    return result;
}
