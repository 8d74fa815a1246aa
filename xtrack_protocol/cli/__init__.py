"""The ``xtrack`` command: one module a verb, each imported only when it is used.

A module here without a leading underscore is a verb: it has ``command``, a click command of the module's name, and
``SECTION``, the part of the help it stands in. That is all it takes to add one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_MISSING = """\
xtrack: the command line needs click and rich, which aren't installed. Install them with
    pip install 'xtrack-protocol[cli]'
`python -m xtrack_protocol.decode FILE...` decodes captured files without them.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's); return the exit status."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        if error.name not in {"click", "rich"}:
            raise
        if sys.stderr is not None:
            sys.stderr.write(_MISSING)
        return 2
    from xtrack_protocol.cli._app import run
    from xtrack_protocol.decode.streams import open_closed_streams

    open_closed_streams()
    return run(argv)
