"""What a worker process of a crew runs, and what it leaves behind when it crashes.

A worker looks up here what it needs before its first task, and imports nothing: each page that the interpreter writes to on
its way through the import system is copied for it.
"""
import faulthandler
import os
import stat
from multiprocessing import process as _process, util as _util

# Not from the package, which then would have to be imported: see _child._part().
from mpfast._core import crew_work as _crew_work, follow_parent as _follow, followed as _followed  # type: ignore[import-not-found]


class Stacks:
    """A file in memory for the stacks that faulthandler writes in a worker that crashes.  Read by the parent.

    wanted: whether there is to be one; without it nothing was ever written.
    """

    __slots__ = ("_descriptor",)

    LONGEST = 1 << 16  # bytes

    def __init__(self, wanted=True):
        self._descriptor = -1
        if wanted:
            try:
                self._descriptor = os.memfd_create("mpfast-stacks", os.MFD_CLOEXEC)
            except (AttributeError, OSError):
                pass

    def address(self):
        """What the worker opens it by: (pid, descriptor), or None."""
        return None if self._descriptor < 0 else (os.getpid(), self._descriptor)

    def read(self):
        """Returns what was written, a str."""
        if self._descriptor < 0:
            return ""
        return os.pread(self._descriptor, self.LONGEST, 0).decode("utf-8", "backslashreplace")

    def close(self):
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _record_crashes(address):
    """Have faulthandler write to the file at *address*, unless the program has it write somewhere else."""
    if faulthandler.is_enabled():
        return
    try:
        descriptor = os.open("/proc/%d/fd/%d" % address, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return
    faulthandler.enable(descriptor)


def _follow_parent():
    """Have this process ended when the one that works with it is."""
    if os.environ.get("MPFAST_ORPHANS") == "keep":
        return
    parent = _process.parent_process()
    if parent is None:
        return
    if parent.pid == os.getppid():
        _follow()
    else:
        _follow_pipe(parent)  # a server forked this process for it


def _follow_pipe(parent):
    # The kernel sends a signal of our choice when the other end of a pipe closes, and the parent alone has that end.
    import fcntl
    import signal
    try:
        sentinel = parent.sentinel
        if not stat.S_ISFIFO(os.fstat(sentinel).st_mode):
            return
        fcntl.fcntl(sentinel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(sentinel, fcntl.F_SETSIG, signal.SIGTERM)
        fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | fcntl.FASYNC)
    except (AttributeError, OSError, TypeError, ValueError):
        pass  # an idle worker notices all the same


def _wrap(exception):
    from multiprocessing import pool
    return pool.ExceptionWithTraceback(exception, exception.__traceback__)


def _unencodable(error, value, ok):
    from multiprocessing import pool
    wrapped = pool.MaybeEncodingError(error, value)
    _util.debug("Possible encoding error while sending result: %s" % wrapped)
    return wrapped


def work(crew, slot, initializer, initargs, maxtasks, max_memory, stacks, wrap=_wrap, unencodable=_unencodable,
         undecodable=None):
    """Do the tasks of *crew* as its worker *slot* until there is nothing more to do.

    stacks: what Stacks.address() gave; the other arguments are those of Supervisor and of _core.crew_work.
    """
    if _followed() is None:
        _follow_parent()
    if stacks is not None:
        _record_crashes(stacks)
    try:
        if initializer is not None:
            initializer(*initargs)
        reason = _crew_work(crew, slot, wrap, unencodable, maxtasks, max_memory, undecodable)
    except KeyboardInterrupt:
        import signal
        raise SystemExit(-signal.SIGINT & 0xff) from None  # the parent was interrupted too, and says so
    _util.debug("worker exiting: %s", reason)
