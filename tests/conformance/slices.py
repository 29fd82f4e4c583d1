"""Runs tests in slices: each in a process of its own, several at a time, none longer than its time allows."""
import collections
import concurrent.futures
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import groups
import harness

SLICE_PROGRAM = os.path.join(harness.TESTS_DIR, "slice.py")
EXIT_SECONDS = 30           # how long a finished slice may take to end
LEFT_SECONDS = 5            # how long its processes may outlive it
LOG_TAIL = 6000

#: outcome: pass, fail, skip, crash, hang, unrun.  detail: traceback, reason, or stacks.
Result = collections.namedtuple("Result", "outcome detail seconds")

#: Things found out about a class beside its tests' results; they stand in the results as tests of these names.
EXTRAS = ("[dangling]", "[exit]", "[left]")


def class_of(ident):
    return ident.rpartition(".")[0] if not ident.endswith("]") else ident[:ident.rindex(".[")]


class Runner:
    """Runs slices of tests with one interpreter, under mpfast (native) or not."""

    def __init__(self, python, directory, native, timeout, weights=None, jobs=4, on_result=None, deadline=None):
        self.python = python
        self.directory = directory
        self.native = native
        self.timeout = timeout
        self.weights = weights or {}
        self.jobs = jobs
        self.deadline = deadline or float("inf")    # monotonic time after which nothing new is started
        self.on_result = on_result or (lambda ident, result: None)
        self.results = {}
        self.lock = threading.Lock()

    def seconds_of(self, ident):
        return self.weights.get(groups.short_name(ident), 0.1)

    def record(self, ident, outcome, detail="", seconds=0.0):
        result = Result(outcome, detail, seconds)
        with self.lock:
            self.results[ident] = result
        self.on_result(ident, result)

    def plan(self, ids, target):
        """Cut ids into slices of about ``target`` seconds, without mixing modules; the longest come first."""
        by_module = {}
        for ident in ids:
            by_module.setdefault(ident.partition(":")[0], []).append(ident)
        slices = []
        for members in by_module.values():
            piece, length = [], 0.0
            for ident in members:
                seconds = self.seconds_of(ident)
                if piece and length + seconds > target:
                    slices.append((length, piece))
                    piece, length = [], 0.0
                piece.append(ident)
                length += seconds
            if piece:
                slices.append((length, piece))
        slices.sort(key=lambda s: -s[0])
        return [piece for _, piece in slices]

    def run(self, ids, target=8.0):
        """Run the tests; the results are in ``self.results`` afterwards."""
        self.run_slices(self.plan(ids, target))
        return self.results

    def run_slices(self, slices):
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as threads:
            for done in [threads.submit(self.run_slice, piece) for piece in slices]:
                done.result()

    def run_slice(self, ids):
        """Run tests one after the other in one process; what a hang or a crash cut off goes on in a new one."""
        while ids:
            if time.monotonic() > self.deadline:
                for ident in ids:
                    self.record(ident, "unrun", "the time for the whole run was over")
                return
            done = self.run_process(ids)
            rest = [i for i in ids if i not in done]
            if rest and len(rest) == len(ids):
                self.record(ids[0], "crash", "the slice ended before its first test was through")
                rest = ids[1:]
            ids = rest

    def run_process(self, ids):
        """Run tests in one process; returns the ids that have a result now."""
        home = tempfile.mkdtemp(prefix="s", dir=self.directory)
        slice_name = os.path.basename(self.directory) + os.path.basename(home)
        events, log_path = os.path.join(home, "events"), os.path.join(home, "log")
        with open(os.path.join(home, "ids"), "w", encoding="utf-8") as f:
            json.dump(ids, f)
        work = os.path.join(home, "w")
        os.mkdir(work)
        with open(log_path, "wb") as log:
            child = subprocess.Popen(
                [self.python, "-X", "faulthandler", SLICE_PROGRAM, "--run", os.path.join(home, "ids"),
                 "--events", events],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=work, start_new_session=True,
                env=harness.environment(slice_name, self.native, home))
        watch = Watch(self, ids, events, log_path)
        try:
            watch.follow(child, slice_name)
        finally:
            harness.kill_marked(slice_name)
            child.kill()
            child.wait()
            shutil.rmtree(home, ignore_errors=True)
        return watch.done


class Watch:
    """Follows one slice: turns its events into results, ends it when it hangs."""

    def __init__(self, runner, ids, events, log_path):
        self.runner = runner
        self.ids = ids
        self.events = events
        self.log_path = log_path
        self.offset = 0
        self.done = set()
        self.current = None
        self.finished = False
        self.fixtures = []
        self.changed = time.monotonic()

    def read(self):
        """Take in the events written since the last call."""
        try:
            with open(self.events, "rb") as f:
                f.seek(self.offset)
                data = f.read()
        except FileNotFoundError:
            return
        end = data.rfind(b"\n") + 1
        self.offset += end
        for line in data[:end].splitlines():
            self.changed = time.monotonic()
            self.take(json.loads(line))

    def take(self, event):
        kind = event["event"]
        if kind == "start":
            self.current = event["test"]
        elif kind == "end":
            self.current = None
            self.done.add(event["test"])
            self.runner.record(event["test"], event["outcome"], event["detail"], event["seconds"])
        elif kind == "dangling":
            self.runner.record(event["test"] + ".[dangling]", "fail", self.log("Warning"))
        elif kind == "fixture":
            self.fixtures.append(event)
        elif kind == "finished":
            self.finished = True

    def log(self, only=""):
        with open(self.log_path, "rb") as f:
            text = f.read().decode("utf-8", "replace")
        if only:
            return "\n".join(line for line in text.splitlines() if only in line)
        return text[-LOG_TAIL:]

    def allowed(self):
        return EXIT_SECONDS if self.finished else \
            self.runner.timeout + 4 * (self.runner.seconds_of(self.current) if self.current else 0)

    def follow(self, child, slice_name):
        while child.poll() is None:
            self.read()
            if time.monotonic() - self.changed > self.allowed():
                self.end_hanging(child, slice_name)
                return
            time.sleep(0.1)
        self.read()
        self.settle_fixtures()
        if self.current or not self.finished:
            self.end_crashed(child.returncode)
        else:
            self.check_left(slice_name)

    def end_hanging(self, child, slice_name):
        """Have every process of the slice write its stacks, then kill it."""
        for pid in harness.marked_processes(slice_name):
            try:
                os.kill(pid, harness.STACKS_SIGNAL)
            except ProcessLookupError:
                pass
        time.sleep(1)
        self.read()
        self.settle_fixtures()
        where = self.current or (self.ids_left()[0] if self.ids_left() else None)
        if where is None:
            where = f"{class_of(self.ids[-1])}.[exit]"
        self.done.add(where)
        self.runner.record(where, "hang", self.log(), time.monotonic() - self.changed)

    def ids_left(self):
        return [i for i in self.ids if i not in self.done]

    def end_crashed(self, code):
        left = self.ids_left()
        where = self.current or (left[0] if left else f"{class_of(self.ids[-1])}.[exit]")
        if code < 0:
            how = f"killed by {signal.Signals(-code).name}"
        else:
            how = f"exit status {code}"
        self.done.add(where)
        self.runner.record(where, "crash", f"{how}\n{self.log()}")

    def settle_fixtures(self):
        """A setUpClass or setUpModule that failed or skipped has kept tests from starting: that is their result."""
        if not self.fixtures:
            return
        detail = "\n".join(f"{e['test']}: {e['detail']}" for e in self.fixtures)
        outcome = "fail" if any(e["outcome"] == "fail" for e in self.fixtures) else "skip"
        if self.finished:
            for ident in self.ids_left():
                self.done.add(ident)
                self.runner.record(ident, outcome, detail)
        for event in self.fixtures:
            if event["outcome"] == "fail" and event["test"].startswith("tearDown"):
                self.runner.record(f"{class_of(self.ids[-1])}.[exit]", "fail", detail)

    def check_left(self, slice_name):
        deadline = time.monotonic() + LEFT_SECONDS
        left = harness.marked_processes(slice_name)
        while left and time.monotonic() < deadline:
            time.sleep(0.1)
            left = harness.marked_processes(slice_name)
        if left:
            self.runner.record(f"{class_of(self.ids[-1])}.[left]", "fail",
                               "\n".join(f"process {pid}: {command_line(pid)}" for pid in left))


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return "(ended)"
