"""What forked children run before they come to the program: prepared in their parent, so that they write to fewer pages.

A page that a child writes to is copied for it, and each use of an object is a write, as is what the interpreter notes of an
attribute that it looks up in a type for the first time.
"""
import io
import multiprocessing.context as _context
import sys
import threading
from multiprocessing import util

from . import context

_HOOK = "_after_at_fork_child_reinit_locks"
_NAMES = ("_at_fork_reinit_lock_weakset", "_at_fork_reinit", "_lock")

_has_looked_up = False
_prepared_logging = None  # the module logging whose hook has our body


def _reinit_locks():
    """What logging's hook does: it runs with the names of that module, and without the guard that iterating a WeakSet takes."""
    for reference in tuple(_at_fork_reinit_lock_weakset.data):  # type: ignore[name-defined]  # noqa: F821
        handler = reference()
        if handler is not None:
            handler._at_fork_reinit()
    _lock._at_fork_reinit()  # type: ignore[name-defined]  # noqa: F821


def prepare():
    """To be called before a fork."""
    if not _has_looked_up:
        _look_up()
    logging = sys.modules.get("logging")
    if logging is not None and logging is not _prepared_logging:
        _prepare_logging(logging)


def looked_up(*classes):
    """What children look up, in types, as they begin to be process objects of *classes*: (object, name of an attribute) pairs."""
    thread = type(threading.main_thread())
    streams = io.TextIOWrapper, io.BufferedReader, io.FileIO  # of sys.stdin, which is closed
    return [(None, "__class__"), (type(_context._default_context), "_actual_context"), (type(util._afterfork_registry), "data"),
            (thread, "_native_id"), (thread, "_tstate_lock"), *((cls, "_start_method") for cls in classes),
            *((cls, name) for cls in streams for name in ("close", "closed", "flush"))]


def _look_up():
    global _has_looked_up
    _has_looked_up = True
    for thing, name in looked_up(_context.ForkProcess, context.ForkProcess):
        getattr(thing, name, None)


def _prepare_logging(logging):
    global _prepared_logging
    hook, handlers = getattr(logging, _HOOK, None), getattr(logging, _NAMES[0], None)
    code = getattr(hook, "__code__", None)
    if code is None or handlers is None:
        return  # another thread imports it just now, or it is another module of that name
    _prepared_logging = logging
    weak_set = getattr(sys.modules.get("weakref"), "WeakSet", None)
    if code.co_names == _NAMES and not code.co_freevars and hook.__globals__ is vars(logging) and type(handlers) is weak_set:
        try:
            hook.__code__ = _reinit_locks.__code__
        except Exception:
            return  # an audit hook objects
        for thing in threading.RLock(), *[reference() for reference in tuple(handlers.data)]:
            getattr(type(thing), "_at_fork_reinit", None)
