"""What the standard library has no exception for.  The classes are the extension's; without it nothing raises them."""
from . import _native

OwnerDied = _native.native("OwnerDied")
OwnerDiedWarning = _native.native("OwnerDiedWarning")

if OwnerDied is None:

    class OwnerDied(RuntimeError):
        """The process that held the lock was killed (strict mode); the lock is free."""

        __module__ = "mpfast"

    class OwnerDiedWarning(RuntimeWarning):
        """The process that held the lock was killed; the caller has the lock now."""

        __module__ = "mpfast"

    _strict = False

    def set_strict(strict, /):
        """Keep the setting, which nothing here acts upon.  Returns the former one."""
        global _strict
        former, _strict = _strict, bool(strict)
        return former

    def get_strict():
        """The setting."""
        return _strict

else:
    set_strict = _native.core.set_strict
    get_strict = _native.core.get_strict
