# Private, and made of classes that only the running version knows.
from typing import Any

Channel: Any
HandleIterator: Any
Link: Any
ManagedHandle: Any
PiecesResult: Any
Reply: Any
SharedResult: Any
Tray: Any
