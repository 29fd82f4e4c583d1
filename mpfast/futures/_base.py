"""A short name for :mod:`mpfast.concurrent.futures._base`."""
import sys

from ..concurrent.futures import _base

sys.modules[__name__] = _base
