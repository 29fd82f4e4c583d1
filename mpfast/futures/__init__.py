"""A short name for :mod:`mpfast.concurrent.futures`."""
import sys
import types

from ..concurrent import futures


class _ShortName(types.ModuleType):
    def __getattr__(self, name):
        return getattr(futures, name)

    def __dir__(self):
        return dir(futures)


sys.modules[__name__].__class__ = _ShortName
