# Private, and made of classes that only the running version knows.
from typing import Any

STEPS: Any
INTERNALS: Any
PARTS: Any
METHODS: Any
parts_are_stock: Any
makes_processes: Any
replaced_starter: Any
Judge: Any
