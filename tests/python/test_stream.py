"""Streams: the results of a crew's tasks one by one, in order or as they come."""
import multiprocessing
import threading

import pytest

from mpfast import _native

if not _native.ENABLED:
    pytest.skip("crews are native", allow_module_level=True)

from crew_team import FORK, PATIENCE, fail_on_seven, hold, square  # noqa: E402

from mpfast import _core  # noqa: E402


def test_a_stream_gives_results_in_order_and_pieces_flat(team):
    team.start(2)
    assert list(team.stream(square, range(20))) == [x * x for x in range(20)]
    assert list(team.stream(square, range(5), 2)) == [[0, 1], [4, 9], [16]]
    assert list(team.stream(square, range(20), 3, flat=True)) == [x * x for x in range(20)]


def test_an_unordered_stream_gives_what_is_there(team):
    started, release = FORK.Event(), FORK.Event()
    team.start(2)
    stream = _core.Stream()
    stream.ordered = False
    team.crew.submit_pieces(True, hold, [(started, release)], 1, stream, limit=1)
    stream2 = team.stream(square, [2, 3], ordered=False)
    assert sorted(stream2) == [4, 9]
    with pytest.raises(multiprocessing.TimeoutError):
        stream.next(0.01)
    release.set()
    assert stream.next(PATIENCE) in [process.pid for process in team.processes.values()]


def test_a_stream_goes_on_after_an_error(team):
    team.start()
    stream = team.stream(fail_on_seven, [6, 7, 8])
    assert stream.next(PATIENCE) == 6
    with pytest.raises(ValueError, match="7 is bad"):
        stream.next(PATIENCE)
    assert stream.next(PATIENCE) == 8
    for _ in range(2):
        with pytest.raises(StopIteration):
            stream.next()


def test_an_empty_stream(team):
    assert list(team.stream(square, [])) == []


def test_a_finished_stream_gives_what_has_come_and_then_its_error(team):
    team.start()
    stream = _core.Stream()
    team.crew.submit_pieces(False, square, iter([2, 3, 4]), 1, stream, limit=2)
    while stream.arrived < 2:
        team.crew.collect(None)
    stream.finish(False, ValueError("ended"))
    assert next(stream) == 4 and next(stream) == 9
    with pytest.raises(ValueError, match="ended"):
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_a_stream_whose_input_ends_with_an_error_gives_that_last(team, ordered):
    stream = team.stream(square, iter(range(5)), ordered=ordered, limit=3)
    stream.end(LookupError("the input"))
    team.start()
    assert sorted(stream.next(PATIENCE) for _ in range(3)) == [0, 1, 4]
    with pytest.raises(LookupError, match="the input"):
        stream.next(PATIENCE)
    with pytest.raises(StopIteration):
        stream.next(PATIENCE)


def test_a_stream_can_be_waited_for_before_anything_is_submitted(team):
    team.start()
    stream = _core.Stream()
    stream.crew = team.crew
    got = []
    thread = threading.Thread(target=lambda: got.extend(stream))
    thread.start()
    team.crew.submit_pieces(False, square, range(3), 1, stream)
    thread.join(PATIENCE)
    assert got == [0, 1, 4]
