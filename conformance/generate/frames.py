"""Payloads of frames: of a given size, and with a fault of each class."""

from __future__ import annotations

from generate.dsl import dump, log

MIB = 1_048_576

TINY = '{"v":1,"t":"x","m":{"seq":1,"ts":1},"p":{}}'
"""An event of unknown type: small enough for its input to be split at each place."""


def sized(size: int, seq: int = 2) -> list[dict[str, object]]:
    """Return a payload of exactly ``size`` bytes: a log line."""
    before, after = dump(log("@", seq=seq)).split("@")
    return [{"text": before}, {"repeat": [{"text": "x"}], "times": size - len(before) - len(after)}, {"text": after}]


FAULTS = {
    "bad_utf8": [{"text": '{"v":1,"t":"log","m":{"seq":2,"ts":1},"p":{"run_id":"a","level":"info","msg":"'},
                 {"hex": "ff"}, {"text": '"}}'}],
    "bad_json": [{"text": '{"v":1,'}],
    "too_deep": [{"text": '{"v":1,"t":"param","m":{"seq":2,"ts":1},"p":{"run_id":"a","key":"k","value":'},
                 {"repeat": [{"text": "["}], "times": 63}, {"repeat": [{"text": "]"}], "times": 63}, {"text": "}}"}],
    "bad_envelope": [{"text": "[1]"}],
    "unsupported_version": [{"text": '{"v":2,"t":"ping","m":{"seq":0,"ts":1},"p":{}}'}],
    "missing_field": [{"text": '{"v":1,"t":"metric","m":{"seq":2,"ts":1},"p":{"run_id":"a","key":"k"}}'}],
    "bad_type": [{"text": '{"v":1,"t":"metric","m":{"seq":2,"ts":1},"p":{"run_id":"a","key":"k","value":"x"}}'}],
    "bad_value": [{"text": '{"v":1,"t":"log","m":{"seq":2,"ts":1},"p":{"run_id":"a","level":"loud","msg":"x"}}'}],
    "out_of_range": [{"text": '{"v":1,"t":"metric","m":{"seq":0,"ts":1},"p":{"run_id":"a","key":"k","value":1}}'}],
}  # fmt: skip
"""A payload of each class that costs its own frame alone."""
