"""The supervisor of a pool: it also tells those who want to hear of results."""
import collections
import sys
import threading
from multiprocessing import ProcessError

from ._crew import RUN, Supervisor


class PoolSupervisor(Supervisor):
    thread_name = "mpfast-pool"

    def __init__(self, context, processes, make, **settings):
        super().__init__(context, processes, **settings)
        self._make = make
        self.heard = set()  # receivers that are to be delivered on the thread, and are not yet
        self._resolved = collections.deque()  # (receiver, ok, value) of those that can be

    def make_process(self, slot, stacks):
        from ._crew_worker import work
        process = self._make(self.context, target=work, args=self.worker_arguments(slot, stacks))
        process.name = process.name.replace("Process", self.worker_name)
        process.daemon = True
        return process

    def wants_results(self):
        return bool(self.heard) or super().wants_results()

    def put(self, receiver):
        """To be called when something was submitted for *receiver*."""
        if self.failure is not None:
            self.fail_all(self.failure)
        elif receiver in self.heard:
            self.listen()

    def put_timed(self):
        """To be called when something with a timeout was submitted."""
        self.wake()

    def fed(self):
        """An input that was read in the background has ended."""
        self.feeding -= 1

    # ---- hearing

    def resolved(self, receiver, ok, value):
        """The result of a receiver that is heard is there; in any thread."""
        self._resolved.append((receiver, ok, value))
        if not self.on_thread():
            self.wake()

    def unresolved(self):
        """Receivers whose results are not delivered yet."""
        return self.crew.receivers() + [receiver for receiver, _, _ in list(self._resolved)]

    def _run_later(self):
        while self._resolved and self.failure is None:
            self._deliver(*self._resolved.popleft())
        super()._run_later()

    def _deliver(self, receiver, ok, value):
        try:
            receiver.deliver(ok, value)
        except Exception:
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
        finally:
            self.heard.discard(receiver)

    def fail_all(self, error):
        # Called again whenever something was submitted too late.
        self.crew.cancel_all()
        while self._resolved:
            receiver, ok, value = self._resolved.popleft()
            receiver.finish(ok, value)
        for receiver in {*self.crew.receivers(), *self.heard}:
            receiver.finish(False, error)
        self.heard.clear()

    def _has_work(self):
        return bool(self._resolved) or super()._has_work()
