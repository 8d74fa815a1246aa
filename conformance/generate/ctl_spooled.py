"""Cases of a collector whose store is the spool of a folder, in which a worker lives: RST-9.8."""

from __future__ import annotations

from generate.dsl import Group
from generate.serving import R, expect, frame, join, opens, send, seqs, start


def add_to(group: Group) -> None:
    """Add the cases."""
    begun = [start(worker={"stream": R, "items": [seqs(R, 1, 3)]}), {"do": "trouble", "on": True, "disk": True}]
    needs = {"needs": ["worker_in_store"]}
    group.script(
        "ctl-worker-in-the-store", "server", "RST-9.8 CTL-8.1", "what the worker has written is here, on the disk",
        begun[0], join("w"), send("w", opens(R)), expect("w", frame("ack", status="ok", seq=3)), level="SHOULD", **needs,
    )  # fmt: skip
    group.script(
        "ctl-worker-in-the-store-and-a-disk-that-refuses", "server", "RST-9.8 CTL-3.1",
        "a power loss would take what is acked here", *begun, join("w"), send("w", opens(R)),
        expect("w", frame("ack", seq=0)), kind="invalid", kills="acks-what-isnt-forced", **needs,
    )  # fmt: skip
    group.script(
        "ctl-one-event-of-a-worker-in-the-store", "server", "RST-9.8", "of its first event as of many",
        start(worker={"stream": R, "items": [seqs(R, 1)]}), begun[1], join("w"), send("w", opens(R)),
        expect("w", frame("ack", seq=0)), kind="boundary", kills="acks-what-isnt-forced", **needs,
    )  # fmt: skip
