"""Bodies of requests: each read once, within its bound and its time, all within one more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

Receive = Callable[[], Awaitable[dict[str, Any]]]

STOPPING_SECONDS: Final = 2.0
"""In which the rest of a body must come once the coordinator stops, so that none holds it."""

SHARES: Final = 4
"""One caller holds at most one part in so many of what there is for bodies."""

DISCARD_BYTES: Final = 32 << 20
DISCARD_SECONDS: Final = 3.0
"""What is still taken of a body that was refused: who writes seldom reads at the same time."""


class BodyTooLarge(Exception):
    """More came, or was announced, than one request may hold.

    Attributes:
        is_all: Nothing more of it is to come.
    """

    def __init__(self, *, is_all: bool = False) -> None:
        super().__init__()
        self.is_all = is_all


class BodyTooSlow(Exception):
    """The body did not come in its time."""


class BodyTooLate(Exception):
    """The coordinator stops, and the rest of the body did not come."""


class NoRoom(Exception):
    """The bodies of all requests under way, or of this caller's, fill what there is for them."""


class CallerGone(Exception):
    """The caller hung up before the body was there."""


class Budget:
    """Bytes of bodies that are held at the moment, by all requests of a process.

    What is counted is what came, not what was announced: announcing costs nothing.

    Args:
        most: Bytes in all.
        largest: Bytes of one body: so much each caller may hold, however small its share.
    """

    def __init__(self, most: int, largest: int) -> None:
        self._most = most
        self._share = max(most // SHARES, largest)
        self._of: dict[str, int] = {}
        self.used = 0
        self.is_ending = False
        self.awaited: set[asyncio.Timeout] = set()

    def take(self, count: int, who: str) -> None:
        """Count bytes in. Raises NoRoom, with nothing counted."""
        held = self._of.get(who, 0) + count
        if held > self._share or self.used + count > self._most:
            raise NoRoom
        self.used += count
        if count:
            self._of[who] = held

    def give_back(self, count: int, who: str) -> None:
        """Count bytes out."""
        self.used -= count
        left = self._of.get(who, 0) - count
        if left > 0:
            self._of[who] = left
        else:
            self._of.pop(who, None)

    def end(self) -> None:
        """Wait for no body much longer, those that are on their way and those to come."""
        self.is_ending = True
        until = asyncio.get_running_loop().time() + STOPPING_SECONDS
        for awaited in self.awaited:
            before = awaited.when()
            if not awaited.expired() and before is not None and before > until:
                awaited.reschedule(until)


async def read(receive: Receive, most: int, seconds: float, budget: Budget, who: str) -> bytes:
    """The whole body, counted into *budget* for *who*: whoever takes it gives that back.

    Raises:
        BodyTooLarge, BodyTooSlow, BodyTooLate, NoRoom, CallerGone: Nothing is counted in.
    """
    if budget.is_ending:
        seconds = min(seconds, STOPPING_SECONDS)
    awaited = asyncio.timeout(seconds)
    parts: list[bytes] = []
    length = 0
    try:
        async with awaited:
            budget.awaited.add(awaited)
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise CallerGone
                part = message.get("body", b"")
                if length + len(part) > most:
                    raise BodyTooLarge(is_all=not message.get("more_body", False))
                budget.take(len(part), who)
                length += len(part)
                if not message.get("more_body", False):
                    return b"".join((*parts, part)) if parts else part
                parts.append(part)
    except BaseException as error:
        budget.give_back(length, who)
        if isinstance(error, TimeoutError):
            raise (BodyTooLate if budget.is_ending else BodyTooSlow) from None
        raise
    finally:
        budget.awaited.discard(awaited)


async def discard(receive: Receive) -> bool:
    """Take what comes of a body that nobody wants, for a while; whether that was all of it."""
    length = 0
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while length <= DISCARD_BYTES:
                message = await receive()
                if message["type"] != "http.request":
                    return False
                length += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return True
    except TimeoutError:
        pass
    return False
