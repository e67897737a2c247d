"""Who shows what is no key: counted by address, so that trying costs the engine little."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from callboard.exceptions import NotAuthenticated, RateLimited

ADDRESSES_MAX: Final = 10_000
"""Those that were counted the longest ago are forgotten beyond it: so much has room in 2 MB."""


class Strangers:
    """How often an address may show what does not hold, counted in this process alone.

    Args:
        rate: Times a second.
        burst: Times at once after a quiet time.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate
        self._ahead = (burst - 1) / rate
        self._due: dict[str, float] = {}

    def take(self, who: str) -> None:
        """Count once (GCRA). Raises RateLimited, with nothing counted."""
        now = asyncio.get_running_loop().time()
        due = max(self._due.get(who, now), now)
        wait = due - now - self._ahead
        if wait > 0:
            raise RateLimited("Rate limit exceeded", retry_after=wait)
        self._due.pop(who, None)
        self._due[who] = due + self._interval
        if len(self._due) > ADDRESSES_MAX:
            del self._due[next(iter(self._due))]

    @contextmanager
    def counted(self, who: str) -> Iterator[None]:
        """Count before what is shown is looked at; not in the end, unless it does not hold."""
        self.take(who)
        try:
            yield
        except NotAuthenticated:
            raise
        except BaseException:
            self._give_back(who)
            raise
        self._give_back(who)

    def _give_back(self, who: str) -> None:
        due = self._due.get(who)
        if due is not None:
            self._due[who] = due - self._interval
