"""Exceptions and warnings that the standard library does not have, and the choice between them."""
from multiprocessing.context import ProcessError

from . import _native


class OwnerDied(ProcessError):
    """The process that held a lock was killed while it held it (strict mode only, see :func:`mpfast.set_strict`)."""


class OwnerDiedWarning(RuntimeWarning):
    """The process that held a lock was killed while it held it; the lock was handed on."""


_strict = False


def set_strict(strict):
    """See :func:`mpfast.set_strict`."""
    global _strict
    former, _strict = _strict, bool(strict)
    tell_native = _native.native("set_strict")
    if tell_native is not None:
        tell_native(_strict)
    return former
