"""Little agents behind HTTP, each a real server that behaves in a way of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Answer = tuple[int, bytes]
Behave = Callable[["Agent", dict[str, Any]], Awaitable[Answer | None]]
"""What it answers to a message; None closes the connection without an answer."""


@dataclass
class Agent:
    """An agent's server: what it was sent, and how it answers."""

    behave: Behave
    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    headers: dict[str, str] = field(default_factory=dict)
    now: int = 0
    most: int = 0
    connections: int = 0
    serving: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def tasks(self) -> list[str]:
        """The ids of what it was sent, in order."""
        return [message["payload"]["task_id"] for message in self.messages]

    async def has(self, count: int, seconds: float = 20.0) -> None:
        """Wait until it was sent so many messages."""
        async with asyncio.timeout(seconds):
            while len(self.messages) < count:
                self.news.clear()
                await self.news.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.partition(b":")[2])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                )
                message = json.loads(await reader.readexactly(length))
                self.heads.append(head)
                self.messages.append(message)
                self.news.set()
                self.now += 1
                self.most = max(self.most, self.now)
                try:
                    answer = await unless_left(reader, self.behave(self, message))
                finally:
                    self.now -= 1
                if answer is None:
                    return
                status, body = answer
                headers = {**self.headers, "content-length": str(len(body))}
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self.serving.discard(task)
            writer.close()


async def unless_left(reader: asyncio.StreamReader, answer: Awaitable[Answer | None]) -> Any:
    """The answer; None once whoever asked has hung up, which ends the making of it."""
    making = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait([making, leaving], return_when=asyncio.FIRST_COMPLETED)
        return making.result() if making.done() else None
    finally:
        making.cancel()
        leaving.cancel()
        await asyncio.gather(making, leaving, return_exceptions=True)


def answers(code: int = 202, **body: Any) -> Behave:
    """Always the same answer."""
    encoded = json.dumps(body).encode() if body else b""

    async def behave(_: Agent, __: dict[str, Any]) -> Answer:
        return code, encoded

    return behave


def completes(result: Any = None) -> Behave:
    """Does the task while it is asked."""
    return answers(200, status="completed", result=result)


async def hangs(_: Agent, __: dict[str, Any]) -> Answer | None:
    """Takes the message, and never answers."""
    await asyncio.Event().wait()
    return None


async def hangs_up(_: Agent, __: dict[str, Any]) -> Answer | None:
    """Closes the connection without an answer."""
    return None


@asynccontextmanager
async def running(behave: Behave) -> AsyncIterator[Agent]:
    """An agent's server on a port that the system chose."""
    agent = Agent(behave)
    server = await asyncio.start_server(agent.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    agent.url = f"http://127.0.0.1:{port}"
    try:
        yield agent
    finally:
        server.close()
        for task in list(agent.serving):
            task.cancel()
        await asyncio.gather(*agent.serving, return_exceptions=True)
