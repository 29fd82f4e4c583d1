"""A mirror of :mod:`multiprocessing.sharedctypes` with native values and arrays.

A value or array of a simple type is one piece of shared memory that holds its lock and its elements; ``.value``, items and
slices are read and written natively.  Everything else is the ctypes object in such memory, and what is not plain to see
(a wrong type, say) is left to ctypes, so that exceptions are ctypes' own.  Differences from the standard library:

- Shared objects can be pickled at any time: sent through a queue, as an argument of a pool's task, to a process that
  runs.  They are freed when the last process lets go of them.
- Integer values have ``add``, ``sub``, ``exchange`` and ``compare_exchange``, integer arrays ``add``, ``sub`` and
  ``exchange``: each takes the lock, does its work in one step, and returns the old value.
- Arrays are iterable and export the buffer protocol themselves: ``memoryview(array)``; ``numpy.asarray(array)`` shows
  the shared memory, in its own type, and copies nothing.
- An assignment to a slice that fails changes nothing.
- A lock whose owner was killed is handed on, with :class:`mpfast.OwnerDiedWarning`.
"""
from ._mirror import mirror
from ._native import native

mirror(__name__)

if native("Synchronized") is not None:
    import ctypes
    import types
    import weakref

    from . import _core, get_context, heap
    from ._install import original
    from .context import _Factories, reduction

    _STDLIB = "multiprocessing.sharedctypes"
    _ForkingPickler = reduction.ForkingPickler
    _Storage = _core.Storage

    __all__ = ["RawValue", "RawArray", "Value", "Array", "copy", "synchronized"]

    typecode_to_type = original(_STDLIB, "typecode_to_type")
    template = original(_STDLIB, "template")
    make_property = original(_STDLIB, "make_property")
    prop_cache = original(_STDLIB, "prop_cache")
    class_cache = weakref.WeakKeyDictionary()

    # ctypes type -> its letter: the types whose objects are read and written without ctypes.
    _SIMPLE = {type_: type_._type_ for type_ in (
        ctypes.c_char, ctypes.c_wchar, ctypes.c_bool, ctypes.c_byte, ctypes.c_ubyte, ctypes.c_short, ctypes.c_ushort,
        ctypes.c_int, ctypes.c_uint, ctypes.c_long, ctypes.c_ulong, ctypes.c_longlong, ctypes.c_ulonglong,
        ctypes.c_float, ctypes.c_double, ctypes.c_longdouble)}
    _BY_LETTER = {letter: type_ for type_, letter in _SIMPLE.items()}
    _core._set_simple_types({
        **{type_: (type_, ord(letter)) for type_, letter in _SIMPLE.items()},
        **{code: (type_, ord(type_._type_)) for code, type_ in typecode_to_type.items()},
    })


    def _resolve(typecode_or_type):
        return typecode_to_type.get(typecode_or_type, typecode_or_type)


    # Array types belong to the module that asks for them first: programs look for the standard library's name there.
    _array_type = types.FunctionType((lambda type_, length: type_ * length).__code__, {"__name__": _STDLIB})


    def _sizeof(type_):
        try:
            return ctypes.sizeof(type_)
        except TypeError:
            original(_STDLIB, "_new_value")(type_)  # raises, in the words of the running version
            raise


    def _new_value(type_, locked=False):
        return rebuild_ctype(type_, _Storage(_sizeof(type_), locked), None)


    def _new_raw_value(typecode_or_type, args, locked=False):
        obj = _new_value(_resolve(typecode_or_type), locked)
        obj.__init__(*args)
        return obj


    def _new_raw_array(typecode_or_type, size_or_initializer, locked=False):
        type_ = _resolve(typecode_or_type)
        if isinstance(size_or_initializer, int):
            return _new_value(_array_type(type_, size_or_initializer), locked)
        result = _new_value(_array_type(type_, len(size_or_initializer)), locked)
        result.__init__(*size_or_initializer)
        return result


    def RawValue(typecode_or_type, *args):
        """Returns a ctypes object in shared memory.

        typecode_or_type: a ctypes type or a letter of :data:`typecode_to_type`; args: for the type's ``__init__``.
        Errors are those of ctypes; OSError where the memory is not to be had.
        """
        return _new_raw_value(typecode_or_type, args)


    def RawArray(typecode_or_type, size_or_initializer):
        """Returns a ctypes array in shared memory.

        typecode_or_type: as for :func:`RawValue`; size_or_initializer: the number of elements (all zero), or a
        sequence of them.  Errors are those of ctypes; OSError where the memory is not to be had.
        """
        return _new_raw_array(typecode_or_type, size_or_initializer)


    # Type of a context -> whether its RLock() is this package's, which the lock in an object's own memory stands for.
    _embeds = {type(None): True}


    def _has_own_rlock(ctx):
        try:
            return _embeds[type(ctx)]
        except KeyError:
            embeds = _embeds[type(ctx)] = getattr(type(ctx), "RLock", None) is _Factories.RLock
            return embeds


    def _lock_for(lock, ctx):
        """The lock object that Value() and Array() use, None for the one in the object's memory."""
        if lock in (True, None):
            return None if _has_own_rlock(ctx) else ctx.RLock()
        if not hasattr(lock, "acquire"):
            raise AttributeError("%r has no method 'acquire'" % lock)
        return lock


    def Value(typecode_or_type, *args, lock=True, ctx=None):
        """Returns a ctypes object in shared memory, with a lock.

        typecode_or_type, args: as for :func:`RawValue`.  lock: True for a recursive lock of its own, False for the bare
        ctypes object, or the lock to use (anything with ``acquire`` and ``release``, else AttributeError).
        """
        if lock is True and _has_own_rlock(ctx):
            value = Synchronized._create_value(typecode_or_type, args)
            if value is not None:
                return value
        if lock is False:
            return _new_raw_value(typecode_or_type, args)
        obj = _new_raw_value(typecode_or_type, args, locked=True)
        return _wrap(obj, _lock_for(lock, ctx))


    def Array(typecode_or_type, size_or_initializer, *, lock=True, ctx=None):
        """Returns a ctypes array in shared memory, with a lock.

        typecode_or_type, size_or_initializer: as for :func:`RawArray`; lock: as for :func:`Value`.
        """
        if lock is True and _has_own_rlock(ctx):
            cls = SynchronizedString if typecode_or_type in _CHARS else SynchronizedArray
            array = cls._create_array(typecode_or_type, size_or_initializer)
            if array is not None:
                return array
        if lock is False:
            return _new_raw_array(typecode_or_type, size_or_initializer)
        obj = _new_raw_array(typecode_or_type, size_or_initializer, locked=True)
        return _wrap(obj, _lock_for(lock, ctx))


    _CHARS = ("c", ctypes.c_char)


    def copy(obj):
        """Returns a copy of the ctypes object *obj* in shared memory."""
        new_obj = _new_value(type(obj))
        ctypes.pointer(new_obj)[0] = obj
        return new_obj


    def synchronized(obj, lock=None, ctx=None):
        """Returns the ctypes object *obj* wrapped up with *lock* (a new recursive one by default)."""
        assert not isinstance(obj, original(_STDLIB, "SynchronizedBase")), "object already synchronized"
        return _wrapper_class(obj)(obj, lock, ctx)


    def _wrapper_class(obj):
        if isinstance(obj, ctypes._SimpleCData):
            return Synchronized
        if isinstance(obj, ctypes.Array):
            return SynchronizedString if obj._type_ is ctypes.c_char else SynchronizedArray
        cls = type(obj)
        try:
            return class_cache[cls]
        except KeyError:
            properties = {name: make_property(name) for name, *_ in cls._fields_}
            wrapper = class_cache[cls] = type("Synchronized" + cls.__name__, (SynchronizedBase,), properties)
            return wrapper


    def _wrap(obj, lock):
        """A wrapper of *obj*; lock None: that of its storage."""
        cls = _wrapper_class(obj)
        wrapper = cls.__new__(cls)
        wrapper._bind(obj, lock, *_simple_form(obj))
        return wrapper


    def _simple_form(obj):
        """(type, None) or (type, length) for an object or array of a simple type, which is then all that it is."""
        cls = type(obj)
        if cls in _SIMPLE:
            return cls, None
        if isinstance(obj, ctypes.Array) and obj._type_ in _SIMPLE and cls is _array_type(obj._type_, obj._length_):
            return obj._type_, obj._length_
        return None, None


    # Pickling.

    def reduce_ctype(obj):
        """How ForkingPickler pickles ctypes objects: those in shared memory by reference, all others as ctypes does."""
        wrapper = getattr(obj, "_wrapper", None)
        if wrapper is None:
            return obj.__reduce_ex__(2)
        form = (obj._type_, obj._length_) if isinstance(obj, ctypes.Array) else (type(obj), None)
        if isinstance(wrapper, _Storage):
            return _attach_ctype, (*form, *wrapper.dump())
        return rebuild_ctype, (form[0], wrapper, form[1])


    def _reduce_storage(storage):
        return _Storage.load, storage.dump()


    # The standard library's reduce_ctype, where that was registered for the type last, pickles the storage by itself.
    _ForkingPickler.register(_Storage, _reduce_storage)


    def rebuild_ctype(type_, wrapper, length):
        """Returns an object of *type_* (an array of *length* of them, unless that is None) in the memory of *wrapper*."""
        if length is not None:
            type_ = _array_type(type_, length)
        _ForkingPickler.register(type_, reduce_ctype)
        obj = type_.from_buffer(wrapper.create_memoryview())
        obj._wrapper = wrapper
        return obj


    def _attach_ctype(type_, length, *dumped):
        return rebuild_ctype(type_, _Storage.load(*dumped), length)


    def _attach_simple(letter, length, lock, *dumped):
        if length is None:
            cls = Synchronized
        else:
            cls = SynchronizedString if letter == "c" else SynchronizedArray
        return cls._attach(_BY_LETTER[letter], _Storage.load(*dumped), length, lock)


    def _attach_wrapper(type_, length, *dumped):
        return _wrap(_attach_ctype(type_, length, *dumped), None)


    # Wrappers.

    def _publish(cls):
        """Give *cls* the place that the standard library's class has."""
        cls.__module__ = _STDLIB
        return _core.own_methods(cls)


    @_publish
    class SynchronizedBase(_core.SynchronizedBase, original(_STDLIB, "SynchronizedBase")):
        __doc__ = _core.SynchronizedBase.__doc__

        def __init__(self, obj, lock=None, ctx=None):
            if not lock:
                ctx = ctx or get_context()
                lock = ctx.RLock()
            self._bind(obj, lock, *_simple_form(obj))

        def __reduce__(self):
            letter, length, storage, lock = self._parts()
            if letter is not None:
                return _attach_simple, (letter, length, lock, *storage.dump())
            if lock is None:
                attach, args = reduce_ctype(self._obj)
                return _attach_wrapper, args
            return synchronized, (self._obj, lock)


    @_publish
    class Synchronized(_core.Synchronized, SynchronizedBase, original(_STDLIB, "Synchronized")):
        __doc__ = _core.Synchronized.__doc__


    @_publish
    class SynchronizedArray(_core.SynchronizedArray, SynchronizedBase, original(_STDLIB, "SynchronizedArray")):
        __doc__ = _core.SynchronizedArray.__doc__


    @_publish
    class SynchronizedString(_core.SynchronizedString, SynchronizedArray, original(_STDLIB, "SynchronizedString")):
        __doc__ = _core.SynchronizedString.__doc__
