"""ProcessPoolExecutor: map."""
import concurrent.futures as stdlib
import inspect

import pytest
from executor_tasks import LONG, Blocked, FailsToPickle, add, context, count_up, identity, native


def test_map_keeps_order(executor):
    assert list(executor.map(identity, range(2000))) == list(range(2000))
    assert list(executor.map(identity, range(2003), chunksize=100)) == list(range(2003))
    assert list(executor.map(add, range(10), range(5))) == [0, 2, 4, 6, 8]
    assert list(executor.map(identity, [])) == list(executor.map(identity)) == []
    assert list(executor.map(identity, (i for i in "abc"))) == ["a", "b", "c"]


def test_map_takes_the_input_at_once(executor):
    taken = []
    results = executor.map(identity, (taken.append(i) or i for i in range(20)))
    assert taken == list(range(20))
    assert inspect.isgenerator(results) and iter(results) is results
    assert list(results) == taken


def test_map_refuses(executor):
    for chunksize in (0, -1):
        with pytest.raises(ValueError, match="chunksize must be >= 1"):
            executor.map(identity, [1], chunksize=chunksize)


def test_map_stops_at_an_error(executor):
    results = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert next(results) == next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError) as raised:
        next(results)
    assert type(raised.value.__cause__) is stdlib.process._RemoteTraceback
    with pytest.raises(StopIteration):
        next(results)
    assert list(executor.map(identity, [1, 2])) == [1, 2]


def test_map_reports_what_cannot_be_pickled_in_its_place(executor):
    results = executor.map(identity, [1, FailsToPickle(), 3])
    assert next(results) == 1
    with pytest.raises(LookupError, match="not this one"):
        next(results)


def test_map_ends_at_the_timeout():
    with Blocked() as blocked:
        results = blocked.executor.map(identity, range(3), timeout=0.05)
        with pytest.raises(stdlib.TimeoutError):
            list(results)


def test_a_map_that_is_given_up_cancels_what_is_left():
    counter = context.Value("i")
    with Blocked() as blocked:
        results = blocked.executor.map(count_up, [counter] * 50, timeout=0.05)
        with pytest.raises(stdlib.TimeoutError):
            next(results)
        blocked.release()
        assert blocked.executor.submit(identity, 1).result(LONG) == 1
    assert counter.value <= 2


class InterruptedCrew:
    """A crew; Ctrl-C comes before the first time that tasks are cancelled."""

    def __init__(self, crew):
        self._crew = crew
        self._interrupts = [KeyboardInterrupt]

    def __getattr__(self, name):
        return getattr(self._crew, name)

    def cancel_all(self, receiver):
        if self._interrupts:
            raise self._interrupts.pop()
        return self._crew.cancel_all(receiver)


@native
@pytest.mark.parametrize("buffersize", [None, 50])
def test_a_map_that_is_interrupted_while_it_is_given_up_cancels_what_is_left_all_the_same(buffersize):
    counter = context.Value("i")
    with Blocked() as blocked:
        supervisor = blocked.executor._supervisor
        crew, supervisor.crew = supervisor.crew, InterruptedCrew(supervisor.crew)
        results = blocked.executor.map(count_up, [counter] * 50, timeout=0.05, buffersize=buffersize)
        with pytest.raises(KeyboardInterrupt):
            next(results)
        supervisor.crew = crew
        blocked.release()
        assert blocked.executor.submit(identity, 1).result(LONG) == 1
    assert counter.value <= 2


def test_a_forked_child_gives_up_its_copy_of_a_map(executor, capfd):
    results = executor.map(identity, range(3))
    assert next(results) == 0
    child = context.Process(target=results.close)
    child.start()
    child.join(LONG)
    assert child.exitcode == 0 and capfd.readouterr().err == ""
    assert list(results) == [1, 2]


@native
def test_map_reads_ahead_as_far_as_it_is_told(executor):
    taken = []

    def source():
        for i in range(10 ** 9):
            taken.append(i)
            yield i

    results = executor.map(identity, source(), buffersize=3)
    assert taken == [0, 1, 2]
    assert next(results) == 0 and taken == [0, 1, 2, 3]
    assert [next(results) for _ in range(100)] == list(range(1, 101)) and len(taken) == 104
    results.close()
    chunked = executor.map(add, source(), source(), buffersize=2, chunksize=5)
    assert [next(chunked) for _ in range(8)] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert list(executor.map(identity, range(7), buffersize=100)) == list(range(7))
    for wrong in ("foo", 2.0):
        with pytest.raises(TypeError, match="buffersize must be an integer or None"):
            executor.map(identity, range(4), buffersize=wrong)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="buffersize must be None or > 0"):
            executor.map(identity, range(4), buffersize=wrong)


@native
def test_map_shows_progress(executor, capfd):
    assert list(executor.map(identity, range(300), chunksize=10, progress=True)) == list(range(300))
    err = capfd.readouterr().err
    assert "300/300" in err
