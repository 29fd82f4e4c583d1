"""A mirror of :mod:`concurrent.futures`.  ``ProcessPoolExecutor`` is loaded at its first use."""
import sys
from importlib import import_module

from ..._mirror import Mirror

_SUBMODULES = frozenset(["_base", "interpreter", "process", "thread"])


class _FuturesMirror(Mirror):
    def __getattr__(self, name):
        if name in _SUBMODULES:
            try:
                return import_module(f"{__name__}.{name}")
            except ImportError:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
        if name == "ProcessPoolExecutor":
            return import_module(f"{__name__}.process").ProcessPoolExecutor
        return super().__getattr__(name)

    def _is_handed_through(self, name):
        return name != "ProcessPoolExecutor" and super()._is_handed_through(name)


sys.modules[__name__].__class__ = _FuturesMirror
