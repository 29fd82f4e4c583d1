"""A mirror of :mod:`multiprocessing.pool`."""
from ._mirror import mirror

mirror(__name__, native=("Pool",))
