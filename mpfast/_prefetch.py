"""Modules that the fork server finds and reads once for all its children, and never runs.

A child imports what its program's functions need: the import system would look for the same files in every child and read them
there.  Which modules those are the children tell the server.  ``src/objects/prefetch.c`` has the rest.
"""
import builtins
import os
import sys
import time
import warnings
from importlib.machinery import BuiltinImporter, FileFinder, FrozenImporter, PathFinder, SourceFileLoader
from importlib.util import module_from_spec
from types import BuiltinFunctionType

from . import _core, _install

_NEWEST = 3, 14  # the last version of which it is known how it imports
_MOST = 200  # modules that are held
_MOST_KNOWN = 5000  # names
_LONGEST = 4000  # characters in what a child tells
_READINGS = 100  # how often one module is looked for
_SETTLED = 50_000_000  # nanoseconds: what has changed in so short a time may change again and have the same time
_KNOWN_FINDERS = {("_distutils_hack", "DistutilsMetaFinder")}  # which come before the import system's own in many environments


class _Known:
    """What the server knows of a name: how often it has looked for the module, and what it found."""

    __slots__ = ("readings", "files", "stamps", "submodules")

    def __init__(self):
        self.readings = 0
        self.files = self.stamps = self.submodules = None


class Prefetch:
    """What the server of this process has read."""

    def __init__(self, lock):
        self._entries = _core.Prefetch(builtins.__import__, vars(builtins), lock, _install.finder)
        self._known = {}
        self._held = set()  # names
        self._todo = []
        self._server = -1, None
        self.importing = self._entries.__import__

    def attach(self):
        """Have objects that this process and its children receive import through it."""
        self._entries.attach(self._tell_of)

    def serve_child(self, control):
        """In a child: *control* is the descriptor by which it reaches the server."""
        self._server = control, os.fstat(control)

    def told(self, names):
        """Learn what *names*, a str of lines or None, says, a module a call.

        Returns True while there is more to do, False when that is done, None where there was nothing.
        """
        if names is not None:
            self._todo = sorted({*self._todo, *filter(self._is_news, names.split("\n"))}, reverse=True)
        if not self._todo:
            return None
        self._learn(self._todo.pop())
        return bool(self._todo)

    def tell(self):
        """In a child: tell the server what it could have read for it, if there is anything new."""
        missed = self._entries.missed()
        if missed:
            self._tell_of(*filter(sys.modules.__contains__, missed))
            missed.clear()

    def _tell_of(self, *names):
        told = set()
        for name in names:
            while name and name not in told:
                told.add(name)
                name = name.rpartition(".")[0]
        text = "\n".join(sorted(told))
        if len(text) >= _LONGEST:
            text = text[:_LONGEST].rpartition("\n")[0]
        control, status = self._server
        try:
            if os.path.samestat(os.fstat(control), status):  # else the program has closed it, and opened something else
                _core.tell_zygote(control, text)
        except (OSError, ValueError):
            pass  # it is closed; or a name is none

    def _is_news(self, name):
        """Whether there is anything to do for the name: it is new, or its files have changed since they were read."""
        known = self._known.get(name)
        if known is None:
            return len(self._known) < _MOST_KNOWN
        return known.files is not None and _core.file_stamps(known.files) != known.stamps

    def _learn(self, name):
        known = self._known.setdefault(name, _Known())
        known.readings += 1
        entry = None
        if known.readings < _READINGS and (name in self._held or len(self._held) < _MOST):
            try:
                entry = name not in sys.modules and not _install.is_hooked(name) and self._read(name)
                if entry:
                    self._entries.add(name, *entry)
            except _TooSoon:
                known.files, known.stamps = (), None  # the next child that tells of it has it looked for again
                return
            except Exception:
                entry = None
        if entry:
            spec, *_, known.files, known.stamps = entry
            known.submodules = spec.submodule_search_locations
            self._held.add(name)
        else:
            known.files = None
            self._entries.leave(name)
            self._held.discard(name)

    def _read(self, name):
        """Returns what the entry of the module *name* holds, None for what is not to be imported in this way."""
        search = self._where(name.rpartition(".")[0])
        try:
            files = search and _find(name, search)
        finally:
            _distrust(search or ())
        if not files:
            return None
        stamps = _core.file_stamps(files)
        if any(map(_is_unsettled, files)):
            raise _TooSoon
        spec = PathFinder.find_spec(name, list(search))  # once more: what has changed before the stamps does not show in them
        if spec is None or spec.origin != os.fsdecode(files[-1]):
            return None
        code = _code_without_a_word(spec.loader, name)
        return code and (spec, module_from_spec(spec), code, list(search), files, stamps)

    def _where(self, parent):
        """The directories where the modules of the package *parent* are searched for; of none where that is ""."""
        if not parent:
            return sys.path
        if parent not in sys.modules:
            return self._known[parent].submodules if parent in self._known else None
        where = getattr(sys.modules[parent], "__path__", None)
        return where if type(where) is list else None


class _TooSoon(Exception):
    """A file has changed a moment ago."""


def _code_without_a_word(loader, name):
    """The code of the module *name*, None where compiling it warns of something: each child that does so says it."""
    warned = []
    show, warnings._showwarnmsg = warnings._showwarnmsg, warned.append
    try:
        code = loader.get_code(name)
    finally:
        warnings._showwarnmsg = show
    return None if warned else code


def _is_unsettled(file):
    try:
        return time.time_ns() - os.stat(file).st_mtime_ns < _SETTLED
    except OSError:
        return False


def _distrust(search):
    """Have children list directories again that have just changed: they would take the server's list while the time is the same."""
    for directory in search:
        finder = sys.path_importer_cache.get(directory)
        if finder is not None and _is_unsettled(directory):
            finder.invalidate_caches()


def _is_known(finder):
    """Whether what *finder* says of a name is always the same: it can be asked in the server."""
    return (finder in (BuiltinImporter, FrozenImporter) or
            (type(finder).__module__, type(finder).__name__) in _KNOWN_FINDERS)


def _find(name, search):
    """Returns the files that say where the module *name* is, as bytes, the last one its source; or None."""
    for finder in sys.meta_path:
        if finder is PathFinder:
            break
        if finder is _install.finder:
            continue
        if not _is_known(finder) or finder.find_spec(name, None if search is sys.path else search):
            return None
    else:
        return None
    files = []
    for directory in search:
        if not isinstance(directory, str) or not os.path.isabs(directory):
            return None
        # A package of the name comes before a module, and its directory does not change the one above when it becomes one.
        files += directory, os.path.join(directory, name.rpartition(".")[2])
        spec = PathFinder.find_spec(name, [directory])
        if type(sys.path_importer_cache.get(directory)) not in (FileFinder, type(None)):
            return None
        if spec is not None:
            return (*map(os.fsencode, files), os.fsencode(spec.origin)) if type(spec.loader) is SourceFileLoader else None
    return None


def new():
    """A Prefetch for this process, None where it could make a difference."""
    if (sys.version_info[:2] > _NEWEST or sys.flags.verbose or "importtime" in sys._xoptions or
            not sys.flags.ignore_environment and os.environ.get("PYTHONPROFILEIMPORTTIME") or
            type(builtins.__import__) is not BuiltinFunctionType):
        return None
    try:
        from _frozen_importlib import _ModuleLockManager
    except ImportError:
        return None
    return Prefetch(_ModuleLockManager)


def adopt(prefetch):
    """Have children use *prefetch*, as new() returns it.

    Returns what stands for __import__ while they start, and two functions for them: to be called with the descriptor by which they
    reach the server, and when they have started and when they end.
    """
    if prefetch is None:
        return builtins.__import__, _nothing, _nothing
    prefetch.attach()
    return prefetch.importing, prefetch.serve_child, prefetch.tell


def _nothing(*_):
    pass
