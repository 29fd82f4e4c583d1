"""An alias of :mod:`concurrent.futures.interpreter`; empty before CPython 3.14, which has the first one."""
import sys

from ..._mirror import alias

if sys.version_info >= (3, 14):
    alias(__name__)
