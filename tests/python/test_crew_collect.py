"""Crews: who collects results, and what may happen while they are decoded."""
import os
import select
import signal
import threading

import pytest

from mpfast import _native

if not _native.ENABLED:
    pytest.skip("crews are native", allow_module_level=True)

from crew_team import FORK, PATIENCE, hold, square  # noqa: E402


def test_many_threads_wait_for_results_of_their_own(team):
    team.start(2)
    wrong = []

    def caller(base):
        for i in range(base, base + 200):
            if team.call(square, i) != i * i:
                wrong.append(i)

    threads = [threading.Thread(target=caller, args=(1000 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert not wrong and team.crew.pending == 0


def test_a_result_makes_the_descriptor_readable_while_listening(team):
    team.start()
    descriptor = team.crew.fileno()
    team.crew.listen(True)
    receiver = team.submit(square, 4)
    assert select.select([descriptor], [], [], PATIENCE)[0]
    while not receiver.ready:
        select.select([descriptor], [], [], PATIENCE)
        team.crew.collect(None, 0)
    team.crew.collect(None, 0)
    assert not select.select([descriptor], [], [], 0)[0]
    team.crew.listen(False)
    assert team.call(square, 5) == 25
    assert not select.select([descriptor], [], [], 0)[0]


def test_code_that_runs_while_a_result_is_decoded_may_wait_for_another(team):
    team.start()
    outcome = []

    def decode():
        outcome.append(team.call(square, 11))
        return "outer"

    globals()["_decode_hook"] = decode
    receivers = [team.submit(Nested) for _ in range(5)]
    assert [receiver.get(PATIENCE) for receiver in receivers] == ["outer"] * 5
    assert outcome == [121] * 5


class Nested:
    def __reduce__(self):
        return run_decode_hook, ()


def run_decode_hook():
    return globals()["_decode_hook"]()


def interrupt_me():
    signal.raise_signal(signal.SIGINT)
    return "late"


class Interrupts:
    def __reduce__(self):
        return interrupt_me, ()


def test_an_interrupt_while_a_result_is_decoded_is_raised_and_nothing_else_is_lost(team):
    team.start()
    interrupted = team.submit(Interrupts)
    others = [team.submit(square, i) for i in range(20)]
    with pytest.raises(KeyboardInterrupt):
        while team.crew.pending:
            team.crew.collect(others[-1], 0.1)
    assert [receiver.get(PATIENCE) for receiver in others] == [i * i for i in range(20)]
    with pytest.raises(KeyboardInterrupt):
        interrupted.get(PATIENCE)


def test_an_interrupt_ends_a_wait_for_results(team):
    team.start()
    started, release = FORK.Event(), FORK.Event()
    receiver = team.submit(hold, started, release)
    assert started.wait(PATIENCE)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        receiver.get(PATIENCE)
    timer.join()
    release.set()
    assert receiver.get(PATIENCE)
