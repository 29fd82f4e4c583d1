"""Putting this package's classes in the place of the standard library's.

REPLACED says which names of which module are replaced.  A module is patched when it is loaded (at once if it is loaded
already), so that installing costs nothing for what a program does not use.  After that, globals of other modules that
*are* a replaced object are rebound too, for modules that were imported before.

Children: under fork they inherit all of this; under spawn and forkserver the preparation data that every child reads
first carries an object whose unpickling installs.

Rules for a replacement: it reaches the original through :func:`original`, never through the patched module, and does
not subclass a patched name.  Where programs call a method of the original unbound with an instance of their own
subclass (``Queue.__init__(self, ctx=ctx)``), the replacement passes instances of the original on to the original.
"""
import os
import sys
import types
from _thread import get_ident
from importlib import import_module

from . import _late, _native

# Module of the standard library -> names in it that this package may replace.  The replacement is what this package's
# module of the same name defines; a name that it only hands through is left alone.
REPLACED = {
    "multiprocessing.synchronize": (
        "Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier",
    ),
    "multiprocessing.queues": ("Queue", "JoinableQueue", "SimpleQueue"),
    "multiprocessing.connection": (
        "Connection", "Pipe", "Listener", "Client", "SocketListener", "SocketClient", "wait",
    ),
    "multiprocessing.sharedctypes": (
        "RawValue", "RawArray", "Value", "Array", "copy", "synchronized", "reduce_ctype", "rebuild_ctype",
        "SynchronizedBase", "Synchronized", "SynchronizedArray", "SynchronizedString",
    ),
    "multiprocessing.shared_memory": ("SharedMemory", "ShareableList"),
    "multiprocessing.heap": ("Arena", "Heap", "BufferWrapper"),
    "multiprocessing.pool": ("Pool", "ThreadPool"),
    "multiprocessing.managers": ("BaseManager", "SyncManager", "SharedMemoryManager"),
    "multiprocessing.popen_fork": ("Popen",),
    "multiprocessing.popen_spawn_posix": ("Popen",),
    "multiprocessing.popen_forkserver": ("Popen",),
    "concurrent.futures.process": ("ProcessPoolExecutor",),
}

_SPAWN = "multiprocessing.spawn"
_HOOKED = frozenset([*REPLACED, _SPAWN])
_COUNTERPARTS = {f"mpfast.{module.removeprefix('multiprocessing.')}": module for module in REPLACED}

_OWN = f"{__package__}."
_ABSENT = object()
_installed = False
_patched: dict = {}  # (module of the standard library, name) -> (original, replacement)
_rebound: list = []  # (namespace of another module, name, original, replacement)
_loading: set = set()  # modules that _Loader is running now
_deferred: list = []  # modules to be patched when those of this package among them have been run
_stdlib_preparation_data = None  # the function that _get_preparation_data() stands in front of


def original(module, name):
    """What the standard library's *module* (its full name) defines as *name*, whether it is replaced now or not."""
    __import__(module)
    if (module, name) in _patched:
        return _patched[module, name][0]
    return getattr(sys.modules[module], name)


def install():
    """See :func:`mpfast.install`."""
    global _installed
    if not _native.ENABLED:
        return False
    if not _installed:
        _installed = True
        sys.meta_path.insert(0, finder)
        for module in _HOOKED:
            _late.after(module, lambda _, module=module: _installed and _patch(module))
        _rebind()
    return True


def uninstall():
    """See :func:`mpfast.uninstall`."""
    global _installed
    if not _installed:
        return
    _installed = False
    sys.meta_path.remove(finder)
    _rebind_lazily_loaded_executor()
    while _rebound:
        namespace, name, former, replacement = _rebound.pop()
        _put_back(namespace, name, former, replacement)
    while _patched:
        (module, name), (former, replacement) = _patched.popitem()
        _put_back(vars(sys.modules[module]), name, former, replacement)


def _put_back(namespace, name, former, replacement):
    # What somebody else put there after us stays.
    if namespace.get(name) is replacement:
        namespace[name] = former


def _patch(module):
    """Replace the names of *module*, which is loaded."""
    for name, replacement in _replacements(module):
        namespace = vars(sys.modules[module])
        present = namespace.get(name, _ABSENT)
        if present is not _ABSENT and present is not replacement:
            _patched[module, name] = (present, replacement)
            namespace[name] = replacement


def _replacements(module):
    """The (name, replacement) pairs of *module*."""
    if module == _SPAWN:
        global _stdlib_preparation_data
        if sys.modules[_SPAWN].get_preparation_data is not _get_preparation_data:
            _stdlib_preparation_data = sys.modules[_SPAWN].get_preparation_data
        return [("get_preparation_data", _get_preparation_data)]
    ours = "mpfast." + module.removeprefix("multiprocessing.")
    if ours in _loading:
        return []  # _Loader asks again when it has run
    namespace = vars(import_module(ours))
    return [(name, namespace[name]) for name in REPLACED[module] if name in namespace]


def _rebind():
    """Rebind the globals of all other modules that are one of the replaced objects."""
    replacements = {id(former): (former, replacement) for former, replacement in _patched.values()}
    for module_name, module in list(sys.modules.items()):
        if not isinstance(module, types.ModuleType) or module_name.partition(".")[0] == "mpfast" or _late.is_late(module):
            continue
        namespace = vars(module)
        for name, value in list(namespace.items()):
            if id(value) in replacements and (module_name, name) not in _patched:
                former, replacement = replacements[id(value)]
                namespace[name] = replacement
                _rebound.append((namespace, name, former, replacement))


def _rebind_lazily_loaded_executor():
    # concurrent.futures keeps the class in its own namespace from its first use on.
    pair = _patched.get(("concurrent.futures.process", "ProcessPoolExecutor"))
    if pair is not None:
        _rebound.append((vars(sys.modules["concurrent.futures"]), "ProcessPoolExecutor", *pair))


def is_hooked(name):
    """Whether the finder finds the module of that name where this package is installed."""
    return name in _HOOKED or name.startswith(_OWN)


class _Finder:
    """Finds what the other finders find, and has it patched after it was loaded."""

    def __init__(self):
        self._searching = set()  # (thread, name): one of the others may be the program's, around this one

    def find_spec(self, name, path=None, target=None):
        search = get_ident(), name
        if not is_hooked(name) or search in self._searching:
            return None
        self._searching.add(search)
        try:
            return self._find(name, path, target)
        finally:
            self._searching.discard(search)

    def _find(self, name, path, target):
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader:
    """Hands over to the real loader before the module runs, so that nothing shows but the replaced names."""

    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        name = module.__spec__.name
        module.__spec__.loader = module.__loader__ = self._loader
        _loading.add(name)
        try:
            self._loader.exec_module(module)
        finally:
            _loading.discard(name)
        _deferred.append(_COUNTERPARTS.get(name, name))
        if any(other.startswith(_OWN) for other in _loading):
            return  # what replaces it may be waiting for the module that is loading it
        while _deferred:
            to_patch = _deferred.pop()
            if _installed and to_patch in _HOOKED and to_patch in sys.modules and to_patch not in _loading:
                _patch(to_patch)

    def __getattr__(self, name):
        return getattr(self._loader, name)


finder = _Finder()


class _InstallInChild:
    """Unpickling it installs.

    It names nothing of this package: the child has not the parent's search path yet when it reads this.
    """

    _SOURCE = """
import sys
try:
    import mpfast
except ImportError:
    sys.path.append(root)
    try:
        import mpfast
    finally:
        sys.path.remove(root)
mpfast.install()
"""

    def __reduce__(self):
        return exec, (self._SOURCE, {"root": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))})


def _get_preparation_data(name):
    data = _stdlib_preparation_data(name)
    if _installed:
        data["mpfast"] = _InstallInChild()
    return data

