"""Containers that a local manager makes: dict, list, set, Namespace, Value and Array."""
import array
import multiprocessing.managers as _stdlib

from . import _core
from ._install import original
from ._managed import Arena, managed

_BaseProxy = original("multiprocessing.managers", "BaseProxy")

SET_METHODS = (
    "__and__", "__class_getitem__", "__contains__", "__iand__", "__ior__", "__isub__", "__iter__", "__ixor__", "__len__",
    "__or__", "__rand__", "__ror__", "__rsub__", "__rxor__", "__sub__", "__xor__", "__ge__", "__gt__", "__le__", "__lt__",
    "add", "clear", "copy", "difference", "difference_update", "discard", "intersection", "intersection_update",
    "isdisjoint", "issubset", "issuperset", "pop", "remove", "symmetric_difference", "symmetric_difference_update", "union",
    "update",
)


def _iterate(shared, keys):
    for key in keys:
        if len(shared) != len(keys):
            raise RuntimeError("dictionary changed size during iteration")
        yield key


@managed("dict", _stdlib.DictProxy)
class _ArenaDict(Arena, _core.SharedDict, _stdlib.DictProxy):
    _exposed_ = _stdlib.DictProxy._exposed_
    _inside = ()

    def _make(self, manager, *args, **kwargs):
        _core.SharedDict.__init__(self, *args, **kwargs)

    def _getvalue(self):
        return _core.SharedDict.copy(self)

    def __str__(self):
        return str(self.copy())

    def __iter__(self):
        return _iterate(self, self.keys())

    def __reversed__(self):
        return iter(self.keys()[::-1])

    def fromkeys(self, iterable, value=None, /):
        """Returns a plain dict."""
        return dict.fromkeys(iterable, value)


@managed("list", _stdlib.ListProxy)
class _ArenaList(Arena, _core.SharedList, _stdlib.ListProxy):
    _exposed_ = _stdlib.ListProxy._exposed_
    _inside = ("__iadd__",)

    def _make(self, manager, *args, **kwargs):
        _core.SharedList.__init__(self, *args, **kwargs)

    def _getvalue(self):
        return _core.SharedList.copy(self)

    def __str__(self):
        return str(self.copy())

    def __iter__(self):
        index = 0
        while True:
            try:
                item = self[index]
            except IndexError:
                return
            yield item
            index += 1

    def __add__(self, other):
        if isinstance(other, _BaseProxy):
            raise TypeError(f'can only concatenate list (not "{type(other).__name__}") to list')
        return _core.SharedList.__add__(self, other)

    __lt__ = object.__lt__
    __le__ = object.__le__
    __gt__ = object.__gt__
    __ge__ = object.__ge__


class _Cell(Arena):
    """One whose contents are in a shared container of its own."""

    def __getstate__(self):
        return self._cell, self.__dict__.get("_typecode")

    def __setstate__(self, state):
        self._cell, self._typecode = state

    def _place(self):
        return self._cell._offset


@managed("Namespace", _stdlib.NamespaceProxy)
class _ArenaNamespace(_Cell, _stdlib.NamespaceProxy):
    _exposed_ = _stdlib.NamespaceProxy._exposed_
    _inside = ()

    def _make(self, manager, /, **kwds):
        self._cell = _core.SharedDict(kwds)

    def __getattribute__(self, key, _own=object.__getattribute__):
        if key[0] == "_":
            return _own(self, key)
        try:
            return _own(self, "_cell")[key]
        except KeyError:
            raise AttributeError(f"'Namespace' object has no attribute {key!r}") from None

    def __getattr__(self, key):
        kind = type(self).__name__ if key[0] == "_" else "Namespace"
        raise AttributeError(f"{kind!r} object has no attribute {key!r}")

    def __setattr__(self, key, value):
        if key[0] == "_":
            object.__setattr__(self, key, value)
        else:
            self._cell[key] = value

    def __delattr__(self, key):
        if key[0] == "_":
            return object.__delattr__(self, key)
        try:
            del self._cell[key]
        except KeyError:
            raise AttributeError(f"'Namespace' object has no attribute {key!r}") from None

    def _method(self, name):
        if name == "__getattribute__":
            return lambda key: getattr(self, key)
        return getattr(self, name)

    def _getvalue(self):
        return _stdlib.Namespace(**self._cell.copy())

    def __str__(self):
        return str(self._getvalue())


@managed("Value", _stdlib.ValueProxy)
class _ArenaValue(_Cell, _stdlib.ValueProxy):
    _exposed_ = _stdlib.ValueProxy._exposed_
    _inside = ()

    def _make(self, manager, typecode, value, lock=True):
        self._typecode = typecode
        self._cell = _core.SharedList((value,))

    def get(self):
        return self._cell[0]

    def set(self, value):
        self._cell[0] = value

    value = property(get, set)

    def _getvalue(self):
        return _stdlib.Value(self._typecode, self.get())

    def __str__(self):
        return str(self._getvalue())


@managed("Array", _stdlib.ArrayProxy)
class _ArenaArray(_Cell, _stdlib.ArrayProxy):
    _exposed_ = _stdlib.ArrayProxy._exposed_
    _inside = ()

    def _make(self, manager, typecode, sequence, lock=True):
        self._typecode = typecode
        self._cell = _core.SharedList(array.array(typecode, sequence))

    def __len__(self):
        return len(self._cell)

    def __getitem__(self, index):
        try:
            items = self._cell[index]
        except IndexError:
            raise IndexError("array index out of range") from None
        except TypeError:
            raise TypeError("array indices must be integers") from None
        return array.array(self._typecode, items) if isinstance(index, slice) else items

    def __setitem__(self, index, value):
        if isinstance(index, slice):
            if not isinstance(value, array.array):
                raise TypeError(f'can only assign array (not "{type(value).__name__}") to array slice')
            if value.typecode != self._typecode:
                raise TypeError("bad argument type for built-in operation")
            self._cell[index] = list(value)
            return
        value, = array.array(self._typecode, (value,))
        try:
            self._cell[index] = value
        except IndexError:
            raise IndexError("array assignment index out of range") from None
        except TypeError:
            raise TypeError("array indices must be integers") from None

    def _getvalue(self):
        return array.array(self._typecode, self._cell.copy())

    def __str__(self):
        return str(self._getvalue())


def _reading(name):
    operation = getattr(set, name)

    def method(self, *args):
        return operation(self._getvalue(), *map(_plain, args))

    method.__name__ = name
    return method


def _changing(name):
    operation = getattr(set, name)
    in_place = name.startswith("__")

    def method(self, *args):
        args = [_plain(arg) for arg in args]

        def change(contents):
            items = set(contents)
            result = operation(items, *args)
            if result is not NotImplemented:
                for item in contents.keys() - items:
                    del contents[item]
                contents.update(dict.fromkeys(item for item in items if item not in contents))
            return result

        result = self._cell._transact(change)
        return self if in_place and result is not NotImplemented else result

    method.__name__ = name
    return method


def _plain(arg):
    return arg._getvalue() if isinstance(arg, _ArenaSet) else arg


class _SetMethods:
    """What a set does by way of a copy of its contents."""

    for _name in SET_METHODS:
        if _name.startswith("__i") and _name not in ("__iter__",) or _name.endswith("_update"):
            locals()[_name] = _changing(_name)
        elif _name != "__class_getitem__":
            locals()[_name] = _reading(_name)
    del _name


def _sought(item):
    """What a set looks for: for a set, which cannot be in it, the frozenset that equals it."""
    return frozenset(item) if isinstance(item, set) and type(item).__hash__ is None else item


@managed("set", getattr(_stdlib, "SetProxy", None))
class _ArenaSet(_Cell, _SetMethods, getattr(_stdlib, "SetProxy", _BaseProxy)):
    _exposed_ = SET_METHODS
    _inside = ()

    def _make(self, manager, iterable=()):
        self._cell = _core.SharedDict(dict.fromkeys(iterable))

    def __contains__(self, item):
        return _sought(item) in self._cell

    def __len__(self):
        return len(self._cell)

    def __iter__(self):
        return iter(self._cell)

    def add(self, item):
        self._cell[item] = None

    def discard(self, item):
        self._cell.pop(_sought(item), None)

    def remove(self, item):
        try:
            del self._cell[_sought(item)]
        except KeyError:
            raise KeyError(item) from None

    def pop(self):
        try:
            return self._cell.popitem()[0]
        except KeyError:
            raise KeyError("pop from an empty set") from None

    def clear(self):
        self._cell.clear()

    def update(self, *iterables):
        self._cell.update(dict.fromkeys(item for iterable in iterables for item in iterable))

    def _getvalue(self):
        return set(self._cell.keys())

    def __str__(self):
        return str(self._getvalue())
