"""Crews: tasks that are cancelled, failed or sent again."""
import os
import signal

import pytest

from mpfast import _native

if not _native.ENABLED:
    pytest.skip("crews are native", allow_module_level=True)

from crew_team import FORK, PATIENCE, begin_and_wait, hold, square  # noqa: E402

from mpfast import _core  # noqa: E402


def test_a_task_that_nobody_has_can_be_cancelled(team):
    receiver = team.submit(square, 3)
    assert team.crew.is_pending(receiver.ordinal) and team.crew.claimed(receiver.ordinal) is None
    assert team.crew.cancel(receiver.ordinal) is True
    assert team.crew.cancel(receiver.ordinal) is False
    assert team.crew.pending == 0 and not team.crew.is_pending(receiver.ordinal)
    team.start()
    assert team.call(square, 2) == 4
    assert not receiver.ready


def test_a_task_that_a_worker_has_cannot_be_cancelled(team):
    started, release = FORK.Event(), FORK.Event()
    slot = team.start()
    receiver = team.submit(hold, started, release)
    assert started.wait(PATIENCE)
    assert team.crew.claimed(receiver.ordinal) == slot
    assert team.crew.cancel(receiver.ordinal) is False
    pid, state, _, ordinal, seconds = team.crew.worker(slot)
    assert (pid, state, ordinal) == (team.processes[slot].pid, "busy", receiver.ordinal) and seconds >= 0
    release.set()
    assert receiver.get(PATIENCE) == pid


def test_cancel_all_says_what_it_took_back(team):
    one = team.submit(square, 3)
    many = team.map_async(square, [1, 2, 3], 2)
    assert team.crew.receivers() == [one, many]
    assert [entry[1:] for entry in team.crew.cancel_all(many)] == [(many, 0), (many, 1)]
    assert team.crew.cancel_all() == [(one.ordinal, one, None)]
    assert team.crew.receivers() == [] and team.crew.load() == (0, 0)


def test_fail_resolves_a_task_at_once(team):
    receiver = team.submit(square, 3)
    assert team.crew.fail(receiver.ordinal, ValueError("failed")) is True
    assert team.crew.fail(receiver.ordinal, ValueError("again")) is False
    with pytest.raises(ValueError, match="failed"):
        receiver.get()


def once_only(path, x):
    """Die at the first call."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return x * x
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kept_task_can_be_sent_again(team, tmp_path):
    slot = team.start()
    receiver = _core.Receiver()
    team.crew.submit(once_only, (str(tmp_path / "mark"), 5), {}, receiver, keep=True)
    ((ordinal, lost, _, _),) = team.bury(slot)
    assert lost is receiver
    assert team.crew.retry(ordinal) is True
    assert team.crew.retry(ordinal) is False
    team.start()
    assert receiver.get(PATIENCE) == 25


def test_a_kept_piece_can_be_sent_again(team, tmp_path):
    slot = team.start()
    receiver = team.map_async(once_only, [(str(tmp_path / "mark"), n) for n in range(6)], 2, star=True, keep=True)
    ((ordinal, _, index, _),) = team.bury(slot)
    assert index == 0 and team.crew.retry(ordinal)
    team.start()
    assert receiver.get(PATIENCE) == [0, 1, 4, 9, 16, 25]


def test_a_task_that_was_not_kept_cannot_be_sent_again(team):
    started = FORK.Event()
    slot = team.start()
    receiver = team.submit(begin_and_wait, started)
    assert started.wait(PATIENCE)
    ((ordinal, _, _, _),) = team.kill(slot)
    with pytest.raises(ValueError):
        team.crew.retry(ordinal)
    team.crew.fail(ordinal, ValueError("lost"))
    assert receiver.ready
