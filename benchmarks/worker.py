"""The process in which one implementation does the work of rows, commanded by :mod:`benchmarks.harness`.

Commands and answers are JSON, one on a line, over what were standard input and output:

    {"prepare": key, "target": seconds, "n": number or null}   ->  {"n": number}
    {"sample": n}                                              ->  {"figure": number}
    {"finish": true}                                           ->  {}
    {"describe": true}                                         ->  what the implementation says of itself

An answer can be {"unavailable": reason} or {"error": traceback} instead.  Spawned processes import this file as their
main module, hence it imports nothing at its top.
"""


def serve(name, quick):
    """Answers commands until their end."""
    import contextlib
    import json
    import os
    import traceback

    from benchmarks import peers, registry

    commands = os.fdopen(os.dup(0), "r")
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(2, 1)

    implementation = peers.IMPLEMENTATIONS[name](quick)
    rows = {r.key: r for r in registry.all_rows()}
    stack = contextlib.ExitStack()
    row = run = None

    def answer(command):
        nonlocal row, run
        if "describe" in command:
            return implementation.describe()
        if "prepare" in command:
            row = rows[command["prepare"]]
            run = stack.enter_context(row.prepared(implementation))
            if command["n"] is None:
                return {"n": calibrate(run, command["target"], row.most)}
            if row.timed:
                # As calibrating does: what is made only when it is first needed is there before the first sample.
                run(min(command["n"], row.quick_n or 1))
            return {"n": command["n"]}
        if "sample" in command:
            return {"figure": row.result(run(command["sample"]), command["sample"])}
        stack.close()
        return {}

    for line in commands:
        try:
            outcome = answer(json.loads(line))
        except registry.Unavailable as exc:
            outcome = {"unavailable": str(exc)}
        except BaseException:
            outcome = {"error": traceback.format_exc()}
        answers.write(json.dumps(outcome) + "\n")
        answers.flush()


def calibrate(run, target, most):
    """How often the work has to be done to take `target` seconds, at most `most` times."""
    n = 1
    while True:
        elapsed = max(run(n), 1e-9)
        if elapsed >= target / 5 or n >= most:
            return max(1, min(most, round(n * target / elapsed)))
        n = min(most, n * 10, max(n + 1, round(n * target / elapsed)))


def once(name, key, n, marked):
    """Does the work of a row n times and leaves; for tools that watch a process from outside.

    marked: write :data:`benchmarks.counters.MARK` to a closed descriptor before and after it.
    """
    import os

    from benchmarks import counters, peers, registry

    def mark():
        if marked:
            try:
                os.write(counters.NO_DESCRIPTOR, counters.MARK)
            except OSError:
                pass

    row = {r.key: r for r in registry.all_rows()}[key]
    try:
        with row.prepared(peers.IMPLEMENTATIONS[name]()) as run:
            run(max(1, n))
            mark()
            run(n)
            mark()
    except registry.Unavailable as exc:
        print(exc)
        raise SystemExit(counters.UNAVAILABLE)


def main():
    import os
    import sys

    # The package under test is the installed one; the directory of this checkout comes last.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if entry != here] + [os.path.dirname(here)]
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3] == "quick")
    else:
        once(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[1] == "marked")


if __name__ == "__main__":
    main()
