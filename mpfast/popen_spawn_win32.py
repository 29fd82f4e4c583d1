"""An alias of :mod:`multiprocessing.popen_spawn_win32`; empty where that cannot be imported, outside Windows."""
import sys

from ._mirror import alias

if sys.platform == "win32":
    alias(__name__)
