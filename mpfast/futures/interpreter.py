"""A short name for :mod:`mpfast.concurrent.futures.interpreter`."""
import sys

from ..concurrent.futures import interpreter

sys.modules[__name__] = interpreter
