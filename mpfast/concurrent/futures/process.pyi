from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import process as _stdlib
from concurrent.futures.process import BrokenProcessPool as BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, Final, Literal, TypeVar

_T = TypeVar("_T")

EXTRA_QUEUED_CALLS: Final = 1

class ProcessPoolExecutor(_stdlib.ProcessPoolExecutor):
    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        on_worker_death: Literal["raise", "retry"] | None = None,
    ) -> None: ...
    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[_T]: ...
    def terminate_workers(self) -> None: ...
    def kill_workers(self) -> None: ...
