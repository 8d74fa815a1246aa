"""``python -m xtrack_conformance``."""

import sys

from xtrack_conformance.cli import main

if __name__ == "__main__":
    sys.exit(main())
