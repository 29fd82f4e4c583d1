"""Random objects, with sharing and cycles, come out as they would of pickle; random bytes do no harm."""
import pickle

import pytest

core = pytest.importorskip("mpfast._core")
hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings, strategies as st  # noqa: E402

settings.register_profile("codec", deadline=None, max_examples=100, print_blob=True)
settings.load_profile("codec")

ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-300, 300), st.integers(-2**70, 2**70), st.floats(),
    st.text(max_size=20), st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
    st.text(alphabet=st.characters(), max_size=10), st.binary(max_size=40),
    st.builds(lambda c, n: c * n, st.sampled_from("aé€😀"), st.integers(0, 9000)),
    st.builds(lambda n: b"\0" * n, st.integers(0, 9000)),
    st.complex_numbers(), st.builds(range, st.integers(0, 5)))
HASHABLE = st.recursive(ATOMS.filter(lambda atom: atom == atom), lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
TREES = st.recursive(
    ATOMS | st.binary(max_size=50).map(bytearray),
    lambda inner: st.lists(inner, max_size=6) | st.lists(inner, max_size=6).map(tuple) |
    st.dictionaries(HASHABLE, inner, max_size=6) | st.sets(HASHABLE, max_size=5) | st.frozensets(HASHABLE, max_size=5),
    max_leaves=30)

MUTABLE = "list", "dict", "bytearray"
KINDS = st.sampled_from(MUTABLE + ("tuple", "tuple", "str", "bytes", "set", "frozenset", "object"))


class Thing:
    """An object that only pickle can send."""


@st.composite
def graphs(draw):
    """A list of nodes of which any mutable one may refer to any node, any other one to nodes before it."""
    kinds = draw(st.lists(KINDS, min_size=1, max_size=12))
    if not draw(st.booleans()):
        kinds = [kind for kind in kinds if kind != "object"] or ["list"]
    nodes = []
    for kind in kinds:
        chosen = [nodes[i] for i in draw(st.lists(st.integers(0, len(nodes) - 1), max_size=4))] if nodes else []
        keys = [node for node in chosen if isinstance(node, (str, bytes))]
        nodes.append({"list": list, "dict": dict, "object": Thing, "bytearray": lambda: bytearray(b"data"),
                      "tuple": lambda: tuple(chosen + [len(nodes)]), "str": lambda: "text %d" % len(nodes),
                      "bytes": lambda: b"bytes %d" % len(nodes), "set": lambda: set(keys),
                      "frozenset": lambda: frozenset(keys + [len(nodes)])}[kind]())
    for node in nodes:
        targets = [nodes[i] for i in draw(st.lists(st.integers(0, len(nodes) - 1), max_size=4))]
        if type(node) is list:
            node.extend(targets)
        elif type(node) is dict:
            for n, target in enumerate(targets):
                node[n if isinstance(target, (list, dict, bytearray, set, tuple, Thing)) else target] = target
        elif type(node) is Thing:
            node.held = targets
    return draw(st.sampled_from(nodes)) if draw(st.booleans()) else nodes


def shape(obj):
    """The graph of obj as a list: each object at its first visit, its number at later ones."""
    seen, out, todo = {}, [], [obj]
    while todo:
        node = todo.pop()
        if type(node) in (int, bool, float, complex, range, type(None)):
            out.append((type(node), repr(node)))
            continue
        if id(node) in seen and len(node if type(node) is not Thing else "xx") > (1 if type(node) in (str, bytes) else 0):
            out.append(("again", seen[id(node)]))
            continue
        seen.setdefault(id(node), len(seen))
        if type(node) is Thing:
            out.append(Thing)
            todo.append(node.__dict__)
            continue
        out.append((type(node), len(node)))
        if type(node) is dict:
            for key, value in node.items():
                todo += [value, key]
        elif type(node) in (set, frozenset):
            todo += sorted(node, key=repr)
        elif type(node) in (list, tuple):
            todo += reversed(node)
        else:
            out.append(node)
    return out


def content(obj):
    """What is in obj, with types, in a form that == compares: NaN equals NaN, 1 is not True, sets have no order."""
    if isinstance(obj, (set, frozenset)):
        return type(obj), sorted(map(repr, map(content, obj)))
    if isinstance(obj, (list, tuple)):
        return type(obj), [content(item) for item in obj]
    if isinstance(obj, dict):
        return type(obj), [(content(key), content(value)) for key, value in obj.items()]
    return type(obj), repr(obj)


@given(TREES)
def test_trees(obj):
    message = core._encode(obj)
    want = content(obj)
    assert content(core._decode(message)) == want
    assert content(core._decode(bytearray(message), True)) == want


@given(graphs())
def test_graphs(obj):
    want = shape(pickle.loads(pickle.dumps(obj, 5)))
    assert shape(core._decode(core._encode(obj))) == want


@given(graphs(), graphs())
def test_messages_are_independent(first, second):
    one, two = core._encode(first), core._encode(second)
    assert shape(core._decode(one)) == shape(pickle.loads(pickle.dumps(first, 5)))
    assert shape(core._decode(two)) == shape(pickle.loads(pickle.dumps(second, 5)))


def decode_anything(data):
    """Nothing but an object or a refusal comes of it.  Pickles are left out: pickle itself promises nothing for them."""
    if data[:1] in (b"\x0c", b"\x0d", b"\x0e") or b"\x09" in data or b"\x49" in data:
        return
    try:
        obj = core._decode(data)
    except pickle.UnpicklingError as exc:
        assert "not a message" in str(exc)
    else:
        try:
            again = core._decode(core._encode(obj))
        except RecursionError:
            return
        assert type(again) is type(obj)


@given(st.binary(max_size=200))
def test_random_bytes(data):
    decode_anything(data)


@given(st.lists(st.sampled_from([bytes([op]) for op in [*range(32), *range(80, 96), 0x81, 0xff]] +
                                [bytes([op, n]) for op in (0x10, 0x15, 0x18, 0x1a, 0x1c, 0x58, 0x5a, 0x5c) for n in (0, 1, 2, 3)] +
                                [bytes([8, n]) + bytes(7) for n in range(12)] + [bytes(7), b"ab", b"\x01" + bytes(7)]),
                max_size=40))
@settings(max_examples=300)
def test_random_operations(parts):
    decode_anything(b"".join(parts))


@given(TREES | graphs(), st.data())
def test_damaged_messages(obj, data):
    message = bytearray(core._encode(obj))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(message) - 1))
        match data.draw(st.sampled_from("sid")):
            case "s":
                message[at] = data.draw(st.integers(0, 255))
            case "i":
                message[at:at] = data.draw(st.binary(max_size=9))
            case "d" if len(message) > 1:
                del message[at:at + data.draw(st.integers(1, 9))]
        if not message:
            return
    decode_anything(bytes(message))
