"""A mirror of :mod:`multiprocessing.popen_fork`."""
from ._mirror import mirror

mirror(__name__)
