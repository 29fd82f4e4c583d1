"""A mirror of :mod:`multiprocessing.popen_spawn_posix`."""
from ._mirror import mirror

mirror(__name__)
