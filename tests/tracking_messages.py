"""What builders, listeners and the web's middleware say: rows of the troubleshooting page."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from doc_pages import environment


def script(code: str, **variables: str) -> Callable[[Path], str]:
    """Return what runs a script in a folder, and returns what it said."""

    def run(folder: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=folder,
            env={**os.environ, **environment(folder), **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    return run


def twice(folder: Path) -> str:
    """Start a run while another process logs to it, and return what the second one said."""
    first = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import xtrack_protocol as x; x.start_run(run_id='r'); print('begun', flush=True); input()",
        ],
        cwd=folder,
        env={**os.environ, **environment(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        return script("import xtrack_protocol as x; x.start_run(run_id='r')")(folder)
    finally:
        first.communicate("\n", timeout=60)


TRACKING: dict[str, Callable[[Path], str]] = {
    "with_start_time: moment=...: is no time in seconds since the Unix epoch. ...": script(
        "import time, xtrack_protocol as x; x.Tracker.build().with_start_time(time.time() * 1000)"
    ),
    "experiment='...': its tags can't go to ..., which takes events of runs alone. ...": script(
        "import xtrack_protocol as x; x.Tracker.experiment('ab').with_tag('type', 'ab').create()",
        XTRACK_TRANSPORT="tcp",
    ),
    "warning: log_batch: ...: ... has no key and value. It was left out": script(
        "import xtrack_protocol as x; x.start_run().log_batch([{'name': 'loss', 'value': 0.5}])"
    ),
    "warning: set_terminated: status=... is none of ...; the run was not ended": script(
        "import xtrack_protocol as x; x.start_run().set_terminated('RUNNING')"
    ),
    "warning: set_terminated: only who started a run says how it ended; this one was attached to": script(
        """
        import xtrack_protocol as x
        x.start_run(run_id="r").end()
        x.Tracker.attach("r").set_terminated("FAILED")
        """
    ),
    "warning: run ...: another process is logging to it, too, ... Give one another run id; ...": twice,
    "warning: a listener failed: ... (... so far)": script(
        "import xtrack_protocol as x; x.listen(on_end=lambda event: 1 / 0); x.start_run()"
    ),
    "warning: a listener is too slow; of more than ... events it hears no more": script(
        """
        import threading, xtrack_protocol as x
        gate = threading.Event()
        x.listen(on_metric=lambda event: gate.wait())
        run = x.start_run()
        for step in range(10_100):
            run.log_metric("loss", 0.5, step=step)
        gate.set()
        """
    ),
    "warning: requests are not tracked: ...": script(
        """
        from xtrack_protocol.integrations.web import TrackWSGI
        TrackWSGI(lambda environ, start_response: [], transport="nonsense")({}, print)
        """
    ),
    "warning: ... failed: .... This is told once": script(
        """
        from xtrack_protocol.integrations.web import TrackWSGI
        TrackWSGI(lambda environ, start_response: [], should_track=lambda environ: 1 / 0)({}, print)
        """
    ),
}
