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

def _is_stock(value):
    """Whether *value*, a function or class of the module, is the standard library's own, methods included."""
    if not isinstance(value, type):
        return getattr(value, "__globals__", None) is vars(module)
    functions = [member for member in vars(value).values() if isinstance(member, types.FunctionType)]
    return value.__module__ == module.__name__ and all(map(_is_stock, functions))


def parts_are_stock():
    """Whether no part of the module has been replaced."""
    return all(_is_stock(vars(module)[name]) for name in PARTS if name in vars(module))


def replaced_starter():
    """What the program has put in the place of ``_spawn_worker`` (CPython 3.14 and later), or None."""
    starter = vars(module).get("_spawn_worker")
    return None if starter is None or _is_stock(starter) else starter


def makes_processes(context):
    """Whether *context* starts processes in one of the ways that a crew knows."""
    return (isinstance(context, multiprocessing.context.BaseContext)
            and isinstance(context.Process, type)
            and issubclass(context.Process, multiprocessing.process.BaseProcess)
            and context.get_start_method(allow_none=False) in METHODS)


def _uses_internals(cls):
    return any(not INTERNALS.isdisjoint(_mentioned(code)) for value in vars(cls).values() for code in _code_of(value))


class Judge:
    """Tells the executors of the class *native* and of its subclasses that are to work natively from the others."""

    def __init__(self, native, stdlib):
        self._native = native
        self._stdlib = stdlib
        self._steps = [(name, vars(native)[name], vars(stdlib).get(name)) for name in STEPS]

    def asks_for_machinery(self, cls):
        """Whether the class *cls*, apart from its bases, overrides or uses what only the standard library's executor has."""
        if cls.__module__ == __name__ or issubclass(cls, self.by_stdlib(self._native)):
            return False
        return not INTERNALS.isdisjoint(vars(cls)) or _uses_internals(cls)

    def wants_machinery(self, cls):
        """Whether an executor of the class *cls* that is made now has to have it."""
        if issubclass(cls, self.by_stdlib(self._native)) or not parts_are_stock():
            return True
        return any(vars(self._native)[name] is not native or vars(self._stdlib).get(name) is not stdlib
                   for name, native, stdlib in self._steps)

    @functools.cache
    def by_stdlib(self, cls):
        """The subclass of *cls* whose executors work by the standard library's methods."""
        if cls is not self._native:
            return self._subclass((cls, self.by_stdlib(self._native)), {})
        namespace = {}
        for name, value in vars(cls).items():
            if name in vars(self._stdlib) and callable(value) and name not in ("__init__", "__doc__"):
                namespace[name] = vars(self._stdlib)[name]
            elif isinstance(value, property):
                namespace[name] = None  # an attribute of the instance
        return self._subclass((cls,), namespace)

    @staticmethod
    def _subclass(bases, namespace):
        cls = bases[0]

        def name_it(namespace_of_class):
            namespace_of_class.update(namespace, __module__=__name__, __qualname__=cls.__qualname__, __doc__=cls.__doc__)

        made = types.new_class(cls.__name__, bases, {}, name_it)
        made.__module__ = cls.__module__
        return made
