# Private, and made of classes that only the running version knows.
from typing import Any

strangers: Any
managed: Any
is_made: Any
pools_were_made: Any
make: Any
Arena: Any
Waiting: Any
Absent: Any
Served: Any
proxy_of: Any
shut_down: Any
raise_gone: Any
