"""A mirror of :mod:`multiprocessing.shared_memory`."""
from ._mirror import mirror

mirror(__name__)
