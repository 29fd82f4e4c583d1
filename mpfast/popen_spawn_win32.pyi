import sys

if sys.platform == "win32":
    from multiprocessing.popen_spawn_win32 import *
