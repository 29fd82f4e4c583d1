"""An alias of :mod:`multiprocessing.resource_tracker`: a program has one tracker."""
from ._mirror import alias

alias(__name__)
