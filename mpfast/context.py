"""A mirror of :mod:`multiprocessing.context` whose contexts make the objects of this package.

Which start method a process uses is kept in one place, the standard library's default context: set through either
package, it is the same for both, and it reaches children as it always did.
"""
import copyreg
import multiprocessing.context as _stdlib
import sys

from . import _native
from ._mirror import import_module, mirror

mirror(__name__)

__all__ = ()


class _Submodules:
    """This package's modules as attributes, imported when first asked for; cheaper than an import statement each time."""

    def __getattr__(self, name):
        module = self.__dict__[name] = import_module(f"{__package__}.{name}")
        return module


_submodules = _Submodules()


class _Factories:
    """The factory methods of a context, each of which looks its class up when it is called."""

    def cpu_count(self, logical=True, available=False):
        """Returns the number of processors of this machine.

        logical: count hardware threads; false, count cores.  available: count those only that this process may run on, and
        no more than its control groups' share of time is worth (rounded up).  NotImplementedError where it is unknown.
        """
        from ._cpus import count
        return count(logical, available)

    def Manager(self):
        """Returns a manager associated with a running server process."""
        from .managers import SyncManager
        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex=True):
        """Returns two connection objects, the ends of a pipe; with *duplex* false (reader, writer)."""
        return _submodules.connection.Pipe(duplex)

    def Lock(self):
        """Returns a non-recursive lock."""
        return _submodules.synchronize.Lock(ctx=self.get_context())

    def RLock(self):
        """Returns a recursive lock."""
        return _submodules.synchronize.RLock(ctx=self.get_context())

    def Condition(self, lock=None):
        """Returns a condition on *lock* (an RLock of its own by default)."""
        return _submodules.synchronize.Condition(lock, ctx=self.get_context())

    def Semaphore(self, value=1):
        """Returns a semaphore with *value* permits."""
        return _submodules.synchronize.Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value=1):
        """Returns a semaphore with *value* permits that cannot be released above that."""
        return _submodules.synchronize.BoundedSemaphore(value, ctx=self.get_context())

    def Event(self):
        """Returns an event that is not set."""
        return _submodules.synchronize.Event(ctx=self.get_context())

    def Barrier(self, parties, action=None, timeout=None):
        """Returns a barrier for *parties*; one of them calls *action*; *timeout* (seconds) is the default of wait()."""
        return _submodules.synchronize.Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize=0):
        """Returns a queue of at most *maxsize* items (0: no bound)."""
        return _submodules.queues.Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize=0):
        """Returns a queue of at most *maxsize* items with task_done() and join()."""
        return _submodules.queues.JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self):
        """Returns a queue with get(), put() and empty() only."""
        return _submodules.queues.SimpleQueue(ctx=self.get_context())

    def Pool(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, *,
             max_memory_per_child=None):
        """Returns a pool of *processes* workers (the number of CPUs by default); see :class:`mpfast.pool.Pool`."""
        return _submodules.pool.Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context(),
                                     max_memory_per_child=max_memory_per_child)

    def RawValue(self, typecode_or_type, *args):
        """Returns a shared ctypes object."""
        return _submodules.sharedctypes.RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type, size_or_initializer):
        """Returns a shared ctypes array."""
        return _submodules.sharedctypes.RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type, *args, lock=True):
        """Returns a shared ctypes object with a lock."""
        return _submodules.sharedctypes.Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type, size_or_initializer, *, lock=True):
        """Returns a shared ctypes array with a lock."""
        return _submodules.sharedctypes.Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def get_context(self, method=None):
        """Returns the context of the start method *method* (this one by default); ValueError for an unknown method."""
        if method is None:
            return self
        context = _concrete_contexts.get(method)
        if context is None:
            # Start methods that a program added to the standard library's table.
            return super().get_context(method)
        context._check_available()
        return context


class _Process:
    """What the process classes have beyond the standard library's."""

    def interrupt(self):
        """Terminate process; sends SIGINT signal"""
        self._check_closed()
        self._popen.interrupt()

    def __reduce_ex__(self, protocol):
        # Read by a child as the standard library's own class, of which the child has what it needs: it
        # imports this package only if the program does.
        cls = _counterparts.get(type(self))
        if cls is None:
            return super().__reduce_ex__(protocol)
        return copyreg._reconstructor, (cls, object, None), self.__dict__


class Process(_Process, _stdlib.Process):
    _start_method = None

    @staticmethod
    def _Popen(process_obj):
        return _default_context.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork():
        return _default_context.get_context().Process._after_fork()


class DefaultContext(_Factories, _stdlib.DefaultContext):
    """The context of the start method in force.

    The one behind the functions of the package keeps no state: it reads and writes the standard library's.
    """

    Process = Process
    _own_state = None

    def __init__(self, context):
        self._own_state = _stdlib.DefaultContext(context)

    @classmethod
    def _of_the_process(cls):
        return cls.__new__(cls)

    @property
    def _state(self):
        return self._own_state or _stdlib._default_context

    @property
    def _default_context(self):
        return _counterpart(self._state._default_context)

    @property
    def _actual_context(self):
        return _counterpart(self._state._actual_context)

    @_actual_context.setter
    def _actual_context(self, context):
        if context is not None and _concrete_contexts.get(context._name) is context:
            context = _stdlib._concrete_contexts.get(context._name, context)
        self._state._actual_context = context

    def get_context(self, method=None):
        if method is None:
            context = (self._own_state or _stdlib._default_context).get_context()
            return _counterpart(context)
        return super().get_context(method)


def _counterpart(context):
    """This package's context for the standard library's; any other is returned as it is."""
    if type(context).__module__ == _stdlib.__name__:
        return _concrete_contexts.get(context._name, context)
    return context


_counterparts = {Process: _stdlib.Process}  # class here -> class of the standard library


class _ConcreteContexts(dict):
    """Start method -> context.  Methods that a program adds, here or in the standard library's table, are in both."""

    def __setitem__(self, method, context):
        super().__setitem__(method, context)
        _stdlib._concrete_contexts[method] = context

    def __missing__(self, method):
        return _stdlib._concrete_contexts[method]


_concrete_contexts = _ConcreteContexts()

if sys.platform != "win32":

    class ForkProcess(_Process, _stdlib.ForkProcess):
        @staticmethod
        def _Popen(process_obj):
            return _submodules.popen_fork.Popen(process_obj)

    class SpawnProcess(_Process, _stdlib.SpawnProcess):
        @staticmethod
        def _Popen(process_obj):
            return _submodules.popen_spawn_posix.Popen(process_obj)

    class ForkServerProcess(_Process, _stdlib.ForkServerProcess):
        @staticmethod
        def _Popen(process_obj):
            return _submodules.popen_forkserver.Popen(process_obj)

    class ForkContext(_Factories, _stdlib.ForkContext):
        Process = ForkProcess

    class SpawnContext(_Factories, _stdlib.SpawnContext):
        Process = SpawnProcess

    class ForkServerContext(_Factories, _stdlib.ForkServerContext):
        Process = ForkServerProcess

    _counterparts.update({ForkProcess: _stdlib.ForkProcess, SpawnProcess: _stdlib.SpawnProcess,
                          ForkServerProcess: _stdlib.ForkServerProcess})
    _concrete_contexts.update(fork=ForkContext(), spawn=SpawnContext(), forkserver=ForkServerContext())

_default_context = DefaultContext._of_the_process()

if not _native.ENABLED:
    sys.modules[__name__] = _stdlib
