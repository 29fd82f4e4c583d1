"""An alias of :mod:`concurrent.futures.thread`: threads are not replaced."""
from ..._mirror import alias

alias(__name__)
