"""``python -m mpfast``: see :mod:`mpfast._command`."""
from mpfast._command import main

if __name__ == "__main__":
    main()
