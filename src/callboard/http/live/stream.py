"""A response of server-sent events, by bare ASGI messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

from callboard.exceptions import CallboardError
from callboard.http.errors import plain
from callboard.http.live.frames import block, encode, keep_alive, opening
from callboard.http.live.outlets import FAREWELL_SECONDS, Outlets, cut_of, key_of
from callboard.http.route import Receive, Reply, Scope, Send

HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]

_log = logging.getLogger("callboard.live")


def problem_of(error: BaseException) -> dict[str, Any]:
    """An error as frames and events tell it; one that was not foreseen is logged, and not told."""
    if isinstance(error, CallboardError):
        return {"code": error.code, "detail": error.message, "details": plain(error.details)}
    if isinstance(error, msgspec.ValidationError):
        return {"code": "invalid_argument", "detail": str(error), "details": {}}
    if isinstance(error, TimeoutError):
        detail = "The time to wait is over; what was waited for goes on."
        return {"code": "timeout", "detail": detail, "details": {}}
    _log.error("A stream or socket failed.", exc_info=error)
    detail = "The coordinator failed; its log says how. Nothing more is known."
    return {"code": "internal", "detail": detail, "details": {}}


class Stream:
    """One open response. Whoever writes waits for a client that reads slowly.

    Attributes:
        cursor: Says where a reader stands that has read all; asked for at each keep-alive.
    """

    def __init__(self, outlets: Outlets, scope: Scope, receive: Receive, send: Send) -> None:
        self._outlets = outlets
        self._receive = receive
        self._send = send
        self._cut = cut_of(scope, send)
        self._refusal: CallboardError | None = None
        self.key, self.check = key_of(scope)
        self._is_head = scope.get("method") == "HEAD"
        self._body: asyncio.Task[None] | None = None
        self._extra: asyncio.Task[None] | None = None
        self._is_gone = False
        self.cursor: Callable[[], str] = str
        self.sending_since = 0.0
        self.sent_at = 0.0

    async def run(
        self, feed: Callable[[Stream], Awaitable[None]], *, retry: float, cursor: str = ""
    ) -> Reply | None:
        """Answer with what *feed* writes, until it ends, the client goes, or all is to end.

        Where it is refused, the answer is returned. Once it has begun nothing but a broken
        connection or an event can tell of a failure; a reader comes back by the ids.
        """
        refusal = self._outlets.refusal()
        if refusal is not None:
            return refusal
        await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        if self._is_head:
            await self._send({"type": "http.response.body", "body": b""})
            return None
        await self.write(opening(retry, cursor))
        self._body = asyncio.ensure_future(feed(self))
        self._outlets.add(self)
        watch = asyncio.create_task(self._disconnect())
        try:
            await asyncio.wait({self._body, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (self._body, watch, self._extra):
                if task is not None:
                    task.cancel()
            await asyncio.gather(self._body, watch, return_exceptions=True)
            self._outlets.remove(self)
        if not self._is_gone:
            await self._farewell(self._body)
        return None

    async def _farewell(self, body: asyncio.Future[None]) -> None:
        """End the response; where the feed failed, with an event that says how."""
        error = self._refusal if body.cancelled() else body.exception()
        last = b"" if error is None else block("problem", encode(problem_of(error)))
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def write(self, data: bytes) -> None:
        """Send a piece; returns when there is room for the next."""
        loop = asyncio.get_running_loop()
        self.sending_since = loop.time()
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        finally:
            self.sending_since = 0.0
            self.sent_at = loop.time()

    async def tell(self, name: str, value: object, cursor: str = "") -> None:
        """Send one event, its value as JSON."""
        await self.write(block(name, encode(value), cursor))

    def keep_alive(self) -> None:
        """Send a comment in the background."""
        if self._extra is None or self._extra.done():
            self._extra = asyncio.create_task(self.write(keep_alive(self.cursor())))

    def cut(self) -> None:
        """Drop the connection and what was not yet read."""
        self._is_gone = True
        self._cut()
        self.end()

    def end(self) -> None:
        """End the response in good order."""
        if self._body is not None:
            self._body.cancel()

    def refuse(self, error: CallboardError) -> None:
        """End the response with an event that says why."""
        self._refusal = error
        self.end()

    async def _disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._is_gone = True
