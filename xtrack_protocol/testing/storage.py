"""The contract of every store, as a pytest suite."""

from __future__ import annotations

from xtrack_protocol.testing.storage_access import KeepsOwners
from xtrack_protocol.testing.storage_answers import AnswersAboutRuns, FindsRuns
from xtrack_protocol.testing.storage_events import KeepsCursors, KeepsEvents, KeepsValues
from xtrack_protocol.testing.storage_order import ForgetsOrder
from xtrack_protocol.testing.storage_series import KeepsMany, ReadsSeries


class StorageContract(
    KeepsEvents,
    KeepsCursors,
    KeepsValues,
    AnswersAboutRuns,
    FindsRuns,
    KeepsOwners,
    ForgetsOrder,
    KeepsMany,
    ReadsSeries,
):
    """All that :class:`~xtrack_protocol.storage.Storage` promises.

    Make a subclass whose name begins with Test, with ``make_store(self, directory)``, which returns a new, empty store,
    and, where a store outlives its closing, ``reopen(self, store, directory)``.
    """
