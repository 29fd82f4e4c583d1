"""Receivers: where the results of a crew's tasks go, as one value or as a list."""
import multiprocessing
import sys
import threading

import pytest

from mpfast import _native

if not _native.ENABLED:
    pytest.skip("crews are native", allow_module_level=True)

from crew_team import FORK, PATIENCE, hold, square  # noqa: E402

from mpfast import _core  # noqa: E402


def test_get_times_out_and_succeeds_later(team):
    started, release = FORK.Event(), FORK.Event()
    slot = team.start(target=lambda crew, slot: (hold(started, release), _core.crew_work(crew, slot)))
    receiver = team.submit(square, 5)
    with pytest.raises(multiprocessing.TimeoutError):
        receiver.get(0.01)
    assert receiver.wait(0) is False and team.crew.collect(receiver, 0.01) is False
    release.set()
    assert receiver.get(PATIENCE) == 25
    assert team.crew.worker(slot)[2] == 1


def test_a_receiver_lets_go_of_what_it_needed_when_it_is_ready(team):
    class Owner:
        pass

    team.start()
    receiver = _core.Receiver()
    receiver.owner = owner = Owner()
    team.crew.submit(square, (2,), {}, receiver)
    assert receiver.func is square and receiver.crew is team.crew and receiver.owner is owner
    receiver.get(PATIENCE)
    assert receiver.func is None and receiver.crew is None and receiver.owner is None
    stream = _core.Stream()
    stream.owner = owner
    team.crew.submit_pieces(False, square, [2], 1, stream)
    assert stream.func is square and stream.crew is team.crew and stream.owner is owner
    assert list(stream) == [4]
    assert stream.func is None and stream.crew is None and stream.owner is None


def test_a_receiver_that_nothing_was_submitted_for_cannot_be_waited_for():
    with pytest.raises(RuntimeError):
        _core.Receiver().wait()
    assert _core.Receiver().wait(0) is False


def test_finish_decides_and_a_later_result_is_dropped(team):
    started, release = FORK.Event(), FORK.Event()
    team.start()
    receiver = team.submit(hold, started, release)
    assert started.wait(PATIENCE)
    assert receiver.finish(False, ValueError("enough")) is True
    assert receiver.finish(True, 1) is False
    release.set()
    with pytest.raises(ValueError, match="enough"):
        receiver.get(PATIENCE)
    assert team.call(square, 2) == 4
    assert team.crew.pending == 0
    with pytest.raises(ValueError, match="enough"):
        receiver.get()


def test_finish_wakes_who_waits(team):
    receiver = team.submit(square, 1)  # nobody works
    got = []
    thread = threading.Thread(target=lambda: got.append(receiver.get(PATIENCE)))
    thread.start()
    receiver.finish(True, "done")
    thread.join(PATIENCE)
    assert got == ["done"]


def test_a_receiver_can_be_used_again(team):
    team.start()
    receiver = _core.Receiver()
    for i in range(3):
        team.crew.submit(square, (i,), {}, receiver)
        assert receiver.get(PATIENCE) == i * i


# ---- background


class Background(_core.Receiver):
    def __init__(self, calls):
        self.calls = calls
        self.background = True

    def _resolve(self, ok, value):
        self.calls.append((ok, value, self.ready))


def test_a_background_receiver_is_told_and_becomes_ready_by_finish(team):
    team.start()
    calls = []
    receiver = Background(calls)
    team.crew.submit(square, (4,), {}, receiver)
    assert receiver.wait(0) is False
    while not calls:
        team.crew.collect(None)
    assert calls == [(True, 16, False)] and not receiver.ready
    receiver.finish(True, 17)
    assert receiver.get() == 17


def test_a_background_list_is_told_once(team):
    team.start(2)
    calls = []
    receiver = Background(calls)
    receiver.expect_list(20, 3)
    team.crew.submit_pieces(False, square, range(20), 3, receiver)
    while not calls:
        team.crew.collect(None)
    assert calls == [(True, [x * x for x in range(20)], False)]


class Persistent(_core.Receiver):
    """Tries again until it has an even number."""

    def __init__(self, crew):
        self.home = crew
        self.background = True
        self.tries = 0

    def _resolve(self, ok, value):
        self.tries += 1
        if value % 2:
            self.home.submit(square, (self.tries,), {}, self)
        else:
            self.finish(ok, value)


def test_a_background_receiver_can_be_submitted_again_before_it_is_ready(team):
    team.start()
    receiver = Persistent(team.crew)
    team.crew.submit(square, (3,), {}, receiver)
    assert receiver.get(PATIENCE) == 4 and receiver.tries == 3


def test_what_resolve_raises_goes_to_the_hook_for_that(team, monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: raised.append(str(unraisable.exc_value)))

    class Raises(_core.Receiver):
        def _resolve(self, ok, value):
            raise ValueError("from _resolve")

    team.start()
    receiver = Raises()
    receiver.background = True
    team.crew.submit(square, (1,), {}, receiver)
    assert team.call(square, 2) == 4
    while receiver.received == 0:
        team.crew.collect(None)
    assert not receiver.ready and raised == ["from _resolve"]
    receiver.finish(True, 1)
