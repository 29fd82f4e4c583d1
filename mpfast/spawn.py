"""An alias of :mod:`multiprocessing.spawn`: its functions are replaced at run time by other packages."""
from ._mirror import alias

alias(__name__)
