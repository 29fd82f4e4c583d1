"""Value and Array."""
from __future__ import annotations

from benchmarks.registry import SYSCALLS, row, statement, timed

LENGTH = 100_000


def _value(impl):
    return {"v": impl.fork.Value("i", 0)}


def _array(impl):
    return {"a": impl.fork.Array("d", LENGTH)}


def _context(impl):
    return {"mp": impl.fork}


_INCREMENT = "with v.get_lock(): v.value += 1"

statement("value.get", "`v.value` get", "v.value", _value, bar=5, usual=208e-9, instructions=True)
statement("value.set", "`v.value` set", "v.value = 5", _value, bar=4.5, instructions=True)
statement("value.increment", f"`{_INCREMENT}`", _INCREMENT, _value, bar=3, usual=865e-9, instructions=True)
statement("value.create", "create a Value('i')", "mp.Value('i')", _context, bar=30, usual=81e-6, instructions=True)
statement("array.create", "create an Array('i', 100)", "mp.Array('i', 100)", _context, bar=20, usual=69e-6,
          instructions=True)
statement("array.get", "Array('d') item get", "a[7]", _array, bar=10, usual=695e-9, instructions=True)
statement("array.set", "Array('d') item set", "a[7] = 1.5", _array, bar=10, instructions=True)


@row("array.iterate", "Array('d') iterate 1e5 items, each", bar=12, usual=613e-9, operations=LENGTH)
def iterate(impl):
    yield timed("for item in a: pass", **_array(impl))


@row("array.slice", "Array('d') slice of 1e5", bar=1.2)
def slice_get(impl):
    yield timed("a[:]", **_array(impl))


@row("array.slice_assign", "Array('d') slice assignment of 1e5", bar=2.5)
def slice_assign(impl):
    yield timed("a[:] = data", data=[float(i) for i in range(LENGTH)], **_array(impl))


def _system_calls(key, title, source, names):
    statement(f"{key}.syscalls", f"system calls: {title}", source, names,
              unit=SYSCALLS, at_most=0, n=2_000, quick_n=10)


_system_calls("value", f"`{_INCREMENT}`", _INCREMENT, _value)
_system_calls("array", "Array('d') item get and set", "a[7] = a[8]", _array)
_system_calls("value.create", "create and drop a Value('i')", "mp.Value('i')", _context)
_system_calls("array.create", "create and drop an Array('i', 100)", "mp.Array('i', 100)", _context)
