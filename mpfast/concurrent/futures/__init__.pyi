from concurrent.futures import *
from concurrent.futures import __all__ as __all__
