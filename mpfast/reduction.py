"""An alias of :mod:`multiprocessing.reduction`: reducers are registered once."""
from ._mirror import alias

alias(__name__)
