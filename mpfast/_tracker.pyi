# Private, and made of classes that only the running version knows.
from typing import Any

rouse: Any
share: Any
adopt: Any
adapted: Any
