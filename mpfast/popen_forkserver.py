"""A mirror of :mod:`multiprocessing.popen_forkserver` whose Popen asks the fork server of :mod:`mpfast._zygote`."""
from . import popen_fork as _popen_fork
from ._mirror import mirror

mirror(__name__)

if hasattr(_popen_fork, "watching"):
    import os
    import sys

    import multiprocessing.forkserver as forkserver

    from . import _child, _core
    from ._install import original
    from ._zygote import zygote
    from .popen_fork import is_ready, reaping
    from .popen_spawn_posix import describe, in_memory
    from .util import Finalize, close_fds

    __all__ = ["Popen"]

    _UNKNOWN = 255  # the exit code where the server has ended before the process
    _MOMENT = 1.0  # seconds in which the server tells of a process that has ended, unless it is stopped


    @_popen_fork.watching
    class Popen(original("multiprocessing.popen_forkserver", "Popen")):

        def _launch(self, process_obj):
            if _is_patched() or _is_started():
                return super()._launch(process_obj)
            described = describe(self, process_obj)
            data = in_memory(*described, len(described[0]).to_bytes(8, sys.byteorder))  # as _core.read_start() has it
            try:
                self.pid, pidfd, self._news, status = zygote.ask(_child.follows(process_obj), data, self._fds)
            finally:
                os.close(data)
            self.sentinel = _child.ended() if pidfd is None else pidfd
            self.finalizer = Finalize(self, close_fds, (self.sentinel, self._news))
            if status is not None:
                self.returncode = os.waitstatus_to_exitcode(status)

        def poll(self, flag=os.WNOHANG):
            """Returns the exit code, None while the process runs; waits for its end unless *flag* is os.WNOHANG."""
            if self.returncode is None and not hasattr(self, "_news"):
                return super().poll(flag)
            if flag == os.WNOHANG and self.returncode is None and not _core.is_news(self.sentinel, self._news):
                return None
            while self.returncode is None:
                ended = is_ready(self.sentinel, 0 if flag == os.WNOHANG else None)
                with reaping:  # the server tells once
                    if self.returncode is None:
                        self.returncode = self._hear(ended)
                if flag == os.WNOHANG:
                    break
            return self.returncode

        def _hear(self, ended):
            try:
                # When it has ended, the server tells at once.
                news = _core.hear_zygote(self._news, int(_MOMENT * 1000) if ended else 0)
            except (OSError, EOFError):
                return _UNKNOWN if ended else None
            return None if news is None else os.waitstatus_to_exitcode(news[2])


    def _is_patched():
        """Whether the program has put something of its own in the place of the standard library's way to its server."""
        return not _child.untouched(forkserver, "connect_to_new_process")


    def _is_started():
        """Whether the program has itself started the standard library's server, which then is the one to use."""
        pid = forkserver._forkserver._forkserver_pid
        if pid is None:
            return False
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False  # the parent of this process has
        return True
