import pickle
from collections.abc import Callable, Mapping
from typing import Any

def dump(obj: object, sink: Any, reducers: Mapping[type, Callable[..., Any]]) -> bool: ...

class PrivateMainPickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any: ...
