"""What a child process runs before the program's own.

A spawned process gets its code from its parent and runs it before it has imported anything: it imports nothing of this
package, and of the standard library only what every child needs.
"""
import os
import sys


def parent_sentinel(parent):
    """A descriptor that is readable once the process *parent*, the parent of this one, has ended."""
    try:
        sentinel = os.pidfd_open(parent)
    except OSError:
        return ended()
    if os.getppid() == parent:
        return sentinel
    os.close(sentinel)  # the pid may be another process's by now
    return ended()


def ended():
    """A descriptor that is readable at once: the sentinel of a process that has ended already."""
    reader, writer = os.pipe()
    os.close(writer)
    return reader


def follows(process):
    """Whether *process*, which is to be started or has just been, ends together with its parent.

    Daemonic ones do, unless its ``outlive_parent`` says something else.
    """
    outlives = getattr(process, "outlive_parent", None)
    return bool((process.daemon if outlives is None else not outlives) and os.environ.get("MPFAST_ORPHANS", "") != "keep")


def untouched(place, *names, module=None):
    """Whether the functions *names* of *place* are those of *module*, not what a program has put in their place.

    place: *module* itself, where that is not given, or a class.
    """
    names_there = vars(module or place)
    return all(getattr(getattr(place, name), "__globals__", None) is names_there for name in names)


class _Later(type(sys)):
    """Stands for a module while others are imported that name it but do not use it yet.

    Whatever is asked of it, other than what it was given, is the module's own, imported at that moment.
    """

    def __getattr__(self, name):
        # The import system looks at some of these whenever a module is imported.
        if name in ("__path__", "__file__", "__loader__", "__spec__"):
            raise AttributeError(name)
        module = self.__name__
        if sys.modules.get(module) is self:
            del sys.modules[module]
        __import__(module)
        return getattr(sys.modules[module], name)


def _import_needed():
    """Import what a process object needs, without what that imports but needs only later, if at all."""
    import _functools
    import _signal

    def _args_from_interpreter_flags():
        from subprocess import _args_from_interpreter_flags
        return _args_from_interpreter_flags()

    numbers = {name: int(value) for name, value in vars(_signal).items() if name[:3] == "SIG" and "_" not in name}
    given = {"signal": numbers, "functools": {"partial": _functools.partial}, "multiprocessing.reduction": {},
             "types": {"GenericAlias": type(list[int])},
             "subprocess": {"_args_from_interpreter_flags": _args_from_interpreter_flags}}
    placed = put_off(given)
    try:
        import _pickle  # noqa: F401

        import multiprocessing.context
        import multiprocessing.process
        import multiprocessing.util  # noqa: F401
    finally:
        put_off_no_more(placed, given)


def put_off(given):
    """Have modules that are not imported yet be imported only when something in them is used, not when they are named.

    given: module name -> what is in it already, a dict.  Returns what put_off_no_more() takes.
    """
    placed = {}
    for name in given:
        if name not in sys.modules:
            sys.modules[name] = placed[name] = _Later(name)
            vars(placed[name]).update(given[name])
    return placed


def put_off_no_more(placed, given):
    """From now on importing these modules does import them; who has named them before still has what stands for them."""
    for name, module in placed.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]
        for attribute in given[name]:
            del vars(module)[attribute]


def main(data, parent, tracker, follow):
    """Be the process that *data* describes, a file that two pickles can be read from.

    parent: the parent's pid.  tracker: a descriptor for the resource tracker, see :mod:`mpfast._tracker`.  follow: whether
    this process ends together with its parent.
    """
    import gc
    collecting = gc.isenabled()
    gc.disable()
    path = _absolute(sys.path)
    _import_needed()
    callbacks = _count_callbacks()
    gc.freeze()  # what is here by now stays until the end, and need not be looked at until then
    if collecting:
        gc.enable()
    sys.meta_path[:0] = _TrackerFinder(tracker), _LibraryFinder(path)
    sentinel = parent_sentinel(parent)
    try:
        process = load(data, parent if follow else None)
        code = process._bootstrap(sentinel)
    finally:
        try:
            nothing = _leaves_nothing(callbacks)
        except Exception:  # of a class or a stream of the program's that does not like to be looked at
            nothing = False
        if not nothing:
            gc.unfreeze()
    sys.exit(code)


def _absolute(path):
    try:
        here = os.getcwd()
    except FileNotFoundError:
        here = ""
    return [entry or here for entry in path]


def _count_callbacks():
    import atexit
    return atexit._ncallbacks()


_MANY = 2000  # objects that take as long to look at as is saved then


def _leaves_nothing(callbacks):
    """Whether nothing that the program has left can do anything when it is destroyed.

    What is frozen is never destroyed, and what that refers to only after the modules are gone that it may need.  The
    interpreter is left to destroy everything in its order, which takes an eighth of a start, unless there is nothing to be
    seen of it.  callbacks: how many functions the library has registered with atexit.
    """
    from _thread import _count
    from gc import get_objects
    left = get_objects()
    if _count() or _count_callbacks() != callbacks or len(left) > _MANY:
        return False
    streams = _stream_and_parts(sys.stdin)
    verdicts = {}
    for thing in left:
        kind = type(thing)
        if kind not in verdicts:
            verdicts[kind] = _is_plain(kind)
        if not verdicts[kind] and id(thing) not in streams or _acts(thing):
            return False
    return True


def _stream_and_parts(stream):
    buffer = getattr(stream, "buffer", None)
    return {id(stream), id(buffer), id(getattr(buffer, "raw", None))}


def _is_plain(kind):
    """Whether objects of the class *kind* do nothing when they are destroyed but let go of others.

    Modules in C are taken for having classes whose objects do more: who imports one has an object of this loader.
    """
    from _frozen_importlib_external import ExtensionFileLoader
    meta = type(kind)
    return (meta is type or meta.__name__ == "ABCMeta") and not hasattr(kind, "__del__") and kind is not ExtensionFileLoader


def _acts(thing):
    """Whether somebody hears of the end of what *thing*, a reference or a class, stands for.

    Objects without attributes are not among those looked at, but their classes are.
    """
    from _weakref import ReferenceType
    kind = type(thing)  # not by isinstance(): that asks an object what it wants to be taken for
    if issubclass(kind, ReferenceType):
        return thing.__callback__ is not None and type(thing.__callback__) is not type(len)
    return issubclass(kind, type) and not _is_plain(thing)


def load(data, followed=None):
    """Makes this process ready for the process object that *data* holds, and returns that.  followed: see main()."""
    from _pickle import load

    from multiprocessing import process
    with data:
        process.current_process()._inheriting = True
        try:
            prepare(load(data))
            if followed is not None:
                from mpfast import _core
                _core.follow_parent(followed)
            return load(data)
        finally:
            del process.current_process()._inheriting


def prepare(data):
    """As ``multiprocessing.spawn.prepare``, which is left to do what is not plain."""
    from multiprocessing import context, process
    if data.get("log_to_stderr") or "log_level" in data or "mpfast._zygote" not in sys.modules and "multiprocessing.spawn" in sys.modules:
        # In the last case something that runs at every start has imported it, and may have replaced functions.
        from multiprocessing import spawn
        return spawn.prepare(data)
    current = process.current_process()
    if "name" in data:
        current.name = data["name"]
    if "authkey" in data:
        current.authkey = data["authkey"]
    if "sys_path" in data:
        sys.path = data["sys_path"]
    if "sys_argv" in data:
        sys.argv = data["sys_argv"]
    if "dir" in data:
        os.chdir(data["dir"])
    if "orig_dir" in data:
        process.ORIGINAL_DIR = data["orig_dir"]
    if "start_method" in data:
        context._default_context.set_start_method(data["start_method"], force=True)
    import_main(data)


def import_main(data):
    """Import the parent's main module, where *data*, the preparation data, say that there is one."""
    if "init_main_from_name" in data:
        _import_main_by_name(data["init_main_from_name"])
    elif "init_main_from_path" in data:
        if data.get("mpfast_main"):
            _load_code(data["init_main_from_path"], data["mpfast_main"])
        _import_main_by_path(data["init_main_from_path"])


def _import_main_by_name(name):
    if name == "__main__" or name.endswith(".__main__"):
        return
    if getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None) == name:
        return  # the fork server has imported it
    spec = None
    parent = name.rpartition(".")[0]
    if parent:
        __import__(parent)
    if name not in sys.modules:
        from _frozen_importlib import _find_spec
        spec = _find_spec(name, getattr(sys.modules.get(parent), "__path__", None))
    if spec is None or spec.submodule_search_locations is not None or not hasattr(spec.loader, "get_code"):
        from multiprocessing import spawn
        spawn._fixup_main_from_name(name)
        return
    _run_main(spec.loader.get_code(name), spec.origin, dict(
        __cached__=spec.cached, __loader__=spec.loader, __package__=spec.parent, __spec__=spec))


def _import_main_by_path(path):
    if os.path.splitext(os.path.basename(path))[0] == "ipython" or has_main(path):
        return
    if path not in _compiled and (not os.path.isfile(path) or not path.endswith(".py")):
        from multiprocessing import spawn
        spawn._fixup_main_from_path(path)
        return
    _run_main(code_of(path), path, dict(__cached__=None, __loader__=None, __package__="", __spec__=None))


def has_main(path):
    """Whether the main module in the file *path* is here already: a fork server may have imported it."""
    return getattr(sys.modules["__main__"], "__file__", None) == path


_compiled: dict = {}  # path -> (signature of the file, code)


def code_of(path):
    """The code of the program in the file *path*, compiled once."""
    from io import open_code
    known, code = _compiled.get(path, (None, None))
    if known is not None and known == _signature(os.stat(path)):
        return code
    with open_code(os.path.abspath(path)) as file:
        signature = _signature(os.fstat(file.fileno()))
        code = compile(file.read(), path, "exec", dont_inherit=True)
    _compiled[path] = signature, code
    return code


def dump_code(path):
    """What code_of(path) has found, for another process."""
    from marshal import dumps
    signature, code = _compiled[path]
    return signature, dumps(code)


def _load_code(path, dumped):
    from marshal import loads
    signature, code = dumped
    try:
        if signature == _signature(os.stat(path)):
            _compiled[path] = signature, loads(code)
    except OSError:
        pass  # importing it will say so


def _signature(status):
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _run_main(code, path, names):
    """Run the parent's main module as ``__mp_main__``, of which ``__main__`` becomes another name."""
    module = type(sys)
    namespace = vars(temporary := module("__mp_main__"))
    if sys.version_info >= (3, 15):
        del names["__cached__"]
    namespace.update(__name__="__mp_main__", __file__=path, __doc__=None, **names)
    sys.modules["__mp_main__"] = temporary
    program, sys.argv[0] = sys.argv[0], path
    try:
        exec(code, namespace)
    finally:
        sys.argv[0] = program
    main = module("__mp_main__")
    vars(main).update(namespace)
    _former_mains.append(sys.modules["__main__"])
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main


_former_mains: list = []  # their objects live on, as those that are imported do


class _LibraryFinder:
    """Finds what the standard library's child has imported before it takes over its parent's search path: here it is imported
    late, and must not be a module of the program's that has the same name.  Once: who imports it anew wants what there is then."""

    _NAMES = frozenset([
        "_compat_pickle", "_pickle", "_posixsubprocess", "_socket", "_struct", "_weakrefset", "array", "collections", "contextlib",
        "copyreg", "enum", "fcntl", "functools", "importlib", "keyword", "locale", "math", "operator", "pickle", "re", "reprlib",
        "runpy", "select", "selectors", "signal", "socket", "struct", "subprocess", "threading", "types", "warnings", "weakref",
    ])

    def __init__(self, path):
        self._path = path
        self._left = {name for name in self._NAMES if name not in sys.modules}

    def find_spec(self, name, path=None, target=None):
        if name not in self._left:
            return None
        self._left.discard(name)
        from _frozen_importlib_external import PathFinder
        return PathFinder.find_spec(name, self._path, target)


class _TrackerFinder:
    """Hands the resource tracker its descriptor when its module is imported, which few children do."""

    _NAME = "multiprocessing.resource_tracker"

    def __init__(self, descriptor):
        self._descriptor = descriptor
        self._loader = None

    def find_spec(self, name, path=None, target=None):
        if name != self._NAME:
            return None
        sys.meta_path.remove(self)
        from _frozen_importlib import _find_spec
        spec = _find_spec(name, path, target)
        if spec is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        adopt_tracker(module, self._descriptor)


def adopt_tracker(resource_tracker, descriptor):
    """Have the module *resource_tracker* use the tracker behind *descriptor*, which may not have been started yet."""
    from _frozen_importlib_external import SourceFileLoader
    path = os.path.join(os.path.dirname(__file__), "_tracker.py")
    namespace = {"__name__": "mpfast._tracker", "__file__": path}
    exec(SourceFileLoader("mpfast._tracker", path).get_code("mpfast._tracker"), namespace)
    namespace["adopt"](resource_tracker, descriptor)
