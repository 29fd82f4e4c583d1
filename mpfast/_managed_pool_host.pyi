# Private, and made of classes that only the running version knows.
from typing import Any

Host: Any
ManagedDesk: Any
ManagedSupervisor: Any
end_all: Any
forking: Any
host_of: Any
