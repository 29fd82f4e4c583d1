# Private, and made of classes that only the running version knows.
from typing import Any

Desk: Any
HandleResult: Any
LOOK_AGAIN: Any
PoolHandle: Any
identity: Any
runs: Any
