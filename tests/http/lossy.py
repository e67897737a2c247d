"""A way to a coordinator on which requests or answers are lost, or nothing moves any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Then = Callable[[], Awaitable[object]]


class Lossy:
    """A proxy that loses what it is told to.

    Attributes:
        seen: The first lines of the requests that came, lost ones too.
        is_frozen: Connections are taken, and nothing moves.
    """

    def __init__(self, port: int) -> None:
        self.seen: list[str] = []
        self.is_frozen = False
        self.url = ""
        self._port = port
        self._losses: list[tuple[str, bool, Then | None]] = []
        self._writers: set[asyncio.StreamWriter] = set()

    def lose_answer(self, path: str, then: Then | None = None) -> None:
        """Pass the next request for this path on, and close instead of its answer.

        Args:
            then: What happens before it is asked for again.
        """
        self._losses.append((path, True, then))

    def lose_request(self, path: str, then: Then | None = None) -> None:
        """Close at the next request for this path, which nobody ever sees."""
        self._losses.append((path, False, then))

    def count(self, path: str) -> int:
        """How many requests for this path came."""
        return sum(f" {path} " in line for line in self.seen)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes on one connection."""
        self._writers.add(writer)
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while await self._exchange(reader, writer, there, back):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            back.close()

    def close(self) -> None:
        """Close what is open."""
        for writer in self._writers:
            writer.close()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> bool:
        request = await _message(reader)
        line = request.partition(b"\r\n")[0].decode()
        self.seen.append(line)
        while self.is_frozen:
            await reader.read(65_536)  # Until whoever waits gives up.
            if reader.at_eof():
                return False
        loss = next((one for one in self._losses if f" {one[0]} " in line), None)
        if loss is not None:
            self._losses.remove(loss)
            _, is_passed, then = loss
            if is_passed:
                back.write(request)
                await _message(there)
            if then is not None:
                await then()
            return False
        back.write(request)
        head = await there.readuntil(b"\r\n\r\n")
        writer.write(head)
        length = _length(head)
        if length is not None:
            writer.write(await there.readexactly(length))
            return True
        while chunk := await there.read(65_536):
            writer.write(chunk)
        return False


def _length(head: bytes) -> int | None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return None


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(_length(head) or 0)


@asynccontextmanager
async def lossy(port: int) -> AsyncIterator[Lossy]:
    """A way to the coordinator at *port*."""
    way = Lossy(port)
    server = await asyncio.start_server(way.serve, "127.0.0.1", 0)
    way.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield way
    finally:
        server.close()
        way.close()
