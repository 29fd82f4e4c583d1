# Private, and made of classes that only the running version knows.
from typing import Any

Prefetch: Any
new: Any
adopt: Any
