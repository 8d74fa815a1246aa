"""P3: a frame from an event, beside msgspec and four bytes of length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from benchmarks import bare, data
from benchmarks.harness import Bench, Figure, at_least, case
from xtrack_protocol import FrameDecoder, encode_frame


@case("P3.encode", traced=True)
def encode(bench: Bench) -> Iterator[Figure]:
    """Both encode the library's own events, a call each."""
    raw = b"".join(map(bare.encode_frame, islice(data.metrics(20_000), 20_000)))
    envelopes = [frame.envelope for frame in FrameDecoder().feed(raw)]
    rounds = bench.pick(2, 10)

    def all_of(function: Callable[[object], bytes]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(rounds):
                for envelope in envelopes:
                    function(envelope)

        return work

    others = {"a bare two-line function": (all_of(bare.encode_frame), at_least(0.95))}
    yield from bench.compare("encode_frame", rounds * len(envelopes), all_of(encode_frame), others)
