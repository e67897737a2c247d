"""The forms that all nouns share: tables that fit, fields, bars, ages, JSON for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from callboard.cli.failures import printable

GAP: Final = 2
SHRUNK: Final = 12
"""A column that may shrink keeps this many cells; below, another column is left out."""

BAR_WIDTH: Final = 50

STYLES: Final[Mapping[str, str]] = {
    "done": "green",
    "failed": "red",
    "cancelled": "dim",
    "claimed": "yellow",
    "in_progress": "yellow",
    "held": "yellow",
    "pending": "bold",
    "assigned": "cyan",
    "blocked": "blue",
    "scheduled": "blue",
    "input_required": "magenta",
    "active": "green",
    "starting": "cyan",
    "busy": "yellow",
    "suspect": "yellow",
    "not_consuming": "yellow",
    "draining": "cyan",
    "maintenance": "cyan",
    "error": "red",
    "lost": "red",
    "inactive": "dim",
    "paused": "yellow",
}
"""How a status looks, of a task, an agent or a board."""

_BLOCKS: Final[Mapping[str, str]] = {
    "done": "█",
    "held": "▓",
    "assigned": "▒",
    "pending": "░",
    "scheduled": "·",
    "blocked": "▪",
    "input_required": "?",
    "failed": "✗",
    "cancelled": "-",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        drop: Where there is no room, columns go by this number, highest first; 0 stays.
        shrinks: It may be cut; the others, ids above all, never are.
    """

    title: str
    drop: int = 0
    shrinks: bool = False
    right: bool = False


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], width: int) -> list[Text]:
    """Rows under titles, within *width* cells as far as what may not be cut allows."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max([cell_len(column.title), *(row[i].cell_len for row in cells)])
        for i, column in enumerate(columns)
    ]
    kept = _fit(columns, widths, width)
    titles = [Text(column.title, style="bold dim") for column in columns]
    return [_line(columns, row, widths, kept) for row in (titles, *cells)]


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    text = one_line(str(value))
    return Text(text, style=STYLES.get(text, ""))


def _fit(columns: Sequence[Column], widths: list[int], width: int) -> list[int]:
    """Positions of the columns that stay; *widths* of those that shrink is made smaller."""
    kept = list(range(len(columns)))
    while True:
        excess = sum(widths[i] for i in kept) + GAP * (len(kept) - 1) - width
        spare = sum(max(widths[i] - SHRUNK, 0) for i in kept if columns[i].shrinks)
        droppable = [i for i in kept if columns[i].drop]
        if excess <= spare or not droppable:
            break
        kept.remove(max(droppable, key=lambda i: columns[i].drop))
    for i in kept:
        if columns[i].shrinks and excess > 0:
            cut = min(excess, max(widths[i] - SHRUNK, 0))
            widths[i] -= cut
            excess -= cut
    return kept


def _line(
    columns: Sequence[Column], row: Sequence[Text], widths: Sequence[int], kept: Sequence[int]
) -> Text:
    line = Text()
    for i in kept:
        cell = row[i].copy()
        if cell.cell_len > widths[i]:
            cell = Text(set_cell_size(cell.plain, widths[i] - 1).rstrip() + "…", style=cell.style)
        padding = " " * (widths[i] - cell.cell_len)
        if columns[i].right:
            line.append(padding).append_text(cell)
        else:
            line.append_text(cell).append("" if i == kept[-1] else padding)
        line.append("" if i == kept[-1] else " " * GAP)
    return line


def fields(pairs: Iterable[tuple[str, object]]) -> list[Text]:
    """Names and values under each other; those without a value are left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "", (), [], {})]
    room = max((len(name) for name, _ in shown), default=0)
    lines = []
    for name, value in shown:
        line = Text().append(f"{name:{room}}  ", style="dim")
        first, *rest = _paragraphs(value)
        lines.append(line.append_text(first))
        lines += [Text(" " * (room + GAP)).append_text(more) for more in rest]
    return lines


def _paragraphs(value: object) -> list[Text]:
    if isinstance(value, Text):
        return [value]
    parts = printable(str(value)).splitlines() or [""]
    return [Text(part, style=STYLES.get(part, "")) for part in parts]


def heading(title: str, note: str = "") -> Text:
    """A line that names what follows."""
    return Text().append(one_line(title), style="bold").append(note and f"  {note}", style="dim")


def bar(counts: Mapping[str, int], width: int) -> list[Text]:
    """How many of a whole stand where: one bar, and below it what its parts mean."""
    if not any(counts.values()):
        return []
    line = Text()
    for (name, _), share in zip(
        counts.items(), _shares(counts, min(width, BAR_WIDTH)), strict=True
    ):
        line.append(_BLOCKS.get(name, "#") * share, style=STYLES.get(name, ""))
    return [line, *_legend(counts, width)]


def _shares(counts: Mapping[str, int], cells: int) -> list[int]:
    """Cells for each count: at least one where there is any, the largest takes what is over."""
    total = sum(counts.values())
    shares = [max(round(cells * count / total), 1) if count else 0 for count in counts.values()]
    shares[shares.index(max(shares))] += cells - sum(shares)
    return shares


def _legend(counts: Mapping[str, int], width: int) -> list[Text]:
    lines = [Text()]
    for name, count in counts.items():
        if not count:
            continue
        part = f"{_BLOCKS.get(name, '#')} {count:,} {name}"
        if lines[-1].cell_len and lines[-1].cell_len + GAP + cell_len(part) > width:
            lines.append(Text())
        lines[-1].append("  " if lines[-1].cell_len else "").append(
            part, style=STYLES.get(name, "")
        )
    return lines


def one_line(text: str) -> str:
    """The text on one line, without what a terminal would act on."""
    return " ".join(printable(text).split())


def status(word: str) -> Text:
    """A status in its colour."""
    return Text().append(word, style=STYLES.get(word, ""))


def age(at: datetime | None, now: datetime | None = None) -> str:
    """How long ago, in the largest unit that says enough."""
    return "" if at is None else span(((now or datetime.now(UTC)) - at).total_seconds())


def span(seconds: float) -> str:
    """A time span in its largest unit, a second one where the first is small."""
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms" if seconds > 0 else "0s"
    for unit, size, lower, lower_size in _SPANS:
        if seconds >= size:
            whole, rest = divmod(int(seconds), size)
            more = rest // lower_size
            return f"{whole}{unit}{more}{lower}" if more and whole < 10 else f"{whole}{unit}"
    return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.1f}s"


_SPANS: Final = (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1))


def clock(at: datetime | None, *, seconds: bool = True) -> str:
    """A time of the local zone, with the day where it is not today."""
    if at is None:
        return ""
    local = at.astimezone()
    time = local.strftime("%H:%M:%S" if seconds else "%H:%M")
    return (
        time
        if local.date() == datetime.now(UTC).astimezone().date()
        else f"{local:%Y-%m-%d} {time}"
    )


def when(at: datetime | None) -> str:
    """A time, and how long ago or ahead that is."""
    if at is None:
        return ""
    ahead = (at - datetime.now(UTC)).total_seconds()
    return f"{clock(at)} ({f'in {span(ahead)}' if ahead > 0 else f'{span(-ahead)} ago'})"


def size(count: int) -> str:
    """A number of bytes."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def json_text(value: Any, most: int = 2_000) -> str:
    """A JSON value as people read it; what is longer than *most* characters is cut, and says so."""
    encoded = bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)
    text = encoded.decode()
    if len(text) > 60:
        text = msgspec.json.format(text, indent=2)
    if len(text) <= most:
        return text
    return f"{text[:most]}… ({len(encoded):,} bytes; all of it with --json)"
