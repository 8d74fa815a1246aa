"""Events that carry numbers and parameters."""

from msgspec import field

from xtrack_protocol.ir._slots import Int64, Json, Number, WireStruct
from xtrack_protocol.ir.identity import RunId


class Param(WireStruct, frozen=True):
    """A hyperparameter. ``nested_key`` is the path below ``key``: key optimizer, nested_key ["lr"] reads as
    ``optimizer.lr``. ``value`` is any JSON, null included. A param sent twice: the last wins. spec: EVT-PARAM-1
    """

    run_id: str | RunId
    key: str
    value: Json
    nested_key: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The flat, dotted name. spec: FLD-10"""
        return ".".join((self.key, *self.nested_key)) if self.nested_key else self.key


class MetricContext(WireStruct, frozen=True):
    """Where a metric comes from. spec: EVT-METRIC-3

    ``phase``: train, val, test, or any other text. ``batch_size``, ``dataset_size``: samples. ``agg``: mean, sum,
    last, or any other text: how the value was made from its batch.
    """

    phase: str | None = None
    batch_size: Int64 | None = None
    dataset_size: Int64 | None = None
    agg: str | None = None


class Metric(WireStruct, frozen=True):
    """One value of a series. spec: EVT-METRIC-1

    ``value``: int64 or binary64, NaN and infinities included. ``step``, ``epoch``: int64. ``context`` (``ctx``).
    """

    run_id: str | RunId
    key: str
    value: Number
    step: Int64 | None = None
    epoch: Int64 | None = None
    context: MetricContext | None = field(name="ctx", default=None)


class MetricBatch(WireStruct, frozen=True):
    """Several series' values at one step. spec: EVT-METRIC_BATCH-1"""

    run_id: str | RunId
    metrics: dict[str, Number]
    step: Int64 | None = None
    epoch: Int64 | None = None
    context: MetricContext | None = field(name="ctx", default=None)


class Summary(WireStruct, frozen=True):
    """Final or best values, shown with the run; of each name the last one wins. Additive. spec: EVT-SUMMARY-1"""

    run_id: str | RunId
    values: dict[str, Number]
