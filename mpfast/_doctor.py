"""What is native here, what is not, why, and what would mend it."""
import platform
import sys
from dataclasses import dataclass
from importlib import import_module

from . import _native
from ._version import VERSION

_HANDED_THROUGH = "handed through: this version of mpfast has no native one"


@dataclass(frozen=True)
class Feature:
    """One class, function or kernel feature.

    name: ``"synchronize.Lock"``, ``"kernel: memfd"``.  native: True where it is mpfast's own (a kernel feature: works).
    why: empty, or why it is not.  mend: empty, or what would change that.
    """

    name: str
    native: bool
    why: str = ""
    mend: str = ""


@dataclass(frozen=True)
class Report:
    """The findings of :func:`mpfast.doctor`; ``str()`` of it is for reading.

    native: whether native classes are handed out at all.  why, mend: as in :class:`Feature`.
    versions: name -> version of what mpfast runs on.  features: a tuple of :class:`Feature`.
    """

    native: bool
    why: str
    mend: str
    versions: dict
    features: tuple

    def __str__(self):
        lines = [", ".join(f"{name} {version}" for name, version in self.versions.items())]
        if self.native:
            lines.append("The native part is in use.")
        else:
            lines += [f"The native part is not in use: {self.why}.", f"To mend it: {self.mend}."]
        lines.append("")
        width = max((len(feature.name) for feature in self.features), default=0)
        for feature in self.features:
            verdict = "ok" if feature.native else "no "
            said_above = feature.why == self.why
            why = f"  {feature.why}" if feature.why and not said_above else ""
            mend = f"; to mend it: {feature.mend}" if feature.mend and not said_above else ""
            lines.append(f"  {feature.name:{width}}  {verdict}{why}{mend}".rstrip())
        return "\n".join(lines)


def examine():
    """Returns the :class:`Report` of this process."""
    missing = _native.missing
    return Report(
        native=missing is None,
        why=missing.why if missing else "",
        mend=missing.mend if missing else "",
        versions={
            "mpfast": VERSION,
            platform.python_implementation(): platform.python_version(),
            platform.system(): platform.release(),
        },
        features=tuple([*_replaceable(missing), *_kernel()]),
    )


def _replaceable(missing):
    from ._install import REPLACED
    for stdlib_module, names in REPLACED.items():
        try:
            stdlib = import_module(stdlib_module)
        except ImportError:
            continue
        short = stdlib_module.removeprefix("multiprocessing.")
        ours = vars(import_module(f"mpfast.{short}"))
        for name in names:
            if not hasattr(stdlib, name):
                continue
            if missing:
                yield Feature(f"{short}.{name}", False, missing.why, missing.mend)
            elif name in ours:
                yield Feature(f"{short}.{name}", True)
            else:
                yield Feature(f"{short}.{name}", False, _HANDED_THROUGH)


def _kernel():
    for name, (needed, reason) in _native.probes().items():
        consequence = "nothing native works without it" if needed else "slower without it"
        if reason:
            yield Feature(f"kernel: {name}", False, f"{reason} ({consequence})", "a newer kernel, or a sandbox that allows it")
        else:
            yield Feature(f"kernel: {name}", True)


def main(arguments):
    """``python -m mpfast doctor``: returns the exit status, 0 where the native part is in use, else 1."""
    if arguments:
        print("usage: python -m mpfast doctor", file=sys.stderr)
        return 2
    report = examine()
    print(report)
    return 0 if report.native else 1
