"""Native classes under the names of the standard library's, and how they are pickled nevertheless."""
import importlib

from . import _native


def _new(module, name):
    """An object of the class *name* of the module *module* of this package, without a state."""
    cls = getattr(importlib.import_module(module), name)
    return cls.__new__(cls)


def publish(module, stdlib):
    """A class decorator: the class gets the place *stdlib* has for its name, and is pickled by *module* of this package.

    A subclass that a program makes is pickled under its own name, as any class.  The class owns its native methods, which
    the interpreter calls faster than inherited ones.
    """
    def decorate(cls):
        name = cls.__name__

        def __reduce_ex__(self, protocol):
            if type(self) is cls:
                return _new, (module, name), self.__getstate__()
            return super(cls, self).__reduce_ex__(protocol)

        cls.__module__ = stdlib
        cls.__reduce_ex__ = __reduce_ex__
        return _native.core.own_methods(cls)

    return decorate
