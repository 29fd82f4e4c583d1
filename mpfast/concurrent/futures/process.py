"""A mirror of :mod:`concurrent.futures.process`."""
from ..._mirror import mirror

mirror(__name__, native=("ProcessPoolExecutor",))
