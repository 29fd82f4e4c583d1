"""Runs CPython's own tests of multiprocessing and concurrent.futures under mpfast, and compares with the stdlib.

    python tests/conformance/run.py                      everything
    python tests/conformance/run.py --quick              locks and shared values, under fork
    python tests/conformance/run.py --only Lock,Pool     the classes of these names
    python tests/conformance/run.py --group sync         one part (see groups.py)
    python tests/conformance/run.py --suite spawn,main   some of fork, spawn, forkserver, main, futures

The tests are those of the interpreter that runs this, as they are.  A test that does not pass is tried again by
itself; one that still does not pass is run on the standard library; only what passes there is called a difference.  A
hang or a crash is not excused by a later pass.  What the standard library gave is kept from run to run, for the same
interpreter on the same machine.  Expected differences stand in differences.txt.

Prints "N passed, N failed, N skipped" at the end; exits with 1 when anything failed.
"""
import argparse
import fnmatch
import glob
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import groups
import harness
import slices

WEIGHTS_FILE = os.path.join(harness.TESTS_DIR, "weights.json")
DIFFERENCES_FILE = os.path.join(harness.TESTS_DIR, "differences.txt")
MANY = 40           # failures: more than this are no accidents of timing
BORROWED = "test_concurrent_futures"
VERSION = "%d.%d" % sys.version_info[:2]


def say(text):
    print(text, flush=True)


# --- what to run ------------------------------------------------------------------------------------------------------

def list_suite(python, directory, target):
    """The ids of a suite's tests, or the reason (a string) why it can't be had."""
    path = os.path.join(directory, "list-" + target)
    done = subprocess.run([python, slices.SLICE_PROGRAM, "--list", target, "--events", path],
                          capture_output=True, text=True, env=harness.environment("list", False, directory))
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no output"])[-1]
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def neighbours():
    """test_concurrent_futures of other CPython versions on this machine, the nearest version first."""
    here = sys.version_info[1]
    roots = [os.path.join(os.path.dirname(sys.base_prefix), "*"), "/usr", "/usr/local"]
    found = {}
    for root in roots:
        for base in glob.glob(os.path.join(root, "lib", "python3.*", "test")):
            minor = os.path.basename(os.path.dirname(base))[len("python3."):]
            for name in (BORROWED, BORROWED + ".py"):
                path = os.path.join(base, name)
                if minor.isdigit() and int(minor) >= 9 and os.path.exists(path):
                    found.setdefault(int(minor), path)
    return [found[m] for m in sorted(found, key=lambda m: (abs(m - here), m))]


def collect(python, directory, names):
    """(ids, notes): the tests of the suites, and what could not be had."""
    ids, notes = [], []
    for name in names:
        target = groups.SUITES[name]
        listed = list_suite(python, directory, target)
        if isinstance(listed, str) and name == "futures":
            listed = borrow(python, directory, notes) or listed
        if isinstance(listed, str):
            notes.append(f"{name}: not to be had with this interpreter: {listed}")
        else:
            ids += listed
    return ids, notes


def borrow(python, directory, notes):
    """Have a neighbouring version's test_concurrent_futures serve; its test ids, or None."""
    for path in neighbours():
        harness.borrow(python, path)
        listed = list_suite(python, directory, groups.SUITES["futures"])
        if not isinstance(listed, str):
            notes.append(f"futures: this interpreter lacks {BORROWED}; {path} serves")
            return listed
    harness.return_borrowed(python, BORROWED)
    return None


def select(ids, options):
    if options.only:
        wanted = options.only.split(",")
        ids = [i for i in ids if any(fnmatch.fnmatch(i, f"*{w}*") if "." in w or "*" in w else
                                     w in (i.partition(":")[2].split(".")[0], groups.bare_name(
                                         i.partition(":")[2].split(".")[0])) for w in wanted)]
    if options.group:
        ids = [i for i in ids if groups.group_of(i) in options.group.split(",")]
    if options.without_threads:
        ids = [i for i in ids if ":WithThreads" not in i and ":ThreadPool" not in i]
    return ids


# --- what is known ----------------------------------------------------------------------------------------------------

def expected_differences():
    """[(pattern, reason)] of differences.txt for the running version."""
    found = []
    with open(DIFFERENCES_FILE, encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                pattern, versions, reason = (part.strip() for part in line.split("|", 2))
                if versions == "*" or VERSION in versions.split(","):
                    found.append((pattern, reason))
    return found


def load_weights():
    try:
        with open(WEIGHTS_FILE, encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        return {}


class Baseline:
    """What the standard library gave, kept in the user's cache directory."""

    def __init__(self, fresh):
        identity = "\n".join([sys.version, sys.base_prefix, platform.node(), platform.release()])
        key = hashlib.sha256(identity.encode()).hexdigest()[:16]
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        self.path = os.path.join(cache, "mpfast-conformance", f"{VERSION}-{key}.json")
        self.outcomes = {}
        if not fresh:
            try:
                with open(self.path, encoding="utf-8") as f:
                    self.outcomes = json.load(f)
            except (OSError, ValueError):
                pass

    def add(self, results):
        for ident, result in results.items():
            # A pass stands: a test that passed once on the standard library is one that mpfast must pass.
            if self.outcomes.get(ident) != "pass":
                self.outcomes[ident] = result.outcome

    def save(self):
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with open(self.path + ".new", "w", encoding="utf-8") as f:
                json.dump(self.outcomes, f, indent=0, sort_keys=True)
            os.replace(self.path + ".new", self.path)
        except OSError as exc:
            say(f"the standard library's results are not kept: {exc}")


# --- the run ----------------------------------------------------------------------------------------------------------

class Comparison:
    """One interpreter's run: under mpfast, again what did not pass, on the standard library what still did not."""

    def __init__(self, python, directory, options):
        self.python = python
        self.directory = directory
        self.options = options
        self.started = time.monotonic()
        self.weights = load_weights()
        self.verdicts = {}          # id -> (verdict, detail)

    def runner(self, native, jobs, on_result=None):
        return slices.Runner(self.python, self.directory, native, self.options.timeout, self.weights, jobs, on_result,
                             self.started + self.options.budget)

    def announce(self, ident, result):
        if result.outcome not in ("pass", "skip"):
            say(f"  {result.outcome:5} {ident}")

    def run(self, ids):
        first = self.runner(True, self.options.jobs, self.announce)
        first.run(ids, self.options.slice_seconds)
        self.seconds = {i: r.seconds for i, r in first.results.items()}
        suspects = []
        for ident, result in first.results.items():
            if result.outcome == "pass":
                self.verdicts[ident] = ("passed", "")
            elif result.outcome == "skip":
                suspects.append(ident)
            elif self.listed(ident):
                self.verdicts[ident] = ("expected", self.listed(ident))
            else:
                suspects.append(ident)
        again = [i for i in suspects if first.results[i].outcome == "fail"]
        if len(again) > MANY:
            say(f"{len(again)} failures are too many to be tried again")
            again = []
        flaky = self.retry(again, True, self.options.retries)
        for ident in flaky:
            self.verdicts[ident] = ("flaky", first.results[ident].detail)
        self.compare([i for i in suspects if i not in flaky], first.results)

    def listed(self, ident):
        for pattern, reason in expected_differences():
            if fnmatch.fnmatchcase(ident.replace("[", "<").replace("]", ">"), pattern.replace("[", "<").replace("]", ">")):
                return reason
        return None

    def retry(self, ids, native, times):
        """Run each by itself, up to ``times`` times; the set of those that then passed."""
        passed = set()
        for _ in range(times):
            left = [i for i in ids if i not in passed]
            if not left:
                break
            results = self.run_alone(left, native)
            passed |= {i for i in left if results.get(i) and results[i].outcome == "pass"}
        return passed

    def run_alone(self, ids, native):
        """Each test in a process of its own; what is known of a class (its extras) by running the class.

        With mpfast, without the class's expected differences: a test that stops half way leaves things behind.
        """
        runner = self.runner(native, min(2, self.options.jobs))
        plain = [i for i in ids if not i.endswith("]")]
        runner.run_slices([[i] for i in plain])
        results = {i: runner.results[i] for i in plain if i in runner.results}
        for ident in (i for i in ids if i.endswith("]")):
            whole = self.runner(native, 1)
            whole.run_slices([[i for i in self.all_ids if slices.class_of(i) == slices.class_of(ident) and
                               not (native and self.listed(i))]])
            results[ident] = whole.results.get(ident, slices.Result("pass", "", 0.0))
        return results

    def compare(self, suspects, native_results):
        baseline = Baseline(self.options.fresh_baseline)
        unknown = [i for i in suspects if i not in baseline.outcomes]
        skipped = [i for i in unknown if native_results[i].outcome == "skip"]
        runner = self.runner(False, self.options.jobs)
        runner.run(skipped, self.options.slice_seconds)
        runner.results = {i: r for i, r in runner.results.items() if r.outcome != "unrun"}
        baseline.add({i: r for i, r in runner.results.items() if i in skipped})
        failed = [i for i in unknown if i not in skipped]
        if len(failed) > MANY:
            whole = self.runner(False, self.options.jobs)
            whole.run([i for i in failed if not i.endswith("]")], self.options.slice_seconds)
            baseline.add({i: r for i, r in whole.results.items() if r.outcome != "unrun"})
        for _ in range(2):
            rest = [i for i in failed if baseline.outcomes.get(i) != "pass"]
            if rest:
                baseline.add({i: r for i, r in self.run_alone(rest, False).items() if r.outcome != "unrun"})
        baseline.save()
        for ident in suspects:
            self.verdicts[ident] = self.judge(native_results[ident], baseline.outcomes.get(ident, "missing"))

    @staticmethod
    def judge(result, stdlib):
        if result.outcome == "unrun":
            return ("failed", "was not run: " + result.detail)
        if stdlib == "pass":
            return ("failed", f"{result.outcome}, passes on the standard library\n{result.detail}")
        if result.outcome == "skip":
            return ("skipped", result.detail)
        return ("alike", f"{result.outcome}, on the standard library: {stdlib}")


def report(verdicts, notes, seconds):
    by_verdict = {}
    for ident, (verdict, detail) in sorted(verdicts.items()):
        by_verdict.setdefault(verdict, []).append((ident, detail))
    for note in notes:
        say(f"note: {note}")
    for ident, detail in by_verdict.get("failed", []):
        say(f"\n=== DIFFERENCE {ident}\n{detail}")
    for verdict, title in (("expected", "expected difference"), ("alike", "does not pass on the standard library either"),
                           ("flaky", "passed when tried again")):
        for ident, detail in by_verdict.get(verdict, []):
            say(f"{title}: {ident}: {detail.strip().splitlines()[-1] if detail.strip() else ''}")
    count = {v: len(by_verdict.get(v, [])) for v in ("passed", "flaky", "failed", "expected", "alike", "skipped")}
    say(f"CPython {platform.python_version()} conformance in {seconds:.0f} s; of the skipped, {count['alike']} do not "
        f"pass on the standard library either and {count['expected']} are expected differences; {count['flaky']} "
        f"passed only when tried again")
    say(f"{count['passed'] + count['flaky']} passed, {count['failed']} failed, "
        f"{count['skipped'] + count['alike'] + count['expected']} skipped")
    return count["failed"]


def parse_options(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", help="of " + ",".join(groups.SUITES))
    parser.add_argument("--group", help="of sync,values,queue,pool,futures,process")
    parser.add_argument("--only", help="class names (Lock,WithManagerTestPool) or patterns of test ids")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--without-threads", action="store_true",
                        help="leave out the classes that test multiprocessing.dummy and ThreadPoolExecutor")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 2))
    parser.add_argument("--slice-seconds", type=float, default=8.0)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds without progress in a test")
    parser.add_argument("--budget", type=float, default=1000.0, help="seconds after which no slice is started")
    parser.add_argument("--retries", type=int, default=2)
    parser.add_argument("--fresh-baseline", action="store_true", help="do not use the kept results of the stdlib")
    parser.add_argument("--stdlib", action="store_true", help="run the standard library only")
    parser.add_argument("--write-weights", action="store_true", help="keep each test's time, for cutting slices")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(argv)
    if options.quick:
        options.suite = options.suite or ",".join(groups.QUICK[0])
        options.group = options.group or ",".join(groups.QUICK[1])
    return options


def write_weights(seconds):
    weights = load_weights()
    weights.update({groups.short_name(i): round(s, 1) for i, s in seconds.items() if s >= 0.5 and not i.endswith("]")})
    with open(WEIGHTS_FILE, "w", encoding="utf-8") as f:
        json.dump(weights, f, indent=0, sort_keys=True)
        f.write("\n")


def end_all(directory):
    """What a signal that ends this does: no process of a slice survives it."""
    for _ in range(3):
        harness.kill_marked(os.path.basename(directory))
    shutil.rmtree(directory, ignore_errors=True)
    os._exit(1)


def run(options):
    started = time.monotonic()
    directory = tempfile.mkdtemp(prefix="mpc")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *args: end_all(directory))
    try:
        python = harness.create(directory)
        ids, notes = collect(python, directory, (options.suite or ",".join(groups.SUITES)).split(","))
        ids = select(ids, options)
        say(f"CPython {platform.python_version()}: {len(ids)} tests, {options.jobs} slices at a time")
        comparison = Comparison(python, directory, options)
        comparison.all_ids = ids
        if options.stdlib:
            runner = comparison.runner(False, options.jobs, comparison.announce)
            runner.run(ids, options.slice_seconds)
            comparison.seconds = {i: r.seconds for i, r in runner.results.items()}
            comparison.verdicts = {i: ({"pass": "passed", "skip": "skipped"}.get(r.outcome, "failed"), r.detail)
                                   for i, r in runner.results.items()}
            baseline = Baseline(options.fresh_baseline)
            baseline.add(runner.results)
            baseline.save()
        else:
            comparison.run(ids)
        if options.write_weights:
            write_weights(comparison.seconds)
        if options.json:
            with open(options.json, "w", encoding="utf-8") as f:
                json.dump({"version": platform.python_version(), "notes": notes, "tests": {
                    i: {"verdict": v, "detail": d, "seconds": comparison.seconds.get(i)}
                    for i, (v, d) in sorted(comparison.verdicts.items())}}, f, indent=1)
        return report(comparison.verdicts, notes, time.monotonic() - started)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(1 if run(parse_options()) else 0)
