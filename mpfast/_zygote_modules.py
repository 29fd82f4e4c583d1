"""What the fork server imports for its children: every page and mapping of it costs each child a little.

What children are likely to need is there from the beginning.  Some modules of the standard library come with that and are
named in it, but few children use them: these are put off, until a child has had to import one of them itself.
"""
import os
import sys

from ._child import args_from_interpreter_flags, put_off, put_off_no_more

_PUT_OFF = frozenset(["hmac", "random", "runpy", "subprocess", "tempfile"])

# Of these shutil wants to know no more than whether they are there.  One that is and cannot be loaded fails when it is used.
_COMPRESSORS = {"bz2": "_bz2", "lzma": "_lzma", "zlib": "zlib", "compression.zstd": "_zstd"}


class _Names:
    """What ``tempfile._RandomNameSequence()`` is, made when it is first asked for a name."""

    _names = None

    def __iter__(self):
        return self

    def __next__(self):
        if self._names is None:
            import tempfile
            self._names = tempfile._RandomNameSequence()
        return next(self._names)


def import_likely():
    """Import what a child is likely to need.  Called before anything else has imported it."""
    given = {"runpy": {}, "tempfile": {"_RandomNameSequence": _Names},
             "subprocess": {"_args_from_interpreter_flags": args_from_interpreter_flags}}
    placed = put_off(given)
    try:
        import __future__  # noqa: F401  # most modules of programs do

        # Not as a name in its package, which would import the standard library's to look for it there.
        import mpfast.concurrent.futures._worker  # noqa: F401

        from . import _crew_worker, connection, context, popen_forkserver, queues, spawn, synchronize  # noqa: F401
    finally:
        put_off_no_more(placed, given)


def import_told(names):
    """Import those of *names*, which a child has had to import, that were put off.  Returns whether there were any."""
    wanted = [name for name in names if name in _PUT_OFF and name not in sys.modules and _is_the_library(name)]
    for name in wanted:
        _import(name)
    return bool(wanted)


def _is_the_library(name):
    """Whether it is the standard library's module, not one of the same name that comes first."""
    from importlib.machinery import PathFinder
    spec = PathFinder.find_spec(name)
    return spec is not None and spec.origin is not None and os.path.dirname(spec.origin) == os.path.dirname(os.__file__)


def _import(name):
    from importlib.util import find_spec
    libraries = {name: {} for name, library in _COMPRESSORS.items() if find_spec(library)}
    placed = put_off(libraries)
    library = os.path.dirname(os.__file__)
    path, sys.path = sys.path, [library, os.path.join(library, "lib-dynload")]
    try:
        __import__(name)
    except ImportError:
        pass  # as in each child
    finally:
        sys.path = path
        put_off_no_more(placed, libraries)
