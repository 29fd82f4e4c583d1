"""Forks of a process that has one thread do without :mod:`threading`'s cleaning up after the others.

That cleaning is a function of Python which touches some hundred and fifty pages, each of which is copied in the child; with
one thread it leaves everything as it finds it.
"""
import _thread
import sys
import threading

_hook = getattr(threading, "_after_fork", None)


def _nothing():
    pass


def _is_known():
    """Whether :mod:`threading` is as this module knows it: the interpreter's own, with a lock for all that runs in it."""
    wanted = "_active", "_limbo", "_dangling", "_main_thread", "_start_new_thread", "get_ident"
    code = getattr(_hook, "__code__", None)
    return (code is not None and not code.co_freevars and _hook.__globals__ is vars(threading) and
            all(hasattr(threading, name) for name in wanted) and hasattr(threading._dangling, "data") and
            getattr(sys, "_is_gil_enabled", lambda: True)())


_KNOWN = _is_known()


def is_single_threaded():
    """Whether the calling thread is this process's only one, as far as :mod:`threading` knows, and always was."""
    if not _KNOWN or len(threading._active) != 1 or threading._limbo or len(threading._dangling.data) != 1:
        return False
    # Who replaces these two has threads of another kind.
    if threading._start_new_thread is not _thread.start_new_thread or threading.get_ident is not _thread.get_ident:
        return False
    return threading._active.get(_thread.get_ident()) is threading._main_thread


class skipping:
    """While this is entered no fork cleans up after other threads; for who is single-threaded, see above.

    The child of such a fork has to leave it, too.
    """

    __slots__ = ("_code",)

    def __enter__(self):
        self._code = _hook.__code__
        _hook.__code__ = _nothing.__code__

    def __exit__(self, *exc_info):
        _hook.__code__ = self._code
