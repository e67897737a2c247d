"""A clock that moves: the engine's time, as one test sees it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from callboard.domain.task import to_ms
from callboard.exceptions import InvalidArgument


class Clock:
    """The time of a throw-away board: the real one, ahead of it, or standing still.

    Time only ever goes forward, as the engine's does. When it is moved, all that is due by
    then happens before the call returns: retries and delayed tasks come back, leases and
    reservations run out, deadlines pass, silent agents are lost.

    While it stands still each call on the engine moves it by a microsecond, so that what
    was submitted first stays first.
    """

    def __init__(self, moved: Callable[[], Awaitable[None]], at: datetime | None = None) -> None:
        self._moved = moved
        self._ahead_us = 0
        self._still_us = None if at is None else to_ms(at, "at") * 1000

    def __call__(self) -> int | None:
        """The *now* of the next call in µs; None for the engine's own."""
        if self._still_us is not None:
            self._still_us += 1
            return self._still_us
        return _real_us() + self._ahead_us if self._ahead_us else None

    @property
    def is_frozen(self) -> bool:
        """Time stands still, but for a microsecond a call."""
        return self._still_us is not None

    def now(self) -> datetime:
        """The time, as UTC."""
        return datetime.fromtimestamp(self._now_us() / 1e6, UTC)

    async def advance(self, seconds: float) -> None:
        """Move time forward; all that falls due happens before this returns.

        Nobody is heard in between: leases of running claims run out too, unless the time
        is shorter than they are.

        Raises:
            InvalidArgument: *seconds* is negative.
        """
        if not seconds >= 0:
            raise InvalidArgument(
                f"The clock cannot go back by {seconds!r} s; it only goes forward."
            )
        self.skip(seconds)
        await self._moved()

    async def set(self, moment: datetime) -> None:
        """Move time forward to *moment*, as ``advance`` does.

        Raises:
            InvalidArgument: *moment* has passed, or has no time zone.
        """
        seconds = (to_ms(moment, "moment") * 1000 - self._now_us()) / 1e6
        if seconds < 0:
            raise InvalidArgument(
                f"The clock stands at {self.now().isoformat()} and cannot go back to "
                f"{moment.isoformat()}."
            )
        await self.advance(seconds)

    def freeze(self) -> None:
        """Let time stand still from now on."""
        self._still_us = self._now_us()

    def run(self) -> None:
        """Let time run on from where it stands."""
        if self._still_us is not None:
            self._ahead_us = self._still_us - _real_us()
            self._still_us = None

    def skip(self, seconds: float) -> None:
        """Move time without doing what falls due: the next call on the engine sees it."""
        microseconds = round(seconds * 1e6)
        if self._still_us is not None:
            self._still_us += microseconds
        else:
            self._ahead_us += microseconds

    def _now_us(self) -> int:
        return _real_us() + self._ahead_us if self._still_us is None else self._still_us

    def __repr__(self) -> str:
        return f"<Clock {self.now().isoformat()}{' frozen' if self.is_frozen else ''}>"


def _real_us() -> int:
    return time.time_ns() // 1000
