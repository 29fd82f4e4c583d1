"""The resource tracker of the standard library, started by whoever needs it first.

All processes of a program share one tracker: that is why the standard library starts it before the first child.  Here children
share the pipe to it, which nobody reads yet.  Who has something to say finds that out (the write fails with EPIPE), opens the
reading end again through /proc and starts the tracker on it; a record lock on the pipe keeps two from doing so at once.

The tracker is the standard library's (`_tracker_main.py`), with a table of names that it reads in the end: ``_names`` where this
process has it, else None.

This file is also read by its path, in children that have not imported this package.
"""
import os
import sys
import threading

_swap_lock = threading.Lock()


def rouse(resource_tracker):
    """Have the tracker of the module *resource_tracker* run."""
    _share(resource_tracker)
    resource_tracker._resource_tracker.ensure_running()


def _share(resource_tracker):
    """Returns the descriptor of the pipe to the tracker, for a child."""
    tracker = adapted(resource_tracker)
    with tracker._lock:
        if tracker._fd is not None:
            return tracker._fd
        if tracker._asleep is None:
            reader, tracker._asleep = os.pipe()
            os.close(reader)
            tracker._owner_pid = os.getpid()
        return tracker._asleep


def share():
    """Returns the descriptor that a child is to have for the resource tracker.  Starts nothing."""
    from multiprocessing import resource_tracker
    return _share(resource_tracker)


def adopt(resource_tracker, descriptor):
    """In a child: use the tracker behind *descriptor*, awake or asleep."""
    adapted(resource_tracker)._asleep = descriptor


def adapted(resource_tracker):
    """Returns the tracker of the module *resource_tracker*, made one that may be asleep: behind ``_asleep``."""
    tracker = resource_tracker._resource_tracker
    with _swap_lock:
        if not hasattr(tracker, "_asleep"):
            former = tracker.ensure_running
            tracker._asleep = tracker._owner_pid = tracker._names = None
            tracker.__class__ = _class(resource_tracker, type(tracker))
            if resource_tracker.ensure_running == former:
                resource_tracker.ensure_running = tracker.ensure_running
    return tracker


def _class(resource_tracker, base):

    def _rouse(self):
        # Before 3.11 the lock is not recursive, and this cannot be reentered.
        depth = getattr(self._lock, "_recursion_count", int)()
        if self._asleep is None or self._fd is not None or depth > 1:
            return
        descriptor = self._asleep
        import fcntl
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        try:
            if not _is_read(descriptor):
                pid, self._names = _start(descriptor)
                if self._owner_pid == os.getpid():  # the end of any other process is not the end of the tracker
                    self._pid = pid
        except FileNotFoundError:  # no /proc: this process gets a tracker of its own
            return
        finally:
            fcntl.lockf(descriptor, fcntl.LOCK_UN)
        self._fd, self._asleep = descriptor, None

    def _is_read(descriptor):
        try:
            os.write(descriptor, b"PROBE:0:noop\n")
        except OSError:
            return False
        return True

    def _start(descriptor):
        import signal

        from multiprocessing import spawn, util
        reader = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        names, program = _names()
        try:
            passed = [reader]
            if names is not None:
                passed.append(names.fileno())
                program += f";main({reader},{names.fileno()})"
            else:
                program = f"from multiprocessing.resource_tracker import main;main({reader})"
            try:
                passed.append(sys.stderr.fileno())
            except Exception:
                pass  # there need not be one
            command = [spawn.get_executable(), *util._args_from_interpreter_flags(), "-c", program]
            # Ctrl-C and the like must not reach it before it has said that it ignores them.
            former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
            try:
                pid = util.spawnv_passfds(command[0], command, passed)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, former)
            if names is not None:
                names.bind(descriptor)
            return pid, names
        finally:
            os.close(reader)

    def _names():
        """Returns a table and what a tracker runs that can read it, (None, "") where that is not to be had."""
        core = sys.modules.get("mpfast._core")
        path = os.path.join(os.path.dirname(__file__), "_tracker_main.py")
        try:
            if core is not None and os.path.isfile(path):
                return core.Names(), f"f=open({path!r},'rb');c=f.read();f.close();exec(compile(c,{path!r},'exec'))"
        except (AttributeError, OSError):
            pass
        return None, ""

    def _settle(self, former):
        """The table counts no more if the tracker of the pid *former* has been replaced."""
        if self._pid != former:
            self._names = None

    class ResourceTracker(base):

        def ensure_running(self):
            """Make sure that the tracker is running."""
            with self._lock:
                _rouse(self)
            former = self._pid
            try:
                return super().ensure_running()
            finally:
                _settle(self, former)

        def _ensure_running_and_write(self, msg=None):
            with self._lock:
                _rouse(self)
            former = self._pid
            try:
                return super()._ensure_running_and_write(msg)
            finally:
                _settle(self, former)

        def _stop(self, *args, _close=os.close, **kwargs):  # called by __del__ as well, when the names of modules are gone
            with self._lock:
                asleep, self._asleep = self._asleep, None
                self._names = None
            if asleep is not None:
                _close(asleep)
            return super()._stop(*args, **kwargs)

    ResourceTracker.__module__ = base.__module__
    ResourceTracker.__qualname__ = base.__qualname__
    return ResourceTracker
