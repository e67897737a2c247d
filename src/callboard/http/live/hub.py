"""One follower of a namespace's events for all who listen in this process.

Each event is encoded once and kept in a bounded ring. Who listens has a place in the ring and
is given what is behind it, as one piece of bytes that all with the same wish share. News is
handed out at once after a silence, and at most every tick else.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from callboard.domain.event import Cursor, Event, Gap
from callboard.engine.outage import Witness
from callboard.exceptions import CallboardError, EngineError, InvalidArgument
from callboard.http.live.listeners import (
    Entry,
    Group,
    Join,
    Listener,
    as_blocks,
    of_interest,
)
from callboard.http.live.outlets import Outlet, Outlets
from callboard.http.live.settings import LiveSettings
from callboard.http.live.wanted import Wanted
from callboard.services.events import Events

POLL_SECONDS: Final = 1.0
"""The backstop of the follower: a doorbell is only a hint and may be missed."""

PAUSE_SECONDS: Final = 0.5
"""How long to wait for an engine that cannot be reached."""

LINGER_SECONDS: Final = 10.0
"""How long the ring is kept up after the last listener left: most come back."""

SCAN_MAX: Final = 2_000
"""Entries that one look for matching ones passes over, so that the loop turns."""

PAGE: Final = 100
"""Entries that a page from the engine has, where the ring does not reach back so far: each may
tell of a thousand tasks."""

STEP: Final = 250
"""Entries that the follower reads at once."""

_log = logging.getLogger("callboard.live")

Heed = Callable[[Event | None], None]
"""Told of each event on a task; None where events were missed."""


class Hub:
    """Follows a namespace's events while somebody listens.

    Attributes:
        settings: Its bounds.
        outlets: The streams and sockets of the namespace.
        sockets: The socket of each agent's process that has one here, by agent and instance.
        leaving: Of agents whose stream broke, by board, agent and instance: to be set where
            they come back, so that their tasks are not given to others.
        first: Place of the oldest entry that is kept.
        head: Place behind the newest.
        cursor: Behind the newest event that was read.
        is_following: It runs; it stops some seconds after the last listener left.
    """

    def __init__(self, events: Events, settings: LiveSettings) -> None:
        self._events = events
        self._entries: list[Entry] = []
        self._bytes = 0
        self._groups: dict[tuple[Wanted, Join], Group] = {}
        self._watches: dict[tuple[str, str], list[Heed]] = {}
        self._follower: asyncio.Task[None] | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._users = 0
        self._is_ready = asyncio.Event()
        self._news: list[asyncio.Future[None]] = []
        self._outage = Witness("The live events")
        self._replays = asyncio.Semaphore(settings.replays_max)
        self._chores: set[asyncio.Task[None]] = set()
        self.settings = settings
        self.outlets = Outlets(settings)
        self.sockets: dict[tuple[str, str], Outlet] = {}
        self.leaving: dict[tuple[str, str, str], list[asyncio.Event]] = {}
        self._covered: tuple[str, int] = ("", 0)
        self._since = 0
        self._published_at = 0.0
        self.first = 0
        self.cursor = ""
        self.published = 0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it runs in."""
        return asyncio.get_running_loop()

    @property
    def head(self) -> int:
        """The place behind the newest entry."""
        return self.first + len(self._entries)

    @property
    def kept(self) -> tuple[int, int]:
        """How many entries are kept, and their bytes."""
        return len(self._entries), self._bytes

    @property
    def listeners(self) -> int:
        """How many listen or watch."""
        return self._users

    @property
    def is_idle(self) -> bool:
        """Nobody listens, and no stream or socket is open."""
        return not (self._users or len(self.outlets) or self._chores)

    @property
    def is_following(self) -> bool:
        """The events are being followed."""
        return self._follower is not None

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the background; ``close`` cancels it and waits for it."""
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    async def close(self) -> None:
        """End all streams and sockets, and stop following."""
        await self.outlets.close()
        chores = list(self._chores)
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
        self._forget()

    # Listening

    @asynccontextmanager
    async def listen(
        self, wanted: Wanted, join: Join = as_blocks, cursor: str = ""
    ) -> AsyncIterator[Listener]:
        """Listen on from behind *cursor*, or from what comes now."""
        async with self._used():
            key = wanted, join
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = Group(self, wanted, join)
            group.count += 1
            try:
                yield Listener(self, group, cursor or self.cursor)
            finally:
                group.count -= 1
                if not group.count:
                    del self._groups[key]

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Callable[[str, str, Heed], Callable[[], None]]]:
        """Gives a function that has one told of each event on a task; it answers what ends that."""
        async with self._used():
            yield self._watch

    def _watch(self, board: str, task: str, heed: Heed) -> Callable[[], None]:
        key = board, task
        self._watches.setdefault(key, []).append(heed)

        def end() -> None:
            heeds = self._watches.get(key, [])
            if heed in heeds:
                heeds.remove(heed)
            if not heeds:
                self._watches.pop(key, None)

        return end

    @asynccontextmanager
    async def _used(self) -> AsyncIterator[None]:
        self._users += 1
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        try:
            if self._follower is None:
                self._follower = asyncio.create_task(self._follow(), name="callboard-live")
            await self._is_ready.wait()
            yield
        finally:
            self._users -= 1
            if not self._users and self._follower is not None:
                self._lingering = self.loop.call_later(LINGER_SECONDS, self._stop)

    def _stop(self) -> None:
        self._lingering = None
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
        self._forget()

    def _forget(self) -> None:
        self.first = self.head
        self._entries, self._bytes = [], 0
        self._is_ready.clear()

    # Where a cursor stands

    def locate(self, cursor: str) -> int | None:
        """The place behind *cursor*; None where the ring does not reach to it."""
        at = Cursor.parse(cursor)
        incarnation, behind = self._covered
        if at.incarnation != incarnation or not behind <= at.n <= Cursor.parse(self.cursor).n:
            return None
        low = max(self._since - self.first, 0)
        return self.first + bisect.bisect_right(self._entries, at.n, low, key=lambda one: one.n)

    def cursor_at(self, place: int) -> str:
        """The cursor behind the entry before *place*."""
        index = place - self.first
        if 0 < index <= len(self._entries):
            return self._entries[index - 1].event.cursor
        return self.cursor

    async def news(self) -> None:
        """Return when something was published, or after a second."""
        future = self.loop.create_future()
        self._news.append(future)
        await asyncio.wait([future], timeout=POLL_SECONDS)

    async def page(self, cursor: str) -> tuple[list[Event | Gap], str]:
        """Events behind *cursor* from the engine, and the next cursor; waits for the engine."""
        while True:
            try:
                async with self._replays:
                    return await self._events.read(cursor, limit=PAGE)
            except EngineError as error:
                self._outage.failed(error)
            except InvalidArgument:  # the engine has lost its newest events
                with suppress(EngineError):
                    now = await self._events.cursor()
                    return [Gap(0, 0, now, "incarnation")], now
            await asyncio.sleep(PAUSE_SECONDS)

    # What is given out

    def chunk(self, start: int, wanted: Wanted, join: Join) -> tuple[Any, int]:
        """What is wanted from place *start* on, as one piece, and the place behind it."""
        found: list[Entry] = []
        size, most = 0, self.settings.chunk_bytes
        index = start - self.first
        end = min(len(self._entries), index + SCAN_MAX)
        entries = self._entries
        while index < end and size < most:
            one = of_interest(entries[index], wanted)
            if one is not None:
                found.append(one)
                size += len(one.json)
            index += 1
        return (join(found) if found else b""), self.first + index

    # Following

    async def _follow(self) -> None:
        cursor = ""
        while True:
            try:
                with await self._events.listen() as bell:
                    if not cursor:
                        cursor = await self._events.cursor()
                        self._begin(cursor)
                    while True:
                        cursor = await self._step(cursor, bell)
                        self._outage.answered()
            except EngineError as error:
                self._outage.failed(error)
            except CallboardError as error:
                _log.warning("The live events begin anew: %s", error)
                cursor = await self._anew(cursor)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _step(self, cursor: str, bell: Any) -> str:
        found, following = await self._events.read(cursor, limit=STEP)
        if found or following != cursor:
            self._publish(found, following)
        if following == cursor:
            await bell.get(POLL_SECONDS)
        if len(found) < STEP:
            pause = self._published_at + self.settings.tick - self.loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
        return following

    async def _anew(self, cursor: str) -> str:
        """Go on at the head where the engine has lost what was read already."""
        try:
            now = await self._events.cursor()
        except CallboardError:
            return cursor
        self._publish([Gap(0, 0, now, "incarnation")], now)
        return now

    def _begin(self, cursor: str) -> None:
        at = Cursor.parse(cursor)
        self.cursor, self._covered, self._since = cursor, (at.incarnation, at.n), self.head
        self._is_ready.set()

    def _publish(self, events: Sequence[Event | Gap], cursor: str) -> None:
        start = self.head
        for event in events:
            entry = Entry(event)
            self._entries.append(entry)
            self._bytes += entry.size
            if self._watches:
                self._tell(event)
            if isinstance(event, Gap):
                at = Cursor.parse(event.cursor)
                self._covered, self._since = (at.incarnation, at.n), self.head
        self.cursor = cursor
        self.published += len(events)
        self._published_at = self.loop.time()
        for group in list(self._groups.values()):
            group.publish(start)
        self._trim()
        news, self._news = self._news, []
        for future in news:
            if not future.done():
                future.set_result(None)

    def _trim(self) -> None:
        over = max(len(self._entries) - self.settings.ring_events, 0)
        for entry in self._entries[:over]:
            self._bytes -= entry.size
        while self._bytes > self.settings.ring_bytes and over < len(self._entries):
            self._bytes -= self._entries[over].size
            over += 1
        if over:
            last = self._entries[over - 1]
            del self._entries[:over]
            self.first += over
            if self.first > self._since:
                self._covered = self._covered[0], last.n

    def _tell(self, event: Event | Gap) -> None:
        if isinstance(event, Gap):
            told = [heed for heeds in self._watches.values() for heed in heeds]
            for heed in told:
                heed(None)
            return
        for fact in event.facts:
            for heed in tuple(self._watches.get((event.board, fact.id), ())):
                heed(event)
