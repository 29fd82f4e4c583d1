"""Shared values and arrays: processes, locks, memory, pickling, what they have beyond the standard library."""
import copy
import ctypes
import gc
import multiprocessing
import multiprocessing.sharedctypes as stdlib
import pickle
import struct
import subprocess
import sys
import threading

import pytest

import mpfast
from mpfast import _native, sharedctypes
from mpfast.reduction import ForkingPickler

pytestmark = pytest.mark.skipif(not _native.ENABLED, reason="the native part is not there")

METHODS = ("fork", "spawn", "forkserver")
LONG = 30  # seconds; nothing waits that long unless it is broken


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


@pytest.fixture(params=METHODS)
def ctx(request):
    return mpfast.get_context(request.param)


def run(ctx, target, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    process.join(LONG)
    assert process.exitcode == 0


def again(obj):
    return pickle.loads(ForkingPickler.dumps(obj))


def stats():
    from mpfast import _core
    gc.collect()
    return _core.stats()


# Processes.

def change_all(value, array, string, raw, raw_array, point, raw_point, lock):
    value.value *= 2
    with value.get_lock():
        value.value += 1
    array[1:3] = [array[0], 9.5]
    string.value = b"child"
    raw.value += 1
    raw_array[-1] = 77
    with lock:
        point.x, point.y = point.x + 1, 0.5
    raw_point.y = 4.5


def test_children_see_and_change_the_same_memory(ctx):
    lock = ctx.Lock()
    shared = (ctx.Value("i", 20), ctx.Array("d", [1.5, 2, 3]), ctx.Array("c", 10), ctx.RawValue("q", 2**40),
              ctx.RawArray("H", 5), ctx.Value(Point, 1, 2), ctx.RawValue(Point, 3, 4), lock)
    run(ctx, change_all, *shared)
    value, array, string, raw, raw_array, point, raw_point, _ = shared
    assert value.value == 41
    assert array[:] == [1.5, 1.5, 9.5]
    assert string.value == b"child"
    assert raw.value == 2**40 + 1
    assert raw_array[:] == [0, 0, 0, 0, 77]
    assert (point.x, point.y) == (2, 0.5)
    assert (raw_point.x, raw_point.y) == (3, 4.5)


def receive_and_answer(requests, answers):
    for shared in iter(requests.get, None):
        if hasattr(shared, "value"):
            shared.value += 1
        else:
            shared[0] += 1
        answers.put(shared)


def test_a_running_process_is_sent_values(ctx):
    requests, answers = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=receive_and_answer, args=(requests, answers))
    process.start()
    for shared in (ctx.Value("i", 1), ctx.Array("i", [1, 2]), ctx.RawValue("d", 1), ctx.RawArray("h", [1]),
                   ctx.Value("i", 1, lock=ctx.Lock())):
        requests.put(shared)
        back = answers.get(timeout=LONG)
        for obj in (shared, back):
            assert (obj.value if hasattr(obj, "value") else obj[0]) == 2
        assert type(back) is type(shared)
    requests.put(None)
    process.join(LONG)
    assert process.exitcode == 0


def add_to_all(shared):
    shared.add(1)
    return shared


def test_a_pool_is_sent_values(ctx):
    total = ctx.Value("q")
    with ctx.Pool(2) as pool:
        results = pool.map(add_to_all, [total] * 20, chunksize=3)
    assert total.value == 20
    assert {result.value for result in results} == {20}


def increment(value, array, times):
    for _ in range(times):
        with value.get_lock():
            value.value += 1
        array.add(0, 1)
        with array:
            array[1] += 1


def test_no_increment_is_lost(ctx):
    value, array = ctx.Value("i"), ctx.Array("i", 2)
    workers = [ctx.Process(target=increment, args=(value, array, 2000)) for _ in range(3)]
    for worker in workers:
        worker.start()
    threads = [threading.Thread(target=increment, args=(value, array, 2000)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for waited in (*workers, *threads):
        waited.join(LONG)
    assert (value.value, array[:]) == (10000, [10000, 10000])


def hold(shared, held, go_on):
    with shared.get_lock():
        held.set()
        go_on.wait(LONG)


def test_everything_waits_for_the_lock():
    ctx = mpfast.get_context("fork")
    value, array, string = ctx.Value("i"), ctx.Array("i", 3), ctx.Array("c", 3)
    for shared, acts in ((value, [lambda: value.value, lambda: setattr(value, "value", 1), lambda: value.add(1)]),
                         (array, [lambda: array[0], lambda: array.__setitem__(0, 1), lambda: array[:], lambda: list(array),
                                  lambda: array.__setitem__(slice(0, 1), [1]), lambda: array.add(0, 1)]),
                         (string, [lambda: string.value, lambda: string.raw, lambda: setattr(string, "value", b"")])):
        held, go_on = ctx.Event(), ctx.Event()
        process = ctx.Process(target=hold, args=(shared, held, go_on))
        process.start()
        assert held.wait(LONG)
        threads = [threading.Thread(target=act) for act in acts]
        for thread in threads:
            thread.start()
        threads[0].join(0.05)
        assert all(thread.is_alive() for thread in threads)
        assert shared.acquire(False) is False
        go_on.set()
        for waited in (*threads, process):
            waited.join(LONG)
        assert not any(thread.is_alive() for thread in threads)


# Locks.

@pytest.mark.parametrize("make", [lambda **k: mpfast.Value("i", 1, **k), lambda **k: mpfast.Array("i", 3, **k),
                                  lambda **k: mpfast.Value(Point, **k)], ids=["Value", "Array", "Structure"])
def test_the_lock_of_its_own(make):
    shared = make()
    lock = shared.get_lock()
    assert isinstance(lock, multiprocessing.synchronize.RLock)
    assert shared.get_lock() is lock
    assert shared._lock is lock
    with shared:
        assert lock._is_mine()
        with lock:
            assert lock._count() == 2
        assert shared.acquire(timeout=1) is True
        shared.release()
    assert not lock._is_mine()
    with pytest.raises(AssertionError, match="not owned"):
        shared.release()
    other = make(lock=None)
    assert isinstance(other.get_lock(), multiprocessing.synchronize.RLock)


class Recorder:
    """A lock of a program's own."""

    def __init__(self):
        self.calls = []

    def acquire(self, *args):
        self.calls.append("acquire")
        return True

    def release(self):
        self.calls.append("release")

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *exc_info):
        self.release()


def test_a_lock_of_the_programs_own_is_used_for_everything():
    lock = Recorder()
    value, array = mpfast.Value("i", 4, lock=lock), mpfast.Array("c", b"abc", lock=lock)
    assert value.get_lock() is lock and array.get_lock() is lock
    for act in (lambda: value.value, lambda: setattr(value, "value", 5), lambda: value.add(1), lambda: array[0],
                lambda: array[:], lambda: array.__setitem__(0, b"x"), lambda: array.value,
                lambda: setattr(array, "raw", b"xyz"), lambda: value.acquire() and value.release()):
        lock.calls.clear()
        act()
        assert lock.calls == ["acquire", "release"]
    lock.calls.clear()
    with pytest.raises(TypeError):
        value.value = "x"
    assert lock.calls.count("acquire") == lock.calls.count("release")


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_a_given_lock(kind):
    lock = getattr(mpfast, kind)()
    first, second = mpfast.Value("i", 1, lock=lock), mpfast.Array("i", 2, lock=lock)
    assert first.get_lock() is lock and second.get_lock() is lock
    first.value = 3
    second[1] = first.value
    assert second[:] == [0, 3]
    with lock:
        seen = []
        thread = threading.Thread(target=lambda: seen.append(first.value))
        thread.start()
        thread.join(0.05)
        assert seen == []
    thread.join(LONG)
    assert seen == [3]
    one, other = again((first, lock))
    one.value = 8
    assert first.value == 8
    with lock:
        assert other.acquire(False) is (kind == "RLock")


def test_a_subclass_of_a_lock_is_asked():
    class Counting(mpfast.synchronize.RLock):
        taken = 0

        def acquire(self, *args):
            type(self).taken += 1
            return True

        def release(self):
            pass

    value = mpfast.Value("i", lock=Counting(ctx=multiprocessing.get_context()))
    value.value
    assert Counting.taken == 1


def test_a_signal_handler_may_use_a_value_its_thread_has_locked(code):
    assert code("""if True:
        import mpfast, signal
        value = mpfast.Value("i")
        signal.signal(signal.SIGUSR1, lambda *_: value.add(5))
        with value.get_lock():
            signal.raise_signal(signal.SIGUSR1)
            value.value += 1
        print(value.value)
        """) == "6\n"


# Objects.

def test_classes_are_the_standard_librarys():
    for shared, name in ((mpfast.Value("i"), "Synchronized"), (mpfast.Array("i", 2), "SynchronizedArray"),
                         (mpfast.Array("c", 2), "SynchronizedString"), (mpfast.Value(Point), "SynchronizedPoint")):
        assert isinstance(shared, stdlib.SynchronizedBase)
        assert isinstance(shared, getattr(stdlib, name, object))
        assert type(shared).__name__ == name
        assert type(shared).__module__.startswith("multiprocessing") or name == "SynchronizedPoint"
        assert type(shared.get_obj()).__module__.startswith(("ctypes", "multiprocessing")) or name.endswith("Point")
    assert type(mpfast.RawArray("i", 3)).__module__ == "multiprocessing.sharedctypes"
    assert mpfast.RawArray("i", 3)._type_ is ctypes.c_int
    assert type(mpfast.RawValue("d")) is ctypes.c_double
    assert repr(mpfast.Value("i", 5)) == "<Synchronized wrapper for c_int(5)>"


def test_raw_objects_are_without_wrapper_and_lock():
    for raw in (mpfast.RawValue("i", 3), mpfast.RawArray("i", 3), mpfast.Value("i", lock=False),
                mpfast.Array("i", 2, lock=False)):
        assert isinstance(raw, (ctypes._SimpleCData, ctypes.Array))
        assert not hasattr(raw, "get_lock") and not hasattr(raw, "get_obj")


def test_get_obj_is_the_same_memory():
    value, array = mpfast.Value("i", 3), mpfast.Array("d", [1, 2, 3])
    assert value.get_obj() is value.get_obj()
    value.get_obj().value = 9
    array.get_obj()[2] = 4.5
    assert value.value == 9
    assert array[:] == [1, 2, 4.5]
    assert ctypes.addressof(value.get_obj()) % ctypes.alignment(ctypes.c_longdouble) == 0


def test_memory_outlives_the_wrapper():
    obj = mpfast.Array("i", [1, 2, 3]).get_obj()
    view = memoryview(mpfast.Array("i", [4, 5, 6]))
    lock = mpfast.Value("i").get_lock()
    gc.collect()
    taken = [mpfast.Array("i", [9, 9, 9]) for _ in range(100)]
    assert obj[:] == [1, 2, 3] and view.tolist() == [4, 5, 6] and taken[0][0] == 9
    with lock:
        pass


@pytest.mark.parametrize("code", "bBhHiIlLqQfd")
def test_arrays_export_their_memory(code):
    array = mpfast.Array(code, [1, 2, 3])
    view = memoryview(array)
    assert (view.format, view.shape, view.readonly) == (stdlib.typecode_to_type[code]._type_, (3,), False)
    view[1] = 7
    assert array[1] == 7
    assert struct.unpack(f"3{code}", view) == (1, 7, 3)
    assert bytes(memoryview(array.get_obj()).cast("B")) == view.tobytes()


def test_numpy():
    numpy = pytest.importorskip("numpy")
    array = mpfast.Array("d", range(1000))
    shown = numpy.frombuffer(array.get_obj())
    shown[5] = 99
    assert array[5] == 99
    assert numpy.asarray(array).sum() == shown.sum()
    array[:] = numpy.arange(1000) * 2.0
    assert array[999] == 1998 and shown[1] == 2
    array[1:] = shown[:-1].copy()
    assert array[:3] == [0, 0, 2]


@pytest.mark.parametrize("code", [*"bBhHiIlLqQfdc", ctypes.c_bool, ctypes.c_longdouble], ids=str)
def test_numpy_arrays_are_taken_as_the_standard_library_takes_them(code):
    numpy = pytest.importorskip("numpy")
    for dtype in "?bBhHiIlLqQfdgS":
        source = numpy.arange(250, 254).astype(dtype)
        results = []
        for package in (multiprocessing, mpfast):
            array = package.Array(code, 4)
            try:
                array[:] = source
                array[::-1] = source[::-1]
                array[1:3] = source[::2]
            except Exception as exc:
                results.append(type(exc))
            else:
                results.append(array[:])
        assert results[0] == results[1], dtype


def test_a_source_that_overlaps_is_read_first():
    array = mpfast.Array("i", range(6))
    array[1:] = memoryview(array)[:-1]
    assert array[:] == [0, 0, 1, 2, 3, 4]


def test_a_failed_assignment_changes_nothing():
    array, value = mpfast.Array("i", [1, 2, 3]), mpfast.Value("i", 4)
    for part, given in ((slice(None), [7, "x", 9]), (slice(None), [7]), (slice(0, 2), (5, 1.5)), (0, "x"), (9, 1)):
        with pytest.raises((TypeError, ValueError, IndexError)):
            array[part] = given
        assert array[:] == [1, 2, 3]
    with pytest.raises(TypeError):
        value.value = 1.5
    assert value.value == 4


def test_iterating():
    array = mpfast.Array("i", range(4))
    iterator = iter(array)
    assert next(iterator) == 0
    array[1] = 50
    assert list(iterator) == [50, 2, 3] and list(iterator) == []
    assert list(reversed(array)) == [3, 2, 50, 0]
    assert 50 in array and 51 not in array
    assert dict(enumerate(mpfast.Array("c", b"ab"))) == {0: b"a", 1: b"b"}
    with array:
        assert sum(array) == 55


def test_copy_and_synchronized():
    original = mpfast.RawValue(Point, 1, 2)
    duplicate = sharedctypes.copy(original)
    original.x = 9
    assert (duplicate.x, duplicate.y) == (1, 2)
    wrapped = sharedctypes.synchronized(duplicate)
    wrapped.x = 5
    assert duplicate.x == 5 and wrapped.get_obj() is duplicate
    lock = mpfast.Lock()
    for obj, cls in ((mpfast.RawValue("i", 3), sharedctypes.Synchronized), (ctypes.c_int(3), sharedctypes.Synchronized),
                     (mpfast.RawArray("i", 3), sharedctypes.SynchronizedArray),
                     ((ctypes.c_int * 3)(), sharedctypes.SynchronizedArray),
                     (mpfast.RawArray("c", 3), sharedctypes.SynchronizedString),
                     (ctypes.create_string_buffer(3), sharedctypes.SynchronizedString)):
        shared = sharedctypes.synchronized(obj, lock)
        assert type(shared) is cls and shared.get_obj() is obj and shared.get_lock() is lock
        with pytest.raises(AssertionError, match="already synchronized"):
            sharedctypes.synchronized(shared)
    array = sharedctypes.synchronized((ctypes.c_int * 3)(1, 2, 3))
    array[1] = 5
    assert (array[:], len(array), list(array), memoryview(array).nbytes) == ([1, 5, 3], 3, [1, 5, 3], 12)
    with pytest.raises(TypeError):
        array.add(0, 1)
    string = sharedctypes.synchronized(ctypes.create_string_buffer(b"ab", 4))
    string.value = b"x"
    assert (string.value, string.raw) == (b"x", b"x\0\0\0")
    assert sharedctypes.synchronized(ctypes.c_double(1.5)).value == 1.5


def test_subclasses_as_programs_write_them():
    class Counter(sharedctypes.Synchronized):
        def bump(self):
            with self.get_lock():
                self.value += 1

    class Own(sharedctypes.SynchronizedBase):
        value = sharedctypes.make_property("value")

        def __init__(self, obj, lock):
            self._obj = obj
            self._lock = lock
            self.acquire = lock.acquire
            self.release = lock.release

    counter = Counter(mpfast.RawValue("i", 3))
    counter.bump()
    own = Own(mpfast.RawValue("i", 7), mpfast.RLock())
    own.value += 1
    with own:
        assert own.get_lock()._is_mine()
    assert (counter.value, own.value, own.get_obj().value) == (4, 8, 8)
    bare = sharedctypes.Synchronized.__new__(sharedctypes.Synchronized)
    for act in (lambda: bare.value, lambda: setattr(bare, "value", 1), bare.get_obj, bare.get_lock, bare.__enter__,
                lambda: bare.add(1), lambda: pickle.dumps(bare)):
        with pytest.raises(AttributeError):
            act()


# Pickling.

def test_pickling_anywhere():
    for shared in (mpfast.Value("i", 3), mpfast.Value("i", 3, lock=mpfast.Lock()), mpfast.Value(ctypes.c_longdouble, 3)):
        for other in (pickle.loads(pickle.dumps(shared)), again(shared), copy.copy(shared)):
            other.value += 1
            assert shared.value == other.value
            with shared:
                seen = []
                thread = threading.Thread(target=lambda: seen.append(other.acquire(False)))
                thread.start()
                thread.join()
                assert seen == [False]
    array = again(mpfast.Array("c", b"hello"))
    assert array.value == b"hello" and type(array) is sharedctypes.SynchronizedString
    point = mpfast.Value(Point, 1, 2)
    again(point).x = 5
    assert point.x == 5
    value = mpfast.Value("i", 1)
    other, lock, obj = again((value, value.get_lock(), value.get_obj()))
    obj.value = 6
    assert other.value == value.value == 6
    with lock:
        assert value.get_lock()._is_mine()


def test_ctypes_objects_that_are_not_shared_are_pickled_by_value():
    mpfast.RawValue(Point)  # makes the type known to the pickler
    private = Point(1, 2.5)
    other = again(private)
    other.x = 9
    assert (private.x, other.y) == (1, 2.5)


def read_both(theirs, ours, seen):
    seen.value = 100 * theirs.value + ours.value


@pytest.mark.parametrize("makers", [(multiprocessing, mpfast), (mpfast, multiprocessing)], ids=["first", "last"])
def test_raw_objects_of_both_packages_side_by_side(ctx, makers):
    first, second = (package.RawValue("i", number) for number, package in enumerate(makers, 3))
    seen = ctx.Value("i")
    run(ctx, read_both, first, second, seen)
    assert seen.value == 304


def test_a_plain_pickle_of_a_raw_object_is_refused():
    with pytest.raises(TypeError):
        pickle.dumps(mpfast.RawValue("i"))
    with pytest.raises(TypeError):
        copy.deepcopy(mpfast.RawArray("i", 2))


def test_forged_pickles_are_refused():
    storage = mpfast.Value("i", 1)._parts()[2]
    handle, size, locked = storage.dump()
    load = type(storage).load
    assert load(handle, size, locked).create_memoryview().nbytes == 4
    for forged in ((handle, 10**6, locked), (handle, -1, locked), (handle, size, False), (handle[:-1], size, locked),
                   (b"\0" * len(handle), size, locked)):
        with pytest.raises((ValueError, OSError)):
            load(*forged)
    with pytest.raises(TypeError):
        load("handle", size, locked)


# Memory.

def test_memory_is_given_back():
    keep = mpfast.Value("i")
    before = stats()
    for _ in range(100):
        shared = [mpfast.Value("i"), mpfast.Array("d", 5000), mpfast.RawArray("i", 3), mpfast.Value(Point),
                  mpfast.Array("c", b"x")]
        for obj in shared:
            again(obj)
        shared[0].get_lock(), shared[0].get_obj(), memoryview(shared[1])
        for code, given in (("i", ["x"]), ("c", [1.5])):
            with pytest.raises(TypeError):
                mpfast.Array(code, given)
    del shared, obj
    after = stats()
    assert after["blocks"] == before["blocks"] and after["bytes"] == before["bytes"]
    assert keep.value == 0


def test_a_childs_values_are_freed_with_it(ctx):
    run(ctx, make_values, 1)
    before = stats()
    run(ctx, make_values, 200)
    after = stats()
    assert after["blocks"] == before["blocks"]


def make_values(count):
    kept = [(mpfast.Value("i", i), mpfast.RawArray("d", 100)) for i in range(count)]
    assert len(kept) == count


def test_many_values_need_no_descriptors_and_no_names(code):
    assert code("""if True:
        import mpfast, os
        mpfast.Value("i")
        descriptors = os.listdir("/proc/self/fd")
        kept = [mpfast.Value("i", i) for i in range(1000)] + [mpfast.Array("i", 10) for _ in range(1000)]
        assert os.listdir("/proc/self/fd") == descriptors
        with open("/proc/self/maps") as maps:
            assert "/dev/shm" not in maps.read()
        assert [value.value for value in kept[:1000]] == list(range(1000))
        """) == ""


def test_lack_of_memory_is_an_error():
    for act in (lambda: mpfast.Array("d", 2**40), lambda: mpfast.RawArray("d", 2**40)):
        with pytest.raises(OSError):
            act()
    assert mpfast.Array("d", 10)[:] == [0] * 10


# Beyond the standard library.

@pytest.mark.parametrize("code", "bBhHiIlLqQ")
def test_atomic_arithmetic_wraps_around_as_in_c(code):
    bits = 8 * ctypes.sizeof(stdlib.typecode_to_type[code])
    low = 0 if code.isupper() else -(1 << bits - 1)
    high = low + (1 << bits) - 1

    def wrapped(number):
        return (number - low) % (1 << bits) + low

    value, array = mpfast.Value(code, 5), mpfast.Array(code, [0, 5, 0])
    expected = 5
    for n in (1, -3, high, high, low, 2**70 + 1, True):
        assert value.add(n) == array.add(1, n) == expected
        expected = wrapped(expected + n)
        assert value.value == array[1] == expected
        assert value.sub(n) == array.sub(-2, n) == expected
        expected = wrapped(expected - n)
        assert value.value == array[1] == expected
    assert value.exchange(high) == array.exchange(1, high) == expected
    assert value.compare_exchange(low, 1) == high and value.value == high
    assert value.compare_exchange(high, 1) == high and value.value == 1
    assert array[:] == [0, high, 0]


@pytest.mark.parametrize("code", ["f", "d", "c", "u", ctypes.c_bool, ctypes.c_longdouble], ids=repr)
def test_atomic_arithmetic_is_for_integers(code):
    value, array = mpfast.Value(code), mpfast.Array(code, 2)
    for act in (lambda: value.add(1), lambda: value.sub(1), lambda: value.exchange(1),
                lambda: value.compare_exchange(0, 1), lambda: array.add(0, 1)):
        with pytest.raises(TypeError):
            act()


def test_atomic_arithmetic_refuses_what_is_wrong():
    value, array = mpfast.Value("i", 5), mpfast.Array("i", 2)
    for act, error in ((lambda: value.add("1"), TypeError), (lambda: value.add(1.0), TypeError),
                       (lambda: value.add(), TypeError), (lambda: value.compare_exchange(1), TypeError),
                       (lambda: value.compare_exchange(5, None), TypeError), (lambda: array.add(2, 1), IndexError),
                       (lambda: array.add(slice(0), 1), TypeError), (lambda: array.add(0), TypeError),
                       (lambda: array.add(0, None), TypeError)):
        with pytest.raises(error):
            act()
    assert value.value == 5 and array[:] == [0, 0]


def test_atomic_arithmetic_waits_for_whoever_has_the_lock():
    value = mpfast.Value("i", 1)
    with value.get_lock():
        before = value.value
        thread = threading.Thread(target=value.add, args=(10,))
        thread.start()
        thread.join(0.05)
        value.value = before + 1
    thread.join(LONG)
    assert value.value == 12


def test_installed_programs_get_them(code):
    assert code("""if True:
        import mpfast
        mpfast.install()
        import multiprocessing, multiprocessing.sharedctypes as s
        value = multiprocessing.Value("i", 4)
        assert isinstance(value, s.Synchronized) and type(value) is s.Synchronized
        import pickle
        assert pickle.loads(pickle.dumps(s.Synchronized)) is s.Synchronized
        raw = s.rebuild_ctype(s.ctypes.c_int, s.RawValue("i", 3)._wrapper, None)
        multiprocessing.SimpleQueue().put(raw)
        print(value.add(1), s.synchronized(raw))
        """) == "4 <Synchronized wrapper for c_int(3)>\n"


def test_without_the_native_part():
    done = subprocess.run([sys.executable, "-c", "import mpfast, multiprocessing\n"
                           "assert mpfast.sharedctypes.Value is multiprocessing.sharedctypes.Value\n"
                           "assert mpfast.heap.BufferWrapper is multiprocessing.heap.BufferWrapper\n"
                           "print(mpfast.Value('i', 3).value)"],
                          env={**__import__("os").environ, "MPFAST_DISABLE": "1"}, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr
