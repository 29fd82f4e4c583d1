"""The table, as text and Markdown, and the JSON of a run."""
from __future__ import annotations

import collections
import json
import os
import platform
import sys
import time

from benchmarks import peers, statistics

HEADINGS = {"locks": "Locks", "values": "Values and arrays", "queues": "Queues", "pipes": "Pipes", "pools": "Pools",
            "processes": "Processes", "managers": "Managers and shared memory"}


def duration(seconds):
    """A time for people: ``duration(3.5e-7) == "350 ns"``."""
    for unit, scale in (("s", 1), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if seconds >= scale:
            break
    figure = seconds / scale
    return f"{figure:.{0 if figure >= 100 else 1}f} {unit}"


def figure(row, value):
    """`value` of a row in its unit."""
    return duration(value) if row.timed else f"{value:.4g}"


def verdict(row, result):
    """``"met"``, ``"short"`` or ``""`` where there is no bar or nothing to hold against it."""
    if result is None or not result.samples:
        return ""
    if row.bar is not None:
        return _met(result.ratio.median >= row.bar) if result.ratio else ""
    if row.at_most is not None:
        return _met(result.summary.median <= row.at_most)
    if row.at_least is not None:
        return _met(result.summary.median >= row.at_least)
    return ""


def _met(condition):
    return "met" if condition else "short"


def bar(row):
    """The bar of a row for people, ``""`` if it has none."""
    if row.bar is not None:
        return f"{row.bar:g}x"
    if row.at_most is not None:
        return f"≤ {row.at_most:g}"
    return f"≥ {row.at_least:g}" if row.at_least is not None else ""


def _cell(row, result):
    if result is None:
        return ""
    if not result.samples:
        return "failed" if result.failed else "n/a"
    return figure(row, result.summary.median)


def _ratio(result):
    if result is None or result.ratio is None:
        return ""
    ratio = result.ratio
    return f"{ratio.median:.3g}x ({ratio.least:.3g}–{ratio.greatest:.3g})"


def ahead(row, results):
    """Names of the peers that are faster than mpfast in a row, by the ratios within each round."""
    subject = results.get(peers.SUBJECT)
    if subject is None or not subject.samples or not row.timed:
        return []
    faster = []
    for name, result in results.items():
        if name not in (peers.REFERENCE, peers.SUBJECT):
            ratio = statistics.ratios(subject.samples, result.samples)
            if ratio and ratio.median > 1:
                faster.append(name)
    return faster


def _peers(row, results):
    faster = ahead(row, results)
    entries = []
    for name, result in results.items():
        if name in (peers.REFERENCE, peers.SUBJECT) or not result.samples:
            continue
        entry = f"{name} {f'{result.ratio.median:.3g}x' if result.ratio else _cell(row, result)}"
        entries.append(entry + " (ahead)" if name in faster else entry)
    return ", ".join(entries)


def columns(row, results, bars):
    """The cells of a row."""
    subject = results.get(peers.SUBJECT)
    cells = [row.title, _cell(row, results.get(peers.REFERENCE)), _cell(row, subject), _ratio(subject)]
    if bars:
        cells += [bar(row), verdict(row, subject)]
    return cells + [_peers(row, results)]


def header(bars):
    """The headings of the columns."""
    return ["work", "stdlib", "mpfast", "ratio (least–greatest)", *(["bar", ""] if bars else []), "peers' ratios"]


def markdown(measured, bars=False):
    """Table of ``[(row, results), ...]`` in Markdown, a part for each group."""
    lines = []
    group = None
    for row, results in measured:
        if row.group != group:
            group = row.group
            head = header(bars)
            lines += ["", f"**{HEADINGS[group]}**", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines.append("| " + " | ".join(columns(row, results, bars)) + " |")
    return "\n".join(lines).strip() + "\n"


class TextTable:
    """Prints the table row by row while it is being measured."""

    WIDTHS = (68, 9, 9, 23)
    LAST_LINES = 15

    def __init__(self, bars, write=print):
        self._bars = bars
        self._write = write
        self._group = None

    def add(self, row, results):
        if row.group != self._group:
            self._group = row.group
            self._line([HEADINGS[row.group].upper(), *header(self._bars)[1:]])
        self._line(columns(row, results, self._bars))
        for name, result in results.items():
            if result.failed:
                lines = result.problem.strip().splitlines()
                self._write("\n        ".join([f"    {name} failed (the end of what it said):", *lines[-self.LAST_LINES:]]))

    def _line(self, cells):
        widths = self.WIDTHS + ((7, 6) if self._bars else ())
        padded = [cell.ljust(width) for cell, width in zip(cells, widths)]
        self._write("  ".join(padded + [cells[-1]]).rstrip())


def summary_line(measured):
    """How many bars are met and how often a peer is ahead, in one line."""
    verdicts = [verdict(row, results.get(peers.SUBJECT)) for row, results in measured]
    failed = sum(result.failed for _, results in measured for result in results.values())
    behind = sum(bool(ahead(row, results)) for row, results in measured)
    return (f"{verdicts.count('met')} bars met, {verdicts.count('short')} short, "
            f"{verdicts.count('')} rows without a bar or a figure, {behind} rows with a peer ahead, {failed} failures")


def missing_lines(measured):
    """Why there is n/a in the columns of the standard library and mpfast: list of lines, one for each reason."""
    keys = collections.defaultdict(list)
    for row, results in measured:
        for name in (peers.REFERENCE, peers.SUBJECT):
            result = results.get(name)
            if result is not None and result.problem and not result.failed:
                keys[name, result.problem].append(row.key)
    return [f"n/a on {name}: {problem} ({', '.join(rows)})" for (name, problem), rows in keys.items()]


def machine():
    """Where a run took place."""
    return {"python": sys.version, "implementation": platform.python_implementation(), "kernel": platform.release(),
            "machine": platform.machine(), "cpus": len(os.sched_getaffinity(0)),
            "load": os.getloadavg()[0], "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def preface(described):
    """What must be known before the table is read, from :func:`benchmarks.harness.describe`: list of lines."""
    lines = [", ".join(f"{name} {about['version']}" for name, about in described.items() if about.get("version"))]
    subject = described[peers.SUBJECT]
    if "failed" in subject:
        lines.append(f"mpfast cannot be examined: {subject['failed']}")
    elif not subject["native"]:
        lines.append(f"mpfast hands out the standard library's classes: {subject['why']}")
    elif subject["handed through"]:
        lines.append("not native, hence a ratio of about 1: " + ", ".join(subject["handed through"]))
    return [line for line in lines if line]


def to_json(measured, described, plan):
    """The run as JSON text."""
    return json.dumps({
        "machine": machine(),
        "implementations": described,
        "plan": {"quick": plan.quick, "repeat": plan.repeat, "target_seconds": plan.target},
        "rows": [_row_to_dict(row, results) for row, results in measured],
    }, indent=1, ensure_ascii=False) + "\n"


def _row_to_dict(row, results):
    return {"key": row.key, "title": row.title, "group": row.group, "unit": row.unit, "bar": row.bar,
            "at_most": row.at_most, "at_least": row.at_least, "usual": row.usual,
            "verdict": verdict(row, results.get(peers.SUBJECT)),
            "results": {name: _result_to_dict(result) for name, result in results.items()}}


def _result_to_dict(result):
    summary, ratio = result.summary, result.ratio
    return {"median": summary and summary.median, "samples": result.samples, "problem": result.problem,
            "failed": result.failed,
            "ratio": ratio and {"median": ratio.median, "least": ratio.least, "greatest": ratio.greatest}}
