# Private, and made of classes that only the running version knows.
from typing import Any

ConnectionToStranger: Any
Serving: Any
Server: Any
SharedMemoryServer: Any
