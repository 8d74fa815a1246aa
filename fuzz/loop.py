"""The loop: mutate, check, watch the time and the memory, keep what shows something new."""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Hashable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import FrameType

import attrs

from fuzz.mutate import mutate
from fuzz.targets import TARGETS, Target

INPUT_SECONDS = 1.0
"""Of one processor's time, for one input."""
RSS_MIB = 64
"""By which the memory may grow, once everything has been used once."""
CORPUS_MAX = 2000
KEEP_MAX = 5000
"""Bytes: many small inputs find more than a few large ones."""
_BATCH = 500


class TooSlow(BaseException):
    """An input has taken 20 seconds of processor time."""


@attrs.define
class Result:
    """What became of one target."""

    name: str
    seed: int
    inputs: int = 0
    seconds: float = 0.0
    verdicts: int = 0
    corpus: int = 0
    slowest: float = 0.0
    slowest_size: int = 0
    rss_mib: float = 0.0
    findings: list[str] = attrs.field(factory=list)


def rss_mib() -> float:
    """Return the memory of this process in MiB."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError):
        return 0.0


def verdict(target: Target, data: bytes) -> Hashable:
    """Return what a target makes of an input; raise what it must not."""
    try:
        return target.check(data)
    except target.allowed as error:
        return type(error).__name__, getattr(error, "kind", ""), getattr(error, "setting", "")


def fuzz(target: Target, seconds: float, seed: int, inputs_max: int | None = None) -> Result:
    """Fuzz one target: mutate, check, and keep what shows something new."""
    rng = random.Random(f"{target.name} {seed}")
    corpus = target.seeds()
    result = Result(target.name, seed)
    known: set[Hashable] = set()
    begin = time.perf_counter()
    base_rss = 0.0

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooSlow

    signal.signal(signal.SIGVTALRM, stop)
    pending = list(corpus)
    while not result.findings:
        signal.setitimer(signal.ITIMER_VIRTUAL, 20.0 + _BATCH * INPUT_SECONDS)
        for _ in range(_BATCH):
            data = pending.pop() if pending else mutate(rng, corpus)
            started = time.thread_time()
            try:
                seen = verdict(target, data)
            except (Exception, TooSlow):  # noqa: BLE001 - whatever isn't allowed is a finding
                result.findings.append(_report(target, data, traceback.format_exc(limit=-6)))
                break
            took = time.thread_time() - started
            result.inputs += 1
            if took > result.slowest:
                result.slowest, result.slowest_size = took, len(data)
                if took > INPUT_SECONDS:
                    result.findings.append(_report(target, data, f"took {took:.2f} s"))
                    break
            if seen not in known:
                known.add(seen)
                if len(corpus) < CORPUS_MAX and len(data) < KEEP_MAX:
                    corpus.append(data)
            if inputs_max is not None and result.inputs >= inputs_max:
                break
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        result.seconds = time.perf_counter() - begin
        if not base_rss and (result.inputs >= 20 * _BATCH or result.seconds >= seconds / 4):
            base_rss = rss_mib()
        if result.seconds >= seconds or (inputs_max is not None and result.inputs >= inputs_max):
            break
    result.verdicts, result.corpus = len(known), len(corpus)
    result.rss_mib = max(0.0, rss_mib() - base_rss) if base_rss else 0.0
    if result.rss_mib > RSS_MIB:
        result.findings.append(f"the memory has grown by {result.rss_mib:.0f} MiB")
    return result


def _report(target: Target, data: bytes, text: str) -> str:
    with tempfile.NamedTemporaryFile(prefix=f"fuzz-{target.name}-", suffix=".bin", delete=False) as file:
        file.write(data)
    shown = data if len(data) < 400 else data[:400] + b"..."
    return (
        f"{text}\n  {len(data)} bytes: {shown!r}\n  again: python -m fuzz --target {target.name} --replay {file.name}"
    )


def _job(name: str, seconds: float, seed: int, inputs_max: int | None) -> Result:
    return fuzz(next(target for target in TARGETS if target.name == name), seconds, seed, inputs_max)


def run(names: list[str], seconds: float, seed: int, jobs: int, inputs_max: int | None = None) -> list[Result]:
    """Fuzz targets, each in a process of its own, for ``seconds`` in all."""
    share = seconds * jobs / len(names)
    with (
        ProcessPoolExecutor(jobs, max_tasks_per_child=1)
        if sys.version_info >= (3, 11)
        else ProcessPoolExecutor(jobs) as pool
    ):
        return list(pool.map(_job, names, *zip(*[(share, seed, inputs_max)] * len(names), strict=True)))


def table(results: list[Result]) -> str:
    """Return the figures as text."""
    heads = ("inputs", 10), ("inputs/s", 9), ("verdicts", 8), ("slowest ms", 10), ("its bytes", 9), ("RSS + MiB", 9)
    lines = [f"{'target':>16} " + " ".join(f"{head:>{width}}" for head, width in heads)]
    for one in results:
        rate = one.inputs / max(one.seconds, 1e-9)
        lines.append(
            f"{one.name:>16} {one.inputs:>10,} {rate:>9,.0f} {one.verdicts:>8,} {one.slowest * 1000:>10.1f}"
            f" {one.slowest_size:>9,} {one.rss_mib:>9.1f}"
        )
    total, seconds = sum(one.inputs for one in results), sum(one.seconds for one in results)
    worst = max(one.slowest for one in results) * 1000
    rss = max(one.rss_mib for one in results)
    lines.append(
        f"{'all':>16} {total:>10,} {total / max(seconds, 1e-9):>9,.0f} {'':>8} {worst:>10.1f} {'':>9} {rss:>9.1f}"
    )
    for one in results:
        lines += [f"\nFINDING in {one.name}, seed {one.seed}: {finding}" for finding in one.findings]
    return "\n".join(lines)
