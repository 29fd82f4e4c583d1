"""A mirror of :mod:`multiprocessing.heap`."""
from ._mirror import mirror

mirror(__name__)
