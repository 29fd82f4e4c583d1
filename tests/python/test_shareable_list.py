"""ShareableList: byte for byte the standard library's, whose methods are the measure for everything odd."""
import multiprocessing.shared_memory as stdlib
import pickle
import random
import struct
import subprocess
import sys

import pytest

import mpfast
from conftest import METHODS
from mpfast._install import original
from mpfast.shared_memory import ShareableList

StdlibList = original("multiprocessing.shared_memory", "ShareableList")
pytestmark = pytest.mark.skipif(ShareableList is StdlibList, reason="no native ShareableList here")

ITEMS = [1, -2**63, 2.5, float("inf"), "three", "drei ü", b"four", b"", "", None, True, False, 2**63 - 1, "x" * 100]


@pytest.fixture
def make():
    made = []

    def make(items):
        made.append(ShareableList(items))
        return made[-1]

    yield make
    for items in made:
        items.shm.close()
        items.shm.unlink()


@pytest.fixture
def both(make):
    """Function (items) -> a list of ours, and the standard library's class on a copy of its memory."""
    def both(items):
        ours = make(items)
        theirs = StdlibList.__new__(StdlibList)
        theirs.shm = make(items).shm
        theirs._list_len = len(theirs)
        theirs._allocated_offsets = list(ours._allocated_offsets)
        return ours, theirs

    return both


def outcome(call, *arguments):
    try:
        value = call(*arguments)
    except Exception as exc:
        return type(exc), str(exc)
    return type(value), value


def test_items(make):
    items = make(ITEMS)
    assert list(items) == ITEMS and len(items) == len(ITEMS)
    assert [type(item) for item in items] == [type(item) for item in ITEMS]
    assert items[-1] == ITEMS[-1] and repr(items) == f"ShareableList({ITEMS!r}, name={items.shm.name!r})"
    assert items.count("") == ITEMS.count("") and items.index("three") == 4
    with pytest.raises(ValueError):
        items.index("nowhere")


@pytest.mark.parametrize("index", [len(ITEMS), -len(ITEMS) - 1, 2**70, "x", 1.0, slice(2), None, True])
def test_odd_indices(both, index):
    ours, theirs = both(ITEMS)
    assert outcome(ours.__getitem__, index) == outcome(theirs.__getitem__, index)
    assert outcome(ours.__setitem__, index, 5) == outcome(theirs.__setitem__, index, 5)
    assert bytes(ours.shm.buf) == bytes(theirs.shm.buf)


VALUES = [0, -1, 2**63 - 1, 2**63, -2**70, 1.5, float("-inf"), True, False, None, "", "a", "12345678", "123456789", "ü" * 4,
          "ü" * 5, "x" * 200, b"", b"y", b"1234567\0", b"\0\0", b"z" * 200, "a\0b\0", "\ud800", 1j, [], object]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_every_value_in_every_place(both, value):
    ours, theirs = both(ITEMS)
    for index in range(len(ITEMS)):
        assert outcome(ours.__setitem__, index, value) == outcome(theirs.__setitem__, index, value), index
        assert bytes(ours.shm.buf) == bytes(theirs.shm.buf), index
        assert outcome(ours.__getitem__, index) == outcome(theirs.__getitem__, index), index
        assert ours.format == theirs.format


def test_a_long_walk(both):
    ours, theirs = both(ITEMS)
    dice = random.Random(5)
    for _ in range(3000):
        index, value = dice.randrange(-len(ITEMS), len(ITEMS)), dice.choice(VALUES)
        assert outcome(ours.__setitem__, index, value) == outcome(theirs.__setitem__, index, value)
    assert bytes(ours.shm.buf) == bytes(theirs.shm.buf)
    assert [outcome(ours.__getitem__, i) for i in range(len(ITEMS))] == \
        [outcome(theirs.__getitem__, i) for i in range(len(ITEMS))]


@pytest.mark.parametrize("word", [-1, 3, 2**40, 2**62, -2**63])
@pytest.mark.parametrize("where", [0, 1, 2, 3])
def test_memory_that_makes_no_sense(both, word, where):
    ours, theirs = both([1, "two", 3])
    for items in (ours, theirs):
        struct.pack_into("q", items.shm.buf, 8 * where, word)
    for index in range(3):
        # The standard library goes by the offsets that it read when it attached: anything but a crash will do.
        outcome(ours.__getitem__, index)
        outcome(ours.__setitem__, index, 5)


@pytest.mark.parametrize("format", [b"9999999s", b"sssssss", b"8s8s", b"q" * 8, b"", b"?"])
@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 255])
def test_formats_that_make_no_sense(both, format, code):
    ours, theirs = both([1, "two", 3])
    for items in (ours, theirs):
        struct.pack_into("8s", items.shm.buf, items._offset_packing_formats + 8, format)
        items.shm.buf[items._offset_back_transform_codes + 1] = code
    mine = outcome(ours.__getitem__, 1)
    if code != 3:  # None, whatever the format is
        assert mine == outcome(theirs.__getitem__, 1)


def test_closed(make):
    items = make([1, 2])
    name = items.shm.name
    items.shm.close()
    for use in (lambda: items[0], lambda: items.__setitem__(0, 1), lambda: len(items), lambda: list(items)):
        with pytest.raises(TypeError):
            use()
    items.shm = mpfast.shared_memory.SharedMemory(name)
    assert list(items) == [1, 2]


def test_deleting_an_item_is_not_possible(make):
    with pytest.raises((AttributeError, TypeError)):
        del make([1])[0]


def test_empty(make):
    items = make([])
    assert len(items) == 0 and list(items) == [] and items.format == ""
    with pytest.raises(IndexError):
        items[0]


def test_pickled(make):
    items = make([1, "two"])
    other = pickle.loads(pickle.dumps(items))
    other[0] = 11
    assert type(other) is ShareableList and list(items) == [11, "two"]
    other.shm.close()


class Doubling(ShareableList):
    def __getitem__(self, index):
        return super().__getitem__(index) * 2


def test_a_subclass(make):
    plain = make([1, "a"])
    items = Doubling(name=plain.shm.name)
    assert list(items) == [2, "aa"] and items[0] == 2
    items.shm.close()


def change(items):
    items[0] = "child"
    items.shm.close()


@pytest.mark.parametrize("method", METHODS)
def test_sent_to_a_child(make, method):
    items = make(["parent", 2])
    process = mpfast.get_context(method).Process(target=change, args=(items,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert list(items) == ["child", 2]


def test_with_the_standard_library_at_the_other_end(make):
    items = make(ITEMS)
    done = subprocess.run([sys.executable, "-c", STDLIB_SIDE, items.shm.name], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (ascii(ITEMS[4:9]) + "\n", "")
    assert items[4] == "other" and items[0] is None and items[9] == 99


STDLIB_SIDE = """
import sys
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import ShareableList
items = ShareableList(name=sys.argv[1])
print(ascii(list(items)[4:9]))
items[4] = "other"; items[0] = None; items[9] = 99
items.shm.close()
resource_tracker.unregister(items.shm._name, "shared_memory")
"""


def test_made_by_the_standard_library():
    theirs = stdlib.ShareableList(ITEMS)
    ours = ShareableList(name=theirs.shm.name)
    assert list(ours) == ITEMS
    ours[4] = "ours"
    assert theirs[4] == "ours"
    ours.shm.close()
    theirs.shm.close()
    theirs.shm.unlink()
