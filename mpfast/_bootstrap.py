"""What a child does around the program's function: the standard library's ``BaseProcess._bootstrap``, mostly in C.

See ``src/objects/bootstrap.c`` for why.  Where the program has replaced a part of it, or logs, the standard library's own
runs.
"""
import atexit
import functools
import multiprocessing.context as _context
import multiprocessing.process as _process
import multiprocessing.util as _util
import os
import sys
import threading

from . import _child, _core

_Base = vars(_process)["BaseProcess"]
_original = _Base._bootstrap
_NEWEST = 3, 15  # the last version whose way to bootstrap is known


def _report(process, exc, skipped):
    """Say what ended *process* as the standard library does, and return the exit code.

    skipped: how many of the standard library's frames are missing in the traceback.
    """
    if isinstance(exc, SystemExit):
        if exc.code is None:
            return 0
        if isinstance(exc.code, int):
            return exc.code
        sys.stderr.write(str(exc.code) + "\n")
        return 1
    import traceback
    entries = exc.__traceback__
    for function, name in ((_Base.run, "_kwargs"), (_original, "run"))[2 - skipped:]:
        entries = _with_entry(entries, function, name)
    sys.stderr.write("Process %s:\n" % process.name)
    traceback.print_exception(type(exc), exc, entries)
    return 1


def _with_entry(entries, function, name):
    """The traceback *entries* as called by *function*, in its first call after it has looked up *name*."""
    import dis
    from types import TracebackType
    code = function.__code__
    instructions = iter(dis.get_instructions(code))
    try:
        while next(instructions).argval != name:
            pass
        call = next(instruction for instruction in instructions if instruction.opname.startswith("CALL"))
        line = next(line for start, end, line in code.co_lines() if start <= call.offset < end)
        return TracebackType(entries, _core.frame(code, function.__globals__), call.offset, line)
    except StopIteration:
        return entries  # it is written in another way than in the versions that are known


if sys.version_info >= (3, 14):
    def _after_fork_alone():
        """What threading does in a forked child whose parent has one thread.  Its code runs with the names of that module."""
        _main_thread._set_native_id()  # type: ignore[name-defined]  # noqa: F821
else:
    def _after_fork_alone():
        """What threading does in a forked child whose parent has one thread."""


def _make():
    known = (sys.version_info[:2] <= _NEWEST and getattr(sys, "_is_gil_enabled", lambda: True)() and
             _child.untouched(_Base, "_bootstrap", "run", module=_process))
    exits = "_exit_function" in getattr(getattr(_original, "__code__", None), "co_names", ())
    hook = getattr(threading, "_after_fork", None)
    if not (hasattr(hook, "__code__") and hook.__globals__ is vars(threading) and not hook.__code__.co_freevars):
        hook = None
    return _core.Bootstrap(vars(_process), vars(_util), vars(_context), vars(threading), vars(os), vars(atexit),
                           _report, hook, _after_fork_alone, exits, known)


bootstrap = _make()


@functools.wraps(_original)
def _bootstrap(self, parent_sentinel=None):
    try:
        code = bootstrap.run(self, parent_sentinel)
        return code if code is not NotImplemented else _original(self, parent_sentinel)
    finally:
        _core.leave()  # it ends by os._exit(), which looks like being killed


_Base._bootstrap = _bootstrap
