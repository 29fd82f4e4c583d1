# Private, and made of classes that only the running version knows.
from typing import Any

bootstrap: Any
