"""One WebSocket as a channel of frames: bounded, closed with a word, cut where nobody reads."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from callboard.exceptions import CallboardError
from callboard.http.live.hub import Hub
from callboard.http.live.outlets import FAREWELL_SECONDS, cut_of, key_of
from callboard.http.route import Call, deny

RESTART: Final = 1012
NO_KEY: Final = 4401
TOO_SLOW: Final = 4408
FAILED: Final = 1011

_log = logging.getLogger("callboard.live")


class Gone(Exception):
    """The client is not there any more."""


class Channel:
    """An open WebSocket. What is said on it is for its heirs to decide.

    Attributes:
        closing: With which code and reason it is about to be closed; None where it is not.
        sending_since, sent_at: As of every outlet.
    """

    def __init__(self, call: Call, hub: Hub) -> None:
        self.call = call
        self.hub = hub
        self.closing: tuple[int, str] | None = None
        self.sending_since = 0.0
        self.sent_at = 0.0
        self.key, self.check = key_of(call.scope)
        self._cut = cut_of(call.scope, call.send)
        self._turn = asyncio.Lock()
        self._body: asyncio.Task[None] | None = None
        self._is_cut = False

    async def converse(self) -> None:
        """Heed frames until the client has gone, or ``closing`` is set."""
        raise NotImplementedError

    async def end_all(self) -> None:
        """End what was begun beside."""
        raise NotImplementedError

    async def run(self) -> None:
        """Serve the socket until either side ends it."""
        call, outlets = self.call, self.hub.outlets
        refusal = outlets.refusal()
        if refusal is not None:
            await deny(call.scope, call.receive, call.send, refusal)
            return
        await call.receive()
        await call.send({"type": "websocket.accept"})
        outlets.add(self)
        self._body = asyncio.ensure_future(self.converse())
        try:
            await asyncio.wait({self._body})
        finally:
            self._body.cancel()
            await self.end_all()
            outlets.remove(self)
        await self._farewell(self._body)

    # What goes out

    async def write(self, text: str) -> None:
        """Send a frame; waits for a client that reads slowly. Raises Gone."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            self.sending_since = loop.time()
            try:
                await self.call.send({"type": "websocket.send", "text": text})
            except (OSError, RuntimeError) as error:
                raise Gone from error
            finally:
                self.sending_since = 0.0
                self.sent_at = loop.time()

    def keep_alive(self) -> None:
        """Nothing: the server's pings do so."""

    def cut(self) -> None:
        """Drop the connection: the client does not read."""
        self._is_cut = True
        self._cut()
        self.close(TOO_SLOW, "too slow")

    def end(self) -> None:
        """Close, so that the client comes back, maybe to another coordinator."""
        self.close(RESTART, "stopping")

    async def _farewell(self, body: asyncio.Task[None]) -> None:
        error = None if body.cancelled() else body.exception()
        if error is not None and not isinstance(error, Gone):
            _log.error("A socket failed.", exc_info=error)
            self.closing = FAILED, "failed"
        if self.closing is not None and not self._is_cut:
            code, reason = self.closing
            with suppress(OSError, RuntimeError):  # TimeoutError among them: nobody reads it
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await self.call.send(
                        {"type": "websocket.close", "code": code, "reason": reason}
                    )

    def close(self, code: int, reason: str) -> None:
        """Close it, with a word on why."""
        self.closing = code, reason
        if self._body is not None:
            self._body.cancel()

    def refuse(self, error: CallboardError) -> None:
        """Close it: its key does not hold any more."""
        self.close(NO_KEY, error.code)

    def failed(self, error: BaseException | None) -> None:
        """Something beside the conversation failed: end it."""
        if not isinstance(error, Gone):
            _log.error("A socket failed.", exc_info=error)
            self.close(FAILED, "failed")
