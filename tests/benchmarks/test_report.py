"""The table, the JSON and the chart."""
import json
import xml.etree.ElementTree

import pytest

from benchmarks import chart, harness, report
from benchmarks.registry import Row
from benchmarks.statistics import ratios


def row(**attributes):
    return Row("some.key", "some <work>", "locks", lambda impl: iter(()), **attributes)


def measured(reference, subject, **peers):
    results = {"stdlib": harness.Result(reference), "mpfast": harness.Result(subject)}
    results.update((name.replace("_", "-"), harness.Result(samples)) for name, samples in peers.items())
    for result in results.values():
        result.ratio = ratios(reference, result.samples)
    return results


@pytest.mark.parametrize("seconds, text", [
    (3.5e-7, "350 ns"), (6.6e-8, "66.0 ns"), (7.6e-6, "7.6 µs"), (0.0023, "2.3 ms"), (1.5, "1.5 s"), (0.0, "0.0 ns")])
def test_durations(seconds, text):
    assert report.duration(seconds) == text


@pytest.mark.parametrize("attributes, subject, expected", [
    ({"bar": 4}, [0.25], "met"),
    ({"bar": 5}, [0.25], "short"),
    ({}, [0.25], ""),
    ({"bar": 5}, [], ""),
    ({"at_most": 0, "unit": "threads"}, [0], "met"),
    ({"at_most": 0, "unit": "threads"}, [1], "short"),
    ({"at_least": 0.5, "unit": "share"}, [0.6], "met"),
    ({"at_least": 0.5, "unit": "share"}, [0.4], "short"),
])
def test_verdict(attributes, subject, expected):
    assert report.verdict(row(**attributes), measured([1.0], subject)["mpfast"]) == expected


def test_line_shows_times_ratio_bar_and_peers():
    line = report.columns(row(bar=3), measured([4e-6, 6e-6], [1e-6, 2e-6], faster_fifo=[2e-6, 3e-6]), bars=True)
    assert line == ["some <work>", "5.0 µs", "1.5 µs", "3.5x (3–4)", "3x", "met", "faster-fifo 2x"]


def test_a_peer_that_is_ahead_is_marked():
    results = measured([4.0], [2.0], loky=[1.0], billiard=[3.0])
    assert report.ahead(row(), results) == ["loky"]
    assert report.columns(row(), results, bars=False)[-1] == "loky 4x (ahead), billiard 1.33x"
    assert "1 rows with a peer ahead" in report.summary_line([(row(), results)])


def test_missing_features_and_failures_are_told_apart():
    results = measured([1.0], [])
    assert report.columns(row(), results, bars=False)[2] == "n/a"
    results["mpfast"].fail("Traceback: it broke")
    assert report.columns(row(), results, bars=False)[2] == "failed"
    lines = []
    report.TextTable(bars=False, write=lines.append).add(row(), results)
    assert any("it broke" in line for line in lines)


def test_reasons_of_what_is_missing_are_gathered():
    results = measured([1.0], [])
    results["mpfast"].problem = "has no such thing"
    assert report.missing_lines([(row(), results), (row(), results)]) == [
        "n/a on mpfast: has no such thing (some.key, some.key)"]


def test_preface_says_when_mpfast_is_not_native():
    about = {"version": "1.0", "native": False, "why": "no compiler", "handed through": [], "native features": []}
    assert any("no compiler" in line for line in report.preface({"stdlib": {"version": None}, "mpfast": about}))


def test_json_holds_every_sample():
    text = report.to_json([(row(bar=3), measured([4.0, 6.0], [1.0, 2.0]))], {"mpfast": {}}, harness.Plan())
    entry = json.loads(text)["rows"][0]
    assert entry["key"] == "some.key" and entry["verdict"] == "met"
    assert entry["results"]["mpfast"] == {"median": 1.5, "samples": [1.0, 2.0], "problem": None, "failed": False,
                                          "ratio": {"median": 3.5, "least": 3.0, "greatest": 4.0}}


def test_markdown_has_a_line_for_each_row():
    text = report.markdown([(row(bar=3), measured([4.0], [1.0]))], bars=True)
    assert text.startswith("**Locks**") and "| some <work> | 4.0 s | 1.0 s | 4x (4–4) | 3x | met |  |" in text


def test_chart_is_svg_with_a_bar_a_dot_and_the_aim():
    root = xml.etree.ElementTree.fromstring(chart.svg([(row(bar=3), measured([4.0], [1.0], loky=[2.0]))]))
    kinds = [element.get("class") for element in root.iter()]
    assert {"subject", "peer", "bar"} <= set(kinds)
    assert any(element.text == "some <work>" for element in root.iter())


def test_positions_grow_with_the_ratio_and_stay_on_the_chart():
    assert chart.position(1e-9) == chart.LABEL_WIDTH
    assert chart.position(1) < chart.position(2) < chart.position(100)
    assert chart.position(1e9) == chart.LABEL_WIDTH + chart.PLOT_WIDTH
