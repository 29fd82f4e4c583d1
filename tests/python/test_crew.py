"""Crews: tasks for worker processes, as pools and executors use them."""
import gc
import os
import weakref

import pytest

import mpfast
from mpfast import _native

if not _native.ENABLED:
    pytest.skip("crews are native", allow_module_level=True)

from crew_team import FORK, PATIENCE, square  # noqa: E402

from mpfast import _core  # noqa: E402


def test_a_call_returns_what_the_function_returns(team):
    team.start()
    assert team.call(divmod, 17, 5) == (3, 2)
    assert team.call(dict, [("a", 1)], b=2) == {"a": 1, "b": 2}
    assert team.call(os.getpid) == team.processes[0].pid


@pytest.mark.parametrize("size", [100, 1_000, 10_000, 100_000, 3_000_000])
def test_long_arguments_and_results_arrive_whole(team, size):
    team.start()
    data = os.urandom(size)
    assert team.call(bytes.swapcase, data) == data.swapcase()


def test_an_array_that_arrives_is_the_receivers_own(team):
    numpy = pytest.importorskip("numpy")
    team.start()
    array = numpy.arange(500_000.0)
    got = team.call(numpy.negative, array)
    assert (got == -array).all()
    got += 1
    assert got[0] == 1


def test_a_spawned_worker_gets_the_crew_by_pickle(team):
    team.start(context=mpfast.get_context("spawn"))
    assert team.call(divmod, 17, 5) == (3, 2)


def use_crew(crew, connection):
    outcome = []
    for method, args in [("submit", (square, (1,), {}, _core.Receiver())), ("collect", ()), ("add_worker", ()), ("close", ())]:
        try:
            getattr(crew, method)(*args)
        except RuntimeError as error:
            outcome.append(str(error))
    connection.send(outcome)


def test_only_its_own_process_submits_to_a_crew(team):
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=use_crew, args=(team.crew, theirs))
    process.start()
    assert ours.poll(PATIENCE)
    assert ours.recv() == ["this crew belongs to another process"] * 4
    process.join(PATIENCE)
    team.start()
    assert team.call(square, 2) == 4


class Watched(_core.Receiver):
    pass


def test_a_crew_with_unresolved_tasks_can_be_collected():
    crew = _core.Crew(1)
    receiver = Watched()
    receiver.owner = crew
    crew.submit(square, (1,), {}, receiver)
    reference = weakref.ref(receiver)
    del crew, receiver
    gc.collect()
    assert reference() is None


def test_bad_arguments_are_refused(team):
    crew = team.crew
    receiver = _core.Receiver()
    with pytest.raises(TypeError):
        crew.submit(square, (1,), {}, object())
    with pytest.raises(TypeError):
        crew.submit(square, 1, {}, receiver)
    with pytest.raises(TypeError):
        crew.submit(square)
    with pytest.raises(ValueError):
        crew.submit(square, (1,), {}, receiver, timeout=0)
    with pytest.raises(ValueError):
        crew.submit_pieces(False, square, [1], 1, receiver)
    with pytest.raises(ValueError):
        crew.submit_pieces(False, square, [1], 0, _core.Stream())
    with pytest.raises(TypeError):
        crew.submit_pieces(False, square, 1, 1, _core.Stream())
    with pytest.raises(TypeError):
        crew.collect(object())
    with pytest.raises(ValueError):
        crew.lost(3)
    with pytest.raises(ValueError):
        crew.worker(1 << 20)
    with pytest.raises(ValueError):
        _core.Crew(0)
    with pytest.raises(RuntimeError):
        _core.Crew.__new__(_core.Crew).close()
    with pytest.raises(ValueError):
        receiver.expect_list(3, 0)
    with pytest.raises(ValueError):
        _core.crew_work(crew, 0, maxtasks=0)
    assert crew.pending == 0
