"""What a client makes of several requests, or of a stream, in a way of its own."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, cast
from urllib.parse import urlencode

import msgspec

from callboard.dispatch.client import HttpFailure
from callboard.domain.bounds import check_text
from callboard.domain.event import Cursor, Event, Gap
from callboard.domain.ordering import sort_batch
from callboard.domain.task import TaskSpec
from callboard.engine import codec
from callboard.exceptions import CallboardError, EngineError, EngineUnavailable
from callboard.operations.events import EventEntry
from callboard.sdk.remote.asking import asking
from callboard.sdk.remote.errors import failed
from callboard.sdk.remote.preparing import with_id
from callboard.sdk.remote.restoring import event_of
from callboard.sdk.remote.streams import PAUSE_MAX, PAUSE_SECONDS, told
from callboard.sdk.remote.transport import Transport
from callboard.services.events import READ_MAX, Events
from callboard.services.tasks import TaskHandle

SLOW: Final = "slow"
"""The reason of a gap that a stream made, not the engine."""

PROBLEM: Final = "problem"
"""The last event of a stream whose coordinator failed."""

_log = logging.getLogger("callboard.remote")


class OwnTasks:
    """What of a board's tasks is made here of several requests."""

    board: str
    _transport: Transport

    async def submit_many(
        self, specs: Iterable[TaskSpec], *, created_by: str = ""
    ) -> list[TaskHandle]:
        """Add tasks, in order of dependency; answers a handle each, in the order given."""
        check_text("created_by", created_by)
        given = [with_id(spec) for spec in specs]
        sizes = {spec.id: codec.row_bytes(codec.row_of(spec)) for spec in given}
        ordered = sort_batch(given) if any(spec.depends_on for spec in given) else given
        existed: dict[str, bool] = {}
        for batch in codec.in_batches(ordered, lambda spec: sizes[spec.id]):
            try:
                await self._submit_some(batch, created_by, existed)
            except CallboardError as error:
                added = sum(not there for there in existed.values())
                if added:
                    error.details = {**error.details, "submitted": added}
                raise
        handle = cast("Any", self)
        return [TaskHandle(handle, str(spec.id), existed[str(spec.id)]) for spec in given]

    async def _submit_some(
        self, batch: list[TaskSpec], created_by: str, existed: dict[str, bool]
    ) -> None:
        submitted = await asking("tasks.submit_many")(
            self._transport,
            {"specs": batch, "created_by": created_by},
            board=self.board,
            is_repeatable=True,
        )
        existed |= {one.id: one.existed for one in submitted}


class OwnEvents:
    """Events as they come: one stream in place of a bell and many reads."""

    _transport: Transport

    async def follow(
        self,
        cursor: str | None = None,
        *,
        since: datetime | None = None,
        board: str | None = None,
        types: Iterable[str] = (),
    ) -> AsyncGenerator[Event | Gap, None]:
        """Yield events as they come, for ever: from *cursor*, from *since*, or from now."""
        if board is not None:  # A journal is read page by page.
            journal = super().follow(cursor, since=since, board=board, types=types)  # type: ignore[misc]
            async with aclosing(journal) as events:
                async for event in events:
                    yield event
            return
        patterns = [types] if isinstance(types, str) else list(types)
        place = cursor
        if place is not None:
            Cursor.parse(place)
        elif since is not None:
            place = await cast("Events", self).cursor_at(since)
        else:
            place = await cast("Events", self).cursor()
        pause = PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        while True:
            query = urlencode([("cursor", place), *(("types", one) for one in patterns)])
            try:
                async with (
                    self._transport.stream(f"/events?{query}") as stream,
                    aclosing(told(stream)) as blocks,
                ):
                    async for one in blocks:
                        heard_at, pause = loop.time(), PAUSE_SECONDS
                        if one.name == PROBLEM:
                            continue  # The stream ends with it; coming back tells more.
                        if one.data:
                            event = event_of(msgspec.json.decode(one.data, type=EventEntry))
                            if isinstance(event, Gap) and event.reason == SLOW:
                                for missed in await self._missed(place, event, patterns):
                                    yield missed
                            else:
                                yield event
                        place = one.id or place
            except HttpFailure as failure:
                fault: CallboardError = failed(failure, "events", self._transport.place)
            except EngineError as error:
                fault = error
            else:
                fault = EngineError("The coordinator ended the stream of events.")
                heard_at = loop.time()
            if self._transport.is_closed:
                raise EngineUnavailable(
                    "The connection was closed while events were followed."
                ) from fault
            if loop.time() - heard_at > self._transport.patience:
                raise fault
            _log.info("The stream of events is lost, and asked for again: %s", fault)
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause = min(pause * 2, PAUSE_MAX)

    async def _missed(self, cursor: str, gap: Gap, types: list[str]) -> list[Event | Gap]:
        """What the stream left out since it was read too slowly: it is kept, and read."""
        found: list[Event | Gap] = []
        at = cursor
        while (left := gap.last - Cursor.parse(at).n) > 0:
            page, following = await cast("Events", self).read(
                at, types=types, limit=min(left, READ_MAX)
            )
            found += page
            if following == at:
                break
            at = following
        return found
