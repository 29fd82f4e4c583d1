"""Helper processes of a row: they live as long as the row and do their parts of every sample at the same time.

Commands and results go over plain pipes, so that only the work itself runs on the implementation that is measured.
Closures are passed by forking.
"""
from __future__ import annotations

import json
import os
import select
import time
import traceback

#: Seconds between the command and the common start of the parts.
HEAD_START = 0.003


class Part:
    """What one helper did in a sample: when it began and ended (`time.perf_counter`) and what its function returned."""

    def __init__(self, began, ended, value):
        self.began = began
        self.ended = ended
        self.value = value


class Crew:
    """Processes of `context` (start method fork), one for each of `parts`, functions of the number of operations.

    daemon: as of Process; a part that starts processes itself needs False.
    """

    def __init__(self, context, *parts, daemon=True):
        self._helpers = [_Helper(context, part, daemon) for part in parts]

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for helper in self._helpers:
            helper.dismiss()

    @property
    def pids(self):
        return [helper.process.pid for helper in self._helpers]

    def start(self, n):
        """Lets every helper begin its part with argument `n` at the same moment."""
        moment = time.perf_counter() + HEAD_START
        for helper in self._helpers:
            helper.command(n, moment)

    def collect(self):
        """List of :class:`Part`; raises RuntimeError as soon as a helper fails or dies."""
        parts = {}
        waiting = {helper.results: i for i, helper in enumerate(self._helpers)}
        while waiting:
            for fd in select.select(list(waiting), [], [])[0]:
                i = waiting.pop(fd)
                parts[i] = self._helpers[i].result()
        return [parts[i] for i in range(len(self._helpers))]

    def run(self, n):
        """One sample: list of :class:`Part`, in the order of the helpers."""
        self.start(n)
        return self.collect()

    def elapsed(self, n):
        """One sample: seconds from the first beginning to the last end."""
        parts = self.run(n)
        return max(part.ended for part in parts) - min(part.began for part in parts)


class _Helper:
    def __init__(self, context, part, daemon):
        commands, self._commands = os.pipe()
        self.results, results = os.pipe()
        self.process = context.Process(target=_serve, args=(part, commands, results), daemon=daemon)
        self.process.start()
        os.close(commands)
        os.close(results)

    def command(self, n, moment):
        os.write(self._commands, json.dumps([n, moment]).encode() + b"\n")

    def result(self):
        line = b""
        while not line.endswith(b"\n"):
            piece = os.read(self.results, 65536)
            if not piece:
                self.process.join()
                raise RuntimeError(f"a helper process ended with exit code {self.process.exitcode}")
            line += piece
        outcome = json.loads(line)
        if "error" in outcome:
            raise RuntimeError(outcome["error"])
        return Part(**outcome)

    def dismiss(self):
        os.close(self._commands)
        self.process.terminate()
        self.process.join()
        os.close(self.results)


def _serve(part, commands, results):
    with open(commands, "rb", buffering=0) as lines:
        for line in lines:
            n, moment = json.loads(line)
            time.sleep(max(0.0, moment - time.perf_counter()))
            try:
                began = time.perf_counter()
                value = part(n)
                outcome = {"began": began, "ended": time.perf_counter(), "value": value}
            except BaseException:
                outcome = {"error": traceback.format_exc()}
            os.write(results, json.dumps(outcome).encode() + b"\n")
