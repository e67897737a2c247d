"""How dead letters look to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from rich.text import Text

from callboard.cli import render_tasks
from callboard.cli.render import Column, age, fields, heading, json_text, table, when
from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.task import Attempt, Task
from callboard.services.dead_letters import DeadLetter

_COLUMNS: Final = (
    Column("ID"),
    Column("KIND", shrinks=True),
    Column("WHY", shrinks=True),
    Column("TRIES", drop=3, right=True),
    Column("AGE", drop=1, right=True),
    Column("MESSAGE", drop=2, shrinks=True),
)


def listing(
    found: Sequence[DeadLetter], total: int, board: str, width: int
) -> Iterator[str | Text]:
    """A line a dead letter."""
    if not total:
        yield f"No dead letters on board {board!r}: no task failed for good."
        return
    if not found:
        yield f"None of {total:,} dead letters on board {board!r} match."
        return
    rows = (
        (one.id, one.kind, one.why, one.attempts, age(one.buried_at), one.message) for one in found
    )
    yield from table(_COLUMNS, rows, width)
    if len(found) < total:
        yield f"{len(found):,} of {total:,}; more with --limit."


def whole(task: Task, attempts: Sequence[Attempt]) -> Iterator[str | Text]:
    """A dead letter: what it was to do, and how each attempt went."""
    yield from fields(
        [
            ("id", task.id),
            ("board", task.board),
            ("kind", task.kind),
            ("title", task.title),
            ("failed", when(task.since)),
            ("attempts", task.attempt),
            ("failures", task.failures),
            ("crashes", task.crashes),
            ("because of", task.cause),
        ]
    )
    if task.payload != msgspec.Raw(b"null"):
        yield heading("Payload")
        yield "\n".join(f"  {line}" for line in json_text(task.payload, 4_000).splitlines())
    yield from render_tasks.failures(attempts, task)
    where = "" if task.board == DEFAULT_BOARD else f" --board {task.board}"
    yield Text(f"Put it back: callboard dlq requeue {task.id}{where}", style="dim")
