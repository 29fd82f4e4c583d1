"""An alias of :mod:`multiprocessing.dummy`: threads behind the API of processes, which are not replaced."""
import sys
from multiprocessing.dummy import connection

from .._mirror import alias

# The alias has the standard library's search path: without this, an import of the submodule would load it twice.
sys.modules[__name__ + ".connection"] = connection
alias(__name__)
