"""A proxy between guests and their host that makes every byte late, both ways, and can cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

CHUNK_BYTES = 1 << 16
CARRIED_BYTES = 1 << 14


class Proxy:
    """Takes connections at `path` on to `target`. seconds: how late each byte is.

    carried: set once CARRIED_BYTES have gone through since it served, or since the last cut.
    """

    def __init__(self, path: Path, target: str, seconds: float) -> None:
        self.path = path
        self.connection_count = 0
        self.carried = asyncio.Event()
        self._bytes = 0
        self._target = target
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Break all connections that there are."""
        self._bytes = 0
        self.carried.clear()
        for task in self._tasks:
            task.cancel()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        self.connection_count += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, back = await asyncio.open_unix_connection(self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, back))
                group.create_task(self._carry(there, writer))
        except (asyncio.CancelledError, ExceptionGroup):
            pass  # cut, or one side is gone: both ends see a broken connection
        finally:
            self._tasks.discard(task)
            for end in (writer, back):
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """In order, each chunk `seconds` after it came, however many are on their way."""
        loop = asyncio.get_running_loop()
        while chunk := await reader.read(CHUNK_BYTES):
            loop.call_later(self._seconds, writer.write, chunk)
            self._bytes += len(chunk)
            if self._bytes > CARRIED_BYTES:
                self.carried.set()
        raise ConnectionResetError


@asynccontextmanager
async def late(path: Path, target: str, seconds: float) -> AsyncIterator[Proxy]:
    """A proxy that serves."""
    proxy = Proxy(path, target, seconds)
    server = await asyncio.start_unix_server(proxy.take, path)
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await asyncio.sleep(0)
