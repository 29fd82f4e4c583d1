from multiprocessing import (
    AuthenticationError as AuthenticationError,
    Barrier as Barrier,
    BoundedSemaphore as BoundedSemaphore,
    BufferTooShort as BufferTooShort,
    Condition as Condition,
    Event as Event,
    JoinableQueue as JoinableQueue,
    Lock as Lock,
    Manager as Manager,
    Pipe as Pipe,
    Pool as Pool,
    ProcessError as ProcessError,
    Queue as Queue,
    RLock as RLock,
    RawArray as RawArray,
    RawValue as RawValue,
    Semaphore as Semaphore,
    SimpleQueue as SimpleQueue,
    TimeoutError as TimeoutError,
    active_children as active_children,
    allow_connection_pickling as allow_connection_pickling,
    current_process as current_process,
    freeze_support as freeze_support,
    get_all_start_methods as get_all_start_methods,
    get_logger as get_logger,
    get_start_method as get_start_method,
    log_to_stderr as log_to_stderr,
    parent_process as parent_process,
    reducer as reducer,
    set_executable as set_executable,
    set_forkserver_preload as set_forkserver_preload,
    set_start_method as set_start_method,
)
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar, overload

from . import context as context, process as process
from ._doctor import Report
from ._errors import (
    OwnerDied as OwnerDied,
    OwnerDiedWarning as OwnerDiedWarning,
    WorkerLostError as WorkerLostError,
)
from ._group import ProcessGroup as ProcessGroup
from .context import Process as Process

_K = TypeVar("_K")
_V = TypeVar("_V")
_T = TypeVar("_T")

class _Keyed(Protocol[_K, _V]):
    def keys(self) -> Iterable[_K]: ...
    def __getitem__(self, key: _K, /) -> _V: ...

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]

__version__: Final[str]

SUBDEBUG: Final = 5
SUBWARNING: Final = 25

Array = context._default_context.Array
Value = context._default_context.Value
cpu_count = context._default_context.cpu_count
get_context = context._default_context.get_context

def install() -> bool: ...
def uninstall() -> None: ...
def doctor() -> Report: ...
def set_strict(strict: bool) -> bool: ...
def get_strict() -> bool: ...

class SharedDict(Generic[_K, _V]):
    @overload
    def __init__(self, other: _Keyed[_K, _V] | Iterable[tuple[_K, _V]], /, **kwargs: _V) -> None: ...
    @overload
    def __init__(self, **kwargs: _V) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: _K, /) -> _V: ...
    def __setitem__(self, key: _K, value: _V, /) -> None: ...
    def __delitem__(self, key: _K, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __iter__(self) -> Iterator[_K]: ...
    def __reversed__(self) -> Iterator[_K]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]
    def __or__(self, other: Any, /) -> dict[_K, _V]: ...
    def __ror__(self, other: Any, /) -> dict[_K, _V]: ...
    def __ior__(self, other: Any, /) -> SharedDict[_K, _V]: ...
    @overload
    def get(self, key: _K, default: None = None, /) -> _V | None: ...
    @overload
    def get(self, key: _K, default: _T, /) -> _V | _T: ...
    @overload
    def pop(self, key: _K, /) -> _V: ...
    @overload
    def pop(self, key: _K, default: _T, /) -> _V | _T: ...
    def popitem(self) -> tuple[_K, _V]: ...
    def setdefault(self, key: _K, default: Any = None, /) -> _V: ...
    @overload
    def update(self, other: _Keyed[_K, _V] | Iterable[tuple[_K, _V]], /, **kwargs: _V) -> None: ...
    @overload
    def update(self, **kwargs: _V) -> None: ...
    def clear(self) -> None: ...
    def copy(self) -> dict[_K, _V]: ...
    def keys(self) -> list[_K]: ...
    def values(self) -> list[_V]: ...
    def items(self) -> list[tuple[_K, _V]]: ...
    def has_key(self, key: object, /) -> bool: ...
    @classmethod
    def fromkeys(cls, iterable: Iterable[_K], value: Any = None, /) -> SharedDict[_K, Any]: ...
    def __getstate__(self) -> Any: ...
    def __setstate__(self, state: Any, /) -> None: ...
