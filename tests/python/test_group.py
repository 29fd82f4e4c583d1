"""mpfast.ProcessGroup: start, fail and stop together."""
import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import mpfast
from conftest import METHODS, child_environment
from mpfast import _group

LONG = 60  # seconds


class Custom(Exception):
    def __init__(self, number):
        super().__init__(number)
        self.number = number


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("not this one")


class Particular(Exception):
    def __init__(self, reason, detail):
        super().__init__(reason)


def fail_in_particular():
    raise Particular("because", "detail")


def unless_in(pid):
    if os.getpid() == pid:
        raise LookupError("not in this process")
    return ValueError("elsewhere")


class Elsewhere(Exception):
    def __reduce__(self):
        return unless_in, self.args


def fail_for_others_only(pid):
    raise Elsewhere(pid)


def put(queue, value, suffix=""):
    queue.put(f"{value}{suffix}")


def wait_until_stopped(queue):
    mpfast.ProcessGroup.current().stopping.wait()
    queue.put("stopped")


def wait_for_ever(ready=None):
    if ready is not None:
        ready.set()
    while True:
        signal.pause()


def wait_stubbornly(ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait_for_ever(ready)


def fail(error, ready=None):
    if ready is not None:
        assert ready.wait(30)
    raise error


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt_itself():
    os.kill(os.getpid(), signal.SIGINT)
    wait_for_ever()


def leave(status):
    sys.exit(status)


def log(level, *messages):
    for message in messages:
        logging.getLogger("members").log(level, "%s", message)


def gone(processes):
    return all(not process.is_alive() for process in processes)


@pytest.mark.parametrize("method", METHODS)
def test_leaving_the_block_waits_for_all(method):
    with mpfast.ProcessGroup(method) as group:
        queue = mpfast.get_context(method).Queue()
        group.start(put, queue, 1)
        group.start(put, queue, 2, suffix="!")
    assert sorted(queue.get(timeout=30) for _ in range(2)) == ["1", "2!"]
    assert [process.exitcode for process in group.processes] == [0, 0]
    assert repr(group) == "<ProcessGroup members=2 running=0>"


@pytest.mark.parametrize("method", METHODS)
def test_an_exception_stops_the_others_and_is_raised_with_its_traceback(method):
    queue = mpfast.get_context(method).Queue()
    with pytest.raises(Custom) as caught:
        with mpfast.ProcessGroup(method, stop_timeout=60) as group:
            group.start(wait_until_stopped, queue)
            group.start(fail, Custom(7))
    assert caught.value.number == 7
    assert "in fail" in str(caught.value.__cause__) and "raise error" in str(caught.value.__cause__)
    assert queue.get(timeout=30) == "stopped"
    assert gone(group.processes)


def test_who_does_not_stop_is_terminated():
    ready = mpfast.Event()
    with pytest.raises(Custom):
        with mpfast.ProcessGroup("fork", stop_timeout=0, terminate_timeout=60) as group:
            waiting = group.start(wait_for_ever, ready)
            group.start(fail, Custom(7), ready)
    assert waiting.exitcode == -signal.SIGTERM


def test_an_exception_that_cannot_be_pickled_is_told_in_words():
    with pytest.raises(RuntimeError, match="Unpicklable.*cannot be sent"):
        with mpfast.ProcessGroup("fork") as group:
            group.start(fail, Unpicklable())


def test_an_exception_that_cannot_be_made_again_is_told_in_words():
    with pytest.raises(RuntimeError, match=r"Particular\('because'\) cannot be sent.*detail") as caught:
        with mpfast.ProcessGroup("fork", stop_timeout=0) as group:
            group.start(wait_for_ever)
            group.start(fail_in_particular)
    assert "in fail_in_particular" in str(caught.value.__cause__)
    assert gone(group.processes)


def test_a_report_that_only_the_member_can_read_stops_the_others():
    with pytest.raises(RuntimeError, match="cannot be read.*not in this process"):
        with mpfast.ProcessGroup("fork", stop_timeout=0) as group:
            group.start(wait_for_ever)
            group.start(fail_for_others_only, os.getpid())
    assert gone(group.processes)


@pytest.mark.parametrize("error", [GeneratorExit, asyncio.CancelledError])
def test_exceptions_that_are_no_errors_are_raised_too(error, capfd):
    with pytest.raises(error) as caught:
        with mpfast.ProcessGroup("fork") as group:
            group.start(fail, error("why"))
    assert "in fail" in str(caught.value.__cause__)
    assert capfd.readouterr().err == ""


def test_a_killed_member_stops_the_others():
    with pytest.raises(mpfast.WorkerLostError, match="SIGKILL") as caught:
        with mpfast.ProcessGroup("fork", stop_timeout=0) as group:
            group.start(wait_for_ever)
            killed = group.start(kill_itself)
    assert caught.value.pid == killed.pid
    assert gone(group.processes)


def test_a_status_other_than_0_is_a_failure():
    with pytest.raises(mpfast.WorkerLostError, match="3"):
        with mpfast.ProcessGroup("fork") as group:
            group.start(leave, 3)
    with mpfast.ProcessGroup("fork") as group:
        group.start(leave, 0)


def test_an_exception_in_the_block_stops_the_members():
    with pytest.raises(ZeroDivisionError):
        with mpfast.ProcessGroup("fork", stop_timeout=0) as group:
            group.start(wait_for_ever)
            1 / 0
    assert gone(group.processes)


@pytest.mark.parametrize("method", METHODS)
def test_a_member_that_has_only_just_been_started_is_terminated(method):
    for _ in range(10 if method == "fork" else 1):
        with pytest.raises(ZeroDivisionError):
            with mpfast.ProcessGroup(method, stop_timeout=0, terminate_timeout=LONG) as group:
                process = group.start(wait_for_ever)
                1 / 0
        assert process.exitcode == -signal.SIGTERM


def blocked_signals(queue):
    queue.put(signal.pthread_sigmask(signal.SIG_BLOCK, []))


@pytest.mark.parametrize("method", METHODS)
def test_members_block_no_signal(method):
    queue = mpfast.get_context(method).SimpleQueue()
    with mpfast.ProcessGroup(method) as group:
        group.start(blocked_signals, queue)
    assert queue.get() == signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_who_ignores_sigterm_is_killed():
    ready = mpfast.Event()
    group = mpfast.ProcessGroup("fork", stop_timeout=0, terminate_timeout=0.1)
    process = group.start(wait_stubbornly, ready)
    assert ready.wait(30)
    group.stop()
    assert process.exitcode == -signal.SIGKILL
    assert group.join() is True


def test_stopping_asks_first():
    queue = mpfast.Queue()
    group = mpfast.ProcessGroup("fork", stop_timeout=30)
    process = group.start(wait_until_stopped, queue)
    group.stop()
    assert queue.get(timeout=30) == "stopped" and process.exitcode == 0
    with pytest.raises(RuntimeError, match="stopping"):
        group.start(wait_for_ever)


def test_join_honours_its_timeout():
    group = mpfast.ProcessGroup("fork", stop_timeout=0)
    group.start(wait_for_ever)
    began = time.monotonic()
    assert group.join(timeout=0.05) is False
    assert time.monotonic() - began >= 0.05
    group.stop()
    assert group.join() is True


def test_a_failure_is_raised_by_the_next_start():
    group = mpfast.ProcessGroup("fork")
    group.start(fail, Custom(1))
    assert group.stopping.wait(30)
    with pytest.raises(Custom):
        group.start(wait_for_ever)
    group.stop()


def test_an_interrupted_member_interrupts_the_parent():
    with pytest.raises(KeyboardInterrupt):
        with mpfast.ProcessGroup("fork", stop_timeout=0) as group:
            group.start(wait_for_ever)
            group.start(interrupt_itself)
    assert gone(group.processes)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_log_records_arrive_in_the_parents_handlers_in_order(method, caplog, monkeypatch):
    monkeypatch.setattr(_group, "_HOLD_BACK", LONG)  # however late a member comes to send what it has logged
    caplog.set_level(logging.INFO, "members")
    with mpfast.ProcessGroup(method) as group:
        group.start(log, logging.INFO, *range(20))
        group.start(log, logging.INFO, *range(20))
        group.start(log, logging.DEBUG, "too fine")
    records = [record for record in caplog.records if record.name == "members"]
    assert sorted(record.getMessage() for record in records) == sorted([*map(str, range(20))] * 2)
    assert [record.created for record in records] == sorted(record.created for record in records)
    assert {record.process for record in records} == {process.pid for process in group.processes[:2]}


def log_and_wait(logged, go_on):
    log(logging.INFO, "while the member runs")
    logged.set()
    assert go_on.wait(LONG)


def test_log_records_arrive_while_the_members_run():
    logged, go_on, handled = mpfast.Event(), mpfast.Event(), []
    handler = logging.Handler()
    handler.emit = lambda record: (handled.append(record.getMessage()), go_on.set())
    logger = logging.getLogger("members")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        with mpfast.ProcessGroup("fork") as group:
            group.start(log_and_wait, logged, go_on)
            assert logged.wait(LONG)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert handled == ["while the member runs"]


def test_bad_arguments():
    with pytest.raises(ValueError, match="stop_timeout"):
        mpfast.ProcessGroup(stop_timeout=-1)
    with pytest.raises(ValueError, match="nonsense"):
        mpfast.ProcessGroup("nonsense")
    with mpfast.ProcessGroup() as group:
        with pytest.raises(RuntimeError, match="entered once"):
            group.__enter__()


def test_current_is_none_outside_of_members():
    assert mpfast.ProcessGroup.current() is None


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    with mpfast.ProcessGroup():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, 1000])
def test_a_stack_signal_that_cannot_be_had_changes_no_handler(number):
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGSEGV
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises((OSError, ValueError, RuntimeError)):
        with mpfast.ProcessGroup(stack_signal=number):
            pass
    assert [signal.getsignal(number) for number in numbers] == before


PROGRAM = """
    import sys, time
    import mpfast

    def member(ready):
        try:
            ready.release()
            while True:
                time.sleep(0.01)  # a signal that comes right before it is seen after it
        except KeyboardInterrupt:
            print("member interrupted", flush=True)
            raise

    if __name__ == "__main__":
        ready = mpfast.Semaphore(0)
        with mpfast.ProcessGroup("fork") as group:
            members = int(sys.argv[1])
            for _ in range(members):
                group.start(member, ready)
            for _ in range(members):
                ready.acquire()
            print(*[process.pid for process in group.processes], flush=True)
            if sys.argv[2] == "inside":
                group.join()
"""


def run_program(tmp_path, number, members, where="inside", program=PROGRAM):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program))
    program = subprocess.Popen([sys.executable, str(path), str(members), where], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=child_environment())
    pids = [int(pid) for pid in program.stdout.readline().split()]
    program.send_signal(number)
    return program, pids


@pytest.mark.parametrize("where", ["inside", "leaving"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_to_the_parent_reach_the_members(tmp_path, number, where):
    program, pids = run_program(tmp_path, number, 2, where)
    output, errors = program.communicate(timeout=60)
    assert program.returncode == -number
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    if number == signal.SIGINT:
        assert output == "member interrupted\n" * 2
        assert errors.count("Traceback") == 1, errors
    else:
        assert errors == ""


STUBBORN = """
    import signal, sys
    import mpfast

    def member(ready):
        for number in signal.SIGINT, signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
        ready.release()
        while True:
            signal.pause()

    if __name__ == "__main__":
        ready = mpfast.Semaphore(0)
        with mpfast.ProcessGroup("fork", stop_timeout=0.1, terminate_timeout=0.1) as group:
            process = group.start(member, ready)
            ready.acquire()
            print(process.pid, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_members_that_ignore_signals_are_killed_when_the_parent_gets_one(tmp_path, number):
    program, pids = run_program(tmp_path, number, 1, program=STUBBORN)
    try:
        program.communicate(timeout=60)
        assert program.returncode == -number
        with pytest.raises(ProcessLookupError):
            os.kill(pids[0], 0)
    finally:
        program.kill()


def test_the_stack_signal_prints_the_stacks_of_all(tmp_path):
    program, pids = run_program(tmp_path, signal.SIGUSR1, members=1)
    printed = ""
    while printed.count("most recent call first") < 2 or " in member" not in printed:
        line = program.stderr.readline()
        assert line, printed  # it has ended
        printed += line
    for pid in [program.pid, *pids]:
        os.kill(pid, signal.SIGKILL)
    program.communicate(timeout=60)
