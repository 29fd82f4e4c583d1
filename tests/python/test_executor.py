"""ProcessPoolExecutor: what a program sees of it."""
import concurrent.futures as stdlib
import gc
import inspect
import os
import sys
import threading
import weakref
from concurrent.futures.process import BrokenProcessPool

import pytest
from conftest import METHODS
from executor_tasks import (LONG, Blocked, FailsToPickle, add, context, eventually, fail, identity, make, native,
                            pid_of_worker)

import mpfast
from mpfast.concurrent.futures import ProcessPoolExecutor


def capture(*args, **kwargs):
    return args, kwargs


@pytest.mark.parametrize("method", METHODS)
def test_tasks_of_every_start_method(method):
    with ProcessPoolExecutor(2, mp_context=mpfast.get_context(method)) as executor:
        assert executor.submit(pow, 2, 8).result(LONG) == 256
        assert executor.submit(capture, 1, self=2, fn=3).result(LONG) == ((1,), {"self": 2, "fn": 3})
        assert list(executor.map(add, range(50), range(50), chunksize=7)) == [2 * i for i in range(50)]
        assert executor.submit(pid_of_worker).result(LONG) in executor._processes


def test_is_an_executor_and_gives_futures(executor):
    assert isinstance(executor, stdlib.ProcessPoolExecutor) and isinstance(executor, stdlib.Executor)
    future = executor.submit(identity, 1)
    assert isinstance(future, stdlib.Future)
    assert future.result() == future.result() == 1
    assert future.exception() is None and future.done() and not future.running() and not future.cancelled()
    assert repr(future) == f"<Future at {id(future):#x} state=finished returned int>"


def test_the_signatures_are_those_of_the_standard_library():
    ours, theirs = ProcessPoolExecutor, stdlib.process.ProcessPoolExecutor
    for name in ("__init__", "submit", "map", "shutdown"):
        known = inspect.signature(getattr(ours, name)).parameters
        for parameter in inspect.signature(getattr(theirs, name)).parameters.values():
            assert str(known[parameter.name]) == str(parameter)
    with pytest.raises(TypeError):
        ours(1).submit(fn=identity)


@pytest.mark.parametrize("arguments, error, message", [
    (dict(max_workers=0), ValueError, "max_workers must be greater than 0"),
    (dict(max_workers=-1), ValueError, "max_workers must be greater than 0"),
    (dict(max_workers=1.5), TypeError, "'float' object cannot be interpreted as an integer"),
    (dict(initializer=1), TypeError, "initializer must be a callable"),
])
def test_what_the_constructor_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        ProcessPoolExecutor(**arguments)


def test_large_arguments_and_results(executor):
    data = os.urandom(3 << 20)
    assert executor.submit(identity, data).result(LONG) == data
    futures = [executor.submit(identity, data[i:]) for i in range(8)]
    assert all(future.result(LONG) == data[i:] for i, future in enumerate(futures))


def test_neither_arguments_nor_results_are_kept(executor):
    class Local:
        method = identity

    function = Local()
    gone = weakref.ref(function)
    executor.submit(identity, {"kept": [1]}).result(LONG)
    results = executor.map(make, [Carrier] * 5)
    for result in results:
        result_gone = weakref.ref(result)
        del result
        gc.collect()
        assert result_gone() is None
    del function
    assert gone() is None
    future = executor.submit(make, Carrier)
    result_gone = weakref.ref(future.result(LONG))
    assert result_gone() is not None
    del future
    gc.collect()
    assert result_gone() is None


class Carrier:
    pass


def test_many_threads_submit_and_wait(executor):
    errors = []

    def work(who):
        try:
            for i in range(100):
                assert executor.submit(add, 1000 * who, i).result(LONG) == 1000 * who + i
            assert list(executor.map(add, [who] * 100, range(100), timeout=LONG)) == [who + i for i in range(100)]
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


# ---- errors

def test_an_error_comes_with_the_traceback_of_the_worker(executor):
    future = executor.submit(fail, "so it goes")
    with pytest.raises(ValueError, match="so it goes") as raised:
        future.result(LONG)
    assert type(raised.value.__cause__) is stdlib.process._RemoteTraceback
    assert "raise ValueError(message)" in str(raised.value.__cause__)
    assert future.exception() is raised.value
    assert repr(future) == f"<Future at {id(future):#x} state=finished raised ValueError>"


class Falsy(Exception):
    def __bool__(self):
        return False


def raise_falsy():
    raise Falsy("no")


@native
def test_an_error_whose_truth_value_is_false_is_an_error(executor):
    with pytest.raises(Falsy):
        executor.submit(raise_falsy).result(LONG)


def test_an_exit_of_a_task_is_its_error(executor):
    assert isinstance(executor.submit(sys.exit, 3).exception(LONG), SystemExit)
    assert executor.submit(identity, 1).result(LONG) == 1


def test_what_cannot_be_pickled_is_the_error_of_its_future(executor):
    with pytest.raises(LookupError, match="not this one"):
        executor.submit(identity, FailsToPickle()).result(LONG)
    with pytest.raises(LookupError, match="not this one"):
        executor.submit(make, FailsToPickle).result(LONG)
    assert executor.submit(identity, 1).result(LONG) == 1


class FailsToUnpickle:
    def __reduce__(self):
        return fail, ("cannot be read",)


def test_what_a_worker_cannot_read_breaks_the_executor(capfd):
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(identity, FailsToUnpickle()).result(LONG)
        with pytest.raises(BrokenProcessPool):
            executor.submit(identity, 1)


def test_a_result_that_cannot_be_read_breaks_the_executor():
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        with pytest.raises(BrokenProcessPool) as raised:
            executor.submit(make, FailsToUnpickle).result(LONG)
        assert "cannot be read" in str(raised.value.__cause__)


# ---- other programs' ways

def test_attributes_that_programs_read():
    def init():
        pass

    executor = ProcessPoolExecutor(2, context, init, ())
    assert (executor._max_workers, executor._mp_context, executor._processes) == (2, context, {})
    assert (executor._initializer, executor._initargs, executor._broken) == (init, (), False)
    assert executor._executor_manager_thread is None and not executor._shutdown_thread
    assert executor._queue_count == 0 and len(executor._pending_work_items) == 0
    executor.shutdown()
    with Blocked() as blocked:
        futures = [blocked.executor.submit(add, i, i) for i in range(4)]
        assert blocked.executor._queue_count == 5
        assert len(blocked.executor._pending_work_items) == 5
        assert {item.future for item in blocked.executor._pending_work_items.values()} == {blocked.first, *futures}
        assert blocked.executor._executor_manager_thread.is_alive()
        blocked.release()
        stdlib.wait(futures, LONG)
        eventually(lambda: not blocked.executor._pending_work_items)
        thread = blocked.executor._executor_manager_thread
    assert blocked.executor._shutdown_thread and not thread.is_alive()


def test_a_forked_child_has_an_executor_of_its_own(executor):
    assert executor.submit(identity, 1).result(LONG) == 1
    answers = context.SimpleQueue()

    def child():
        with ProcessPoolExecutor(2, mp_context=context) as own:
            answers.put(list(own.map(identity, range(10))))

    stop = threading.Event()
    noise = threading.Thread(target=lambda: [executor.submit(identity, 1).result() for _ in iter(stop.is_set, True)])
    noise.start()
    try:
        for _ in range(5):
            process = context.Process(target=child)
            process.start()
            process.join(LONG)
            assert process.exitcode == 0 and answers.get() == list(range(10))
    finally:
        stop.set()
        noise.join()
    assert executor.submit(identity, 2).result(LONG) == 2


def test_an_executor_within_a_worker(executor):
    assert executor.submit(sum_by_executor, 10).result(LONG) == 45


def sum_by_executor(n):
    with ProcessPoolExecutor(2, mp_context=context) as inner:
        return sum(inner.map(identity, range(n)))


def test_an_executor_cannot_be_pickled(executor):
    import pickle
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(executor)
