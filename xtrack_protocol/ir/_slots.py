"""The kinds of slots a field can be, and the base of every Struct on the wire."""

from typing import Annotated, Any, TypeAlias

import msgspec

from xtrack_protocol.limits import INT64_MAX, INT64_MIN

Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]
"""An integer slot: seq, ts, step, epoch, sizes and counts. spec: VAL-1"""

Number: TypeAlias = Int64 | float
"""A number slot: int64 or binary64, NaN and infinities included. spec: VAL-2, VAL-3"""

OptionalId: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)] | None
"""A worker or session id where it may be absent; "" reads as absence. spec: JSN-6"""

Json: TypeAlias = Any
"""A free slot: any JSON value. Floats that JSON can't write are ``{"$float": "NaN"}`` on the wire. spec: VAL-4"""


class WireStruct(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all structs on the wire.

    ``gc=False``: events hold no cycles, and an object the collector needn't visit is a third cheaper.
    ``omit_defaults``: a writer omits what is absent (spec: JSN-6). ``forbid_unknown_fields``: unknown fields are
    no error in the protocol (spec: ENV-6), but msgspec doesn't validate what it skips, so a frame that holds
    one is sent down the decoder's slow path, which does.
    """
