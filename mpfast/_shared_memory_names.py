"""Which names of shared memory the resource tracker is to unlink, and that it hears of no others.

The tracker unlinks what it knows when the last process that can reach it has ended, and says that it leaked.  It is told
through a table in shared memory (``_core.Names``), which it reads only then: a message for each name would wake it each time.  The
process that starts the tracker and what that forks have the table.

Others send messages, and so does everybody where the table has no place for a name.  Such a
name is taken from the tracker when it is unlinked, by whatever process; and at the end of the process that made it, should somebody else
have unlinked it, who has another tracker or none.

A message that takes a name away puts it there first, in the same write: taking away what is not there, as programs do
that attach and do not want to be tracked, would have the tracker print a traceback.
"""
import multiprocessing.resource_tracker as _tracker
import os

from . import _tracker as _sleeper
from .util import Finalize

_KIND = "shared_memory"
_DIRECTORY = "/dev/shm"
_LONGEST = 200  # characters of a name in a message of the simple form


def _stock(name):
    """The tracker's function of that name, which is what the module has unless a program has replaced it."""
    there, genuine = getattr(_tracker, name), getattr(_tracker._resource_tracker, name)
    return there if there == genuine else genuine


_stock_register = _stock("register")
_stock_unregister = _stock("unregister")
_made: dict = {}  # name -> inode, of what this process has sent to the tracker and not unlinked
_made_by = 0  # the process that _made is about


def register(name, inode):
    """Have the tracker unlink *name* at the end.  inode: of the file of that name."""
    if _tracker.register is not _stock_register:
        _keep(name, inode)
        _tracker.register(name, _KIND)
        return
    if _note(name, inode):
        return
    _sleeper.rouse(_tracker)
    if not _note(name, inode):
        _keep(name, inode)
        if not _write(f"REGISTER:{name}:{_KIND}\n", name):
            _stock_register(name, _KIND)


def unregister(name):
    """Have the tracker, if there is one, forget *name*, which was unlinked."""
    noted = _forget(name)
    mine = _made.pop(name, None) is not None
    if _tracker.unregister is not _stock_unregister:
        _tracker.unregister(name, _KIND)
    elif (mine or not noted and _is_there()) and not _write(_both(name), name):
        _stock_unregister(name, _KIND)


def _note(name, inode):
    """Put *name* into the table.  Returns whether that could be done."""
    tracker = _tracker._resource_tracker
    names = getattr(tracker, "_names", None)
    return names is not None and names.note(name, inode, tracker._fd)


def _forget(name):
    """Take *name* from the table.  Returns whether it was there."""
    names = getattr(_tracker._resource_tracker, "_names", None)
    return names is not None and names.forget(name)


def _is_there():
    """Whether this process has a tracker, or may share one that another process has started."""
    tracker = _tracker._resource_tracker
    return tracker._fd is not None or getattr(tracker, "_asleep", None) is not None


def _both(name):
    return f"REGISTER:{name}:{_KIND}\nUNREGISTER:{name}:{_KIND}\n"


def _write(message, name):
    """Send *message*, if that can be done without ado.  Returns whether it was sent."""
    fd = _tracker._resource_tracker._fd
    if fd is None or len(name) > _LONGEST or not name.isascii() or ":" in name or "\n" in name:
        return False
    try:
        os.write(fd, message.encode("ascii"))
    except OSError:
        return False  # it has died; the standard library starts another one
    return True


def _keep(name, inode):
    global _made_by
    if _made_by != os.getpid():
        _made_by = os.getpid()
        _made.clear()
        Finalize(None, _forget_the_unlinked, exitpriority=-100)
    _made[name] = inode


def _forget_the_unlinked():
    for name, inode in list(_made.items()):
        try:
            there = os.stat(_DIRECTORY + name).st_ino == inode
        except (OSError, ValueError):
            there = False
        if not there:
            unregister(name)


def _tolerate(send):
    """The tracker's *send*, which registers first what is to be unregistered, and takes it from the table."""
    def _send(self, cmd, name, rtype, *args):
        if cmd == "UNREGISTER" and rtype == _KIND:
            _forget(name)
            send(self, "REGISTER", name, rtype, *args)
        return send(self, cmd, name, rtype, *args)

    return _send


_tracker.ResourceTracker._send = _tolerate(_tracker.ResourceTracker._send)

#: What ``_core.SharedMemory`` has to know: the tracker's functions, those here, and the names that are not in the table.
_known = _stock_register, _stock_unregister, register, unregister, _made
