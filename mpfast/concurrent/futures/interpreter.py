"""An alias of :mod:`concurrent.futures.interpreter` (CPython 3.14 and later)."""
from ..._mirror import alias

alias(__name__)
