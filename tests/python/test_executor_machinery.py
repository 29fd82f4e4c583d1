"""ProcessPoolExecutor: subclasses and programs that replace a step of its work."""
from concurrent.futures.process import BrokenProcessPool

import pytest
from executor_tasks import LONG, context, identity, pid_of_worker, wait_for

import mpfast
from mpfast.concurrent.futures import ProcessPoolExecutor


class Overriding(ProcessPoolExecutor):
    starts = 0

    def _start_executor_manager_thread(self):
        type(self).starts += 1
        super()._start_executor_manager_thread()


class Counting(ProcessPoolExecutor):
    submitted = 0

    def submit(self, fn, /, *args, **kwargs):
        self.submitted += 1
        return super().submit(fn, *args, **kwargs)


def test_a_subclass_with_steps_of_its_own():
    with Overriding(2, mp_context=context) as executor:
        assert executor.submit(identity, 1).result(LONG) == 1
        assert list(executor.map(identity, range(10), chunksize=3)) == list(range(10))
        assert executor._call_queue is not None
    assert Overriding.starts >= 1


def test_a_subclass_that_overrides_submit_sees_what_map_submits():
    with Counting(2, mp_context=context) as executor:
        assert executor.submit(identity, 1).result(LONG) == 1
        assert list(executor.map(identity, range(10), chunksize=5)) == list(range(10))
        assert executor.submitted == 3


def test_steps_that_are_replaced_in_the_module(monkeypatch):
    import concurrent.futures.process as module
    started = []

    class Manager(module._ExecutorManagerThread):
        def run(self):
            started.append(self)
            super().run()

    monkeypatch.setattr(module, "_ExecutorManagerThread", Manager)
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        assert executor.submit(identity, 1).result(LONG) == 1
    assert len(started) == 1


def calls_of_starter(monkeypatch, start):
    """The list of what ``_spawn_worker``, replaced by a function that calls *start*, was called with."""
    import concurrent.futures.process as module
    if not hasattr(module, "_spawn_worker"):
        pytest.skip("this version has no _spawn_worker")
    former = module._spawn_worker
    calls = []

    def _spawn_worker(*args):
        calls.append(args)
        start(former, args)

    monkeypatch.setattr(module, "_spawn_worker", _spawn_worker)
    return calls


def test_how_workers_are_started_may_be_replaced_later(monkeypatch):
    with ProcessPoolExecutor(1, mp_context=mpfast.get_context("spawn"), max_tasks_per_child=1) as executor:
        first = executor.submit(pid_of_worker).result(LONG)
        calls = calls_of_starter(monkeypatch, lambda former, args: former(*args))
        later = [executor.submit(pid_of_worker).result(LONG) for _ in range(2)]
        assert len({first, *later}) == 3
    assert len(calls) >= 2


def test_when_no_worker_can_be_started_any_more(monkeypatch):
    started, gate = context.Semaphore(0), context.Event()
    executor = ProcessPoolExecutor(1, mp_context=mpfast.get_context("spawn"), max_tasks_per_child=1,
                                   initializer=prepare, initargs=(started, gate))
    futures = [executor.submit(wait_as_prepared) for _ in range(3)]
    assert started.acquire(timeout=LONG)

    def refuse(former, args):
        raise OSError("no more of them")

    calls = calls_of_starter(monkeypatch, refuse)
    gate.set()
    assert futures[0].result(LONG) == "waited"
    for future in futures[1:]:
        with pytest.raises(BrokenProcessPool, match="could not be started") as caught:
            future.result(LONG)
        assert "no more of them" in str(caught.value.__cause__)
    assert calls
    with pytest.raises(BrokenProcessPool):
        executor.submit(identity, 1)
    executor.shutdown()


prepared = None


def prepare(*arguments):
    global prepared
    prepared = arguments


def wait_as_prepared():
    return wait_for(*prepared)
