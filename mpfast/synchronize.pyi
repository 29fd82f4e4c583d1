from multiprocessing.synchronize import *
from multiprocessing.synchronize import __all__ as __all__
from multiprocessing.synchronize import (
    Barrier as Barrier,
    SemLock as SemLock,
)
