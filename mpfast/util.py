"""An alias of :mod:`multiprocessing.util`: finalizers, after-fork hooks and the logger exist once."""
from ._mirror import alias

alias(__name__)
