from multiprocessing.reduction import *
from multiprocessing.reduction import __all__ as __all__
from multiprocessing.reduction import (
    AbstractReducer as AbstractReducer,
    HAVE_SEND_HANDLE as HAVE_SEND_HANDLE,
)
