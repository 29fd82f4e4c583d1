"""An alias of :mod:`concurrent.futures._base`: futures are the standard library's own."""
from ..._mirror import alias

alias(__name__)
