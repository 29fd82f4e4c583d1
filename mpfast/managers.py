"""A mirror of :mod:`multiprocessing.managers`."""
from ._mirror import mirror

mirror(__name__)
