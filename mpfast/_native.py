"""The extension module, or the reason why it is not to be had.

``core``     the module ``mpfast._core``, or None
``ENABLED``  True where native classes are handed out
``missing``  a :class:`Missing` that says why not, or None
"""
import os
import sys


class Missing:
    """Why the native part is not in use.

    kind: ``"disabled"``, ``"platform"``, ``"extension"`` or ``"kernel"``.
    why, mend: one sentence each; *mend* is what would change it.
    """

    __slots__ = ("kind", "why", "mend")

    def __init__(self, kind, why, mend):
        self.kind = kind
        self.why = why
        self.mend = mend

    def __repr__(self):
        return f"<{type(self).__name__} {self.kind}: {self.why}>"


def _build_failure():
    try:
        with open(os.path.join(os.path.dirname(__file__), "_build_failure.txt"), encoding="utf-8") as f:
            return f.read().strip()
    except OSError:
        return ""


def probes():
    """Ask the running kernel for each feature that the native part uses.

    Returns a dict: name of the feature -> (needed, reason).  *needed* is True where nothing native works without it;
    *reason* is an empty string where the feature is there, else why it is not.  Empty without the extension.
    """
    ask = getattr(core, "probe", None)
    return ask() if ask is not None else {}


def _load():
    if os.environ.get("MPFAST_DISABLE", "") not in ("", "0"):
        return None, Missing("disabled", "MPFAST_DISABLE is set in the environment", "unset MPFAST_DISABLE")
    if not sys.platform.startswith("linux"):
        return None, Missing("platform", f"the native part is for Linux, this is {sys.platform}", "run on Linux")
    try:
        from . import _core
    except Exception as exc:  # whatever is wrong with it, the import of this package works
        failure = _build_failure()
        why = f"the extension was not built: {failure}" if failure else f"the extension cannot be loaded: {exc}"
        return None, Missing("extension", why,
                             "install a C compiler and the headers of this Python, then reinstall mpfast")
    return _core, None


def _check_kernel():
    for feature, (needed, reason) in probes().items():
        if needed and reason:
            return Missing("kernel", f"{feature} does not work here: {reason}",
                           f"allow {feature} (a sandbox or an old kernel withholds it)")
    return None


class _Signature:
    """What :func:`inspect.signature` says of a class whose ``__init__`` is a method in C: from 3.13 on it cannot find that itself."""

    def __get__(self, instance, cls):
        made = cls.__new__ if _is_python(cls.__new__) else cls.__init__
        if instance is not None or _is_python(type(cls).__call__) or _is_python(cls.__init__):
            raise AttributeError("__signature__")  # it finds these itself
        import inspect
        signature = inspect.signature(made)
        return signature.replace(parameters=list(signature.parameters.values())[1:])


def _is_python(function):
    return hasattr(function, "__code__")


def _give_signatures():
    signature = _Signature()
    for value in vars(core).values():
        if isinstance(value, type) and isinstance(vars(value).get("__init__"), type(str.join)):
            value.__signature__ = signature


core, missing = _load()
if core is not None and sys.version_info >= (3, 13):
    _give_signatures()
if core is not None:
    missing = _check_kernel()
ENABLED = missing is None


def native(name):
    """The class or function *name* of the extension; None where it is not to be used or not there."""
    return getattr(core, name, None) if ENABLED else None
