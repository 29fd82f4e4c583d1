"""Running a program as ``__main__`` the way plain ``python`` does."""
import _frozen_importlib
import _frozen_importlib_external
import builtins
import io
import os
import sys


def run(kind, what, argv):
    """Run a program as ``__main__``.

    kind, what: ("script", path of a file, directory or zip file), ("-m", name of a module), ("-c", code), ("-", None)
    for a program on standard input.  argv: its ``sys.argv``.

    Returns when the program ends; its exceptions and ``SystemExit`` leave this function as they leave the program.
    """
    sys.argv[:] = argv
    namespace = _fresh_main()
    try:
        _RUNNERS[kind](what, namespace)
    except SystemExit:
        raise
    except BaseException as exc:
        _hide_own_frames(exc)
        raise


def _fresh_main():
    """Make ``__main__`` what it is before a program starts; returns its namespace."""
    namespace = sys.modules["__main__"].__dict__
    has_annotations = "__annotations__" in namespace
    namespace.clear()
    namespace.update(__name__="__main__", __doc__=None, __package__=None, __spec__=None, __builtins__=builtins,
                     __loader__=_frozen_importlib.BuiltinImporter)
    if has_annotations:
        namespace["__annotations__"] = {}
    return namespace


def _run_script(path, namespace):
    absolute = os.path.join(os.getcwd(), path)
    if _holds_modules(absolute):
        _search_first_in(absolute, even_if_safe=True)
        return _run_named("__main__", alter_argv=False)
    _search_first_in(os.path.dirname(os.path.realpath(path)))
    try:
        file = io.open_code(absolute)
    except OSError as exc:
        print(f"{sys.executable}: can't open file {absolute!r}: [Errno {exc.errno}] {exc.strerror}", file=sys.stderr)
        sys.exit(2)
    with file:
        content = file.read()
    is_bytecode = absolute.endswith(".pyc")
    loader = "SourcelessFileLoader" if is_bytecode else "SourceFileLoader"
    _describe_file(namespace, absolute)
    namespace["__loader__"] = getattr(_frozen_importlib_external, loader)("__main__", absolute)
    if is_bytecode:
        code = namespace["__loader__"].get_code("__main__")
    else:
        code = _compile(content, absolute)
    exec(code, namespace)


def _holds_modules(path):
    """Whether *path* is a directory or an archive, of which ``__main__`` is run."""
    for hook in sys.path_hooks:
        try:
            return hook(path) is not None
        except ImportError:
            continue
    return False


def _run_module(name, namespace):
    _run_named(name, alter_argv=True)


def _run_named(name, alter_argv):
    import runpy
    runpy._run_module_as_main(name, alter_argv)


def _run_code(source, namespace):
    _search_first_in("")
    if sys.version_info >= (3, 14):
        import textwrap
        source = textwrap.dedent(source)
    code = _compile(source, "<string>")
    _remember_source(code, source)
    exec(code, namespace)


def _run_stdin(_, namespace):
    _search_first_in("")
    source = sys.stdin.buffer.read()
    _describe_file(namespace, "<stdin>")
    exec(_compile(source, "<stdin>"), namespace)


_RUNNERS = {"script": _run_script, "-m": _run_module, "-c": _run_code, "-": _run_stdin}


def _search_first_in(directory, even_if_safe=False):
    # ``-m mpfast`` put the current directory first, unless that was forbidden.
    if not (getattr(sys.flags, "safe_path", False) or sys.flags.isolated):
        sys.path[0] = directory
    elif even_if_safe:
        sys.path.insert(0, directory)


def _describe_file(namespace, name):
    namespace["__file__"] = name
    if sys.version_info < (3, 15):
        namespace["__cached__"] = None


def _compile(source, name):
    return compile(source, name, "exec", dont_inherit=True)


def _remember_source(code, source):
    # Since 3.13 tracebacks show the lines of ``-c`` too: kept under the file's name in 3.13.0, by code object later.
    if sys.version_info >= (3, 13):
        import linecache
        by_code = hasattr(linecache, "_interactive_cache")
        linecache._register_code(code if by_code else "<string>", source, "<string>")


def _hide_own_frames(exc):
    """Have *exc*, which ends the program, shown without the frames of this module and of those that called it."""
    program = exc.__traceback__
    while program is not None and program.tb_frame.f_code.co_filename == __file__:
        program = program.tb_next
    hook = sys.excepthook

    def show(kind, value, traceback):
        sys.excepthook = hook
        if value is exc:
            value.__traceback__ = sys.last_traceback = traceback = program
        hook(kind, value, traceback)

    sys.excepthook = show
