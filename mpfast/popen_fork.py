"""A mirror of :mod:`multiprocessing.popen_fork` whose Popen watches its process through a pidfd.

Where the kernel has no pidfds this is the standard library's.
"""
import os

from . import _native
from ._mirror import mirror

mirror(__name__)


def _have_pidfds():
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


if _native.native("Bootstrap") is not None and _have_pidfds():
    import atexit
    import errno
    import math
    import multiprocessing.context as _context
    import multiprocessing.popen_fork as _stdlib
    import multiprocessing.util as _util
    import select
    import signal
    import sys
    import threading
    import time

    from . import _after_fork, _child, _core, context as _own_context, process as _process
    from ._bootstrap import _bootstrap, bootstrap
    from ._install import original
    from .util import Finalize, close_fds

    __all__ = ["Popen"]

    _LONGEST_POLL = 1 << 30  # milliseconds

    #: Held from asking the kernel for an exit status, which it tells once, to noting it.  Signal handlers may ask meanwhile.
    reaping = threading.RLock()
    os.register_at_fork(after_in_child=reaping._at_fork_reinit)


    def is_ready(descriptor, timeout):
        """Whether *descriptor* is readable within *timeout* seconds (None: for ever)."""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if timeout is None:
            return bool(poll.poll())
        deadline = time.monotonic() + timeout
        while True:
            milliseconds = math.ceil(max(timeout, 0) * 1000)
            if poll.poll(min(milliseconds, _LONGEST_POLL)):
                return True
            timeout = deadline - time.monotonic()
            if timeout <= 0:
                return False


    class _Watching:
        """What the Popen classes have in common: ``sentinel`` is a pidfd."""

        def wait(self, timeout=None):
            """Wait until the process has ended.  Returns its exit code, None after *timeout* seconds."""
            if self.returncode is None:
                if timeout is not None and not is_ready(self.sentinel, timeout):
                    return None
                return self.poll(os.WNOHANG if timeout == 0.0 else 0)
            return self.returncode

        def poll(self, flag=os.WNOHANG):
            """Returns the exit code, None while the process runs; waits for its end unless *flag* is os.WNOHANG.

            None, too, where the program has waited for the process itself.
            """
            if self.returncode is None:
                if flag != os.WNOHANG:
                    try:
                        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
                    except ChildProcessError:
                        pass
                with reaping:
                    self._reap()
            return self.returncode

        def _reap(self):
            if self.returncode is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except OSError:
                    return
                if pid == self.pid:
                    self.returncode = os.waitstatus_to_exitcode(status)

        def _send_signal(self, sig):
            if self.returncode is None:
                try:
                    self._send(sig)
                except ProcessLookupError:
                    pass
                except OSError:
                    if self.wait(timeout=0.1) is None:
                        raise

        def _send(self, sig):
            try:
                signal.pidfd_send_signal(self.sentinel, sig)
            except OSError as exc:
                if exc.errno not in (errno.EBADF, errno.EINVAL):
                    raise
                os.kill(self.pid, sig)  # not a pidfd: its process had ended too soon, or the program has closed it

        def interrupt(self):
            """Send SIGINT."""
            self._send_signal(signal.SIGINT)

        def _watch(self, *descriptors):
            """Get a sentinel for ``self.pid``, a child of this process; close it and *descriptors* in the end."""
            try:
                self.sentinel = os.pidfd_open(self.pid)
            except ProcessLookupError:
                self.sentinel = _child.ended()  # ended, and waited for by somebody else
            except OSError:
                os.kill(self.pid, signal.SIGKILL)
                self.poll(0)
                close_fds(*descriptors)
                raise
            self.finalizer = Finalize(self, close_fds, (self.sentinel, *descriptors))


    def watching(cls):
        """A class decorator: *cls*, a Popen class, gets what is in :class:`_Watching`.

        Not a base class: the standard library's Popen classes may be derived from one here by now.
        """
        for name, value in vars(_Watching).items():
            if callable(value) and name not in vars(cls):
                setattr(cls, name, value)
        return cls


    @watching
    class Popen(original("multiprocessing.popen_fork", "Popen")):

        def _launch(self, process_obj):
            self.pid = None
            bootstrap.fork(*_how_to_fork([process_obj], _child.follows(process_obj), [self]))
            self.finalizer = Finalize(self, close_fds, (self.sentinel,))


    _Popen = Popen
    _pidfd_send_signal = signal.pidfd_send_signal
    _SIGTERM = signal.SIGTERM
    _PLACES = {_own_context.ForkProcess: (_own_context, sys.modules[__name__]), _context.ForkProcess: (_context, _stdlib)}
    # By class: _core.Definitions of what starts its processes, and of what ends them, when nothing of that was the program's own.
    _untouched = {}
    _untouched_ends = {}


    def start_together(processes, started):
        """Do what ``start()`` of each of *processes*, in their order, does, and append it to the list *started*.

        They are forked right behind each other, with all that can be done before that done: whatever the parent does behind a
        fork it does on pages that are copied for it, once more each time; a function that it calls is two or three of them.
        Returns False, and nothing is done, where a part of that is the program's own.
        """
        if not _may_fork_ahead(processes):
            return False
        follow = _child.follows(*processes)
        if follow is None:
            return False
        _util._flush_std_streams()
        _process._cleanup()
        children = _process._children
        popens = [_Popen.__new__(_Popen) for _ in processes]
        for popen in popens:
            popen.returncode = popen.pid = None
            popen.finalizer = Finalize(popen, close_fds, ())  # of nothing yet
        try:
            how = _how_to_fork(processes, follow, popens)
            try:
                bootstrap.fork(*how)
            finally:  # those that are there
                for process in processes:
                    popen = popens[len(started)]
                    if popen.pid is None:
                        break
                    process._sentinel = sentinel = popen.sentinel
                    popen.finalizer._args = sentinel,
                    process._popen = popen
                    del process._target, process._args, process._kwargs
                    children.add(process)
                    started.append(process)
        except BaseException:  # there is no other child to be had; or an interrupt, anywhere
            _end_those_not_started(processes, popens, started)
            raise
        return True


    def _end_those_not_started(processes, popens, started):
        for process, popen in list(zip(processes, popens))[len(started):]:
            if process._popen is popen:
                _process._children.add(process)
                started.append(process)
            elif popen.pid is not None:
                _abandon(popen.pid)
                popen.finalizer._args = popen.sentinel,
                popen.finalizer()


    def _abandon(pid):
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ChildProcessError, ProcessLookupError):
            pass  # somebody else has waited for it


    def _may_fork_ahead(processes):
        """Whether nothing of how *processes* are started is the program's own, and ``start()`` has no objection."""
        cls = type(processes[0]) if processes else None
        if cls not in _PLACES or not _is_untouched(cls) or _process.current_process()._config.get("daemon"):
            return False
        me = os.getpid()
        for process in processes:
            if type(process) is not cls or not _is_plain(process, me):
                return False
        return True


    def _is_untouched(cls):
        known = _untouched.get(cls)
        if known is not None and known.hold():
            return True
        context, popens = _PLACES[cls]
        known = _core.Definitions((
            (vars(popens), "Popen"), (cls, "start"), (cls, "_Popen"), (_Popen, "__init__"), (_Popen, "_launch"),
            (vars(_util), "_flush_std_streams")))
        if not (popens.Popen is _Popen and _child.untouched(cls, "start", module=_process) and
                _child.untouched(cls, "_Popen", module=context) and _child.untouched(_Popen, "__init__", module=_stdlib) and
                _child.untouched(_Popen, "_launch", module=sys.modules[__name__]) and
                _child.untouched(_util, "_flush_std_streams")):
            return False
        _untouched[cls] = known
        _note_end(cls)
        return True


    def _note_end(cls):
        known = _core.Definitions((
            (cls, "terminate"), (cls, "_check_closed"), (_Popen, "terminate"), (_Popen, "_send_signal"), (_Popen, "_send"),
            (vars(signal), "pidfd_send_signal")))
        if (signal.pidfd_send_signal is _pidfd_send_signal and
                _child.untouched(cls, "terminate", "_check_closed", module=_process) and
                _child.untouched(_Popen, "terminate", module=_stdlib) and
                _child.untouched(_Popen, "_send_signal", "_send", module=sys.modules[__name__])):
            _untouched_ends[cls] = known


    def end(process):
        """Do what ``terminate()`` of *process* does, at once.  Returns False, and nothing is done, where that cannot be.

        It is five functions less, each of which is a few pages to copy behind a fork.
        """
        known = _untouched_ends.get(type(process))
        if known is None:
            return False
        popen = process._popen
        if type(popen) is not _Popen or not known.hold(process, popen):
            return False
        if popen.returncode is None:
            try:
                _pidfd_send_signal(popen.sentinel, _SIGTERM)
            except OSError:
                return False
        return True


    def _is_plain(process, me):
        own = vars(process)
        return ("start" not in own and "_Popen" not in own and process._popen is None and not process._closed and
                process._parent_pid == me)


    def _how_to_fork(processes, follow, popens):
        """The arguments of bootstrap.fork(): a child for each of the *processes*, whose pid and sentinel its Popen gets."""
        _after_fork.prepare()
        tracker = sys.modules.get("multiprocessing.resource_tracker")
        # The child of a process shares its tracker, that of a bare fork does not.
        intent = getattr(tracker, "_fork_intent", None)
        return os.fork, tuple(processes), _bootstrap, follow, tuple(popens), intent, _run


    def _run(process_obj, follow, parent, sentinel):
        """In the child: be *process_obj*."""
        code = 1
        try:
            if _RUNS_ATEXIT:
                atexit._clear()
                atexit.register(sys.modules["multiprocessing.util"]._exit_function)
            if follow:
                _core.follow_parent(parent)
            code = process_obj._bootstrap(parent_sentinel=sentinel)
        finally:
            if _RUNS_ATEXIT:
                atexit._run_exitfuncs()
            os._exit(code)


    #: Since 3.13 forked children run what they have registered with :mod:`atexit`.
    _RUNS_ATEXIT = sys.version_info >= (3, 13)
