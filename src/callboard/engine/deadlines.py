"""Time limits of calls: one timer for all of them, planned at the nearest deadline.

A timer a call would cost more than the call. In the usual case, where all calls
have the same limit, a sweep comes once in that time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable

from callboard.engine.multiplexer import Call

# A sweep this late means that the loop was blocked: replies may lie unread in the
# socket, so they get one chance to be read before anybody is told that none came.
_LATE_SECONDS = 0.1
_GRACE_SECONDS = 0.05
# A sweep looks at every call in flight, so it is not made more often than this.
_SWEEP_SECONDS_MIN = 0.01


class Deadlines:
    """Expires calls whose time is up.

    Attributes:
        next_at: When the next sweep is due, in the loop's time. Whoever adds a call
            with an earlier deadline calls ``plan``.
    """

    def __init__(
        self,
        calls: Callable[[], Iterable[tuple[Call, bool]]],
        expire: Callable[[Call, bool], None],
    ) -> None:
        self.next_at = math.inf
        self._calls = calls
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_in_grace = False

    def plan(self, at: float) -> None:
        """Sweep at this time instead of later."""
        self.stop()
        self.next_at = at
        self._timer = self._loop.call_at(at, self._sweep)

    def stop(self) -> None:
        """Sweep no more, until the next ``plan``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.next_at = math.inf

    def _sweep(self) -> None:
        now = self._loop.time()
        if now - self.next_at > _LATE_SECONDS and not self._is_in_grace:
            self._is_in_grace = True
            self.plan(now + _GRACE_SECONDS)
            return
        self._is_in_grace = False
        nearest = math.inf
        for call, is_written in self._calls():
            if call.done():
                continue
            if call.deadline <= now:
                self._expire(call, is_written)
            elif call.deadline < nearest:
                nearest = call.deadline
        self.stop()
        if nearest < math.inf:
            self.plan(max(nearest, now + _SWEEP_SECONDS_MIN))
