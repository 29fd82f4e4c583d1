"""Pickling by value, with cloudpickle, of functions and classes that cannot go by reference."""
import pickle
import sys
import types
import weakref
from collections import ChainMap

_pickler_type = None  # of what goes by value; False when there is no cloudpickle
_class_bytes = weakref.WeakKeyDictionary()


def _find(module, qualname):
    found = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def _goes_by_reference(obj):
    return _find(getattr(obj, "__module__", None), obj.__qualname__) is obj


def _get_pickler_type():
    global _pickler_type
    if _pickler_type is None:
        try:
            import cloudpickle
        except ImportError:
            _pickler_type = False
        else:
            class ByValuePickler(cloudpickle.Pickler):
                # cloudpickle alone would send by value all that lives in __main__; the receiver has a __main__ of its
                # own, and an instance of a class has to be one of the receiver's class.
                def reducer_override(self, obj):
                    if isinstance(obj, (types.FunctionType, type)) and _goes_by_reference(obj):
                        return NotImplemented
                    return super().reducer_override(obj)

            _pickler_type = ByValuePickler
    return _pickler_type


def dump(obj, sink, reducers):
    """Pickle ``obj`` to ``sink``, a file that is also the callable to be given its buffers, with ``reducers`` (a dict of
    type to function) going before cloudpickle's own.  Return False, having written nothing, if there is no cloudpickle."""
    pickler_type = _get_pickler_type()
    if not pickler_type:
        return False
    pickler = pickler_type(sink, protocol=5, buffer_callback=sink)
    pickler.dispatch_table = ChainMap(reducers, pickler.dispatch_table)
    pickler.dump(obj)
    return True


class PrivateMainPickler(pickle.Pickler):
    """For a program whose ``__main__`` no other process can import (an interactive session, ``-c``, standard input).

    Functions and classes of ``__main__`` go by reference, as ever, and by value besides: a receiver that was forked after
    they were defined uses its own, any other one what was sent.  Where there is no cloudpickle, by reference alone.
    """

    def reducer_override(self, obj):
        if not isinstance(obj, (types.FunctionType, type)) or obj.__module__ != "__main__":
            return NotImplemented
        if not _get_pickler_type() or not _goes_by_reference(obj):
            return NotImplemented
        try:
            return _from_main, (obj.__qualname__, _to_bytes(obj))
        except Exception:  # it refers to something that cannot be pickled; its name can
            return NotImplemented


def _to_bytes(obj):
    import cloudpickle
    if not isinstance(obj, type):
        return cloudpickle.dumps(obj, protocol=5)  # each time: it takes along the globals as they are
    if obj not in _class_bytes:
        _class_bytes[obj] = cloudpickle.dumps(obj, protocol=5)
    return _class_bytes[obj]


def _from_main(qualname, data):
    found = _find("__main__", qualname)
    if isinstance(found, (types.FunctionType, type)):
        return found
    return pickle.loads(data)
