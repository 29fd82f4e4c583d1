"""Build of the extension module ``mpfast._core``.

The extension is optional: where it cannot be had (another operating system, no compiler, no headers) the package is
installed without it and hands out the standard library's own classes.  Why it is missing is kept in
``mpfast/_build_failure.txt`` for ``mpfast.doctor()``.

Environment: ``MPFAST_DEBUG=1`` builds the checking variant; ``MPFAST_REQUIRE_NATIVE=1`` makes a failure fatal.
"""
import compileall
import glob
import os
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FAILURE_FILE = "_build_failure.txt"


def enabled(name):
    return os.environ.get(name, "") not in ("", "0")


class OptionalBuildExt(build_ext):
    """Builds the extension, or keeps the reason why it could not be built."""

    def run(self):
        # Asked now: while it runs, setuptools has another value for inplace, which a failure would leave.
        self._in_place = self.inplace or getattr(self, "editable_mode", False)
        try:
            self._forget_failure()
            if not sys.platform.startswith("linux"):
                raise OSError(f"the native part is for Linux, this is {sys.platform}")
            super().run()
        except Exception as exc:
            if enabled("MPFAST_REQUIRE_NATIVE"):
                raise
            self._keep_failure(exc)
        if self._in_place:
            # An install elsewhere compiles them; here every process would, where Python is told not to write bytecode.
            compileall.compile_dir(os.path.dirname(self._failure_path()), quiet=2)

    def build_extension(self, ext):
        # Without this, setuptools swallows the failure of an optional extension before run() can keep its reason.
        ext.optional = False
        super().build_extension(ext)

    def copy_extensions_to_source(self):
        self.extensions = [e for e in self.extensions if os.path.exists(os.path.join(self.build_lib,
                           self.get_ext_filename(self.get_ext_fullname(e.name))))]
        super().copy_extensions_to_source()

    def _failure_path(self):
        if self._in_place:
            return os.path.join(os.path.dirname(os.path.abspath(__file__)), "mpfast", FAILURE_FILE)
        return os.path.join(self.build_lib, "mpfast", FAILURE_FILE)

    def _forget_failure(self):
        try:
            os.unlink(self._failure_path())
        except FileNotFoundError:
            pass

    def _keep_failure(self, exc):
        path = self._failure_path()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"{type(exc).__name__}: {exc}\n")
        print(f"mpfast: built without its native part: {exc}", file=sys.stderr)

    def get_outputs(self):
        return [o for o in super().get_outputs() if os.path.exists(o)]


def core_extension():
    compile_args = ["-std=gnu11", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread"]
    macros = []
    if enabled("MPFAST_DEBUG"):
        compile_args += ["-O1", "-g", "-UNDEBUG"]
        macros.append(("MPF_DEBUG", "1"))
    else:
        compile_args += ["-O3"]
    return Extension(
        "mpfast._core",
        sources=sorted(glob.glob("src/**/*.c", recursive=True)),
        depends=sorted(glob.glob("src/**/*.h", recursive=True)),
        include_dirs=["src"],
        define_macros=macros,
        extra_compile_args=compile_args,
        libraries=["rt"],  # shm_open() of C libraries that have it there
        extra_link_args=["-pthread"],
    )


setup(ext_modules=[core_extension()], cmdclass={"build_ext": OptionalBuildExt})
