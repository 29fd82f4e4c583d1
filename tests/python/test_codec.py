"""What goes into a message comes out of it as it would with pickle; what is no message is refused."""
import array
import collections
import copyreg
import dataclasses
import decimal
import enum
import functools
import gc
import io
import math
import operator
import pickle
import sys
import threading
import types
import weakref
from multiprocessing.reduction import ForkingPickler

import pytest

core = pytest.importorskip("mpfast._core")


def through(obj):
    return core._decode(core._encode(obj))


def same(a, b):
    """Equal, of equal types, all the way down; NaN equals NaN, 0.0 does not equal -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b) or a != a and b != b
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(k, l) and same(v, w) for (k, v), (l, w) in zip(a.items(), b.items()))
    if isinstance(a, (set, frozenset)):
        return a == b and sorted(map(repr, a)) == sorted(map(repr, b))
    return a == b


EDGES = [0, 1, -1, -16, -17, 111, 112, 255, 256, 2**15 - 1, 2**15, -2**15, -2**15 - 1, 2**30 - 1, 2**30, -2**30, 2**31 - 1,
         2**31, -2**31, -2**31 - 1, 2**60, -2**60, 2**63 - 1, 2**63, -2**63, -2**63 - 1, 2**64 - 1, 2**64, -2**64, 2**127,
         2**128, -2**127, -2**128, 10**400, -10**400]
VALUES = EDGES + [
    None, True, False, 0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, sys.float_info.min,
    "", "a", "\0", "\x7f", "\x80", "é", "ü" * 255, "ü" * 256, "€", "€" * 5000, "😀", "😀" * 3000, "\ud800", "a\udfff",
    "a" * 255, "a" * 256, "b" * 4095, "b" * 4096, "b" * 100_000, "é" * 100_000,
    b"", b"x", b"\xff", b"y" * 255, b"y" * 256, b"z" * 4095, b"z" * 4096, b"z" * 3_000_000,
    bytearray(), bytearray(b"q"), bytearray(b"q" * 300), bytearray(b"q" * 100_000),
    (), (None,), (1, "two", 3.0), tuple(range(255)), tuple(range(256)), tuple(range(5000)),
    [], [[]], [1, [2, [3, [4]]]], list(range(300)), [b"m" * 5000, "n" * 5000, b"m" * 5000, 7],
    {}, {"a": 1}, {1: "a", None: (), (1, 2): [], 2.5: {}, b"k": {"x": {"y": "z"}}}, {i: str(i) for i in range(300)},
    set(), {1, "a", (2, b"c")}, set(range(1000)), frozenset(), frozenset([frozenset([1]), "x"]),
    len, int, print, dict, object, type, Exception, decimal.Decimal, collections.OrderedDict, operator.itemgetter, io.open,
    types.SimpleNamespace, (operator.attrgetter, same), NotImplemented, ..., type(None), type(...),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: repr(v)[:30])
def test_value(value):
    assert same(through(value), value)
    assert same(through([value, {"k": value}]), [value, {"k": value}])


def test_small_messages():
    assert len(core._encode(0)) == len(core._encode(None)) == 1
    assert len(core._encode("hello")) == 7
    assert len(core._encode((1, 2, 3))) == 5


@dataclasses.dataclass
class Point:
    x: int
    y: object


class Colour(enum.Enum):
    RED = 1


class MyInt(int):
    pass


class MyDict(dict):
    pass


class MyStr(str):
    pass


class MyTuple(tuple):
    pass


Pair = collections.namedtuple("Pair", "a b")


class Outer:
    class Inner:
        pass

    def method(self):
        return type(self).__name__


class Reduced:
    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return Reduced, self.args

    def __eq__(self, other):
        return type(other) is Reduced and self.args == other.args


@pytest.mark.parametrize("value", [
    Point(1, [2]), Colour.RED, MyInt(5), MyDict(a=1), MyStr("x"), MyTuple((1, 2)), Pair(1, "b"), 1 + 2j, decimal.Decimal("1.10"),
    collections.OrderedDict(a=1), collections.deque([1, 2]), range(10), slice(1, 2), array.array("i", [1, 2]), Outer.Inner,
    Reduced(1, 2), ValueError("v"), functools.partial(max, 1), {"a": [Point(1, (MyInt(2), None))]}, Outer.method,
], ids=repr)
def test_pickled_value(value):
    got = through(value)
    assert type(got) is type(value) and type(got) is type(pickle.loads(pickle.dumps(value)))
    assert got == value or repr(got) == repr(value)
    if isinstance(value, int):
        assert type(through((value, 1))[0]) is type(value)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_tens_of_mebibytes(kind):
    data = kind(i % 251 for i in range(1 << 20)) * 33
    assert same(through(data), data)
    assert same(through([data, Ellipsis])[0], data)
    assert same(through(pickle.PickleBuffer(data)), data)


def test_sharing():
    text, data, pair, items = "hello " * 2, b"some bytes" * 2, (1, "x" * 3), [1]
    mapping, some, fixed, array_ = {"k": items}, {5}, frozenset([6, 7]), bytearray(b"abc")
    for shared in text, data, pair, items, mapping, some, fixed, array_:
        got = through([shared, (shared,), {"a": shared}, shared])
        assert got[0] == shared and type(got[0]) is type(shared)
        assert got[0] is got[1][0] is got[2]["a"] is got[3]
    large = "large" * 10_000, b"large" * 10_000, bytearray(b"large" * 10_000)
    got = through([large[0], large[1], large[2], 1, *large])
    assert got == [*large, 1, *large] and all(a is b for a, b in zip(got[:3], got[4:]))
    equal = through([[1], [1]])
    assert equal[0] is not equal[1]


def test_sharing_of_what_has_one_owner():
    rows = [[i] for i in range(10)]
    got = through([rows, rows[3], rows[3:5]])
    assert got[0][3] is got[1] is got[2][0] and got[0][4] is got[2][1]


def test_cycles():
    items = [1]
    items.append(items)
    got = through(items)
    assert got[1] is got and got[0] == 1
    mapping = {}
    mapping["me"] = [mapping]
    got = through(mapping)
    assert got["me"][0] is got
    pair = ([], 1)
    pair[0].append(pair)
    got = through(pair)
    assert got[0][0] is got and got[1] == 1
    nested = through([pair, items])
    assert nested[0][0][0] is nested[0] and nested[1][1] is nested[1]


def test_depth():
    def nest(n):
        items = []
        for _ in range(n):
            items = [items]
        return items
    for n in 10, 150, 199, 200, 201, 250:
        got, depth = through(nest(n)), 0
        while got:
            got, depth = got[0], depth + 1
        assert depth == n
    with pytest.raises(RecursionError):
        core._encode(nest(100_000))


def test_containers_stay_independent():
    items = [1, 2]
    got = through(items)
    got.append(3)
    assert items == [1, 2] and through(items) == [1, 2]


# ---- ForkingPickler -----------------------------------------------------------------------------------------------------

class Odd:
    """Cannot be pickled but by a registered reducer."""
    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        raise TypeError("not without help")


RECORDS = [
    {f"key_{i}": i for i in range(3)}, {f"key_{i}": i for i in range(4)}, {f"key_{i}": [i] for i in range(48)},
    {f"key_{i}": float(i) for i in range(49)}, {"id": 1, "a key that is longer than most others are": "x", "ab": None, "abcdef": {}},
    {"k" * i: i for i in range(2, 30)}, {"k" * 255: 1, "k" * 254: 2, "kk": 3, "kkk": 4}, {"k" * 256: 1, "kk": 2, "kkk": 3, "kkkk": 4},
    {"k": 1, "kk": 2, "kkk": 3, "kkkk": 4}, {"kk": 1, "k": 2, "kkk": 3, "kkkk": 4}, {"kk": 1, "é": 2, "kkk": 3, "kkkk": 4},
    {"kk": 1, 2: 2, "kkk": 3, "kkkk": 4}, {"kk": {"kk": 1, "kl": 2, "km": 3, "kn": (4,)}, "kl": 2, "km": 3, "kn": []},
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: repr(record)[:30])
def test_dicts_of_one_kind(record):
    """Dicts with the same keys time and again, and others of similar keys between them."""
    values = [None, True, 1, 2.5, "a string", b"bytes", (), [1], {"k": 2}, {3}]
    keys = list(record)
    for i in range(50):
        assert same(through(record), record)
        other = {key: values[(i + j) % len(values)] for j, key in enumerate(keys)}
        assert same(through(other), other)
        assert same(through([other, record]), [other, record])
        if i % 10 == 9:
            last = {**{key: 0 for key in keys[:-1]}, f"another {i}": 1}
            assert same(through(last), last)
            turned = dict(reversed(other.items()))
            assert same(through(turned), turned)


def test_dicts_of_one_kind_are_independent():
    record = {f"key_{i}": i for i in range(10)}
    first = [through(record) for _ in range(10)]
    for i, got in enumerate(first):
        del got[f"key_{i}"]
        got["new"] = i
        got["key_9"] = got
    assert same(through(record), record)
    assert [len(got) for got in first] == [10] * 9 + [11]
    first[0].clear()
    assert same(through(record), record)


def test_dicts_of_one_kind_with_the_garbage_collector():
    record = {f"key_{i}": None for i in range(10)}
    for _ in range(5):
        through(record)
    got = through({**record, "key_3": [], "key_5": ()})
    kept = Reduced(got)
    got["key_3"].append(kept)  # a cycle through the dict
    dead = weakref.ref(kept)
    del got, kept
    gc.collect()
    assert dead() is None


def test_dicts_of_one_kind_decoded_by_finalizers():
    """What runs while a dict is read may read dicts itself, of this and of many other kinds."""
    record = {f"key_{i}": [[i]] for i in range(20)}
    data = core._encode(record)
    others = [core._encode({f"key_{i}" if i < n else f"other_{n}_{i}": i for i in range(20)}) for n in range(20)]

    class Finalized:
        def __init__(self):
            self.itself = self

        def __del__(self):
            for other in others:
                core._decode(other)

    threshold = gc.get_threshold()
    gc.set_threshold(5)
    try:
        for _ in range(300):
            Finalized()
            assert core._decode(data) == record
    finally:
        gc.set_threshold(*threshold)


@pytest.fixture
def reducers():
    saved, saved_copyreg = dict(ForkingPickler._extra_reducers), dict(copyreg.dispatch_table)
    yield
    for table, content in (ForkingPickler._extra_reducers, saved), (copyreg.dispatch_table, saved_copyreg):
        table.clear()
        table.update(content)


def test_registered_reducer(reducers):
    with pytest.raises(TypeError, match="not without help"):
        core._encode([Odd(1)])
    ForkingPickler.register(Odd, lambda o: (Odd, (o.value + 1,)))
    assert through([Odd(1)])[0].value == 2
    ForkingPickler.register(Odd, lambda o: (Odd, (o.value + 10,)))
    assert through([Odd(1)])[0].value == 11
    del ForkingPickler._extra_reducers[Odd]
    copyreg.pickle(Odd, lambda o: (Odd, (o.value + 100,)))
    assert through([Odd(1)])[0].value == 101
    ForkingPickler.register(Odd, lambda o: (Odd, (-1,)))  # goes before copyreg's, as in the stdlib
    assert through([Odd(1)])[0].value == -1


def test_reducer_that_encodes(reducers):
    def reduce(odd):
        inner = core._encode([Odd(odd.value - 1)] if odd.value else ["end", b"x" * 10_000])
        return core._decode, (inner,)
    ForkingPickler.register(Odd, reduce)
    got = through(("before", Odd(6), "after"))
    assert got[0] == "before" and got[2] == "after"
    value = got[1]
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    assert value == ["end", b"x" * 10_000]


def test_stdlib_reducers():
    assert through([operator.add, [].append.__name__, "x".join])[2](["a", "b"]) == "axb"
    assert through(Outer().method)() == "Outer"


def test_failure_leaves_no_trace():
    for _ in range(3):
        with pytest.raises(TypeError):
            core._encode([b"x" * 100_000, Point(1, 2), threading.Lock()])
        assert through([Point(3, b"y" * 100_000)]) == [Point(3, b"y" * 100_000)]


def test_memo_does_not_leak_between_messages():
    point = Point(1, 2)
    first, second = core._encode([point]), core._encode([point])
    point.x = 7
    third = core._encode([point])
    assert first == second and core._decode(third) == [Point(7, 2)]
    ref = weakref.ref(point)
    del point
    gc.collect()
    assert ref() is None


def test_replaced_dumps(monkeypatch):
    seen = []
    original = ForkingPickler.__dict__["dumps"]

    def dumps(cls, obj, protocol=None):
        seen.append(obj)
        return original.__func__(cls, ("wrapped", obj), protocol)
    assert through(5) == 5
    monkeypatch.setattr(ForkingPickler, "dumps", classmethod(dumps))
    for obj in 5, [1, "a"], Point(1, 2):
        assert through(obj) == ("wrapped", obj)
    assert seen == [5, [1, "a"], Point(1, 2)]
    monkeypatch.setattr(ForkingPickler, "loads", staticmethod(lambda data: ("read", pickle.loads(data))))
    assert through(5) == ("read", ("wrapped", 5))
    monkeypatch.undo()
    assert through(5) == 5 and through(Point(1, 2)) == Point(1, 2)


def test_added_hook(monkeypatch):
    monkeypatch.setattr(ForkingPickler, "reducer_override",
                        lambda self, obj: (int, ("42",)) if isinstance(obj, Point) else NotImplemented, raising=False)
    assert through([Point(1, 2)]) == [42]
    monkeypatch.undo()
    assert through([Point(1, 2)]) == [Point(1, 2)]


def test_replaced_before_first_use(code):
    script = ("from multiprocessing.reduction import ForkingPickler as F\n"
              "old = F.dumps\n"
              "F.dumps = classmethod(lambda cls, obj, protocol=None: old(('seen', obj), protocol))\n"
              "from mpfast import _core\n"
              "assert _core._decode(_core._encode(1)) == ('seen', 1)\n")
    code(script)


LATE = """
import sys

class Odd:
    pass

def imported():
    have_run = {name for name, module in sys.modules.items() if type(module) is type(sys)}
    return sorted({"multiprocessing.reduction", "multiprocessing.popen_spawn_posix", "queue", "socket"} & have_run)

def register():
    from multiprocessing.reduction import ForkingPickler
    ForkingPickler.register(Odd, lambda odd: (str, ("reduced",)))

def replace():
    from multiprocessing.reduction import ForkingPickler
    dumps = ForkingPickler.dumps
    ForkingPickler.dumps = classmethod(lambda cls, obj, protocol=None: dumps(("seen", obj), protocol))

def make(*items):
    return [*items, Odd()]

if __name__ == "__main__":
    import mpfast
    with mpfast.get_context("spawn").Pool(1) as pool:
        print(pool.apply(imported), pool.apply(tuple, ([1, "a"],)), pool.apply(imported))
        pool.apply(register)
        print(pool.apply(make, (1,)))
        pool.apply(replace)
        print(pool.apply(tuple, ([2],)))
"""


def test_reducers_and_dumps_of_a_child_that_imports_the_module_late(python, tmp_path):
    (tmp_path / "late.py").write_text(LATE)
    done = python("late.py")
    assert done.stdout.splitlines() == ["[] (1, 'a') []", "[1, 'reduced']", "('seen', (2,))"], done.stderr


# ---- functions ----------------------------------------------------------------------------------------------------------

def test_function_by_reference():
    assert through(same) is same and through((same, Outer, [same]))[2][0] is same


def test_a_module_is_found_by_the_name_that_it_has(tmp_path, monkeypatch):
    # pickle takes this one, in its oldest protocols, for another name of subprocess.
    (tmp_path / "commands.py").write_text("def f(): return 'of the program'")
    monkeypatch.syspath_prepend(tmp_path)
    from commands import f
    message = core._encode(f)
    monkeypatch.delitem(sys.modules, "commands")
    assert core._decode(message)() == "of the program"


def test_renamed_function_is_not_sent_as_another():
    def other():
        pass
    other.__qualname__, other.__module__ = "same", __name__
    try:
        got = through(other)
    except (pickle.PicklingError, AttributeError):
        return
    assert got is not same


def test_missing_name():
    message = core._encode(same)
    hidden = globals().pop("same")
    try:
        with pytest.raises(AttributeError):
            core._decode(message)
    finally:
        globals()["same"] = hidden


def test_module_imported_by_decoding(code):
    import colorsys
    script = ("import sys\nfrom mpfast import _core\n"
              "assert 'colorsys' not in sys.modules\n"
              f"f = _core._decode({core._encode(colorsys.rgb_to_hls)!r})\n"
              "import colorsys\nassert f is colorsys.rgb_to_hls\n")
    code(script)


def test_local_function():
    factor = 3

    def local(x):
        return factor * x
    try:
        import cloudpickle  # noqa: F401
    except ImportError:
        with pytest.raises((AttributeError, pickle.PicklingError), match="local"):
            core._encode(local)
        return
    assert through(local)(5) == 15
    got = through([lambda: 7, Point(1, local), b"x" * 100_000])
    assert got[0]() == 7 and got[1].y(2) == 6 and type(got[1]) is Point and got[2] == b"x" * 100_000

    class Local:
        pass
    assert through([Local()])[0].__class__.__name__ == "Local"
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        core._encode([lambda: 7, threading.Lock()])


def test_local_function_without_cloudpickle(code):
    script = ("import sys, pickle\nsys.modules['cloudpickle'] = None\nfrom mpfast import _core\n"
              "def f():\n    def g(): pass\n    return g\n"
              "def error(encode):\n"
              "    try: encode(f())\n"
              "    except Exception as e: return type(e), str(e).split(' at 0x')[0]\n"
              "assert error(_core._encode) == error(lambda o: pickle.dumps(o, 5)) != None\n"
              "assert error(_core._encode) == error(lambda o: pickle.dumps(o, 5)) != None\n")
    code(script)


FUNCTION_OF_MAIN = """
from mpfast import _core
class C:
    def __init__(self): self.value = 7
def f(): return C
got = _core._decode(_core._encode([lambda: f, C(), f]))
assert got[2] is f and type(got[1]) is C and got[0]() is f
message = _core._encode((f, C(), {"k": f}))
"""


@pytest.mark.parametrize("way", ["file", "-c", "stdin"])
def test_function_of_main(python, tmp_path, way):
    pytest.importorskip("cloudpickle")
    (tmp_path / "program.py").write_text(FUNCTION_OF_MAIN)
    done = {"file": lambda: python("program.py"), "-c": lambda: python("-c", FUNCTION_OF_MAIN),
            "stdin": lambda: python("-", stdin=FUNCTION_OF_MAIN)}[way]()
    assert (done.returncode, done.stderr) == (0, "")


def test_function_of_main_that_no_other_process_can_import(code):
    """It arrives in a process that does not have it; one that has it uses its own."""
    pytest.importorskip("cloudpickle")
    message = code(FUNCTION_OF_MAIN + "print(message.hex())").strip()
    receive = f"from mpfast import _core; f, c, d = _core._decode(bytes.fromhex('{message}'))\n"
    code(receive + "assert f() is type(c) and c.value == 7 and d['k'] is f")
    code("class C: value = 8\ndef f(): return 1\nF = f\n" + receive + "assert f is F and type(c) is C and d['k'] is f")


# ---- large things and buffers -------------------------------------------------------------------------------------------

class Holder:
    """Hands pickle its memory as a protocol-5 buffer."""
    def __init__(self, memory):
        self.memory = memory

    def __reduce_ex__(self, protocol):
        return Holder, (pickle.PickleBuffer(self.memory),)


@pytest.mark.parametrize("size", [0, 1, 100, 4095, 4096, 70_000, 1_000_000])
def test_buffer(size):
    content = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    got = through([Holder(bytearray(content)), Holder(content), Point(1, content)])
    assert got[0].memory == got[1].memory == got[2].y == content
    assert memoryview(got[1].memory).readonly and not memoryview(got[0].memory).readonly


def test_adopted_buffers():
    message = bytearray(core._encode([Holder(bytearray(b"a" * 10_000)), "x", Holder(b"b" * 5000), Holder(bytearray(9))]))
    got = core._decode(message, True)
    first, second, small = memoryview(got[0].memory), memoryview(got[2].memory), memoryview(got[3].memory)
    assert first == b"a" * 10_000 and second == b"b" * 5000 and small == bytes(9)
    assert not first.readonly and second.readonly
    at = message.index(b"a" * 10_000)
    assert at % 64 == message.index(b"b" * 5000) % 64 == 0
    first[0] = ord("!")
    assert message[at] == ord("!")  # it is the memory of the message


def test_numpy():
    numpy = pytest.importorskip("numpy")
    for a in (numpy.arange(100_000.0), numpy.zeros((30, 40, 5)), numpy.asfortranarray(numpy.arange(9000).reshape(90, 100)),
              numpy.arange(90_000)[::3], numpy.array(["a", None], dtype=object), numpy.float64(2.5)):
        message = bytearray(core._encode({"a": a, "b": [a]}))
        for got in core._decode(message), core._decode(message, True):
            assert got["a"] is got["b"][0] and type(got["a"]) is type(a)
            assert numpy.array_equal(got["a"], a) and got["a"].dtype == a.dtype
    got = core._decode(message := bytearray(core._encode(numpy.arange(5000))), True)
    assert got.flags.writeable and numpy.shares_memory(got, numpy.frombuffer(message, dtype="u1"))
    assert got.ctypes.data % 8 == numpy.frombuffer(message, dtype="u1").ctypes.data % 8
    fixed = numpy.arange(5000)
    fixed.flags.writeable = False
    assert not through(fixed).flags.writeable


def test_bytearray_can_be_resized_afterwards():
    data = bytearray(b"x" * 100_000)
    assert through(data) == data
    data.append(1)
    data.clear()


def test_large_objects_are_released():
    big = bytearray(100_000)
    holder = Holder(big)
    core._encode([holder, holder])
    big.append(0)  # BufferError while somebody holds it


# ---- hostile bytes ------------------------------------------------------------------------------------------------------

NO_MESSAGES = {
    "empty": b"",
    "unknown": b"\x3f",
    "unknown, marked": b"\x7f",
    "cut int": b"\x04\0\0",
    "trailing": b"\x00\x00",
    "huge string": b"\x11" + b"\xff" * 8,
    "huge wide string": b"\x14" + b"\xff\xff\xff\xff\xff\xff\xff\x3f",
    "huge tuple": b"\x19" + b"\xff" * 8,
    "huge list": b"\x1b" + (2**40).to_bytes(8, sys.byteorder) + b"\0" * 100,
    "huge dict": b"\x1d" + (2**63).to_bytes(8, sys.byteorder) + b"\0" * 100,
    "lists that each claim the rest": b"".join(b"\x1b" + (1000 - 9 * i).to_bytes(8, sys.byteorder) for i in range(50)) + bytes(700),
    "not ASCII": b"\x10\x02a\xff",
    "one not ASCII": b"\x10\x01\xff",
    "not Unicode": b"\x14" + (1).to_bytes(8, sys.byteorder) + b"\xff" * 4,
    "reference": b"\x08" + bytes(8),
    "reference to itself": b"\x58\x01\x08" + bytes(8),
    "list as key": b"\x1c\x01\x1a\x00\x00",
    "list in a tuple as key": b"\x1c\x01\x18\x01\x1a\x00\x00",
    "dict in a set": b"\x1e" + (1).to_bytes(8, sys.byteorder) + b"\x1c\x00",
    "deep": b"\x1a\x01" * 5000 + b"\0",
    "only a prefix": b"\x0c",
    "pickle cut": b"\x0d" + bytes(10),
    "pickle too long": b"\x0d" + bytes(7) + (9).to_bytes(8, sys.byteorder) + b"N.",
    "too many buffers": b"\x0d\0\0\0\xff\xff\xff\xff" + (2).to_bytes(8, sys.byteorder) + b"N." + bytes(64),
    "buffer too long": b"\x0d\0\0\0" + (1).to_bytes(4, sys.byteorder) + (2).to_bytes(8, sys.byteorder) + b"N." + b"\xff" * 80,
    "pickle in a list": b"\x1a\x01\x0d" + bytes(40),
}


@pytest.mark.parametrize("data", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_no_message(data):
    with pytest.raises(pickle.UnpicklingError, match="not a message"):
        core._decode(data)
    with pytest.raises(pickle.UnpicklingError, match="not a message"):
        core._decode(bytearray(data), True)


def test_every_prefix_and_extension_is_refused():
    message = core._encode([1, "abc", 2**70, {"k": (1.5, b"bytes", None)}, {4}, "é€", -300, 10**6, 10**12])
    for n in range(len(message)):
        with pytest.raises(pickle.UnpicklingError):
            core._decode(message[:n])
    with pytest.raises(pickle.UnpicklingError):
        core._decode(message + b"\0")


# ---- threads ------------------------------------------------------------------------------------------------------------

def test_mutation_by_other_threads():
    """Nothing crashes, and what arrives is a container of what was in it at one time or another."""
    items, mapping, some, data = [1, "a"], {"a": 1}, {1}, bytearray(b"abc")
    stop, errors = threading.Event(), []
    # Without the GIL 3.13's own bytearray corrupts memory where threads change one at the same time.
    changes_data = sys.version_info >= (3, 14) or getattr(sys, "_is_gil_enabled", lambda: True)()

    def mutate():
        i = 0
        while not stop.is_set():
            i += 1
            items.append(str(i))
            mapping[str(i)] = [i]
            some.add(i)
            if i % 50 == 0:
                items.clear(), mapping.clear(), some.clear()
            try:
                if changes_data:
                    data.append(i & 255)
                    if i % 50 == 0:
                        data.clear()
            except BufferError:
                pass

    def send():
        try:
            for _ in range(300):
                got = through([items, mapping, some, data, (items, mapping)])
                assert [type(g) for g in got] == [list, dict, set, bytearray, tuple] and got[4][0] is got[0]
        except BaseException as exc:
            errors.append(exc)
    mutators = [threading.Thread(target=mutate) for _ in range(2)]
    senders = [threading.Thread(target=send) for _ in range(3)]
    for t in mutators + senders:
        t.start()
    for t in senders:
        t.join()
    stop.set()
    for t in mutators:
        t.join()
    assert not errors
