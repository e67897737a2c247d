"""How recurring tasks look to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from rich.text import Text

from callboard.cli.render import Column, fields, heading, one_line, span, table, when
from callboard.domain.recurring import Definition, Recurring

_COLUMNS: Final = (
    Column("NAME"),
    Column("SCHEDULE", shrinks=True),
    Column("KIND", drop=2, shrinks=True),
    Column("NEXT"),
    Column("FIRED", drop=1, right=True),
    Column("LAST", drop=3),
)


def listing(found: Sequence[Recurring], width: int) -> Iterator[str | Text]:
    """A line each."""
    if not found:
        yield (
            "No recurring tasks yet. Create one: callboard recurring create NAME KIND "
            '--cron "0 3 * * *"'
        )
        return
    rows = (
        (
            one.name,
            _schedule(one.definition),
            one.definition.kind,
            _state(one),
            one.fired,
            one.last_outcome,
        )
        for one in found
    )
    yield from table(_COLUMNS, rows, width)


def whole(one: Recurring) -> Iterator[str | Text]:
    """All of one."""
    definition, template = one.definition, one.definition.template
    yield heading(one.name, "paused" if one.is_paused else "")
    if one.is_paused:
        yield f"It fires nothing. Resume it: callboard recurring resume {one.name}"
    last = None if one.last_at is None else f"{when(one.last_at)}, {one.last_outcome}"
    yield from fields(
        [
            ("schedule", _schedule(definition)),
            ("next", _state(one)),
            ("last", last),
            ("not fired", one.last_error or None),
            ("last task", one.last_task),
            ("fired", one.fired),
            ("kind", definition.kind),
            ("payload", one_line(bytes(definition.payload).decode())),
            ("board", definition.board),
            ("title", template.title or None),
            ("missed ticks", definition.catch_up),
            ("overlap", definition.overlap),
            ("start", None if definition.start is None else when(definition.start)),
            ("end", None if definition.end is None else when(definition.end)),
            ("keys", _keys(definition)),
            ("created", f"{when(one.created_at)}{f' by {one.created_by}' * bool(one.created_by)}"),
        ]
    )


def ticks(found: Sequence[datetime], timezone: str) -> Iterator[str | Text]:
    """Moments in the schedule's own zone, and in UTC where that is another."""
    if not found:
        yield "There are no more ticks: its end has passed."
    zone = ZoneInfo(timezone)
    for tick in found:
        own = f"{tick.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}"
        yield own if timezone == "UTC" else f"{own}  {tick.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _schedule(definition: Definition) -> str:
    if definition.cron is not None:
        zone = "" if definition.timezone == "UTC" else f" {definition.timezone}"
        return f"{definition.cron}{zone}"
    return f"every {span(definition.every or 0)}"


def _state(one: Recurring) -> str:
    if one.is_paused:
        return "paused"
    stuck = ", not fired" if one.last_error else ""
    return "ended" if one.next_at is None else when(one.next_at) + stuck


def _keys(definition: Definition) -> str | None:
    template = definition.template
    keys = (template.concurrency_key, template.rate_key, template.fairness_key)
    words = ("concurrency", "rate", "fairness")
    said = [f"{word} {key}" for word, key in zip(words, keys, strict=True) if key]
    return ", ".join(said) or None
