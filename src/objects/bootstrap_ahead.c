/*
 * Purpose: objects that every child begins with, made before the fork. What the parent makes once, each child has as its
 * own; making them there would have it write to, and so copy, some thirty pages.
 *
 * States: nothing made -> made, in a process that forks -> taken, in its child, where nothing is made then.
 *
 * Invariants: what is made is nobody else's, so that each child finds it as it was made. The parent in it is the process that
 * forks; a child that a server has forked for another process writes that one over it.
 *
 * Callers: before a fork and in its child, attached to the interpreter.
 *
 * Death of the caller: nothing is shared.
 */
#include "objects/bootstrap.h"

#include <unistd.h>

static void
ahead_make_family(struct bootstrap *b, PyObject *name)
{
    long pid = (long)getpid();
    if (b->ahead_family != NULL && b->ahead_name == name && b->ahead_pid == pid) {
        return;
    }
    Py_XSETREF(b->ahead_family, PyObject_CallFunction(b->known__ParentProcess, "OlO", name, pid, Py_None));
    Py_XSETREF(b->ahead_name, Py_NewRef(name));
    b->ahead_pid = pid;
}

void
mpf_bootstrap_make_ahead(struct bootstrap *b)
{
    PyObject *current = b->known && IS_KNOWN(process, _ParentProcess) ? GET(process, _current_process) : NULL; /* borrowed */
    PyObject *name = current != NULL ? PyObject_GetAttr(current, b->str__name) : NULL;
    if (name != NULL) {
        ahead_make_family(b, name);
        Py_DECREF(name);
    }
    if (b->ahead_counter == NULL) {
        b->ahead_counter = PyObject_CallFunction(b->count, "i", 1);
    }
    if (b->ahead_children == NULL) {
        b->ahead_children = PySet_New(NULL);
    }
    PyErr_Clear(); /* the child makes what is not there */
}

PyObject *
mpf_bootstrap_take_counter(struct bootstrap *b)
{
    PyObject *counter = b->ahead_counter;
    b->ahead_counter = NULL;
    return counter != NULL ? counter : PyObject_CallFunction(b->count, "i", 1);
}

PyObject *
mpf_bootstrap_take_children(struct bootstrap *b)
{
    PyObject *children = b->ahead_children;
    b->ahead_children = NULL;
    return children != NULL ? children : PySet_New(NULL);
}

PyObject *
mpf_bootstrap_take_family(struct bootstrap *b, PyObject *name, PyObject *pid, PyObject *sentinel)
{
    PyObject *family = b->ahead_family;
    b->ahead_family = NULL;
    if (family == NULL || (b->ahead_name != name && PyObject_SetAttr(family, b->str__name, name) < 0) ||
        (PyLong_AsLong(pid) != b->ahead_pid && PyObject_SetAttr(family, b->str__pid, pid) < 0) ||
        PyObject_SetAttr(family, b->str__sentinel, sentinel) < 0) {
        PyErr_Clear();
        Py_XDECREF(family);
        return PyObject_CallFunctionObjArgs(b->known__ParentProcess, name, pid, sentinel, NULL);
    }
    return family;
}
