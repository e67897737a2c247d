"""How boards look to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from callboard.cli.failures import counted
from callboard.cli.render import Column, bar, fields, heading, span, table, when
from callboard.domain.board import Board, BoardSettings, Counts
from callboard.domain.task import QueueSizes

_COLUMNS: Final = (
    Column("BOARD"),
    Column("WAITING", right=True),
    Column("HELD", right=True),
    Column("DONE", right=True),
    Column("FAILED", right=True),
    Column("DEAD", drop=1, right=True),
    Column("STATE", drop=2),
)


def listing(boards: Sequence[Board], width: int) -> Iterator[str | Text]:
    """A line a board."""
    if not boards:
        yield "No boards yet. A board comes with its first task: callboard tasks add KIND PAYLOAD"
        return
    yield from table(_COLUMNS, (_row(board) for board in boards), width)


def _row(board: Board) -> tuple[object, ...]:
    counts = board.counts
    waiting = counts.unfinished - counts.held
    state = "paused" if board.is_paused else "some kinds paused" if board.paused_kinds else "open"
    return board.name, waiting, counts.held, counts.done, counts.failed, counts.dead_letters, state


def whole(board: Board, width: int) -> Iterator[str | Text]:
    """A board's bar, its counts behind the bar, its settings."""
    state = "paused" if board.is_paused else "open"
    yield heading(board.name, f"{counted(board.counts.total, 'task')}, {state}")
    if board.is_paused:
        yield f"Nothing can be claimed. Resume it: callboard boards resume {board.name}"
    if board.paused_kinds:
        yield f"Paused kinds: {', '.join(board.paused_kinds)}"
    if not board.counts.total:
        yield f"No tasks. Add one: callboard tasks add KIND PAYLOAD --board {board.name}"
    yield from bar(_parts(board.counts), width)
    yield from fields(_more(board))
    settings = list(_settings(board.settings))
    if settings:
        yield heading("Settings")
        yield from fields(settings)


def _parts(counts: Counts) -> dict[str, int]:
    return {
        "done": counts.done,
        "held": counts.held,
        "assigned": counts.assigned,
        "pending": counts.pending,
        "input_required": counts.input_required,
        "scheduled": counts.scheduled,
        "blocked": counts.blocked,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
    }


def queues(board: str, found: QueueSizes) -> list[str]:
    """Waiting tasks by priority, the highest first."""
    if not found.total:
        return [f"Nothing waits on board {board}. See all of it: callboard boards show {board}"]
    about = "about " if found.is_estimate else ""
    names = ("urgent", "critical", "high", "normal", "low")
    return [f"{name:<9} {about}{getattr(found, name):,}" for name in names]


def _more(board: Board) -> list[tuple[str, object]]:
    counts = board.counts
    letters = f"{counts.dead_letters:,}: callboard dlq list --board {board.name}"
    return [
        ("backing off", counts.retrying or None),
        ("never submitted", f"{counts.unresolved:,} dependencies" if counts.unresolved else None),
        ("dead letters", letters if counts.dead_letters else None),
        ("lanes", counts.lanes or None),
        ("waiting workers", counts.waiters or None),
        ("since", when(board.created_at)),
    ]


def _settings(settings: BoardSettings) -> Iterator[tuple[str, object]]:
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if value is not None:
            is_time = name in ("step", "unresolved_after", "finished_for", "dead_for")
            yield name.replace("_", " "), span(value) if is_time else _plain(value)


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
