"""Who an event belongs to."""

from msgspec import field

from xtrack_protocol.ir._slots import WireStruct


class RunId(WireStruct, frozen=True):
    """A run's identity in full. Wherever a run_id stands, a plain string means ``RunId(that string)``.

    ``id``: the run's id, unique within the collector's store. ``experiment_id`` (``exp_id``): the experiment the
    run belongs to. ``parent_run_id`` (``parent_id``): the run that this one is a part of, as in a sweep.
    spec: EVT-RUN_START-1
    """

    id: str
    experiment_id: str | None = field(name="exp_id", default=None)
    parent_run_id: str | None = field(name="parent_id", default=None)


def run_id_text(run_id: str | RunId) -> str:
    """Return the id itself, whichever form it was sent in."""
    return run_id if isinstance(run_id, str) else run_id.id
