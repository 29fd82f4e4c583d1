"""Prints how long multiprocessing's work takes on the standard library, on mpfast and on the peers that are installed.

    python -m benchmarks                      everything, some minutes
    python -m benchmarks --quick              every row once, tiny sizes: to see that it works, not to be quoted
    python -m benchmarks --only lock,event    rows by group, key, beginning of a key, or glob (see --list)
    python -m benchmarks --bars               with what is aimed at, and whether it is met
    python -m benchmarks --instructions       instructions of an operation instead of its time

Each implementation works in a process of its own; the samples are taken in turn (A B C A B C ...), and a ratio is the
median of the ratios within each round: time of the standard library / time of the other.  mpfast is the installed
one; the directory of the checkout serves only where none is installed.

In the table, n/a marks what an implementation does not offer.  The exit status is 1 if a row failed on mpfast or on the
standard library, never because of a time.
"""
from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys

from benchmarks import chart, harness, peers, registry, report


def parse_arguments(arguments):
    """The command line as a namespace."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="NAMES", help="rows or groups, separated by commas")
    parser.add_argument("--peers", metavar="NAMES",
                        help="peers, separated by commas; all that are installed (default), or none (with --quick)")
    parser.add_argument("--repeat", type=int, metavar="N", help="samples of each implementation (default 7)")
    parser.add_argument("--target", type=float, metavar="SECONDS", help="length of a sample (default 0.2)")
    parser.add_argument("--quick", action="store_true", help="every row once, tiny sizes")
    parser.add_argument("--bars", action="store_true", help="print what is aimed at and whether it is met")
    parser.add_argument("--instructions", action="store_true", help="count instructions instead of time")
    parser.add_argument("--list", action="store_true", help="print the keys and titles of the rows and leave")
    parser.add_argument("--output", default="benchmark-results", metavar="DIRECTORY",
                        help="where results.json, table.md and chart.svg go (default %(default)s)")
    options = parser.parse_args(arguments)
    if options.peers is None:
        options.peers = "none" if options.quick else "all"
    return options


def make_plan(options):
    """:class:`harness.Plan` of the command line."""
    plan = harness.Plan.for_quick() if options.quick else harness.Plan()
    given = {name: getattr(options, name) for name in ("repeat", "target") if getattr(options, name) is not None}
    return dataclasses.replace(plan, **given)


def choose_implementations(wanted):
    """Names of the two that are always measured and of the wanted peers that are installed."""
    if wanted == "all":
        chosen = peers.PEERS
    else:
        chosen = [] if wanted == "none" else [name.strip() for name in wanted.split(",")]
    for name in chosen:
        if name not in peers.PEERS:
            raise ValueError(f"no peer is called {name!r}; there are {', '.join(peers.PEERS)}")
    return [peers.REFERENCE, peers.SUBJECT, *(name for name in chosen if peers.IMPLEMENTATIONS[name].installed())]


def choose_rows(options):
    rows = registry.all_rows()
    if options.only:
        rows = registry.select(rows, [name.strip() for name in options.only.split(",")])
    return [r for r in rows if r.instructions] if options.instructions else rows


def measure(rows, names, plan, options):
    """``(described, [(row, results), ...])``, printed while they come."""
    table = report.TextTable(options.bars)
    measured = []
    with harness.Workers(plan) as workers:
        described = harness.describe(names, plan, workers)
        print("\n".join(report.preface(described)))
        for r in rows:
            if options.instructions:
                results = harness.count_instructions(r, names)
                # The bars are about time.
                r = dataclasses.replace(r, unit="instructions", bar=None)
            else:
                results = harness.measure(r, names, plan, workers)
            measured.append((r, results))
            table.add(r, results)
            sys.stdout.flush()
    return described, measured


def write_files(measured, described, plan, directory):
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(report.to_json(measured, described, plan), encoding="utf-8")
    (directory / "table.md").write_text(report.markdown(measured, bars=True), encoding="utf-8")
    (directory / "chart.svg").write_text(chart.svg(measured), encoding="utf-8")
    print(f"written to {directory}: results.json, table.md, chart.svg")


def main(arguments=None):
    options = parse_arguments(arguments)
    try:
        rows = choose_rows(options)
        names = choose_implementations(options.peers)
    except ValueError as exc:
        print(exc, file=sys.stderr)
        return 2
    if options.list:
        for r in rows:
            print(f"{r.group:10} {r.key:24} {report.bar(r):>6}  {r.title}")
        return 0
    plan = make_plan(options)
    described, measured = measure(rows, names, plan, options)
    print("\n".join([*report.missing_lines(measured), report.summary_line(measured)]))
    write_files(measured, described, plan, options.output)
    failed = [results[name].failed for _, results in measured for name in (peers.REFERENCE, peers.SUBJECT)
              if name in results]
    return 1 if any(failed) else 0


if __name__ == "__main__":
    sys.exit(main())
