"""``python -m mpfast``: see :mod:`mpfast._command`."""
from mpfast._command import main

main()
