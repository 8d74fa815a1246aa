"""For who writes a transport or a store of their own: the contract suites that ours pass. Needs pytest.

::

    from xtrack_protocol.testing import StorageContract

    class TestMyStore(StorageContract):
        def make_store(self, directory):
            return MyStore(directory / "my.store")
"""

from xtrack_protocol.testing.clock import FakeClock
from xtrack_protocol.testing.events import Worker
from xtrack_protocol.testing.linked import LinkedPair
from xtrack_protocol.testing.storage import StorageContract
from xtrack_protocol.testing.transport import TransportContract

__all__ = ["FakeClock", "LinkedPair", "StorageContract", "TransportContract", "Worker"]
