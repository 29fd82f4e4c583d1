"""The implementations that rows are measured on: the standard library, mpfast, and libraries with the same purpose.

A row asks an implementation for what it needs, and gets the standard library's interface: peers with another one
are adapted here.  What an implementation does not have raises :class:`~benchmarks.registry.Unavailable`.
"""
from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import os

from benchmarks.registry import Unavailable

REFERENCE = "stdlib"
SUBJECT = "mpfast"

#: Workers of a pool or executor.
WORKERS = 2


class Implementation:
    """What rows may ask for.

    name: how the command line and the table call it.
    module: the module whose presence tells whether it is installed.
    distribution: its name in the package index, or None.
    provides: the kinds of rows it is asked for (see ``Row.uses``).
    quick: whether tiny sizes are wanted.
    """

    name = ""
    module = ""
    distribution = None
    provides = frozenset()

    def __init__(self, quick=False):
        self.quick = quick

    @classmethod
    def installed(cls):
        """Whether it can be imported here."""
        return importlib.util.find_spec(cls.module) is not None

    @classmethod
    def version(cls):
        """Version of its distribution, or None."""
        try:
            return importlib.metadata.version(cls.distribution) if cls.distribution else None
        except importlib.metadata.PackageNotFoundError:
            return None

    def describe(self):
        """What is worth knowing about it as it is installed here, for the report: dict of JSON values."""
        return {"version": self.version(), "path": importlib.util.find_spec(self.module).origin}

    def size(self, full, quick):
        """`full`, or `quick` in quick mode."""
        return quick if self.quick else full

    @property
    def fork(self):
        """Its context with start method fork."""
        return self.context("fork")

    def context(self, method):
        """Context of start method `method`, with the interface of ``multiprocessing.get_context(method)``."""
        raise Unavailable("has no contexts")

    def submodule(self, name):
        """Its counterpart of ``multiprocessing.<name>``."""
        raise Unavailable(f"has no {name}")

    def queue(self):
        """Queue with ``put`` and ``get``, unbounded or so large that it makes no difference."""
        raise Unavailable("has no queue")

    def flush(self, queue):
        """Makes what this process has put into `queue` visible, where ``put`` alone does not."""

    #: Whether a queue puts many items into one pickle, where those that are the same object are written once.
    pickles_many = False

    #: Whether several processes can share the consuming end of a queue when each wants a part of the items.
    shares_consumers = True

    def batching(self, queue):
        """``(put_many(list), get_many(most) -> list)`` of `queue`."""
        raise Unavailable("has no put_many and get_many")

    def pool(self, method="fork"):
        """Context manager: pool of two workers with (a part of) the interface of ``multiprocessing.Pool``."""
        raise Unavailable("has no pool")

    def executor(self):
        """Context manager: executor of two workers with ``submit`` and ``map``."""
        raise Unavailable("has no executor")

    def dict(self, shared_writers=False):
        """Context manager: empty mapping that forked processes share; `shared_writers`: several write at once."""
        raise Unavailable("has no shared dict")


class _Multiprocessing(Implementation):
    """A package with the interface of :mod:`multiprocessing`."""

    provides = frozenset({"mp", "queue", "pool"})

    def context(self, method):
        package = importlib.import_module(self.module)
        try:
            return package.get_context(method)
        except AttributeError:
            raise Unavailable("has no get_context") from None

    def submodule(self, name):
        try:
            return importlib.import_module(f"{self.module}.{name}")
        except ModuleNotFoundError as exc:
            raise Unavailable(f"has no {exc.name}") from None

    def queue(self):
        return self.fork.Queue()

    @contextlib.contextmanager
    def pool(self, method="fork"):
        pool = self.context(method).Pool(WORKERS)
        try:
            yield pool
        finally:
            pool.terminate()
            pool.join()


class _MultiprocessingAndFutures(_Multiprocessing):
    """:mod:`multiprocessing` and :mod:`concurrent.futures`."""

    provides = frozenset({"mp", "queue", "pool", "executor", "dict"})
    futures = ()
    submodules = ("connection", "context", "heap", "managers", "pool", "process", "queues", "reduction",
                  "resource_sharer", "resource_tracker", "shared_memory", "sharedctypes", "spawn", "synchronize", "util")

    def import_all(self):
        """Source text that imports the package, its submodules and the executors."""
        names = [self.module, *(f"{self.module}.{name}" for name in self.submodules), *self.futures]
        return "import " + ", ".join(names)

    def import_usual(self):
        """Source text with which a program begins that uses all of it."""
        return self.import_all()

    def executor(self):
        try:
            futures = importlib.import_module(self.futures[0])
        except ModuleNotFoundError as exc:
            raise Unavailable(f"has no {exc.name}") from None
        return futures.ProcessPoolExecutor(WORKERS, mp_context=self.fork)

    @contextlib.contextmanager
    def dict(self, shared_writers=False):
        with self.fork.Manager() as manager:
            yield manager.dict()


class StandardLibrary(_MultiprocessingAndFutures):
    name = REFERENCE
    module = "multiprocessing"
    futures = ("concurrent.futures", "concurrent.futures.process")

    def batching(self, queue):
        """The reference of batches is one call for each item."""
        put, get = queue.put, queue.get

        def put_many(items):
            for item in items:
                put(item)

        def get_many(most):
            return [get() for _ in range(most)]
        return put_many, get_many


class Mpfast(_MultiprocessingAndFutures):
    name = SUBJECT
    module = "mpfast"
    distribution = "mpfast"
    futures = ("mpfast.concurrent.futures",)

    def describe(self):
        report = importlib.import_module("mpfast").doctor()
        features = [feature for feature in report.features if not feature.name.startswith("kernel")]
        return {**super().describe(), "native": report.native, "why": report.why,
                "native features": [feature.name for feature in features if feature.native],
                "handed through": [feature.name for feature in features if not feature.native]}

    def import_usual(self):
        return "import mpfast"

    def batching(self, queue):
        if not hasattr(queue, "put_many"):
            return super().batching(queue)
        return queue.put_many, queue.get_many


class Billiard(_Multiprocessing):
    name = module = distribution = "billiard"


class Multiprocess(_Multiprocessing):
    name = module = distribution = "multiprocess"


class FasterFifo(Implementation):
    name = distribution = "faster-fifo"
    module = "faster_fifo"
    provides = frozenset({"queue"})
    capacity_bytes = 256 << 20

    def context(self, method):
        return importlib.import_module("multiprocessing").get_context(method)

    def queue(self):
        return importlib.import_module(self.module).Queue(self.capacity_bytes)

    def batching(self, queue):
        return queue.put_many, lambda most: queue.get_many(max_messages_to_get=most)


class QuickQueue(Implementation):
    name = distribution = "quick-queue"
    module = "quick_queue"
    provides = frozenset({"queue"})
    shares_consumers = False
    pickles_many = True

    def context(self, method):
        return importlib.import_module("multiprocessing").get_context(method)

    def queue(self):
        queues = importlib.import_module("quick_queue.quick_queue")
        return queues.QQueue(ctx=self.fork)

    def flush(self, queue):
        queue.put_remain()

    def batching(self, queue):
        return queue.put_bucket, lambda most: queue.get_bucket()


class Loky(Implementation):
    name = module = distribution = "loky"
    provides = frozenset({"executor"})

    def executor(self):
        return importlib.import_module(self.module).ProcessPoolExecutor(WORKERS)


class Joblib(Implementation):
    name = module = distribution = "joblib"
    provides = frozenset({"pool"})

    @contextlib.contextmanager
    def pool(self, method="fork"):
        if method != "fork":
            raise Unavailable("chooses the start method itself")
        joblib = importlib.import_module(self.module)
        with contextlib.ExitStack() as stack:
            yield _JoblibPool(joblib, stack)


class _JoblibPool:
    """`map` on workers that are kept between calls."""

    def __init__(self, joblib, stack):
        self._joblib = joblib
        self._parallel = functools.lru_cache(maxsize=None)(
            lambda chunksize: stack.enter_context(joblib.Parallel(WORKERS, batch_size=chunksize or "auto")))

    def map(self, function, iterable, chunksize=None):
        delayed = self._joblib.delayed(function)
        return self._parallel(chunksize)(delayed(item) for item in iterable)


class Mpire(Implementation):
    name = module = distribution = "mpire"
    provides = frozenset({"pool"})

    @contextlib.contextmanager
    def pool(self, method="fork"):
        mpire = importlib.import_module(self.module)
        with mpire.WorkerPool(WORKERS, start_method=method, keep_alive=True) as pool:
            yield _MpirePool(pool)


class _MpirePool:
    """mpire's names for the arguments, nothing else."""

    def __init__(self, pool):
        self._pool = pool
        self.apply = pool.apply
        self.apply_async = pool.apply_async

    def map(self, function, iterable, chunksize=None):
        return self._pool.map(function, iterable, chunk_size=chunksize, concatenate_numpy_output=False)

    def imap(self, function, iterable, chunksize=1):
        return self._pool.imap(function, iterable, chunk_size=chunksize)

    def imap_unordered(self, function, iterable, chunksize=1):
        return self._pool.imap_unordered(function, iterable, chunk_size=chunksize)


class Pebble(Implementation):
    name = module = distribution = "pebble"
    provides = frozenset({"pool", "executor"})

    @contextlib.contextmanager
    def _workers(self, method):
        pebble = importlib.import_module(self.module)
        context = importlib.import_module("multiprocessing").get_context(method)
        pool = pebble.ProcessPool(WORKERS, context=context)
        try:
            yield pool
        finally:
            pool.stop()
            pool.join()

    @contextlib.contextmanager
    def pool(self, method="fork"):
        with self._workers(method) as workers:
            yield _PebblePool(workers)

    @contextlib.contextmanager
    def executor(self):
        with self._workers("fork") as workers:
            yield _PebbleExecutor(workers)


class _PebblePool:
    def __init__(self, workers):
        self._workers = workers

    def apply(self, function, args=()):
        return self.apply_async(function, args).get()

    def apply_async(self, function, args=()):
        future = self._workers.schedule(function, args=args)
        future.get = future.result
        return future

    def map(self, function, iterable, chunksize=None):
        return list(self.imap(function, iterable, chunksize or 1))

    def imap(self, function, iterable, chunksize=1):
        return self._workers.map(function, iterable, chunksize=chunksize).result()


class _PebbleExecutor:
    def __init__(self, workers):
        self._workers = workers

    def submit(self, function, *args):
        return self._workers.schedule(function, args=args)

    def map(self, function, iterable, chunksize=1):
        return self._workers.map(function, iterable, chunksize=chunksize).result()


class UltraDict(Implementation):
    name = module = distribution = "UltraDict"
    provides = frozenset({"dict"})

    def context(self, method):
        return importlib.import_module("multiprocessing").get_context(method)

    @contextlib.contextmanager
    def dict(self, shared_writers=False):
        module = importlib.import_module(self.module)
        shared = module.UltraDict(shared_lock=shared_writers or None)
        try:
            yield shared
        finally:
            shared.unlink()


class SharedMemoryDict(Implementation):
    name = distribution = "shared-memory-dict"
    module = "shared_memory_dict"
    provides = frozenset({"dict"})

    def context(self, method):
        return importlib.import_module("multiprocessing").get_context(method)

    @contextlib.contextmanager
    def dict(self, shared_writers=False):
        if shared_writers:
            raise Unavailable("loses writes of processes that write at once")
        module = importlib.import_module(self.module)
        shared = module.SharedMemoryDict(f"benchmarks-{os.getpid()}", 65536)
        try:
            yield shared
        finally:
            shared.shm.close()
            shared.shm.unlink()


class SharedBox(Implementation):
    """Versions before 0.3: later ones have no dict."""

    name = module = distribution = "sharedbox"
    provides = frozenset({"dict"})

    @classmethod
    def installed(cls):
        return super().installed() and importlib.util.find_spec("sharedbox._shareddict") is not None

    def context(self, method):
        return importlib.import_module("multiprocessing").get_context(method)

    @contextlib.contextmanager
    def dict(self, shared_writers=False):
        module = importlib.import_module(self.module)
        shared = module.SharedDict(f"benchmarks-{os.getpid()}", create=True, size=1 << 20)
        try:
            yield shared
        finally:
            shared.close()
            shared.unlink()


_ALL = (StandardLibrary, Mpfast, FasterFifo, QuickQueue, Loky, Mpire, Pebble, Billiard, Multiprocess, Joblib, UltraDict,
        SharedMemoryDict, SharedBox)

#: Name -> class, in the table's order.
IMPLEMENTATIONS = {implementation.name: implementation for implementation in _ALL}

#: Names of all but the two that are always measured.
PEERS = tuple(name for name in IMPLEMENTATIONS if name not in (REFERENCE, SUBJECT))
