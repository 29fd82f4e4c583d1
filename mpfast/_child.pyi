# Private, and made of classes that only the running version knows.
from typing import Any

parent_sentinel: Any
ended: Any
follows: Any
untouched: Any
main: Any
load: Any
prepare: Any
import_main: Any
has_main: Any
code_of: Any
dump_code: Any
adopt_tracker: Any
