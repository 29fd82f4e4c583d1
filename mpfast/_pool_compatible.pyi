from typing import Any

# Private: nothing here is for programs.
def __getattr__(name: str) -> Any: ...
