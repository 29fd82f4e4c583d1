"""The supervisor of a pool: it also tells those who want to hear of results."""
import collections
import os
import sys
import threading

from ._crew import TERMINATE, Supervisor
from ._crew_worker import work
from ._pool_handle import Desk


class PoolSupervisor(Supervisor):
    thread_name = "mpfast-pool"

    def __init__(self, context, processes, make, **settings):
        super().__init__(context, processes, **settings)
        self._make = make
        self.heard = set()  # receivers that are to be delivered on the thread, and are not yet
        self.inputs = set()  # what is still being read; a closed pool is not done before
        self._desk = None
        self._desk_lock = threading.Lock()
        self._resolved = collections.deque()  # (receiver, ok, value) of those that can be

    def make_process(self, slot, stacks):
        process = self._make(self.context, target=work, args=self.worker_arguments(slot, stacks))
        process.name = process.name.replace("Process", self.worker_name)
        process.daemon = True
        return process

    def wants_results(self):
        return bool(self.heard) or super().wants_results()

    def put(self, receiver):
        """To be called when something was submitted for *receiver*."""
        if self.failure is None:
            if receiver in self.heard:
                self.listen()
        elif self.state == TERMINATE:
            self.fail_all(self.failure)
        else:
            self.call_later(self.fail_all, self.failure)

    def read_in_background(self, read, *arguments):
        """Call *read*, which reads an input to its end, in a thread of its own."""
        token = object()
        self.inputs.add(token)

        def run():
            try:
                read(*arguments)
            finally:
                self.inputs.discard(token)
                self.wake()
        try:
            threading.Thread(target=run, name="mpfast-input", daemon=True).start()
        except BaseException:
            self.inputs.discard(token)
            raise

    # ---- hearing

    def resolved(self, receiver, ok, value):
        """The result of a receiver that is heard is there; in any thread."""
        self._resolved.append((receiver, ok, value))
        if not self.on_thread():
            self.wake()

    def unresolved(self):
        """Receivers whose results are not delivered yet."""
        return self.crew.receivers() + [receiver for receiver, _, _ in list(self._resolved)]

    def _milliseconds(self):
        return 0 if self._resolved else super()._milliseconds()

    def _run_later(self):
        if self._desk is not None:
            self._desk.serve()
        while self.state != TERMINATE and (resolved := self._take_resolved()):
            self._deliver(*resolved)
        super()._run_later()

    def _take_resolved(self):
        try:
            return self._resolved.popleft() if self._resolved else None
        except IndexError:  # who terminates takes them, too
            return None

    def _deliver(self, receiver, ok, value):
        try:
            receiver._deliver(ok, value)
        except BaseException:  # of a callback: it must not end the thread
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
        finally:
            self.heard.discard(receiver)

    def fail_all(self, error):
        # Called again whenever something was submitted too late.
        receivers = self.take_back() | self.heard
        while resolved := self._take_resolved():
            self._deliver_if_alive(*resolved)
        for receiver in receivers:
            self._deliver_if_alive(receiver, False, error)
        self.heard.clear()

    def _deliver_if_alive(self, receiver, ok, value):
        if receiver not in self.heard or (ok and self.state == TERMINATE):
            receiver.finish(ok, value)
        elif self.state == TERMINATE:
            receiver._give_up(value)
        else:
            self._deliver(receiver, ok, value)

    # ---- handles in other processes

    def open_desk(self):
        """Returns the desk that takes the calls of handles."""
        if self._owner_pid != os.getpid():
            raise RuntimeError("this pool belongs to another process")
        with self._desk_lock:
            if self._desk is None:
                self._desk = self.make_desk()
                self.bells.append(self._desk.descriptor)
                self.wake()
            return self._desk

    def make_desk(self):
        return Desk(self)

    def _watch(self):
        try:
            super()._watch()
        finally:
            if self._desk is not None:
                self._desk.close()

    def _has_work(self):
        return bool(self.inputs or self._resolved) or super()._has_work()
