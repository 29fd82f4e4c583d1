"""Pools: what their methods return and raise, what becomes of them when workers die, how they begin and end."""
import gc
import itertools
import os
import pickle
import platform
import resource
import signal
import sys
import sysconfig
import threading
import time
import warnings
import weakref
from multiprocessing import util

import pytest
from conftest import METHODS, sleeps

import mpfast
import mpfast.pool
from mpfast import _crew

pytestmark = pytest.mark.skipif(not hasattr(mpfast.pool.Pool, "_supervisor"), reason="no native pool here")

LONG = 60  # seconds: long enough for anything that does not hang

fork = mpfast.get_context("fork")


def square(x):
    return x * x


def identity(x):
    return x


def add(a, b=0):
    return a + b


def fail(x):
    raise KeyError(x)


def fail_at_three(x):
    if x == 3:
        raise KeyError(x)
    return x


def own_pid(_=None):
    return os.getpid()


def kill_self(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def leave(status):
    os._exit(status)


def wait_for(event, *result):
    event.wait()
    return result


def set_and_wait(started, release):
    started.set()
    release.wait()


@pytest.fixture(params=METHODS)
def pool(request):
    with mpfast.get_context(request.param).Pool(2) as pool:
        yield pool


@pytest.fixture
def forked():
    with fork.Pool(2) as pool:
        yield pool


def until(condition):
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.002)


# ---- what the methods return

def test_apply(pool):
    assert pool.apply(square, (7,)) == 49
    assert pool.apply(add, (1,), {"b": 2}) == 3
    assert pool.apply(add, [1, 2]) == 3
    assert pool.apply_async(square, (8,)).get(LONG) == 64


def test_maps(pool):
    items = list(range(1000))
    squares = [x * x for x in items]
    assert pool.map(square, items) == squares
    assert pool.map(square, iter(items)) == squares
    assert pool.map_async(square, items, 7).get(LONG) == squares
    pairs = list(zip(items, items[::-1]))
    assert pool.starmap(add, pairs) == [999] * 1000
    assert pool.starmap_async(add, pairs, chunksize=13).get(LONG) == [999] * 1000
    assert list(pool.imap(square, items)) == squares
    assert list(pool.imap(square, items, 50)) == squares
    assert sorted(pool.imap_unordered(square, items)) == squares
    assert sorted(pool.imap_unordered(square, items, 50)) == squares


def test_nothing_to_do(forked):
    assert forked.map(square, []) == []
    assert forked.map(square, [], chunksize=3) == []
    assert forked.map(square, range(2), chunksize=0) == [None, None]
    assert forked.starmap(add, []) == []
    assert list(forked.imap(square, [])) == []
    assert list(forked.imap_unordered(square, iter(()))) == []
    result = forked.map_async(square, [])
    assert result.ready() and result.successful() and result.get() == []


@pytest.mark.parametrize("make", [tuple, list, set, dict.fromkeys, lambda items: (x for x in items), iter])
def test_kinds_of_input(forked, make):
    items = make(range(100))
    assert sorted(forked.map(square, items)) == [x * x for x in range(100)]
    assert list(forked.imap(square, make(range(100)), 3)) == [x * x for x in range(100)]


def test_pieces_are_as_large_as_asked(forked):
    pids = forked.map(own_pid, range(10), chunksize=5)
    assert len(set(pids[:5])) == 1 and len(set(pids[5:])) == 1


def test_more_than_fits_at_a_time(forked):
    block = bytes(1 << 20)
    assert forked.map(len, itertools.repeat(block, 400), chunksize=1) == [1 << 20] * 400
    assert sum(forked.imap(len, (block for _ in range(400)))) == 400 << 20


def test_many_tasks(forked):
    results = [forked.apply_async(add, (i, 1)) for i in range(5000)]
    assert [result.get(LONG) for result in results] == list(range(1, 5001))


def test_shared_objects_as_arguments(forked):
    lock, event, queue = fork.Lock(), fork.Event(), fork.Queue()
    assert forked.apply(_use, (lock, event, queue)) is True
    assert event.is_set() and queue.get(timeout=LONG) == "put"


def _use(lock, event, queue):
    with lock:
        event.set()
        queue.put("put")
    return True


def test_threads_of_the_parent_share_a_pool(forked):
    sums = []

    def use(first):
        sums.append(sum(forked.map(square, range(first, first + 300))))
        sums.extend(forked.apply(square, (first,)) for _ in range(20))
    threads = [threading.Thread(target=use, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    expected = [sum(map(square, range(first, first + 300))) for first in range(4)]
    expected += [first * first for first in range(4) for _ in range(20)]
    assert sorted(sums) == sorted(expected)


class CountsItsCopies:
    copies = 0  # that were made in this process

    def __getstate__(self):
        return "sent"

    def __setstate__(self, state):
        CountsItsCopies.copies += 1

    def __call__(self, item):
        return CountsItsCopies.copies


def test_the_function_of_a_map_is_sent_to_a_worker_once(pool):
    assert set(pool.map(CountsItsCopies(), range(200), chunksize=1)) == {1}
    assert set(pool.imap(CountsItsCopies(), range(200), chunksize=3)) <= {1, 2}


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="nothing is known of threads here")
def test_an_idle_pool_sleeps(pool):
    assert pool.map(square, range(100)) == [x * x for x in range(100)]
    heard = threading.Event()
    pool.apply_async(square, (1,), callback=lambda value: heard.set())
    assert heard.wait(LONG)
    until(lambda: sleeps(pool._pool, pool._supervisor._thread))


def test_a_pool_that_only_waits_has_no_thread_of_threading(code):
    assert code("""
import os
import threading
import mpfast

with mpfast.get_context("fork").Pool(2) as pool:
    assert pool.map(abs, range(100)) == list(range(100))
    assert pool.apply(abs, (-3,)) == 3
    print(threading.enumerate() == [threading.main_thread()], len(os.listdir("/proc/self/task")))
""") == "True 2\n"


def test_no_thread_can_be_started(monkeypatch):
    calls = []

    def start(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")
    with fork.Pool(2) as pool:
        monkeypatch.setattr(threading.Thread, "start", start)
        assert pool.apply_async(square, (3,), callback=calls.append).get(LONG) == 9
        until(lambda: calls == [9])
        killed = pool._pool[0]
        killed.kill()
        until(lambda: killed not in pool._pool and len(pool._pool) == 2)
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
        pool.close()
        pool.join()
        monkeypatch.undo()


def test_closed_at_the_end_of_a_program(code):
    assert code("""
import atexit
import mpfast
pool = mpfast.get_context("fork").Pool(2)
result = pool.map_async(abs, range(4))

@atexit.register
def end():
    pool.close()
    pool.join()
    print(result.get())
""") == "[0, 1, 2, 3]\n"


def test_used_by_a_thread_that_outlives_the_main_one(code):
    assert code("""
import threading
import mpfast
pool = mpfast.get_context("fork").Pool(2)
main = threading.current_thread()

def use():
    main.join()
    told = threading.Event()
    print(pool.apply_async(abs, (-3,), callback=lambda value: told.set()).get(60), told.wait(60))
    pool.terminate()

threading.Thread(target=use).start()
""") == "3 True\n"


def test_a_process_that_is_forked_while_a_pool_gets_its_thread_knows_of_its_own_alone(code):
    assert code("""
import os
import threading
import time
import mpfast

def have_the_pool_get_its_thread():
    pool.apply_async(abs, (-3,), callback=values.append)
    while threading.active_count() == 1:
        time.sleep(0.001)

values = []
fork = mpfast.get_context("fork")
pool = fork.Pool(1)
queue = fork.SimpleQueue()
os.register_at_fork(before=have_the_pool_get_its_thread)
process = fork.Process(target=lambda: queue.put([thread.name for thread in threading.enumerate()]))
process.start()
names = queue.get()
process.join()
pool.close()
pool.join()
print(values, names)
""") == "[3] ['MainThread']\n"


def test_one_that_is_started_when_another_cannot_be_is_looked_after(monkeypatch):
    def fork_one_only():
        if forks:
            return forks.pop()()
        raise BlockingIOError("no more processes")

    with fork.Pool(1) as pool:
        forks = [os.fork]
        monkeypatch.setattr(os, "fork", fork_one_only)
        with pytest.raises(BlockingIOError, match="no more"):
            pool.resize(3)
        monkeypatch.undo()
        first, second = pool._pool
        second.kill()
        until(lambda: second not in pool._pool and len(pool._pool) == 3)
        assert pool.map(square, range(4)) == [0, 1, 4, 9]


INTERRUPTED_START = """
import multiprocessing.process
import os
import sys
import mpfast
from mpfast import popen_fork

FUNCTIONS = {"launch", "start_together", "_fork", "start", "_launch", "_end_those_not_started"}

class Interrupt:
    def __init__(self, after):
        self.left = after
        self.pid = os.getpid()

    def __call__(self, frame, event, argument):
        if os.getpid() != self.pid or frame.f_code.co_name not in FUNCTIONS:
            return None
        self.left -= 1
        if self.left == 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        return self

fork = mpfast.get_context("fork")
for after in range(1, 1000):
    sys.settrace(Interrupt(after))
    try:
        pool = fork.Pool(2)
    except KeyboardInterrupt:
        pass
    else:
        sys.settrace(None)
        pool.terminate()
        break
    finally:
        sys.settrace(None)
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        continue
    raise SystemExit(f"a child is left after {after} steps")
print(after > 50)
"""


def test_an_interrupted_start_leaves_no_worker(code):
    assert code(INTERRUPTED_START) == "True\n"


class InterruptedWatch:
    """Stops what it stands for, and is interrupted before it can say so."""

    def __init__(self, watch):
        self.watch = watch
        self.interrupts = [KeyboardInterrupt]

    def stop(self):
        stopped = self.watch.stop()
        if self.interrupts:
            raise self.interrupts.pop()
        return stopped


@pytest.mark.parametrize("where", ("at its beginning", "at the first worker", "at the watch"))
def test_a_terminate_that_was_interrupted_is_finished_by_another_or_by_join(monkeypatch, where):
    def interrupt(*_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    for again in (True, False):
        pool = fork.Pool(2)
        result = pool.apply_async(time.sleep, (3600,))
        if where == "at its beginning":
            monkeypatch.setattr(util.Finalize, "__call__", interrupt)
        elif where == "at the first worker":
            monkeypatch.setattr(fork.Process, "terminate", interrupt)
        else:
            pool._supervisor._watcher = InterruptedWatch(pool._supervisor._watcher)
        with pytest.raises(KeyboardInterrupt):
            pool.terminate()
        if again:
            pool.terminate()
        waits = threading.Thread(target=pool.join, daemon=True)
        waits.start()
        waits.join(LONG)
        assert not waits.is_alive()
        assert [process.is_alive() for process in pool._pool] == [False] * 2
        with pytest.raises(mpfast.ProcessError):
            result.get(LONG)


def test_a_pool_that_is_collected_where_its_thread_is_started_does_not_wait_for_that(monkeypatch):
    pools = [fork.Pool(1)]
    supervisor = pools[0]._supervisor
    over = threading.Event()

    def collect(_):
        pools.clear()
        over.set()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_crew, "FINALIZER_PATIENCE", 10 * LONG)
    monkeypatch.setattr(threading.Thread, "start", collect)
    supervisor.wake()
    assert over.wait(LONG)
    monkeypatch.undo()
    supervisor.join()


def test_a_pool_that_is_collected_while_its_thread_sees_to_a_dead_worker_leaves_none(monkeypatch):
    pools = [fork.Pool(2)]
    supervisor = pools[0]._supervisor
    workers = list(supervisor.workers)

    def collect(_):
        pools.clear()
        return ""

    monkeypatch.setattr(_crew.Stacks, "read", collect)
    workers[0].kill()
    supervisor._over.wait(LONG)
    assert [worker.is_alive() for worker in workers] == [False] * 2


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_close_in_a_forked_child_concerns_the_child_alone(forked):
    assert forked.apply(square, (2,)) == 4
    pid = os.fork()
    if pid == 0:
        forked.close()
        os._exit(threading.active_count() != 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert forked.map(square, range(3)) == [0, 1, 4]


def test_a_pool_in_another_interpreter(code):
    assert code("""
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
interpreter = interpreters.create("legacy") if sys.version_info >= (3, 13) else interpreters.create(isolated=False)
error = interpreters.run_string(interpreter, '''
import mpfast
pool = mpfast.get_context("spawn").Pool(1)
assert pool.apply(abs, (-3,)) == 3
pool.terminate()
pool.join()
''')
assert error is None, error
print("over")
""") == "over\n"


# ---- results

def test_results_are_the_stdlibs(forked):
    stdlib = mpfast._install.original("multiprocessing.pool", "ApplyResult")
    event = fork.Event()
    result = forked.apply_async(wait_for, (event, 5))
    assert isinstance(result, stdlib) and isinstance(result, mpfast.pool.AsyncResult)
    assert isinstance(forked.map_async(square, [1]), mpfast.pool.MapResult)
    assert isinstance(forked.imap(square, [1]), mpfast.pool.IMapIterator)
    assert isinstance(forked.imap_unordered(square, [1]), mpfast.pool.IMapUnorderedIterator)
    assert repr(result).startswith("<multiprocessing.pool.ApplyResult object at ")
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(mpfast.TimeoutError):
        result.get(0.01)
    assert result.wait(0.01) is None
    event.set()
    result.wait(LONG)
    assert result.ready() and result.successful() and result.get() == (5,)


def test_a_result_that_failed(forked):
    result = forked.apply_async(fail, (1,))
    result.wait(LONG)
    assert result.ready() and not result.successful()
    for _ in range(2):
        with pytest.raises(KeyError):
            result.get()


def test_pieces_left_of_a_map(forked):
    event = fork.Event()
    result = forked.map_async(wait_for, [event] * 6, chunksize=2)
    assert (result._number_left, result._chunksize) == (3, 2)
    event.set()
    assert result.get(LONG) == [()] * 6
    assert result._number_left == 0


def test_callbacks(forked):
    calls = []
    threads = set()

    def note(value):
        threads.add(threading.current_thread())
        calls.append(value)
    results = [forked.apply_async(square, (i,), callback=note, error_callback=calls.append) for i in range(50)]
    for result in results:
        result.wait(LONG)
    assert sorted(calls) == [i * i for i in range(50)]
    assert len(threads) == 1 and threading.current_thread() not in threads
    calls.clear()
    forked.map_async(square, range(5), callback=calls.append).wait(LONG)
    assert calls == [[0, 1, 4, 9, 16]]
    calls.clear()
    forked.apply_async(fail, (3,), callback=note, error_callback=calls.append).wait(LONG)
    assert [type(error) for error in calls] == [KeyError]


def test_a_callback_without_anybody_who_waits(forked):
    called = threading.Event()
    forked.apply_async(square, (2,), callback=lambda value: called.set())
    assert called.wait(LONG)


def test_a_callback_uses_the_pool(forked):
    values = []
    results = [forked.apply_async(square, (3,), callback=lambda value: values.append(forked.apply(square, (value,))))]
    results[0].get(LONG)
    assert values == [81]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_callback_that_raises_is_reported(forked, monkeypatch, error):
    def callback(value):
        raise error

    reported = []
    monkeypatch.setattr(threading, "excepthook", lambda what: reported.append(what.exc_type))
    result = forked.apply_async(square, (3,), callback=callback)
    assert result.get(LONG) == 9
    until(lambda: reported)
    assert reported == [error]
    heard = threading.Event()
    assert forked.apply_async(square, (4,), callback=lambda value: heard.set()).get(LONG) == 16
    assert heard.wait(LONG)
    forked.close()
    forked.join()


def _use_up_descriptors():
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with pytest.raises(OSError):
        while True:
            os.dup(2)


def test_a_callback_of_a_worker_that_has_no_descriptor_left(forked):
    heard = threading.Event()
    forked.apply_async(_use_up_descriptors, callback=lambda value: heard.set())
    assert heard.wait(LONG)


def test_a_supervising_thread_that_fails_takes_the_pool_with_it(forked, monkeypatch):
    def fail_to_replace():
        raise RuntimeError("this cannot be")

    reported = []
    monkeypatch.setattr(threading, "excepthook", lambda what: reported.append(what.exc_type))
    workers = list(forked._pool)
    started = fork.Event()
    result = forked.apply_async(set_and_wait, (started, fork.Event()))
    assert started.wait(LONG)
    monkeypatch.setattr(forked._supervisor, "_replace", fail_to_replace)
    forked._supervisor.wake()
    with pytest.raises(RuntimeError, match="this cannot be"):
        result.get(LONG)
    for worker in workers:
        worker.join(LONG)
        assert worker.exitcode is not None
    forked.close()
    forked.join()
    assert reported == [RuntimeError]


# ---- errors

def test_remote_traceback(pool):
    with pytest.raises(KeyError) as caught:
        pool.apply(fail, (17,))
    assert caught.value.args == (17,)
    assert type(caught.value.__cause__).__name__ == "RemoteTraceback"
    assert "raise KeyError(x)" in str(caught.value.__cause__)


def test_an_error_in_a_map(forked):
    with pytest.raises(KeyError):
        forked.map(fail_at_three, range(10), chunksize=1)
    iterator = forked.imap(fail_at_three, range(6))
    assert [next(iterator) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(iterator)
    assert list(iterator) == [4, 5]


def _unencodable(_=None):
    return threading.Lock()


class _Refuses(Exception):
    def __reduce__(self):
        raise TypeError("not this one")


def _raise_unencodable():
    raise _Refuses("the text of it")


class _NeedsTwo(Exception):
    def __init__(self, a, b):
        super().__init__(a)


def _raise_undecodable():
    raise _NeedsTwo(1, 2)


def test_a_result_that_cannot_be_sent(forked):
    with pytest.raises(mpfast.pool.MaybeEncodingError) as caught:
        forked.apply(_unencodable)
    assert "lock" in caught.value.value
    with pytest.raises(mpfast.pool.MaybeEncodingError):
        forked.map(_unencodable, range(4))
    with pytest.raises(mpfast.pool.MaybeEncodingError) as caught:
        forked.apply(_raise_unencodable)
    assert "the text of it" in str(caught.value)


def test_an_exception_that_cannot_be_rebuilt(forked):
    with pytest.raises(Exception) as caught:
        forked.apply_async(_raise_undecodable).get(LONG)
    assert "_NeedsTwo" in str(caught.value) or "argument" in str(caught.value)
    assert forked.apply(square, (2,)) == 4


def test_a_task_that_cannot_be_sent(forked):
    errors = []
    lock = threading.Lock()
    result = forked.apply_async(square, (lock,), error_callback=errors.append)
    with pytest.raises(TypeError):
        result.get(LONG)
    until(lambda: errors)
    with pytest.raises(TypeError):
        forked.map(square, [1, lock, 3], chunksize=1)
    iterator = forked.imap(square, [1, lock, 3])
    assert next(iterator) == 1
    with pytest.raises(TypeError):
        next(iterator)
    assert next(iterator) == 9


def _exit_softly():
    raise SystemExit(4)


def _interrupt():
    raise KeyboardInterrupt("from afar")


def test_base_exceptions_reach_the_caller(forked):
    with pytest.raises(SystemExit) as caught:
        forked.apply_async(_exit_softly).get(LONG)
    assert caught.value.code == 4
    with pytest.raises(KeyboardInterrupt, match="from afar"):
        forked.apply_async(_interrupt).get(LONG)
    assert forked.apply(square, (2,)) == 4


def _items_then_error(count):
    yield from range(count)
    raise LookupError("no more")


def test_an_input_that_raises(forked):
    with pytest.raises(LookupError):
        forked.map(square, _items_then_error(5))
    for method, chunksize in itertools.product((forked.imap, forked.imap_unordered), (1, 3)):
        iterator = method(square, _items_then_error(6), chunksize)
        taken = []
        with pytest.raises(LookupError):
            while True:
                taken.append(next(iterator))
        assert sorted(taken) == [0, 1, 4, 9, 16, 25]  # all that came before the error, in the order of the input or not
        if method == forked.imap:
            assert taken == sorted(taken)
        assert list(iterator) == []


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_an_input_that_raises_what_ends_programs(forked, method, error):
    def items():
        yield 2
        raise error

    iterator = getattr(forked, method)(square, items())
    assert iterator.next(LONG) == 4
    with pytest.raises(type(error)):
        iterator.next(LONG)
    forked.close()
    forked.join()


def test_an_input_that_gets_no_thread(forked, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            forked.imap(square, iter([1]))
    forked.close()
    forked.join()


@pytest.mark.parametrize("arguments, error", [
    ({"processes": 0}, ValueError), ({"processes": -1}, ValueError), ({"initializer": 1}, TypeError),
    ({"maxtasksperchild": 0}, ValueError), ({"maxtasksperchild": 0.5}, ValueError), ({"maxtasksperchild": "1"}, ValueError),
    ({"max_memory_per_child": 0}, ValueError), ({"max_memory_per_child": "1"}, ValueError),
])
def test_bad_settings(arguments, error):
    with pytest.raises(error):
        mpfast.pool.Pool(**{"processes": 1, **arguments})


def test_bad_arguments(forked):
    with pytest.raises(TypeError):
        forked.map(square, 5)
    with pytest.raises(ValueError):
        forked.imap(square, [1], chunksize=0)
    with pytest.raises(ValueError):
        forked.imap_unordered(square, [1], chunksize=0)
    with pytest.raises(ValueError):
        forked.imap(square, [1], buffersize=0)
    with pytest.raises(ValueError):
        forked.resize(0)


# ---- handles

def _call_back(pool, x):
    return pool.apply(square, (x,)), pool.map(square, range(x)), list(pool.imap(add, [x])), pool.starmap(add, [(x, 1)])


def _errors_of(pool):
    found = []
    for result in (pool.apply_async(fail, (1,)), pool.apply_async(kill_self), pool.apply_async(square, (threading.Lock(),)),
                   pool.apply_async(_unencodable)):
        try:
            result.get(LONG)
        except Exception as error:
            found.append(type(error).__name__)
    return found


def test_a_pool_as_an_argument(pool):
    assert pool.apply_async(_call_back, (pool, 3)).get(LONG) == (9, [0, 1, 4], [3], [4])
    assert pool.apply_async(_errors_of, (pool,)).get(LONG) == [
        "KeyError", "WorkerLostError", "TypeError", "MaybeEncodingError"]


def test_a_pool_in_another_process(forked):
    answer = fork.Queue()
    child = mpfast.get_context("spawn").Process(target=_use_handle, args=(forked, answer))
    child.start()
    assert answer.get(timeout=LONG) == (9, [0, 1, 4], [3], [4])
    forked.terminate()
    assert answer.get(timeout=LONG) in ("ProcessError", "ValueError")
    child.join(LONG)
    with pytest.raises(NotImplementedError, match="pool objects cannot be passed between processes or pickled"):
        pickle.dumps(forked)


def _use_handle(pool, answer):
    event = mpfast.Event()
    answer.put(_call_back(pool, 3))
    try:
        pool.apply_async(wait_for, (event,)).get(LONG)
    except (mpfast.ProcessError, ValueError) as error:
        answer.put(type(error).__name__)


def _call_and_die(pool, queue):
    pool.apply_async(_put, (queue, 7))
    os.kill(os.getpid(), signal.SIGKILL)


def _put(queue, item):
    queue.put(item)


def test_a_caller_through_a_handle_that_dies(forked):
    hold, held = threading.Event(), threading.Event()
    forked.apply_async(own_pid, callback=lambda value: held.set() or hold.wait(LONG))
    assert held.wait(LONG)  # the thread that serves handles is busy: it sees the call when the caller is gone
    queue = fork.Queue()
    caller = fork.Process(target=_call_and_die, args=(pickle.loads(pickle.dumps(forked)), queue))
    caller.start()
    caller.join(LONG)
    assert caller.exitcode == -signal.SIGKILL
    hold.set()
    assert queue.get(timeout=LONG) == 7
    assert forked.apply(square, (3,)) == 9


def _own_a_pool(answer):
    with fork.Pool(1) as pool:
        answer.put(pool)
        wait_for(fork.Event())


def test_the_process_of_a_handles_pool_is_killed():
    answer = fork.Queue()
    owner = fork.Process(target=_own_a_pool, args=(answer,))
    owner.start()
    started = fork.Event()
    result = answer.get(timeout=LONG).apply_async(set_and_wait, (started, fork.Event()))
    assert started.wait(LONG)
    os.kill(owner.pid, signal.SIGKILL)  # it stays a zombie for now
    with pytest.raises(mpfast.WorkerLostError):
        result.get(LONG)
    owner.join()


def test_one_desk_for_all_handles(forked, monkeypatch):
    from mpfast import _pool_handle
    both = threading.Barrier(2)
    original = _pool_handle.Desk.__init__

    def slowly(desk, supervisor):
        try:
            both.wait(0.2)  # two threads here are two desks, of which one is never looked at
        except threading.BrokenBarrierError:
            pass
        original(desk, supervisor)

    monkeypatch.setattr(_pool_handle.Desk, "__init__", slowly)
    handles = []
    threads = [threading.Thread(target=lambda: handles.append(pickle.loads(pickle.dumps(forked)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [handle.apply_async(square, (3,)).get(LONG) for handle in handles] == [9, 9]


# ---- lazy maps

def test_an_input_that_waits_for_results(forked):
    results = []
    arrived = threading.Semaphore(0)

    def items():
        for i in range(20):
            yield i
            assert arrived.acquire(timeout=LONG)
    for value in forked.imap(square, items()):
        results.append(value)
        arrived.release()
    assert results == [i * i for i in range(20)]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or bool(sysconfig.get_config_var("Py_GIL_DISABLED")) or
                    "PYTHONMALLOC" in os.environ, reason="another allocator")
def test_memory_of_large_results_is_used_again(forked):
    items = [bytes([i]) * (1 << 20) for i in range(24)]
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        assert forked.map(identity, items) == items
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < 24 * (1 << 20) // resource.getpagesize() // 2


def test_an_endless_input_that_nobody_finishes(forked):
    iterator = forked.imap(square, itertools.count(), buffersize=5)
    assert list(itertools.islice(iterator, 20)) == [i * i for i in range(20)]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_buffersize_bounds_what_is_read(forked, chunksize):
    read = itertools.count()
    last = [0]

    def items():
        for i in range(60):
            last[0] = next(read) + 1
            yield i
    iterator = forked.imap_unordered(square, items(), chunksize, buffersize=6)
    given = []
    for value in iterator:
        assert last[0] <= len(given) + 6 + chunksize
        given.append(value)
    assert sorted(given) == [i * i for i in range(60)]


def test_next_with_a_timeout(forked):
    event = fork.Event()
    for method in (forked.imap, forked.imap_unordered):
        event.clear()
        iterator = method(wait_for, [event, event])
        with pytest.raises(mpfast.TimeoutError):
            iterator.next(timeout=0.01)
        event.set()
        assert iterator.next(timeout=LONG) == ()
        assert iterator.next(LONG) == ()
        with pytest.raises(StopIteration):
            iterator.next(LONG)


# ---- death

def test_a_killed_worker_costs_its_task_alone(pool):
    started, release = mpfast.Event(), mpfast.Event()
    held = pool.apply_async(set_and_wait, (started, release))
    assert started.wait(LONG)
    lost = pool.apply_async(kill_self)
    others = [pool.apply_async(square, (i,)) for i in range(100)]
    with pytest.raises(mpfast.WorkerLostError) as caught:
        lost.get(LONG)
    assert caught.value.signal == "SIGKILL" and caught.value.exitcode == -signal.SIGKILL
    assert caught.value.pid not in (os.getpid(), None)
    assert "kill_self" in caught.value.task and "kill_self" in str(caught.value)
    assert [other.get(LONG) for other in others] == [i * i for i in range(100)]
    release.set()
    held.get(LONG)
    until(lambda: len(pool._pool) == 2)  # the one that took its place may work before it is listed


def test_what_a_lost_worker_is_known_by(forked):
    with pytest.raises(mpfast.WorkerLostError) as caught:
        forked.apply_async(leave, (3,)).get(LONG)
    assert (caught.value.exitcode, caught.value.signal) == (3, None)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.pid, copy.exitcode, copy.task, str(copy)) == (caught.value.pid, 3, caught.value.task, str(caught.value))
    with pytest.raises(mpfast.WorkerLostError):
        forked.map(leave, [0, 0, 0], chunksize=1)
    assert forked.map(square, range(4)) == [0, 1, 4, 9]


def test_an_error_callback_hears_of_a_lost_worker(forked):
    errors = []
    result = forked.apply_async(kill_self, error_callback=errors.append)
    with pytest.raises(mpfast.WorkerLostError):
        result.get(LONG)
    assert [type(error) for error in errors] == [mpfast.WorkerLostError]


def test_a_lost_piece_of_a_lazy_map(forked):
    iterator = forked.imap(_kill_at_five, range(10))
    assert [next(iterator) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(mpfast.WorkerLostError):
        next(iterator)
    assert list(iterator) == [6, 7, 8, 9]


def _kill_at_five(x):
    if x == 5:
        kill_self()
    return x


def test_idle_workers_that_are_killed_are_replaced(pool):
    pool.map(square, range(4))
    before = {process.pid for process in pool._pool}
    for process in list(pool._pool):
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: len(pool._pool) == 2 and not before & {process.pid for process in pool._pool})
    assert pool.map(square, range(4)) == [0, 1, 4, 9]


STACKS = """
import ctypes, sys
import mpfast
def crash_here():
    ctypes.string_at(0)
if __name__ == "__main__":
    with mpfast.get_context(sys.argv[1]).Pool(1) as pool:
        try:
            pool.apply_async(crash_here).get(60)
        except mpfast.WorkerLostError as error:
            print(error.signal, "in crash_here" in error.stacks)
"""


@pytest.mark.parametrize("method", METHODS)
def test_stacks_of_a_crash(python, tmp_path, method):
    (tmp_path / "crash.py").write_text(STACKS)
    done = python("crash.py", method)
    assert (done.stdout, done.stderr) == ("SIGSEGV True\n", "")


CRASH_LOOP = """
import os, sys
import mpfast
def initialize():
    os._exit(7)
if __name__ == "__main__":
    with mpfast.get_context(sys.argv[1]).Pool(2, initialize) as pool:
        early = pool.map_async(abs, range(3), chunksize=1)
        for result in (early, None):
            result = result or pool.apply_async(abs, (1,))
            try:
                result.get(60)
            except mpfast.WorkerLostError as error:
                print(error.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_that_never_start_end_in_an_error(python, tmp_path, method):
    (tmp_path / "crash_loop.py").write_text(CRASH_LOOP)
    done = python("crash_loop.py", method)
    assert (done.stdout, done.stderr) == ("7\n7\n", "")


ORPHANS = """
import os, sys, time
import mpfast
def sleep(seconds):
    time.sleep(seconds)
if __name__ == "__main__":
    pool = mpfast.get_context(sys.argv[1]).Pool(3)
    pool.map(abs, range(3), chunksize=1)
    pool.apply_async(time.sleep, (3600,))
    while not any(pool._crew.worker(slot)[1] == "busy" for slot in range(3)):
        time.sleep(0.001)
    print(*[process.pid for process in pool._pool], flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("method", METHODS)
def test_workers_do_not_outlive_the_parent(python, tmp_path, method):
    (tmp_path / "orphans.py").write_text(ORPHANS)
    done = python("orphans.py", method)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3 and done.stderr == ""
    until(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# ---- limits

def test_the_timeout_of_a_task(pool):
    event = mpfast.Event()
    late = pool.apply_async(wait_for, (event,), timeout=0.1)
    with pytest.raises(mpfast.TimeoutError):
        late.get(LONG)
    assert pool.apply_async(square, (3,), timeout=LONG).get(LONG) == 9
    assert pool.apply(square, (3,), timeout=LONG) == 9


def test_the_timeout_of_the_tasks_of_a_map(forked):
    event = fork.Event()
    with pytest.raises(mpfast.TimeoutError):
        forked.map(_wait_at_two, [(i, event) for i in range(4)], chunksize=1, task_timeout=0.1)
    # Long enough for the others, however busy the machine is.
    iterator = forked.imap(_wait_at_two, [(i, event) for i in range(4)], task_timeout=5)
    assert [next(iterator), next(iterator)] == [0, 1]
    with pytest.raises(mpfast.TimeoutError):
        next(iterator)
    assert list(iterator) == [3]
    assert forked.map(square, range(4), task_timeout=LONG) == [0, 1, 4, 9]


def _wait_at_two(item):
    number, event = item
    if number == 2:
        event.wait()
    return number


def test_maxtasksperchild(pool):
    with mpfast.get_context(pool._ctx._name).Pool(2, maxtasksperchild=3) as short_lived:
        pids = [short_lived.apply(own_pid) for _ in range(12)]
        assert max(pids.count(pid) for pid in pids) <= 3
        assert short_lived.map(square, range(20), chunksize=1) == [x * x for x in range(20)]


def _hold(megabytes, kept=[]):
    kept.append(b"x" * (megabytes << 20))
    return os.getpid()


def _resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_max_memory_per_child():
    with fork.Pool(1) as pool:
        resident = pool.apply(_resident)
    with fork.Pool(1, max_memory_per_child=resident + (200 << 20)) as pool:
        first = pool.apply(_hold, (1,))
        assert pool.apply(_hold, (1,)) == first
        assert pool.apply(_hold, (400,)) == first
        assert pool.apply(_hold, (1,)) != first


def test_resize(forked):
    forked.resize(4)
    assert len(forked._pool) == forked._processes == 4
    assert len(set(forked.map(_own_pid_with_others, [fork.Barrier(4)] * 4, chunksize=1))) == 4
    forked.resize(1)
    until(lambda: len(forked._pool) == 1)
    assert forked.map(square, range(10)) == [x * x for x in range(10)]


@pytest.mark.parametrize("processes, error", [(0, ValueError), (65, ValueError), (1.5, TypeError), (None, TypeError)])
def test_a_size_that_cannot_be_had_changes_nothing(forked, processes, error):
    with pytest.raises(error):
        forked.resize(processes)
    assert len(forked._pool) == forked._processes == 2
    assert forked.map(square, range(10)) == [x * x for x in range(10)]


def _own_pid_with_others(barrier):
    barrier.wait(LONG)
    return os.getpid()


def test_progress(forked, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert forked.map(square, range(30), progress=True) == [x * x for x in range(30)]
    assert capfd.readouterr().err.endswith("30/30\n")
    assert list(forked.imap(square, range(30), 7, progress=True)) == [x * x for x in range(30)]
    assert capfd.readouterr().err.endswith("30/30\n")
    assert sorted(forked.imap_unordered(square, iter(range(30)), progress=True)) == [x * x for x in range(30)]
    assert capfd.readouterr().err.endswith("\r30\n")


def test_progress_by_tqdm(forked, capfd):
    pytest.importorskip("tqdm.auto")
    assert forked.map(square, range(30), progress=True) == [x * x for x in range(30)]
    assert "| 30/30 [" in capfd.readouterr().err
    assert list(forked.imap(square, range(30), progress=True)) == [x * x for x in range(30)]
    assert "| 30/30 [" in capfd.readouterr().err


# ---- beginning and end

def _initialize(*values):
    global _initialized
    _initialized = values


def _initialized_with(_):
    return _initialized


def test_initializer(pool):
    with mpfast.get_context(pool._ctx._name).Pool(2, _initialize, (1, "two")) as initialized:
        assert initialized.map(_initialized_with, range(4)) == [(1, "two")] * 4


def test_close_lets_what_was_put_finish(pool):
    results = [pool.apply_async(square, (i,)) for i in range(100)]
    lazy = pool.imap(square, iter(range(50)))
    pool.close()
    for call in (lambda: pool.apply(square, (1,)), lambda: pool.map(square, [1]), lambda: pool.imap(square, [1]),
                 lambda: pool.apply_async(square, (1,)), lambda: pool.imap_unordered(square, [1], 2)):
        with pytest.raises(ValueError, match="Pool not running"):
            call()
    pool.join()
    assert [result.get(0) for result in results] == [i * i for i in range(100)]
    assert list(lazy) == [i * i for i in range(50)]
    assert [process.exitcode for process in pool._pool] == [0] * len(pool._pool)


def test_a_worker_lost_after_close(forked):
    started, release = fork.Event(), fork.Event()
    held = forked.apply_async(set_and_wait, (started, release))
    assert started.wait(LONG)
    rest = [forked.apply_async(kill_self) for _ in range(3)] + [forked.apply_async(square, (5,))]
    forked.close()
    release.set()
    forked.join()
    held.get(0)
    assert rest[3].get(0) == 25
    for result in rest[:3]:
        with pytest.raises(mpfast.WorkerLostError):
            result.get(0)


def test_join_of_a_running_pool(forked):
    with pytest.raises(ValueError, match="Pool is still running"):
        forked.join()


def test_terminate_with_work_pending(pool):
    event = mpfast.Event()
    result = pool.map_async(wait_for, [event] * 1000, chunksize=1)
    lazy = pool.imap(wait_for, itertools.repeat(event))
    processes = list(pool._pool)
    pool.terminate()
    pool.join()
    assert not any(process.is_alive() for process in processes)
    with pytest.raises(mpfast.ProcessError):
        result.get(LONG)
    with pytest.raises(mpfast.ProcessError):
        lazy.next(LONG)
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(square, (1,))
    pool.terminate()


def test_terminate_wakes_who_waits(forked):
    started, event = fork.Event(), fork.Event()
    result = forked.apply_async(set_and_wait, (started, event))
    errors = []

    def wait():
        try:
            result.get()
        except mpfast.ProcessError as error:
            errors.append(error)
    waiter = threading.Thread(target=wait)
    waiter.start()
    assert started.wait(LONG)
    forked.terminate()
    waiter.join(LONG)
    assert len(errors) == 1


def test_leaving_the_block_terminates(forked):
    with fork.Pool(1) as pool:
        assert repr(pool) == "<multiprocessing.pool.Pool state=RUN pool_size=1>"
        processes = list(pool._pool)
    assert pool._state == mpfast.pool.TERMINATE
    assert not any(process.is_alive() for process in processes)
    with pytest.raises(ValueError):
        with pool:
            pass
    pool.join()


def test_an_unclosed_pool_warns_and_ends():
    gc.collect()  # other tests' pools are not to be heard of below
    pool = fork.Pool(1)
    processes = list(pool._pool)
    reference = weakref.ref(pool)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == [
        "unclosed running multiprocessing pool <multiprocessing.pool.Pool state=RUN pool_size=1>"]
    caught.clear()  # a warning refers to what it is about
    gc.collect()
    assert reference() is None
    for process in processes:
        process.join(LONG)
        assert process.exitcode is not None


def test_a_pending_result_keeps_the_pool():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert fork.Pool(1).apply_async(square, (6,)).get(LONG) == 36
        assert list(fork.Pool(1).imap(square, iter(range(5)))) == [0, 1, 4, 9, 16]
        gc.collect()


def test_one_thread_and_no_descriptor_left():
    def descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))
    with fork.Pool(2) as pool:  # whatever is opened once
        pool.map(square, range(10))
    pool.join()
    del pool
    before, threads = descriptors(), set(threading.enumerate())  # some of them may be about to end
    for _ in range(5):
        with fork.Pool(2) as pool:
            pool.map(square, range(10))
            assert len(set(threading.enumerate()) - threads) <= 1
        pool.join()
    del pool
    assert descriptors() <= before and not set(threading.enumerate()) - threads


EXITS = {
    "live pool": "pool = mpfast.get_context('{method}').Pool(2); print(pool.map(abs, range(3)))",
    "work pending": "pool = mpfast.get_context('{method}').Pool(2); r = pool.map_async(time.sleep, [600] * 10); print(1)",
    "closed": "pool = mpfast.get_context('{method}').Pool(2); r = pool.apply_async(abs, (1,)); pool.close(); print(1)",
    "input left": "pool = mpfast.get_context('{method}').Pool(2); r = pool.imap(abs, itertools.count()); print(next(r))",
    "in a cycle": "class A: pass\n    a = A(); a.me = a; a.pool = mpfast.get_context('{method}').Pool(2); print(1)",
    "callbacks": "pool = mpfast.get_context('{method}').Pool(2); pool.map_async(time.sleep, [600], callback=print); print(1)",
    "not by the main thread": "import threading\n    made = []\n    def make():\n        made.append(mpfast.get_context("
                              "'{method}').Pool(2))\n    t = threading.Thread(target=make); t.start(); t.join(); "
                              "print(made[0].map(abs, [1]))",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", EXITS)
def test_exit_with_a_pool(python, tmp_path, method, case):
    body = EXITS[case].format(method=method)
    (tmp_path / "program.py").write_text(f"import itertools, mpfast, time\nif __name__ == '__main__':\n    {body}\n")
    done = python("program.py")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout != ""


INTERRUPTED = """
import os, signal, sys, time
import mpfast
def sleep(ready):
    ready.release()
    time.sleep(600)
def meet(barrier):
    barrier.wait()
if __name__ == "__main__":
    os.setpgid(0, 0)
    context = mpfast.get_context(sys.argv[1])
    ready = context.Semaphore(0)
    with context.Pool(3) as pool:
        pool.map(meet, [context.Barrier(3)] * 3, chunksize=1)  # no interpreter is still starting
        result = pool.map_async(sleep, [ready] * 2, chunksize=1)
        for _ in range(2):
            ready.acquire()
        os.killpg(0, signal.SIGINT)
        result.get()
"""


@pytest.mark.parametrize("method", METHODS)
def test_one_traceback_when_interrupted(python, tmp_path, method):
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    done = python("interrupted.py", method)
    assert done.returncode == -signal.SIGINT
    assert done.stderr.count("Traceback") == 1 and done.stderr.count("KeyboardInterrupt") == 1


def test_a_pool_in_a_thread_and_in_a_worker():
    made = []

    def make():
        with fork.Pool(2) as pool:
            made.append(pool.map(square, range(5)))
    thread = threading.Thread(target=make)
    thread.start()
    thread.join(LONG)
    child = fork.Process(target=make)
    child.start()
    child.join(LONG)
    assert made == [[0, 1, 4, 9, 16]] and child.exitcode == 0


def test_a_pool_belongs_to_its_process(forked):
    child = fork.Process(target=_use_of_parent, args=(forked,))  # inherited, not sent
    child.start()
    child.join(LONG)
    assert child.exitcode == 5
    assert forked.map(square, range(3)) == [0, 1, 4]


def _use_of_parent(pool):
    try:
        pool.apply(square, (1,))
    except RuntimeError:
        os._exit(5)


# ---- threads

def test_thread_pool():
    with mpfast.pool.ThreadPool(2) as pool:
        assert isinstance(pool, mpfast.pool.Pool)
        assert repr(pool) == "<multiprocessing.pool.ThreadPool state=RUN pool_size=2>"
        assert pool.map(lambda x: x + 1, range(5)) == [1, 2, 3, 4, 5]
        assert pool.apply(os.getpid) == os.getpid()
        assert list(pool.imap(lambda x: x, "abc", 2)) == ["a", "b", "c"]
        with pytest.raises(KeyError) as caught:
            pool.apply(fail, (1,))
        assert caught.value.__cause__ is None
    pool.join()
