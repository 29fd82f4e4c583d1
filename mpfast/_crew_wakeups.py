"""What the supervisor of a crew waits on, and is woken by."""
import os
import threading


class Latch:
    """Is closed until it is opened, for good: a threading.Event that a signal handler or a finalizer may use anywhere."""

    __slots__ = ("_is_open", "_lock")

    def __init__(self):
        self._is_open = False
        self._lock = threading.Lock()
        self._lock.acquire()  # until it is open; then whoever waits takes it and passes it on

    def open(self):
        self._is_open = True
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:
                pass  # somebody else has opened it meanwhile

    def wait(self, timeout=-1):
        """Wait until it is open, for at most *timeout* seconds (-1: for ever)."""
        try:
            if not self._is_open:
                self._lock.acquire(timeout=timeout)
        finally:
            if self._is_open:
                self.open()


class WakeDescriptor:
    """An eventfd that is closed when the last one who could write to it is gone."""

    number = None  # until it is open: an interrupt may come first

    def __init__(self):
        self.number = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self):
        try:
            os.eventfd_write(self.number, 1)
        except BlockingIOError:
            pass  # it is full of rings

    def silence(self):
        try:
            os.eventfd_read(self.number)
        except BlockingIOError:
            pass

    def __del__(self, close=os.close):
        if self.number is not None:
            close(self.number)
