"""Crews: tasks for worker processes, as pools and executors use them."""
import gc
import multiprocessing
import os
import pickle
import select
import signal
import sys
import threading
import time
import weakref

import pytest

import mpfast
from mpfast import _native

if not _native.ENABLED:
    pytest.skip("crews are native", allow_module_level=True)

from mpfast import _core  # noqa: E402

PATIENCE = 30  # seconds after which a wait has failed
FORK = mpfast.get_context("fork")


class Team:
    """A crew with workers."""

    def __init__(self):
        self.crew = _core.Crew(64)
        self.processes = {}  # slot -> Process

    def start(self, count=1, context=FORK, target=None, **options):
        started = []
        for _ in range(count):
            slot = self.crew.add_worker()
            process = context.Process(target=target or _core.crew_work, args=(self.crew, slot), kwargs=options)
            process.start()
            self.processes[slot] = process
            started.append(slot)
        return started[0] if count == 1 else started

    def stop(self):
        self.crew.abandon()
        for process in self.processes.values():
            process.join(PATIENCE)
            if process.exitcode is None:
                process.kill()
                process.join()

    def submit(self, func, *args, **kwds):
        receiver = _core.Receiver()
        self.crew.submit(func, args, kwds, receiver)
        return receiver

    def call(self, func, *args, **kwds):
        return self.submit(func, *args, **kwds).get(PATIENCE)

    def map_async(self, func, items, chunksize=1, star=False, **options):
        receiver = _core.Receiver()
        receiver.expect_list(len(items), chunksize)
        self.crew.submit_pieces(star, func, items, chunksize, receiver, **options)
        return receiver

    def map(self, *args, **options):
        return self.map_async(*args, **options).get(PATIENCE)

    def stream(self, func, items, chunksize=1, ordered=True, flat=False, **options):
        stream = _core.Stream()
        stream.ordered = ordered
        stream.flat = flat
        self.crew.submit_pieces(False, func, items, chunksize, stream, **options)
        return stream

    def kill(self, slot):
        """Kill a worker; return what was lost."""
        self.processes[slot].kill()
        return self.bury(slot)

    def bury(self, slot):
        self.processes[slot].join(PATIENCE)
        return self.crew.lost(slot)


@pytest.fixture
def team():
    team = Team()
    yield team
    team.stop()


def square(x):
    return x * x


def fail_on(x, bad):
    if x == bad:
        raise ValueError(f"{x} is bad")
    return x


def fail_on_seven(x):
    return fail_on(x, 7)


def hold(started, release):
    """Say that the task has begun, and keep the worker until told."""
    started.set()
    release.wait(PATIENCE)
    return os.getpid()


def measure_after(event, data):
    event.wait()
    return len(data)


def begin_and_wait(started):
    started.set()
    while True:
        time.sleep(1)


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("not to be pickled")


class Undecodable:
    """Can be pickled and not unpickled."""

    def __reduce__(self):
        return raise_undecodable, ()


def raise_undecodable():
    raise LookupError("not to be unpickled")


class NeedsTwo(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def raise_it(error):
    raise error


def raise_needs_two():
    raise NeedsTwo(1, 2)


def raise_unpicklable():
    error = ValueError("has baggage")
    error.baggage = Unpicklable()
    raise error


# ---- one task


def test_a_call_returns_what_the_function_returns(team):
    team.start()
    assert team.call(divmod, 17, 5) == (3, 2)
    assert team.call(dict, [("a", 1)], b=2) == {"a": 1, "b": 2}
    assert team.call(os.getpid) == team.processes[0].pid


def test_arguments_may_be_any_iterable_and_keywords_none(team):
    team.start()
    receiver = _core.Receiver()
    team.crew.submit(pow, [2, 5], None, receiver)
    assert receiver.get(PATIENCE) == 32


def test_an_exception_of_the_function_is_raised_by_get(team):
    team.start()
    receiver = team.submit(fail_on, 3, 3)
    with pytest.raises(ValueError, match="3 is bad"):
        receiver.get(PATIENCE)
    assert receiver.ready and not receiver.ok and type(receiver.value) is ValueError


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("mine"), GeneratorExit()], ids=repr)
def test_exceptions_that_end_programs_are_results_too(team, error):
    team.start()
    with pytest.raises(type(error)):
        team.call(raise_it, error)
    assert team.call(square, 3) == 9


def test_arguments_that_cannot_be_pickled_raise_from_submit(team):
    receiver = _core.Receiver()
    with pytest.raises(RuntimeError, match="not to be pickled"):
        team.crew.submit(square, (Unpicklable(),), {}, receiver)
    assert team.crew.pending == 0
    assert not receiver.ready and receiver.sent == 0


def test_arguments_that_cannot_be_unpickled_are_the_error_of_their_task(team):
    team.start()
    with pytest.raises(LookupError, match="not to be unpickled"):
        team.call(square, Undecodable())
    assert team.call(square, 3) == 9


def test_a_result_that_cannot_be_pickled_is_an_error(team):
    team.start()
    with pytest.raises(RuntimeError, match="not to be pickled"):
        team.call(Unpicklable)


def test_a_result_that_cannot_be_unpickled_is_an_error(team):
    team.start()
    with pytest.raises(LookupError, match="not to be unpickled"):
        team.call(Undecodable)


def test_an_exception_that_cannot_be_pickled_is_an_error(team):
    team.start()
    with pytest.raises(RuntimeError, match="not to be pickled"):
        team.call(raise_unpicklable)


def test_an_exception_that_cannot_be_unpickled_is_an_error(team):
    team.start()
    with pytest.raises(TypeError, match="two"):
        team.call(raise_needs_two)


def wrap(error):
    return RuntimeError("wrapped", error)


def replace(error, value, ok):
    return LookupError(type(error).__name__, type(value).__name__, ok)


def replace_badly(error, value, ok):
    return raise_it(error)


def test_exceptions_are_wrapped(team):
    team.start(wrap=wrap)
    with pytest.raises(RuntimeError) as info:
        team.call(fail_on, 3, 3)
    assert info.value.args[0] == "wrapped" and info.value.args[1].args == ("3 is bad",)


def test_what_cannot_be_sent_is_replaced(team):
    team.start(unencodable=replace, wrap=wrap)
    with pytest.raises(LookupError) as info:
        team.call(Unpicklable)
    assert info.value.args == ("RuntimeError", "Unpicklable", True)
    with pytest.raises(LookupError) as info:
        team.call(raise_needs_two)
    assert info.value.args == ("TypeError", "NeedsTwo", False)


def test_what_cannot_be_replaced_either_is_a_pickling_error(team):
    team.start(unencodable=replace_badly)
    with pytest.raises(pickle.PicklingError, match="not to be pickled"):
        team.call(Unpicklable)


def as_os_error(error):
    return OSError("undecodable", type(error).__name__)


def test_an_owner_chooses_the_error_for_undecodable_arguments(team):
    team.start(undecodable=as_os_error)
    with pytest.raises(OSError, match="undecodable"):
        team.call(square, Undecodable())


def test_a_worker_ends_when_undecodable_raises(team):
    slot = team.start(undecodable=raise_it)
    receiver = team.submit(square, Undecodable())
    (lost,) = team.bury(slot)
    assert lost[1] is receiver and team.processes[slot].exitcode == 1


def test_an_owner_chooses_the_error_for_undecodable_results():
    team = Team()
    team.crew = _core.Crew(4, undecodable=as_os_error)
    team.start()
    try:
        with pytest.raises(OSError, match="undecodable"):
            team.call(Undecodable)
    finally:
        team.stop()


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


# ---- maps


@pytest.mark.parametrize("chunksize", [1, 2, 7, 100])
@pytest.mark.parametrize("length", [0, 1, 20])
def test_a_map_returns_the_results_in_order(team, length, chunksize):
    team.start(2)
    assert team.map(square, list(range(length)), chunksize) == [x * x for x in range(length)]


@pytest.mark.parametrize("items", [(1, 2, 3), range(1, 4), {1: 0, 2: 0, 3: 0}], ids=repr)
def test_a_map_takes_any_sized_iterable(team, items):
    team.start()
    assert team.map(square, items, 2) == [1, 4, 9]


def test_starmap(team):
    team.start()
    assert team.map(pow, [(2, 3), [3, 2]], 1, star=True) == [8, 9]
    assert team.map(pow, [(2, 3), (3, 2)], 2, star=True) == [8, 9]


@pytest.mark.parametrize("chunksize", [1, 4])
def test_the_first_exception_of_a_map_is_raised_when_all_is_done(team, chunksize):
    team.start(2)
    receiver = team.map_async(fail_on_seven, list(range(20)), chunksize)
    with pytest.raises(ValueError, match="7 is bad"):
        receiver.get(PATIENCE)
    assert receiver.received == receiver.sent == -(-20 // chunksize)
    assert team.crew.pending == 0


def test_an_item_that_cannot_be_pickled_fails_its_piece_and_no_other(team):
    team.start()
    stream = team.stream(square, [1, Unpicklable(), 3])
    assert next(stream) == 1
    with pytest.raises(RuntimeError, match="not to be pickled"):
        next(stream)
    assert list(stream) == [9]
    with pytest.raises(RuntimeError, match="not to be pickled"):
        team.map(square, [1, Unpicklable(), 3], 2)


def test_a_function_that_cannot_be_pickled_raises(team):
    function = Unpicklable()
    with pytest.raises(RuntimeError, match="not to be pickled"):
        team.map(function, [1, 2], 1)
    assert team.crew.pending == 0


def test_items_that_are_one_object_stay_one_object(team):
    team.start()
    row = [1]
    one, two = team.map(list, [[row], [row]], 2)
    assert one == two == [[1]]
    ((a, b),) = team.map(list, [[row, row]], 1)
    assert a is b


def contains_itself():
    made = [1]
    made.append(made)
    return made


def test_a_result_that_contains_itself_still_does(team):
    team.start()
    got = team.call(contains_itself)
    assert got[1] is got
    (got,) = team.map(list, [[got]], 2)
    assert got[0][1] is got[0]


def test_a_list_that_shrinks_while_it_is_read(team):
    class Shrinks:
        def __reduce__(self):
            del items[2:]
            return int, ()

    team.start()
    items = [Shrinks(), 1, 2, 3]
    receiver = _core.Receiver()
    receiver.expect_list(4, 1)
    assert team.crew.submit_pieces(False, square, items, 1, receiver) == (2, True)
    assert receiver.get(PATIENCE)[:2] == [0, 1]


def test_a_list_that_grows_while_it_is_read(team):
    class Grows:
        def __reduce__(self):
            items.extend(range(100))
            return int, ()

    team.start()
    items = [Grows(), 1]
    assert team.map(square, items, 1) == [0, 1]
    assert team.crew.pending == 0


def broken_input():
    yield 1
    yield 2
    yield 3
    raise LookupError("the input ends here")


def test_an_exception_of_the_input_is_raised_after_what_came_before(team):
    team.start()
    stream = _core.Stream()
    with pytest.raises(LookupError, match="ends here"):
        team.crew.submit_pieces(False, square, broken_input(), 2, stream)
    assert stream.sent == 1  # not the piece that it came in the middle of
    stream.push(stream.sent, False, LookupError("pushed"))
    stream.set_length(stream.sent)
    assert next(stream) == [1, 4]
    with pytest.raises(LookupError, match="pushed"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_an_input_can_be_fed_in_steps(team):
    team.start()
    stream = _core.Stream()
    items = iter(range(10))
    put = 0
    exhausted = False
    while not exhausted:
        more, exhausted = team.crew.submit_pieces(False, square, items, 2, stream, first=put, limit=2)
        assert more <= 2
        put += more
        assert team.crew.wait_room(1, 1 << 20, PATIENCE)
        assert team.crew.load()[0] <= 1
    assert list(stream) == [[0, 1], [4, 9], [16, 25], [36, 49], [64, 81]]


def test_there_is_room_for_the_least_however_large(team):
    event = FORK.Event()
    team.start(2)
    receivers = [team.submit(measure_after, event, b"x" * 5000) for _ in range(3)]
    assert not team.crew.wait_room(3, 15000, 0)
    assert not team.crew.wait_room(3, 15000, 0, least=2)
    assert team.crew.wait_room(3, 15000, 0, least=3)
    assert not team.crew.wait_room(2, 15000, 0, least=3)
    event.set()
    assert team.crew.wait_room(3, 15000, PATIENCE)
    assert [receiver.get(PATIENCE) for receiver in receivers] == [5000] * 3


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_sequence_can_be_fed_in_steps(team, kind):
    team.start()
    items = kind(range(10))
    receiver = _core.Receiver()
    receiver.expect_list(10, 3)
    steps = [team.crew.submit_pieces(False, square, items, 3, receiver, first=first, limit=2) for first in (0, 2)]
    assert steps == [(2, False), (2, True)]
    assert receiver.get(PATIENCE) == [x * x for x in range(10)]


def test_workers_have_what_was_put_when_the_input_waits_for_them(team):
    team.start()
    stream = _core.Stream()

    def items():
        yield 3
        yield stream.next(PATIENCE)

    team.crew.submit_pieces(False, square, items(), 1, stream)
    assert list(stream) == [81]


def test_set_pieces_ends_a_list_early(team):
    team.start()
    receiver = _core.Receiver()
    receiver.expect_list(10, 2)
    assert team.crew.submit_pieces(False, square, iter(range(4)), 2, receiver, limit=2) == (2, False)
    assert receiver.remaining in (3, 4, 5)
    receiver.set_pieces(2)
    assert receiver.get(PATIENCE)[:4] == [0, 1, 4, 9]


# ---- streams


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


# ---- who collects


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


# ---- taking back


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
    connection = start_reporting(team, max_memory=resident + (100 << 20))
    assert team.call(square, 2) == 4
    team.call(eat, 200 << 20)
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


# ---- other processes


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


# ---- bad arguments


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
