"""A mirror of :mod:`multiprocessing.sharedctypes`."""
from ._mirror import mirror

mirror(__name__)
