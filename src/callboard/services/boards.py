"""The boards of a namespace: listed, shown, set, paused and resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from callboard.domain.board import Board, BoardSettings, Counts, decode_settings, encode_settings
from callboard.domain.bounds import check_whole
from callboard.domain.names import check_name
from callboard.domain.task import at_ms, check_seconds
from callboard.engine.answers import checked, finish_cascade
from callboard.engine.namespace import Namespace
from callboard.exceptions import BoardNotFound, EngineError, InvalidArgument

LIST_MAX: Final = 1_000
REMOVED_AT_ONCE: Final = 500
"""Tasks that one call removes: the engine does nothing else for some milliseconds."""
REMOVE_CALLS_MAX: Final = 400_000
"""Enough for two of the largest boards."""


class Boards:
    """A board comes into being with its first task, or its first setting."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._functions = namespace.functions

    async def list(self, *, limit: int = LIST_MAX, skip: int = 0) -> list[Board]:
        """Boards, oldest first: *limit*, 1 to 1,000, behind the first *skip*."""
        check_whole("limit", limit, 1, LIST_MAX)
        check_whole("skip", skip, 0, 10**9)
        raw = await self._namespace.connection.call(
            "ZRANGE", self._namespace.keys.boards, skip, skip + limit - 1
        )
        found = await asyncio.gather(*(self._get_or_none(name.decode()) for name in raw))
        return [board for board in found if board is not None]

    async def _get_or_none(self, name: str) -> Board | None:
        try:
            return await self.get(name)
        except BoardNotFound:  # removed since it was listed
            return None

    async def get(self, name: str) -> Board:
        """A board's settings and counts at one moment. Raises BoardNotFound."""
        reply = await self._functions.call("board_read", check_name("board", name))
        checked(reply, "ok", board=name)
        return _board(name, reply)

    async def configure(self, name: str, settings: BoardSettings, *, by: str = "") -> Board:
        """Set what *settings* names; the board is made where it is missing.

        Raises:
            InvalidArgument: A value is out of its bounds.
            Refused: The step of an existing board cannot change.
        """
        await self._change(name, by, encode_settings(settings))
        return await self.get(name)

    async def remove(self, name: str, *, by: str = "") -> None:
        """Remove a board with all its finished tasks, settings and journal, for good.

        A board of many tasks is removed piece by piece. Who submits to it meanwhile stops
        that, or finds a new board under the name.

        Raises:
            BoardNotFound: No such board.
            Refused: It has unfinished tasks; ``details["unfinished"]`` says how many.
        """
        check_name("board", name)
        for _ in range(REMOVE_CALLS_MAX):
            reply = await self._functions.call("board_remove", name, by, REMOVED_AT_ONCE)
            checked(reply, "ok", board=name)
            if not reply[1]:
                return
            await finish_cascade(self._functions)
        raise EngineError(f"Board {name!r} did not empty. Remove it again.", board=name)

    async def pause(self, name: str, *, kinds: Iterable[str] = (), by: str = "") -> None:
        """Let nothing more be claimed, or nothing of these kinds; held work goes on."""
        await self._must_exist(name)
        paused = sorted({check_name("kind", kind) for kind in kinds})
        if not paused:
            return await self._change(name, by, ["paused", "1"])
        await self._change(name, by, [part for kind in paused for part in ("pause_kind", kind)])

    async def resume(self, name: str, *, kinds: Iterable[str] = (), by: str = "") -> None:
        """Undo a pause, of the whole board with all kinds, or of these kinds; waiters are rung."""
        await self._must_exist(name)
        resumed = sorted({check_name("kind", kind) for kind in kinds})
        if not resumed:
            return await self._change(name, by, ["paused", "", "paused_kinds", ""])
        await self._change(name, by, [part for kind in resumed for part in ("resume_kind", kind)])

    async def pause_all(self, *, by: str = "") -> None:
        """Let nothing more be claimed in the whole namespace."""
        await self._configure_namespace("paused", "1")

    async def resume_all(self, *, by: str = "") -> None:
        """Undo ``pause_all``; boards paused by themselves stay so."""
        await self._configure_namespace("paused", "0")

    async def configure_namespace(
        self,
        *,
        channels: bool | None = None,
        grace: float | None = None,
        events_kept: int | None = None,
    ) -> None:
        """Set what holds for all boards; what is None stays as it is.

        Args:
            channels: Whether the documented pub/sub channels are published to. True.
            grace: Seconds that deadlines get which fell into a gap, 0 to 3,600. 10.
            events_kept: Events kept, about, 1,000 to 100,000,000. 100,000.

        Raises:
            InvalidArgument: A value is out of its bounds.
        """
        pairs: list[str] = []
        if channels is not None:
            pairs += ["channels", str(int(channels))]
        if grace is not None:
            pairs += ["grace", str(check_seconds("grace", grace, 0, 3_600))]
        if events_kept is not None:
            if not 1_000 <= events_kept <= 100_000_000:
                raise InvalidArgument(
                    f"events_kept is {events_kept!r}; it must be from 1,000 to 100,000,000.",
                    field="events_kept",
                )
            pairs += ["retain", str(events_kept)]
        if pairs:
            await self._configure_namespace(*pairs)

    async def _configure_namespace(self, *pairs: str) -> None:
        checked(await self._functions.call("namespace_configure", *pairs), "ok")

    async def _must_exist(self, name: str) -> None:
        raw = await self._namespace.connection.call(
            "ZSCORE", self._namespace.keys.boards, check_name("board", name)
        )
        if raw is None:
            raise BoardNotFound(
                f"No board {name!r}. A board comes into being with its first task.", board=name
            )

    async def _change(self, name: str, by: str, pairs: Sequence[str]) -> None:
        reply = await self._functions.call("board_configure", check_name("board", name), by, *pairs)
        checked(reply, "ok", board=name)


def _board(name: str, reply: list[Any]) -> Board:
    now_ms, flat, raw_settings = reply[1:4]
    numbers = {flat[i].decode(): int(float(flat[i + 1])) for i in range(0, len(flat), 2)}
    raw = {
        raw_settings[i].decode(): raw_settings[i + 1].decode()
        for i in range(0, len(raw_settings), 2)
    }
    is_paused = bool(numbers.pop("namespace_paused")) or raw.get("paused") == "1"
    numbers.pop("best_score")
    numbers["scheduled"] += numbers["retrying"]
    return Board(
        name=name,
        is_paused=is_paused,
        is_closed=raw.get("closed") == "1",
        claims=int(raw.get("claims", 0)),
        paused_kinds=tuple(kind for kind in raw.get("paused_kinds", "").split(",") if kind),
        counts=Counts(**numbers),
        settings=decode_settings(raw),
        created_at=at_ms(int(raw["created"])),
        at=at_ms(float(now_ms)),
    )
