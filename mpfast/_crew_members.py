"""A worker process of a crew as its supervisor has it: while it lives, and what is known when it has ended."""
import os
import select
import time

from ._errors import WorkerLostError


class Worker:
    """A worker process in its slot of the crew."""

    __slots__ = ("process", "slot", "descriptor", "stacks", "_own")

    def __init__(self, process, slot, stacks):
        self.process = process
        self.slot = slot
        self.stacks = stacks
        self.descriptor = -1
        self._own = False

    def watch(self):
        """Get a descriptor that tells of the end of the process, which has been started."""
        process = self.process
        popen = getattr(process, "_popen", None)
        if hasattr(popen, "_watch") and popen.method != "forkserver":
            self.descriptor = popen.sentinel
            try:
                # A pidfd that is there already is of this process for certain: the number may be another's by now.
                self.descriptor = os.dup(popen.sentinel)
                self._own = True
            except OSError:
                pass
            return
        try:
            self.descriptor = process.sentinel
        except (AttributeError, ValueError):  # an interrupt has come between its start and its noting that
            self.descriptor = getattr(popen, "sentinel", -1)
        if getattr(process, "_start_method", None) == "forkserver":
            return
        try:
            self.descriptor = os.pidfd_open(process.pid)
            self._own = True
        except (AttributeError, OSError, TypeError, ValueError):
            pass

    def ended(self, timeout=None):
        """Whether the process ends within *timeout* seconds (None: wait for it)."""
        if self.descriptor < 0:
            return True
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def exitcode(self):
        """Of the process, which has ended; None if the program waited for it behind our back."""
        for _ in range(50):
            code = self.process.exitcode
            if code is not None:
                return code
            time.sleep(0.001)  # another thread is between waiting for it and saying so
        return None

    def release(self):
        self.stacks.close()
        if self._own:
            self._own = False
            os.close(self.descriptor)
        self.descriptor = -1  # the number may be another file's by now


class Death:
    """What is known of the end of a worker.

    process: its Process object; pid, exitcode: ints (exitcode None if it cannot be known); held: list of (ordinal,
    receiver, piece number or None, description) that it had taken and not answered; stacks: str, what faulthandler wrote
    when it crashed; ready: whether it ever was ready for a task.
    """

    __slots__ = ("process", "pid", "exitcode", "held", "stacks", "ready")

    def __init__(self, process, exitcode, held, stacks, ready):
        self.process = process
        self.pid = process.pid
        self.exitcode = exitcode
        self.held = held
        self.stacks = stacks
        self.ready = ready

    def error(self, task=""):
        """A WorkerLostError about it and the *task* (str) that it ran."""
        return WorkerLostError(self.pid, self.exitcode, task, self.stacks)
