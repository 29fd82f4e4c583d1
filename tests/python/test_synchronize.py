"""Locks, semaphores, conditions, events and barriers as a program sees them; deaths are in tests/faults."""
import multiprocessing
import multiprocessing.synchronize as stdlib
import os
import pickle
import signal
import sys
import threading
import time

import pytest

import mpfast
from mpfast import _native, synchronize

pytestmark = pytest.mark.skipif(not _native.ENABLED, reason="the native part is not there")

METHODS = ("fork", "spawn", "forkserver")
LONG = 30  # seconds; nothing waits that long unless it is broken

MAKERS = {
    "Lock": lambda ctx: ctx.Lock(),
    "RLock": lambda ctx: ctx.RLock(),
    "Semaphore": lambda ctx: ctx.Semaphore(2),
    "BoundedSemaphore": lambda ctx: ctx.BoundedSemaphore(2),
    "Condition": lambda ctx: ctx.Condition(),
    "Event": lambda ctx: ctx.Event(),
    "Barrier": lambda ctx: ctx.Barrier(2),
}
LOCKS = ("Lock", "RLock", "Semaphore", "BoundedSemaphore")


@pytest.fixture(params=METHODS)
def ctx(request):
    return mpfast.get_context(request.param)


def run(ctx, target, *args):
    """Start a child; the process."""
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def finish(process):
    process.join(LONG)
    assert process.exitcode == 0


def expect(kind, text, function, *args, **kwargs):
    with pytest.raises(kind) as caught:
        function(*args, **kwargs)
    assert str(caught.value) == text


# What a class is.

@pytest.mark.parametrize("name", MAKERS)
def test_is_the_stdlibs_class_too(name):
    primitive = MAKERS[name](mpfast)
    assert isinstance(primitive, getattr(stdlib, name))
    assert type(primitive) is getattr(synchronize, name)
    assert type(primitive).__module__ == "multiprocessing.synchronize"
    assert type(primitive).__qualname__ == name


def test_bounded_semaphore_is_a_semaphore():
    assert isinstance(mpfast.BoundedSemaphore(), synchronize.Semaphore)


@pytest.mark.parametrize("name", MAKERS)
def test_methods_belong_to_the_class_of_the_instance(name):
    """The interpreter's short way to call a C method is for these only."""
    cls = getattr(synchronize, name)
    native = getattr(_native.core, name)
    for method in vars(native):
        if type(vars(native)[method]) is type(list.append):
            assert getattr(cls, method).__objclass__ is cls or method == "__reduce_ex__"


def same_on_both(program):
    """program(multiprocessing or mpfast) must return the same; addresses in it are left out."""
    assert program(mpfast) == program(multiprocessing)


def test_repr_is_the_stdlibs():
    def program(mp):
        seen = []
        lock, rlock = mp.Lock(), mp.RLock()
        semaphore, bounded, condition = mp.Semaphore(3), mp.BoundedSemaphore(3), mp.Condition()
        seen += map(repr, (lock, rlock, semaphore, bounded, condition, mp.Condition(mp.Lock())))
        with lock, rlock, rlock, semaphore, bounded, condition:
            seen += map(repr, (lock, rlock, semaphore, bounded, condition))
            thread = threading.Thread(target=lambda: seen.extend(map(repr, (lock, rlock, condition))), name="T")
            thread.start()
            thread.join()
        def own():
            with lock, rlock:
                seen.extend(map(repr, (lock, rlock)))
        thread = threading.Thread(target=own, name="owner")
        thread.start()
        thread.join()
        return seen

    same_on_both(program)


def test_repr_of_a_lock_that_another_process_has():
    lock, rlock = mpfast.Lock(), mpfast.RLock()
    ctx = mpfast.get_context("fork")
    held, done = ctx.Event(), ctx.Event()
    child = run(ctx, hold, lock, rlock, held, done)
    assert held.wait(LONG)
    assert repr(lock) == "<Lock(owner=SomeOtherProcess)>"
    assert repr(rlock) == "<RLock(SomeOtherProcess, nonzero)>"
    done.set()
    finish(child)


def hold(lock, rlock, held, done):
    with lock, rlock:
        held.set()
        assert done.wait(LONG)


def test_repr_of_event_and_barrier():
    event = mpfast.Event()
    if sys.version_info >= (3, 11):
        assert repr(event) == f"<Event at {id(event):#x} unset>"
        event.set()
        assert repr(event) == f"<Event at {id(event):#x} set>"
    barrier = mpfast.Barrier(2)
    assert repr(barrier).endswith("waiters=0/2>") or sys.version_info < (3, 11)
    barrier.abort()
    assert repr(barrier).endswith("broken>") or sys.version_info < (3, 11)


def test_looking_inside():
    lock = mpfast.Lock()
    inside = lock._semlock
    assert (inside.kind, inside.maxvalue, inside.name) == (1, 1, None)
    assert isinstance(inside.handle, int)
    with inside:
        assert (inside._is_mine(), inside._count(), inside._get_value(), inside._is_zero()) == (True, 1, 0, True)
    assert (inside._is_mine(), inside._count(), inside._get_value(), inside._is_zero()) == (False, 0, 1, False)
    assert mpfast.RLock()._semlock.kind == 0
    assert mpfast.Semaphore(3)._semlock.maxvalue == stdlib.SEM_VALUE_MAX
    assert mpfast.BoundedSemaphore(3)._semlock.maxvalue == 3
    lock._semlock = "mine"
    assert lock._semlock == "mine"


@pytest.mark.parametrize("name", LOCKS)
def test_locked_where_the_stdlib_has_it(name):
    lock = MAKERS[name](mpfast)
    assert hasattr(lock, "locked") == hasattr(getattr(stdlib, name), "locked")
    if hasattr(lock, "locked"):
        assert lock.locked() is False
        while lock.acquire(False) and name != "RLock":
            pass
        assert lock.locked() is True


@pytest.mark.parametrize("name", MAKERS)
def test_subclass(name):
    base = getattr(synchronize, name)

    class Mine(base):
        def __init__(self, label):
            arguments = {"Barrier": (1,)}.get(name, ())
            super().__init__(*arguments, ctx=mpfast.get_context())
            self.label = label

    mine = Mine("x")
    assert mine.label == "x"
    if hasattr(mine, "acquire"):
        with mine:
            pass
    else:
        (mine.set if name == "Event" else mine.abort)()


def test_a_method_before_init_is_an_error():
    lock = synchronize.Lock.__new__(synchronize.Lock)
    with pytest.raises(RuntimeError):
        lock.acquire()
    with pytest.raises(RuntimeError):
        lock.__getstate__()
    lock = mpfast.Lock()
    with pytest.raises(RuntimeError):
        lock.__init__(ctx=None)


# Arguments and errors.

@pytest.mark.parametrize("name", ["Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore"])
def test_constructor_arguments(name):
    cls = getattr(synchronize, name)
    for arguments in ((), ("too", "many", "values")):
        with pytest.raises(TypeError):
            cls(*arguments)
    with pytest.raises(TypeError):
        cls(ctx=mpfast, other=1)


@pytest.mark.parametrize("name", ["Semaphore", "BoundedSemaphore"])
@pytest.mark.parametrize("value", [-1, 2 ** 31, "1", 1.5, None])
def test_bad_value(name, value):
    with pytest.raises(Exception) as expected:
        getattr(multiprocessing, name)(value)
    with pytest.raises(expected.type) as caught:
        getattr(mpfast, name)(value)
    assert str(caught.value) == str(expected.value)


@pytest.mark.parametrize("name", LOCKS)
def test_bad_acquire_arguments(name):
    def program(mp):
        lock = MAKERS[name](mp)
        seen = []
        for args, kwargs in [((1, 2, 3), {}), ((), {"other": 1}), ((True, "x"), {}), ((True,), {"block": 1})]:
            with pytest.raises(TypeError) as caught:
                lock.acquire(*args, **kwargs)
            seen.append(caught.type)
        return seen

    same_on_both(program)


def test_acquire_takes_its_arguments_by_name_and_position():
    lock = mpfast.Lock()
    assert lock.acquire(True, None) is True
    assert lock.acquire(block=False) is False
    assert lock.acquire(False, None) is False
    assert lock.acquire(timeout=0) is False
    assert lock.acquire(True, -1) is False
    assert lock.acquire(block=True, timeout=0.01) is False
    assert lock.acquire(1, 0.01) is False
    assert lock.release() is None
    assert lock.acquire(timeout=float("inf")) is True
    with pytest.raises(OSError):
        lock.acquire(timeout=float("nan"))


def test_released_too_often():
    text = "semaphore or lock released too many times"
    for name in ("Lock", "BoundedSemaphore"):
        expect(ValueError, text, MAKERS[name](mpfast).release)
    expect(ValueError, text, mpfast.Semaphore(stdlib.SEM_VALUE_MAX).release)
    rlock = mpfast.RLock()
    expect(AssertionError, "attempt to release recursive lock not owned by thread", rlock.release)
    with rlock:
        thread = threading.Thread(target=lambda: expect(
            AssertionError, "attempt to release recursive lock not owned by thread", rlock.release))
        thread.start()
        thread.join()


def test_condition_without_its_lock():
    condition = mpfast.Condition()
    expect(AssertionError, "must acquire() condition before using wait()", condition.wait)
    expect(AssertionError, "lock is not owned", condition.notify)
    expect(AssertionError, "lock is not owned", condition.notify_all)


@pytest.mark.parametrize("parties", [0, -1])
def test_barrier_of_nobody(parties):
    if sys.version_info >= (3, 12):
        expect(ValueError, "parties must be > 0", mpfast.Barrier, parties)
    else:
        with pytest.raises(ValueError):
            mpfast.Barrier(parties)


# One process.

def test_rlock_counts():
    lock = mpfast.RLock()
    for depth in range(1, 4):
        assert lock.acquire() is True
        assert lock._semlock._count() == depth
    for _ in range(3):
        lock.release()
    assert lock._semlock._count() == 0


def test_lock_may_be_released_by_another_thread():
    lock = mpfast.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert lock.acquire(False)


def test_threads_of_one_process_exclude_each_other():
    lock, total = mpfast.Lock(), [0]

    def work():
        for _ in range(2000):
            with lock:
                total[0] += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total == [8000]


def test_semaphore_counts():
    semaphore = mpfast.Semaphore(2)
    assert [semaphore.acquire(False) for _ in range(3)] == [True, True, False]
    assert semaphore.get_value() == 0
    semaphore.release()
    semaphore.release()
    semaphore.release()
    assert semaphore.get_value() == 3


def notify_when_waiting(condition, count=1):
    """Have a thread notify as soon as somebody waits."""
    def work():
        while True:
            with condition:
                if "0)>" not in repr(condition)[-4:]:
                    condition.notify(count)
                    return
            time.sleep(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("lock", ["Lock", "RLock", "threading", "mine"])
def test_condition_over_any_lock(lock):
    class Mine:
        def __init__(self):
            self.lock = threading.Lock()

        def acquire(self, *args):
            return self.lock.acquire(*args)

        def release(self):
            self.lock.release()

        def __enter__(self):
            return self.acquire()

        def __exit__(self, *exc_info):
            self.release()

    made = {"Lock": mpfast.Lock, "RLock": mpfast.RLock, "threading": threading.Lock, "mine": Mine}[lock]()
    condition = mpfast.Condition(made)
    assert condition._lock is made
    thread = notify_when_waiting(condition)
    with condition:
        assert condition.wait(LONG) is True
        assert condition.wait(0) is False
        assert condition.wait(0.01) is False
    thread.join()
    assert condition.acquire(False)
    condition.release()


def test_condition_uses_an_overridden_acquire():
    calls = []

    class Logged(synchronize.Lock):
        def acquire(self, *args, **kwargs):
            calls.append("acquire")
            return super().acquire(*args, **kwargs)

        def release(self):
            calls.append("release")
            super().release()

    condition = mpfast.Condition(Logged(ctx=mpfast.get_context()))
    condition.acquire()
    condition.wait(0)
    condition.release()
    assert calls == ["acquire", "release", "acquire", "release"]


def test_wait_restores_the_depth():
    condition = mpfast.Condition()
    thread = notify_when_waiting(condition)
    with condition, condition, condition:
        assert condition.wait(LONG)
        assert condition._lock._semlock._count() == 3
    thread.join()
    assert condition._lock._semlock._count() == 0


def test_wait_for():
    condition, state = mpfast.Condition(), []

    def work():
        for i in range(3):
            with condition:
                state.append(i)
                condition.notify_all()

    thread = threading.Thread(target=work)
    with condition:
        thread.start()
        assert condition.wait_for(lambda: len(state) == 3, LONG) is True
        assert condition.wait_for(lambda: "", 0.01) == ""
        assert condition.wait_for(lambda: "yes", 0) == "yes"
    thread.join()


def test_event():
    event = mpfast.Event()
    assert event.is_set() is False
    assert event.wait(0) is False
    assert event.wait(timeout=0.01) is False
    assert event.set() is None
    assert event.is_set() is True
    assert event.wait() is True
    assert event.clear() is None
    assert event.is_set() is False


def test_barrier_in_threads():
    calls, indices = [], []
    barrier = mpfast.Barrier(3, lambda: calls.append(1), LONG)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    threads = [threading.Thread(target=lambda: [indices.append(barrier.wait()) for _ in range(5)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 5
    assert sorted(indices) == sorted([0, 1, 2] * 5)


def test_barrier_breaks():
    barrier = mpfast.Barrier(2)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0.01)
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken
    failing = mpfast.Barrier(1, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.wait()
    assert failing.broken


# Several processes.

def add(lock, total, times):
    for _ in range(times):
        with lock:
            total.value += 1


@pytest.mark.parametrize("name", ["Lock", "RLock", "Condition"])
def test_processes_exclude_each_other(ctx, name):
    lock, total = MAKERS[name](ctx), ctx.RawValue("i", 0)
    children = [run(ctx, add, lock, total, 500) for _ in range(3)]
    add(lock, total, 500)
    for child in children:
        finish(child)
    assert total.value == 2000


def use_everything(lock, rlock, semaphore, bounded, condition, event, barrier):
    assert not lock.acquire(False)
    lock.release()
    assert rlock.acquire(timeout=LONG)
    rlock.release()
    assert semaphore.acquire(False)
    assert bounded.acquire(False)
    bounded.release()
    with condition:
        condition.notify()
    assert event.wait(LONG)
    assert barrier.wait(LONG) in (0, 1)


def test_inherited_by_a_child(ctx):
    primitives = lock, rlock, semaphore, bounded, condition, event, barrier = [make(ctx) for make in MAKERS.values()]
    lock.acquire()
    with condition:
        child = run(ctx, use_everything, *primitives)
        assert condition.wait(LONG)
    event.set()
    assert barrier.wait(LONG) in (0, 1)
    finish(child)
    assert lock.acquire(False)
    assert semaphore.get_value() == 1


def receive(connection):
    lock = connection.recv()
    connection.send(lock.acquire(False))
    lock = connection.recv()
    lock.release()
    connection.send("released")


def test_sent_to_a_process_that_runs(ctx):
    lock = ctx.Lock()
    lock.acquire()
    here, there = ctx.Pipe()
    child = run(ctx, receive, there)
    here.send(lock)
    assert here.recv() is False
    here.send(lock)
    assert here.recv() == "released"
    assert lock.acquire(False)
    finish(child)


def take(semaphore):
    return semaphore.acquire(False)


def test_as_an_argument_of_a_pool(ctx):
    semaphore = ctx.Semaphore(3)
    with ctx.Pool(2) as pool:
        assert sorted(pool.map(take, [semaphore] * 5)) == [False, False, True, True, True]
    assert semaphore.get_value() == 0


@pytest.mark.parametrize("name", MAKERS)
def test_a_pickle_is_the_same_object(name):
    primitive = MAKERS[name](mpfast)
    data = pickle.dumps(primitive)
    copies = pickle.loads(data), pickle.loads(data)
    assert all(type(copy) is type(primitive) for copy in copies)
    for copy in copies:
        assert copy._offset == primitive._offset


def test_a_handle_of_another_type_is_refused():
    state = mpfast.Lock().__getstate__()
    event = synchronize.Event.__new__(synchronize.Event)
    with pytest.raises(ValueError):
        event.__setstate__(state)
    for state in (b"", b"x" * 48, None, 3, ("a",), ()):
        with pytest.raises((TypeError, ValueError)):
            event.__setstate__(state)


def test_a_pickle_of_what_is_gone():
    data = pickle.dumps(mpfast.Lock())
    pickle.loads(data)
    with pytest.raises(FileNotFoundError):
        pickle.loads(data)


def echo(first, second, turns):
    for _ in range(turns):
        assert first.acquire(timeout=LONG)
        second.release()


def test_ping_pong(ctx):
    first, second = ctx.Semaphore(0), ctx.Semaphore(0)
    child = run(ctx, echo, first, second, 300)
    for _ in range(300):
        first.release()
        assert second.acquire(timeout=LONG)
    finish(child)


def count_up(condition, turn, me, turns):
    for _ in range(turns):
        with condition:
            assert condition.wait_for(lambda: turn.value % 2 == me, LONG)
            turn.value += 1
            condition.notify_all()


def test_turns_over_a_condition(ctx):
    condition, turn = ctx.Condition(), ctx.RawValue("i", 0)
    child = run(ctx, count_up, condition, turn, 1, 100)
    count_up(condition, turn, 0, 100)
    finish(child)
    assert turn.value == 200


def leave_held(lock, rlock, taken):
    lock.acquire()
    rlock.acquire()
    taken.set()


@pytest.mark.parametrize("leave", ["return", "sys.exit", "exception"])
def test_a_process_that_ends_in_order_leaves_held_what_it_holds(ctx, leave):
    lock, rlock = ctx.Lock(), ctx.RLock()
    child = run(ctx, leave_held_and, leave, lock, rlock)
    child.join(LONG)
    assert child.exitcode == {"return": 0, "sys.exit": 3, "exception": 1}[leave]
    assert lock.acquire(timeout=0.2) is False
    assert rlock.acquire(timeout=0.2) is False
    lock.release()
    assert lock.acquire(False)


def leave_held_and(leave, lock, rlock):
    lock.acquire()
    rlock.acquire()
    if leave == "sys.exit":
        sys.exit(3)
    if leave == "exception":
        sys.stderr.close()
        raise ValueError


def test_a_fork_does_not_inherit_ownership():
    ctx = mpfast.get_context("fork")
    rlock = ctx.RLock()
    with rlock:
        child = run(ctx, cannot_take, rlock)
        finish(child)
        held, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: [rlock.acquire(), held.set(), done.wait(LONG), rlock.release()])
    thread.start()
    held.wait(LONG)
    finish(run(ctx, cannot_take, rlock))
    done.set()
    thread.join()


def cannot_take(rlock):
    assert rlock.acquire(False) is False
    assert not rlock._semlock._is_mine()
    assert rlock._semlock._count() == 0
    with pytest.raises(AssertionError):
        rlock.release()


# Signals.

WAITS = {
    "Lock": lambda lock: lock.acquire(),
    "RLock": lambda lock: lock.acquire(),
    "Semaphore": lambda semaphore: semaphore.acquire(),
    "BoundedSemaphore": lambda semaphore: semaphore.acquire(),
    "Event": lambda event: event.wait(),
    "Condition": lambda condition: [condition.acquire(), condition.wait()],
    "Barrier": lambda barrier: barrier.wait(),
}


def interrupt_once(number, frame):
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def block_for_ever(name, ready, interrupted, threads):
    primitive = MAKERS[name](mpfast)
    exhaust(name, primitive)
    signal.signal(signal.SIGINT, interrupt_once)  # there may be several before it runs
    if threads:  # the signal goes to a thread that is not the main one
        idle = threading.Thread(target=threading.Event().wait, daemon=True)
        idle.start()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        ready.set()
        WAITS[name](primitive)
    except KeyboardInterrupt:
        interrupted.set()


def exhaust(name, primitive):
    """Have every acquire() of this process block."""
    if name in ("Semaphore", "BoundedSemaphore"):
        while primitive.acquire(False):
            pass
    elif name in ("Lock", "RLock"):
        thread = threading.Thread(target=primitive.acquire)
        thread.start()
        thread.join()


@pytest.mark.parametrize("threads", [False, True], ids=["alone", "other-thread"])
@pytest.mark.parametrize("name", WAITS)
def test_interrupt_ends_every_wait(name, threads):
    ctx = mpfast.get_context("fork")
    ready, interrupted = ctx.Event(), ctx.Event()
    child = run(ctx, block_for_ever, name, ready, interrupted, threads)
    assert ready.wait(LONG)
    deadline = time.monotonic() + LONG
    while child.is_alive() and time.monotonic() < deadline:
        os.kill(child.pid, signal.SIGINT)
        child.join(0.2)
    assert interrupted.is_set()
    child.join(LONG)


def test_event_set_in_a_handler_of_the_waiting_thread():
    event = mpfast.Event()
    former = signal.signal(signal.SIGALRM, lambda *_: event.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert event.wait(LONG)
    finally:
        signal.signal(signal.SIGALRM, former)


def test_a_handler_that_returns_does_not_end_the_wait():
    calls, lock = [], mpfast.Lock()
    lock.acquire()
    former = signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        assert lock.acquire(timeout=0.2) is False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert calls


def test_interrupted_condition_has_its_lock_again():
    condition = mpfast.Condition()
    former = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            with condition, condition:
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                try:
                    condition.wait(LONG)
                finally:
                    assert condition._lock._semlock._count() == 2
        with condition:
            condition.notify()
        assert repr(condition) == "<Condition(<RLock(None, 0)>, 0)>"
    finally:
        signal.signal(signal.SIGALRM, former)


# What a with statement uses.

@pytest.mark.parametrize("name", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_enter_and_exit_are_methods_like_others(name):
    import contextlib
    cls, lock = getattr(synchronize, name), MAKERS[name](mpfast)
    enter, leave = lock.__enter__, lock.__exit__
    assert enter.__self__ is lock and enter.__name__ == "__enter__" and leave.__name__ == "__exit__"
    assert enter() is True
    assert leave(None, None, None) is None
    assert cls.__enter__(lock) is True
    assert cls.__exit__(lock, None, None, None) is None
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(lock) is True
    for call in (lambda: enter(1), lambda: enter(x=1), lambda: cls.__enter__(object()),
                 lambda: vars(cls)["__enter__"].__get__(object())()):
        with pytest.raises(TypeError):
            call()
    kept = [lock.__enter__ for _ in range(20)]
    assert len({id(method) for method in kept}) == 20
    del kept, enter, leave
    with lock, pytest.raises(ZeroDivisionError):
        1 / 0


def test_a_cycle_through_a_bound_enter_is_collected():
    import gc
    import weakref
    lock = mpfast.Lock()
    lock.kept = lock.__enter__
    alive = weakref.ref(lock)
    del lock
    gc.collect()
    assert alive() is None


def test_an_overridden_enter_reaches_the_native_one():
    entered = []

    class Mine(synchronize.Lock):
        def __enter__(self):
            entered.append(super().__enter__())
            return self

    with Mine(ctx=mpfast.get_context()) as lock:
        assert lock.acquire(False) is False
    assert entered == [True]
    assert lock.acquire(False) is True
