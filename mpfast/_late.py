"""Modules of the standard library that are there from the start, but run only when somebody uses what is in them.

A spawned child of the standard library has run some forty modules before it comes to the program.  Here those that few children
use are in ``sys.modules`` as well, each a :class:`Module` without contents.  Whatever is asked of one, but for its name and its spec,
has it run first: in place, so that who has the module has what it becomes, and found where it was to be found at the start.

States of a module:
    late     its class is Module; what it was given is in it
    running  in one thread, which sees it as it is; others wait for the import system's lock of its name
    plain    it has run, and is a module like any other
One that fails to run is late again, and so is, in a forked child, one that another thread was running.

This file is also run as ``mpfast._late`` in children that have not imported this package.
"""
import builtins
import sys
from _frozen_importlib import (BuiltinImporter, FrozenImporter, ModuleSpec, _module_locks, _ModuleLockManager,
                               module_from_spec)
from _frozen_importlib_external import ExtensionFileLoader, PathFinder
from _thread import get_ident
from posix import register_at_fork

_Plain = type(sys)
_get = _Plain.__getattribute__
_set = _Plain.__setattr__

_path: list = []  # where modules are searched
_given: dict = {}  # name -> what a module has before it has run, while others are imported that look at no more than that
_running: dict = {}  # name -> thread
_begun: dict = {}  # name of what is running -> (module, what was in it before)
_afterwards: dict = {}  # name -> functions to be called with the module when it has run
_import = builtins.__import__  # the one that a module would have run with, before the program
_put_back: list = []  # (namespace, name, function in front, function)

#: What may leave this process without the files that modules are read from.
_LEAVING = ("chroot", "setuid", "setgid", "seteuid", "setegid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups",
            "initgroups", "setns", "unshare")


class Spec(ModuleSpec):
    """The spec of a late module: it knows the name, and has the module run when more is asked."""

    # The import system asks for these whenever the module is imported, or has not what it is asked for.
    _initializing = False
    _uninitialized_submodules: list = []

    def __init__(self, module, name):
        self.module = module
        self.name = name

    def __getattr__(self, name):
        if self.name in _given:  # asked in passing, by whoever looks for something in the module that is not given
            raise AttributeError(name)
        run(self.module)
        return getattr(self.module.__spec__, name)


class Module(_Plain):  # type: ignore[misc, valid-type]
    """A module that is not plain yet."""

    def __getattribute__(self, name):
        if name in ("__name__", "__spec__", "__class__") or _is_at_hand(self, name):
            return _get(self, name)
        run(self)
        return getattr(self, name)

    def __setattr__(self, name, value):
        if not _is_running_here(self):
            run(self)
        _set(self, name, value)

    def __delattr__(self, name):
        if not _is_running_here(self):
            run(self)
        _Plain.__delattr__(self, name)

    def __dir__(self):
        if _is_running_here(self):
            return _Plain.__dir__(self)
        run(self)
        return dir(self)

    def __repr__(self):
        if _is_running_here(self):
            return _Plain.__repr__(self)
        run(self)
        return repr(self)


def _name(module):
    return _get(module, "__name__")


def _is_running_here(module):
    return _running.get(_name(module)) == get_ident()


def _is_at_hand(module, attribute):
    given = _given.get(_name(module))
    # The import system asks for the path of whatever a name is imported from.
    return given is not None and (attribute in ("__dict__", "__path__") or attribute in given) or _is_running_here(module)


def is_late(module):
    """Whether *module* has not run yet."""
    return type(module) is Module


def begin(names, path, given):
    """Have the modules *names*, those that are not imported yet, in ``sys.modules``.  To be followed by begun().

    path: where they are searched, a list of directories.  given: name -> dict, what is in a module until begun().
    """
    _path[:] = path
    register_at_fork(after_in_child=_begin_again)
    for name in names:
        if name not in sys.modules:
            module = sys.modules[name] = Module(name)
            contents = _get(module, "__dict__")
            contents["__spec__"] = Spec(module, name)
            if name in given:
                contents.update(given[name])
                _given[name] = given[name]


def begun(names):
    """What was given is taken back, and the modules *names* are in their packages."""
    while _given:
        name, contents = _given.popitem()
        module = sys.modules.get(name)
        if is_late(module):
            for attribute in contents:
                del _get(module, "__dict__")[attribute]
    for name in names:
        package, _, attribute = name.rpartition(".")
        if package and is_late(sys.modules.get(name)):
            after(package, lambda package, name=name, attribute=attribute: _attach(package, attribute, name))


def _attach(package, attribute, name):
    if name in sys.modules:
        vars(package).setdefault(attribute, sys.modules[name])


def hold(name, *others):
    """Have the module *name*, where it is late, hold the modules *others*, as it does when it has run."""
    module = sys.modules[name]
    if is_late(module):
        _get(module, "__dict__").update((other, sys.modules[other]) for other in others)


def after(name, function):
    """Have function(module) called when the module *name* has run: at once, where it has."""
    module = sys.modules.get(name)
    if is_late(module):
        _afterwards.setdefault(name, []).append(function)
    elif module is not None:
        function(module)


def run(module):
    """Have *module* run, unless it has.  Raises what that raises, ModuleNotFoundError where it is not to be found."""
    name = _name(module)
    package = sys.modules.get(name.rpartition(".")[0])
    if is_late(package) and not _is_running_here(package):
        run(package)  # which may need this one: it has to be first
    with _ModuleLockManager(name):
        if not is_late(module) or name in _running:
            return
        _run(module, name)


def _run(module, name):
    contents = _get(module, "__dict__")
    former = dict(contents)
    _begun[name] = module, former
    _running[name] = get_ident()
    replaced = builtins.__import__
    builtins.__import__ = _import  # the program's own may need this very module
    try:
        spec = _find(name)
        made = module_from_spec(spec)
        if spec.loader is BuiltinImporter or isinstance(spec.loader, ExtensionFileLoader):
            spec.loader.exec_module(made)  # where the interpreter has made it
            contents.update(vars(made))
            if sys.modules.get(name) is made:
                sys.modules[name] = module
        else:
            contents.update(vars(made))
            spec._initializing = True  # who imports it meanwhile waits
            try:
                spec.loader.exec_module(module)
            finally:
                spec._initializing = False
        for function in _afterwards.get(name, ()):
            function(module)  # before other threads see it
        _set(module, "__class__", _Plain)
        _afterwards.pop(name, None)
    except BaseException:
        contents.clear()
        contents.update(former)
        raise
    finally:
        if builtins.__import__ is _import:  # else another thread has put its own there
            builtins.__import__ = replaced
        del _running[name], _begun[name]


def _begin_again():
    """In a forked child: nobody goes on with what other threads were running, nor lets go of their locks."""
    here = {name for name, thread in _running.items() if thread == get_ident()}
    for name in [name for name in _running if name not in here]:
        module, former = _begun[name]
        del _running[name], _begun[name]
        if is_late(module):
            contents = _get(module, "__dict__")
            contents.clear()
            contents.update(former)
            sys.modules[name] = module
    for name in list(_module_locks):
        if name not in here and is_late(sys.modules.get(name)):
            del _module_locks[name]


def _find(name):
    package = name.rpartition(".")[0]
    path = sys.modules[package].__path__ if package else _path
    for find in (BuiltinImporter.find_spec, FrozenImporter.find_spec, lambda name: PathFinder.find_spec(name, path)):
        spec = find(name)
        if spec is not None and spec.loader is not None:
            return spec
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def run_imported(*namespaces):
    """Have the late modules run that the program's modules have imported, and what is in *namespaces*, dicts."""
    library = sys.stdlib_module_names
    own = [_get(module, "__dict__") for name, module in list(sys.modules.items())
           if name.partition(".")[0] not in library and issubclass(type(module), _Plain) and
           name != "mpfast"]  # it has the names of multiprocessing, which is the library's: `reducer` is a module
    for names in *own, *namespaces:
        for value in list(names.values()):
            if is_late(value):
                _run_if_possible(value)


def run_all():
    """Have every late module run that can be."""
    for module in list(sys.modules.values()):
        if is_late(module):
            _run_if_possible(module)


def _run_if_possible(module):
    try:
        run(module)
    except ImportError:
        pass


def run_before_leaving(place, prepare):
    """Have run_all() and prepare() called before a function of the module *place* takes this process away from its files."""
    names = vars(place)
    for name in _LEAVING:
        if name in names:
            front = names[name] = _in_front_of(names[name], prepare)
            _put_back.append((names, name, front, front.__wrapped__))


def _in_front_of(function, prepare):

    def front(*args, **kwargs):
        while _put_back:
            names, name, present, former = _put_back.pop()
            if names.get(name) is present:
                names[name] = former
        run_all()
        prepare()
        return function(*args, **kwargs)

    front.__wrapped__ = function
    front.__name__ = function.__name__
    front.__qualname__ = function.__qualname__
    front.__doc__ = function.__doc__
    front.__module__ = "os"
    return front
