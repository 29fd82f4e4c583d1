# Private, and made of classes that only the running version knows.
from typing import Any

ApplyResult: Any
AttendedIMapIterator: Any
AttendedIMapUnorderedIterator: Any
IMapIterator: Any
IMapUnorderedIterator: Any
MapResult: Any
Relay: Any
StdlibApplyResult: Any
StdlibIMapIterator: Any
StdlibIMapUnorderedIterator: Any
StdlibMapResult: Any
