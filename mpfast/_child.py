"""What a child process runs before the program's own.

A spawned process gets its code from its parent, together with that of :mod:`mpfast._late`, and runs it before it has imported
anything: it imports nothing else of this package, and of the standard library runs only what every child needs.
"""
import os
import sys
from _weakref import ref

from mpfast._late import after, begin, begun, hold, is_late, run_before_leaving, run_imported


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


def follows(*processes):
    """Whether *processes*, which are to be started or have just been, end together with their parent; None: some would.

    Daemonic ones do, unless their ``outlive_parent`` says something else.
    """
    wish = None
    for process in processes:
        outlives = getattr(process, "outlive_parent", None)
        wishes = bool(process.daemon if outlives is None else not outlives)
        if wish is not None and wishes != wish:
            return None
        wish = wishes
    return wish and os.environ.get("MPFAST_ORPHANS", "") != "keep"


def untouched(place, *names, module=None):
    """Whether the functions *names* of *place* are those of *module*, not what a program has put in their place.

    place: *module* itself, where that is not given, or a class.
    """
    names_there = vars(module or place)
    return all(getattr(getattr(place, name), "__globals__", None) is names_there for name in names)


#: What the standard library's child has run before it comes to the program.
_LATE = (
    "_locale", "_multiprocessing", "_operator", "_posixshmem", "_posixsubprocess", "_socket", "_sre", "_struct", "array",
    "collections", "contextlib", "enum", "errno", "fcntl", "functools", "importlib", "importlib._abc", "importlib.machinery",
    "importlib.util", "keyword", "math", "multiprocessing.reduction", "multiprocessing.resource_tracker", "multiprocessing.spawn",
    "operator", "pickle", "pkgutil", "re", "reprlib", "runpy", "select", "selectors", "signal", "socket", "struct", "subprocess",
    "types", "warnings", "weakref",
    *(("locale", "re._casefix", "re._compiler", "re._constants", "re._parser") if sys.version_info >= (3, 11) else
      ("sre_compile", "sre_constants", "sre_parse")),
    *(("_typing", "typing") if (3, 11) <= sys.version_info < (3, 14) else ()),
    *(("_json", "base64", "binascii", "json", "json.decoder", "json.encoder", "json.scanner") if sys.version_info >= (3, 14)
      else ()),
)


class _Empty:
    """The registry of :mod:`multiprocessing.util` before :mod:`weakref` has run: what is done with it is done with one of its kind."""

    __class__ = property(lambda self: type(_used(self)))  # type: ignore[assignment]

    def items(self):
        real = vars(self).get("real")
        return iter(()) if real is None else real.items()

    def __len__(self):
        real = vars(self).get("real")
        return 0 if real is None else len(real)

    def __getattr__(self, name):
        return getattr(_used(self), name)


def _delegating(name):
    return lambda self, *arguments: getattr(_used(self), name)(*arguments)


for _name in ("contains", "copy", "deepcopy", "delitem", "eq", "getitem", "ior", "iter", "or", "reduce_ex", "repr", "ror", "setitem"):
    setattr(_Empty, f"__{_name}__", _delegating(f"__{_name}__"))


def _used(registry):
    # By the module that util has: the program may have another one in sys.modules, and another import function.
    own = vars(registry)
    real = own.get("real")
    if real is None:
        real = own.setdefault("real", own["weakref"].WeakValueDictionary())
        util = own["util"]()
        if util is not None and vars(util).get("_afterfork_registry") is registry:
            util._afterfork_registry = real
    return real


def _import_needed(path, pickles):
    """Import what a process object needs, without what that imports but needs only later, if at all.

    path: where modules are searched, a list of directories.  pickles: whether it is read from pickles.
    """
    import _functools
    import _signal

    def _args_from_interpreter_flags():
        from subprocess import _args_from_interpreter_flags
        return _args_from_interpreter_flags()

    numbers = {name: int(value) for name, value in vars(_signal).items() if name[:3] == "SIG" and "_" not in name}
    late = _LATE if pickles else (*_LATE, "_compat_pickle", "_pickle", "copyreg")
    if sys.version_info < (3, 13):
        late += "collections.abc",
    else:
        sys.modules.setdefault("collections.abc", sys.modules["_collections_abc"])
    begin(late, path, {
        "signal": numbers, "functools": {"partial": _functools.partial}, "types": {"GenericAlias": type(list[int])},
        "subprocess": {"_args_from_interpreter_flags": _args_from_interpreter_flags},
        "weakref": {"WeakValueDictionary": _Empty}})
    try:
        if pickles:
            import _pickle  # noqa: F401

        import multiprocessing.context
        import multiprocessing.process
        import multiprocessing.util  # noqa: F401
    finally:
        begun(late)
    after("collections", lambda collections: vars(collections).setdefault("abc", sys.modules["collections.abc"]))
    hold("multiprocessing.reduction", "copyreg")  # which is destroyed later for it
    # As importlib has it.
    sys.modules.setdefault("importlib._bootstrap", sys.modules["_frozen_importlib"])
    sys.modules.setdefault("importlib._bootstrap_external", sys.modules["_frozen_importlib_external"])
    # Nothing may keep a module, but by its name: in the end it would not be destroyed when the standard library's is.
    after("subprocess", lambda subprocess: _replace("multiprocessing.util", _args_from_interpreter_flags, subprocess))
    registry = multiprocessing.util._afterfork_registry
    if type(registry) is _Empty:
        vars(registry).update(util=ref(multiprocessing.util), weakref=sys.modules["weakref"])
    run_before_leaving(os, _import_for_later)


def _replace(module, function, source):
    """Have the *module* of that name use what *source* has for *function*, unless it uses something else by now."""
    module = sys.modules.get(module)
    if getattr(module, function.__name__, None) is function:
        setattr(module, function.__name__, getattr(source, function.__name__))


def _import_for_later():
    """Import what a worker needs for what fails, which it may not be able to import then."""
    if "mpfast._core" in sys.modules:
        import queue  # noqa: F401

        import mpfast._by_value  # noqa: F401
        import mpfast._errors  # noqa: F401
        import multiprocessing.pool  # noqa: F401


def main(data, parent, tracker, core, follow, is_worker):
    """Be the process that *data* describes, a file: of two pickles or, where *is_worker*, of what _make_worker() takes.

    parent: the parent's pid.  tracker: a descriptor for the resource tracker, see :mod:`mpfast._tracker`.  core: the file of
    the extension.  follow: whether this process ends together with its parent.
    """
    import gc
    collecting = gc.isenabled()
    gc.disable()
    is_frozen = _is_bare()
    _import_needed(_absolute(sys.path), not is_worker)
    after("multiprocessing.resource_tracker", lambda resource_tracker: adopt_tracker(resource_tracker, tracker))
    callbacks = _count_callbacks()
    if is_frozen:
        gc.freeze()  # what is here by now stays until the end, and need not be looked at until then
    if collecting:
        gc.enable()
    sentinel = parent_sentinel(parent)
    process, nothing = None, False
    try:
        process = (_load_worker if is_worker else load)(data, parent if follow else None, core)
        code = process._bootstrap(sentinel)
        nothing = is_frozen and _leaves_nothing(callbacks)
    finally:
        if not nothing:
            _make_ready_to_be_destroyed(process)
            gc.unfreeze()
    sys.exit(code)


def _make_ready_to_be_destroyed(process):
    """Have what is late run that may be used meanwhile."""
    # The main module's functions have another namespace than that.
    target = vars(process).get("_target") if process is not None else None
    util = sys.modules.get("multiprocessing.util")
    names = vars(util) if type(util) is type(sys) else {}
    run_imported(names, *[target.__globals__] if type(target) is type(main) else [])
    if type(names.get("_afterfork_registry")) is _Empty:
        _used(names["_afterfork_registry"])


_HARMLESS = frozenset(["__main__", "mpfast", "_distutils_hack", "_virtualenv"])


def _is_bare():
    """Whether nothing of the user's has run at the start of the interpreter that could have left something to be destroyed."""
    library = sys.stdlib_module_names
    for name in sys.modules:
        top = name.partition(".")[0]
        if top not in library and top not in _HARMLESS and not top.startswith("__editable__"):
            return False
    return sys.excepthook is sys.__excepthook__


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
    try:
        return _looks_like_nothing(callbacks)
    except Exception:  # of a class or a stream of the program's that does not like to be looked at
        return False


def _looks_like_nothing(callbacks):
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
    raw = getattr(buffer, "raw", None)
    if getattr(raw, "mode", None) != "rb":  # a file of the program's that may have something to write
        return ()
    return {id(stream), id(buffer), id(raw)}


def _is_plain(kind):
    """Whether objects of the class *kind* do nothing when they are destroyed but let go of others.

    Modules in C are taken for having classes whose objects do more: who imports one has an object of this loader.
    """
    from _frozen_importlib_external import ExtensionFileLoader
    meta = type(kind)
    if meta is not type and meta.__name__ != "ABCMeta" or hasattr(kind, "__del__"):
        return False
    return kind is not ExtensionFileLoader and kind is not memoryview  # whose object may want to know


def _acts(thing):
    """Whether somebody hears of the end of what *thing*, a reference or a class, stands for.

    Objects without attributes are not among those looked at, but their classes are.
    """
    from _weakref import CallableProxyType, ProxyType, ReferenceType
    kind = type(thing)  # not by isinstance(): that asks an object what it wants to be taken for
    if kind is ProxyType or kind is CallableProxyType:
        return True  # they do not tell whether they have a callback
    if issubclass(kind, ReferenceType):
        callback = thing.__callback__
        return callback is not None and not (type(callback) is type(len) and callback.__self__ is callback.__module__ is None)
    return issubclass(kind, type) and not _is_plain(thing)


def load(data, followed=None, core=None):
    """Makes this process ready for the process object that *data* holds, and returns that.  followed: see main()."""
    from _pickle import load
    with data:
        return _take_over(lambda: load(data), lambda: load(data), followed, core)


def _load_worker(data, followed, core):
    from marshal import loads
    with data:
        preparation, *described = loads(data.read())
    return _take_over(lambda: preparation, lambda: _make_worker(core, *described), followed, core)


def _take_over(preparation, make, followed, core):
    """What preparation() returns is done, then what make() does.  followed: the pid of the process to end with, or None."""
    from multiprocessing import process
    process.current_process()._inheriting = True
    try:
        prepare(preparation())
        run_imported()  # before there are threads, signals and objects with an end that use them
        if followed is not None:
            _part("mpfast._core", core).follow_parent(followed)
        return make()
    finally:
        del process.current_process()._inheriting


def _part(name, file):
    """The module *name* of this package, from its *file*: importing it would import the package, which few children need."""
    if "mpfast" in sys.modules:
        __import__(name)
        return sys.modules[name]
    from _frozen_importlib import _load_unlocked, _ModuleLockManager
    from _frozen_importlib_external import spec_from_file_location
    with _ModuleLockManager(name):
        return sys.modules.get(name) or _load_unlocked(spec_from_file_location(name, file))


def _make_worker(core, state, arguments, crew, authkey):
    """The process object of a worker as popen_spawn_posix has taken it to pieces."""
    from multiprocessing import context, process
    module = _part("mpfast._core", core)
    run = _part("mpfast._crew_worker", os.path.join(os.path.dirname(__file__), "_crew_worker.py"))
    made = module.Crew.__new__(module.Crew)
    made.__setstate__(crew)
    worker = object.__new__(context.SpawnProcess)
    state["_config"]["authkey"] = process.AuthenticationString(authkey)
    state["_target"] = run.work
    state["_args"] = (made, *arguments)
    vars(worker).update(state)
    return worker


def prepare(data):
    """As ``multiprocessing.spawn.prepare``, which is left to do what is not plain."""
    from multiprocessing import context, process
    spawn = sys.modules.get("multiprocessing.spawn")
    if (data.get("log_to_stderr") or "log_level" in data or
            "mpfast._zygote" not in sys.modules and spawn is not None and not is_late(spawn)):
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


def code_of(path, is_ahead=False):
    """The code of the program in the file *path*, compiled once.

    is_ahead: whether it is for other processes, which are to say themselves what compiling it warns of: None, then.
    """
    from io import open_code
    known, code = _compiled.get(path, (None, None))
    if known is not None and known == _signature(os.stat(path)) and (code is not None or is_ahead):
        return code
    with open_code(os.path.abspath(path)) as file:
        signature = _signature(os.fstat(file.fileno()))
        source = file.read()
    if is_ahead:
        from threading import active_count
        if active_count() != 1:
            return None  # of what other threads warn meanwhile nothing would be heard
        code = _compile_silently(source, path)
    else:
        code = compile(source, path, "exec", dont_inherit=True)
    _compiled[path] = signature, code
    return code


def _compile_silently(source, path):
    # Not by catch_warnings(): that has every warning forgotten that was shown once.
    import warnings
    warned = []
    former = warnings._showwarnmsg_impl, warnings.showwarning
    everything = ("always", None, Warning, None, 0)
    warnings.filters.insert(0, everything)
    warnings._showwarnmsg_impl = warned.append
    warnings.showwarning = warnings._showwarning_orig
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    finally:
        warnings._showwarnmsg_impl, warnings.showwarning = former
        warnings.filters.remove(everything)
    return None if warned else code


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


def adopt_tracker(resource_tracker, descriptor):
    """Have the module *resource_tracker* use the tracker behind *descriptor*, which may not have been started yet."""
    from _frozen_importlib_external import SourceFileLoader
    path = os.path.join(os.path.dirname(__file__), "_tracker.py")
    namespace = {"__name__": "mpfast._tracker", "__file__": path}
    exec(SourceFileLoader("mpfast._tracker", path).get_code("mpfast._tracker"), namespace)
    namespace["adopt"](resource_tracker, descriptor)
