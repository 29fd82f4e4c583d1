"""Which executors work by the standard library's methods, on native locks and queues, and how.

Those of classes that override a step of its work (how workers are started, how its thread is) or whose methods use its
queues; those that are made while a program has replaced a part of the module ``concurrent.futures.process``; and those
whose context makes something else than processes.
"""
import functools
import multiprocessing.context
import multiprocessing.process
import types

import concurrent.futures.process as module

from ..._queue_machinery import _code_of, _mentioned

# Whoever defines one of these wants it to be called.
STEPS = ("_start_executor_manager_thread", "_adjust_process_count", "_launch_processes", "_spawn_process")

# What only exists where the standard library's methods are at work.
INTERNALS = frozenset([*STEPS, "_call_queue", "_result_queue", "_work_ids", "_idle_worker_semaphore",
                       "_executor_manager_thread_wakeup"])

# What the standard library's executor is made of.
PARTS = ("_ThreadWakeup", "_SafeQueue", "_ExecutorManagerThread", "_WorkItem", "_ResultItem", "_CallItem",
         "_process_chunk", "_sendback_result", "_process_worker", "_spawn_worker")

METHODS = ("fork", "spawn", "forkserver")

_ABSENT = object()


def _is_stock(value):
    """Whether *value*, a function or class of the module, is the standard library's own, methods included."""
    if not isinstance(value, type):
        return getattr(value, "__globals__", None) is vars(module)
    functions = [member for member in vars(value).values() if isinstance(member, types.FunctionType)]
    return value.__module__ == module.__name__ and all(map(_is_stock, functions))


def parts_are_stock():
    """Whether no part of the module has been replaced."""
    return all(_is_stock(vars(module)[name]) for name in PARTS if name in vars(module))


def makes_processes(context):
    """Whether *context* starts processes in one of the ways that a crew knows."""
    return (isinstance(context, multiprocessing.context.BaseContext)
            and isinstance(context.Process, type)
            and issubclass(context.Process, multiprocessing.process.BaseProcess)
            and context.get_start_method(allow_none=False) in METHODS)


@functools.cache
def _uses_internals(cls):
    return any(not INTERNALS.isdisjoint(_mentioned(code)) for value in vars(cls).values() for code in _code_of(value))


def _defined(cls, name):
    """What *cls* or the first of its bases that has it defines as *name*, unbound."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), _ABSENT)


class Judge:
    """Tells the executors of the class *native* and of its subclasses that are to work natively from the others."""

    def __init__(self, native, stdlib):
        self._native = native
        self._stdlib = stdlib
        self._steps = [(name, vars(native)[name], vars(stdlib).get(name)) for name in STEPS]

    def wants_machinery(self, cls):
        """For an executor of the class *cls* that is being made."""
        if not parts_are_stock():
            return True
        for name, native, stdlib in self._steps:
            if _defined(cls, name) is not native or vars(self._stdlib).get(name) is not stdlib:
                return True
        return any(_uses_internals(base) for base in cls.__mro__[:cls.__mro__.index(self._native)])

    @functools.cache
    def by_stdlib(self, cls):
        """The subclass of *cls* whose executors work by the standard library's methods."""
        namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        if cls is not self._native:
            return type(cls)(cls.__name__, (cls, self.by_stdlib(self._native)), namespace)
        for name, value in vars(cls).items():
            if name in vars(self._stdlib) and callable(value) and name not in ("__init__", "__doc__"):
                namespace.setdefault(name, vars(self._stdlib)[name])
            elif isinstance(value, property):
                namespace[name] = None  # an attribute of the instance
        return type(cls)(cls.__name__, (cls,), namespace)
