from mpfast.concurrent.futures import *
from mpfast.concurrent.futures import __all__ as __all__
