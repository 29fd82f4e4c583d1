"""A mirror of :mod:`multiprocessing.popen_forkserver`."""
from ._mirror import mirror

mirror(__name__)
