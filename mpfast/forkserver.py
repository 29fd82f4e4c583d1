"""An alias of :mod:`multiprocessing.forkserver`: a program has one fork server."""
from ._mirror import alias

alias(__name__)
