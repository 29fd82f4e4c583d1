"""Pickling by value, with cloudpickle, of functions and classes that cannot go by reference."""
import sys
import types
from collections import ChainMap

try:
    import cloudpickle
except ImportError:
    cloudpickle = None


def _goes_by_reference(obj):
    module = sys.modules.get(getattr(obj, "__module__", None))
    found = module
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return module is not None and found is obj


if cloudpickle is not None:
    class _Pickler(cloudpickle.Pickler):
        # cloudpickle alone would send by value all that lives in __main__; the receiver has a __main__ of its own, and
        # an instance of a class has to be one of the receiver's class.
        def reducer_override(self, obj):
            if isinstance(obj, (types.FunctionType, type)) and _goes_by_reference(obj):
                return NotImplemented
            return super().reducer_override(obj)


def dump(obj, sink, reducers):
    """Pickle ``obj`` to ``sink``, a file that is also the callable to be given its buffers, with ``reducers`` (a dict of
    type to function) going before cloudpickle's own.  Return False, having written nothing, if there is no cloudpickle."""
    if cloudpickle is None:
        return False
    pickler = _Pickler(sink, protocol=5, buffer_callback=sink)
    pickler.dispatch_table = ChainMap(reducers, pickler.dispatch_table)
    pickler.dump(obj)
    return True
