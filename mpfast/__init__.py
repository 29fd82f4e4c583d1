"""A drop-in for :mod:`multiprocessing` and :class:`concurrent.futures.ProcessPoolExecutor` on native shared memory.

    import mpfast as multiprocessing
    from mpfast.concurrent.futures import ProcessPoolExecutor
    mpfast.install()                    # for a whole program, its libraries and its children
    python -m mpfast script.py          # the same, without a change to the program

Every public name of the running version's :mod:`multiprocessing` is here under the same name.  Beyond it:
:func:`install`, :func:`uninstall`, :func:`doctor`, :func:`set_strict`, :func:`get_strict`, :class:`OwnerDied`,
:class:`OwnerDiedWarning`, :class:`WorkerLostError`, :class:`ProcessGroup`; :class:`SharedDict` and :class:`SharedList`, where
the native part is in use.
"""
import multiprocessing as _stdlib
import sys

from . import _mirror, _native, context

__all__ = list(_stdlib.__all__)
globals().update((name, getattr(context._default_context, name)) for name in __all__)

# What a spawned child has loaded without this package.
globals().update((_name, sys.modules[f"mpfast.{_name}"]) for _name in ("_core", "_crew_worker", "_late")
                 if f"mpfast.{_name}" in sys.modules)

SUBDEBUG = _stdlib.SUBDEBUG
SUBWARNING = _stdlib.SUBWARNING

_SUBMODULES = frozenset([
    "concurrent", "connection", "dummy", "forkserver", "futures", "heap", "managers", "pool", "popen_fork",
    "popen_forkserver", "popen_spawn_posix", "popen_spawn_win32", "process", "queues", "reduction", "resource_sharer",
    "resource_tracker", "shared_memory", "sharedctypes", "spawn", "synchronize", "util",
])

_ERRORS = frozenset(["OwnerDied", "OwnerDiedWarning", "WorkerLostError"])

if _native.native("SharedDict") is not None:
    SharedDict = _native.core.SharedDict
    SharedList = _native.core.SharedList


def install():
    """Put this package's classes in the place of the standard library's, in this process and in its children.

    Returns True where they are in place, False where there is no native part to install (see :func:`doctor`).
    Calling it again changes nothing.
    """
    from ._install import install
    return install()


def uninstall():
    """Put the standard library's classes back.  Objects made meanwhile keep working."""
    from ._install import uninstall
    uninstall()


def doctor():
    """Find out what is native here and what is not.

    Returns a :class:`mpfast._doctor.Report`; ``print`` it for reading, or look at its ``features``.
    """
    from ._doctor import examine
    return examine()


def set_strict(strict):
    """Choose what an acquire does that gets a lock whose owner was killed while it held it.

    strict: False, the default, takes the lock and issues :class:`OwnerDiedWarning`; True raises :class:`OwnerDied`
    and leaves the lock free.  Returns the former setting.  Holds for this process and the children it starts from now on.
    """
    from . import _errors
    return _errors.set_strict(strict)


def get_strict():
    """Returns the setting of :func:`set_strict`."""
    from . import _errors
    return _errors.get_strict()


def __getattr__(name):
    # Imported when it is asked for: each spawned child imports this package.
    if name == "ProcessGroup":
        from ._group import ProcessGroup
        return ProcessGroup
    if name in _ERRORS:
        from . import _errors
        return getattr(_errors, name)
    if name == "__version__":
        from ._version import VERSION
        return VERSION
    if name in _SUBMODULES:
        return _mirror.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_SUBMODULES, *_ERRORS, "ProcessGroup", "__version__"})
