"""A mirror of :mod:`multiprocessing.managers` whose local managers make objects in shared memory.

The standard types of a :class:`SyncManager` that this process has started (dict, list, set, Namespace, Value, Array, Lock, RLock,
Semaphore, BoundedSemaphore, Condition, Event, Barrier, Queue, JoinableQueue) are proxies that are the shared object themselves: no
call of theirs goes through the server.  Nor does one of a Pool, which is in the process that asks for it.  Everything else
does, and is the standard library's on the wire in both directions: types that a program registers, managers that are connected
to.  A remote client sees the objects in shared memory, and the pools, through the server.  Differences from the standard library:

- The server's process is started when something needs it, unless the program can tell: with an address, an initializer, types
  of its own or a subclass that overrides how the server is run, ``start()`` starts it.
- The objects can be pickled at any time, live as long as anybody has them, and work on in other processes when the manager
  has shut down, but for calls that would have to wait, which raise EOFError; in the process of the manager all raise
  BrokenPipeError then.
- A Pool ends with the process that asked for it, and calls its callbacks there.
- Clients that say nothing, or garbage, are dropped; others are served meanwhile.
"""
from ._mirror import mirror
from ._native import native

mirror(__name__)

if native("Lock") is not None:
    import functools
    import multiprocessing.managers as _stdlib
    import os
    import threading
    import weakref
    from multiprocessing.process import current_process

    from . import _core, _managed, _managed_containers, _manager_server, connection, context, util
    from ._install import original

    _STDLIB = "multiprocessing.managers"
    _StdlibBaseManager = original(_STDLIB, "BaseManager")
    _StdlibSyncManager = original(_STDLIB, "SyncManager")
    _State = _stdlib.State

    __all__ = list(_stdlib.__all__)


    def _ClientOfStranger(address, family=None, authkey=None):
        """Returns a connection to a server that need not have this program's shared memory."""
        conn = connection.Client(address, family, authkey)
        conn.__class__ = _manager_server.ConnectionToStranger
        return conn


    def _telling(make):
        """The method *make*, whose proxies know who serves them."""
        @functools.wraps(make)
        def make_and_tell(self, /, *args, **kwds):
            proxy = make(self, *args, **kwds)
            if self._Client is _ClientOfStranger and isinstance(proxy, _stdlib.BaseProxy):
                proxy._Client = _ClientOfStranger
            return proxy

        return make_and_tell


    class BaseManager(_StdlibBaseManager):
        __doc__ = _StdlibBaseManager.__doc__
        _Server = _manager_server.Server

        @functools.wraps(_StdlibBaseManager.__init__)
        def __init__(self, *args, **kwargs):
            _StdlibBaseManager.__init__(self, *args, **kwargs)
            if not (args[3:] and args[3] or kwargs.get("ctx")):
                self._ctx = context._default_context.get_context()
            if self._serializer == "pickle":
                self._Listener, self._Client = connection.Listener, connection.Client

        def connect(self):
            """Use the server at ``address``; OSError: there is none, AuthenticationError: it has another key."""
            super().connect()
            if self._serializer == "pickle":
                self._Client = _ClientOfStranger

        @classmethod
        @functools.wraps(_StdlibBaseManager.register.__func__)
        def register(cls, typeid, *args, **kwargs):
            former = vars(cls).get(typeid)
            super().register(typeid, *args, **kwargs)
            make = vars(cls).get(typeid)
            if make is not former:
                setattr(cls, typeid, _telling(make))

        def get_server(self):
            """Returns the server, with ``serve_forever()`` and ``address``; ProcessError: it was started already."""
            if self._state.value != _State.INITIAL:
                return _StdlibBaseManager.get_server(self)  # raises
            return self._Server(self._registry, self._address, self._authkey, self._serializer)


    def _pool(*args, **kwargs):
        from .pool import Pool
        return Pool(*args, **kwargs)


    # What a program has to leave alone for the server to be started late, and for objects to be made without it.
    _OF_STARTING = ("_run_server", "_Server", "_finalize_manager", "get_server")
    _OF_MAKING = ("_create", "_Server")


    def _overrides(cls, names):
        own = cls.__mro__[:cls.__mro__.index(SyncManager)]
        return any(name in vars(base) for base in own for name in names)


    class SyncManager(BaseManager, _StdlibSyncManager):
        __doc__ = _StdlibSyncManager.__doc__

        _late = False  # the server is to be started when it is needed
        _makes = False  # the standard types are made here
        __address = __process = None

        @functools.wraps(_StdlibBaseManager.__init__)
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._made = weakref.WeakSet()
            self._starting = util.ForkAwareThreadLock()

        def start(self, initializer=None, initargs=()):
            """Have a server process for this manager.  ProcessError: it has or had one."""
            cls = type(self)
            if self._state.value != _State.INITIAL:
                return super().start(initializer, initargs)  # raises
            makes = not _overrides(cls, _OF_MAKING) and self._serializer == "pickle"
            self._ended = _core.Event(ctx=self._ctx)
            self._started_by = os.getpid()
            if initializer is None and makes and self.__address is None and not _overrides(cls, _OF_STARTING) and \
                    self._registry.keys() == SyncManager._stock.keys():
                self._late = True
                self._state.value = _State.STARTED
                self._finish_with(None)
            else:
                super().start(initializer, initargs)
                self._finish_with(self.shutdown)
            self._makes = makes

        def _finish_with(self, stop):
            """Set ``shutdown``, which calls *stop*, the finalizer of the server, if there is one."""
            args = stop, self._state, self._made, self._ended
            self.shutdown = util.Finalize(self, _shut_down, args=args, exitpriority=0)

        def _bring_up(self):
            """Start the server now, if that was put off."""
            if not self._late or self._state.value != _State.STARTED:
                return
            with self._starting:
                if not self._late:
                    return
                if current_process().daemon:
                    self.__address = self._serve_here()
                    self._late = False
                    return
                # Another manager of this class starts it, so that nobody sees this one without a server meanwhile.
                starter = self._starter = object.__new__(type(self))
                starter.__dict__.update(self.__dict__, _late=False, _state=_State())
                starter._state.value = _State.INITIAL
                _StdlibBaseManager.start(starter)
                self.__address, self.__process = starter.__address, starter.__process
                self._late = False
                self.shutdown.cancel()
                self._finish_with(starter.shutdown)

        def _serve_here(self):
            """Serve by threads of this process, which is a daemonic one and may have no children; returns the address."""
            server = self._Server(self._registry, None, self._authkey, self._serializer)
            server.stop_event = threading.Event()
            threading.Thread(target=server.accepter, daemon=True).start()
            return server.address

        def __take_address(self):
            self._bring_up()
            return self.__address

        def __put_address(self, address):
            self.__address = address

        def __take_process(self):
            self._bring_up()
            return self.__process

        def __put_process(self, process):
            self.__process = process

        _address = property(__take_address, __put_address)
        _process = property(__take_process, __put_process)

        def _create(self, typeid, /, *args, **kwds):
            self._bring_up()
            return super()._create(typeid, *args, **kwds)

        def join(self, timeout=None):
            """Wait until the server process has ended, if there is one."""
            if self.__process is not None:
                super().join(timeout)

        def _number_of_objects(self):
            made = len({proxy._id for proxy in self._made if "_adopted" not in proxy.__dict__})
            return made if self._late else made + super()._number_of_objects()

        def _debug_info(self):
            lines = [f"  {proxy._id}:       in shared memory\n    {str(proxy)[:75]}" for proxy in list(self._made)]
            return "\n".join(lines if self._late else [*lines, super()._debug_info()])


    def _shut_down(stop, state, made, ended):
        if stop is not None:
            stop()
        state.value = _State.SHUTDOWN
        for proxy in list(made):
            _managed.shut_down(proxy)
        _core.end(ended)
        if _managed.pools_were_made():
            from ._managed_pool_host import end_all
            end_all(ended)


    def _pools_are_native():
        from .pool import Pool, _judge
        return not _judge.wants_machinery(Pool)


    def _maker(typeid, by_server):
        """The method of SyncManager that makes a *typeid*; by_server: the standard library's."""
        def make(self, /, *args, **kwds):
            if not self._makes or self._registry[typeid] is not SyncManager._stock[typeid] or \
                    typeid == "Pool" and not _pools_are_native():
                return by_server(self, *args, **kwds)
            assert self._state.value == _State.STARTED, "server not yet started"
            util.debug("making a shared %r object", typeid)
            proxy = _managed.make(typeid, self, args, kwds)
            self._made.add(proxy)
            return proxy

        make.__name__ = typeid
        make.__qualname__ = f"SyncManager.{typeid}"
        return make


    SyncManager.register("Pool", _pool, _stdlib.PoolProxy)
    if "set" not in SyncManager._registry:
        SyncManager.register("set", set, exposed=_managed_containers.SET_METHODS,
                             method_to_typeid={"__iter__": "Iterator"})
    SyncManager._stock = SyncManager._registry
    for _typeid in SyncManager._stock:
        if _managed.is_made(_typeid):
            setattr(SyncManager, _typeid, _maker(_typeid, _telling(getattr(SyncManager, _typeid))))
    SyncManager._registry = SyncManager._stock.copy()

    _strays = None


    def manager_of_strays():
        """Returns the manager that serves objects whose own manager is in another process; its server runs."""
        global _strays
        if _strays is None or _strays[0] != os.getpid():
            manager = SyncManager()
            manager.start()
            _strays = os.getpid(), manager
        return _strays[1]


    if hasattr(_stdlib, "SharedMemoryManager"):
        from . import resource_tracker, shared_memory

        _StdlibSharedMemoryManager = original(_STDLIB, "SharedMemoryManager")

        class SharedMemoryManager(BaseManager, _StdlibSharedMemoryManager):
            __doc__ = _StdlibSharedMemoryManager.__doc__
            _Server = _manager_server.SharedMemoryServer

            def __init__(self, *args, **kwargs):
                # One tracker for this process and the server's.
                resource_tracker.ensure_running()
                super().__init__(*args, **kwargs)

            def get_server(self):
                """Returns the server; ProcessError: it was started already."""
                if self._state.value != _State.INITIAL:
                    return _StdlibSharedMemoryManager.get_server(self)  # raises
                return super().get_server()

            def SharedMemory(self, size):
                """Returns a new SharedMemory of *size* bytes, which is unlinked when the manager shuts down."""
                return self._tracked(shared_memory.SharedMemory(None, create=True, size=size))

            def ShareableList(self, sequence):
                """Returns a new ShareableList of the items of *sequence*, which is unlinked when the manager shuts down."""
                items = shared_memory.ShareableList(sequence)
                self._tracked(items.shm)
                return items

            def _tracked(self, memory):
                try:
                    with self._Client(self._address, authkey=self._authkey) as conn:
                        _stdlib.dispatch(conn, None, "track_segment", (memory.name,))
                except BaseException:
                    memory.unlink()
                    raise
                return memory
