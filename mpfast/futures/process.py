"""A short name for :mod:`mpfast.concurrent.futures.process`."""
import sys

from ..concurrent.futures import process

sys.modules[__name__] = process
