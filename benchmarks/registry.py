"""What a benchmark row is, the table of all rows, and how a command line selects from it.

A row is a generator function that takes an implementation (see :mod:`benchmarks.peers`), sets the work up, yields one
callable ``run(n)`` and cleans up when it is resumed.  ``run(n)`` does the work `n` times and returns the seconds it
took; in rows that do not measure time it returns the figure itself.
"""
from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import importlib
import timeit
from typing import Callable, Optional

#: The topics, in the order of the table; each is a module of :mod:`benchmarks.rows`.
GROUPS = ("locks", "values", "queues", "pipes", "pools", "processes", "managers")

SECONDS = "s"
SYSCALLS = "system calls"


class Unavailable(Exception):
    """An implementation cannot do the work of a row; the argument says why."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    key: selects the row, ``"lock.with"``.
    title: the work, as the table names it.
    group: its topic, one of :data:`GROUPS`.
    setup: the generator function.
    uses: what an implementation must provide to be asked: ``"mp"``, ``"queue"``, ``"pool"``, ``"executor"``, ``"dict"``.
    bar: the least ratio (time of the standard library / time of mpfast) that is aimed at, or None.
    at_most, at_least: a bound of the figure itself, or None.
    usual: what the standard library usually takes (seconds per operation, CPython 3.11 on two cores), or None.
    unit: what ``run`` returns: :data:`SECONDS`, :data:`SYSCALLS` or the name of another unit.
    n: how often the work is done in a sample, or None to find the number that fills the sample's time.
    quick_n: the same in quick mode.
    most: the limit of the number that is found.
    operations: how many operations one unit of `n` is.
    instructions: whether counting instructions makes sense (one process, nothing blocks).
    """

    key: str
    title: str
    group: str
    setup: Callable
    uses: str = "mp"
    bar: Optional[float] = None
    at_most: Optional[float] = None
    at_least: Optional[float] = None
    usual: Optional[float] = None
    unit: str = SECONDS
    n: Optional[int] = None
    quick_n: Optional[int] = None
    most: int = 10_000_000
    operations: int = 1
    instructions: bool = False

    @property
    def timed(self):
        return self.unit == SECONDS

    def prepared(self, implementation):
        """Context manager: the work set up for `implementation`; gives ``run``."""
        return contextlib.contextmanager(self.setup)(implementation)

    def result(self, outcome, n):
        """The figure per operation, from what ``run(n)`` returned."""
        if self.timed or self.unit == SYSCALLS:
            return outcome / (n * self.operations)
        return outcome


_rows = {}


def row(key, title, **attributes):
    """Decorator: enters a generator function in the table."""
    def enter(setup):
        add(key, title, setup, **attributes)
        return setup
    return enter


def add(key, title, setup, **attributes):
    """Enters `setup` in the table."""
    if key in _rows:
        raise ValueError(f"two rows are called {key}")
    group = setup.__module__.rpartition(".")[2]
    _rows[key] = Row(key, title, group, setup, **attributes)


def all_rows():
    """Every row, in the table's order."""
    for group in GROUPS:
        importlib.import_module(f"benchmarks.rows.{group}")
    return sorted(_rows.values(), key=lambda r: GROUPS.index(r.group))


def select(rows, patterns):
    """The rows that any of `patterns` names: a group, a key, the beginning of a key up to a dot, or a glob.

    Raises ValueError for a pattern that names none.
    """
    chosen = set()
    for pattern in patterns:
        matching = {r.key for r in rows if _matches(r, pattern)}
        if not matching:
            raise ValueError(f"no row or group is called {pattern!r}")
        chosen |= matching
    return [r for r in rows if r.key in chosen]


def _matches(r, pattern):
    return (pattern in (r.group, r.key) or r.key.startswith(pattern + ".") or fnmatch.fnmatchcase(r.key, pattern))


def timed(statement, **names):
    """``run(n)`` that executes the source text `statement` n times with `names` as its globals.

    The loop is timeit's, with the garbage collector left on as it is in programs.
    """
    return timeit.Timer(statement, "import gc; gc.enable()", globals=names).timeit


def statement(key, title, source, names, **attributes):
    """Enters a row whose work is `source`; ``names(implementation)`` gives its globals."""
    def setup(implementation):
        yield timed(source, **names(implementation))
    setup.__module__ = names.__module__
    add(key, title, setup, **attributes)
