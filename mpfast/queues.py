"""A mirror of :mod:`multiprocessing.queues`."""
from ._mirror import mirror

mirror(__name__, native=("Queue", "JoinableQueue", "SimpleQueue"))
