"""Crews: workers that end, and tasks that take too long."""
import os
import threading
import time

import pytest

from mpfast import _native

if not _native.ENABLED:
    pytest.skip("crews are native", allow_module_level=True)

from crew_team import FORK, PATIENCE, begin_and_wait, hold, square  # noqa: E402

from mpfast import _core  # noqa: E402


# ---- workers that end


def test_a_killed_worker_loses_its_task_and_no_other(team):
    started = FORK.Event()
    slot = team.start()
    receiver = team.submit(begin_and_wait, started)
    other = team.submit(square, 3)
    assert started.wait(PATIENCE)
    ((ordinal, lost, index, what),) = team.kill(slot)
    assert (ordinal, lost, index) == (receiver.ordinal, receiver, None) and what.endswith("begin_and_wait")
    assert team.crew.fail(ordinal, ValueError("lost")) is True
    with pytest.raises(ValueError, match="lost"):
        receiver.get()
    team.start()
    assert other.get(PATIENCE) == 9


def test_a_killed_worker_loses_a_piece_of_a_map(team):
    started = FORK.Event()
    slot = team.start()
    stream = _core.Stream()
    team.crew.submit_pieces(False, begin_and_wait, [started], 1, stream)
    assert started.wait(PATIENCE)
    ((ordinal, lost, index, what),) = team.kill(slot)
    assert (lost, index) == (stream, 0) and what.endswith("begin_and_wait, item 0")
    team.crew.fail(ordinal, ValueError("lost"))
    with pytest.raises(ValueError, match="lost"):
        next(stream)
    assert list(stream) == []


def answer_and_die(parent):
    threading.Thread(target=lambda: (time.sleep(0.05), os._exit(3))).start()
    return 7


def test_what_a_worker_had_answered_is_not_lost(team):
    slot = team.start()
    receiver = team.submit(answer_and_die, None)
    assert team.bury(slot) == []
    assert receiver.ready and receiver.get() == 7


def test_a_failed_task_of_a_dead_worker_is_not_reported(team):
    started = FORK.Event()
    slot = team.start()
    receiver = team.submit(begin_and_wait, started)
    assert started.wait(PATIENCE)
    team.crew.fail(receiver.ordinal, ValueError("given up"))
    assert team.kill(slot) == []
    assert team.crew.pending == 0


def test_a_worker_that_never_started_frees_its_slot(team):
    slot = team.crew.add_worker()
    assert team.crew.worker(slot)[:2] == (0, "starting")
    assert team.crew.lost(slot) == []
    assert team.crew.add_worker() == slot
    team.crew.lost(slot)


def test_there_are_no_more_workers_than_agreed():
    crew = _core.Crew(2)
    crew.add_worker(), crew.add_worker()
    with pytest.raises(RuntimeError):
        crew.add_worker()


def test_random_kills_lose_and_double_nothing(team):
    slots = set(team.start(2))
    receivers = [team.submit(square, i) for i in range(3000)]
    failed = set()
    for turn in range(10):
        for receiver in receivers[turn * 250:turn * 250 + 50]:
            if not receiver.ready and not receiver.wait(0.001):
                break
        victim = slots.pop()
        for ordinal, receiver, _, _ in team.kill(victim):
            failed.add(receiver)
            team.crew.fail(ordinal, ValueError("lost"))
        slots.add(team.start())
    for i, receiver in enumerate(receivers):
        if receiver in failed:
            with pytest.raises(ValueError, match="lost"):
                receiver.get(PATIENCE)
        else:
            assert receiver.get(PATIENCE) == i * i
    assert len(failed) <= 10 and team.crew.pending == 0


# ---- timeouts


def test_a_task_that_takes_too_long_is_overdue(team):
    started = FORK.Event()
    slot = team.start()
    assert team.crew.overdue() == ([], None)
    receiver = _core.Receiver()
    team.crew.submit(begin_and_wait, (started,), {}, receiver, timeout=0.05)
    assert started.wait(PATIENCE)
    overdue, wait = team.crew.overdue()
    while not overdue:
        assert 0 < wait <= 0.06
        time.sleep(wait)
        overdue, wait = team.crew.overdue()
    assert overdue == [(slot, receiver.ordinal)]
    ((ordinal, lost, _, _),) = team.kill(slot)
    assert lost is receiver
    team.crew.fail(ordinal, TimeoutError())
    assert team.crew.overdue() == ([], None)


def test_a_slot_that_is_free_hides_no_worker_behind_it(team):
    first, second = team.start(2)
    team.kill(first)
    started = FORK.Event()
    receiver = _core.Receiver()
    team.crew.submit(begin_and_wait, (started,), {}, receiver, timeout=0.01)
    queued = team.submit(square, 3)
    assert started.wait(PATIENCE)
    assert (team.crew.idle, team.crew.queued) == (0, 1)
    deadline = time.monotonic() + PATIENCE
    while not (overdue := team.crew.overdue()[0]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert overdue == [(second, receiver.ordinal)]
    assert team.crew.cancel(queued.ordinal)
    team.kill(second)


def test_a_task_without_a_timeout_is_never_overdue(team):
    started, release = FORK.Event(), FORK.Event()
    team.start()
    receiver = team.submit(hold, started, release)
    assert started.wait(PATIENCE)
    assert team.crew.overdue() == ([], None)
    release.set()
    receiver.get(PATIENCE)
