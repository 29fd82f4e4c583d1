"""An alias of :mod:`multiprocessing.popen_spawn_win32`, which imports on Windows only."""
from ._mirror import alias

alias(__name__)
