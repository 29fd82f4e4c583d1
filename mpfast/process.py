"""An alias of :mod:`multiprocessing.process`: the current process and its children exist once."""
from ._mirror import alias

alias(__name__)
