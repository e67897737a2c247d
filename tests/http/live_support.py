"""Readers of live streams over plain sockets, so that a test decides what is read and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

SECONDS = 15.0
"""More than any wait here takes; a wait that meets it fails the test."""


class Block(msgspec.Struct, frozen=True):
    """One server-sent event as a browser sees it; a comment alone has none of these."""

    event: str = ""
    data: str = ""
    id: str = ""

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.data)


class SseReader:
    """A client of a stream. It reads as ``next`` is called, and never before."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.last_id = ""
        self.comments = 0
        self._text = b""
        self._raw = b""

    async def begin(self, verb: str, path: str, headers: dict[str, str]) -> None:
        lines = [f"{verb} {path} HTTP/1.1", "host: 127.0.0.1", "accept: text/event-stream"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await self.writer.drain()

    async def head(self) -> None:
        async with asyncio.timeout(SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(head[0].split(" ")[1])
        for line in head[1:]:
            name, _, value = line.partition(":")
            if name:
                self.headers[name.lower()] = value.strip()

    async def body(self) -> bytes:
        """The whole body of an answer that has a length."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.readexactly(int(self.headers.get("content-length", 0)))

    async def piece(self) -> bytes | None:
        """The next chunk of the body; None at its end."""
        size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data if size else None

    async def next(self) -> Block:
        """The next event. Ids without events are noted."""
        block = await self.next_or_end()
        assert block is not None, "the stream ended"
        return block

    async def rest(self) -> list[Block]:
        """All events to the end of the stream."""
        found = []
        while (block := await self.next_or_end()) is not None:
            found.append(block)
        return found

    async def next_or_end(self) -> Block | None:
        """The next event; None at the end of the stream."""
        async with asyncio.timeout(SECONDS):
            while True:
                head, found, rest = self._text.partition(b"\n\n")
                if not found:
                    piece = await self.piece()
                    if piece is None:
                        return None
                    self._text += piece
                    continue
                self._text = rest
                block = self._block(head.decode())
                if block.event or block.data:
                    return block

    def _block(self, text: str) -> Block:
        fields: dict[str, list[str]] = {}
        for line in text.split("\n"):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        if "" in fields:
            self.comments += 1
        if "id" in fields:
            self.last_id = fields["id"][-1]
        return Block(
            event=fields.get("event", [""])[-1],
            data="\n".join(fields.get("data", [])),
            id=fields.get("id", [""])[-1],
        )

    async def until(self, event: str) -> Block:
        """The next event of this name, those before passed over."""
        while True:
            block = await self.next()
            if block.event == event:
                return block


@asynccontextmanager
async def sse(
    port: int, path: str, *, verb: str = "GET", limit: int = 1 << 26, **headers: str
) -> AsyncIterator[SseReader]:
    """A stream that was begun, its head read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
    client = SseReader(reader, writer)
    try:
        await client.begin(verb, path, {k.replace("_", "-"): v for k, v in headers.items()})
        await client.head()
        yield client
    finally:
        writer.transport.abort()
