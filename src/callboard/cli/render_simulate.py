"""How simulations look to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from callboard.cli.failures import counted
from callboard.cli.render import Column, heading, table
from callboard.simulator.comparison import Row, Spread, Table
from callboard.simulator.loads import Load

_COLUMNS: Final = (
    Column("STRATEGY"),
    Column("× ORACLE", right=True),
    Column("RANGE", drop=6, right=True),
    Column("MEAN", drop=4, right=True),
    Column("P50", drop=3, right=True),
    Column("P95", right=True),
    Column("P99", drop=2, right=True),
    Column("MAX WAIT", drop=5, right=True),
    Column("FAIRNESS", drop=7, right=True),
    Column("DECISIONS", drop=8, right=True),
    Column("STOLEN", drop=9, right=True),
    Column("FAILED", drop=10, right=True),
)
_NOTE: Final = (
    "Times in seconds, medians over the seeds. × ORACLE: p95 as a multiple of",
    "that of a scheduler that knows every speed and every task's work.",
)
_LOAD_COLUMNS: Final = (Column("LOAD"), Column("WHAT", shrinks=True))


def comparison(tables: Sequence[Table], width: int) -> Iterator[str | Text]:
    """A table a load, the best strategy first, under the oracle that each is held against."""
    for at, found in enumerate(tables):
        if at:
            yield ""
        yield heading(found.load, found.summary)
        yield Text(_size(found), style="dim")
        first, *rest = found.rows
        rest.sort(key=lambda row: row.ratio.median)
        yield from table(_COLUMNS, map(_row, (first, *rest)), width)
    yield ""
    for line in _NOTE:
        yield Text(line, style="dim")
    lost = sum(m.unfinished for found in tables for row in found.rows for m in row.seeds)
    if lost:
        yield f"{counted(lost, 'task')} could not be done: no agent with what they need was left."


def loads(found: Sequence[Load], width: int) -> Iterator[str | Text]:
    """Loads, a line each."""
    yield from table(_LOAD_COLUMNS, ((load.name, load.summary) for load in found), width)
    yield ""
    yield Text("Try one: callboard simulate run --load fresh --compare", style="dim")


def _size(found: Table) -> str:
    seeds = len(found.rows[0].seeds)
    return (
        f"{counted(found.agents, 'agent')}, {counted(found.tasks, 'task')}, "
        f"{counted(seeds, 'seed')}"
    )


def _row(row: Row) -> tuple[str, ...]:
    return (
        row.strategy,
        f"{row.ratio.median:.2f}",
        f"{row.ratio.low:.2f}–{row.ratio.high:.2f}",
        *map(_seconds, (row.mean, row.p50, row.p95, row.p99, row.max_wait)),
        f"{row.fairness.median:.2f}",
        f"{row.decisions.median:,.0f}",
        f"{sum(m.stolen for m in row.seeds):,}",
        f"{sum(m.failed for m in row.seeds):,}",
    )


def _seconds(spread: Spread) -> str:
    """Three digits that say something."""
    value = spread.median
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
