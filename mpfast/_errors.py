"""What the standard library has no exception for.  The classes are the extension's; without it nothing raises them."""
from multiprocessing import ProcessError

from . import _native

OwnerDied = _native.native("OwnerDied")
OwnerDiedWarning = _native.native("OwnerDiedWarning")

if OwnerDied is None:

    class OwnerDied(RuntimeError):
        """The process that held the lock was killed (strict mode); the lock is free."""

        __module__ = "mpfast"

    class OwnerDiedWarning(RuntimeWarning):
        """The process that held the lock was killed; the caller has the lock now."""

        __module__ = "mpfast"

    _strict = False

    def set_strict(strict, /):
        """Keep the setting, which nothing here acts upon.  Returns the former one."""
        global _strict
        former, _strict = _strict, bool(strict)
        return former

    def get_strict():
        """The setting."""
        return _strict

else:
    set_strict = _native.core.set_strict
    get_strict = _native.core.get_strict


class WorkerLostError(ProcessError):
    """A process ended before it had finished what it was running.

    pid: of the process.  exitcode: as :attr:`Process.exitcode`, -N for signal N; None if it is not known.  task: what it was
    running, in words, or "".  stacks: those of its threads when it crashed, as text, or "".
    """

    __module__ = "mpfast"

    def __init__(self, pid, exitcode, task="", stacks=""):
        super().__init__(pid, exitcode, task, stacks)
        self.pid = pid
        self.exitcode = exitcode
        self.task = task
        self.stacks = stacks

    @property
    def signal(self):
        """The name of the signal that killed it, or None."""
        if self.exitcode is None or self.exitcode >= 0:
            return None
        import signal
        try:
            return signal.Signals(-self.exitcode).name
        except ValueError:
            return f"signal {-self.exitcode}"

    def __str__(self):
        if self.signal is not None:
            how = f"was killed by {self.signal}"
        elif self.exitcode is not None:
            how = f"ended with exit code {self.exitcode}"
        else:
            how = "ended"
        running = f" while it was running {self.task}" if self.task else ""
        stacks = f"\n{self.stacks}" if self.stacks else ""
        return f"process {self.pid} {how}{running}{stacks}"
