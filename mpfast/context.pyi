import sys
from collections.abc import Callable, Iterable, Sequence
from ctypes import _SimpleCData, c_char
from multiprocessing import context as _stdlib
from multiprocessing.context import (
    __all__ as __all__,
    AuthenticationError as AuthenticationError,
    BaseContext as BaseContext,
    BufferTooShort as BufferTooShort,
    ProcessError as ProcessError,
    TimeoutError as TimeoutError,
    assert_spawning as assert_spawning,
    get_spawning_popen as get_spawning_popen,
    set_spawning_popen as set_spawning_popen,
)
from multiprocessing.synchronize import _LockLike
from typing import Any, ClassVar, Literal, TypeVar, overload

from .pool import Pool
from .sharedctypes import Synchronized, SynchronizedArray, SynchronizedString

_T = TypeVar("_T")

class _Factories(_stdlib.BaseContext):
    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        max_memory_per_child: int | None = None,
    ) -> Pool: ...
    def cpu_count(self, logical: bool = True, available: bool = False) -> int: ...
    @overload  # type: ignore[override]
    def Value(
        self, typecode_or_type: type[_SimpleCData[_T]], *args: Any, lock: Literal[True] | _LockLike = True
    ) -> Synchronized[_T]: ...
    @overload
    def Value(self, typecode_or_type: str, *args: Any, lock: Literal[True] | _LockLike = True) -> Synchronized[Any]: ...
    @overload
    def Value(self, typecode_or_type: Any, *args: Any, lock: bool | _LockLike = True) -> Any: ...
    @overload  # type: ignore[override]
    def Array(
        self, typecode_or_type: type[c_char], size_or_initializer: int | Sequence[Any], *,
        lock: Literal[True] | _LockLike = True
    ) -> SynchronizedString: ...
    @overload
    def Array(
        self, typecode_or_type: type[_SimpleCData[_T]], size_or_initializer: int | Sequence[Any], *,
        lock: Literal[True] | _LockLike = True
    ) -> SynchronizedArray[_T]: ...
    @overload
    def Array(
        self, typecode_or_type: str, size_or_initializer: int | Sequence[Any], *,
        lock: Literal[True] | _LockLike = True
    ) -> SynchronizedArray[Any]: ...
    @overload
    def Array(
        self, typecode_or_type: Any, size_or_initializer: int | Sequence[Any], *, lock: bool | _LockLike = True
    ) -> Any: ...
    @overload
    def get_context(self, method: None = None) -> DefaultContext: ...
    @overload
    def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
    if sys.platform != "win32":
        @overload
        def get_context(self, method: Literal["fork"]) -> ForkContext: ...
        @overload
        def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
    @overload
    def get_context(self, method: str) -> BaseContext: ...

class Process(_stdlib.Process): ...

class DefaultContext(_Factories, _stdlib.DefaultContext):
    Process: ClassVar[type[Process]]

if sys.platform != "win32":
    class ForkProcess(_stdlib.ForkProcess): ...
    class ForkServerProcess(_stdlib.ForkServerProcess): ...
    class ForkContext(_Factories, _stdlib.ForkContext):
        Process: ClassVar[type[ForkProcess]]
    class ForkServerContext(_Factories, _stdlib.ForkServerContext):
        Process: ClassVar[type[ForkServerProcess]]

class SpawnProcess(_stdlib.SpawnProcess): ...

class SpawnContext(_Factories, _stdlib.SpawnContext):
    Process: ClassVar[type[SpawnProcess]]

_default_context: DefaultContext
