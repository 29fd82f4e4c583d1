"""Which pools work by the standard library's methods, on native queues.

Those of classes that reach into the standard library's pool: that override a step of its work (how queues are made, how
workers are started, what the handler threads do), or whose methods use its queues and threads.  And all pools that are
made while the worker's function itself is replaced (``multiprocessing.pool.worker = ...``).
"""
import functools
import multiprocessing.pool as module

from ._native import core
from ._queue_machinery import _code_of, _mentioned

# Whoever defines one of these wants it to be called.
STEPS = (
    "_setup_queues", "_repopulate_pool", "_repopulate_pool_static", "_maintain_pool", "_join_exited_workers",
    "_get_sentinels", "_get_worker_sentinels", "_get_tasks", "_guarded_task_generation", "_wait_for_updates",
    "_handle_workers", "_handle_tasks", "_handle_results", "_help_stuff_finish", "_terminate_pool", "_wrap_exception",
)

# What only exists where the standard library's methods are at work.
INTERNALS = frozenset([
    "_inqueue", "_outqueue", "_quick_put", "_quick_get", "_taskqueue", "_change_notifier", "_worker_handler",
    "_task_handler", "_result_handler", *STEPS,
])

_ABSENT = object()


def _defined(cls, name):
    """What *cls* or the first of its bases that has it defines as *name*, unbound."""
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return _ABSENT


@functools.cache
def _uses_internals(cls):
    return any(not INTERNALS.isdisjoint(_mentioned(code)) for value in vars(cls).values() for code in _code_of(value))


def is_stock(name):
    """Whether the standard library's function or class *name* is its own, not what a program put in its place."""
    value = vars(module)[name]
    return value.__module__ == module.__name__ and value.__qualname__ == name


class Judge:
    """Tells the pools of the class *native* and of its subclasses that are to work natively from the others."""

    def __init__(self, native):
        self._native = native
        self._steps = [(name, _defined(native, name)) for name in STEPS]
        places = [(vars(module), "worker"), *((native, name) for name in STEPS)]
        self._known = core.Definitions(tuple(places)) if is_stock("worker") else None

    def wants_machinery(self, cls):
        if cls is self._native and self._known is not None and self._known.hold():
            return False
        if not is_stock("worker"):
            return True
        for name, step in self._steps:
            if _defined(cls, name) is not step:
                return True
        return any(_uses_internals(base) for base in cls.__mro__[:cls.__mro__.index(self._native)])
