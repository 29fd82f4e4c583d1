"""The fork server: what it does before it serves, and what a child of it does first; and how to reach it."""
import errno
import os
import sys
import threading

from . import _core

_PROGRAM = ("import sys; sys.path.append(%r); from mpfast._zygote import main; sys.path.remove(%r); main(%d, %d)")


class Zygote:
    """The fork server of this process, which its children use too."""

    def __init__(self):
        self._lock = threading.Lock()
        self._control = None  # descriptor of the socket to it
        self._started = None, None  # by which process, and its pid
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._lock._at_fork_reinit)  # no function of Python: each costs a child pages

    @property
    def pid(self):
        """Its pid, None where it was not started by this process."""
        starter, pid = self._started
        return pid if starter == os.getpid() else None

    def ensure_running(self):
        """Start it where it is not running.  Returns whether it was started, and the descriptor to ask it by."""
        with self._lock:
            started = self._control is None or not self._is_alive()
            if started:
                self._start()
            return started, self._control

    def _is_alive(self):
        pid = self.pid
        if pid is None:
            return True  # whoever asks it for something will see
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            return False

    def _start(self):
        import pickle
        import socket

        from . import spawn, util
        from .forkserver import _forkserver
        from .popen_spawn_posix import in_memory
        self._forget()
        _forkserver._stop = self._stop_both
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, its:
            state = in_memory(pickle.dumps(_state_to_begin_with()))
            try:
                command = [spawn.get_executable(), *util._args_from_interpreter_flags(), "-c",
                           _PROGRAM % (root, root, its.fileno(), state)]
                self._started = os.getpid(), util.spawnv_passfds(command[0], command, [its.fileno(), state])
            finally:
                os.close(state)
            self._control = ours.detach()

    def _forget(self):
        if self._control is not None:
            os.close(self._control)
        self._control, self._started = None, (None, None)

    def _stop_both(self):
        """What ``forkserver._forkserver._stop()`` does: programs call it to have another server with other modules."""
        from .forkserver import _forkserver
        if self.pid is not None:
            self.stop()
        type(_forkserver)._stop(_forkserver)

    def stop(self):
        """Have it end; its children go on."""
        with self._lock:
            pid = self.pid
            self._forget()
        if pid is not None:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass  # somebody else has waited for it

    def ask(self, follow, data, fds):
        """Have a process started.  Returns (pid, pidfd or None if it has ended already, connection, status or None).

        follow: whether it ends together with this process.  data: a descriptor of what ``spawn._main`` reads.  fds: the
        descriptors it gets.  Raises OSError where it can't be forked or the server can't import what it preloads,
        ValueError for too many descriptors.
        """
        from . import _tracker
        tracker = _tracker.share()
        for _ in range(5):
            started, control = self.ensure_running()
            try:
                connection = _core.ask_zygote(control, follow, [data, tracker, control, *fds])
            except BrokenPipeError:
                self._lost(control, started)
                continue
            try:
                news, pid, value = _core.hear_zygote(connection)
            except EOFError:
                os.close(connection)
                self._lost(control, started)
                continue
            except BaseException:
                os.close(connection)
                raise
            if news == "started":
                return pid, value, connection, None
            if news == "ended":
                return pid, None, connection, value
            os.close(connection)
            raise OSError(value, os.strerror(value))
        raise RuntimeError("the fork server ends whenever it is started")

    def _lost(self, control, started):
        """It has ended: have the next one who asks start another, but not if it gave up before it served anybody."""
        status = 0
        with self._lock:
            if self._control == control:
                if self.pid is not None:
                    try:
                        _, status = os.waitpid(self.pid, 0)
                    except ChildProcessError:
                        pass
                self._forget()
        if started and os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise _gave_up() from None


def _gave_up():
    """The error for whom a server that ended while it imported what it was to; it has said why on stderr."""
    from .forkserver import _forkserver
    error = ConnectionResetError(errno.ECONNRESET, "the fork server ended while it imported what it preloads")
    if getattr(_forkserver, "_preload_on_error", "") == "fail":
        error.add_note("Forkserver process may have crashed during module preloading. Check stderr.")
    return error


zygote = Zygote()


def _state_to_begin_with():
    """What the server is to import, and where it finds that."""
    from . import spawn
    from .forkserver import _forkserver
    data = spawn.get_preparation_data("ignore")
    state = {"preload": list(_forkserver._preload_modules or ()), "main_path": data.get("init_main_from_path")}
    state.update((key, data[key]) for key in ("sys_path", "sys_argv") if key in data)
    if state["preload"]:
        state["preload_main"] = _preloads_main(type(_forkserver))
        state["on_error"] = getattr(_forkserver, "_preload_on_error", "ignore")
    return state


def _preloads_main(server):
    """Whether this version of the standard library imports the main module in its fork server (some do not)."""
    return any("init_main_from_path" in getattr(method, "__code__", _state_to_begin_with.__code__).co_consts
               for base in server.__mro__ if base.__module__ == "multiprocessing.forkserver"
               for name, method in vars(base).items() if name == "ensure_running" or name == "_start")


def main(control, state):
    """Be the server.  control: its end of the socket.  state: see :func:`_state_to_begin_with`."""
    import _signal  # whose handlers are the plain numbers that restoring one takes
    import gc
    import pickle
    from importlib.machinery import PathFinder

    from . import _after_fork, _prefetch, _rehearsal
    from ._bootstrap import bootstrap
    with open(state, "rb") as file:
        state = pickle.load(file)
    os.set_inheritable(control, False)
    _import_for_children()
    _preload(state)
    from . import util
    util._close_stdin()
    # Children whose end is ignored, as this process may have inherited, end without its being told.
    wanted = (_signal.SIGINT, _signal.SIG_IGN), (_signal.SIGCHLD, _signal.SIG_DFL)
    former = [(int(number), _signal.signal(number, handler)) for number, handler in wanted]
    _compile_main(state["main_path"])
    PathFinder.find_spec("nothing of this name")  # reads every directory that children search
    prefetch = _prefetch.new()
    be_child, load = _child_of(former, prefetch)
    _after_fork.prepare()
    if load is not None and _rehearsal.is_possible():
        try:
            _rehearsal.rehearse(load, _looked_up())
        except Exception:
            pass  # children do without
    bootstrap.make_ahead()
    gc.collect()
    gc.freeze()
    bootstrap.skip_hook(bootstrap.is_single_threaded())

    def told(names):
        more = prefetch.told(names) if prefetch is not None else None
        if more is False:
            gc.freeze()
        return more

    child = _core.serve_zygote(control, told)
    if child is not None:
        bootstrap.skip_hook(False)
        be_child(*child)


def _import_for_children():
    """Import what a child is likely to need, and no more: every page and mapping of this process costs each child a little."""
    from importlib.util import find_spec

    # Of these shutil wants to know no more than whether they are there, and keeps none.  One that is and cannot be loaded fails
    # when it is used.
    compressors = {"bz2": "_bz2", "lzma": "_lzma", "zlib": "zlib", "compression.zstd": "_zstd"}
    names = [name for name, library in compressors.items() if name not in sys.modules and find_spec(library)]
    sys.modules.update((name, type(sys)(name)) for name in names)
    try:
        import __future__  # noqa: F401  # most modules of programs do

        # Not as a name in its package, which would import the standard library's to look for it there.
        import mpfast.concurrent.futures._worker  # noqa: F401

        from . import _crew_worker, connection, context, popen_forkserver, queues, spawn, synchronize  # noqa: F401
    finally:
        for name in names:
            del sys.modules[name]


def _preload(state):
    if "sys_path" in state:
        sys.path[:] = state["sys_path"]
    if not state["preload"]:
        return
    from . import forkserver, process, spawn
    main_path = state["main_path"] if state["preload_main"] else None
    if hasattr(forkserver, "_handle_preload"):
        forkserver._handle_preload(state["preload"], main_path, sys_argv=state.get("sys_argv"),
                                   on_error=state["on_error"])
        return
    if "sys_argv" in state:
        sys.argv[:] = state["sys_argv"]
    if "__main__" in state["preload"] and main_path is not None:
        process.current_process()._inheriting = True
        try:
            spawn.import_main_path(main_path)
        finally:
            del process.current_process()._inheriting
    for name in state["preload"]:
        try:
            __import__(name)
        except ImportError:
            pass
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()  # or every child would print it again
        except (AttributeError, ValueError, OSError):
            pass


def _compile_main(path):
    """Compile the main module, which each child runs, but do not run it here."""
    from ._child import code_of, has_main
    if path is not None and path.endswith(".py") and not has_main(path):
        try:
            code_of(path, is_ahead=True)
        except Exception:
            pass  # each child says so


def _child_of(former, prefetch):
    """Returns the function that is a child's, and the one in it that gets it its process object, None where another does.

    former: (signal, its handler in children) pairs.  prefetch: a Prefetch or None.

    All that it needs has been looked up before the server forks: what is not touched in a child is not copied for it.
    """
    import _pickle
    import _signal
    import atexit
    import builtins

    from . import _child, _prefetch, _tracker, forkserver, process, resource_tracker, spawn, util
    from ._bootstrap import bootstrap
    tracker = _tracker.adapted(resource_tracker)
    server = forkserver._forkserver
    restore = _signal.signal
    runs_atexit = sys.version_info >= (3, 13)
    lean = _child.untouched(spawn, "_main", "prepare")
    loads, read, import_main, prepare_plainly = _pickle.loads, _core.read_start, _child.import_main, _child.prepare
    note, end, set_inheritable = _core.note_zygote, os._exit, os.set_inheritable
    bootstrap.note_stdin()
    prepare = bootstrap.prepare
    names, plainly = vars(builtins), builtins.__import__
    importing, begin, tell = _prefetch.adopt(prefetch)

    def load(data):
        current = process._current_process
        current._inheriting = True
        names["__import__"] = importing
        try:
            preparation, described = read(data)
            preparation = loads(preparation)
            if prepare(preparation):
                import_main(preparation)
            else:
                prepare_plainly(preparation)
            return loads(described)
        finally:
            del current._inheriting
            if names["__import__"] is importing:
                names["__import__"] = plainly
            tell()

    def be_child(client, sentinel, fds):
        code = 1
        try:
            if runs_atexit:
                atexit._clear()
                atexit.register(util._exit_function)
            for number, handler in former:
                restore(number, handler)
            data, tracker._asleep, zygote._control = fds[:3]
            server._inherited_fds = fds[3:]
            set_inheritable(data, False)
            set_inheritable(tracker._asleep, False)
            set_inheritable(zygote._control, False)
            begin(zygote._control)
            if sentinel < 0:
                sentinel = _child.ended()
            if lean:
                code = load(data)._bootstrap(sentinel)
            else:
                code = spawn._main(data, sentinel)
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            try:
                if runs_atexit:
                    atexit._run_exitfuncs()
                note()
                tell()
            finally:
                end(code)

    return be_child, load if lean else None


def _looked_up():
    """What a child looks up besides what load() does, (object, name of an attribute) pairs."""
    from multiprocessing import context

    from . import _after_fork, forkserver, resource_tracker
    from ._bootstrap import bootstrap
    started = context.ForkServerProcess
    return [(resource_tracker._resource_tracker, "_asleep"), (zygote, "_control"), (forkserver._forkserver, "_inherited_fds"),
            (started, "_bootstrap"), *_after_fork.looked_up(started), (bootstrap, "run"), (_core, "leave")]
