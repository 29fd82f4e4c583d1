/*
 * Purpose: functions of the module about processes: ending with the parent, telling processes apart.
 *
 * Layout, states: none of its own; see platform/follow.c.
 *
 * Invariants: none.
 *
 * Callers: Python code, attached to the interpreter.
 *
 * Death of the caller: nothing is shared.
 */
#include <Python.h>

#include <unistd.h>

#include "objects/errors.h"
#include "objects/types.h"
#include "platform/follow.h"
#include "platform/process.h"

PyDoc_STRVAR(follow_parent_doc,
"follow_parent($module, /, pid=0, start_time=0, told=False)\n--\n\n"
"Have this process end at once, as by os._exit(1), when another process has ended, whatever ended that one.\n\n"
"pid: of that process; 0: the parent (os.getppid()).  start_time: what process_start_time() says of it, where that is\n"
"known; with it a pid that has been given to another process is told apart.  told: somebody sends follow_signal() when it\n"
"has ended; without that, a process that is not the parent is looked at four times a second.\n\n"
"Where the process has ended already, this one ends in the call.  A forked child follows nobody.  Repeating it changes nothing.");

static PyObject *
process_follow_parent(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pid", "start_time", "told", NULL};
    int pid = 0, told = 0;
    unsigned long long start_time = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|iKp:follow_parent", names, &pid, &start_time, &told)) {
        return NULL;
    }
    int error = mpf_follow_start(pid != 0 ? pid : (int)getppid(), start_time, told != 0);
    if (error < 0) {
        return mpf_errors_raise(error);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(outlive_parent_doc,
"outlive_parent($module, /)\n--\n\n"
"Undo follow_parent(): this process goes on when the other one ends.");

static PyObject *
process_outlive_parent(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    mpf_follow_stop();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(followed_doc,
"followed($module, /)\n--\n\n"
"Returns the pid of the process that this one follows, None when it follows nobody.");

static PyObject *
process_followed(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    int32_t pid = mpf_follow_whom();
    if (pid == 0) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLong(pid);
}

PyDoc_STRVAR(follow_signal_doc,
"follow_signal($module, /)\n--\n\n"
"Returns the number of the signal that has a process look whether the one it follows has ended; ignored by others.");

static PyObject *
process_follow_signal(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(mpf_follow_signal());
}

PyDoc_STRVAR(process_start_time_doc,
"process_start_time($module, pid, /)\n--\n\n"
"Returns when a process started, in clock ticks since boot: with the pid, what tells it from every other process.\n\n"
"Raises OSError where there is no such process (one that has ended and was not waited for counts as none) or no /proc.");

static PyObject *
process_start_time(PyObject *Py_UNUSED(module), PyObject *argument)
{
    long pid = PyLong_AsLong(argument);
    if (pid == -1 && PyErr_Occurred()) {
        return NULL;
    }
    uint64_t start_time;
    int error = mpf_process_start_time((int32_t)pid, &start_time);
    if (error < 0) {
        return mpf_errors_raise(error);
    }
    return PyLong_FromUnsignedLongLong(start_time);
}

static PyMethodDef process_functions[] = {
    {"follow_parent", (PyCFunction)(void (*)(void))process_follow_parent, METH_VARARGS | METH_KEYWORDS, follow_parent_doc},
    {"outlive_parent", process_outlive_parent, METH_NOARGS, outlive_parent_doc},
    {"followed", process_followed, METH_NOARGS, followed_doc},
    {"follow_signal", process_follow_signal, METH_NOARGS, follow_signal_doc},
    {"process_start_time", process_start_time, METH_O, process_start_time_doc},
    {NULL, NULL, 0, NULL},
};

int
mpf_process_register(PyObject *module)
{
    return PyModule_AddFunctions(module, process_functions);
}
