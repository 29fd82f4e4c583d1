"""Crews: the loop of a worker, when it leaves and what it keeps."""
import gc
import os
import signal

import pytest

from mpfast import _native

if not _native.ENABLED:
    pytest.skip("crews are native", allow_module_level=True)

from crew_team import FORK, PATIENCE, Team, begin_and_wait, square  # noqa: E402

from mpfast import _core  # noqa: E402


# ---- leaving


def report_reason(crew, slot, connection, **options):
    connection.send(_core.crew_work(crew, slot, **options))


def start_reporting(team, **options):
    ours, theirs = FORK.Pipe()
    team.start(target=report_reason, connection=theirs, **options)
    theirs.close()
    return ours


def reason(connection):
    assert connection.poll(PATIENCE)
    return connection.recv()


def test_workers_leave_a_closed_crew_when_all_is_done(team):
    receivers = [team.submit(square, i) for i in range(50)]
    team.crew.close()
    with pytest.raises(ValueError):
        team.submit(square, 1)
    assert team.crew.closed
    connection = start_reporting(team)
    assert reason(connection) == "closed"
    assert [receiver.get(PATIENCE) for receiver in receivers] == [i * i for i in range(50)]


def test_workers_leave_an_abandoned_crew(team):
    receiver = team.submit(square, 3)
    team.crew.abandon()
    assert reason(start_reporting(team)) == "abandoned"
    assert not receiver.wait(0)


def test_an_idle_worker_leaves_when_it_is_dismissed(team):
    connection = start_reporting(team)
    assert team.call(square, 2) == 4
    team.crew.dismiss(0)
    assert reason(connection) == "dismissed"
    assert team.crew.worker(0)[1] in ("leaving", "gone")


def test_a_worker_leaves_after_its_number_of_tasks(team):
    connection = start_reporting(team, maxtasks=2)
    receivers = [team.submit(square, i) for i in range(3)]
    assert reason(connection) == "maxtasks"
    assert [receiver.wait(0) for receiver in receivers] == [True, True, False]


def eat(size):
    globals()["_eaten"] = bytearray(size)


def test_a_worker_leaves_when_it_has_grown_too_large(team):
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    limit = resident + (100 << 20)
    connection = start_reporting(team, max_memory=limit)
    assert team.call(square, 2) == 4
    team.call(eat, limit)  # of this process's pages a forked worker has those alone that are not shared
    assert reason(connection) == "memory"


def serve_and_die(connection):
    team = Team()
    pid_ours, pid_theirs = FORK.Pipe()
    team.start(target=report_reason, connection=connection)
    assert team.call(square, 2) == 4
    os._exit(0)


def test_a_worker_leaves_when_its_parent_is_gone():
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=serve_and_die, args=(theirs,))
    process.start()
    theirs.close()
    process.join(PATIENCE)
    assert reason(ours) == "orphaned"


def test_a_crew_that_nobody_has_lets_its_workers_go():
    team = Team()
    connection = start_reporting(team)
    assert team.call(square, 3) == 9
    (process,) = team.processes.values()
    process._args = ()  # it refers to the crew
    del team
    gc.collect()
    assert reason(connection) == "abandoned"
    process.join(PATIENCE)


# ---- interrupts


def test_an_interrupt_does_not_end_an_idle_worker(team):
    slot = team.start()
    pid = team.call(os.getpid)
    while team.crew.worker(slot)[1] != "idle":
        pass
    os.kill(pid, signal.SIGINT)
    assert team.call(os.getpid) == pid


def test_an_interrupt_in_a_task_is_its_error(team):
    started = FORK.Event()
    team.start()
    receiver = team.submit(begin_and_wait, started)
    assert started.wait(PATIENCE)
    os.kill(team.processes[0].pid, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        receiver.get(PATIENCE)
    assert team.call(square, 2) == 4


# ---- references


class Counted:
    alive = 0

    def __new__(cls):
        Counted.alive += 1
        return object.__new__(cls)

    def __del__(self):
        Counted.alive -= 1


def count(x=None):
    return Counted.alive


def keep(x):
    return x


def test_a_worker_keeps_neither_arguments_nor_results(team):
    team.start()
    assert type(team.call(keep, Counted())) is Counted
    gc.collect()
    assert team.call(count) == 0 and Counted.alive == 0
    assert [type(x) for x in team.map(keep, [Counted(), Counted()], 2)] == [Counted] * 2
    gc.collect()
    assert team.call(count) == 0 and Counted.alive == 0
    assert type(next(team.stream(keep, [Counted()]))) is Counted
    assert Counted.alive == 0
