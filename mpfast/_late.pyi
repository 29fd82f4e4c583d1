# Private, and made of classes that only the running version knows.
from typing import Any

Spec: Any
Module: Any
is_late: Any
begin: Any
begun: Any
hold: Any
after: Any
run: Any
run_imported: Any
run_all: Any
run_before_leaving: Any
