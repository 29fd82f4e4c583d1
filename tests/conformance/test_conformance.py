"""The quick part of the conformance run, and that the runner itself tells what it should."""
import json
import os
import subprocess
import sys
import textwrap
import types

import pytest

import mpfast._native

HERE = os.path.dirname(os.path.abspath(__file__))

sys.path.insert(0, HERE)
import groups       # noqa: E402
import harness      # noqa: E402
import slices       # noqa: E402


def has_cpython_tests():
    code = "import test._test_multiprocessing"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


needs_suite = pytest.mark.skipif(not has_cpython_tests(), reason="this CPython is installed without its test suite")


@needs_suite
def test_locks_and_values_pass_cpythons_tests_under_fork(tmp_path):
    out = tmp_path / "result.json"
    run = subprocess.run([sys.executable, os.path.join(HERE, "run.py"), "--quick", "--jobs", "4", "--json", str(out)],
                         capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stdout[-20000:] + run.stderr[-5000:]
    verdicts = [t["verdict"] for t in json.loads(out.read_text())["tests"].values()]
    assert verdicts.count("passed") > 50


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """Runs test cases of a module written into the environment; returns the results by method name."""
    python = harness.create(str(tmp_path))

    def run(source, native=False, timeout=20.0):
        with open(os.path.join(harness.site_packages(python), "sample.py"), "w", encoding="utf-8") as f:
            f.write("import os, sys, threading, time, unittest\n" + textwrap.dedent(source))
        instance = slices.Runner(python, str(tmp_path), native, timeout, jobs=2)
        listed = tmp_path / "listed"
        subprocess.run([python, slices.SLICE_PROGRAM, "--list", "sample", "--events", str(listed)], check=True)
        results = instance.run(json.loads(listed.read_text()))
        return {ident.rpartition(".")[2]: result for ident, result in results.items()}

    return run


@needs_suite
def test_every_kind_of_result_is_told_apart(runner):
    results = runner("""
        class T(unittest.TestCase):
            def test_pass(self): pass
            def test_fail(self): self.assertEqual(1, 2)
            def test_skip(self): self.skipTest("because")
            def test_crash(self): os.abort()
            def test_subtest(self):
                with self.subTest(part=1): self.fail("inside")
            def test_zz_after_the_crash(self): pass
        """)
    assert {name: r.outcome for name, r in results.items()} == {
        "test_pass": "pass", "test_fail": "fail", "test_skip": "skip", "test_crash": "crash", "test_subtest": "fail",
        "test_zz_after_the_crash": "pass"}
    assert "SIGABRT" in results["test_crash"].detail
    assert "because" in results["test_skip"].detail


@needs_suite
def test_a_hanging_test_is_ended_and_its_stack_told(runner):
    results = runner("""
        class T(unittest.TestCase):
            def test_a(self):
                self.wait_for_ever()
            def wait_for_ever(self):
                threading.Event().wait()
            def test_b(self): pass
        """, timeout=6.0)
    assert results["test_a"].outcome == "hang"
    assert "wait_for_ever" in results["test_a"].detail
    assert results["test_b"].outcome == "pass"


@needs_suite
def test_a_process_left_behind_is_told(runner):
    results = runner("""
        import subprocess
        class T(unittest.TestCase):
            def test_leaves(self):
                subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
        """)
    assert results["test_leaves"].outcome == "pass"
    assert results["[left]"].outcome == "fail"
    assert "time.sleep(1000)" in results["[left]"].detail


WHO = """
    import subprocess
    import multiprocessing, multiprocessing.spawn

    PROBE = "import multiprocessing.spawn as s; print(s.get_preparation_data.__module__.partition('.')[0])"

    def side():
        return multiprocessing.spawn.get_preparation_data.__module__.partition(".")[0]

    def tell(conn):
        conn.send(side())
        conn.close()

    class T(unittest.TestCase):
        def ask(self, method):
            context = multiprocessing.get_context(method)
            r, w = context.Pipe(False)
            p = context.Process(target=tell, args=(w,))
            p.start()
            w.close()
            answer = r.recv()
            p.join()
            self.assertEqual(answer, "EXPECTED")
        def test_fork(self): self.ask("fork")
        def test_spawn(self): self.ask("spawn")
        def test_forkserver(self): self.ask("forkserver")
        def test_isolated_interpreter(self):
            done = subprocess.run([sys.executable, "-I", "-c", PROBE], capture_output=True, text=True)
            self.assertEqual(done.stdout.strip(), "EXPECTED")
"""


@needs_suite
@pytest.mark.parametrize("native", [True, False])
def test_all_processes_of_the_tests_are_on_the_side_they_should_be(runner, native):
    if native and not mpfast._native.ENABLED:
        pytest.skip(f"mpfast is without its native part: {mpfast._native.missing.why}")
    results = runner(WHO.replace("EXPECTED", "mpfast" if native else "multiprocessing"), native=native)
    assert {name: r for name, r in results.items() if r.outcome != "pass"} == {}
    assert len(results) == 4


@pytest.mark.parametrize("ident, group", [
    ("suite_fork:WithProcessesTestLock.test_lock", "sync"),
    ("suite_spawn:WithManagerTestArray.test_array", "values"),
    ("suite_spawn:TestWait.test_wait", "queue"),
    ("suite_spawn:WithThreadsTestPool.test_apply", "pool"),
    ("suite_fork:WithProcessesTestSubclassingProcess.test_subclassing", "process"),
    ("test.test_concurrent_futures.test_wait:ThreadPoolWaitTests.test_timeout", "futures"),
])
def test_the_group_of_a_test(ident, group):
    assert groups.group_of(ident) == group


def test_a_class_is_not_blamed_for_what_its_expected_differences_leave(monkeypatch):
    import run
    comparison = run.Comparison(sys.executable, "", types.SimpleNamespace(jobs=1))
    comparison.all_ids = ["m:C.test_listed", "m:C.test_other", "m:D.test_other"]
    monkeypatch.setattr(run, "expected_differences", lambda: [("m:C.test_listed", "a reason")])
    ran = []
    monkeypatch.setattr(comparison, "runner", lambda *args: types.SimpleNamespace(run_slices=ran.extend, results={}))
    comparison.run_alone(["m:C.[dangling]"], native=True)
    assert [piece for piece in ran if piece] == [["m:C.test_other"]]
    ran.clear()
    comparison.run_alone(["m:C.[dangling]"], native=False)
    assert [piece for piece in ran if piece] == [["m:C.test_listed", "m:C.test_other"]]


def test_each_expected_difference_has_a_reason():
    with open(os.path.join(HERE, "differences.txt"), encoding="utf-8") as f:
        lines = [line for line in f if line.strip() and not line.startswith("#")]
    for line in lines:
        pattern, versions, reason = (part.strip() for part in line.split("|", 2))
        assert ":" in pattern and versions and len(reason) > 20, line
