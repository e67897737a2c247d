"""Events: the stream's cursors and pages; to follow them there is ``/events``."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Final

import msgspec

from callboard.domain.event import Event, Fact, Gap
from callboard.operations.operation import operations_of
from callboard.services.events import Events


class EventEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event, or a gap: the notice that events are missing.

    Attributes:
        type: As ``task:completed``; ``gap`` for a gap.
        cursor: Resume behind it with this.
        n: The event's number: each is one more than the last.
        facts: What one call made true, in order.
        first, last: Of a gap: the numbers of the first and last event that are missing.
        reason: Of a gap: ``retention`` or ``incarnation``.
    """

    type: str
    cursor: str
    n: int = 0
    board: str = ""
    at: datetime | None = None
    by: str = ""
    facts: tuple[Fact, ...] = ()
    first: int = 0
    last: int = 0
    reason: str = ""


class EntryPage(msgspec.Struct, frozen=True):
    """Events in order, and where to go on."""

    events: list[EventEntry]
    cursor: str


def entry(event: Event | Gap) -> EventEntry:
    """The event or gap as it is sent."""
    return EventEntry(**{name: getattr(event, name) for name in event.__struct_fields__})


def _page(page: tuple[list[Event | Gap], str]) -> EntryPage:
    return EntryPage([entry(event) for event in page[0]], page[1])


_operation = operations_of("events")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)

OPERATIONS: Final = (
    _read("cursor", Events.cursor, path="/events/cursor", answers="cursor"),
    _read("cursor_at", Events.cursor_at, path="/events/cursor-at", answers="cursor"),
    _read("read", Events.read, path="/events/page", answers="page", result=EntryPage, render=_page),
)
