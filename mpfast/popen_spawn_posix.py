"""A mirror of :mod:`multiprocessing.popen_spawn_posix` whose Popen starts an interpreter that imports what it needs."""
from . import popen_fork as _popen_fork
from ._mirror import mirror

mirror(__name__)

if hasattr(_popen_fork, "watching"):
    import functools
    import io
    import marshal
    import os
    import sys

    from . import _child, _tracker, spawn, util
    from ._install import original
    from .context import reduction, set_spawning_popen

    __all__ = ["Popen"]

    _PROGRAM = ("import marshal; f = open(%d, 'rb'); d = {'__name__': 'mpfast._child', '__file__': %r}; "
                "exec(marshal.loads(f.read(%d)), d); d['main'](f, %d, %d, %r)")


    @functools.lru_cache(None)
    def _code_of_child():
        """What the child runs first, compiled: it searches for nothing and compiles nothing."""
        return marshal.dumps(_child.__spec__.loader.get_code(_child.__name__))


    @_popen_fork.watching
    class Popen(original("multiprocessing.popen_spawn_posix", "Popen")):

        def _launch(self, process_obj):
            if _is_plain():
                self._launch_lean(describe(self, process_obj, compiled=True), _child.follows(process_obj))
            else:
                self._launch_as_stdlib(describe(self, process_obj))

        def _launch_lean(self, described, follow):
            tracker = _tracker.share()
            code = _code_of_child()
            data = in_memory(code, *described)
            try:
                program = _PROGRAM % (data, _child.__file__, len(code), os.getpid(), tracker, follow)
                command = [spawn.get_executable(), *util._args_from_interpreter_flags(), "-c", program,
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
        data = spawn.get_preparation_data(process_obj._name)
        if compiled and "init_main_from_path" in data:
            data["mpfast_main"] = _marshalled(data["init_main_from_path"])
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


    _marshalled_main: dict = {}  # path -> (code, what a child gets)


    def _marshalled(path):
        try:
            code = _child.code_of(path)
        except Exception:
            return None  # the child says so
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
