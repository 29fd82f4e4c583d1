"""Habits of real programs: what they do with a pool's inside, and where they make pools."""
import importlib.util

import pytest
from conftest import METHODS

START = """
import multiprocessing
import gc, itertools, os, sys, threading, time, warnings
from multiprocessing import pool as pool_module

def square(x):
    return x * x

def add(a, b):
    return a + b

def boom(x):
    raise KeyError(x)

def use(pool):
    print(pool.map(square, range(10)), pool.map(square, range(10), 3), pool.starmap(add, [(1, 2), (3, 4)]))
    print(pool.apply(square, (5,)), pool.apply_async(square, (6,)).get(60))
    print(list(pool.imap(square, range(6))), sorted(pool.imap_unordered(square, iter(range(6)), 2)))
    try:
        pool.map(boom, [1, 2], 1)
    except KeyError as error:
        print("KeyError", type(error.__cause__).__name__)
    called = []
    pool.apply_async(square, (7,), callback=called.append).wait(60)
    print(called, repr(pool), type(pool).__mro__[-2].__name__)

context = multiprocessing.get_context(sys.argv[1] if len(sys.argv) > 1 else "fork")
"""

SUBCLASSES = {
    # how joblib's pools and torch's are made
    "_setup_queues": """
class Connected(pool_module.Pool):
    def _setup_queues(self):
        self._inqueue = context.SimpleQueue()
        self._outqueue = context.SimpleQueue()
        self._quick_put = self._inqueue.put
        self._quick_get = self._outqueue.get
Pool = Connected
""",
    "_setup_queues with queues of its own": """
class Queue:
    def __init__(self):
        self._reader, self._writer = context.Pipe(duplex=False)
        self._rlock = context.Lock()
        self._wlock = context.Lock()
    def __getstate__(self):
        return self._reader, self._writer, self._rlock, self._wlock
    def __setstate__(self, state):
        self._reader, self._writer, self._rlock, self._wlock = state
    def get(self):
        with self._rlock:
            return self._reader.recv()
    def put(self, item):
        with self._wlock:
            self._writer.send(item)
class Pickling(pool_module.Pool):
    def _setup_queues(self):
        self._inqueue = Queue()
        self._outqueue = Queue()
        self._quick_put = self._inqueue.put
        self._quick_get = self._outqueue.get
Pool = Pickling
""",
    "_repopulate_pool with a worker of its own": """
def worker(inqueue, outqueue, initializer=None, initargs=(), *rest):
    inqueue._writer.close()
    outqueue._reader.close()
    if initializer is not None:
        initializer(*initargs)
    for job, i, func, args, kwds in iter(inqueue.get, None):
        try:
            result = (True, func(*args, **kwds))
        except Exception as error:
            result = (False, pool_module.ExceptionWithTraceback(error, error.__traceback__))
        outqueue.put((job, i, result))
class Torch(pool_module.Pool):
    def _setup_queues(self):
        self._inqueue = context.SimpleQueue()
        self._outqueue = context.SimpleQueue()
        self._quick_put = self._inqueue._writer.send
        self._quick_get = self._outqueue._reader.recv
    def _repopulate_pool(self):
        for _ in range(self._processes - len(self._pool)):
            args = (self._inqueue, self._outqueue, self._initializer, self._initargs, self._maxtasksperchild)
            if hasattr(self, "_wrap_exception"):
                args += (self._wrap_exception,)
            w = self.Process(self._ctx, target=worker, args=args)
            self._pool.append(w)
            w.name = w.name.replace("Process", "PoolWorker")
            w.daemon = True
            w.start()
Pool = Torch
""",
    "_get_tasks": """
class Counting(pool_module.Pool):
    batches = 0
    @staticmethod
    def _get_tasks(func, it, size):
        Counting.batches += 1
        return super(Counting, Counting)._get_tasks(func, it, size)
Pool = Counting
""",
    "Process": """
class Worker(context.Process):
    def run(self):
        os.environ["WORKER"] = "mine"
        super().run()
class Special(pool_module.Pool):
    @staticmethod
    def Process(ctx, *args, **kwds):
        return Worker(*args, **kwds)
Pool = Special
""",
    "methods that put into _taskqueue": """
class Star(pool_module.Pool):
    def istarmap(self, func, iterable, chunksize=1):
        self._check_running()
        batches = pool_module.Pool._get_tasks(func, iterable, chunksize)
        result = pool_module.IMapIterator(self)
        self._taskqueue.put((self._guarded_task_generation(result._job, pool_module.starmapstar, batches),
                             result._set_length))
        return (item for chunk in result for item in chunk)
Pool = Star
""",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", SUBCLASSES)
def test_subclasses(same, method, case):
    same(START + SUBCLASSES[case] + """
if __name__ == "__main__":
    with Pool(2, context=context) as pool:
        use(pool)
    if hasattr(pool, "istarmap"):
        with Pool(2, context=context) as pool:
            print(list(pool.istarmap(add, [(1, 2), (3, 4)], 1)))
    pool.join()
    pool = Pool(1, context=context)
    pending = pool.map_async(square, range(50), 1)
    pool.close()
    pool.join()
    print(pending.get(60)[-1], pool._state)
""", method)


def test_a_process_of_its_own_that_is_not_daemonic(same):
    assert same(START + """
class NoDaemon(context.Process):
    @property
    def daemon(self):
        return False
    @daemon.setter
    def daemon(self, value):
        pass
class Nested(pool_module.Pool):
    @staticmethod
    def Process(ctx, *args, **kwds):
        return NoDaemon(*args, **kwds)
def inner(n):
    with context.Pool(2) as pool:
        return pool.map(square, range(n))
if __name__ == "__main__":
    with Nested(2, context=context) as pool:
        print(pool.map(inner, [2, 3]))
""").stdout == "[[0, 1], [0, 1, 4]]\n"


def test_a_daemonic_worker_has_no_pool(same):
    assert "AssertionError daemonic" in same(START + """
def inner(n):
    try:
        context.Pool(2)
    except AssertionError as error:
        return "AssertionError " + str(error)
if __name__ == "__main__":
    with context.Pool(2) as pool:
        print(pool.apply(inner, (1,)))
""").stdout


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_method_that_is_put_on_the_class(same, when):
    same(START + """
def istarmap(self, func, iterable, chunksize=1):
    self._check_running()
    batches = pool_module.Pool._get_tasks(func, iterable, chunksize)
    result = pool_module.IMapIterator(self)
    self._taskqueue.put((self._guarded_task_generation(result._job, pool_module.starmapstar, batches), result._set_length))
    return (item for chunk in result for item in chunk)
if __name__ == "__main__":
    if sys.argv[2] == "before":
        pool_module.Pool.istarmap = istarmap
    with context.Pool(2) as pool:
        pool_module.Pool.istarmap = istarmap
        print(list(pool.istarmap(add, zip(range(20), range(20)), 3)))
        try:
            list(pool.istarmap(add, iter([(1, 2), (1, None)])))
        except TypeError as error:
            print("TypeError", error)
        print(list(pool.istarmap(add, [])), len(pool._cache), pool._taskqueue.empty())
""", "fork", when)


def test_what_is_read_of_a_pool(same):
    same(START + """
def initialize(value):
    pass
if __name__ == "__main__":
    pool = context.Pool(2, initialize, (3,), maxtasksperchild=9)
    print(len(pool._pool), pool._processes, pool._initializer is initialize, pool._initargs, pool._maxtasksperchild,
          pool._wrap_exception, pool._ctx.get_start_method(), pool._state, len(pool._cache), bool(pool._cache))
    event = context.Manager().Event()
    held = [pool.apply_async(event.wait) for _ in range(3)]
    print(len(pool._cache), all(isinstance(r, pool_module.ApplyResult) for r in pool._cache.values()))
    workers = [p for p in multiprocessing.active_children() if "PoolWorker" in p.name]
    print(len(workers), {p.pid for p in pool._pool} == {p.pid for p in workers}, {p.daemon for p in workers})
    print(all(p.is_alive() for p in pool._pool), [p.exitcode for p in pool._pool])
    event.set()
    print([r.get(60) for r in held], len(pool._cache))
    pool.close()
    pool.join()
    print(pool._state, [p.exitcode for p in pool._pool], pool)
""")


def test_the_manager_of_the_context_of_a_pool(same):
    assert same(START + """
def put(queue, value):
    queue.put(value)
if __name__ == "__main__":
    with context.Pool(2) as pool, pool._ctx.Manager() as manager:
        queue = manager.Queue()
        pool.starmap(put, [(queue, i) for i in range(5)])
        print(sorted(queue.get() for _ in range(5)))
""").stdout == "[0, 1, 2, 3, 4]\n"


@pytest.mark.parametrize("method", METHODS)
def test_the_initializer_is_the_work(same, method):
    assert same(START + """
def main_loop(tasks, results):
    for task in iter(tasks.get, None):
        results.put(task * 2)
    results.put("end")
if __name__ == "__main__":
    tasks, results = context.SimpleQueue(), context.SimpleQueue()
    pool = context.Pool(2, main_loop, (tasks, results))
    for task in range(5):
        tasks.put(task)
    print(sorted(results.get() for _ in range(5)))
    tasks.put(None), tasks.put(None)
    print(results.get(), results.get())
    pool.close()
    pool.join()
""", method).stdout == "[0, 2, 4, 6, 8]\nend end\n"


def test_an_initializer_that_never_returns(same):
    assert same(START + """
def forever(event):
    event.set()
    time.sleep(3600)
if __name__ == "__main__":
    event = context.Event()
    with context.Pool(2, forever, (event,)) as pool:
        event.wait()
        pending = pool.apply_async(square, (1,))
        print(pending.ready())
""").stdout == "False\n"


REPLACED = {
    "worker": """
stdlib_worker = pool_module.worker
def worker(*args, **kwds):
    os.environ["WORKER"] = "mine"
    return stdlib_worker(*args, **kwds)
pool_module.worker = worker
""",
    "mapstar": """
stdlib_mapstar = pool_module.mapstar
def mapstar(args):
    os.environ["WORKER"] = "mine"
    return stdlib_mapstar(args)
pool_module.mapstar = mapstar
""",
    "ExceptionWithTraceback": """
class Mine(pool_module.ExceptionWithTraceback):
    def __init__(self, exc, tb):
        super().__init__(exc, tb)
        self.exc.args += ("mine",)
pool_module.ExceptionWithTraceback = Mine
""",
}


@pytest.mark.parametrize("name", REPLACED)
def test_names_that_are_replaced(same, name):
    done = same(START + REPLACED[name] + """
def environment(_):
    return os.environ.get("WORKER")
if __name__ == "__main__":
    with context.Pool(2) as pool:
        print(pool.map(environment, range(3)), list(pool.imap(environment, range(3), 2)))
        try:
            pool.apply(boom, (1,))
        except KeyError as error:
            print(error.args)
""")
    assert "mine" in done.stdout


def test_a_callback_on_the_class_of_results(same):
    same(START + """
class Watched(pool_module.MapResult):
    def _set(self, i, result):
        print("set", i)
        super()._set(i, result)
pool_module.MapResult = Watched
if __name__ == "__main__":
    with context.Pool(1) as pool:
        print(pool.map(square, range(4), 2))
""")


PLACES = {
    "in a thread": """
def make():
    with context.Pool(2) as pool:
        print(pool.map(square, range(4)))
thread = threading.Thread(target=make)
thread.start()
thread.join()
""",
    "left to the collector": """
warnings.simplefilter("ignore")
pool = context.Pool(2)
workers = list(pool._pool)
print(pool.map(square, range(4)))
del pool
gc.collect()
for worker in workers:
    worker.join()
print([worker.is_alive() for worker in workers])
""",
    "left to the exit": """
pool = context.Pool(2)
print(pool.map(square, range(4)))
""",
    "from two threads": """
pool = context.Pool(2)
threads = [threading.Thread(target=pool.map, args=(square, range(100))) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
pool.terminate()
pool.join()
print(pool)
""",
}


@pytest.mark.parametrize("place", PLACES)
def test_where_pools_are_made(same, place):
    body = "\n".join("    " + line for line in PLACES[place].splitlines())
    same(START + f"\nif __name__ == '__main__':\n{body}\n")


def test_a_pool_made_at_import(same, tmp_path):
    (tmp_path / "library.py").write_text("import multiprocessing\n"
                                         "pool = multiprocessing.get_context('fork').Pool(2)\n")
    assert same("""
import library
if __name__ == "__main__":
    print(library.pool.map(abs, [-1, -2]))
""").stdout == "[1, 2]\n"


def test_pool_of_a_manager(same):
    same(START + """
if __name__ == "__main__":
    with context.Manager() as manager:
        pool = manager.Pool(2)
        print(pool.map(abs, range(-3, 3)), pool.apply(abs, (-1,)), list(pool.imap(abs, [-4, -5])))
        result = pool.apply_async(abs, (-9,))
        print(result.get(60), result.successful())
        pool.terminate()
""")


@pytest.mark.skipif(importlib.util.find_spec("joblib") is None, reason="joblib is not installed")
def test_joblib(same):
    pytest.importorskip("numpy")
    assert same(START + """
import joblib, numpy
if __name__ == "__main__":
    with joblib.parallel_config("multiprocessing", n_jobs=2):
        print(joblib.Parallel()(joblib.delayed(square)(i) for i in range(10)))
        big = numpy.arange(300000.0)
        print(joblib.Parallel(max_nbytes=1000)(joblib.delayed(numpy.sum)(big[i:]) for i in range(3)))
""").status == 0


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch(same):
    assert same(START + """
import torch.multiprocessing, torch
if __name__ == "__main__":
    with torch.multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(square, [torch.ones(2)] * 2))
""").status == 0
