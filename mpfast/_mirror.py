"""How a module of this package stands for one of the standard library.

An *alias* is the standard library's module itself under a second name: for what keeps state that a process has once
(registries, the logger, the resource tracker).

A *mirror* has native classes of its own and hands through everything else.  What it hands through is looked up in the
standard library's module at the moment of the access, and is written there when assigned, so that a name which a
program replaces at run time is replaced for both.
"""
import sys

from . import _native


def import_module(name):
    """The module *name*; as ``importlib.import_module``, which is a module more to import in every child."""
    __import__(name)
    return sys.modules[name]


def stdlib_name(name):
    """The standard library's name for the module *name* of this package."""
    head, _, rest = name.partition(".")
    assert head == "mpfast"
    if rest == "concurrent" or rest.startswith("concurrent."):
        return rest
    return f"multiprocessing.{rest}" if rest else "multiprocessing"


class Mirror(type(sys)):  # type: ignore[misc]  # types.ModuleType, whose module not every child has
    """A module that answers for the names it does not define itself with those of the standard library's module."""

    def __getattr__(self, name):
        if name == "__path__":  # the import system asks for it whenever a name is imported from here
            raise AttributeError(f"module {self.__name__!r} is not a package")
        target = import_module(stdlib_name(self.__name__))
        try:
            return getattr(target, name)
        except AttributeError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None

    def __setattr__(self, name, value):
        if self._is_handed_through(name):
            setattr(import_module(stdlib_name(self.__name__)), name, value)
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name):
        if self._is_handed_through(name):
            delattr(import_module(stdlib_name(self.__name__)), name)
            # unittest.mock deletes what it replaced before it puts the former value back.
            self.__dict__.setdefault("__deleted_there__", set()).add(name)
        else:
            super().__delattr__(name)

    def __dir__(self):
        return sorted(set(self.__dict__).union(dir(import_module(stdlib_name(self.__name__)))))

    def _is_handed_through(self, name):
        if name in self.__dict__ or name.startswith("__"):
            return False
        if f"{self.__name__}.{name}" in sys.modules:
            return False  # the import system sets a submodule in its package
        target = import_module(stdlib_name(self.__name__))
        return hasattr(target, name) or name in self.__dict__.get("__deleted_there__", ())


def mirror(name, native=()):
    """Make the module *name* a mirror; *native* are the names it takes from the extension, where that has them."""
    module = sys.modules[name]
    module.__class__ = Mirror
    for attribute in native:
        value = _native.native(attribute)
        if value is not None:
            module.__dict__[attribute] = value


def alias(name):
    """Put the standard library's module in the place of the module *name*."""
    sys.modules[name] = import_module(stdlib_name(name))
