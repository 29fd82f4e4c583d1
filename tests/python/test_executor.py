"""ProcessPoolExecutor: what a program sees of it."""
import asyncio
import concurrent.futures as stdlib
import gc
import inspect
import os
import signal
import sys
import threading
import time
import weakref
from concurrent.futures.process import BrokenProcessPool

import pytest
from conftest import sleeps

import mpfast
from mpfast import _native
from mpfast.concurrent.futures import ProcessPoolExecutor

METHODS = ("fork", "spawn", "forkserver")
LONG = 60  # seconds after which something hangs

context = mpfast.get_context("fork")
NATIVE = "on_worker_death" in inspect.signature(ProcessPoolExecutor).parameters
native = pytest.mark.skipif(not NATIVE, reason="beyond the standard library's executor")


# ---- tasks

def identity(x):
    return x


def add(x, y):
    return x + y


def capture(*args, **kwargs):
    return args, kwargs


def fail(message):
    raise ValueError(message)


def wait_for(started, gate):
    started.release()
    assert gate.wait(LONG)
    return "waited"


def count_up(counter):
    with counter.get_lock():
        counter.value += 1


def pid_of_worker():
    return os.getpid()


def die(how):
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, how))


def die_once(path, x):
    """Ends its worker the first time that it is called with this *path*, and leaves its mark there."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return x
    os._exit(9)


class FailsToPickle:
    def __reduce__(self):
        raise LookupError("not this one")


class FailsToUnpickle:
    def __reduce__(self):
        return fail, ("cannot be read",)


def make(cls):
    return cls()


class Falsy(Exception):
    def __bool__(self):
        return False


def raise_falsy():
    raise Falsy("no")


def eventually(condition):
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.005)


@pytest.fixture
def executor():
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        yield executor


class Blocked:
    """An executor of one worker, which is busy until ``release()``."""

    def __init__(self, **options):
        self.started, self.gate = context.Semaphore(0), context.Event()
        self.executor = ProcessPoolExecutor(1, mp_context=context, **options)
        self.first = self.executor.submit(wait_for, self.started, self.gate)
        assert self.started.acquire(timeout=LONG)

    def release(self):
        self.gate.set()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.release()
        self.executor.shutdown()


# ---- submit and Future

@pytest.mark.parametrize("method", METHODS)
def test_tasks_of_every_start_method(method):
    with ProcessPoolExecutor(2, mp_context=mpfast.get_context(method)) as executor:
        assert executor.submit(pow, 2, 8).result(LONG) == 256
        assert executor.submit(capture, 1, self=2, fn=3).result(LONG) == ((1,), {"self": 2, "fn": 3})
        assert list(executor.map(add, range(50), range(50), chunksize=7)) == [2 * i for i in range(50)]
        assert executor.submit(pid_of_worker).result(LONG) in executor._processes


def test_is_an_executor_and_gives_futures(executor):
    assert isinstance(executor, stdlib.ProcessPoolExecutor) and isinstance(executor, stdlib.Executor)
    future = executor.submit(identity, 1)
    assert isinstance(future, stdlib.Future)
    assert future.result() == future.result() == 1
    assert future.exception() is None and future.done() and not future.running() and not future.cancelled()
    assert repr(future) == f"<Future at {id(future):#x} state=finished returned int>"


def test_the_signatures_are_those_of_the_standard_library():
    ours, theirs = ProcessPoolExecutor, stdlib.process.ProcessPoolExecutor
    for name in ("__init__", "submit", "map", "shutdown"):
        known = inspect.signature(getattr(ours, name)).parameters
        for parameter in inspect.signature(getattr(theirs, name)).parameters.values():
            assert str(known[parameter.name]) == str(parameter)
    with pytest.raises(TypeError):
        ours(1).submit(fn=identity)


@pytest.mark.parametrize("arguments, error, message", [
    (dict(max_workers=0), ValueError, "max_workers must be greater than 0"),
    (dict(max_workers=-1), ValueError, "max_workers must be greater than 0"),
    (dict(max_workers=1.5), TypeError, "'float' object cannot be interpreted as an integer"),
    (dict(initializer=1), TypeError, "initializer must be a callable"),
])
def test_what_the_constructor_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        ProcessPoolExecutor(**arguments)


def test_an_error_comes_with_the_traceback_of_the_worker(executor):
    future = executor.submit(fail, "so it goes")
    with pytest.raises(ValueError, match="so it goes") as raised:
        future.result(LONG)
    assert type(raised.value.__cause__) is stdlib.process._RemoteTraceback
    assert "raise ValueError(message)" in str(raised.value.__cause__)
    assert future.exception() is raised.value
    assert repr(future) == f"<Future at {id(future):#x} state=finished raised ValueError>"


@native
def test_an_error_whose_truth_value_is_false_is_an_error(executor):
    with pytest.raises(Falsy):
        executor.submit(raise_falsy).result(LONG)


def test_an_exit_of_a_task_is_its_error(executor):
    assert isinstance(executor.submit(sys.exit, 3).exception(LONG), SystemExit)
    assert executor.submit(identity, 1).result(LONG) == 1


def test_what_cannot_be_pickled_is_the_error_of_its_future(executor):
    with pytest.raises(LookupError, match="not this one"):
        executor.submit(identity, FailsToPickle()).result(LONG)
    with pytest.raises(LookupError, match="not this one"):
        executor.submit(make, FailsToPickle).result(LONG)
    assert executor.submit(identity, 1).result(LONG) == 1


def test_what_a_worker_cannot_read_breaks_the_executor(capfd):
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(identity, FailsToUnpickle()).result(LONG)
        with pytest.raises(BrokenProcessPool):
            executor.submit(identity, 1)


def test_a_result_that_cannot_be_read_breaks_the_executor():
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        with pytest.raises(BrokenProcessPool) as raised:
            executor.submit(make, FailsToUnpickle).result(LONG)
        assert "cannot be read" in str(raised.value.__cause__)


def test_waiting_for_a_result_ends_at_the_timeout():
    with Blocked() as blocked:
        for call in (blocked.first.result, blocked.first.exception):
            with pytest.raises(stdlib.TimeoutError):
                call(0.01)
            with pytest.raises(stdlib.TimeoutError):
                call(timeout=0)
        blocked.release()
        assert blocked.first.result(LONG) == "waited"


def test_a_task_that_no_worker_has_taken_can_be_cancelled():
    counter = context.Value("i")
    with Blocked() as blocked:
        second = blocked.executor.submit(count_up, counter)
        third = blocked.executor.submit(count_up, counter)
        queued = [blocked.executor.submit(identity, i) for i in range(10)]
        assert blocked.first.running() and not blocked.first.cancel()
        assert queued[-1].cancel() and queued[-1].cancel() and queued[-1].cancelled() and queued[-1].done()
        assert not queued[-1].running()
        for call in (queued[-1].result, queued[-1].exception):
            with pytest.raises(stdlib.CancelledError):
                call()
        assert repr(queued[-1]) == f"<Future at {id(queued[-1]):#x} state=cancelled>"
        blocked.release()
        assert [future.result(LONG) for future in queued[:-1]] == list(range(9))
        assert third.result(LONG) is None and second.result(LONG) is None
    assert counter.value == 2 and not blocked.first.cancel()


def test_what_was_cancelled_never_runs():
    counter = context.Value("i")
    with Blocked() as blocked:
        futures = [blocked.executor.submit(count_up, counter) for _ in range(20)]
        cancelled = [future for future in futures if future.cancel()]
        assert len(cancelled) >= 15
        blocked.release()
        blocked.executor.shutdown()
        assert counter.value == len(futures) - len(cancelled)


def test_done_without_anybody_waiting(executor):
    future = executor.submit(identity, 1)
    eventually(future.done)
    futures = [executor.submit(identity, i) for i in range(100)]
    eventually(lambda: all(future._state == "FINISHED" for future in futures))


def test_callbacks_run_without_anybody_waiting(executor):
    called, all_called = [], threading.Event()

    def note(future):
        called.append((future.result(), threading.current_thread()))
        if len(called) == 100:
            all_called.set()

    for i in range(100):
        executor.submit(identity, i).add_done_callback(note)
    assert all_called.wait(LONG)
    assert sorted(value for value, thread in called) == list(range(100))


def test_callbacks_run_once_in_order_and_at_once_when_it_is_over(executor, caplog):
    called = []
    with Blocked() as blocked:
        blocked.first.add_done_callback(lambda future: called.append(1))
        blocked.first.add_done_callback(lambda future: fail("of the callback"))
        blocked.first.add_done_callback(lambda future: called.append(2))
        blocked.release()
        assert blocked.first.result(LONG) == "waited"
        eventually(lambda: called == [1, 2])
        blocked.first.add_done_callback(lambda future: called.append(3))
        assert called == [1, 2, 3]
    assert "of the callback" in caplog.text and "exception calling callback for <Future" in caplog.text


def test_a_callback_of_a_cancelled_future_runs_in_cancel():
    called = []
    with Blocked() as blocked:
        futures = [blocked.executor.submit(identity, i) for i in range(5)]
        futures[-1].add_done_callback(lambda future: called.append(future.cancelled()))
        futures[-1].cancel()
        assert called == [True]


def test_a_callback_may_submit(executor):
    results, over = [], threading.Event()

    def go_on(future):
        results.append(future.result())
        if len(results) < 20:
            executor.submit(add, future.result(), 1).add_done_callback(go_on)
        else:
            over.set()

    executor.submit(identity, 0).add_done_callback(go_on)
    assert over.wait(LONG) and results == list(range(20))


def test_a_settled_future_cannot_be_settled_again(executor):
    future = executor.submit(identity, 1)
    assert future.result(LONG) == 1
    for call in (lambda: future.set_result(2), lambda: future.set_exception(ValueError())):
        with pytest.raises(stdlib.InvalidStateError, match="FINISHED: <Future"):
            call()
    assert future.result() == 1


@native
def test_a_future_that_the_program_settles_itself():
    with Blocked() as blocked:
        other = blocked.executor.submit(identity, 1)
        noted = []
        other.add_done_callback(noted.append)
        other.set_result("mine")
        assert noted == [other] and other.result() == "mine" and other.done()
        blocked.release()
        assert blocked.executor.submit(identity, 2).result(LONG) == 2
        assert other.result() == "mine" and noted == [other]


def test_wait(executor):
    with Blocked() as blocked:
        quick = executor.submit(identity, 1)
        done, pending = stdlib.wait([quick, blocked.first], LONG, stdlib.FIRST_COMPLETED)
        assert (done, pending) == ({quick}, {blocked.first})
        failing = executor.submit(fail, "first")
        done, pending = stdlib.wait([failing, blocked.first], LONG, stdlib.FIRST_EXCEPTION)
        assert (done, pending) == ({failing}, {blocked.first})
        assert stdlib.wait([quick, blocked.first], 0.01).not_done == {blocked.first}
        blocked.release()
        assert stdlib.wait([quick, failing, blocked.first], LONG).not_done == set()


@native
def test_waiting_for_what_is_cancelled_meanwhile():
    with Blocked() as blocked:
        queued = [blocked.executor.submit(identity, i) for i in range(5)][-1]
        threading.Timer(0.02, queued.cancel).start()
        assert stdlib.wait([queued], LONG).done == {queued}
        assert list(stdlib.as_completed([queued], LONG)) == [queued]


def test_as_completed(executor):
    futures = [executor.submit(identity, i) for i in range(500)]
    assert sorted(future.result() for future in stdlib.as_completed(futures + futures, LONG)) == list(range(500))
    assert sorted(future.result() for future in stdlib.as_completed(futures, LONG)) == list(range(500))


def test_as_completed_of_several_executors(executor):
    with ProcessPoolExecutor(1, mp_context=context) as other, stdlib.ThreadPoolExecutor(1) as threads:
        futures = [maker.submit(identity, i) for i in range(100) for maker in (executor, other, threads)]
        got = [future.result() for future in stdlib.as_completed(futures, LONG)]
    assert sorted(got) == [i for i in range(100) for _ in range(3)]


def test_as_completed_ends_at_the_timeout():
    with Blocked() as blocked:
        with pytest.raises(stdlib.TimeoutError, match=r"1 \(of 1\) futures unfinished"):
            list(stdlib.as_completed([blocked.first], 0.01))


def test_many_threads_submit_and_wait(executor):
    errors = []

    def work(who):
        try:
            for i in range(100):
                assert executor.submit(add, 1000 * who, i).result(LONG) == 1000 * who + i
            assert list(executor.map(add, [who] * 100, range(100), timeout=LONG)) == [who + i for i in range(100)]
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_one_thread_waits_while_another_collects(executor):
    with Blocked() as blocked:
        results = []
        waiting = threading.Thread(target=lambda: results.append(blocked.first.result(LONG)))
        waiting.start()
        blocked.executor.submit(identity, 1)
        blocked.release()
        eventually(blocked.first.done)
        waiting.join(LONG)
        assert results == ["waited"]


def test_large_arguments_and_results(executor):
    data = os.urandom(3 << 20)
    assert executor.submit(identity, data).result(LONG) == data
    futures = [executor.submit(identity, data[i:]) for i in range(8)]
    assert all(future.result(LONG) == data[i:] for i, future in enumerate(futures))


def test_neither_arguments_nor_results_are_kept(executor):
    class Local:
        method = identity

    function = Local()
    gone = weakref.ref(function)
    executor.submit(identity, {"kept": [1]}).result(LONG)
    results = executor.map(make, [Carrier] * 5)
    for result in results:
        result_gone = weakref.ref(result)
        del result
        gc.collect()
        assert result_gone() is None
    del function
    assert gone() is None
    future = executor.submit(make, Carrier)
    result_gone = weakref.ref(future.result(LONG))
    assert result_gone() is not None
    del future
    gc.collect()
    assert result_gone() is None


class Carrier:
    pass


# ---- map

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


# ---- shutdown

def test_shutdown(executor):
    futures = [executor.submit(identity, i) for i in range(200)]
    processes = dict(executor._processes)
    executor.shutdown()
    executor.shutdown()
    assert [future.result(0) for future in futures] == list(range(200))
    assert all(process.exitcode == 0 for process in processes.values())
    assert executor._processes is None
    for call in (lambda: executor.submit(identity, 1), lambda: executor.map(identity, [1])):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            call()


def test_shutdown_without_use():
    ProcessPoolExecutor(2, mp_context=context).shutdown()
    with ProcessPoolExecutor(2) as executor:
        assert executor._processes == {}


def test_shutdown_without_waiting():
    with Blocked() as blocked:
        futures = [blocked.executor.submit(identity, i) for i in range(20)]
        thread, processes = blocked.executor._executor_manager_thread, blocked.executor._processes
        blocked.executor.shutdown(wait=False)
        assert not blocked.first.done()
        blocked.release()
        assert [future.result(LONG) for future in futures] == list(range(20))
        thread.join(LONG)
        assert not thread.is_alive()
        for process in processes.values():
            process.join(LONG)
            assert process.exitcode == 0


class DecodedSlowly:
    began, gate = threading.Event(), threading.Event()

    def __reduce__(self):
        return DecodedSlowly.decode, ()

    @classmethod
    def decode(cls):
        cls.began.set()
        assert cls.gate.wait(LONG)
        return "decoded"


def make_decoded_slowly(gate):
    assert gate.wait(LONG)
    return DecodedSlowly()


class Decoding:
    """An executor with a callback that keeps its thread, and a future whose result another thread is decoding."""

    def __init__(self):
        DecodedSlowly.began.clear()
        DecodedSlowly.gate.clear()
        self.executor = ProcessPoolExecutor(1, mp_context=context)
        called, self.hold = threading.Event(), threading.Event()
        first, gate = context.Event(), context.Event()
        busy = self.executor.submit(first.wait, LONG)
        busy.add_done_callback(lambda future: called.set() or self.hold.wait(LONG))
        first.set()
        assert called.wait(LONG)
        self.thread = self.executor._executor_manager_thread
        self.heard = threading.Event()
        self.future = self.executor.submit(make_decoded_slowly, gate)
        self.future.add_done_callback(lambda future: self.heard.set())
        self.waiter = threading.Thread(target=self.future.result)
        self.waiter.start()
        gate.set()
        assert DecodedSlowly.began.wait(LONG)

    def ends(self):
        """The result is decoded: everybody hears of it."""
        DecodedSlowly.gate.set()
        assert self.heard.wait(LONG)
        self.waiter.join(LONG)
        assert self.future.result(0) == "decoded"
        self.thread.join(LONG)
        assert not self.thread.is_alive()


@native
def test_shutdown_while_a_thread_decodes_a_result_for_a_callback():
    decoding = Decoding()
    decoding.executor.shutdown(wait=False)
    decoding.hold.set()
    decoding.thread.join(0.3)  # it must not end yet, and would before long
    decoding.ends()


@native
def test_a_death_while_a_thread_decodes_a_result_for_a_callback():
    decoding = Decoding()
    for process in decoding.executor._processes.values():
        process.kill()
    decoding.hold.set()
    decoding.thread.join(LONG)
    assert decoding.executor._broken
    decoding.ends()


def test_shutdown_that_cancels():
    with Blocked() as blocked:
        futures = [blocked.executor.submit(identity, i) for i in range(50)]
        release = threading.Thread(target=lambda: (eventually(futures[-1].cancelled), blocked.release()))
        release.start()
        blocked.executor.shutdown(cancel_futures=True)
        release.join()
        assert blocked.first.result(0) == "waited"
        assert all(future.done() for future in futures)
        assert sum(future.cancelled() for future in futures) >= 45


def test_a_collected_executor_finishes_its_tasks():
    executor = ProcessPoolExecutor(2, mp_context=context)
    futures = [executor.submit(identity, i) for i in range(50)]
    results = executor.map(identity, range(50))
    thread, processes = executor._executor_manager_thread, executor._processes
    del executor
    gc.collect()
    assert [future.result(LONG) for future in futures] == list(results) == list(range(50))
    thread.join(LONG)
    assert not thread.is_alive()
    for process in processes.values():
        process.join(LONG)
        assert process.exitcode == 0


PENDING_AT_EXIT = """
import sys, time
from mpfast.concurrent.futures import ProcessPoolExecutor

def say(i):
    time.sleep(0.05)
    print("done", i, flush=True)

if __name__ == "__main__":
    import mpfast
    executor = ProcessPoolExecutor(2, mp_context=mpfast.get_context("fork"))
    futures = [executor.submit(say, i) for i in range(6)]
    if sys.argv[1] == "callback":
        futures[-1].add_done_callback(lambda future: print("done", "callback", flush=True))
    elif sys.argv[1] == "collected":
        del executor, futures
    elif sys.argv[1] == "no wait":
        executor.shutdown(wait=False)
    elif sys.argv[1] == "error":
        raise SystemExit(3)
"""


@pytest.mark.parametrize("way", ["kept", "callback", "collected", "no wait", "error"])
def test_the_end_of_a_program_waits_for_its_tasks(python, tmp_path, way):
    program = tmp_path / "program.py"
    program.write_text(PENDING_AT_EXIT)
    done = python(program, way)
    assert done.stderr == ""
    assert done.returncode == (3 if way == "error" else 0)
    expected = {f"done {i}" for i in range(6)} | ({"done callback"} if way == "callback" else set())
    assert set(done.stdout.splitlines()) == expected


def test_submit_at_the_end_of_the_program_is_refused(python, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("""
import atexit
from mpfast.concurrent.futures import ProcessPoolExecutor

def last():
    try:
        executor.submit(id, None)
    except RuntimeError as exc:
        print(exc)

if __name__ == "__main__":
    atexit.register(last)
    executor = ProcessPoolExecutor(1)
    executor.submit(id, 1).result()
""")
    done = python(program)
    assert done.stdout.startswith("cannot schedule new futures after ") and done.stderr == ""


def test_an_executor_leaves_nothing(executor):
    def use():
        with ProcessPoolExecutor(2, mp_context=context) as used:
            assert list(used.map(identity, range(100))) == list(range(100))
            used.submit(identity, 1).result(LONG)

    def figures():
        gc.collect()
        blocks = mpfast._core.stats()["blocks"].values() if _native.ENABLED else ()
        return threading.active_count(), len(os.listdir("/proc/self/fd")), sum(blocks)

    executor.submit(identity, 1).result(LONG)
    use()
    before = figures()
    for _ in range(5):
        use()
    # Fewer is no leak: what other tests have left may go meanwhile.
    eventually(lambda: all(now <= then for now, then in zip(figures(), before)))


@native
def test_one_thread_serves_an_executor(executor):
    before = threading.active_count()
    assert list(executor.map(identity, range(10))) == list(range(10))
    done = threading.Event()
    executor.submit(identity, 1).add_done_callback(lambda future: done.set())
    assert done.wait(LONG)
    assert threading.active_count() <= before + 1


@native
def test_an_idle_executor_sleeps(executor):
    assert list(executor.map(identity, range(10))) == list(range(10))
    future = executor.submit(identity, 1)
    done = threading.Event()
    future.add_done_callback(lambda future: done.set())
    assert done.wait(LONG)
    eventually(lambda: sleeps(executor._processes.values(), executor._executor_manager_thread))


# ---- workers

def test_workers_start_as_they_do_in_the_standard_library(executor):
    assert executor._processes == {}
    executor.submit(identity, 1)
    assert len(executor._processes) == executor._max_workers == 2  # all at once: forking beside threads is no good
    with ProcessPoolExecutor(4, mp_context=mpfast.get_context("forkserver")) as lazy:
        for _ in range(3):
            lazy.submit(identity, 1).result(LONG)
        assert len(lazy._processes) == 1
        gate = lazy._mp_context.Event()
        for _ in range(20):
            lazy.submit(gate.wait, LONG)
        assert len(lazy._processes) == 4
        gate.set()


def test_initializer():
    with ProcessPoolExecutor(2, mp_context=context, initializer=remember, initargs=("this",)) as executor:
        assert set(executor.map(remembered, range(10))) == {"this"}


_memory = None


def remember(what):
    global _memory
    _memory = what


def remembered(_):
    return _memory


def test_an_initializer_that_fails_breaks_the_executor():
    with ProcessPoolExecutor(2, mp_context=context, initializer=fail, initargs=("at the start",)) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(identity, 1).result(LONG)
        eventually(lambda: executor._broken)
        with pytest.raises(BrokenProcessPool):
            executor.submit(identity, 1)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@native
def test_a_worker_ends_after_its_number_of_tasks(method):
    with ProcessPoolExecutor(1, mp_context=mpfast.get_context(method), max_tasks_per_child=3) as executor:
        pids = [executor.submit(pid_of_worker).result(LONG) for _ in range(8)]
    assert pids[0] == pids[1] == pids[2] != pids[3] == pids[4] == pids[5] != pids[6] == pids[7]


@native
def test_max_tasks_per_child_as_an_argument():
    with pytest.raises(ValueError, match="incompatible with the 'fork' multiprocessing start method"):
        ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=3)
    with pytest.raises(TypeError, match="max_tasks_per_child must be an integer"):
        ProcessPoolExecutor(1, max_tasks_per_child=3.0)
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        ProcessPoolExecutor(1, max_tasks_per_child=0)
    assert ProcessPoolExecutor(1, max_tasks_per_child=3)._mp_context.get_start_method() == "spawn"


@pytest.mark.parametrize("stop", ["terminate_workers", "kill_workers"])
@native
def test_ending_the_workers(stop):
    blocked = Blocked()
    process, = blocked.executor._processes.values()
    queued = [blocked.executor.submit(identity, i) for i in range(10)]
    getattr(blocked.executor, stop)()
    process.join(LONG)
    assert process.exitcode == -(signal.SIGTERM if stop == "terminate_workers" else signal.SIGKILL)
    with pytest.raises(BrokenProcessPool):
        blocked.first.result(LONG)
    assert all(isinstance(error_of(future), (BrokenProcessPool, stdlib.CancelledError)) for future in queued)
    with pytest.raises(RuntimeError):
        blocked.executor.submit(identity, 1)
    getattr(blocked.executor, stop)()


def error_of(future):
    try:
        return future.exception(LONG)
    except stdlib.CancelledError as exc:
        return exc


# ---- death of a worker

@pytest.mark.parametrize("how, described", [("SIGKILL", "SIGKILL"), ("SIGSEGV", "SIGSEGV"), ("exit", "exit code 7")])
def test_a_death_breaks_the_executor(how, described):
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        pids = set()
        doomed = executor.submit(die, how)
        pids.update(executor._processes)
        rest = []
        try:
            rest += [executor.submit(time.sleep, LONG) for _ in range(5)]
        except BrokenProcessPool:
            pass
        for future in [doomed, *rest]:
            with pytest.raises(BrokenProcessPool, match="terminated abruptly") as raised:
                future.result(LONG)
            assert future._state == "FINISHED"
        with pytest.raises(BrokenProcessPool, match="not usable anymore"):
            executor.submit(identity, 1)
        assert executor._broken
        if NATIVE:
            cause = doomed.exception().__cause__
            assert cause.pid in pids and described in str(cause) and "die" in str(cause)
            assert isinstance(cause, stdlib.process._RemoteTraceback)


def test_every_future_has_an_error_of_its_own():
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        futures = [executor.submit(time.sleep, LONG) for _ in range(3)]
        next(iter(executor._processes.values())).kill()
        errors = [future.exception(LONG) for future in futures]
        assert len(set(map(id, errors))) == (3 if NATIVE or sys.version_info >= (3, 14) else 1)


def test_the_death_of_an_idle_worker_breaks_the_executor(executor):
    assert executor.submit(identity, 1).result(LONG) == 1
    for process in list(executor._processes.values()):
        process.kill()
    eventually(lambda: executor._broken)
    with pytest.raises(BrokenProcessPool):
        executor.submit(identity, 1)


def test_a_map_whose_worker_dies():
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        with pytest.raises(BrokenProcessPool):
            list(executor.map(die, ["SIGKILL"] * 10, timeout=LONG))


def test_results_that_were_ready_survive_a_death(executor):
    futures = [executor.submit(identity, i) for i in range(50)]
    assert futures[-1].result(LONG) == 49
    assert stdlib.wait(futures, LONG).not_done == set()
    for process in list(executor._processes.values()):
        process.kill()
    assert [future.result(LONG) for future in futures] == list(range(50))


@native
def test_a_death_that_costs_one_task():
    with ProcessPoolExecutor(2, mp_context=context, on_worker_death="raise") as executor:
        for how in ("SIGKILL", "exit"):
            futures = [executor.submit(identity, i) for i in range(20)]
            doomed = executor.submit(die, how)
            futures += [executor.submit(identity, i) for i in range(20, 40)]
            with pytest.raises(BrokenProcessPool) as raised:
                doomed.result(LONG)
            assert raised.value.__cause__.pid
            assert [future.result(LONG) for future in futures] == list(range(40))
        assert not executor._broken
        results = executor.map(die_if_seven, range(14))
        assert [next(results) for _ in range(7)] == list(range(7))
        with pytest.raises(BrokenProcessPool):
            next(results)
        assert executor.submit(identity, 1).result(LONG) == 1
        eventually(lambda: len(executor._processes) == 2)


def die_if_seven(i):
    if i == 7:
        os._exit(1)
    return i


@native
def test_a_task_that_is_tried_again(tmp_path):
    with ProcessPoolExecutor(2, mp_context=context, on_worker_death="retry") as executor:
        futures = [executor.submit(die_once, str(tmp_path / str(i)), i) for i in range(5)]
        assert [future.result(LONG) for future in futures] == list(range(5))
        assert list(executor.map(die_once, [str(tmp_path / "map")] * 8, range(8), chunksize=2)) == list(range(8))
        assert not executor._broken


@native
def test_a_task_that_always_ends_its_worker_is_given_up():
    with ProcessPoolExecutor(2, mp_context=context, on_worker_death="retry") as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(die, "SIGKILL").result(LONG)
        with pytest.raises(ValueError, match="on_worker_death"):
            ProcessPoolExecutor(2, on_worker_death="what")


# ---- other programs' ways

@native
def test_asyncio(executor):
    async def main():
        loop = asyncio.get_running_loop()
        results = await asyncio.gather(*[loop.run_in_executor(executor, identity, i) for i in range(100)])
        with pytest.raises(ValueError, match="in the loop"):
            await loop.run_in_executor(executor, fail, "in the loop")
        wrapped = await asyncio.wait_for(asyncio.wrap_future(executor.submit(add, 1, 2)), LONG)
        with Blocked() as blocked:
            queued = [blocked.executor.submit(identity, i) for i in range(5)]
            task = asyncio.wrap_future(queued[-1])
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert queued[-1].cancelled()
        return results, wrapped

    assert asyncio.run(main()) == (list(range(100)), 3)


def test_attributes_that_programs_read():
    def init():
        pass

    executor = ProcessPoolExecutor(2, context, init, ())
    assert (executor._max_workers, executor._mp_context, executor._processes) == (2, context, {})
    assert (executor._initializer, executor._initargs, executor._broken) == (init, (), False)
    assert executor._executor_manager_thread is None and not executor._shutdown_thread
    assert executor._queue_count == 0 and len(executor._pending_work_items) == 0
    executor.shutdown()
    with Blocked() as blocked:
        futures = [blocked.executor.submit(add, i, i) for i in range(4)]
        assert blocked.executor._queue_count == 5
        assert len(blocked.executor._pending_work_items) == 5
        assert {item.future for item in blocked.executor._pending_work_items.values()} == {blocked.first, *futures}
        assert blocked.executor._executor_manager_thread.is_alive()
        blocked.release()
        stdlib.wait(futures, LONG)
        eventually(lambda: not blocked.executor._pending_work_items)
        thread = blocked.executor._executor_manager_thread
    assert blocked.executor._shutdown_thread and not thread.is_alive()


def test_a_forked_child_has_an_executor_of_its_own(executor):
    assert executor.submit(identity, 1).result(LONG) == 1
    answers = context.SimpleQueue()

    def child():
        with ProcessPoolExecutor(2, mp_context=context) as own:
            answers.put(list(own.map(identity, range(10))))

    stop = threading.Event()
    noise = threading.Thread(target=lambda: [executor.submit(identity, 1).result() for _ in iter(stop.is_set, True)])
    noise.start()
    try:
        for _ in range(5):
            process = context.Process(target=child)
            process.start()
            process.join(LONG)
            assert process.exitcode == 0 and answers.get() == list(range(10))
    finally:
        stop.set()
        noise.join()
    assert executor.submit(identity, 2).result(LONG) == 2


def test_an_executor_within_a_worker(executor):
    assert executor.submit(sum_by_executor, 10).result(LONG) == 45


def sum_by_executor(n):
    with ProcessPoolExecutor(2, mp_context=context) as inner:
        return sum(inner.map(identity, range(n)))


def test_an_executor_cannot_be_pickled(executor):
    import pickle
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(executor)


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
