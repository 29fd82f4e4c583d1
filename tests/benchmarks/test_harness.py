"""Rows measured by real workers."""
import dataclasses
import json
import sys

import pytest

from benchmarks import __main__ as command
from benchmarks import harness, registry
from benchmarks.registry import Unavailable

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the rows are for Linux")


def by_key(key):
    return next(r for r in registry.all_rows() if r.key == key)


def test_samples_are_taken_in_turn_and_compared():
    plan = dataclasses.replace(harness.Plan.for_quick(), repeat=3)
    with harness.Workers(plan) as workers:
        results = harness.measure(by_key("semaphore.acquire_release"), ["stdlib", "mpfast"], plan, workers)
    assert list(results) == ["stdlib", "mpfast"]
    for result in results.values():
        assert result.problem is None and len(result.samples) == 3 and min(result.samples) > 0
    assert results["stdlib"].ratio.median == 1


def test_a_row_asks_only_those_that_are_meant_for_it():
    plan = harness.Plan.for_quick()
    with harness.Workers(plan) as workers:
        assert list(harness.measure(by_key("value.get"), ["stdlib", "loky"], plan, workers)) == ["stdlib"]


def test_a_worker_that_does_not_answer_in_time_fails():
    worker = harness.Worker("stdlib", quick=True)
    try:
        with pytest.raises(harness.WorkerFailed, match="in time"):
            worker.ask(0.0, prepare="lock.with", target=60, n=None)
    finally:
        worker.close()


def test_a_dead_worker_is_a_failure_with_its_last_words():
    worker = harness.Worker("no such implementation", quick=True)
    try:
        with pytest.raises(harness.WorkerFailed, match="KeyError"):
            worker.ask(30.0, prepare="lock.with", target=0.01, n=None)
    finally:
        worker.close()


def test_one_that_had_died_before_it_was_asked_can_be_closed():
    worker = harness.Worker("no such implementation", quick=True)
    worker._process.wait(30)
    with pytest.raises(harness.WorkerFailed, match="died(.|\n)*KeyError"):
        worker.ask(30.0, prepare="lock.with", target=0.01, n=None)
    worker.close()


def test_an_error_in_a_row_is_reported_and_the_worker_lives_on():
    worker = harness.Worker("stdlib", quick=True)
    try:
        with pytest.raises(harness.WorkerFailed, match="no such row"):
            worker.ask(30.0, prepare="no such row", target=0.01, n=None)
        assert worker.ask(30.0, prepare="lock.with", target=0.001, n=None)["n"] > 1
    finally:
        worker.close()


def test_what_an_implementation_lacks_is_told():
    worker = harness.Worker("stdlib", quick=True)
    try:
        assert worker.ask(30.0, describe=True)["path"].endswith("__init__.py")
    finally:
        worker.close()
    worker = harness.Worker("faster-fifo", quick=True)
    try:
        with pytest.raises(Unavailable, match="pool"):
            worker.ask(30.0, prepare="pool.apply", target=0.001, n=None)
    finally:
        worker.close()


def test_command_prints_the_table_and_writes_the_files(tmp_path, capsys):
    status = command.main(["--quick", "--only", "lock.with,lock.contended.2", "--bars", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert status == 0
    assert "`with lock:` uncontended" in printed and "2.7x" in printed
    entries = {entry["key"]: entry for entry in json.loads((tmp_path / "results.json").read_text())["rows"]}
    assert entries["lock.contended.2"]["results"]["mpfast"]["median"] > 0
    assert (tmp_path / "chart.svg").read_text().startswith("<svg")
    assert "**Locks**" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--peers", "nothing"]])
def test_unknown_names_are_refused(arguments, capsys):
    assert command.main(arguments) == 2
    assert "nothing" in capsys.readouterr().err
