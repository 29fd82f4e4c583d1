"""What forked children run before they come to the program: prepared in their parent, so that they write to fewer pages.

A page that a child writes to is copied for it, and each use of an object is a write, as is what the interpreter notes of an
attribute that it looks up in a type for the first time.
"""
import _io
import _weakrefset
import multiprocessing.context as _context
import sys
import threading
from multiprocessing import util
from types import FunctionType, ModuleType

from . import _child, context

_HOOK = "_after_at_fork_child_reinit_locks"
_HANDLERS = "_at_fork_reinit_lock_weakset"
_NEIGHBOUR = "_register_at_fork_reinit_lock"  # a function of the same file
_NAMES = (_HANDLERS, "_at_fork_reinit", "_lock")  # that the hook uses

_has_looked_up = False
_prepared_logging = None  # the module logging whose hook has our body


def _reinit_locks():
    """What logging's hook does: it runs with the names of that module, and without the guard that iterating a WeakSet takes."""
    is_weak = type(_at_fork_reinit_lock_weakset) is weakref.WeakSet  # type: ignore[name-defined]  # noqa: F821
    for handler in tuple(_at_fork_reinit_lock_weakset.data) if is_weak else _at_fork_reinit_lock_weakset:  # type: ignore  # noqa: F821
        if is_weak:
            handler = handler()
        if handler is not None:
            handler._at_fork_reinit()
    _lock._at_fork_reinit()  # type: ignore[name-defined]  # noqa: F821


def prepare():
    """To be called before a fork.  Runs nothing of the program's, but for an audit hook."""
    if not _has_looked_up:
        _look_up()
    logging = sys.modules.get("logging")
    if logging is not None and logging is not _prepared_logging:
        _prepare_logging(logging)


def looked_up(*classes):
    """What children look up, in types, as they begin to be process objects of *classes*: (object, name of an attribute) pairs."""
    default, registry = (type(getattr(module, name, None)) for module, name in (
        (_context, "_default_context"), (util, "_afterfork_registry")))
    thread = getattr(threading, "_MainThread", None)
    streams = _io.TextIOWrapper, _io.BufferedReader, _io.FileIO  # of sys.stdin, which is closed
    return [(None, "__class__"), (default, "_actual_context"), (registry, "data"), (thread, "_native_id"),
            (thread, "_tstate_lock"), *((cls, "_start_method") for cls in classes),
            *((cls, name) for cls in streams for name in ("close", "closed", "flush"))]


def _look_up():
    global _has_looked_up
    _has_looked_up = True
    for thing, name in looked_up(_context.ForkProcess, context.ForkProcess):
        getattr(thing, name, None)


def _prepare_logging(logging):
    global _prepared_logging
    if type(logging) is not ModuleType:
        return  # it has not run yet, or is none
    hook, neighbour, handlers = (vars(logging).get(name) for name in (_HOOK, _NEIGHBOUR, _HANDLERS))
    if type(hook) is not FunctionType or type(neighbour) is not FunctionType:
        return  # another thread imports it just now, or it is another module of that name
    _prepared_logging = logging
    if not _is_known(hook, neighbour, logging) or type(handlers) is not _weakrefset.WeakSet:
        return
    try:
        hook.__code__ = _reinit_locks.__code__
    except Exception:
        return  # an audit hook objects
    for thing in vars(logging).get("_lock"), *[reference() for reference in tuple(handlers.data)]:
        _note(type(thing), "_at_fork_reinit")


def _is_known(hook, neighbour, logging):
    code = hook.__code__
    return (code.co_names == _NAMES and not code.co_freevars and code.co_filename == neighbour.__code__.co_filename and
            hook.__globals__ is vars(logging) and _child.untouched(_weakrefset.WeakSet, "__iter__", module=_weakrefset))


def _note(cls, name):
    """Have the interpreter note what *name* is in *cls*, where that runs nothing of the program's."""
    if type(cls) is type:
        found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
        if type(found) is FunctionType or type(found) is type(str.join):
            getattr(cls, name)
