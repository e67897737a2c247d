"""A little application behind the guard, on a real server, and a client that sends bytes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from callboard.http.security import AccessSettings, TlsSettings, secure
from callboard.http.security.connections import GuardedProtocol
from callboard.http.security.server import server_options
from callboard.services.access import Access
from tests.http.support import started

DEADLINE = 20.0


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str:
        """The value of a header that came once."""
        (value,) = [value for known, value in self.headers if known == name]
        return value

    def has(self, name: str) -> bool:
        return any(known == name for known, _ in self.headers)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Guarded:
    """A server with the guard, and what its inner application saw."""

    port: int
    access: Access
    seen: list[dict[str, Any]]
    release: asyncio.Event
    guard: Any
    protocol: type[GuardedProtocol]
    server: uvicorn.Server
    tls: Any = None
    sizes: list[int] = field(default_factory=list)

    async def open(
        self, *, limit: int = 1 << 20
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls, limit=limit)

    async def send(self, raw: bytes) -> Answer:
        """Send bytes on a connection of their own, and read one answer."""
        reader, writer = await self.open()
        try:
            writer.write(raw)
            return await read_answer(reader, has_body=not raw.startswith(b"HEAD"))
        finally:
            writer.close()

    async def get(self, path: str = "/who", *headers: str, host: str | None = None) -> Answer:
        return await self.ask("GET", path, *headers, host=host)

    async def ask(
        self,
        verb: str,
        path: str,
        *headers: str,
        body: bytes | None = None,
        host: str | None = None,
    ) -> Answer:
        """One request; *headers* as ``Name: value``."""
        lines = [f"{verb} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        return await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))


async def read_answer(reader: asyncio.StreamReader, *, has_body: bool = True) -> Answer:
    """Read one answer that has a length, or ends with its connection."""
    async with asyncio.timeout(DEADLINE):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        headers = [
            (name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)
        ]
        length = next((int(value) for name, value in headers if name == "content-length"), 0)
        body = await reader.readexactly(length if has_body else 0)
        return Answer(int(first.split()[1]), headers, body)


def little_app(
    seen: list[dict[str, Any]], release: asyncio.Event
) -> Callable[..., Awaitable[None]]:
    """Says who asked; fails, floods or waits where the path says so."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        state = scope["state"]
        told = {
            "caller": state["caller"].name,
            "role": state["caller"].role,
            "agent": state["caller"].agent,
            "namespace": state["namespace"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
        }
        seen.append({**told, "request": state["request_id"], "scope": scope})
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": json.dumps(told)})
            await send({"type": "websocket.close"})
            return
        body = (await receive())["body"]
        if scope["path"] == "/fail":
            raise RuntimeError("a bug")
        if scope["path"] == "/hold":
            await release.wait()
        if scope["path"].startswith("/do/"):
            operation, role, target, status = scope["path"].split("/")[2:]
            state["asked"] = (operation, role, target)
            await answer(send, int(status), {})
            return
        if scope["path"] == "/listen":
            await tell_until_gone(receive, send)
            return
        if scope["path"] == "/flood":
            await flood(send)
            return
        await answer(send, 200, {**told, "bytes": len(body)})

    return app


async def answer(send: Any, status: int, value: Any) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def tell_until_gone(receive: Any, send: Any) -> None:
    """Say something now and then until the server says that nobody listens."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    gone = asyncio.ensure_future(receive())
    while not gone.done():
        await send({"type": "http.response.body", "body": b"x" * 200, "more_body": True})
        await asyncio.wait({gone}, timeout=0.01)
    assert gone.result()["type"] == "http.disconnect"


async def flood(send: Any) -> None:
    """Send without end to whoever reads it, or does not."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        await asyncio.sleep(0)


async def lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def guarding(
    access: Access,
    *,
    tls: TlsSettings | None = None,
    client_tls: Any = None,
    reach: Callable[[], Awaitable[Access]] | None = None,
    proxies: tuple[str, ...] = (),
    screen: Any = None,
    **settings: Any,
) -> AsyncIterator[Guarded]:
    """A server of the little application, with these settings."""
    chosen = AccessSettings(**settings)

    async def own() -> Access:
        return access

    seen: list[dict[str, Any]] = []
    release = asyncio.Event()
    guard = secure(little_app(seen, release), chosen, reach or own, screen)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    options = server_options(chosen, tls=tls, proxies=proxies)
    config = uvicorn.Config(guard, log_level="error", timeout_graceful_shutdown=1, **options)
    port, protocol = listener.getsockname()[1], options["http"]
    async with started(config, listener) as server:
        try:
            yield Guarded(port, access, seen, release, guard, protocol, server, client_tls)
        finally:
            release.set()
