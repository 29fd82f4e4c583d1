"""A mirror of :mod:`multiprocessing.synchronize`."""
from ._mirror import mirror

mirror(__name__, native=("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"))
