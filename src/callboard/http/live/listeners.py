"""Those who listen to a hub: each has a place in its ring, or catches up with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from callboard.domain.event import Cursor, Event, Gap
from callboard.http.live.frames import block, encode, events_frame
from callboard.http.live.wanted import Wanted
from callboard.operations.events import entry as as_sent

if TYPE_CHECKING:
    from callboard.http.live.hub import Hub


class Entry:
    """An event or gap, and how it is written, each form made when it is first asked for."""

    __slots__ = ("_sse", "event", "json", "n")

    def __init__(self, event: Event | Gap) -> None:
        self.event = event
        self.n = event.last if isinstance(event, Gap) else event.n
        self.json: bytes = encode(as_sent(event))
        self._sse: bytes | None = None

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory, in all its forms."""
        return 3 * len(self.json) + 300

    @property
    def sse(self) -> bytes:
        """As a block of server-sent events."""
        if self._sse is None:
            self._sse = block(self.event.type, self.json, self.event.cursor)
        return self._sse


Join = Callable[[Sequence[Entry]], Any]
"""Makes one piece of entries, at least one."""


def as_blocks(entries: Sequence[Entry]) -> bytes:
    """Entries as server-sent events."""
    return b"".join([entry.sse for entry in entries])


def as_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Entries as they are."""
    return list(entries)


def as_frame(entries: Sequence[Entry]) -> str:
    """Entries as one frame of a WebSocket."""
    return events_frame([entry.json for entry in entries], entries[-1].event.cursor)


class Group:
    """Listeners who want the same in the same form; what they are given is made once."""

    def __init__(self, hub: Hub, wanted: Wanted, join: Join) -> None:
        self._hub = hub
        self._wanted = wanted
        self._join = join
        self._made: dict[int, tuple[Any, int]] = {}
        self.count = 0
        self.waiting: list[asyncio.Future[tuple[Any, int]]] = []

    def chunk(self, start: int) -> tuple[Any, int]:
        """What is wanted of the ring from place *start* on, and the place behind it."""
        made = self._made.get(start)
        if made is None:
            made = self._made[start] = self._hub.chunk(start, self._wanted, self._join)
        return made

    def joined(self, events: Sequence[Event | Gap]) -> Any:
        """What is wanted of events that do not stand in the ring; empty for none."""
        entries = [one for event in events if (one := of_interest(Entry(event), self._wanted))]
        return self._join(entries) if entries else b""

    def leave(self, future: asyncio.Future[tuple[Any, int]]) -> None:
        """One that waited has gone."""
        self.waiting = [one for one in self.waiting if one is not future]

    def publish(self, start: int) -> None:
        """Hand the news, which begin at *start*, to all that wait for some."""
        self._made.clear()
        if not self.waiting:
            return
        news = self.chunk(start)
        if not news[0] and news[1] == self._hub.head:
            return
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(news)


class Listener:
    """One who reads on from a cursor. Not more than one may ``take`` at a time.

    Attributes:
        dropped: How often it was too slow and lost its place.
    """

    def __init__(self, hub: Hub, group: Group, cursor: str) -> None:
        self._hub = hub
        self._group = group
        self._place: int | None = None
        self._cursor = cursor
        self._is_waiting = False
        self.dropped = 0

    @property
    def cursor(self) -> str:
        """Where a reader goes on that has read all that was taken."""
        return self._hub.cursor if self._is_waiting else self._cursor

    async def take(self) -> Any:
        """What is new, as one piece that may be shared; waits until there is something.

        What the ring does not keep any more is read from the engine, page by page; then the
        ring takes over, with nothing lost and nothing twice. Of a listener that was in the
        ring and so slow that its place is gone, the piece is a gap, and the next one begins
        with what comes then.
        """
        hub = self._hub
        while True:
            if self._place is None:
                self._place = hub.locate(self._cursor)
            if self._place is None:
                data = await self._catch_up()
            elif self._place < hub.first:
                data = self._drop()
            elif self._place < hub.head:
                data, self._place = self._group.chunk(self._place)
                self._cursor = hub.cursor_at(self._place)
                if not data:
                    await asyncio.sleep(0)
            else:
                data = await self._wait()
            if data:
                return data

    async def _catch_up(self) -> Any:
        """A page from the engine; where there is none, the ring is about to have it."""
        found, following = await self._hub.page(self._cursor)
        if following == self._cursor and not found:
            await self._hub.news()
        self._cursor = following
        return self._group.joined(found)

    async def _wait(self) -> Any:
        future = self._hub.loop.create_future()
        self._group.waiting.append(future)
        self._is_waiting = True
        try:
            data, self._place = await future
        finally:
            self._is_waiting = False
            if future.cancelled():
                self._group.leave(future)
        self._cursor = self._hub.cursor_at(self._place)
        return data

    def _drop(self) -> Any:
        hub = self._hub
        lost = Cursor.parse(self._cursor)
        self._place, self._cursor = hub.head, hub.cursor
        self.dropped += 1
        gap = Gap(lost.n + 1, Cursor.parse(hub.cursor).n, hub.cursor, "slow")
        return self._group.joined([gap])


def of_interest(entry: Entry, wanted: Wanted) -> Entry | None:
    """The entry, with those of its facts that are wanted; None where none is."""
    event = entry.event
    if isinstance(event, Gap):
        return entry
    facts = wanted.facts(event)
    if not facts:
        return None
    if len(facts) == len(event.facts):
        return entry
    return Entry(wanted.narrowed(event, facts))
