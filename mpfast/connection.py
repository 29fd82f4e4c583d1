"""A mirror of :mod:`multiprocessing.connection`."""
from ._mirror import mirror

mirror(__name__, native=("Connection", "Pipe"))
