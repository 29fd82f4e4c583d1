"""Managers, shared dicts, and shared_memory."""
from __future__ import annotations

import contextlib

from benchmarks.crew import Crew
from benchmarks.registry import SYSCALLS, Unavailable, add, row, timed

#: Entries of a shared dict.
ENTRIES = 100


def _managed(key, title, source, make, **attributes):
    """A row on something that a manager of this process has made: ``make(manager)`` gives the names in `source`."""
    def setup(impl):
        with impl.fork.Manager() as manager:
            yield timed(source, **make(manager))
    add(key, title, setup, **attributes)


def _filled(shared):
    for i in range(ENTRIES):
        shared[f"key{i}"] = i
    return shared


def _managed_dict(manager):
    return {"d": _filled(manager.dict())}


def _managed_list(manager):
    return {"l": manager.list(range(ENTRIES))}


@row("dict.get", "manager dict get", uses="dict", bar=70, usual=61e-6)
def dict_get(impl):
    with impl.dict() as shared:
        yield timed("d['key7']", d=_filled(shared))


@row("dict.set", "manager dict set", uses="dict", bar=60, usual=64e-6)
def dict_set(impl):
    with impl.dict() as shared:
        yield timed("d['key7'] = 5", d=_filled(shared))


def _list_append(impl):
    with impl.fork.Manager() as manager:
        def run(n):
            return timed("append(5)", append=manager.list().append)(n)
        yield run


def _namespace(manager):
    namespace = manager.Namespace()
    namespace.x = 5
    return {"namespace": namespace}


_managed("list.get", "manager list get", "l[7]", _managed_list, bar=70)
add("list.append", "manager list append", _list_append, bar=60, most=200_000)
_managed("manager.value.get", "manager Value get", "v.value", lambda m: {"v": m.Value("i", 5)}, bar=100)
_managed("manager.namespace.get", "manager Namespace get", "namespace.x", _namespace, bar=70)
_managed("manager.lock", "manager Lock acquire+release", "lock.acquire(); lock.release()", lambda m: {"lock": m.Lock()},
         bar=200, usual=128e-6)
_managed("manager.queue", "manager Queue put+get", "q.put(1); q.get()", lambda m: {"q": m.Queue()}, bar=150,
         usual=159e-6)
_managed("manager.event", "manager Event.is_set", "event.is_set()", lambda m: {"event": m.Event()}, bar=200)
_managed("manager.dict.create", "manager: a new dict", "m.dict()", lambda m: {"m": m}, bar=100, usual=2.5e-3)


def _shared_dict(key, title, source, bar):
    """The same on a dict that needs no manager; the reference is the standard library's managed one."""
    def setup(impl):
        with _without_manager(impl) as shared:
            yield timed(source, d=_filled(shared))
    add(key, title, setup, uses="dict", bar=bar)


@contextlib.contextmanager
def _without_manager(impl):
    if impl.name != "mpfast":
        with impl.dict() as shared:
            yield shared
        return
    import mpfast
    try:
        make = mpfast.SharedDict
    except AttributeError:
        raise Unavailable("has no SharedDict") from None
    yield make()


_shared_dict("shareddict.get", "SharedDict get, against a managed dict", "d['key7']", bar=70)
_shared_dict("shareddict.set", "SharedDict set, against a managed dict", "d['key7'] = 5", bar=60)


def _together(key, title, source, shared_writers, **attributes):
    """Four processes at one dict."""
    processes = 4

    def setup(impl):
        with impl.dict(shared_writers) as shared:
            # Each process makes its own connection to a manager's server, as processes of a program do.
            with Crew(impl.fork, *[timed(source, d=_filled(shared))] * processes) as crew:
                yield crew.elapsed
    add(key, title, setup, uses="dict", operations=processes, **attributes)


_together("dict.readers4", "four processes reading one managed dict, each get", "d['key7']", False, bar=110)
_together("dict.mixed4", "four processes reading and writing one managed dict, each pair", "d['key7']; d['key8'] = 5",
          True, bar=60)


@row("manager.start", "start a Manager, and stop it", bar=10, most=50)
def manager_start(impl):
    yield timed("mp.Manager().shutdown()", mp=impl.fork)


def _system_calls(key, title, source, make):
    _managed(f"{key}.syscalls", f"system calls: {title}", source, make,
             unit=SYSCALLS, at_most=0, n=500, quick_n=20)


_system_calls("dict.get", "managed dict get", "d['key7']", _managed_dict)
_system_calls("dict.set", "managed dict set", "d['key7'] = 5", _managed_dict)
_system_calls("list.get", "managed list get", "l[7]", _managed_list)
_system_calls("list.set", "managed list set", "l[7] = 5", _managed_list)


@row("shm.create", "create and unlink a SharedMemory", bar=2, usual=42e-6)
def shm_create(impl):
    yield timed("shm = SharedMemory(create=True, size=4096); shm.close(); shm.unlink()",
                SharedMemory=impl.submodule("shared_memory").SharedMemory)


@row("shm.attach", "attach to a SharedMemory", bar=2, usual=22e-6)
def shm_attach(impl):
    make = impl.submodule("shared_memory").SharedMemory
    shared = make(create=True, size=4096)
    yield timed("SharedMemory(name).close()", SharedMemory=make, name=shared.name)
    shared.close()
    shared.unlink()


def _shareable_list(key, title, source, **attributes):
    def setup(impl):
        shared = impl.submodule("shared_memory").ShareableList([1, 2.5, "three", b"four", None, True, 7, 8])
        yield timed(source, l=shared)
        shared.shm.close()
        shared.shm.unlink()
    add(key, title, setup, **attributes)


_shareable_list("shareablelist.get", "ShareableList get (a str)", "l[2]", bar=8, usual=3.0e-6, instructions=True)
_shareable_list("shareablelist.set", "ShareableList set", "l[6] = 5", bar=8, usual=5.2e-6, instructions=True)
