"""Private attributes of the standard library's pool on a native one.

Programs put their own methods on a pool which hand tasks to ``_taskqueue`` and keep the results in ``_cache``.
"""
import multiprocessing.pool as _stdlib

from ._pool_input import LEAST_TASKS, MOST_BYTES, MOST_TASKS
from ._pool_results import Relay


class Cache(dict):
    """``_cache``: what is not finished yet, by job number.

    The dict itself holds the results of the standard library's classes; those of native ones are asked of the crew.
    """

    def __init__(self, supervisor):
        super().__init__()
        self._supervisor = supervisor

    def _all(self):
        native = {r.ordinal: r for r in self._supervisor.unresolved() if not isinstance(r, Relay)}
        return {**native, **dict(self.copy())}

    def __len__(self):
        return len(self._all())

    def __iter__(self):
        return iter(self._all())

    def keys(self):
        return self._all().keys()

    def values(self):
        return self._all().values()

    def items(self):
        return self._all().items()

    def __bool__(self):
        return bool(self._all())

    def __repr__(self):
        return repr(self._all())


class TaskQueue:
    """``_taskqueue``: takes pairs of an iterable of tasks (job, index, func, args, kwds) and a function or None.

    The function is called with the number of tasks when all are read.
    """

    def __init__(self, supervisor, cache):
        self._supervisor = supervisor
        self._cache = cache

    def put(self, item):
        if item is None:
            return
        tasks, set_length = item
        if isinstance(tasks, list):
            self._read(tasks, set_length)
            return
        self._supervisor.read_in_background(self._read, tasks, set_length)

    def qsize(self):
        """How many inputs are not read to their end."""
        return len(self._supervisor.inputs)

    def empty(self):
        return self.qsize() == 0

    def _read(self, tasks, set_length):
        supervisor = self._supervisor
        index = -1
        for job, index, func, args, kwds in tasks:
            if supervisor.failure is not None:
                break
            self._send(job, index, func, args, kwds)
            supervisor.crew.wait_room(MOST_TASKS, MOST_BYTES, least=LEAST_TASKS * supervisor.processes)
        if set_length:
            set_length(index + 1)

    def _send(self, job, index, func, args, kwds):
        relay = Relay()
        relay._aim(self._cache, job, index)
        relay._be_heard(self._supervisor)
        if func is _stdlib._helper_reraises_exception:
            self._supervisor.resolved(relay, False, args[0])
            return
        try:
            self._supervisor.crew.submit(func, args, kwds, relay)
        except Exception as error:
            self._supervisor.resolved(relay, False, error)
        else:
            self._supervisor.put(relay)
