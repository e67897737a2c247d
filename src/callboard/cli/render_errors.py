"""How errors look to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.text import Text

from callboard.cli.render import STYLES, Column, age, fields, heading, one_line, table, when
from callboard.domain.error import Cascade, ErrorEntry, ErrorGroup, Recorded

SHOWN_DIGITS: Final = 12
MINUTES_SHOWN: Final = 10

_SEVERITIES: Final[Mapping[str, str]] = {
    "low": "dim",
    "medium": "",
    "high": "yellow",
    "critical": "bold red",
}
_COLUMNS: Final = (
    Column("AGE", right=True),
    Column("SEVERITY"),
    Column("ERROR"),
    Column("TASK", drop=2),
    Column("BOARD", drop=4),
    Column("AGENT", drop=3),
    Column("MESSAGE", shrinks=True),
)
_GROUP_COLUMNS: Final = (
    Column("FINGERPRINT"),
    Column("COUNT", right=True),
    Column("LAST", right=True),
    Column("FIRST", drop=2, right=True),
    Column("STATE", drop=3),
    Column("SEVERITY", drop=1),
    Column("ERROR"),
    Column("MESSAGE", shrinks=True),
)
_COUNTER_COLUMNS: Final = (Column("COUNT", right=True), Column("ERROR", shrinks=True))
_CASCADE_COLUMNS: Final = (Column("AGE", right=True), Column("TYPES", shrinks=True))


def listing(found: Sequence[ErrorEntry], width: int) -> Iterator[str | Text]:
    """Errors, a line each."""
    if not found:
        yield "No errors: nothing failed in the last 7 days, as far as this asks."
        yield Text("What workers report of failed tasks comes here by itself.", style="dim")
        return
    rows = (
        (
            age(entry.at),
            severity(entry.severity),
            entry.error.name,
            entry.task,
            entry.project,
            entry.agent,
            one_line(entry.error.message),
        )
        for entry in found
    )
    yield from table(_COLUMNS, rows, width)


def groups(found: Sequence[ErrorGroup], width: int) -> Iterator[str | Text]:
    """Groups, a line each."""
    if not found:
        yield "No groups of errors, as far as this asks."
        yield Text("Record one: callboard errors record ApiError 'status 502'", style="dim")
        return
    rows = (
        (
            group.fingerprint[:SHOWN_DIGITS],
            group.count,
            age(group.last_seen),
            age(group.first_seen),
            group.state,
            severity(group.severity),
            group.name,
            one_line(group.sample),
        )
        for group in found
    )
    yield from table(_GROUP_COLUMNS, rows, width)
    yield Text(
        f"One of them: callboard errors show {found[0].fingerprint[:SHOWN_DIGITS]}", style="dim"
    )


def whole(group: ErrorGroup, newest: Sequence[ErrorEntry], width: int) -> Iterator[str | Text]:
    """All of one group, and its newest errors."""
    yield from fields(
        [
            ("error", group.name),
            ("fingerprint", group.fingerprint),
            ("state", group.state),
            ("by", group.by),
            ("note", one_line(group.note)),
            ("severity", severity(group.severity)),
            ("count", f"{group.count:,}"),
            ("reopened", group.reopened or None),
            ("first seen", when(group.first_seen)),
            ("last seen", when(group.last_seen)),
            ("component", group.component),
            ("message", one_line(group.sample)),
        ]
    )
    busiest = list(group.per_minute.items())[-MINUTES_SHOWN:]
    if busiest:
        yield heading("By minute", f"the last {len(busiest)} with any")
        yield from fields((f"  {at.astimezone():%H:%M}", count) for at, count in busiest)
    if newest:
        yield heading("Newest")
        yield from listing(newest, width)


def counters(found: Mapping[str, int], width: int) -> Iterator[str | Text]:
    """Counts by name."""
    if not found:
        yield "No errors were counted yet."
        return
    yield from table(_COUNTER_COLUMNS, ((f"{n:,}", name) for name, n in found.items()), width)


def cascades(found: Sequence[Cascade], width: int) -> Iterator[str | Text]:
    """Cascades, a line each."""
    if not found:
        yield "No cascades: never three types of errors within five minutes."
        return
    rows = (
        (
            age(cascade.at),
            ", ".join(f"{name} ({cascade.error_counts[name]})" for name in cascade.error_types),
        )
        for cascade in found
    )
    yield from table(_CASCADE_COLUMNS, rows, width)


def recorded(answer: Recorded) -> Iterator[str | Text]:
    """What became of an error that was recorded."""
    often = "the first of its kind" if answer.is_new else f"{answer.count:,} of its kind by now"
    yield f"Recorded as {answer.severity}: {often} ({answer.fingerprint[:SHOWN_DIGITS]})."


def severity(word: str) -> Text:
    """A severity in its colour."""
    return Text(word, style=_SEVERITIES.get(word, STYLES.get(word, "")))
