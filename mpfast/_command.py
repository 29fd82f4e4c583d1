"""The command line.

    python -m mpfast script.py [args]     run a program with mpfast installed
    python -m mpfast -m module [args]     the same for a module
    python -m mpfast -c code [args]       the same for code
    python -m mpfast - [args]             the same for a program on standard input
    python -m mpfast doctor               what is native here, what is not, and why
    python -m mpfast compare [--repeats N] program.py [args]
                                          run a program on the standard library and on mpfast, side by side

A file or directory called "doctor" or "compare" in the current directory is run as a program.
"""
import os
import sys

_HELP = ("-h", "--help")


def main():
    """Run what ``sys.argv`` asks for, as the program ``__main__``."""
    arguments = sys.argv[1:]
    first = arguments[0] if arguments else ""
    if not arguments and sys.stdin is not None and not sys.stdin.isatty():
        first = "-"
        program = ("-", None, [""])
    elif first in _HELP:
        print(__doc__.strip())
        return
    elif first == "--version":
        from ._version import VERSION
        print(f"mpfast {VERSION}")
        return
    elif first in ("doctor", "compare") and not os.path.exists(first):
        sys.exit(_subcommand(first, arguments[1:]))
    else:
        program = _parse(arguments)
    from . import install
    from ._run import run
    install()
    run(*program)


def _subcommand(name, arguments):
    if name == "doctor":
        from ._doctor import main
    else:
        from ._compare import main
    return main(arguments)


def _parse(arguments):
    """Returns (kind, what to run, the program's sys.argv); kind is "script", "-m", "-c" or "-"."""
    if not arguments:
        _usage("a program is needed")
    first = arguments[0]
    if first == "-":
        return "-", None, arguments
    if first[:2] in ("-m", "-c"):
        what, rest = first[2:], arguments[1:]
        if not what:
            if not rest:
                _usage(f"argument expected for the {first} option")
            what, rest = rest[0], rest[1:]
        return first[:2], what, [first[:2], *rest]
    if first.startswith("-"):
        _usage(f"unknown option {first}; options of Python go before -m mpfast")
    return "script", first, arguments


def _usage(problem):
    print(f"mpfast: {problem}\n\n{__doc__.strip()}", file=sys.stderr)
    sys.exit(2)
