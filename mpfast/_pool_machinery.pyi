# Private, and made of classes that only the running version knows.
from typing import Any

STEPS: Any
INTERNALS: Any
is_stock: Any
Judge: Any
