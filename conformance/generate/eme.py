"""What an emitter makes of a training's values: EMT-5, EVT, FRM-3.8 to 3.15."""

from __future__ import annotations

from typing import Any

from generate.dsl import Json
from generate.emitting import (
    CONNECT,
    HELLO,
    Emitting,
    ack,
    call,
    do,
    expect,
    log,
    metric,
    never,
    saw,
    session,
    start,
)

OPAQUE: Json = {"t": "opaque"}
BROKEN: Json = {"t": "opaque", "v": "broken"}
HALF: Json = {"t": "utf16", "v": "0061d83d0062"}
QUIET: Json = do("lines")


def tagged(name: str, given: Json | None = None, **values: Json) -> Json:
    """Make a call with tagged values among its arguments."""
    step = {"do": "call", "call": name, "tagged": values}
    return step | ({"arguments": given} if given else {})


def bulk(name: str, given: Json, into: str, **much: Any) -> Json:
    """Make a call with much of something."""
    return {"do": "call", "call": name, "arguments": given, "bulk": {"into": into, **much}}


def floating(value: str) -> Json:
    """Return a tagged binary64."""
    bits = {"NaN": "7ff8000000000000", "Infinity": "7ff0000000000000", "-Infinity": "fff0000000000000"}
    return {"t": "float", "v": bits[value]}


def cases() -> Emitting:
    """Return the group."""
    g = Emitting("eme")
    event_cases(g)
    start_cases(g)
    nonsense_cases(g)
    number_cases(g)
    size_cases(g)
    return g


def event_cases(g: Emitting) -> None:
    """Each call and its event."""
    here = session()
    g.one(
        "each-call", "EVT-1 ENV-7.2 EMT-3.1 EMT-5 EMT-5.1 EMT-5.3 EVT-LOG-2 EVT-TAGS-2.2 FRM-3.10 EMT-5.4 EMT-5.5", "each call of a training becomes the event that it is for",
        here, call("param", key="lr", value=0.1), expect(saw("param", 3, key="lr", value=0.1)),
        metric("loss", 0.5, step=7), expect(saw("metric", 4, key="loss", value=0.5, step=7)),
        call("metrics", values={"a": 1.5, "b": 2.5}, step=8),
        expect(saw("metric_batch", 5, metrics={"a": 1.5, "b": 2.5}, step=8)),
        log("hello", level="warning", fields={"n": 1}),
        expect(saw("log", 6, msg="hello", level="warning", fields={"n": 1})),
        call("tags", tags={"team": "vision"}), expect(saw("tags", 7, tags={"team": "vision"})),
        call("status", status="training", msg="epoch 1"),
        expect(saw("status", 8, status="training", msg="epoch 1")),
        call("artifact", path="s3://bucket/model", type="model"),
        expect(saw("artifact", 9, path="s3://bucket/model", type="model")),
        call("checkpoint", path="s3://bucket/ckpt", step=9, metrics={"acc": 0.75}),
        expect(saw("checkpoint", 10, path="s3://bucket/ckpt", step=9, metrics={"acc": 0.75})),
        call("alert", title="slow", text="3 s a step", level="info", key="speed"),
        expect(saw("alert", 11, title="slow", text="3 s a step", level="info", key="speed")),
        call("summary", values={"best": 0.25}), expect(saw("summary", 12, values={"best": 0.25})),
        call("end", timeout=1), expect(saw("run_end", 13)), kills="emitter-loses-the-step",
    )  # fmt: skip
    g.one(
        "nested-params", "EVT-PARAM-2 EVT-PARAM-2.1", "one event for each leaf: the outermost name, and those below",
        here, call("param", key="opt", value={"lr": 0.1, "sched": {"name": "cos", "warm": [1, 2]}, "extra": {}}),
        expect(
            saw("param", 3, key="opt", nested_key=["lr"], value=0.1),
            saw("param", 4, key="opt", nested_key=["sched", "name"], value="cos"),
            saw("param", 5, key="opt", nested_key=["sched", "warm"], value=[1, 2]),
            saw("param", 6, key="opt", nested_key=["extra"], value={}),
        ), kills="emitter-nested-params-whole",
    )  # fmt: skip
    g.one(
        "nested-params-opaque-leaf", "EVT-PARAM-2 EVT-PARAM-2.1 EMT-5", "a leaf without a form costs none of the others",
        here, tagged("param", {"key": "opt"}, value={"t": "obj", "v": [["a", OPAQUE], ["b", {"t": "int", "v": "1"}]]}),
        expect(saw("param", 3, key="opt", nested_key=["a"], value={"$re": "."}),
               saw("param", 4, key="opt", nested_key=["b"], value=1)), kind="invalid",
        kills="emitter-nested-params-whole emitter-drops-opaque-values",
    )  # fmt: skip
    g.one(
        "param-without-a-map", "EVT-PARAM-2.1 EVT-PARAM-2", "a list is a leaf, and a map without members is one",
        here, call("param", key="layers", value=[64, {"units": 10}]), call("param", key="none", value={}),
        expect(saw("param", 3, key="layers", value=[64, {"units": 10}]), saw("param", 4, key="none", value={})),
        kind="boundary", kills="emitter-lists-flattened",
    )  # fmt: skip
    g.one(
        "param-null", "EVT-PARAM-1", "null is a value",
        here, tagged("param", {"key": "seed"}, value={"t": "null"}), expect(saw("param", 3, key="seed", value=None)),
        kind="boundary", kills="emitter-null-params-left-out",
    )  # fmt: skip
    g.one(
        "log-level-unknown", "EVT-LOG-2", "a level that is in the set, and a warning",
        here, QUIET, log("x", level="shout"), expect(saw("log", 3, msg="x", level={"$in": ["debug", "info", "warning",
        "error"]})),
        do("lines", min=1), kind="invalid", kills="emitter-any-log-level",
    )  # fmt: skip
    g.one(
        "log-level-in-capitals", "EVT-LOG-2", "case counts: it is no level of the set, either",
        here, QUIET, log("x", level="ERROR"), expect(saw("log", 3, msg="x", level={"$in": ["debug", "info", "warning",
        "error"]})),
        do("lines", min=1), kind="boundary", kills="emitter-any-log-level",
    )  # fmt: skip
    g.one(
        "checksum-bare", "VAL-8", "a writer's form has the name of the hash before it",
        here, call("artifact", path="s3://b/m", checksum="AB" * 32),
        expect(saw("artifact", 3, checksum={"$in": ["sha256:" + "ab" * 32]})), kind="boundary", kills="emitter-checksum-without-its-name",
    )  # fmt: skip
    g.one(
        "checksum-whole", "VAL-8", "one that has it already",
        here, call("artifact", path="s3://b/m", checksum="sha256:" + "cd" * 32),
        expect(saw("artifact", 3, checksum="sha256:" + "cd" * 32)), kills="emitter-checksum-without-its-name",
    )  # fmt: skip
    g.one(
        "artifact-by-reference", "EVT-ARTIFACT-4", "the bytes of a file are not sent",
        here, call("artifact", path="s3://b/m"),
        never(saw("artifact", upload={"$in": ["inline", "stream"]}), ms=500), expect(saw("artifact", 3)),
        kills="emitter-inline-artifacts",
    )  # fmt: skip
    g.one(
        "checkpoint-is-sent", "EVT-CHECKPOINT-2", "the call returns, whether a collector is there or not",
        call("checkpoint", path="c.pt", step=3), here, expect(saw("checkpoint", 3, step=3)), kills="emitter-checkpoint-waits-for-acks",
    )  # fmt: skip
    g.one(
        "reserved-tags", "EVT-TAGS-2.2", "names that begin with xtrack. are this text's to give",
        here, call("tags", tags={"xtrack.shiny": "1", "plain": "2"}), call("tags", tags={"xtrack.name": "n"}),
        expect(saw("tags", tags={"xtrack.name": "n"})), kind="invalid", kills="emitter-drops-reserved-tags",
    )  # fmt: skip


def start_cases(g: Emitting) -> None:
    """EVT-RUN_START, EVT-1.x."""
    g.one(
        "experiment-and-parent", "EVT-1.6 EVT-1.5", "run_start has the object, all others the text",
        start(run_id="a", experiment_id="e", parent_id="p"), session(), metric(),
        expect(saw("run_start", 1, run_id={"id": "a", "exp_id": "e", "parent_id": "p"}), saw("metric", 3, run_id="a")),
        kills="emitter-object-in-every-event emitter-forgets-the-experiment",
    )  # fmt: skip
    g.one(
        "experiment-alone", "EVT-1.6", "one of the two is enough",
        start(run_id="a", experiment_id="e"), session(), expect(saw("run_start", 1, run_id={"id": "a", "exp_id": "e"})),
        kind="boundary", kills="emitter-forgets-the-experiment",
    )  # fmt: skip
    g.one(
        "experiment-and-a-stream-to-open", "EVT-1.5", "control events have the text, too",
        start(run_id="a", experiment_id="e"), CONNECT, HELLO, do("welcome"), expect(saw("open", run_id="a")), ack(0),
        expect(saw("run_start", 1), saw("status", 2, run_id="a")), kind="boundary", kills="emitter-object-in-open",
    )  # fmt: skip
    g.one(
        "neither", "EVT-1.6", "without either a text is enough",
        session(), expect(saw("run_start", 1, run_id="a")), level="SHOULD", kind="boundary",
    )  # fmt: skip
    g.one(
        "name-and-tags", "EVT-RUN_START-1", "what the start was given stands in it",
        start(name="first", tags={"team": "vision"}, world_size=4), session(),
        expect(saw("run_start", 1, name="first", tags={"team": "vision"}, world_size=4)), kills="emitter-forgets-the-name",
    )  # fmt: skip
    for name, run, raises in (
        ("longest", "r" * 1024, "never"),
        ("longest-in-utf-8", "é" * 512, "never"),
        ("slashes", "a/b c:d", "never"),
    ):
        g.one(
            f"run-id-{name}", "EVT-1.7 EMT-3", "1,024 bytes of UTF-8, of whatever letters",
            {**start(run_id=run), "raises": raises}, session(), expect(saw("run_start", 1, run_id=run)),
            kind="boundary", kills="emitter-ids-are-file-names" if name == "slashes" else "emitter-id-limit-off-by-one",
        )  # fmt: skip
    for name, options in (
        ("run-id-too-long", {"run_id": "r" * 1025}),
        ("run-id-too-long-in-utf-8", {"run_id": "é" * 513}),
        ("worker-id-too-long", {"worker_id": "w" * 1025}),
        ("run-id-empty", {"run_id": ""}),
    ):
        g.one(
            name, "EVT-1.7 EMT-3", "an id that may not be used is an error of the configuration",
            {**start(**options), "raises": "must"}, kind="invalid",
            kills="emitter-takes-any-id" if name == "run-id-empty" else "emitter-long-ids-cut",
        )  # fmt: skip


def nonsense_cases(g: Emitting) -> None:
    """EMT-3.1, EMT-5."""
    here = session()
    after = (metric("after"), expect(saw("metric", 3, key="after")))
    g.one(
        "value-without-json-form", "EMT-5", "it is sent as a text that shows it",
        here, QUIET, tagged("param", {"key": "f"}, value=OPAQUE),
        expect(saw("param", 3, key="f", value={"$re": "."})), do("lines", min=1, max=1), kind="invalid",
        kills="emitter-drops-opaque-values",
    )  # fmt: skip
    g.one(
        "value-without-json-form-inside", "EMT-5", "and what is around it stays",
        here, tagged("param", {"key": "f"}, value={"t": "list", "v": [{"t": "int", "v": "1"}, OPAQUE]}),
        expect(saw("param", 3, key="f")), kind="boundary", kills="emitter-drops-opaque-values",
    )  # fmt: skip
    g.one(
        "field-without-json-form", "EMT-5", "in the fields of a log line as well",
        here, tagged("log", {"msg": "m"}, fields={"t": "obj", "v": [["f", OPAQUE]]}),
        expect(saw("log", 3, msg="m", fields={"f": {"$re": "."}})), kind="invalid", kills="emitter-drops-opaque-fields",
    )  # fmt: skip
    g.one(
        "value-without-any-text", "EMT-5 ENV-4.5",
        "it takes no seq, or is sent as a text that says so; the next goes on",
        here, QUIET, tagged("param", {"key": "f"}, value=BROKEN), metric("after"), expect(saw("metric", key="after")),
        do("lines", min=1), kind="invalid", kills="emitter-replaces-in-silence",
    )  # fmt: skip
    for name, value in (
        ("text", {"t": "str", "v": "high"}),
        ("opaque", OPAQUE),
        ("null", {"t": "null"}),
        ("list", {"t": "list", "v": []}),
        ("broken", BROKEN),
        ("digits", {"t": "str", "v": "0.5"}),
        ("not-a-number-as-text", {"t": "str", "v": "NaN"}),
        ("two-numbers", {"t": "list", "v": [{"t": "int", "v": "1"}, {"t": "int", "v": "2"}]}),
    ):
        g.one(
            f"metric-{name}", "EMT-5.1 EMT-5.4 EMT-5.5 ENV-4.5 EMT-3.1", "no number: it is refused, with one warning, and takes no seq",
            here, QUIET, tagged("metric", {"key": "loss"}, value=value), do("lines", min=1, max=1),
            do("counts", are={"refused": 1}), *after, never(saw("metric", key="loss")), kind="invalid",
            kills="emitter-refused-takes-a-seq emitter-refuses-in-silence" + (
                {"text": " emitter-zero-for-text", "digits": " emitter-digits-are-numbers",
                 "not-a-number-as-text": " emitter-digits-are-numbers"}.get(name, "")),
        )  # fmt: skip
    g.one(
        "metrics-some-wrong", "EMT-5.1 EMT-3.1", "the numbers among them are sent",
        here, call("metrics", values={"good": 1.5, "bad": "high"}), expect(saw("metric_batch", 3,
        metrics={"good": 1.5})),
        kind="invalid", level="INFO",
    )  # fmt: skip
    g.one(
        "many-refusals-are-few-lines", "EMT-3.2 EMT-3.1 ENV-4.5", "a warning at each step would fill the log",
        here, QUIET, {**tagged("metric", {"key": "loss"}, value=OPAQUE), "times": 300}, do("lines", min=1, max=30),
        do("counts", are={"refused": 300}), *after, kind="boundary", kills="emitter-warns-each-time",
    )  # fmt: skip
    kills = dict.fromkeys(("log-msg", "tags-values", "artifact-path", "alert-title"), "emitter-raises-on-wrong-types")
    kills["log-fields"] = "emitter-raises-on-odd-field-names"
    kills["artifact-missing"] = "emitter-raises-for-missing-files"
    for name, step in (
        ("param-key", tagged("param", {"value": 1}, key=OPAQUE)),
        ("metric-key", tagged("metric", {"value": 1.0}, key={"t": "int", "v": "7"})),
        ("metric-step", call("metric", key="a", value=1.0, step="seven")),
        ("log-msg", tagged("log", {}, msg={"t": "int", "v": "7"})),
        ("log-fields", call("log", msg="m", fields={"level_": "x", "": 3})),
        ("tags-no-map", call("tags", tags=[1, 2])),
        ("tags-values", tagged("tags", {}, tags={"t": "obj", "v": [["a", OPAQUE], ["b", BROKEN]]})),
        ("status", call("status", status="dancing")),
        ("artifact-missing", call("artifact", path="/no/such/file/at/all")),
        ("artifact-path", tagged("artifact", {}, path=OPAQUE)),
        ("checkpoint-step", call("checkpoint", path="c.pt", step="last")),
        ("checkpoint-metrics", call("checkpoint", path="c.pt", step=1, metrics={"a": "b"})),
        ("alert-level", call("alert", title="t", level="purple")),
        ("alert-title", tagged("alert", {}, title=BROKEN)),
        ("summary-values", call("summary", values={"a": "b"})),
        ("flush-until", call("flush", until="tomorrow")),
    ):
        g.one(
            f"nonsense-{name}", "EMT-3.1 EMT-3.2", "a wrong argument is the training's to mend, and no end of it",
            here, step, metric("after"), expect(saw("metric", key="after")), kind="invalid",
            kills=kills.get(name, "emitter-raises-on-nonsense"),
        )  # fmt: skip
    for name, step, wanted in (
        ("log", tagged("log", {}, msg=HALF), saw("log", 3, msg={"$re": "a.*b"})),
        ("param", tagged("param", {"key": "s"}, value=HALF), saw("param", 3, value={"$re": "a.*b"})),
        ("metric-key", tagged("metric", {"value": 1.0}, key=HALF), saw("metric", 3, key={"$re": "a.*b"})),
        (
            "tags",
            tagged("tags", {}, tags={"t": "obj", "v": [["k", HALF]]}),
            saw("tags", 3, tags={"k": {"$re": "a.*b"}}),
        ),
    ):
        g.one(
            f"half-a-character-{name}", "EMT-5.3 JSN-3.1", "strings of the language can hold what no UTF-8 can",
            here, step, expect(wanted), needs=["lone_surrogates"], kind="invalid",
            kills="emitter-refuses-half-characters",
        )  # fmt: skip
    g.one(
        "whole-character", "EMT-5.3 JSN-3.1", "two halves that are one character are no half: it stays as it is",
        here, log("a\U0001f600b"), tagged("param", {"key": "s"}, value={"t": "str", "v": "\U0010ffff"}),
        expect(saw("log", 3, msg="a\U0001f600b"), saw("param", 4, value="\U0010ffff")), kind="boundary",
        kills="emitter-escapes-characters-of-two-halves",
    )  # fmt: skip


def number_cases(g: Emitting) -> None:
    """Numbers at the edges."""
    here = session()
    for name in ("NaN", "Infinity", "-Infinity"):
        slug = name.lower().replace("-i", "minus-i")
        g.one(
            f"metric-{slug}", "VAL-3 EMT-5.1 EMT-5.4 EMT-5.5", "a loss that explodes is worth seeing: it is a number",
            here, tagged("metric", {"key": "loss"}, value=floating(name)), expect(saw("metric", 3, key="loss",
            value=name)),
            kind="boundary", kills="emitter-no-nan",
        )  # fmt: skip
        g.one(
            f"param-{slug}", "VAL-4.3", "in a free slot it has a form of its own",
            here, tagged("param", {"key": "p"}, value=floating(name)),
            expect(saw("param", 3, value={"$is": {"$float": name}})), kind="boundary",
            kills="emitter-nan-params-are-null",
        )  # fmt: skip
    for name, value in (("true", 1), ("false", 0)):
        g.one(
            f"metric-{name}", "EMT-5.5 VAL-2.10", "a boolean is a number: 1 or 0",
            here, tagged("metric", {"key": "hit"}, value={"t": "bool", "v": name == "true"}),
            expect(saw("metric", 3, key="hit", value=value)), kind="boundary", kills="emitter-refuses-booleans",
        )  # fmt: skip
    g.one(
        "metric-integers", "VAL-1 VAL-2", "the largest and the smallest of int64",
        here, tagged("metric", {"key": "a"}, value={"t": "int", "v": str(2**63 - 1)}, step={"t": "int",
        "v": str(-(2**63))}),
        expect(saw("metric", 3, key="a", value=2**63 - 1, step=-(2**63))), kind="boundary", kills="emitter-metrics-are-floats",
    )  # fmt: skip
    g.one(
        "step-beyond-int64", "VAL-1 EMT-3.1", "no step can be that: the training goes on",
        here, tagged("metric", {"key": "a", "value": 1.0}, step={"t": "int", "v": str(2**63)}), metric("after"),
        expect(saw("metric", key="after")), kind="invalid", kills="emitter-raises-on-nonsense",
    )  # fmt: skip


def size_cases(g: Emitting) -> None:
    """FRM-3.8 to FRM-3.15."""
    here = session()
    cut = {"$re": "[0-9]"}
    g.one(
        "long-message", "FRM-3.8 FRM-3.11 FRM-3.12", "it is shortened, and its end says so and how long it was",
        here, bulk("log", {"level": "error"}, "msg", text="x", times=2_000_000),
        expect(saw("log", msg={"$re": "^x{1000}.*[0-9]"}, level="error")), kind="boundary",
        kills="emitter-drops-long-events emitter-cut-without-a-note",
    )  # fmt: skip
    g.one(
        "long-message-within-bounds", "FRM-3.8 FRM-3.11 FRM-3.12 FRM-3.14 FRM-3.15",
        "what is long, and not too long, is sent whole, with no note of a cut",
        here, bulk("log", {"level": "error", "fields": {"n": 1}}, "msg", text="x", times=950_000),
        expect(saw("log", 3, msg={"$re": "^x{950000}$"}, level="error", fields={"$is": {"n": 1}})),
        kills="emitter-cuts-too-early",
    )  # fmt: skip
    g.one(
        "message-that-fits", "FRM-3.11 FRM-3.8", "nothing is cut before it must be",
        here, bulk("log", {}, "msg", text="y", times=1_040_000), expect(saw("log", 3, msg={"$re": "^y{1040000}$"})),
        kind="boundary", kills="emitter-cuts-too-early",
    )  # fmt: skip
    g.one(
        "long-parameter", "FRM-3.8 FRM-3.11 FRM-3.12", "the text of a parameter as well",
        here, bulk("param", {"key": "prompt"}, "value", text="z", times=1_500_000),
        expect(saw("param", key="prompt", value={"$re": "^z{1000}.*[0-9]"})), kind="boundary",
        kills="emitter-drops-long-events emitter-cut-without-a-note",
    )  # fmt: skip
    g.one(
        "cut-in-the-middle-of-nothing", "FRM-3.12 JSN-1", "letters of several bytes are not cut in two",
        here, bulk("log", {}, "msg", text="äöü€😀", times=150_000), expect(saw("log", msg={"$re": "^ä.*[0-9]"})),
        kind="boundary", kills="emitter-cut-without-a-note emitter-drops-long-events",
    )  # fmt: skip
    g.one(
        "long-fields", "FRM-3.11 FRM-3.15", "a map of which entries were left out says so",
        here, bulk("log", {"msg": "m"}, "fields", names="name-@n@", count=100_000, value="some text"),
        expect(saw("log", msg="m", fields={"xtrack.cut": {"$any": True}})), kind="boundary",
        kills="emitter-drops-long-events emitter-map-cut-in-silence",
    )  # fmt: skip
    g.one(
        "long-tags", "FRM-3.11 FRM-3.15 EVT-TAGS-2.2", "tags as well",
        here, bulk("tags", {}, "tags", names="name-@n@", count=100_000, value="some text"),
        expect(saw("tags", tags={"xtrack.cut": {"$any": True}})), kind="boundary",
        kills="emitter-drops-long-events emitter-map-cut-in-silence",
    )  # fmt: skip
    g.one(
        "message-within-max-frame", "FRM-3.9", "what the collector's limit allows is sent whole",
        bulk("log", {}, "msg", text="w", times=60_000), session(limits={"max_frame": 65_536}),
        expect(saw("log", 3, msg={"$re": "^w{60000}$"})), kills="emitter-takes-half-of-max-frame",
    )  # fmt: skip
    g.one(
        "long-batch", "FRM-3.10 ENV-4.1", "it is split: every metric in exactly one event, all at the same step",
        here, bulk("metrics", {"step": 11}, "values", names="some/long/metric/name-@n@", count=60_000, value=0.5),
        do("batches", count=60_000, step=11), kind="boundary",
        kills="emitter-drops-long-events emitter-split-loses-metrics emitter-split-without-step",
    )  # fmt: skip
    g.one(
        "nothing-cut-nothing-in-a-file", "FRM-3.13", "no file is reported for a text that was sent whole",
        here, bulk("log", {}, "msg", text="x", times=500_000), expect(saw("log", 3)),
        never(saw("artifact"), ms=500), level="SHOULD",
    )  # fmt: skip
    g.one(
        "name-that-fits", "FRM-3.14", "a name that can't be shortened, and needn't be",
        here, bulk("metric", {"value": 1.0}, "key", text="k", times=1_040_000),
        expect(saw("metric", 3, key={"$re": "^k{1040000}$"})), kind="boundary", kills="emitter-drops-long-names",
    )  # fmt: skip
    g.one(
        "full-text-in-a-file", "FRM-3.13", "what was cut off isn't lost",
        here, bulk("log", {}, "msg", text="x", times=2_000_000), expect(saw("artifact", path={"$re": "."})),
        level="SHOULD", kind="boundary", kills="emitter-throws-texts-away",
    )  # fmt: skip
    g.one(
        "too-large-for-ever", "FRM-3.14 ENV-4.5 FRM-3.8 CTL-6.2", "a name can't be shortened: no event, and no seq",
        here, QUIET, bulk("metric", {"value": 1.0}, "key", text="k", times=1_200_000), metric("after"),
        expect(saw("metric", 3, key="after")), do("lines", min=1), kind="invalid",
        kills="emitter-too-large-takes-a-seq",
    )  # fmt: skip
    g.one(
        "long-error-at-the-end", "FRM-3.11 EVT-RUN_END-2.1", "a run ends, however long its last words are",
        here, {**bulk("end", {"status": "failed", "timeout": 1}, "error", text="e", times=1_500_000)},
        expect(saw("run_end", status="failed", error={"message": cut})), kind="boundary", kills="emitter-drops-long-events",
    )  # fmt: skip
