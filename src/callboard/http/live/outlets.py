"""The open streams and sockets of a process: kept alive, cut off where nobody reads, ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

from callboard.exceptions import CallboardError, EngineError
from callboard.http.errors import refused
from callboard.http.live.settings import LiveSettings
from callboard.http.route import Reply, Scope, Send

BEAT_SECONDS: Final = 1.0
CHECK_SECONDS: Final = 3.0
"""How often it is looked whether the keys of what is open still hold."""

KEPT_AT_ONCE: Final = 200
"""Of the streams that were opened together not all are kept alive together."""

FAREWELL_SECONDS: Final = 2.0
"""How long a client gets to take the last words."""

Check = Callable[[], Awaitable[None]]

_log = logging.getLogger("callboard.live")


class Outlet(Protocol):
    """What is open towards one client.

    Attributes:
        sending_since: When the write began that is under way, by the loop's clock; 0 for none.
        sent_at: When the last one ended.
        key: The id of the API key that it was opened with; empty for none.
        check: Raises where the key does not hold any more.
    """

    sending_since: float
    sent_at: float
    key: str
    check: Check | None

    def keep_alive(self) -> None:
        """Send something that says that this lives."""

    def cut(self) -> None:
        """Close at once: the client does not read."""

    def end(self) -> None:
        """Close in good order, so that the client comes back."""

    def refuse(self, error: CallboardError) -> None:
        """Close with the reason: the client may not have this any more."""


class Outlets:
    """All that are open, looked after once a second."""

    def __init__(self, settings: LiveSettings) -> None:
        self._settings = settings
        self._open: set[Outlet] = set()
        self._are_none = asyncio.Event()
        self._are_none.set()
        self._beat: asyncio.Task[None] | None = None
        self._stopping: asyncio.Event | None = None
        self._checking: asyncio.Task[None] | None = None
        self._checked_at = 0.0
        self._is_closed = False
        self.cut_off = 0

    def __len__(self) -> int:
        return len(self._open)

    def heed(self, stopping: asyncio.Event) -> None:
        """End all, and open none any more, once *stopping* is set."""
        self._stopping = stopping

    def refusal(self) -> Reply | None:
        """The answer where no more may be opened."""
        if self._is_closed or (self._stopping is not None and self._stopping.is_set()):
            return refused(503, "This coordinator is stopping. Try another.", "stopping", after=1)
        if len(self._open) >= self._settings.streams_max:
            return refused(
                503,
                "This coordinator has no room for another stream. Try again, or another node.",
                "too_many_streams",
                {"limit": self._settings.streams_max},
                after=5,
            )
        return None

    def add(self, outlet: Outlet) -> None:
        """Look after it until it is removed."""
        self._open.add(outlet)
        self._are_none.clear()
        if self._beat is None:
            self._beat = asyncio.create_task(self._look_after(), name="callboard-live-beat")

    def remove(self, outlet: Outlet) -> None:
        """It is closed."""
        self._open.discard(outlet)
        if not self._open:
            self._are_none.set()

    async def close(self) -> None:
        """End all that are open, and wait until they are; none is opened any more."""
        self._is_closed = True
        self._end_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._are_none.wait()
        tasks = [task for task in (self._beat, self._checking) if task is not None]
        self._beat = self._checking = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._is_closed:
            if await self._pause(min(BEAT_SECONDS, self._settings.keep_alive / 3)):
                self._end_all()
                await asyncio.sleep(BEAT_SECONDS)
            now = loop.time()
            self._look_at_all(now)
            is_checking = self._checking is not None and not self._checking.done()
            if now - self._checked_at >= CHECK_SECONDS and not is_checking:
                self._checked_at = now
                self._checking = asyncio.create_task(self._check_keys())

    async def _check_keys(self) -> None:
        """Close what was opened with a key that was revoked or ran out, a look for each key."""
        checks = {one.key: one.check for one in self._open if one.key and one.check is not None}
        for key, check in checks.items():
            try:
                await check()
            except EngineError:
                continue
            except CallboardError as error:
                for outlet in [one for one in self._open if one.key == key]:
                    outlet.refuse(error)

    async def _pause(self, seconds: float) -> bool:
        """Whether all is to end, which is heeded at once."""
        if self._stopping is None:
            await asyncio.sleep(seconds)
            return False
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    def _end_all(self) -> None:
        for outlet in list(self._open):
            outlet.end()

    def _look_at_all(self, now: float) -> None:
        """Cut off who does not read; keep alive what is silent, a part of many at a time."""
        left = max(KEPT_AT_ONCE, len(self._open) // 10)
        for outlet in list(self._open):
            if outlet.sending_since:
                if now - outlet.sending_since > self._settings.write_timeout:
                    self.cut_off += 1
                    _log.info("A client was cut off that does not read.")
                    outlet.cut()
            elif left and now - outlet.sent_at > self._settings.keep_alive:
                left -= 1
                outlet.keep_alive()


def key_of(scope: Scope) -> tuple[str, Check | None]:
    """The id of the key that a request came with, and what looks whether it still holds."""
    state = scope.get("state") or {}
    key = getattr(state.get("caller"), "key_id", None)
    return key or "", state.get("check")


def cut_of(scope: Scope, send: Send) -> Callable[[], None]:
    """What drops the connection behind *send* at once, with what was not yet read.

    A server that says how does so in the scope, under ``callboard.abort``; of uvicorn the
    connection is known. Else there is no way, and its own time limits have to do it.
    """
    abort = (scope.get("extensions") or {}).get("callboard.abort")
    if abort is None:
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        abort = getattr(transport, "abort", None)
    return abort if callable(abort) else _nothing


def _nothing() -> None:
    """There is no way to cut this connection."""
