"""A mirror of :mod:`multiprocessing.popen_spawn_posix` whose Popen starts an interpreter that imports what it needs."""
from . import popen_fork as _popen_fork
from ._mirror import mirror

mirror(__name__)

if hasattr(_popen_fork, "watching"):
    import copyreg
    import functools
    import io
    import marshal
    import os
    import sys

    import multiprocessing.context as _context

    from . import _child, _core, _crew_worker, _late, _tracker, context as _own_context, spawn, util
    from ._install import original
    from .context import reduction, set_spawning_popen

    __all__ = ["Popen"]

    _PROGRAM = """
import marshal, sys
f = open(%d, 'rb')
late, child = marshal.loads(f.read(%d))
module = sys.modules['mpfast._late'] = type(sys)('mpfast._late')
module.__file__ = %r
exec(late, vars(module))
names = {'__name__': 'mpfast._child', '__file__': %r}
exec(child, names)
names['main'](f, %d, %d, %r, %r, %r)
"""


    @functools.lru_cache(None)
    def _code_of_child():
        """What the child runs first, compiled: it searches for nothing and compiles nothing."""
        loader = type(_child.__spec__.loader)  # in a spawned child that of the other module is not known
        return marshal.dumps(tuple(loader(module.__name__, module.__file__).get_code(module.__name__) for module in (_late, _child)))


    @_popen_fork.watching
    class Popen(original("multiprocessing.popen_spawn_posix", "Popen")):

        def _launch(self, process_obj):
            if not _is_plain():
                return self._launch_as_stdlib(describe(self, process_obj))
            worker = _describe_worker(self, process_obj)
            described = describe(self, process_obj, compiled=True) if worker is None else [worker]
            self._launch_lean(described, _child.follows(process_obj), worker is not None)

        def _launch_lean(self, described, follow, is_worker):
            tracker = _tracker.share()
            code = _code_of_child()
            data = in_memory(code, *described)
            try:
                program = _PROGRAM % (data, len(code), _late.__file__, _child.__file__, os.getpid(), tracker, _core.__file__, follow,
                                      is_worker)
                command = [spawn.get_executable(), *util._args_from_interpreter_flags(), "-c", f"exec({program!r}, {{}})",
                           "--multiprocessing-fork"]
                self.pid = util.spawnv_passfds(command[0], command, [*self._fds, data, tracker])
            finally:
                os.close(data)
            self._watch()

        def _launch_as_stdlib(self, described):
            from . import resource_tracker
            tracker = resource_tracker.getfd()
            reader, writer = os.pipe()
            try:
                command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=reader)
                self.pid = util.spawnv_passfds(spawn.get_executable(), command, [*self._fds, tracker, reader])
            except BaseException:
                os.close(writer)
                raise
            finally:
                os.close(reader)
            self._watch(writer)  # which tells the child, too, when this process has ended
            for piece in described:
                _write(writer, piece)


    def describe(popen, process_obj, compiled=False):
        """What a child is told: a list of two pickles, of the preparation data and of the process object.

        compiled: whether with the main module's code, which saves the child compiling it.
        """
        data = _preparation_data(process_obj, compiled)
        pickles = []
        set_spawning_popen(popen)
        try:
            for described in data, process_obj:
                file = io.BytesIO()
                reduction.dump(described, file)
                pickles.append(file.getbuffer())
        finally:
            set_spawning_popen(None)
        return pickles


    def _preparation_data(process_obj, compiled):
        data = spawn.get_preparation_data(process_obj._name)
        if compiled and "init_main_from_path" in data:
            data["mpfast_main"] = _marshalled(data["init_main_from_path"])
        return data


    def _describe_worker(popen, process_obj):
        """What a child makes the worker of a pool from, without pickling; None for any other process, and where it needs that."""
        state = vars(process_obj).copy()
        crew, *arguments = state.pop("_args", None) or (None,)
        if (type(process_obj) not in _REDUCES or state.pop("_target") is not _crew_worker.work or
                type(crew) is not _core.Crew or not _is_pickled_as_ever(type(process_obj))):
            return None
        state["_config"] = config = dict(state["_config"])
        authkey = config.pop("authkey")
        preparation = _preparation_data(process_obj, True)
        if isinstance(preparation.get("authkey"), bytes):  # of a class of its own, which the child makes of it again
            preparation["authkey"] = bytes(preparation["authkey"])
        set_spawning_popen(popen)
        try:
            described = preparation, state, arguments, crew.__getstate__(), bytes(authkey)
            return marshal.dumps(described) if _is_data(described) else None
        except (RecursionError, ValueError):  # something is in itself
            return None
        finally:
            set_spawning_popen(None)


    def _is_data(value):
        """Whether marshal makes of *value* what pickle does: of what looks like bytes it makes bytes."""
        kind = type(value)
        if kind is dict:
            return all(map(_is_data, value)) and all(map(_is_data, value.values()))
        return kind in _ATOMS or (kind is tuple or kind is list) and all(map(_is_data, value))


    _ATOMS = frozenset([bool, bytes, complex, float, int, str, type(None)])


    def _is_pickled_as_ever(cls):
        """Whether no program has a say in how process objects of the class *cls* are pickled."""
        pickler = reduction.ForkingPickler
        return (_child.untouched(reduction, "dump") and
                (pickler.__module__, pickler.__qualname__) == ("multiprocessing.reduction", "ForkingPickler") and
                cls not in pickler._extra_reducers and cls not in copyreg.dispatch_table and
                (cls.__reduce_ex__, cls.__reduce__, getattr(cls, "__getstate__", None)) == _REDUCES.get(cls))


    _REDUCES = {cls: (cls.__reduce_ex__, cls.__reduce__, getattr(cls, "__getstate__", None))
                for cls in (_context.SpawnProcess, _own_context.SpawnProcess)}
    _marshalled_main: dict = {}  # path -> (code, what a child gets)


    def _marshalled(path):
        try:
            code = _child.code_of(path, is_ahead=True)
        except Exception:
            code = None
        if code is None:
            return None  # the child says why
        known = _marshalled_main.get(path)
        if known is None or known[0] is not code:
            known = _marshalled_main[path] = code, _child.dump_code(path)
        return known[1]


    def in_memory(*pieces):
        """A descriptor of a file in memory that holds *pieces*, to be read from its start."""
        descriptor = os.memfd_create("mpfast-start", os.MFD_CLOEXEC)
        try:
            for piece in pieces:
                _write(descriptor, piece)
            os.lseek(descriptor, 0, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


    def _is_plain():
        """Whether the child is this very interpreter, started as the standard library starts it."""
        return (_child.untouched(spawn, "get_command_line") and not getattr(sys, "frozen", False) and
                sys.executable and os.fsencode(spawn.get_executable()) == os.fsencode(sys.executable))


    def _write(descriptor, data):
        data = memoryview(data)
        while data:
            data = data[os.write(descriptor, data):]
