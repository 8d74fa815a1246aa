"""A server for programs that have no loop: it runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xtrack_protocol.server.server import CollectorServer


class ServerThread:
    """``with server.run_in_thread():`` listens within the block, and stops, everything committed, at its end.

    ``start`` and ``stop`` do the same. What prevents listening is raised by ``start``.
    """

    def __init__(self, server: CollectorServer) -> None:
        self.server = server
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="xtrack-server", daemon=True)

    def start(self) -> CollectorServer:
        """Listen; return the server."""
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self.server

    def stop(self) -> None:
        """Stop the server, and wait for it. May be called again."""
        if self._loop is not None and self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result()
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - start() raises it
            self._error = error
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.server.start()
        self._started.set()
        await self.server.serve_forever()
        await self.server.until_stopped()

    def __enter__(self) -> CollectorServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


__all__ = ["ServerThread"]
