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
    import weakref

    from . import _child, _core, context as _own_context, process as _process
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
            _fork([process_obj], _child.follows(process_obj), [self])
            self.finalizer = Finalize(self, close_fds, (self.sentinel,))


    _Popen = Popen
    _PLACES = {_own_context.ForkProcess: (_own_context, sys.modules[__name__]), _context.ForkProcess: (_context, _stdlib)}


    def start_together(processes, started):
        """Do what ``start()`` of each of *processes*, in their order, does, and append it to the list *started*.

        They are forked right behind each other, with all that can be done before that done: whatever the parent does behind a
        fork it does on pages that are copied for it, once more each time.  Returns False, and nothing is done, where a part of
        that is the program's own.
        """
        follows = set(map(_child.follows, processes))
        if len(follows) != 1 or not _may_fork_ahead(processes):
            return False
        _util._flush_std_streams()
        _process._cleanup()
        children = _process._children
        popens = [_Popen.__new__(_Popen) for _ in processes]
        for popen in popens:
            popen.returncode = popen.pid = None
        try:
            try:
                _fork(processes, follows.pop(), popens)
            finally:  # those that are there, in this function: one that is called is a page or two more
                for process, popen in zip(processes, popens):
                    if popen.pid is None:
                        break
                    sentinel = popen.sentinel
                    popen.finalizer = Finalize(popen, close_fds, (sentinel,))
                    process._popen = popen
                    process._sentinel = sentinel
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
                _close_sentinel(popen)


    def _close_sentinel(popen):
        for reference in weakref.getweakrefs(popen):
            finalizer = reference.__callback__  # which popen.finalizer may not be yet
            if getattr(finalizer, "_key", None) in _util._finalizer_registry:
                finalizer()
                return
        os.close(popen.sentinel)


    def _abandon(pid):
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ChildProcessError, ProcessLookupError):
            pass  # somebody else has waited for it


    def _may_fork_ahead(processes):
        """Whether nothing of how *processes* are started is the program's own, and ``start()`` has no objection."""
        cls = type(processes[0])
        if cls not in _PLACES or not all(type(process) is cls and _is_plain(process) for process in processes):
            return False
        context, popens = _PLACES[cls]
        return (popens.Popen is _Popen and _child.untouched(cls, "start", module=_process) and
                _child.untouched(cls, "_Popen", module=context) and _child.untouched(_Popen, "__init__", module=_stdlib) and
                _child.untouched(_Popen, "_launch", module=sys.modules[__name__]) and
                _child.untouched(_util, "_flush_std_streams") and not _process.current_process()._config.get("daemon"))


    def _is_plain(process):
        own = vars(process)
        return ("start" not in own and "_Popen" not in own and process._popen is None and not process._closed and
                process._parent_pid == os.getpid())


    def _fork(processes, follow, popens):
        """Fork a child for each of the *processes*, and give pid and sentinel to its Popen.  A child does not return."""
        parent = os.getpid()
        tracker = sys.modules.get("multiprocessing.resource_tracker")
        # The child of a process shares its tracker, that of a bare fork does not.
        intent = getattr(tracker, "_fork_intent", None)
        try:
            child = bootstrap.fork(os.fork, tuple(processes), _bootstrap, follow, tuple(popens), intent)
            if child is not None:
                place, sentinel = child
                _run(processes[place], follow, parent, sentinel)
        finally:
            if os.getpid() != parent:
                os._exit(1)  # an interrupt: the program goes on in the parent alone


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
