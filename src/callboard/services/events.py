"""The namespace's events: read, followed from any cursor, with every gap told."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from callboard.domain.bounds import check_whole
from callboard.domain.event import Cursor, Event, Gap, filter_of, parse_facts
from callboard.domain.names import check_name
from callboard.domain.task import at_ms, to_ms
from callboard.engine.namespace import Namespace
from callboard.engine.pubsub import Subscription
from callboard.exceptions import BoardNotFound, InvalidArgument

Entry = tuple[bytes, dict[bytes, bytes]]

READ_MAX: Final = 1_000
POLL_SECONDS: Final = 1.0
"""The backstop of a follower: a doorbell is only a hint and may be missed."""


class Events:
    """Reads one namespace's stream. Entries are numbered without a gap.

    A board with a journal keeps its own events for as long as it stands, under the same
    numbers; ``board`` reads that instead. The boards of runs have one.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._connection = namespace.connection
        self._bells = namespace.bells
        self._keys = namespace.keys

    async def cursor(self, *, board: str | None = None) -> str:
        """The cursor behind the newest event: follow from it to see only what comes."""
        incarnation, last = await self._position()
        if board is not None:
            rows = await self._connection.call("XREVRANGE", self._key(board), "+", "-", "COUNT", 1)
            last = _number(rows[0][0]) if rows else last
        return str(Cursor(incarnation, last))

    async def cursor_at(self, moment: datetime, *, board: str | None = None) -> str:
        """The cursor before the first kept event at or after *moment*."""
        wanted = to_ms(moment, "moment")
        key = self._key(board)
        incarnation, last = await self._position()
        first = await self._first(key, last)
        low, high = first, last + 1
        while low < high:
            middle = (low + high) // 2
            rows = await self._range(key, middle, 1)
            if rows and int(rows[0][1][b"at"]) >= wanted:
                high = middle
            else:
                low = middle + 1
        return str(Cursor(incarnation, low - 1))

    async def read(
        self,
        cursor: str | None = None,
        *,
        board: str | None = None,
        types: Iterable[str] = (),
        limit: int = READ_MAX,
    ) -> tuple[list[Event | Gap], str]:
        """Up to *limit* entries behind *cursor* (None: the oldest kept), and the next cursor.

        Args:
            cursor: Of an event or an earlier read. One of another incarnation, or with
                events behind it that are not kept, brings a ``Gap`` first.
            board: Read the journal of this board.
            types: Patterns as ``task:*``; entries of other types are passed over.
            limit: 1 to 1,000 entries looked at.

        Raises:
            BoardNotFound: There is no such board, or it has no journal.
            InvalidArgument: *limit* is not valid, *cursor* is none or ahead of the stream, or
                no type is like one of *types*.
        """
        check_whole("limit", limit, 1, READ_MAX)
        matches = filter_of(_patterns(types))
        resumed = None if cursor is None else Cursor.parse(cursor)
        found: list[Event | Gap] = []
        incarnation, last = await self._position()
        at = 0 if resumed is None else _place(resumed, incarnation, last)
        if board is None:
            rows = await self._range(self._keys.events, at + 1, limit)
            # What is missing shows in the range itself, since more is trimmed at any time.
            before = _number(rows[0][0]) - 1 if rows else max(at, last)
        else:
            rows, before = await self._of_journal(board, at, limit)
        if resumed is not None:
            found += _gaps(resumed, incarnation, at, before)
        at = before
        for entry_id, fields in rows:
            event = _event(incarnation, entry_id, fields)
            at = event.n
            if matches(event.type):
                found.append(event)
        return found, str(Cursor(incarnation, at))

    async def follow(
        self,
        cursor: str | None = None,
        *,
        since: datetime | None = None,
        board: str | None = None,
        types: Iterable[str] = (),
    ) -> AsyncIterator[Event | Gap]:
        """Yield events as they come, for ever: from *cursor*, from *since*, or from now.

        A reader that falls behind the retention gets a ``Gap`` and goes on behind it. The
        loop survives reconnects; it ends when the iteration is closed. Of a board's journal
        it ends with ``BoardNotFound`` once the board was removed.

        Raises:
            InvalidArgument: No type is like one of *types*: nothing would ever come.
        """
        patterns = _patterns(types)
        filter_of(patterns)
        subscription = await self.listen(board=board)
        try:
            if cursor is None and since is None:
                cursor = await self.cursor(board=board)
            elif cursor is None and since is not None:
                cursor = await self.cursor_at(since, board=board)
            while True:
                found, next_cursor = await self.read(cursor, board=board, types=patterns)
                for event in found:
                    yield event
                if next_cursor == cursor:
                    await subscription.get(POLL_SECONDS * (1 + random.random() / 4))
                cursor = next_cursor
        finally:
            subscription.close()

    async def listen(self, *, board: str | None = None) -> Subscription:
        """The bell that rings for new events, or for those of a board with a journal.

        A bell is a hint that may be missed: whoever waits for it looks by itself too.
        """
        bells = self._bells
        return await bells.listen(bells.events() if board is None else bells.board(board))

    async def _position(self) -> tuple[str, int]:
        incarnation, seq = await self._connection.call(
            "HMGET", self._keys.format, "incarnation", "seq"
        )
        return (incarnation or b"").decode(), int(seq or 0)

    def _key(self, board: str | None) -> str:
        if board is None:
            return self._keys.events
        return self._keys.journal(check_name("board", board))

    async def _first(self, key: str, last: int) -> int:
        rows = await self._connection.call("XRANGE", key, "-", "+", "COUNT", 1)
        return _number(rows[0][0]) if rows else last + 1

    async def _range(self, key: str, first: int, count: int) -> list[Entry]:
        rows = await self._connection.call("XRANGE", key, f"{first}-0", "+", "COUNT", count)
        return [(entry_id, _fields(values)) for entry_id, values in rows]

    async def _of_journal(self, board: str, at: int, count: int) -> tuple[list[Entry], int]:
        """Entries of a journal behind *at*, and the last number that is missing before them.

        A journal's numbers leave out what happened elsewhere, so a gap shows in that *at* is
        not kept any more. A reader at the very last entry that was trimmed hears of one too.
        """
        key = self._key(board)
        rows = await self._range(key, max(at, 1), count + 1)
        if rows and _number(rows[0][0]) == at:
            return rows[1:], at
        rows = rows[:count]
        if not rows:
            await self._must_keep_journal(board)
            return rows, at
        facts = _pairs(await self._connection.call("XINFO", "STREAM", key))
        first = facts[b"first-entry"]
        is_trimmed = facts[b"entries-added"] > facts[b"length"]
        if is_trimmed and (not first or _number(first[0]) > at):
            return rows, _number(rows[0][0]) - 1
        return rows, at

    async def _must_keep_journal(self, board: str) -> None:
        kept = await self._connection.call("HGET", self._keys.settings(board), "journal")
        if kept != b"1":
            raise BoardNotFound(
                f"There is no board {board!r} with a journal. Read the namespace's events, "
                "without board.",
                board=board,
            )


def _patterns(types: Iterable[str]) -> tuple[str, ...]:
    return (types,) if isinstance(types, str) else tuple(types)


def _place(cursor: Cursor, incarnation: str, last: int) -> int:
    """The number to go on behind. Raises InvalidArgument where nothing is there yet."""
    if cursor.incarnation != incarnation:
        return min(cursor.n, last)
    if cursor.n > last:
        raise InvalidArgument(
            f"Cursor {str(cursor)!r} is ahead of the stream, whose newest event is {last}. "
            "Use one that an event carried.",
            field="cursor",
            last=last,
        )
    return cursor.n


def _gaps(cursor: Cursor, incarnation: str, at: int, before: int) -> list[Gap]:
    """The notice that is due where a reader goes on behind event *before*."""
    resumed = str(Cursor(incarnation, before))
    if cursor.incarnation != incarnation:
        return [Gap(0, 0, resumed, "incarnation")]
    return [Gap(at + 1, before, resumed, "retention")] if before > at else []


def _number(entry_id: bytes) -> int:
    return int(entry_id.split(b"-")[0])


def _pairs(reply: Any) -> dict[bytes, Any]:
    """A reply of names and values, in either protocol's shape."""
    return reply if isinstance(reply, dict) else _fields(reply)


def _fields(values: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _event(incarnation: str, entry_id: bytes, fields: dict[bytes, Any]) -> Event:
    n = _number(entry_id)
    return Event(
        n=n,
        cursor=str(Cursor(incarnation, n)),
        type=fields[b"type"].decode(),
        board=fields[b"board"].decode(),
        at=at_ms(int(fields[b"at"])),
        by=fields[b"by"].decode(),
        facts=parse_facts(fields[b"facts"].decode()),
    )
