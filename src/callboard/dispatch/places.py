"""Which boards a dispatcher looks at next."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from callboard.dispatch.settings import ALL_BOARDS, DispatchSettings
from callboard.domain.board import DEFAULT_BOARD
from callboard.engine.namespace import Namespace

LISTED_AT_ONCE: Final = 1_000
STALE_SECONDS: Final = 15.0
"""How long a board with nothing to give out is left alone: well within the time for which a
board rings whoever looked at it."""


class Places:
    """The boards that are looked at: those that settings name, and with ``*`` all others.

    Of those that are only found, the ones that have something to give out are looked at, and
    the rest now and then, so that they go on to ring.
    """

    def __init__(self, namespace: Namespace, settings: DispatchSettings) -> None:
        self._namespace = namespace
        self._named = tuple(name for name in settings.boards if name != ALL_BOARDS)
        self._is_all = ALL_BOARDS in settings.boards
        if self._is_all and not self._named:
            self._named = (DEFAULT_BOARD,)
        self._poll = settings.poll
        self._found: dict[str, float] = {}  # when it was looked at last
        self._listed_at = -self._poll
        self._newest = 0.0

    def is_named(self, board: str) -> bool:
        """Whether it is served by its name: such a board is made where it is missing."""
        return board in self._named

    def forget(self, board: str) -> None:
        """Look at a board no more, unless it is made anew."""
        self._found.pop(board, None)

    async def due(self) -> list[str]:
        """Those to look at now."""
        names = list(self._named)
        if self._is_all:
            now = time.monotonic()
            if now - self._listed_at >= self._poll:
                await self._list()
                self._listed_at = now
            call, keys = self._namespace.connection.call, self._namespace.keys
            found = list(self._found)
            counts = await asyncio.gather(*(call("EXISTS", *keys.at_hand(one)) for one in found))
            for name, count in zip(found, counts, strict=True):
                if count or now - self._found[name] >= STALE_SECONDS:
                    self._found[name] = now
                    names.append(name)
        return names

    async def _list(self) -> None:
        """Learn of the boards that came since the last listing."""
        while True:
            rows = await self._namespace.connection.call(
                *("ZRANGE", self._namespace.keys.boards, f"{self._newest:.17g}", "+inf"),
                *("BYSCORE", "LIMIT", 0, LISTED_AT_ONCE, "WITHSCORES"),
            )
            if rows and not isinstance(rows[0], list):
                rows = list(zip(rows[::2], rows[1::2], strict=True))
            before = self._newest
            for raw, score in rows:
                name = raw.decode()
                if name not in self._named:
                    self._found.setdefault(name, float("-inf"))
                self._newest = float(score)
            if len(rows) < LISTED_AT_ONCE or self._newest == before:
                return
