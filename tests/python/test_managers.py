"""Managers: objects without a server, with the manners of proxies; a server that is there when it is needed."""
import array
import copy
import gc
import multiprocessing.managers as stdlib
import pickle
import queue
import signal
import sys
import threading
import time

import pytest

import mpfast
from conftest import METHODS
from mpfast import managers
from mpfast.managers import BaseManager, SyncManager

pytestmark = pytest.mark.skipif(BaseManager is stdlib.BaseManager and not hasattr(BaseManager, "_made"),
                                reason="no native managers here")

KEY = b"a key"


@pytest.fixture
def manager():
    with mpfast.Manager() as manager:
        yield manager


def server_runs(manager):
    return not manager._late


TYPES = {
    "dict": "DictProxy", "list": "ListProxy", "Namespace": "NamespaceProxy", "Event": "EventProxy", "Lock": "AcquirerProxy",
    "RLock": "AcquirerProxy", "Semaphore": "AcquirerProxy", "BoundedSemaphore": "AcquirerProxy", "Condition": "ConditionProxy",
}
WITH_ARGUMENTS = {"Value": ("ValueProxy", ("i", 5)), "Array": ("ArrayProxy", ("i", [1, 2])), "Barrier": ("BarrierProxy", (1,))}
AUTOMATIC = ("Queue", "JoinableQueue")


def every_type(manager):
    for typeid, proxy in TYPES.items():
        yield typeid, proxy, getattr(manager, typeid)()
    for typeid, (proxy, arguments) in WITH_ARGUMENTS.items():
        yield typeid, proxy, getattr(manager, typeid)(*arguments)


def test_what_they_are(manager):
    for typeid, proxy, obj in every_type(manager):
        assert isinstance(obj, getattr(stdlib, proxy)) and isinstance(obj, stdlib.BaseProxy)
        assert type(obj).__module__ == "multiprocessing.managers" and type(obj).__name__ == proxy
        assert repr(obj) == f"<{proxy} object, typeid {typeid!r} at {id(obj):#x}>"
        assert obj == obj and obj != 5 and hash(obj) == object.__hash__(obj)
    for typeid in AUTOMATIC:
        obj = getattr(manager, typeid)()
        assert isinstance(obj, stdlib.BaseProxy)
        assert repr(obj) == f"<AutoProxy[{typeid}] object, typeid {typeid!r} at {id(obj):#x}>"
        assert not hasattr(obj, "close")
    assert not server_runs(manager)


def test_no_server_is_asked(manager):
    shared = manager.dict(a=1)
    shared["b"] = manager.list([1])
    shared["b"].append(2)
    assert shared["b"]._getvalue() == [1, 2] and str(shared["b"]) == "[1, 2]"
    assert shared["a"] == 1 and shared.get("x", 7) == 7 and len(shared) == 2 and "a" in shared
    assert sorted(shared.keys()) == ["a", "b"] and shared.pop("a") == 1
    assert not server_runs(manager)


def test_values_are_copies(manager):
    shared = manager.dict(inner={})
    shared["inner"]["lost"] = 1
    assert shared["inner"] == {}
    inner = shared["inner"]
    inner["kept"] = 1
    shared["inner"] = inner
    assert shared.copy() == {"inner": {"kept": 1}}


def test_copies(manager):
    shared, items = manager.dict(a=1), manager.list([1, 2])
    assert copy.deepcopy(shared) == {"a": 1} and type(copy.deepcopy(shared)) is dict
    assert shared.copy() == shared._getvalue() == dict(shared) == {"a": 1}
    assert items[:] == list(items) == items._getvalue() == [1, 2]
    assert items + [3] == [1, 2, 3] and items * 2 == 2 * items == [1, 2, 1, 2]
    assert (items == [1, 2]) is False and items != items._getvalue()
    for operation in (lambda: items < items, lambda: items + items):
        with pytest.raises(TypeError):
            operation()
    merged = shared | {"b": 2}
    assert merged == {"a": 1, "b": 2} and type(merged) is dict and {"a": 5} | shared == {"a": 1}
    former = shared
    shared |= {"c": 3}
    assert shared is former and list(reversed(shared)) == ["c", "a"] and shared.fromkeys("xy", 1) == {"x": 1, "y": 1}
    former = items
    items += [3]
    items *= 2
    assert items is former and items[:] == [1, 2, 3, 1, 2, 3]


def test_iteration(manager):
    shared, items = manager.dict(a=1, b=2), manager.list([1, 2])
    iterator = iter(items)
    items[0] = 100
    items.append(3)
    assert list(iterator) == [100, 2, 3] and list(iterator) == []
    iterator = iter(shared)
    shared["c"] = 3
    with pytest.raises(RuntimeError, match="dictionary changed size during iteration"):
        next(iterator)
    assert list(shared) == ["a", "b", "c"]


def test_errors_of_containers(manager):
    shared, items, namespace = manager.dict(), manager.list(), manager.Namespace()
    for error, use in [(KeyError, lambda: shared["x"]), (KeyError, lambda: shared.pop("x")), (KeyError, shared.popitem),
                       (TypeError, lambda: shared[[]]), (IndexError, lambda: items[0]), (IndexError, items.pop),
                       (ValueError, lambda: items.index(1)), (ValueError, lambda: items.remove(1)),
                       (AttributeError, lambda: namespace.x), (AttributeError, lambda: namespace._x),
                       (AttributeError, lambda: delattr(namespace, "x")), (AttributeError, lambda: shared.nosuch)]:
        with pytest.raises(error):
            use()
    for make in (lambda: manager.dict(3), lambda: manager.list(3), lambda: manager.Value("i"), lambda: manager.Semaphore(-1),
                 lambda: manager.Array("i", ["x"]), lambda: manager.Barrier(0), lambda: manager.Lock(1),
                 lambda: manager.Condition(5)):
        with pytest.raises(managers.RemoteError):
            make()
    for make in (lambda: manager.dict(a=threading.Lock()), lambda: manager.list([threading.Lock()])):
        with pytest.raises(TypeError, match="cannot pickle"):
            make()


def test_arguments_are_those_of_the_methods_in_a_server(manager):
    for text, use in [("AcquirerProxy.acquire() takes", lambda: manager.Lock().acquire(True, 1, 2)),
                      ("AcquirerProxy.release() takes", lambda: manager.Semaphore().release(2)),
                      ("AcquirerProxy.release() takes", lambda: manager.Lock().release(2)),
                      ("get() takes", lambda: manager.Queue().get(False, 2, 3)),
                      ("put() takes", lambda: manager.Queue().put(1, False, 2, 3)),
                      ("ValueProxy.set() missing", lambda: manager.Value("i", 1).set()),
                      ("array indices must be integers", lambda: manager.Array("i", [1])["x"])]:
        with pytest.raises(TypeError) as caught:
            use()
        assert text in str(caught.value)


def test_namespace(manager):
    namespace = manager.Namespace(x=1)
    namespace.y = [2]
    namespace._hidden = 3
    assert (namespace.x, namespace.y, namespace._hidden) == (1, [2], 3)
    assert str(namespace) == "Namespace(x=1, y=[2])" and type(namespace._getvalue()) is stdlib.Namespace
    del namespace.x
    assert not hasattr(namespace, "x") and not hasattr(namespace, "nosuch")
    namespace.y.append(5)
    assert namespace.y == [2]
    with pytest.raises(AttributeError, match="'Namespace' object has no attribute 'x'"):
        namespace.x
    assert not hasattr(pickle.loads(pickle.dumps(namespace)), "_hidden")


def test_value(manager):
    value = manager.Value("i", 5)
    value.value += 1
    value.set(value.get() + 1)
    assert value.value == 7 and str(value) == "Value('i', 7)"
    value.value = "anything"
    assert value.get() == "anything"


def test_array(manager):
    values = manager.Array("i", [1, 2, 3])
    values[0], values[-1] = 10, 30
    assert list(values) == [10, 2, 30] and len(values) == 3
    assert values[1:] == array.array("i", [2, 30]) and str(values) == "array('i', [10, 2, 30])"
    values[:2] = array.array("i", [7, 8])
    assert values._getvalue() == array.array("i", [7, 8, 30])
    for error, index, value in [(IndexError, 3, 1), (TypeError, 0, "x"), (OverflowError, 0, 2**40),
                                (TypeError, slice(1), [1]), (TypeError, slice(1), array.array("d", [1]))]:
        with pytest.raises(error):
            values[index] = value
    with pytest.raises(IndexError, match="array index out of range"):
        values[3]
    assert manager.Array("f", [0.1])[0] == array.array("f", [0.1])[0]
    characters = "w" if sys.version_info >= (3, 13) else "u"
    assert manager.Array(characters, "text")[:2] == array.array(characters, "te")


def test_set(manager):
    items = manager.set([1, 2])
    items.add(3)
    items.add(3)
    items.discard(9)
    assert sorted(items) == [1, 2, 3] and len(items) == 3 and 2 in items and 9 not in items
    assert items | {4} == {1, 2, 3, 4} and items.union([5]) == {1, 2, 3, 5} and items - {1} == {2, 3}
    former = items
    items |= {7}
    items -= {1}
    assert items is former and items._getvalue() == {2, 3, 7}
    items.intersection_update([2, 7, 8])
    items ^= {2, 9}
    assert items.copy() == {7, 9} and str(items) in ("{7, 9}", "{9, 7}")
    assert items.issubset(range(10)) and items <= {7, 9, 10} and items.isdisjoint({1})
    items.remove(7)
    with pytest.raises(KeyError):
        items.remove(7)
    assert items.pop() == 9
    with pytest.raises(KeyError, match="pop from an empty set"):
        items.pop()


def test_a_set_is_looked_for_in_a_set_as_the_frozenset_that_equals_it(manager):
    items = manager.set([frozenset([1]), frozenset([2])])
    assert {1} in items and {3} not in items
    items.discard({1})
    items.discard({1})
    items.remove({2})
    assert len(items) == 0
    with pytest.raises(KeyError) as caught:
        items.remove({2})
    assert caught.value.args == ({2},) and type(caught.value.args[0]) is set
    with pytest.raises(TypeError, match="unhashable"):
        items.discard([1])


def test_locks(manager):
    for lock in (manager.Lock(), manager.RLock(), manager.Semaphore(), manager.BoundedSemaphore()):
        with lock:
            pass
        assert lock.acquire() and lock.acquire(blocking=False) is isinstance(lock, type(manager.RLock()))
        lock.release()
    lock = manager.Lock()
    assert lock.acquire(timeout=1) and not lock.acquire(timeout=0.01) and not lock.acquire(False)
    lock.release()
    for lock in (manager.Lock(), manager.RLock(), manager.Condition()):
        with pytest.raises(RuntimeError):
            lock.release()
        with pytest.raises(ValueError):
            lock.acquire(False, 1)
        with pytest.raises(ValueError):
            lock.acquire(True, -5)
    with pytest.raises(ValueError, match="Semaphore released too many times"):
        manager.BoundedSemaphore().release()


def test_condition(manager):
    for condition in (manager.Condition(), manager.Condition(manager.Lock())):
        for use in (condition.wait, condition.notify, condition.notify_all):
            with pytest.raises(RuntimeError, match="un-acquired lock"):
                use()
        ready = []

        def notify():
            with condition:
                ready.append(True)
                condition.notify()

        with condition:
            assert condition.wait(0.01) is False
            thread = threading.Thread(target=notify)
            thread.start()
            assert condition.wait_for(lambda: ready, 30)
        thread.join()


def test_a_condition_on_a_lock_that_others_use(manager):
    lock = manager.RLock()
    condition = manager.Condition(lock)
    with lock:
        condition.notify()
        assert condition.wait(0.01) is False
    with condition:
        taken = []
        thread = threading.Thread(target=lambda: taken.append(lock.acquire(False)))
        thread.start()
        thread.join()
        assert taken == [False]


def test_queues(manager):
    for tasks in (manager.Queue(2), manager.JoinableQueue(maxsize=2)):
        tasks.put(1)
        tasks.put_nowait([2])
        assert tasks.full() and tasks.qsize() == 2 and not tasks.empty()
        with pytest.raises(queue.Full):
            tasks.put(3, timeout=0.01)
        assert tasks.get() == 1 and tasks.get_nowait() == [2]
        with pytest.raises(queue.Empty):
            tasks.get(False)
        for use in (lambda: tasks.get(True, -1), lambda: tasks.put(1, timeout=-1)):
            with pytest.raises(ValueError, match="non-negative"):
                use()
        tasks.task_done()
        tasks.task_done()
        tasks.join()
        with pytest.raises(ValueError, match="too many times"):
            tasks.task_done()
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            tasks.put(threading.Lock())
        assert tasks.empty()


def test_queues_take_the_arguments_of_the_module_queue(manager):
    tasks = manager.Queue()
    tasks.put(item=1, block="yes", timeout=-1)  # there is always room: nobody looks at the timeout
    assert tasks.get(block="yes", timeout=5.0) == 1
    with pytest.raises(queue.Empty):
        tasks.get(block=(), timeout=-1)
    with pytest.raises(TypeError, match="'item'"):
        tasks.put(block=False)
    with pytest.raises(TypeError, match="'obj'"):
        tasks.put(obj=1)
    with pytest.raises(TypeError, match="unexpected keyword|invalid keyword"):
        tasks.get(obj=1)
    with pytest.raises(TypeError):
        tasks.get(True, "soon")
    bounded = manager.Queue(1)
    bounded.put(1)
    with pytest.raises(queue.Full):
        bounded.put(2, block=None, timeout=-1)


def test_a_queue_has_the_methods_of_the_module_queue(manager):
    tasks = manager.Queue()
    assert not [name for name in ("close", "put_many", "get_many", "join_thread") if hasattr(tasks, name) or name in dir(tasks)]


def test_what_a_signal_handler_waits_for_does_not_end_with_the_manager():
    manager = mpfast.Manager()
    tasks, held, outcome, handled = manager.Queue(), mpfast.Lock(), [], threading.Event()
    held.acquire()

    def handler(*_):
        manager.shutdown()
        outcome.append(held.acquire(timeout=0.2))
        handled.set()

    def interrupt():
        deadline = time.monotonic() + 30
        while not tasks._awaited() and time.monotonic() < deadline:  # nothing tells that another thread has begun to wait
            time.sleep(0.001)
        signal.raise_signal(signal.SIGUSR1)

    former = signal.signal(signal.SIGUSR1, handler)
    try:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(EOFError):
            tasks.get()
        thread.join()
        assert handled.wait(30) and outcome == [False]
    finally:
        signal.signal(signal.SIGUSR1, former)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queues have no shutdown() before 3.13")
def test_what_a_queue_that_is_shut_down_looks_at_first(manager):
    tasks = manager.Queue(3)
    tasks.shutdown()
    for use in (lambda: tasks.get(True, -1), lambda: tasks.get(True, "x"), lambda: tasks.put(1, True, -1)):
        with pytest.raises(queue.ShutDown):
            use()
    for use in (tasks.put, lambda: tasks.get(1, 2, 3)):
        with pytest.raises(TypeError):
            use()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queues have no shutdown() before 3.13")
def test_a_queue_that_is_shut_down(manager):
    tasks = manager.Queue()
    tasks.put(1)
    tasks.shutdown()
    assert tasks.get() == 1
    for use in (tasks.get, lambda: tasks.put(2), lambda: tasks.get(False)):
        with pytest.raises(queue.ShutDown):
            use()
    tasks = manager.Queue()
    outcome = []

    def get():
        try:
            tasks.get()
        except queue.ShutDown:
            outcome.append("shut down")

    thread = threading.Thread(target=get)
    thread.start()
    tasks.shutdown()
    thread.join()
    assert outcome == ["shut down"]
    tasks = manager.Queue()
    tasks.put(1)
    tasks.shutdown(immediate=True)
    tasks.join()
    with pytest.raises(queue.ShutDown):
        tasks.get()


def test_event_and_barrier(manager):
    event, barrier = manager.Event(), manager.Barrier(2)
    assert not event.is_set() and not event.wait(0.01)
    event.set()
    assert event.wait() and "set" in str(event)
    event.clear()
    assert not event.is_set() and "unset" in str(event)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (2, 0, False)
    thread = threading.Thread(target=barrier.wait)
    thread.start()
    barrier.wait(30)
    thread.join()
    barrier.abort()
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()


def test_callmethod(manager):
    for typeid, _, obj in every_type(manager):
        with pytest.raises(managers.RemoteError, match="is not in exposed"):
            obj._callmethod("nosuch")
        assert obj._callmethod("__repr__") == str(obj)
    assert manager.dict(a=1)._callmethod("__getitem__", ("a",)) == 1
    assert manager.list([3, 1])._callmethod("sort", (), {"reverse": True}) is None
    assert manager.dict(a=1)._callmethod("#GETVALUE") == {"a": 1}
    namespace = manager.Namespace(x=1)
    namespace._callmethod("__setattr__", ("y", 2))
    assert namespace._callmethod("__getattribute__", ("x",)) == 1 and namespace.y == 2
    assert manager.Barrier(3)._callmethod("__getattribute__", ("parties",)) == 3
    with pytest.raises(managers.RemoteError, match="cannot pickle"):
        manager.Lock()._getvalue()


# In other processes.

def use(shared, items, namespace, value, values, lock, condition, event, tasks, nested):
    assert event.wait(30)
    with lock:
        shared["child"] = shared["parent"] + 1
    items.append("child")
    namespace.child = namespace.parent
    value.value += 1
    values[0] = 9
    nested["list"].append(nested["dict"]["a"])
    with condition:
        tasks.put(str(namespace))
        condition.notify()
    tasks.task_done()


@pytest.mark.parametrize("method", METHODS)
def test_in_a_child(method):
    context = mpfast.get_context(method)
    with context.Manager() as manager:
        shared, items, namespace = manager.dict(parent=1), manager.list(), manager.Namespace(parent=[1])
        value, values, tasks = manager.Value("i", 5), manager.Array("i", [1, 2]), manager.JoinableQueue()
        lock, condition, event = manager.Lock(), manager.Condition(), manager.Event()
        nested = manager.dict(list=manager.list(), dict=manager.dict(a="deep"))
        process = context.Process(target=use, args=(shared, items, namespace, value, values, lock, condition, event, tasks,
                                                    nested))
        with condition:
            process.start()
            event.set()
            assert condition.wait(30)
        assert tasks.get() == "Namespace(child=[1], parent=[1])"
        process.join()
        assert process.exitcode == 0
        tasks.join()
        assert shared.copy() == {"parent": 1, "child": 2} and items[:] == ["child"] and namespace.child == [1]
        assert value.value == 6 and values[:].tolist() == [9, 2] and nested["list"][:] == ["deep"]
        assert not server_runs(manager)


def make_in_child(manager, results, taken):
    results.put(manager.dict(made="in the child"))
    taken.wait(60)  # what nobody has a proxy of goes with the one who made it


def test_made_in_a_forked_child(manager):
    results, taken = manager.Queue(), manager.Event()
    process = mpfast.get_context("fork").Process(target=make_in_child, args=(manager, results, taken))
    process.start()
    shared = results.get(True, 60)
    taken.set()
    process.join()
    assert shared["made"] == "in the child"


def show_to_stranger(manager, results):
    shared = manager.dict(a=1)
    stranger = stdlib.DictProxy(shared._token, "pickle", authkey=manager._authkey)
    stranger["b"] = 2
    results.put((shared.copy(), stranger.copy()))


@pytest.mark.parametrize("daemon", [False, True])
def test_served_by_a_forked_child(manager, daemon):
    results = manager.Queue()
    process = mpfast.get_context("fork").Process(target=show_to_stranger, args=(manager, results), daemon=daemon)
    process.start()
    assert results.get(timeout=60) == ({"a": 1, "b": 2}, {"a": 1, "b": 2})
    process.join()
    assert process.exitcode == 0


def test_through_a_pool(manager):
    shared, lock = manager.dict(), manager.Lock()
    with mpfast.get_context("fork").Pool(2) as pool:
        pool.starmap(_store, [(shared, lock, i) for i in range(10)])
    assert shared.copy() == {i: i * i for i in range(10)}


def _store(shared, lock, i):
    with lock:
        shared[i] = i * i


def test_pickled(manager):
    for _, _, obj in every_type(manager):
        other = pickle.loads(pickle.dumps(obj))
        assert type(other) is type(obj) and other is not obj and other._id == obj._id
    shared = manager.dict()
    pickle.loads(pickle.dumps(shared))["x"] = 1
    assert shared["x"] == 1


# The server.

def test_the_server_comes_when_it_is_asked_for():
    for ask in (lambda m: m.address, lambda m: m._process.pid, lambda m: m.dict()._token):
        with mpfast.Manager() as manager:
            assert not server_runs(manager)
            ask(manager)
            assert server_runs(manager) and manager._process.is_alive() and manager._process in mpfast.active_children()
            process = manager._process
        assert process.exitcode == 0


class Counter:
    def __init__(self, start=0):
        self.count = start

    def add(self, number):
        self.count += number
        return self.count

    def fail(self):
        raise KeyError("from the server")

    def keep(self, shared):
        self.shared = shared

    def kept(self):
        return self.shared


class Mine(SyncManager):
    pass


Mine.register("Counter", Counter)
Mine.register("Items", list, stdlib.ListProxy)


@pytest.mark.parametrize("method", METHODS)
def test_types_of_ones_own(method):
    with Mine(ctx=mpfast.get_context(method)) as manager:
        assert server_runs(manager)
        counter = manager.Counter(10)
        assert counter.add(5) == 15 and type(counter).__name__ == "AutoProxy[Counter]"
        with pytest.raises(KeyError, match="from the server"):
            counter.fail()
        with pytest.raises(AttributeError):
            counter.count
        items = manager.Items([1])
        items.append(2)
        assert items[:] == [1, 2] and type(items) is stdlib.ListProxy
        shared = manager.dict(a=1)
        counter.keep(shared)
        shared["b"] = 2
        assert counter.kept().copy() == {"a": 1, "b": 2}
        counter.kept()["c"] = 3
        counter.kept()["d"] = 4
        assert shared.copy() == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_a_type_of_ones_own_under_a_known_name():
    class Other(SyncManager):
        pass

    Other.register("dict", Counter)
    with Other(ctx=mpfast.get_context("fork")) as manager:
        assert manager.dict(1).add(1) == 2
        assert manager.list([1])[:] == [1]


def test_a_subclass_that_overrides_creation():
    class Other(SyncManager):
        created = []

        def _create(self, typeid, /, *args, **kwds):
            self.created.append(typeid)
            return super()._create(typeid, *args, **kwds)

    with Other(ctx=mpfast.get_context("fork")) as manager:
        assert manager.dict(a=1)["a"] == 1
    assert Other.created == ["dict"]


def test_states():
    manager = SyncManager()
    with pytest.raises(AssertionError, match="server not yet started"):
        manager.dict()
    assert not hasattr(manager, "shutdown")
    manager.start()
    for again in (manager.start, manager.get_server):
        with pytest.raises(mpfast.ProcessError, match="Already started server"):
            again()
    shared, namespace, tasks = manager.dict(a=1), manager.Namespace(a=1), manager.Queue()
    manager.shutdown()
    manager.shutdown()
    manager.join()
    assert manager.address is None
    for again in (manager.start, manager.get_server, manager.__enter__):
        with pytest.raises(mpfast.ProcessError, match="Manager has shut down"):
            again()
    with pytest.raises(AssertionError):
        manager.dict()
    for use in (lambda: shared["a"], lambda: shared.update(b=1), lambda: len(shared), lambda: list(shared), shared.copy,
                lambda: namespace.a, lambda: setattr(namespace, "a", 1), lambda: tasks.put(1), tasks.get):
        with pytest.raises(BrokenPipeError):
            use()
    assert str(shared) == repr(shared)[:-1] + "; '__str__()' failed>"


def wait_in(condition):
    with condition:
        condition.wait()


def take_twice(lock):
    lock.acquire()
    lock.acquire()


def fill(tasks):
    while True:
        tasks.put(1)


WAITS = {
    "Lock": (lambda m: m.Lock(), take_twice),
    "Lock, in time": (lambda m: m.Lock(), lambda lock: (lock.acquire(), lock.acquire(timeout=1000))),
    "Lock, with": (lambda m: m.Lock(), lambda lock: (lock.acquire(), lock.__enter__())),
    "RLock": (lambda m: _held(m.RLock()), lambda lock: lock.acquire()),
    "Semaphore": (lambda m: m.Semaphore(0), lambda semaphore: semaphore.acquire()),
    "BoundedSemaphore": (lambda m: m.BoundedSemaphore(1), take_twice),
    "Condition": (lambda m: m.Condition(), wait_in),
    "Condition, its lock": (lambda m: m.Condition(m.Lock()), take_twice),
    "Event": (lambda m: m.Event(), lambda event: event.wait()),
    "Barrier": (lambda m: m.Barrier(2), lambda barrier: barrier.wait()),
    "Queue.get": (lambda m: m.Queue(), lambda tasks: tasks.get()),
    "Queue.get, in time": (lambda m: m.Queue(), lambda tasks: tasks.get(timeout=1000)),
    "Queue.put": (lambda m: m.Queue(1), fill),
    "Queue.join": (lambda m: _filled(m.JoinableQueue()), lambda tasks: tasks.join()),
}


def _held(lock):
    lock.acquire()
    return lock


def _filled(tasks):
    tasks.put(1)
    return tasks


def wait_for_the_end(wait, shared, begun):
    begun.set()
    try:
        wait(shared)
    except EOFError:
        sys.exit(7)


@pytest.mark.parametrize("make, wait", WAITS.values(), ids=WAITS)
def test_nobody_waits_for_what_a_manager_made_that_has_shut_down(make, wait):
    context = mpfast.get_context("fork")
    begun = context.Event()
    with mpfast.Manager() as manager:
        shared = make(manager)
        child = context.Process(target=wait_for_the_end, args=(wait, shared, begun))
        child.start()
        assert begun.wait(60)
    child.join()
    late = context.Process(target=wait_for_the_end, args=(wait, pickle.loads(pickle.dumps(shared)), begun))
    late.start()
    late.join()
    assert (child.exitcode, late.exitcode) == (7, 7)


PROGRAM_WITH_WAITING_CHILD = """
import mpfast, sys
def work(tasks, begun):
    sys.stderr = None
    begun.set()
    tasks.get()
if __name__ == "__main__":
    context = mpfast.get_context("fork")
    manager, begun = context.Manager(), context.Event()
    child = context.Process(target=work, args=(manager.Queue(), begun))
    child.start()
    begun.wait()
    print("end")
"""


def test_a_program_ends_whose_children_wait_in_a_queue_of_its_manager(python):
    done = python("-c", PROGRAM_WITH_WAITING_CHILD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_a_thread_that_waits_when_its_manager_shuts_down(manager):
    tasks, outcome = manager.Queue(), []

    def get():
        try:
            tasks.get()
        except (EOFError, BrokenPipeError) as error:  # the second where it comes too late to wait
            outcome.append(error)

    thread = threading.Thread(target=get)
    thread.start()
    manager.shutdown()
    thread.join()
    assert len(outcome) == 1


def test_dropped_without_shutdown():
    shared = mpfast.Manager().dict(a=1)
    gc.collect()
    assert shared["a"] == 1  # it has its manager
    process = shared._manager._process
    del shared
    gc.collect()
    process.join(30)
    assert process.exitcode == 0


def test_how_many_objects(manager):
    assert manager._number_of_objects() == 0
    shared, lock = manager.dict(), manager.Lock()
    assert manager._number_of_objects() == 2 and "in shared memory" in manager._debug_info()
    shared._token
    assert manager._number_of_objects() == 2
    del shared, lock
    gc.collect()
    assert manager._number_of_objects() == 0


def set_up(number):
    global _number
    _number = number


def test_an_initializer():
    manager = SyncManager()
    manager.start(set_up, (5,))
    assert server_runs(manager)
    manager.shutdown()
    with pytest.raises(TypeError, match="initializer must be a callable"):
        SyncManager().start(5)


def test_the_server_of_a_manager_without_a_context_is_started_as_this_package_does(code):
    assert code("""
from mpfast.managers import BaseManager
import mpfast, multiprocessing.forkserver
mpfast.set_start_method("forkserver")
with BaseManager():
    print(multiprocessing.forkserver._forkserver._forkserver_pid)
given = multiprocessing.get_context("spawn")
print(BaseManager(None, None, "pickle", given)._ctx is BaseManager(ctx=given)._ctx is given)
""") == "None\nTrue\n"


def test_shared_memory_manager():
    with managers.SharedMemoryManager() as manager:
        memory, items = manager.SharedMemory(100), manager.ShareableList([1, "two"])
        assert isinstance(memory, mpfast.shared_memory.SharedMemory) and memory.size == 100
        assert isinstance(items, mpfast.shared_memory.ShareableList) and items[1] == "two"
        names = memory.name, items.shm.name
        memory.close()
        items.shm.close()
    for name in names:
        with pytest.raises(FileNotFoundError):
            mpfast.shared_memory.SharedMemory(name)
