"""SharedDict beside a real dict: one operation after another, several processes, other shared objects inside."""
import collections
import decimal
import enum
import fractions
import gc
import pickle
import random
import subprocess
import sys
import threading
import weakref

import pytest
from conftest import child_environment

import mpfast

pytestmark = pytest.mark.skipif(not mpfast.doctor().native, reason="needs the native part")

fork = mpfast.get_context("fork")


class Plain(enum.Enum):
    A = 1
    B = 2


class Number(enum.IntEnum):
    A = 1
    B = 2


Point = collections.namedtuple("Point", "x y")


class Text(str):
    """Compares and hashes as a str."""


class Wrapped:
    """Equal to what it wraps."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value == (other.value if isinstance(other, Wrapped) else other)

    def __hash__(self):
        return hash(self.value)

    def __repr__(self):
        return f"Wrapped({self.value!r})"


def random_value(draw):
    return [draw.randrange(-5, 5), "x" * draw.randrange(60), draw.random(), None, (1, "a" * draw.randrange(30)),
            b"z" * draw.randrange(5000)][draw.randrange(6)]


def random_key(draw, foreign):
    i = draw.randrange(8)
    keys = [i, float(i), bool(i & 1), str(i), "k" * i * 9, (i, float(i & 1)), frozenset([i, "a", i & 1]),
            frozenset([True, "a", float(i)]), None, b"b" * i * 5, i + .5, 2 ** 70 + i, float(2 ** 70), 2 ** 63, -2 ** 63,
            1e300, int(1e300), Point(i, i & 1), Number.A, Text(i), -0.0, "é" * i, "€", "\U0001f600", ((),), (((i,),),)]
    if foreign:
        keys += [decimal.Decimal(i), fractions.Fraction(i, 2), Plain.A, Plain.B, Wrapped(i), Wrapped(str(i)), complex(i),
                 (Plain.A, i), frozenset([Plain.A, i]), (decimal.Decimal(i),)]
    return draw.choice(keys)


def written(x):
    """Tells apart what == does not, and does not depend on the order within a set."""
    if isinstance(x, frozenset):
        return f"frozenset{sorted(map(written, x))}"
    if isinstance(x, (tuple, list)):
        return f"{type(x).__name__}({', '.join(map(written, x))})"
    return f"{type(x).__name__} {x!r}"


def outcome(function, argument):
    try:
        return "returned", function(argument)
    except Exception as exc:
        return type(exc), exc.args


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_as_a_dict(seed, foreign):
    draw = random.Random(seed)
    real, shared = {}, mpfast.SharedDict()
    for step in range(300):
        key, value = random_key(draw, foreign), random_value(draw)
        many = {random_key(draw, foreign): random_value(draw) for _ in range(draw.randrange(6))}
        operation = draw.choice([
            lambda d: d.__setitem__(key, value), lambda d: d.__setitem__(key, value), lambda d: d[key],
            lambda d: d.__delitem__(key), lambda d: d.pop(key), lambda d: d.pop(key, 7), lambda d: d.get(key),
            lambda d: d.get(key, "default"), lambda d: d.setdefault(key, value), lambda d: d.update(many), lambda d: key in d,
            lambda d: d.popitem(), lambda d: d.__ior__(many).get(key), lambda d: len(d),
            lambda d: d.clear() if step % 40 == 0 else None])
        assert written(outcome(operation, shared)) == written(outcome(operation, real)), (step, key)
        if step % 7 == 0:
            assert written(shared.items()) == written(list(real.items()))
            assert written(list(shared)) == written(list(real)) and written(shared.keys()) == written(list(real))
            assert written(list(reversed(shared))) == written(list(reversed(real)))
            assert written(shared.values()) == written(list(real.values()))
            assert shared == real and real == shared and not shared != real


@pytest.mark.parametrize("make", [
    lambda cls: cls(), lambda cls: cls({"a": 1}, b=2), lambda cls: cls([("a", 1), (2, 3)]), lambda cls: cls(a=1),
    lambda cls: cls(iter([("x", 1)])), lambda cls: cls(cls(a=1), b=2), lambda cls: cls.fromkeys("abc"),
    lambda cls: cls.fromkeys([1, 1.0, 2], "v")])
def test_made_as_a_dict(make):
    assert make(mpfast.SharedDict) == make(dict)
    assert make(mpfast.SharedDict).items() == list(make(dict).items())


@pytest.mark.parametrize("arguments", [(1,), ([1],), ([(1, 2, 3)],), ({}, {}), ([([], 1)],)])
def test_refuses_what_a_dict_refuses(arguments):
    with pytest.raises(Exception) as of_dict:
        dict(*arguments)
    with pytest.raises(of_dict.type) as of_shared:
        mpfast.SharedDict(*arguments)
    assert str(of_shared.value).replace("SharedDict", "dict") == str(of_dict.value)


@pytest.mark.parametrize("operation", [
    lambda d: d[[]], lambda d: d.__setitem__({}, 1), lambda d: d.pop(set()), lambda d: [] in d, lambda d: d.get(([],)),
    lambda d: d.get(), lambda d: d.get(1, 2, 3), lambda d: d.pop(), lambda d: d.setdefault(), lambda d: d.update(1),
    lambda d: d.update([1]), lambda d: d.popitem() and d.popitem(), lambda d: d | 1, lambda d: 1 | d, lambda d: d < {},
    lambda d: hash(d), lambda d: d["no such key"], lambda d: d.pop((1, 2)), lambda d: d.update({}, {})])
def test_errors_of_a_dict(operation):
    with pytest.raises(Exception) as of_dict:
        operation({"a": 1})
    with pytest.raises(of_dict.type) as of_shared:
        operation(mpfast.SharedDict(a=1))
    if of_dict.type is not TypeError:
        assert of_shared.value.args == of_dict.value.args


def test_what_cannot_be_pickled_changes_nothing():
    shared = mpfast.SharedDict(a=1)
    for operation in (lambda: shared.__setitem__("a", threading.Lock()), lambda: shared.update(a=2, b=threading.Lock()),
                      lambda: shared.setdefault("c", threading.Lock()), lambda: shared.__setitem__(threading.Lock(), 1)):
        with pytest.raises((pickle.PicklingError, TypeError, AttributeError)):
            operation()
    assert shared == {"a": 1}


def test_nan_is_no_key_that_is_found():
    shared = mpfast.SharedDict()
    shared[float("nan")] = 1
    shared[float("nan")] = 2
    assert len(shared) == 2 and float("nan") not in shared
    shared["a"] = 3
    assert shared["a"] == 3 and shared.values() == [1, 2, 3]


def test_keys_keep_how_they_were_written():
    shared = mpfast.SharedDict()
    shared[True] = "a"
    shared[1] = "b"
    shared[-0.0] = "c"
    shared[(1.0, False)] = "d"
    shared[Point(3, 4)] = "e"
    assert written(shared.keys()) == written([True, -0.0, (1.0, False), Point(3, 4)])
    assert shared[1.0] == "b" and shared[(1, 0)] == "d" and shared[(3, 4)] == "e"


def test_operators():
    shared = mpfast.SharedDict(a=1)
    assert type(shared | {"b": 2}) is dict and shared | {"b": 2} == {"a": 1, "b": 2}
    assert {"a": 0, "b": 2} | shared == {"a": 1, "b": 2}
    assert shared | mpfast.SharedDict(c=3) == {"a": 1, "c": 3}
    same = shared
    same |= [("d", 4)]
    assert same is shared and shared == {"a": 1, "d": 4}
    assert shared == mpfast.SharedDict(a=1, d=4) and shared != {"a": 1} and shared != 1


def test_repr():
    assert repr(mpfast.SharedDict()) == "SharedDict()"
    assert repr(mpfast.SharedDict(a=[1])) == "SharedDict({'a': [1]})"

    class Mine(mpfast.SharedDict):
        pass

    assert repr(Mine(a=1)) == "Mine({'a': 1})"


def test_values_are_copies():
    shared = mpfast.SharedDict(a=[1])
    shared["a"].append(2)
    assert shared["a"] == [1]


def test_iteration_goes_over_what_was_there():
    shared = mpfast.SharedDict({i: i for i in range(100)})
    for key in shared:
        shared[key + 1000] = 1
        del shared[key]
    assert len(shared) == 100 and min(shared) == 1000


@pytest.mark.parametrize("bytes_each", [10, 3000, 200_000])
def test_large_values(bytes_each):
    shared = mpfast.SharedDict()
    for i in range(20):
        shared[f"{i}" * 50] = bytes([i]) * bytes_each
    for i in range(20):
        assert shared[f"{i}" * 50] == bytes([i]) * bytes_each
    assert shared.pop("3" * 50) == bytes([3]) * bytes_each
    assert shared.popitem() == ("19" * 50, bytes([19]) * bytes_each)


def test_memory_comes_back():
    gc.collect()
    before = mpfast._core.stats()["blocks"]
    shared = mpfast.SharedDict()
    for _ in range(3):
        shared.update({i: "x" * i for i in range(2000)})
        shared["lock"] = mpfast.Lock()
        shared["dict"] = mpfast.SharedDict(a=mpfast.SharedList([mpfast.Event()]))
        shared.clear()
    assert mpfast._core.stats()["blocks"] == {**before, "dict": before.get("dict", 0) + 1}
    del shared
    assert mpfast._core.stats()["blocks"] == before


# ---- the same dict elsewhere ----

def test_pickle_is_the_same_dict():
    shared = mpfast.SharedDict()
    other = pickle.loads(pickle.dumps(shared))
    other["a"] = 1
    assert shared["a"] == 1 and other._offset == shared._offset

    ref = weakref.ref(shared)
    del shared
    assert ref() is None and other["a"] == 1


def count_up(shared, name, times):
    for i in range(times):
        shared[name] = i + 1
        shared.setdefault("common", []).append(0)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes(method):
    ctx = mpfast.get_context(method)
    shared = mpfast.SharedDict()
    processes = [ctx.Process(target=count_up, args=(shared, f"process {i}", 300)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    assert shared == {"common": [], "process 0": 300, "process 1": 300, "process 2": 300}


SEEDED = """
import pickle, sys
shared = pickle.loads(bytes.fromhex(sys.argv[1]))
print([shared[key] for key in ("a", 1, (1, "b"), frozenset("xyz"), None, b"c", 2.5)])
shared["from there"] = frozenset("pqr")
shared[frozenset("pqr")] = 1
"""


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_hashes_of_other_processes(seed):
    shared = mpfast.SharedDict({"a": 0, 1: 1, (1, "b"): 2, frozenset("xyz"): 3, None: 4, b"c": 5, 2.5: 6})
    done = subprocess.run([sys.executable, "-c", SEEDED, pickle.dumps(shared).hex()], capture_output=True, text=True,
                          env={**child_environment(), "PYTHONHASHSEED": seed}, timeout=60)
    assert done.stdout == "[0, 1, 2, 3, 4, 5, 6]\n", done.stderr
    assert shared[shared["from there"]] == 1


def use_wrapped(shared, first):
    for i in range(50):
        shared[Wrapped(f"{first} {i}")] = i
        assert shared[Wrapped(f"{first} {i}")] == shared[f"{first} {i}"] == i
        shared[f"{first} {i}"] = i + 1
        if i % 2:
            del shared[Wrapped(f"{first} {i}")]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_keys_of_the_programs_own_in_several_processes(method):
    ctx = mpfast.get_context(method)
    shared = mpfast.SharedDict()
    processes = [ctx.Process(target=use_wrapped, args=(shared, first)) for first in ("a", "b")]
    for process in processes:
        process.start()
    use_wrapped(shared, "c")
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(key.value for key in shared) == sorted(f"{first} {i}" for first in "abc" for i in range(0, 50, 2))


def rewrite(shared, stop):
    n = 0
    while not stop.is_set():
        n += 1
        shared.update({"a": [n] * (n % 50), "b": n, f"key {n % 13}": n})
        shared.pop(f"key {n % 11}", None)


def test_reading_while_others_write():
    shared, stop = mpfast.SharedDict(a=[], b=0), fork.Event()
    writers = [fork.Process(target=rewrite, args=(shared, stop)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for _ in range(2000):
        contents = shared.copy()
        assert len(contents["a"]) == contents["b"] % 50 and set(contents["a"]) <= {contents["b"]}
        assert all(key in ("a", "b") or key.startswith("key ") for key in shared)
        assert isinstance(shared["b"], int) and len(set(shared["a"])) <= 1
    stop.set()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0


def take_all(shared, results):
    mine = 0
    while True:
        try:
            shared.popitem()
        except KeyError:
            break
        mine += 1
    results.put(mine)


def test_each_item_is_popped_once():
    shared, results = mpfast.SharedDict({i: i for i in range(3000)}), fork.Queue()
    processes = [fork.Process(target=take_all, args=(shared, results)) for _ in range(3)]
    for process in processes:
        process.start()
    assert sum(results.get() for _ in processes) == 3000
    for process in processes:
        process.join()


def claim(shared, me, results):
    results.put(sum(shared.setdefault(i, me) == me for i in range(1000)))


def test_setdefault_has_one_winner():
    shared, results = mpfast.SharedDict(), fork.Queue()
    processes = [fork.Process(target=claim, args=(shared, me, results)) for me in range(3)]
    for process in processes:
        process.start()
    assert sum(results.get() for _ in processes) == 1000
    for process in processes:
        process.join()


def add_one(shared):
    def function(copy):
        copy["n"] += 1
        return copy["n"]
    for _ in range(200):
        shared._transact(function)


def test_transactions_lose_nothing():
    shared = mpfast.SharedDict(n=0)
    processes = [fork.Process(target=add_one, args=(shared,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert shared["n"] == 600
    with pytest.raises(ZeroDivisionError):
        shared._transact(lambda copy: copy.clear() or 1 / 0)
    assert shared["n"] == 600


# ---- shared objects as values ----

def fill(shared):
    shared["lock"] = mpfast.Lock()
    shared["queue"] = mpfast.Queue()
    shared["dict"] = mpfast.SharedDict(inner=mpfast.SharedList([1]))
    shared["value"] = mpfast.Value("i", 7)
    shared["both"] = [shared["lock"], {"again": shared["lock"]}]


def test_objects_outlive_who_put_them_in():
    shared = mpfast.SharedDict()
    process = fork.Process(target=fill, args=(shared,))
    process.start()
    process.join()
    for _ in range(3):
        with shared["lock"]:
            assert not shared["both"][1]["again"].acquire(False)
        shared["queue"].put(1)
        assert shared["queue"].get() == 1
        shared["dict"]["inner"].append(2)
        assert shared["value"].value == 7
    assert shared["dict"]["inner"] == [1, 2, 2, 2]


def test_objects_go_with_the_value():
    shared = mpfast.SharedDict(lock=mpfast.Lock())
    kept = shared["lock"]
    locks = mpfast._core.stats()["blocks"]["lock"]
    shared["lock"] = None
    kept.acquire()
    assert mpfast._core.stats()["blocks"]["lock"] == locks
    del kept
    assert mpfast._core.stats()["blocks"].get("lock", 0) == locks - 1


def test_a_long_chain_goes_at_once():
    chain = None
    blocks = mpfast._core.stats()["blocks"]
    for _ in range(5000):
        chain = mpfast.SharedDict(next=chain, other=mpfast.SharedList([chain]))
    assert chain["next"]["next"]._offset == chain["next"]["other"][0]._offset
    del chain
    assert mpfast._core.stats()["blocks"] == blocks
