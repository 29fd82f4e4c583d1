"""Pools that managers make: without a server, with the manners of proxies, in other processes, and in every end."""
import contextlib
import gc
import multiprocessing.managers as stdlib
import multiprocessing.pool
import os
import pickle
import signal
import sys
import threading
import time

import pytest

import mpfast
from conftest import METHODS
from mpfast.managers import SyncManager

pytestmark = pytest.mark.skipif(not hasattr(SyncManager, "_makes") or not hasattr(mpfast.pool.Pool, "_supervisor"),
                                reason="no native managers here")

LONG = 20  # seconds: long enough for anything that does not hang

fork = mpfast.get_context("fork")


@pytest.fixture
def manager():
    with mpfast.Manager() as manager:
        yield manager


@pytest.fixture
def pool(manager):
    return manager.Pool(2)


def square(x):
    return x * x


def add(a, b=0):
    return a + b


def fail_at_three(x):
    if x == 3:
        raise KeyError(x)
    return x


def own_pid(_=None):
    return os.getpid()


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def set_and_wait(started, release):
    started.set()
    return release.wait(LONG)


def until(condition):
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.002)


def runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def workers_of(pool):
    return [process.pid for process in pool._host.pool._pool]


def gone(pids):
    return not any(map(runs, pids))


# ---- what it is

def test_no_server_is_started(manager):
    before = set(mpfast.active_children())
    pool = manager.Pool(2)
    assert pool.map(square, range(100)) == [x * x for x in range(100)]
    assert {process.pid for process in mpfast.active_children() if process not in before} == set(workers_of(pool))
    pool.close()
    pool.join()
    assert manager._late and set(mpfast.active_children()) == before


def test_what_they_are(pool):
    assert type(pool).__mro__.count(stdlib.PoolProxy) == 1 and type(pool).__name__ == "PoolProxy"
    assert repr(pool) == f"<PoolProxy object, typeid 'Pool' at {id(pool):#x}>"
    assert str(pool) == "<multiprocessing.pool.Pool state=RUN pool_size=2>"
    assert [name for name in dir(pool) if name[0] != "_"] == sorted(stdlib.PoolProxy._exposed_)
    for result in (pool.apply_async(square, (1,)), pool.map_async(square, [1]), pool.starmap_async(add, [(1, 2)])):
        assert isinstance(result, stdlib.BaseProxy)
        assert repr(result) == f"<AutoProxy[AsyncResult] object, typeid 'AsyncResult' at {id(result):#x}>"
        assert str(result).startswith("<multiprocessing.pool.") and "Result object at" in str(result)
        assert [name for name in dir(result) if name[0] != "_"] == ["get", "ready", "successful", "wait"]
    for iterator in (pool.imap(square, [1]), pool.imap_unordered(square, [1])):
        assert isinstance(iterator, stdlib.IteratorProxy) and iter(iterator) is iterator
        assert repr(iterator) == f"<IteratorProxy object, typeid 'Iterator' at {id(iterator):#x}>"
    with pytest.raises(stdlib.RemoteError, match="pool objects cannot be passed between processes or pickled"):
        pool._getvalue()
    with pytest.raises(stdlib.RemoteError, match="cannot pickle"):
        result._getvalue()


SAME = """
import multiprocessing
from multiprocessing.managers import RemoteError

def square(x):
    return x * x

def fail(x):
    raise KeyError(x)

def attempt(call, *args):
    try:
        print(call(*args))
    except Exception as error:
        print(type(error).__name__, str(error) if not isinstance(error, RemoteError) else "")

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Manager() as manager:
        pool = manager.Pool(processes=2, initializer=None, initargs=(), maxtasksperchild=None)
        print(pool, pool.apply(square, (3,)), pool.apply(func=square, kwds={"x": 4}))
        print(pool.map(square, range(5)), pool.map(func=square, iterable=[1, 2], chunksize=1))
        print(pool.starmap(pow, [(2, 3), (3, 2)]), list(pool.imap(square, range(4))), list(pool.imap(square, range(9), 4)))
        print(sorted(pool.imap_unordered(square, range(4))))
        result = pool.map_async(square, iterable=range(3), chunksize=2)
        print(result.get(timeout=60), result.ready(), result.successful(), result.wait(1))
        for args in [(fail, (1,)), (square, (1, 2)), (square, ("x",))]:
            attempt(pool.apply, *args)
            result = pool.apply_async(*args)
            result.wait()
            print(result.successful())
            attempt(result.get)
        attempt(pool.map, fail, [1])
        iterator = pool.imap(square, range(2))
        print(next(iterator), next(iterator), iterator.__next__)
        attempt(iterator.__next__)
        for name in ("send", "throw", "close"):
            attempt(getattr(iterator, name), ValueError("thrown"))
        iterator = pool.imap(square, range(4), chunksize=2)
        print(next(iterator), iterator.send(None))
        attempt(iterator.throw, ValueError("thrown"))
        attempt(next, iterator)
        for arguments in [(0,), (-1,), ("x",), (1, 5), (1, None, (), 0), (1, None, (), None, None, None)]:
            attempt(manager.Pool, *arguments)
        attempt(pool.imap, square, [1], 0)
        attempt(pool.join)
        attempt(getattr, pool, "resize")
        pool.close()
        pool.close()
        print(pool)
        attempt(pool.apply, square, (1,))
        attempt(pool.map_async, square, [1])
        attempt(pool.imap, square, [1])
        pool.join()
        with manager.Pool(1) as pool, pool as same:
            print(pool is same)
        print(pool)
        attempt(pool.apply_async, square, (1,))
        pool.terminate()
        pool.join()
    attempt(pool.apply, square, (1,))
    attempt(pool.close)
    print(str(pool).endswith("; '__str__()' failed>"), repr(pool).startswith("<PoolProxy object"))
"""


def test_the_same_as_in_a_server(python):
    ours = SAME.replace("import multiprocessing\n", "import mpfast as multiprocessing\n")
    expected, found = (python("-c", source).stdout.splitlines() for source in (SAME, ours))
    bound = [line for line in found if "bound method" in line]
    assert len(bound) == 1
    assert [line.partition("<bound")[0] for line in found] == [line.partition("<bound")[0] for line in expected]


def test_what_cannot_be_pickled(pool):
    for call in (lambda: pool.apply_async(square, (threading.Lock(),)), lambda: pool.apply(square, (threading.Lock(),)),
                 lambda: pool.map(square, [threading.Lock()])):
        with pytest.raises(TypeError, match="cannot pickle"):
            call()
    assert pool.apply(square, (3,)) == 9


_value = None


def set_up(value):
    global _value
    _value = value


def value_and_pid():
    return _value, os.getpid()


def test_arguments(manager):
    pool = manager.Pool(1, set_up, (5,), 2)
    found = [pool.apply(value_and_pid) for _ in range(4)]
    assert {value for value, _ in found} == {5} and len({pid for _, pid in found}) == 2


def test_callbacks(pool):
    for call, arguments, value in [(pool.apply_async, (square, (3,)), 9), (pool.map_async, (square, [3]), [9]),
                                   (pool.starmap_async, (add, [(3, 4)]), [7])]:
        called = []
        call(*arguments, callback=called.append).wait(LONG)
        assert called == [value]
    result = pool.apply_async(fail_at_three, (3,), error_callback=called.append)
    result.wait(LONG)
    assert isinstance(called[-1], KeyError) and not result.successful()


# ---- in other processes

def use(pool, answers):
    answers.put((pool.apply(add, (1,), {"b": 2}), pool.map(square, range(10)), pool.map(square, range(10), 3),
                 pool.starmap(add, [(1, 2)]), pool.map(square, []), list(pool.imap(square, range(5))),
                 list(pool.imap(square, range(5), 2)), sorted(pool.imap_unordered(square, range(5))),
                 sorted(pool.imap_unordered(square, iter(range(5)), 2))))
    results = [pool.apply_async(square, (3,)), pool.map_async(square, [3]), pool.starmap_async(add, [(1, 2)])]
    answers.put([result.get(LONG) for result in results])
    answers.put([(result.ready(), result.successful(), result.wait()) for result in results])
    answers.put((str(pool), repr(pool).startswith("<PoolProxy object, typeid 'Pool'")))
    answers.put([error_of(pool.apply, fail_at_three, (3,)), error_of(pool.map, fail_at_three, range(5)),
                 error_of(pool.apply, kill_self), error_of(pool.apply_async, square, (threading.Lock(),)),
                 error_of(pool.imap, square, [1], 0), error_of(pool.join)])
    iterator = pool.imap(fail_at_three, range(5))
    answers.put([next(iterator), next(iterator), iterator.next(LONG), error_of(next, iterator), next(iterator),
                 error_of(next, iterator)])


def error_of(call, *args):
    try:
        call(*args)
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("method", METHODS)
def test_in_a_child(method):
    context = mpfast.get_context(method)
    with context.Manager() as manager:
        pool, answers = manager.Pool(2), context.Queue()
        child = context.Process(target=use, args=(pool, answers))
        child.start()
        squares = [x * x for x in range(10)]
        assert answers.get(timeout=LONG) == (3, squares, squares, [3], [], squares[:5], squares[:5], squares[:5], squares[:5])
        assert answers.get(timeout=LONG) == [9, [9], [3]]
        assert answers.get(timeout=LONG) == [(True, True, None)] * 3
        assert answers.get(timeout=LONG) == ("<multiprocessing.pool.Pool state=RUN pool_size=2>", True)
        assert answers.get(timeout=LONG) == ["KeyError", "KeyError", "WorkerLostError", "TypeError", "ValueError", "ValueError"]
        assert answers.get(timeout=LONG) == [0, 1, 2, "KeyError", 4, "StopIteration"]
        child.join(LONG)
        assert child.exitcode == 0 and manager._late


def call_back(pool, calls):
    # One after the other: which of two callbacks is called first, nobody says.
    pool.apply_async(square, (3,), callback=calls.put).wait(LONG)
    pool.map_async(square, [3], callback=calls.put).wait(LONG)
    pool.starmap_async(add, [(3, 4)], callback=calls.put).wait(LONG)
    pool.apply_async(fail_at_three, (3,), error_callback=calls.put).wait(LONG)
    pool.apply_async(square, (3,), callback=own_pid_to(calls)).wait(LONG)


class own_pid_to:
    def __init__(self, calls):
        self._calls = calls

    def __call__(self, _):
        self._calls.put(os.getpid())


def test_callbacks_are_called_in_the_process_of_the_pool(pool):
    calls = fork.Queue()
    child = fork.Process(target=call_back, args=(pool, calls))
    child.start()
    assert [calls.get(timeout=LONG) for _ in range(3)] == [9, [9], [7]]
    assert isinstance(calls.get(timeout=LONG), KeyError) and calls.get(timeout=LONG) == os.getpid()
    child.join(LONG)


def end(pool, how, answers):
    with pool if how == "__exit__" else contextlib.nullcontext():
        if how != "__exit__":
            getattr(pool, how)()
    pool.join()
    answers.put((str(pool), [error_of(pool.apply, square, (1,)), error_of(pool.map_async, square, [1]),
                             error_of(pool.imap_unordered, square, [1])]))


@pytest.mark.parametrize("how, state", [("close", "CLOSE"), ("terminate", "TERMINATE"), ("__exit__", "TERMINATE")])
def test_ended_by_a_child(pool, how, state):
    answers, pids, result = fork.Queue(), workers_of(pool), pool.apply_async(square, (3,))
    result.wait(LONG)
    child = fork.Process(target=end, args=(pool, how, answers))
    child.start()
    text, errors = answers.get(timeout=LONG)
    child.join(LONG)
    assert errors == ["ValueError"] * 3 and gone(pids) and result.get() == 9
    assert text == str(pool) and f"state={state}" in text
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(square, (1,))


def test_pickled_in_its_own_process(pool):
    other = pickle.loads(pickle.dumps(pool))
    assert type(other) is type(pool) and other._id == pool._id and other._host is pool._host
    assert other.apply(own_pid) in workers_of(pool)


def take(result, iterator, answers):
    answers.put((result.get(LONG), result.ready(), result.successful(), next(iterator)))


@pytest.mark.parametrize("method", METHODS)
def test_results_in_a_child(method):
    context = mpfast.get_context(method)
    with mpfast.Manager() as manager:
        pool, started, release, answers = manager.Pool(2), context.Event(), context.Event(), context.Queue()
        result, iterator = pool.apply_async(set_and_wait, (started, release)), pool.imap(square, [3, 4])
        assert next(iterator) == 9
        child = context.Process(target=take, args=(result, iterator, answers))
        child.start()
        assert started.wait(LONG)
        release.set()
        assert answers.get(timeout=LONG) == (True, True, True, 16)
        assert result.get(LONG) is True and list(iterator) == []
        child.join(LONG)


def test_a_result_that_was_there_before_the_fork(pool):
    answers, result = fork.Queue(), pool.apply_async(square, (3,))
    result.wait(LONG)
    child = fork.Process(target=lambda: answers.put((result.ready(), result.successful(), result.get())))
    child.start()
    assert answers.get(timeout=LONG) == (True, True, 9)
    child.join(LONG)


def hand_on(pool, queue, started, release):
    queue.put((pool.apply_async(set_and_wait, (started, release)), pool.map_async(square, [1, 2]), pool.imap(square, [3, 4])))
    started.wait(LONG)
    release.wait(LONG)  # an iterator goes on by way of who had it


def test_results_of_a_child(pool):
    queue, started, release = fork.Queue(), fork.Event(), fork.Event()
    child = fork.Process(target=hand_on, args=(pool, queue, started, release))
    child.start()
    result, squares, iterator = queue.get(timeout=LONG)
    assert squares.get(LONG) == [1, 4] and list(iterator) == [9, 16]
    with pytest.raises(mpfast.TimeoutError):
        result.get(0)
    release.set()
    child.join(LONG)
    assert result.get(LONG) is True


def raise_end_of_file(x):
    raise EOFError(x)


def test_an_iterator_of_two(pool):
    own = pool.imap(raise_end_of_file, [1, 2])
    other = pickle.loads(pickle.dumps(own))
    assert [error_of(next, iterator) for iterator in (own, other, own, other)] == ["EOFError"] * 2 + ["StopIteration"] * 2
    own = pool.imap(call_event, [(fork.Event(), fork.Event())])
    other = pickle.loads(pickle.dumps(own))
    with pytest.raises(mpfast.TimeoutError):
        other.next(0)
    pool.terminate()
    assert {error_of(next, other), error_of(next, own)} == {"ProcessError", "StopIteration"}


# ---- how long it lives

def test_dropped(manager):
    pool = manager.Pool(2)
    pids = workers_of(pool)
    assert pool.map(square, range(4)) == [0, 1, 4, 9]
    del pool
    gc.collect()
    assert gone(pids)


def test_results_keep_it(manager):
    started, release = fork.Event(), fork.Event()
    pool = manager.Pool(1)
    pids = workers_of(pool)
    result = pool.apply_async(set_and_wait, (started, release))
    del pool
    gc.collect()
    release.set()
    assert result.get(LONG) is True
    del result
    until(lambda: gc.collect() is not None and gone(pids))


def test_a_task_that_nobody_waits_for_is_done(manager):
    started, release, done = fork.Event(), fork.Event(), fork.Queue()
    pool = manager.Pool(1)
    pids = workers_of(pool)
    pool.apply_async(set_and_wait, (started, release))
    pool.apply_async(done.put, (7,))
    del pool
    gc.collect()
    release.set()
    assert done.get(timeout=LONG) == 7
    until(lambda: gone(pids))


def keep(pool, answers, release):
    answers.put(pool.apply(square, (3,)))
    release.wait(LONG)


@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_a_child_keeps_it_until_it(manager, how):
    pool, answers, release = manager.Pool(2), fork.Queue(), fork.Event()
    pids = workers_of(pool)
    child = fork.Process(target=keep, args=(pool, answers, release))
    child.start()
    del pool
    gc.collect()
    assert answers.get(timeout=LONG) == 9 and not gone(pids)
    if how == "ends":
        release.set()
    else:
        child.kill()
    child.join(LONG)
    until(lambda: gone(pids))
    assert manager._number_of_objects() == 0


def test_on_its_way_it_lives(manager):
    queue = fork.Queue()
    queue.put(manager.Pool(2))
    gc.collect()
    assert queue.get(timeout=LONG).apply(square, (3,)) == 9


def test_in_a_shared_container_it_lives(manager):
    shared = manager.dict(pool=manager.Pool(1))
    gc.collect()
    pids = workers_of(shared["pool"])
    assert shared["pool"].apply(own_pid) in pids
    del shared["pool"]
    until(lambda: gone(pids))


def test_of_two_pools_neither_keeps_the_other(manager):
    # A worker that is forked later has all that its parent has, the other pool's proxy too.
    first, second = manager.Pool(1, None, (), 1), manager.Pool(1, None, (), 1)
    for pool in (first, second):
        assert len({pool.apply(own_pid) for _ in range(3)}) == 3
    pids = workers_of(first) + workers_of(second)
    del first, second, pool
    gc.collect()
    until(lambda: gone(pids))


def test_references_are_counted():
    event = mpfast.Event()
    pickled = pickle.dumps(event)
    assert mpfast._core.references(event) == 2
    other = pickle.loads(pickled)
    assert mpfast._core.references(event) == mpfast._core.references(other) == 2
    release = fork.Event()
    child = fork.Process(target=release.wait, args=(LONG,))
    child.start()
    assert mpfast._core.references(event) == 4
    child.kill()
    child.join(LONG)
    until(lambda: mpfast._core.references(event) == 2)
    del other
    assert mpfast._core.references(event) == 1
    with pytest.raises(TypeError, match="an Event is needed, not int"):
        mpfast._core.references(5)


# ---- the end of the manager

WAITS = {
    "apply": lambda pool, task: pool.apply(*task),
    "map": lambda pool, task: pool.starmap(task[0], [task[1]]),
    "get": lambda pool, task: pool.apply_async(*task).get(),
    "get, in time": lambda pool, task: pool.apply_async(*task).get(LONG),
    "wait": lambda pool, task: pool.apply_async(*task).wait(),
    "get, of a map": lambda pool, task: pool.starmap_async(task[0], [task[1]]).get(),
    "get, with a callback": lambda pool, task: pool.apply_async(*task, callback=print).get(),
    "next": lambda pool, task: next(pool.imap(call_event, [task[1]])),
    "next, unordered": lambda pool, task: next(pool.imap_unordered(call_event, [task[1]])),
    "join": lambda pool, task: (pool.apply_async(*task), pool.close(), pool.join()),
}


def call_event(events):
    return set_and_wait(*events)


def wait_for_the_end(wait, pool, task):
    try:
        wait(pool, task)
    except EOFError:
        sys.exit(7)


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_nobody_waits_when_the_manager_has_shut_down(wait):
    started = fork.Event()
    with mpfast.Manager() as manager:
        pool = manager.Pool(1)
        pids = workers_of(pool)
        child = fork.Process(target=wait_for_the_end, args=(wait, pool, (set_and_wait, (started, fork.Event()))))
        child.start()
        assert started.wait(LONG)
    assert gone(pids)
    child.join(LONG)
    late = fork.Process(target=wait_for_the_end, args=(wait, pickle.loads(pickle.dumps(pool)), (square, (1,))))
    late.start()
    late.join(LONG)
    assert (child.exitcode, late.exitcode) == (7, 7)


@pytest.mark.parametrize("wait", [name for name in WAITS if name != "join"])
def test_a_thread_that_waits_when_the_manager_shuts_down(manager, wait):
    pool, started, outcome = manager.Pool(1), fork.Event(), []

    def run():
        try:
            WAITS[wait](pool, (set_and_wait, (started, fork.Event())))
        except (EOFError, BrokenPipeError) as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(LONG)
    manager.shutdown()
    thread.join(LONG)
    assert len(outcome) == 1


def test_after_shutdown():
    with mpfast.Manager() as manager:
        pool = manager.Pool(1)
        other, result, iterator = pickle.loads(pickle.dumps(pool)), pool.apply_async(square, (3,)), pool.imap(square, [1])
    for call in (lambda: pool.apply(square, (1,)), pool.join, lambda: other.map(square, [1]), result.get, result.ready,
                 lambda: next(iterator), pool.close, other.terminate):
        with pytest.raises(BrokenPipeError):
            call()


def test_a_manager_that_is_collected():
    manager = mpfast.Manager()
    pool = manager.Pool(2)
    pids = workers_of(pool)
    del manager
    gc.collect()
    assert pool.apply(square, (3,)) == 9  # it has its manager
    del pool
    gc.collect()
    assert gone(pids)


PROGRAM_WITH_WAITING_CHILD = """
import mpfast, sys, time
def wait(pool, begun):
    begun.set()
    try:
        pool.apply(time.sleep, (600,))
    except EOFError:
        print("EOFError", flush=True)
if __name__ == "__main__":
    context = mpfast.get_context("fork")
    manager, begun = context.Manager(), context.Event()
    pool = manager.Pool(1)
    child = context.Process(target=wait, args=(pool, begun))
    child.start()
    begun.wait()
"""


def test_a_program_ends_whose_child_waits_for_a_pool_of_its_manager(python):
    done = python("-c", PROGRAM_WITH_WAITING_CHILD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "EOFError\n", "")


# ---- processes that are killed

def test_a_worker_is_killed(pool):
    with pytest.raises(mpfast.WorkerLostError):
        pool.apply(kill_self)
    assert pool.map(square, range(10)) == [x * x for x in range(10)]


def call_and_die(pool, started, release):
    pool.apply_async(set_and_wait, (started, release))
    started.wait(LONG)
    kill_self()


def test_a_user_of_the_handle_is_killed(pool):
    started, release = fork.Event(), fork.Event()
    child = fork.Process(target=call_and_die, args=(pool, started, release))
    child.start()
    child.join(LONG)
    assert child.exitcode == -signal.SIGKILL
    release.set()
    assert pool.map(square, range(10)) == [x * x for x in range(10)]
    pool.close()
    pool.join()


def own_a_pool(answers):
    with fork.Manager() as manager, manager.Pool(2) as pool:
        answers.put((pool, workers_of(pool)))
        threading.Event().wait()


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_the_creator_is_killed(wait):
    answers, started = fork.Queue(), fork.Event()
    owner = fork.Process(target=own_a_pool, args=(answers,))
    owner.start()
    pool, pids = answers.get(timeout=LONG)
    child = fork.Process(target=wait_for_the_end, args=(wait, pool, (set_and_wait, (started, fork.Event()))))
    child.start()
    assert started.wait(LONG)
    owner.kill()
    killed = time.monotonic()
    until(lambda: gone(pids))
    assert time.monotonic() - killed < 5  # on a busy machine; it takes no more than a moment
    child.join(LONG)
    assert child.exitcode == 7
    owner.join(LONG)


# ---- who else may have one

def make_and_use(manager, answers):
    with manager.Pool(2) as pool:
        answers.put((pool.map(square, range(4)), workers_of(pool), manager._late))
        answers.put(pool.apply(own_pid) in workers_of(pool))


@pytest.mark.parametrize("daemon", [False, True])
def test_made_by_a_forked_child(manager, daemon):
    answers = fork.Queue()
    child = fork.Process(target=make_and_use, args=(manager, answers), daemon=daemon)
    child.start()
    squares, pids, late = answers.get(timeout=LONG)
    assert squares == [0, 1, 4, 9] and late and answers.get(timeout=LONG)
    child.join(LONG)
    assert child.exitcode == 0 and gone(pids)


def make_for_others(manager, answers, release):
    pool = manager.Pool(1)
    answers.put((pool, workers_of(pool)))
    release.wait(LONG)


def test_what_a_forked_child_made_ends_with_it(manager):
    answers, release = fork.Queue(), fork.Event()
    child = fork.Process(target=make_for_others, args=(manager, answers, release))
    child.start()
    pool, pids = answers.get(timeout=LONG)
    assert pool.apply(square, (3,)) == 9
    release.set()
    child.join(LONG)
    assert gone(pids)
    assert error_of(pool.apply, square, (3,)) in ("ValueError", "EOFError")


def nested(_):
    with _manager.Pool(1) as pool:
        return pool.map(square, range(3))


_manager = None


def test_a_pool_in_a_task_of_a_pool(manager):
    global _manager
    _manager = manager
    try:
        with fork.Pool(2) as outer:
            assert outer.map(nested, range(4), 1) == [[0, 1, 4]] * 4
    finally:
        _manager = None


def test_a_type_of_ones_own():
    class Mine(SyncManager):
        pass

    Mine.register("Pool", list, stdlib.ListProxy)
    with Mine(ctx=fork) as manager:
        assert manager.Pool([1, 2])[:] == [1, 2] and not manager._late


def test_a_subclass_that_overrides_creation():
    class Mine(SyncManager):
        created = []

        def _create(self, typeid, /, *args, **kwds):
            self.created.append(typeid)
            return super()._create(typeid, *args, **kwds)

    with Mine(ctx=fork) as manager, manager.Pool(1) as pool:
        assert pool.map(square, [3]) == [9] and type(pool) is stdlib.PoolProxy
    assert "Pool" in Mine.created


def test_a_worker_of_ones_own(manager, monkeypatch):
    original = multiprocessing.pool.worker
    monkeypatch.setattr(multiprocessing.pool, "worker", lambda *args, **kwds: original(*args, **kwds))
    with manager.Pool(1) as pool:
        assert type(pool) is stdlib.PoolProxy and pool.map(square, [3]) == [9]


class Mine(SyncManager):
    pass


Mine.register("Own", list)


def test_beside_types_of_ones_own():
    with Mine(ctx=fork) as manager, manager.Pool(1) as pool:
        assert type(pool) is not stdlib.PoolProxy and pool.map(square, [3]) == [9]


# ---- through the server

def test_a_proxy_through_the_server(pool):
    stranger = stdlib.PoolProxy(pool._token, "pickle", manager=pool._manager, authkey=pool._authkey)
    with contextlib.closing(stranger):
        assert stranger.map(square, range(3)) == [0, 1, 4] and stranger.apply(square, (3,)) == 9
        result = stranger.apply_async(square, (3,))
        assert result.get(LONG) == 9 and result.ready() and result.successful()
        assert stranger.map_async(square, [3], callback=print).get(LONG) == [9]
        iterator = stranger.imap(square, [1, 2])
        assert next(iterator) == 1 and list(iterator) == [4]
        assert sorted(stranger.imap_unordered(square, range(3), chunksize=2)) == [0, 1, 4]
        assert str(stranger) == str(pool)
        with pytest.raises(KeyError):
            stranger.apply(fail_at_three, (3,))
        with pytest.raises(ValueError, match="Pool is still running"):
            stranger.join()
    stranger.join()
    assert "state=CLOSE" in str(pool)
