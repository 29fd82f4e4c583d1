"""Values and arrays side by side with the standard library's: the same results, the same exceptions, the same memory."""
import array
import ctypes
import multiprocessing
import random
from fractions import Fraction

import pytest

import mpfast
from mpfast import _native

pytestmark = pytest.mark.skipif(not _native.ENABLED, reason="the native part is not there")

LETTERS = tuple("bBhHiIlLqQfdcu")
OTHERS = (ctypes.c_bool, ctypes.c_longdouble, ctypes.c_size_t, ctypes.c_int8, ctypes.c_uint64, ctypes.c_wchar)
TYPES = LETTERS + OTHERS
STEPS = 1500


class Indexable:
    def __index__(self):
        return 3


class Floatable:
    def __float__(self):
        return 2.5


class Number(int):
    pass


SCALARS = [0, 1, -1, 7, 255, 256, -128, 65535, 2**31 - 1, 2**31, -2**31, 2**32 + 5, 2**63, -2**63, 2**64 - 1, 10**30,
           10**400, True, False, 0.0, -0.0, 1.5, 1e300, 1e-320, float("inf"), float("nan"), None, "", "a", "\u20ac",
           "\U0001f600", "ab", b"", b"x", b"\0", b"xy", bytearray(b"z"), bytearray(b"zz"), Number(9), Indexable(),
           Floatable(), Fraction(1, 3), 1j, [], (1,), {}, object, ctypes.c_int(5), ctypes.c_char(b"q"), ctypes.c_double(2)]
INDICES = [0, 1, 4, 5, 6, -1, -5, -6, -7, 10**30, True, Indexable(), 1.0, None, "0", (0,)]


def outcome(act):
    """What came out: the value, told apart by type and (for NaN and -0.0) by repr, or the class of the exception."""
    try:
        result = act()
    except Exception as exc:
        return type(exc)
    return type(result), repr(result)


def assert_same(theirs, ours, act):
    expected, got = outcome(lambda: act(theirs)), outcome(lambda: act(ours))
    assert got == expected
    return expected


def memory(shared):
    return bytes(memoryview(shared.get_obj()).cast("B"))


def elements(shared):
    obj = shared.get_obj()
    return repr(list(obj) if hasattr(obj, "__len__") else obj.value)


def name(code):
    return code if isinstance(code, str) else code.__name__


@pytest.mark.parametrize("code", TYPES, ids=name)
def test_creating_a_value(code):
    for args in [(), (1, 2), *((scalar,) for scalar in SCALARS)]:
        assert (outcome(lambda: mpfast.Value(code, *args).value)
                == outcome(lambda: multiprocessing.Value(code, *args).value)), args


@pytest.mark.parametrize("code", TYPES, ids=name)
def test_value(code):
    theirs, ours = multiprocessing.Value(code), mpfast.Value(code)
    for scalar in SCALARS:
        assert_same(theirs, ours, lambda v: setattr(v, "value", scalar))
        assert_same(theirs, ours, lambda v: v.value)
        assert elements(ours) == elements(theirs)
        assert_same(theirs, ours, repr)
    assert_same(theirs, ours, lambda v: delattr(v, "value"))
    assert_same(theirs, ours, len)
    assert_same(theirs, ours, lambda v: v.raw)


@pytest.mark.parametrize("code", TYPES, ids=name)
@pytest.mark.parametrize("given", [0, 1, 5, True, -1, -2**70, 2**62, 10**30, 1.0, None, "", "abc", b"abc", b"", [], [1, 2],
                                   (1, None), ["a", "b"], [b"a", b"b"], range(3), {1: 2}, {1, 2}, [1.5, 2], iter([1]),
                                   array.array("i", [1, 2, 3]), array.array("d", [1, 2.5]), [Indexable()]], ids=repr)
def test_creating_an_array(code, given):
    assert (outcome(lambda: list(mpfast.Array(code, given).get_obj()))
            == outcome(lambda: list(multiprocessing.Array(code, given).get_obj())))


def random_sequence(rng, fitting, length):
    pick = rng.choice
    values = [pick(fitting) if rng.random() < 0.97 else pick(SCALARS) for _ in range(length)]
    kind = rng.randrange(8)
    if kind == 0:
        return tuple(values)
    if kind == 1:
        return range(length)
    if kind == 2:
        return bytes(rng.randrange(256) for _ in range(length))
    if kind == 3:
        return array.array(pick("bBhHiIlLqQfd"), [rng.randrange(100) for _ in range(length)])
    if kind == 4:
        return "xyz\u20ac"[:length] * (length > 0)
    return values


def random_step(rng, fitting):
    """An operation on an array of six elements."""
    bound = lambda: rng.choice([None, *range(-8, 9), 10**20])
    part = slice(bound(), bound(), rng.choice([None, None, 1, 2, 3, -1, -2, -7, 0]))
    kind = rng.randrange(7)
    if kind == 0:
        key = rng.choice(INDICES)
        return lambda a: a[key]
    if kind == 1:
        key, scalar = rng.choice(INDICES), rng.choice(SCALARS if rng.random() < 0.5 else fitting)
        return lambda a: a.__setitem__(key, scalar)
    if kind in (2, 3):
        return lambda a: a[part]
    if kind == 4:
        return lambda a: (list(a), len(a), list(reversed(a)), fitting[0] in a)
    try:
        length = len(range(6)[part])
    except ValueError:
        length = 3
    if rng.random() < 0.15:
        length += 1
    values = random_sequence(rng, fitting, length)
    return lambda a: a.__setitem__(part, values)


def fitting_values(code):
    kind = (multiprocessing.sharedctypes.typecode_to_type.get(code, code))._type_
    if kind in "fdg":
        return [0.0, 1.5, -2.25, 3, 1e300, float("inf")]
    if kind == "c":
        return [b"a", b"\0", b"\xff", 65, 0]
    if kind == "u":
        return ["a", "\u20ac", "\0"]
    return [0, 1, -1, 127, 200, 2**40, -2**70]


@pytest.mark.parametrize("code", TYPES, ids=name)
def test_random_steps_on_an_array(code):
    rng = random.Random(f"{name(code)} 1")
    fitting = fitting_values(code)
    theirs, ours = multiprocessing.Array(code, 6), mpfast.Array(code, 6)
    failed = done = 0
    for _ in range(STEPS):
        result = assert_same(theirs, ours, random_step(rng, fitting))
        if isinstance(result, type):
            # The standard library keeps what came before the bad element, mpfast changes nothing.
            ctypes.memmove(theirs.get_obj(), ours.get_obj(), ctypes.sizeof(ours.get_obj()))
            failed += 1
        else:
            assert elements(ours) == elements(theirs)
            done += 1
    assert failed > STEPS / 20 and done > STEPS / 3


@pytest.mark.parametrize("scalar", [b"", b"abc", b"abcdef", b"a\0b", b"abcdefg", "abc", None, 5, bytearray(b"ab"),
                                    memoryview(b"abc"), array.array("i", [1])], ids=repr)
def test_string(scalar):
    theirs, ours = multiprocessing.Array("c", b"------"), mpfast.Array("c", b"------")
    for attribute in ("value", "raw"):
        assert_same(theirs, ours, lambda a: setattr(a, attribute, scalar))
        assert memory(ours) == memory(theirs)
        assert_same(theirs, ours, lambda a: (a.value, a.raw, a[:], a[1:4], len(a)))
        assert_same(theirs, ours, lambda a: delattr(a, attribute))


def test_only_arrays_of_bytes_are_strings():
    for code in ("u", "b"):
        assert_same(multiprocessing.Array(code, 3), mpfast.Array(code, 3), lambda a: a.value)


@pytest.mark.parametrize("code", [None, "z", "ii", 5, int, object(), [], ctypes.c_void_p, ctypes.py_object], ids=repr)
def test_unusual_codes(code):
    for maker in ("Value", "RawValue"):
        assert (outcome(lambda: type(getattr(mpfast, maker)(code)).__name__)
                == outcome(lambda: type(getattr(multiprocessing, maker)(code)).__name__))
    for maker in ("Array", "RawArray"):
        assert (outcome(lambda: type(getattr(mpfast, maker)(code, 3)).__name__)
                == outcome(lambda: type(getattr(multiprocessing, maker)(code, 3)).__name__))


@pytest.mark.parametrize("lock", ["notalock", 0, object(), [], 1.5], ids=repr)
def test_what_is_no_lock(lock):
    for act in (lambda m: m.Value("i", lock=lock), lambda m: m.Array("i", 3, lock=lock)):
        assert outcome(lambda: act(mpfast)) == outcome(lambda: act(multiprocessing))


def test_deleting_elements():
    for part in (0, slice(0, 2), slice(None), "x"):
        assert_same(multiprocessing.Array("i", 3), mpfast.Array("i", 3), lambda a: a.__delitem__(part))
    shared = mpfast.Array("i", 3)
    with pytest.raises(AttributeError):
        del shared[0]
    assert shared[:] == [0, 0, 0]


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double), ("tags", ctypes.c_char * 4)]


class Flags(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint, 3), ("high", ctypes.c_uint, 5)]


class Tens(ctypes.c_int):
    pass


def test_other_ctypes():
    for act in (
        lambda m: (lambda p: (p.x, p.y, p.tags))(m.Value(Point, 1, 2.5, b"ab")),
        lambda m: (lambda p: (setattr(p, "x", 2**40), p.x, setattr(p, "tags", b"long-"), p.tags))(m.Value(Point)),
        lambda m: (lambda f: (f.low, f.high))(m.Value(Flags, 9, 2)),
        lambda m: m.Value(Point, "x"),
        lambda m: m.Value(Point, 1, 2, b"", 4),
        lambda m: m.Value(Point).z,
        lambda m: type(m.Value(Point)).__name__,
        lambda m: [(p.x, p.y) for p in m.Array(Point, [(1, 2), (3, 4)])],
        lambda m: m.Array(Point, 2)[1].x,
        lambda m: m.Value(Tens, 5).value,
        lambda m: type(m.Value(Tens, 5).get_obj()).__name__,
        lambda m: type(m.Array(Tens, 5)[0]).__name__,
        lambda m: m.Value(ctypes.c_int * 3, 1, 2, 3)[:],
        lambda m: m.Value(ctypes.c_char * 3, b"a").value,
        lambda m: m.Array(ctypes.c_short * 2, 3)[1][:],
        lambda m: m.Array(ctypes.c_int.__ctype_be__, 3)[:],
        lambda m: (lambda a: (a.__setitem__(1, 258), a[:]))(m.Array(ctypes.c_int.__ctype_be__, 3)),
    ):
        assert outcome(lambda: act(mpfast)) == outcome(lambda: act(multiprocessing))
