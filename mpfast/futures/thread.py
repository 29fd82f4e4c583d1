"""A short name for :mod:`mpfast.concurrent.futures.thread`."""
import sys

from ..concurrent.futures import thread

sys.modules[__name__] = thread
