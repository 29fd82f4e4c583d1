"""SharedList beside a real list: one operation after another, several processes, other shared objects inside."""
import functools
import gc
import pickle
import random
import threading
import weakref

import pytest

import mpfast

pytestmark = pytest.mark.skipif(not mpfast.doctor().native, reason="needs the native part")

fork = mpfast.get_context("fork")


def random_value(draw):
    return [draw.randrange(-5, 5), "x" * draw.randrange(60), draw.random(), None, (1, "a" * draw.randrange(30)),
            b"z" * draw.randrange(5000)][draw.randrange(6)]


def outcome(function, argument):
    try:
        return "returned", function(argument)
    except Exception as exc:
        return type(exc), exc.args


@pytest.mark.parametrize("seed", range(25))
def test_as_a_list(seed):
    draw = random.Random(seed)
    real, shared = [], mpfast.SharedList()
    for step in range(400):
        n = len(real)
        i, j = draw.randrange(-n - 2, n + 3), draw.randrange(-n - 2, n + 3)
        part = slice(draw.choice([i, None]), draw.choice([j, None]), draw.choice([1, 1, 1, 2, 3, -1, -2, None]))
        value, few = random_value(draw), [random_value(draw) for _ in range(draw.randrange(5))]
        as_many = [random_value(draw) for _ in real[part]]
        operation = draw.choice([
            lambda x: x.append(value), lambda x: x.append(value), lambda x: x.insert(i, value), lambda x: x.insert(i, value),
            lambda x: x.pop(i), lambda x: x.pop(), lambda x: x.__setitem__(i, value), lambda x: x.__delitem__(i),
            lambda x: x.__setitem__(part, few), lambda x: x.__setitem__(part, as_many), lambda x: x[part], lambda x: x[i],
            lambda x: x.__delitem__(part) if step % 3 == 0 else None, lambda x: x.extend(few), lambda x: x.reverse(),
            lambda x: x.remove(value), lambda x: x.sort(key=repr, reverse=step % 2 == 0), lambda x: x.index(value),
            lambda x: x.index(value, i, j), lambda x: x.count(value), lambda x: value in x, lambda x: len(x),
            lambda x: x + few, lambda x: x * 2, lambda x: 0 * x, lambda x: x.__iadd__(few).copy(), lambda x: x.copy(),
            lambda x: list(x), lambda x: list(reversed(x)), lambda x: x.sort(),
            lambda x: x.__imul__(draw_times) and None if n < 40 else None, lambda x: x.clear() if step % 30 == 0 else None])
        draw_times = draw.choice([-1, 0, 1, 2])
        if draw_times < 1 and step % 10:
            draw_times = 2
        before = list(real)
        expected = outcome(operation, real)
        if expected[0] is TypeError:
            real[:] = before  # a sort that failed leaves a list in any order; ours is as it was
        assert outcome(operation, shared) == expected, step
        if step % 5 == 0:
            assert shared == real and real == shared and not shared != real and len(shared) == len(real)


def fail_while_iterated():
    yield 1
    raise TypeError("from within the iterator")


@pytest.mark.parametrize("operation", [
    lambda x: x[5], lambda x: x[-4], lambda x: x.__setitem__(3, 0), lambda x: x.__delitem__(3), lambda x: x.pop(3),
    lambda x: x.clear() or x.pop(), lambda x: x["a"], lambda x: x.__setitem__("a", 1), lambda x: x.__delitem__("a"),
    lambda x: x.__setitem__(slice(None, None, 2), [1]), lambda x: x.__setitem__(slice(0, 1), 5),
    lambda x: x.__setitem__(slice(None, None, 2), 5), lambda x: x[::0], lambda x: x.extend(5), lambda x: x + 5,
    lambda x: x + (1,), lambda x: x * "a", lambda x: x.remove(7), lambda x: x.index(7), lambda x: x.insert(1),
    lambda x: x.insert("a", 1), lambda x: x.pop(1, 2), lambda x: x.pop("a"), lambda x: x.sort(1), lambda x: x.sort(key=5),
    lambda x: x.append(), lambda x: x < 5, lambda x: hash(x), lambda x: x[10 ** 30], lambda x: x.index(),
    lambda x: x.insert(10 ** 30, 1), lambda x: x.__setitem__(slice(2), fail_while_iterated()),
    lambda x: x.extend(fail_while_iterated())])
def test_errors_of_a_list(operation):
    with pytest.raises(Exception) as of_list:
        operation([1, 2, 3])
    shared = mpfast.SharedList([1, 2, 3])
    with pytest.raises(of_list.type) as of_shared:
        operation(shared)
    if of_list.type is not TypeError or "iter" in str(of_list.value):
        assert str(of_shared.value) == str(of_list.value)
    assert len(shared) in (0, 3)


def test_made_as_a_list():
    assert mpfast.SharedList() == []
    assert mpfast.SharedList("abc") == ["a", "b", "c"]
    assert mpfast.SharedList(mpfast.SharedList(range(5))) == [0, 1, 2, 3, 4]
    for arguments, kwargs in (((1,), {}), ((1, 2), {}), ((), {"iterable": ()})):
        with pytest.raises(TypeError):
            mpfast.SharedList(*arguments, **kwargs)


def test_operators():
    shared = mpfast.SharedList([1, 2])
    assert type(shared + [3]) is list and shared + [3] == [1, 2, 3]
    assert shared + mpfast.SharedList([3]) == [1, 2, 3]
    assert 2 * shared == shared * 2 == [1, 2, 1, 2]
    assert shared < [1, 3] and shared <= mpfast.SharedList([1, 2]) and shared > [1] and shared >= [1, 2] and shared != (1, 2)
    same = shared
    same += "ab"
    same *= 2
    assert same is shared and shared == [1, 2, "a", "b"] * 2


def test_repr():
    class Mine(mpfast.SharedList):
        pass

    assert repr(mpfast.SharedList()) == "SharedList()"
    assert repr(mpfast.SharedList([1, "a"])) == "SharedList([1, 'a'])"
    assert repr(Mine([1])) == "Mine([1])"


def test_sort_is_stable():
    pairs = [(i * 7 % 5, i) for i in range(100)]
    for options in ({}, {"key": lambda pair: pair[0]}, {"key": lambda pair: pair[0], "reverse": True},
                    {"key": functools.cmp_to_key(lambda a, b: b[0] - a[0])}):
        shared = mpfast.SharedList(pairs)
        assert shared.sort(**options) is None
        assert shared == sorted(pairs, **options)


def test_a_sort_that_fails_changes_nothing():
    shared = mpfast.SharedList([3, 1, "a", 2])
    with pytest.raises(TypeError):
        shared.sort()
    assert shared == [3, 1, "a", 2]


def test_what_cannot_be_pickled_changes_nothing():
    shared = mpfast.SharedList([1, 2])
    lock = threading.Lock()
    for operation in (lambda: shared.append(lock), lambda: shared.extend([3, lock]), lambda: shared.insert(0, lock),
                      lambda: shared.__setitem__(0, lock), lambda: shared.__setitem__(slice(None), [lock])):
        with pytest.raises((pickle.PicklingError, TypeError, AttributeError)):
            operation()
    assert shared == [1, 2]


def test_iteration_goes_over_what_was_there():
    shared = mpfast.SharedList(range(10))
    for item in shared:
        shared.append(item)
    assert shared == list(range(10)) * 2


@pytest.mark.parametrize("bytes_each", [10, 3000, 200_000])
def test_large_values(bytes_each):
    shared = mpfast.SharedList()
    for i in range(20):
        shared.insert(i // 2, bytes([i]) * bytes_each)
    assert sorted(item[0] for item in shared) == list(range(20))
    assert shared.pop() == bytes([0]) * bytes_each
    assert shared[0] == bytes([1]) * bytes_each


def test_memory_comes_back():
    gc.collect()
    before = mpfast._core.stats()["blocks"]
    shared = mpfast.SharedList()
    for _ in range(3):
        shared.extend("x" * i for i in range(2000))
        shared.append(mpfast.Lock())
        shared[::3] = [mpfast.SharedDict(a=1) for _ in range(len(shared[::3]))]
        shared.reverse()
        shared.sort(key=lambda item: str(type(item)))
        del shared[100:1500:2]
        shared.clear()
    assert mpfast._core.stats()["blocks"] == {**before, "list": before.get("list", 0) + 1}
    del shared
    assert mpfast._core.stats()["blocks"] == before


# ---- the same list elsewhere ----

def test_pickle_is_the_same_list():
    shared = mpfast.SharedList()
    other = pickle.loads(pickle.dumps(shared))
    other.append(1)
    assert shared == [1] and other._offset == shared._offset
    ref = weakref.ref(shared)
    del shared
    assert ref() is None and other == [1]


def append_many(shared, me, times):
    for i in range(times):
        shared.append((me, i))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes(method):
    ctx = mpfast.get_context(method)
    shared = mpfast.SharedList()
    processes = [ctx.Process(target=append_many, args=(shared, me, 500)) for me in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    for me in range(3):
        assert [i for who, i in shared if who == me] == list(range(500))


def shuffle(shared, own, stop):
    draw = random.Random()
    while not stop.is_set():
        shared.reverse()
        shared.remove(own)  # nobody else takes it out
        shared.append(own)
        shared.sort(key=lambda item: draw.random())
        shared.remove(own)
        shared.insert(3, own)


def test_reading_while_others_write():
    shared, stop = mpfast.SharedList(range(10)), fork.Event()
    writers = [fork.Process(target=shuffle, args=(shared, own, stop)) for own in (5, 6)]
    for writer in writers:
        writer.start()
    for _ in range(2000):
        contents = shared.copy()
        assert len(set(contents)) == len(contents) and set(contents) <= set(range(10)) and len(contents) >= 6
        assert 0 <= shared[0] < 10
    stop.set()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(shared) == list(range(10))


def take_all(shared, results):
    mine = []
    while True:
        try:
            mine.append(shared.pop(0))
        except IndexError:
            break
    results.put(mine)


def test_each_item_is_popped_once():
    shared, results = mpfast.SharedList(range(3000)), fork.Queue()
    processes = [fork.Process(target=take_all, args=(shared, results)) for _ in range(3)]
    for process in processes:
        process.start()
    taken = [results.get() for _ in processes]
    assert sorted(sum(taken, [])) == list(range(3000)) and all(mine == sorted(mine) for mine in taken)
    for process in processes:
        process.join()


def fill(shared):
    shared.append(mpfast.Lock())
    shared.append(mpfast.SharedDict(inner=mpfast.SharedList([1])))
    shared.extend([mpfast.Queue(), mpfast.Value("i", 7)])


def test_objects_outlive_who_put_them_in():
    shared = mpfast.SharedList()
    process = fork.Process(target=fill, args=(shared,))
    process.start()
    process.join()
    shared *= 2
    for _ in range(2):
        with shared[0]:
            assert not shared[4].acquire(False)
        shared[1]["inner"].append(2)
        shared[2].put(1)
        assert shared[6].get() == 1
        assert shared[3].value == 7
        shared.reverse()
        shared.reverse()
    assert shared[5]["inner"] == [1, 2, 2]
