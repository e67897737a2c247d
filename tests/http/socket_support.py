"""A client of ``/ws`` in tests: frames out, frames in, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from tests.http.live_support import SECONDS


class Socket:
    """One open socket. Frames that nobody asked for are kept until they are asked for."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.kept: list[dict[str, Any]] = []
        self.session = ""
        self._numbers = count(1)

    async def send(self, type_: str, **fields: Any) -> int:
        """Send a frame; answers its number."""
        number = next(self._numbers)
        await self.connection.send(
            msgspec.json.encode({"id": number, "type": type_, **fields}), text=True
        )
        return number

    async def read(self) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS):
            found: dict[str, Any] = msgspec.json.decode(await self.connection.recv())
            return found

    async def next(self, *types: str) -> dict[str, Any]:
        """The next frame of one of these types; others are kept."""
        for i, frame in enumerate(self.kept):
            if frame["type"] in types:
                return self.kept.pop(i)
        while True:
            frame = await self.read()
            if frame["type"] in types:
                return frame
            self.kept.append(frame)

    async def answer(self, number: int) -> dict[str, Any]:
        """The answer to a frame, a result or an error."""
        for i, frame in enumerate(self.kept):
            if frame.get("id") == number:
                return self.kept.pop(i)
        while True:
            frame = await self.read()
            if frame.get("id") == number and frame["type"] in ("result", "error"):
                return frame
            self.kept.append(frame)

    async def ask(self, type_: str, **fields: Any) -> Any:
        """Send a frame and answer its result."""
        frame = await self.answer(await self.send(type_, **fields))
        assert frame["type"] == "result", frame
        return frame["result"]

    async def refused(self, type_: str, **fields: Any) -> str:
        """Send a frame and answer the code of its refusal."""
        frame = await self.answer(await self.send(type_, **fields))
        assert frame["type"] == "error", frame
        return str(frame["code"])


@asynccontextmanager
async def socket(port: int, **options: Any) -> AsyncIterator[Socket]:
    """An open socket, greeted."""
    options.setdefault("max_size", 1 << 26)
    async with connect(f"ws://127.0.0.1:{port}/ws", proxy=None, **options) as connection:
        opened = Socket(connection)
        welcome = await opened.read()
        assert welcome["type"] == "welcome"
        opened.session = welcome["session"]
        yield opened


@asynccontextmanager
async def agent_socket(port: int, agent: str = "mira", **fields: Any) -> AsyncIterator[Socket]:
    """A socket whose agent is registered."""
    async with socket(port) as opened:
        await opened.ask("register", agent=agent, **fields)
        yield opened
