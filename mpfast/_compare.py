"""Running a program on the standard library and on mpfast, side by side."""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

_SHOWN_LINES = 10


@dataclass
class Run:
    """One run of the program: wall-clock seconds, exit status, and what it printed."""

    seconds: float
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def outcome(self):
        """What both sides must agree on."""
        return self.status, self.stdout


def main(arguments):
    """``python -m mpfast compare``: returns the exit status, 0 where both sides did the same, else 1."""
    options = _parse(arguments)
    sides = {"stdlib": [sys.executable], "mpfast": [sys.executable, "-m", "mpfast"]}
    runs = {side: [] for side in sides}
    for _ in range(options.repeats):
        for side, command in sides.items():
            runs[side].append(_run(command + options.program))
    seconds = {side: statistics.median(run.seconds for run in runs[side]) for side in sides}
    print(f"{' '.join(options.program)}: median of {options.repeats} interleaved runs")
    for side in sides:
        print(f"  {side}  {seconds[side]:8.3f} s   exit status {runs[side][0].status}")
    print(f"  ratio   {seconds['stdlib'] / seconds['mpfast']:8.2f}x  (stdlib / mpfast)")
    return _judge(runs)


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m mpfast compare",
        usage="%(prog)s [-h] [--repeats N] {program.py | -m module | -c code} [args]",
        description="Run a program on the standard library and on mpfast in turn, check that both print the same on "
                    "standard output and end with the same exit status, and show both times.  Its standard input is "
                    "empty.  Exit status: 0 where both did the same, 1 where not.")
    parser.add_argument("--repeats", type=_positive, default=5, metavar="N", help="runs of each (default: 5)")
    start = _where_the_program_starts(arguments)
    options = parser.parse_args(arguments[:start])
    options.program = arguments[start:]
    if not options.program:
        parser.error("a program is needed")
    return options


def _where_the_program_starts(arguments):
    position = 0
    while position < len(arguments) and arguments[position].startswith("--") or arguments[position:position + 1] == ["-h"]:
        position += 2 if arguments[position] == "--repeats" else 1
    return position


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _run(command):
    # Files, not pipes: a child that outlives the program would keep a pipe open.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        start = time.perf_counter()
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                                env=_environment()).returncode
        seconds = time.perf_counter() - start
        stdout.seek(0)
        stderr.seek(0)
        return Run(seconds, status, stdout.read(), stderr.read())


def _environment():
    # Order of sets and dict keys made from strings is part of what programs print.
    return {"PYTHONHASHSEED": "0", **os.environ}


def _judge(runs):
    outcomes = {side: {run.outcome for run in runs[side]} for side in runs}
    if outcomes["stdlib"] == outcomes["mpfast"] and len(outcomes["stdlib"]) == 1:
        print("  same output, same exit status")
        return 0
    if len(outcomes["stdlib"]) > 1:
        print("  the program does not print the same each time on the standard library: nothing to compare")
        return 1
    expected = runs["stdlib"][0]
    other = next(run for run in runs["mpfast"] if run.outcome != expected.outcome)
    print("  DIFFERENT")
    _show("stdlib", expected)
    _show("mpfast", other)
    return 1


def _show(side, run):
    print(f"--- {side}: exit status {run.status}")
    for name, text in (("stdout", run.stdout), ("stderr", run.stderr)):
        lines = text.decode(errors="replace").splitlines()
        for line in lines[-_SHOWN_LINES:]:
            print(f"    {name}: {line}")
