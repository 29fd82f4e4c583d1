"""Modules that the fork server finds and reads once for all its children, and never runs.

A child imports what its program's functions need: the import system would look for the same files in every child and read them
there.  Which modules those are the children tell the server when they end.  ``src/objects/prefetch.c`` has the rest.
"""
import builtins
import os
import sys
from importlib.machinery import BuiltinImporter, FileFinder, FrozenImporter, PathFinder, SourceFileLoader
from importlib.util import module_from_spec
from types import BuiltinFunctionType, FunctionType

from . import _core, _install

_NEWEST = 3, 14  # the last version of which it is known how it imports
_MOST = 200  # modules
_LONGEST = 1 << 14  # characters in what a child tells

_KNOWN_FINDERS = {("_distutils_hack", "DistutilsMetaFinder")}  # which come before the import system's own in many environments

_importing = None  # in a child of the fork server: what stands for __import__


class Prefetch:
    """What the server of this process has read."""

    def __init__(self):
        self._entries = _core.Prefetch(builtins.__import__, vars(builtins), _install.finder)
        self._known = {}  # name -> where its submodules are searched for, None for a module that has none
        self._todo = []
        self._missed = set()
        self.importing = self._entries.__import__

    def told(self, names):
        """Learn what *names*, a str of lines or None, says, a module a call.

        Returns True while there is more to do, False when that is done, None where there was nothing.
        """
        if names is not None:
            self._todo += sorted(set(names.split("\n")).difference(self._known, self._todo), reverse=True)
        del self._todo[:max(0, len(self._known) + len(self._todo) - _MOST)]
        if not self._todo:
            return None
        self._learn(self._todo.pop())
        return bool(self._todo)

    def note_missed(self):
        """In a child: note what it has imported since the last call and could have been read for it.

        Where a thread has begun meanwhile it may have waited for one of these modules, as none could for one read in advance.
        """
        missed = self._entries.missed()
        if missed:
            if self._entries.was_alone():
                self._missed |= missed
            missed.clear()

    def missed(self):
        """What a child tells the server when it ends: what it has noted, a str of lines or ""."""
        names = set()
        for name in self._missed:
            while name and name in sys.modules:
                names.add(name)
                name = name.rpartition(".")[0]
        text = "\n".join(sorted(names))
        return text if len(text) < _LONGEST else text[:_LONGEST].rpartition("\n")[0]

    def _learn(self, name):
        self._known[name] = None
        try:
            entry = name not in sys.modules and not _install.is_hooked(name) and self._read(name)
        except Exception:
            entry = None
        if entry:
            self._known[name] = entry[0].submodule_search_locations
            self._entries.add(name, *entry)
        else:
            self._entries.leave(name)

    def _read(self, name):
        """Returns what the entry of the module *name* holds, None for what is not to be imported in this way."""
        search = self._where(name.rpartition(".")[0])
        files = search and _find(name, search)
        if not files:
            return None
        stamps = _core.file_stamps(files)
        spec = PathFinder.find_spec(name, list(search))  # once more: what has changed before the stamps does not show in them
        if spec is None or spec.origin != os.fsdecode(files[-1]):
            return None
        return spec, module_from_spec(spec), spec.loader.get_code(name), list(search), files, stamps

    def _where(self, parent):
        """The directories where the modules of the package *parent* are searched for; of none where that is ""."""
        if not parent:
            return sys.path
        if parent not in sys.modules:
            return self._known.get(parent)
        where = getattr(sys.modules[parent], "__path__", None)
        return where if type(where) is list else None


def _is_known(finder):
    """Whether what *finder* says of a name is always the same: it can be asked in the server."""
    return (finder in (BuiltinImporter, FrozenImporter) or
            (type(finder).__module__, type(finder).__name__) in _KNOWN_FINDERS)


def _find(name, search):
    """Returns the files that say where the module *name* is, as bytes, the last one its source; or None."""
    for finder in sys.meta_path:
        if finder is PathFinder:
            break
        if not _is_known(finder) or finder.find_spec(name, None if search is sys.path else search):
            return None
    files = []
    for directory in search:
        if not isinstance(directory, str) or not os.path.isabs(directory):
            return None
        files.append(os.fsencode(directory))
        spec = PathFinder.find_spec(name, [directory])
        if type(sys.path_importer_cache.get(directory)) not in (FileFinder, type(None)):
            return None
        if spec is not None:
            if type(spec.loader) is not SourceFileLoader:
                return None
            if spec.submodule_search_locations is not None:
                files.append(os.fsencode(os.path.dirname(spec.origin)))
            return (*files, os.fsencode(spec.origin))
    return None


def new():
    """A Prefetch for this process, None where it could make a difference."""
    if (sys.version_info[:2] > _NEWEST or sys.flags.verbose or "importtime" in sys._xoptions or
            type(builtins.__import__) is not BuiltinFunctionType):
        return None
    return Prefetch()


def adopt(prefetch):
    """Have children use *prefetch*.  Returns what stands for __import__ while they start, and its note_missed and missed.

    prefetch: as new() returns it.  Without one: the usual __import__, and functions that do nothing.
    """
    global _importing
    if prefetch is None:
        return builtins.__import__, _nothing, _nothing
    _importing = prefetch.importing
    return prefetch.importing, prefetch.note_missed, prefetch.missed


def _nothing():
    return None


def caller():
    """Returns a function that calls a C function with arguments, and imports for it what was read in advance."""
    if _importing is None:
        return _call
    # What a C function imports is imported by the __import__ of the frame that calls it.
    return FunctionType(_call.__code__, {"__builtins__": {**vars(builtins), "__import__": _importing}})


def _call(function, *args):
    return function(*args)
