"""Queues that work by the standard library's methods on native locks and connections.

For classes of programs that reach into the standard library's queue: that override a step of its feeder thread or use
its buffer, its locks or its semaphore in their own methods.  Whether a class does is found when it is made: by the names it
defines and by the names that its methods mention.  A step that is replaced on the class of the package itself
(``queues.Queue._feed = ...``) has the same effect on the queues that are made from then on.

Such a queue is an instance of the package's class all the same.  A method of that class which is called unbound, as in
``Queue.put(self, obj)``, finds the standard library's through ``_by_stdlib``.
"""
import sys
import types

from ._install import original

STDLIB = "multiprocessing.queues"

# The steps that the standard library's Queue consists of: whoever defines one wants it to be called.
STEPS = frozenset(["_feed", "_start_thread", "_finalize_join", "_finalize_close", "_reset"])

# What only exists where the standard library's methods are at work.
INTERNALS = STEPS | {
    "_buffer", "_notempty", "_thread", "_jointhread", "_joincancelled", "_close", "_send_bytes", "_recv_bytes",
    "_sem", "_rlock", "_wlock", "_cond", "_unfinished_tasks",
}

_PLAIN = frozenset(["__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__init_subclass__"])


def _mentioned(code):
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _mentioned(constant)


def _code_of(value):
    if isinstance(value, property):
        functions = (value.fget, value.fset, value.fdel)
    else:
        functions = (getattr(value, "__func__", value),)
    return [code for code in (getattr(function, "__code__", None) for function in functions) if code is not None]


def asks_for_internals(cls):
    """Whether the class *cls* itself, apart from its bases, defines or uses what only the standard library's queue has."""
    namespace = vars(cls)
    if not INTERNALS.isdisjoint(namespace):
        return True
    return any(not INTERNALS.isdisjoint(_mentioned(code)) for value in namespace.values() for code in _code_of(value))


def is_stock(function):
    """Whether *function* is the standard library's own, not what a program put in its place."""
    return getattr(function, "__globals__", None) is vars(sys.modules[STDLIB])


def with_globals(function, **names):
    """The standard library's *function* with other values for some of its global names; any other as it is."""
    if not is_stock(function):
        return function
    copy = types.FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__,
                              function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


class Machinery:
    """Mixed into the queues that work by the standard library's methods."""

    def put_many(self, iterable, timeout=None):
        """Puts every item of *iterable*, one after the other.  Returns how many; raises queue.Full with that number."""
        from queue import Full
        import time
        deadline = None if timeout is None else time.monotonic() + timeout
        count = 0
        for obj in iterable:
            try:
                self.put(obj, True, None if deadline is None else max(0.0, deadline - time.monotonic()))
            except Full:
                raise Full(count) from None
            count += 1
        return count

    def get_many(self, max_messages=None, timeout=None):
        """Waits up to *timeout* seconds for an item; returns it with those behind it that are there, in a list."""
        from queue import Empty
        if max_messages is not None and max_messages < 1:
            raise ValueError("max_messages must be at least 1")
        items = [self.get(True, timeout)]
        while max_messages is None or len(items) < max_messages:
            try:
                items.append(self.get(False))
            except Empty:
                break
        return items


def machinery(native, queue, parent):
    """Returns the class, a subclass of *native*, that works by the standard library's class of the same name.

    native: a class of ``mpfast.queues``; queue: its ``Queue``, which methods of the standard library are to see as theirs;
    parent: what they call the methods of their base class on, None for the standard library's own.
    """
    from . import connection
    stdlib = original(STDLIB, native.__name__)
    parent = parent or original(STDLIB, "Queue")

    def adapted(name):
        function = getattr(stdlib, name)
        if name == "__init__":
            function = with_globals(function, connection=connection, Queue=parent)
        elif name in ("__getstate__", "__setstate__"):
            function = with_globals(function, Queue=parent)
        return function

    namespace = {"__module__": native.__module__, "__qualname__": native.__qualname__, "__doc__": native.__doc__}
    for base in native.__mro__[:native.__mro__.index(stdlib)]:
        for name, value in vars(base).items():
            if name in _PLAIN or name in namespace:
                continue
            if hasattr(stdlib, name) and callable(getattr(stdlib, name)) and name not in vars(object):
                namespace[name] = adapted(name)
            elif hasattr(type(value), "__set__") or hasattr(type(value), "__get__") and not callable(value):
                namespace[name] = None  # an attribute of the instance
    for name in ("__init__", "__getstate__", "__setstate__"):
        if hasattr(stdlib, name):
            namespace[name] = adapted(name)

    def _by_stdlib(self, name):
        return types.MethodType(namespace[name] if name in namespace else getattr(stdlib, name), self)

    namespace["_by_stdlib"] = _by_stdlib
    if hasattr(stdlib, "_start_thread"):
        def _start_thread(self):
            # Steps that are replaced on the package's class are found there.
            with_globals(stdlib._start_thread, Queue=queue)(self)

        namespace["_start_thread"] = _start_thread
    for name in ("_poll", "_send_bytes", "_recv_bytes"):
        namespace.pop(name, None)
    return type(native)(native.__name__, (Machinery, native), namespace)


def give(cls, native, worker):
    """Put *worker*, the machinery of *native*, among the bases of *cls*, a new subclass of *native*."""
    if native in cls.__bases__:
        cls.__bases__ = tuple(worker if base is native else base for base in cls.__bases__)
    else:
        cls.__bases__ += (worker,)
