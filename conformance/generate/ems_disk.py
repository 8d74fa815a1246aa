"""What an emitter makes of its disk, and of scalars: DLV-2, DLV-5.2, DLV-7.2, EMT-5.2."""

from __future__ import annotations

from generate.dsl import Json
from generate.emitting import Emitting, call, do, expect, metric, saw, session, tick
from generate.shipping import LOCAL, add, begin, is_, spool

GIB = 1 << 30


def add_to(g: Emitting) -> None:
    """Add the cases."""
    disk_cases(g)
    scalar_cases(g)


def disk_cases(g: Emitting) -> None:
    """DLV-2, DLV-2.1, DLV-5.2, DLV-7.2."""
    refuses, forces = do("disk", forces=False), do("disk", forces=True)
    durable = call("flush", until="durable", timeout=5)
    add(
        g, "durable", "DLV-2 DLV-4", "the disk has it", begin(**LOCAL), metric(), durable, is_("returned", value=True),
        needs="disk", level="SHOULD", kills="emitter-never-durable",
    )  # fmt: skip
    add(
        g, "not-durable", "DLV-2 DLV-4", "the disk refuses to be forced",
        begin(**LOCAL), metric(), refuses, durable, is_("returned", value=False), kind="invalid", needs="disk",
        kills="emitter-durable-without-the-disk",
    )  # fmt: skip
    add(
        g, "not-durable-with-a-collector", "DLV-2 DLV-4", "accepted it is, and durable it is not",
        begin(), metric(), refuses, durable, is_("returned", value=False), session(), expect(saw("metric", 3)),
        kind="boundary", needs="disk", kills="emitter-durable-without-the-disk",
    )  # fmt: skip
    add(
        g, "durable-again", "DLV-2.1", "what a failed attempt has left in doubt stands in another file before it is said",
        begin(**LOCAL), metric("m3"), spool(), refuses, durable, is_("returned", value=False), forces, durable,
        do("durable_means", dir="d", seqs=[1, 2, 3]), kind="invalid", needs="disk",
        kills="emitter-trusts-a-failed-disk",
    )  # fmt: skip
    add(
        g, "durable-after-two-failures", "DLV-2.1", "whatever was tried in between",
        begin(**LOCAL), metric("m3"), spool(), refuses, durable, metric("m4"), durable, is_("returned", value=False),
        forces, durable, do("durable_means", dir="d", seqs=[1, 2, 3]), kind="boundary", needs="disk",
        kills="emitter-trusts-a-failed-disk",
    )  # fmt: skip
    add(
        g, "checkpoint-in-doubt", "EVT-CHECKPOINT-2 DLV-2.1", "a checkpoint asks the disk: where that refuses, all before it is in doubt",
        begin(**LOCAL), metric("m3"), spool(), refuses, call("checkpoint", path="s3://b/c", step=3), forces, durable,
        do("durable_means", dir="d", seqs=[1, 2, 3, 4]), kind="invalid", needs="disk",
        kills="emitter-checkpoint-without-the-disk",
    )  # fmt: skip
    add(
        g, "logged-after-a-failure", "DLV-2.1 DLV-1", "the run goes on, and nothing of it is lost",
        begin(**LOCAL), metric("m3"), refuses, durable, metric("m4"), forces, metric("m5"),
        spool(saw("metric", 3), saw("metric", 4), saw("metric", 5)), needs="disk",
        kills="emitter-stops-after-a-failed-disk",
    )  # fmt: skip

    logged = (metric("m3"), call("log", msg="x"), call("param", key="a", value=1), call("status", status="training"))
    add(
        g, "forced-every-second", "DLV-2.2", "a power loss costs a second, not a run",
        begin(**LOCAL), metric(), do("forced"), tick(2000, 250), do("forced", min=1), metric(), do("forced"),
        tick(2000, 250), do("forced", min=1), level="SHOULD", needs="disk", kills="emitter-forces-at-the-end",
    )  # fmt: skip
    add(
        g, "nobody-waits-for-the-disk", "DLV-2.2", "however long it takes",
        begin(**LOCAL), do("disk", forces="slowly"), *logged, tick(3000, 250), *logged, do("disk", forces=True),
        spool(saw("metric", 3), saw("status", 10)), needs="disk", kind="invalid",
        kills="emitter-forces-in-each-call",
    )  # fmt: skip
    add(
        g, "nobody-waits-where-a-segment-is-full", "DLV-2.2 RST-6.4", "nor for what is complete",
        begin(**LOCAL), do("disk", forces="slowly"),
        {**call("log"), "bulk": {"into": "msg", "text": "m", "times": 900_000}, "times": 12}, metric("last"),
        do("disk", forces=True), spool(saw("metric", 15)), needs="disk", kind="boundary",
        kills="emitter-forces-full-segments-in-calls",
    )  # fmt: skip

    def room(total: int, free: int) -> Json:
        return do("room", total=total, free=free)

    for name, total, least in (("small", GIB, (GIB * 5 + 99) // 100), ("large", 1000 * GIB, GIB)):
        add(
            g, f"room-on-a-{name}-disk", "DLV-5.2", "5 % of it, and at most 1 GiB, is left to others",
            begin(), room(total, least - 4096), tick(2000), metric("lost"), room(total, 2 * least), tick(2000),
            metric("after"), session(), {**expect(saw("metric", key="after")), "without": [saw("metric", key="lost")]},
            level="SHOULD", kind="invalid", needs="disk", kills="emitter-leaves-no-room",
        )  # fmt: skip
        add(
            g, f"enough-room-on-a-{name}-disk", "DLV-5.2 DLV-7", "a bit more than that: it is used",
            begin(), room(total, least + 1_000_000), tick(2000), metric("m3"), do("counts", are={"dropped": 0}),
            session(), expect(saw("metric", 3)), kind="boundary", level="SHOULD", needs="disk",
            kills="emitter-leaves-too-much-room",
        )  # fmt: skip
    add(
        g, "room-of-a-local-run", "DLV-5.2", "it waits for no collector, and may use what there is",
        begin(**LOCAL), room(GIB, 1_000_000), tick(2000), metric("m3"), do("counts", are={"dropped": 0}),
        spool(saw("metric", 3)), level="SHOULD", needs="disk", kills="emitter-leaves-room-always",
    )  # fmt: skip
    full = do("full", full=True)
    for name, options in (("", LOCAL), ("-with-a-collector", {})):
        add(
            g, f"last-words-on-a-full-disk{name}", "DLV-7.2 DLV-7.1", "room was kept back for the loss and the end",
            begin(**options), metric("m3"), full, metric("m4"), metric("m5"), call("end", timeout=1), tick(2000),
            spool(saw("metric", 3), saw("skip", **{"from": 4, "to": {"$min": 5}}), saw("run_end")), level="SHOULD",
            needs="full", kills="emitter-keeps-no-room-for-the-end",
        )  # fmt: skip
    add(
        g, "the-end-on-a-full-disk", "DLV-7.2", "nothing was lost before it",
        begin(**LOCAL), metric("m3"), full, call("end"), spool(saw("metric", 3), saw("run_end")), level="SHOULD",
        needs="full", kind="boundary", kills="emitter-keeps-no-room-for-the-end",
    )  # fmt: skip


def scalar_cases(g: Emitting) -> None:
    """EMT-5.2."""

    def scalar(number: Json) -> Json:
        return {**call("metric", key="k"), "tagged": {"value": {"t": "scalar", "v": number}}}

    for name, number, value, kind in (
        ("half", {"t": "float", "v": "3fe0000000000000"}, 0.5, "valid"),
        ("whole", {"t": "int", "v": "9007199254740993"}, 9007199254740993, "boundary"),
        ("nan", {"t": "float", "v": "7ff8000000000000"}, "NaN", "boundary"),
    ):
        g.one(
            f"scalar-{name}", "EMT-5.2 VAL-2", "as the number that it holds", session(), scalar(number),
            expect(saw("metric", 3, value=value)), level="SHOULD", kind=kind, needs=["scalars"],
            kills="emitter-takes-no-scalars",
        )  # fmt: skip
