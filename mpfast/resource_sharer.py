"""An alias of :mod:`multiprocessing.resource_sharer`: a process has one sharer."""
from ._mirror import alias

alias(__name__)
