"""``python -m xtrack_protocol.cli``."""

import sys

from xtrack_protocol.cli import main

if __name__ == "__main__":
    sys.exit(main())
