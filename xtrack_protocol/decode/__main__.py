"""``python -m xtrack_protocol.decode``."""

from __future__ import annotations

import sys

from xtrack_protocol.decode.engine import USAGE, decode_files
from xtrack_protocol.decode.options import parse_arguments
from xtrack_protocol.decode.streams import open_closed_streams
from xtrack_protocol.errors import ConfigurationError


def main() -> int:
    """Decode what the command line asks for; return the exit status."""
    open_closed_streams()
    try:
        return decode_files(parse_arguments())
    except ConfigurationError as error:
        sys.stderr.write(f"xtrack decode: {error}\n")
        return USAGE
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
