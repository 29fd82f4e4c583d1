"""One slice of CPython's own tests: lists the tests of a suite, or runs some of them, in a process of its own.

It says what happens as it happens, one JSON object a line at the end of a file, so that a run that hangs or dies has
still told which test it was in:

    {"event": "start", "test": id}              {"event": "end", "test": id, "outcome": o, "detail": text, "seconds": s}
    {"event": "fixture", "test": name, ...}     a setUpClass, setUpModule or tearDown that failed or skipped
    {"event": "dangling", "test": class, ...}   CPython's own check for left processes, threads and shared objects
    {"event": "finished"}

A test's id is "module:Class.method".  Outcomes: pass, fail, skip.
"""
import argparse
import importlib
import json
import os
import pkgutil
import sys
import time
import traceback
import unittest


def suite_modules(name):
    """The modules that a suite name stands for; a package stands for the test modules in it."""
    module = importlib.import_module(name)
    if not hasattr(module, "__path__"):
        return [module]
    names = sorted(m.name for m in pkgutil.iter_modules(module.__path__) if m.name.startswith("test_"))
    return [importlib.import_module(f"{name}.{n}") for n in names]


def list_tests(name):
    """The ids of all tests of a suite, class by class."""
    loader = unittest.TestLoader()
    ids = []
    for module in suite_modules(name):
        for cls_name, cls in vars(module).items():
            if isinstance(cls, type) and issubclass(cls, unittest.TestCase) and cls.__module__ == module.__name__:
                ids += [f"{module.__name__}:{cls_name}.{method}" for method in loader.getTestCaseNames(cls)]
    return ids


def test_id(test):
    return f"{type(test).__module__}:{type(test).__qualname__}.{test._testMethodName}"


def make_test(ident):
    module_name, _, rest = ident.partition(":")
    cls_name, _, method = rest.rpartition(".")
    return getattr(importlib.import_module(module_name), cls_name)(method)


class Recorder(unittest.TestResult):
    """Writes each result down when it is known."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.owner = os.getpid()
        self.current = None

    def emit(self, **event):
        # Opened anew each time: no descriptor is left open for the tests' children and their descriptor counts.
        if os.getpid() == self.owner:
            with open(self.path, "a", encoding="utf-8") as f:
                f.write(json.dumps(event) + "\n")

    def startTest(self, test):
        super().startTest(test)
        self.current, self.outcome, self.details = test, None, []
        self.started = time.monotonic()
        self.emit(event="start", test=test_id(test))
        print(f"--- {test_id(test)}", file=sys.stderr, flush=True)

    def stopTest(self, test):
        super().stopTest(test)
        self.emit(event="end", test=test_id(test), outcome=self.outcome or "pass",
                  detail="\n".join(self.details), seconds=round(time.monotonic() - self.started, 3))
        self.current = None

    def note(self, test, outcome, detail):
        if test is not self.current and getattr(test, "test_case", None) is not self.current:
            self.emit(event="fixture", test=str(test), outcome=outcome, detail=detail)
            return
        if self.outcome != "fail":
            self.outcome = outcome
        self.details.append(detail)

    def addError(self, test, err):
        self.note(test, "fail", "".join(traceback.format_exception(*err)))

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.note(subtest, "fail", f"{subtest}\n" + "".join(traceback.format_exception(*err)))

    def addSkip(self, test, reason):
        self.note(test, "skip", reason)

    def addExpectedFailure(self, test, err):
        pass

    def addUnexpectedSuccess(self, test):
        self.note(test, "fail", "unexpected success")


def run_tests(ids, events):
    from test import support

    class ClassByClass(Recorder):
        """Also tells which class left something behind: CPython's classes say so as they are torn down."""

        cls = None

        def startTest(self, test):
            if self.cls is not type(test):
                self.check_left()
                self.cls = type(test)
            super().startTest(test)

        def check_left(self):
            if self.cls is not None and support.environment_altered:
                self.emit(event="dangling", test=f"{self.cls.__module__}:{self.cls.__qualname__}")
            support.environment_altered = False

    recorder = ClassByClass(events)
    unittest.TestSuite([make_test(i) for i in ids]).run(recorder)
    recorder.check_left()
    recorder.emit(event="finished")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", metavar="SUITE")
    parser.add_argument("--run", metavar="FILE", help="JSON list of test ids")
    parser.add_argument("--events", metavar="FILE", required=True)
    options = parser.parse_args()
    sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "suites"))
    if options.list:
        with open(options.events, "w", encoding="utf-8") as f:
            json.dump(list_tests(options.list), f)
        return
    with open(options.run, encoding="utf-8") as f:
        ids = json.load(f)
    del sys.argv[1:]
    run_tests(ids, options.events)


if __name__ == "__main__":
    main()
