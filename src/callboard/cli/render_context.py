"""How contexts, their changes, and what agents are doing look to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.text import Text

from callboard.cli.render import (
    STYLES,
    Column,
    age,
    clock,
    fields,
    json_text,
    one_line,
    size,
    table,
    when,
)
from callboard.domain.context import Activity, Change, Context, ContextSummary

_COLUMNS: Final = (
    Column("CONTEXT"),
    Column("FIELDS", right=True),
    Column("SIZE", drop=2, right=True),
    Column("CHANGED", right=True),
    Column("BY", drop=1, shrinks=True),
    Column("EXPIRES", drop=3),
    Column("REVISION", drop=4, right=True),
)
_STATE_COLUMNS: Final = (
    Column("AGENT"),
    Column("STATUS"),
    Column("TASK", shrinks=True),
    Column("SINCE", right=True),
    Column("LIVE", drop=1),
)


def listing(found: Sequence[ContextSummary], width: int) -> Iterator[str | Text]:
    """Contexts, a line each."""
    if not found:
        yield "No contexts yet. Make one: callboard context set PROJECT NAME=VALUE"
        return
    rows = (
        (
            one.project,
            f"{one.fields:,}",
            size(one.bytes),
            age(one.updated_at),
            one.updated_by,
            when(one.expires_at),
            one.rev,
        )
        for one in found
    )
    yield from table(_COLUMNS, rows, width)


def whole(context: Context) -> Iterator[str | Text]:
    """A context with its fields."""
    yield from fields(
        [
            ("context", context.project),
            ("revision", context.rev or "0: written by another program"),
            ("changed", when(context.updated_at)),
            ("by", context.updated_by),
            ("expires", when(context.expires_at)),
        ]
    )
    if not context.fields:
        yield Text("It has none of these fields.", style="dim")
        return
    yield ""
    shown = sorted(context.fields.items())
    yield from fields((name, Text(_shown(value))) for name, value in shown)


def change_line(change: Change) -> Text:
    """A change on one line: what was written and what was removed."""
    line = Text().append(clock(change.at) or "now", style="dim").append("  ")
    line.append(change.project or "all", style="bold")
    line.append(f"  {change.kind}", style="yellow" if change.kind == "gap" else "")
    values = change.context.fields if change.context else {}
    for name in change.changed:
        line.append(f"  {name}={_shown(values.get(name))}" if name in values else f"  {name}")
    for name in change.removed:
        line.append(f"  -{name}", style="red")
    if change.all_fields and change.context:
        line.append(f"  {len(values)} fields")
    if change.by:
        line.append(f"  by {one_line(change.by)}", style="dim")
    return line.append(f"  #{change.rev}" if change.rev else "", style="dim")


def states(found: Sequence[Activity], agent_type: str, width: int) -> Iterator[str | Text]:
    """What the agents of a type say, a line each."""
    if not found:
        yield f"No agent of type {agent_type} has said what it does."
        yield Text("It says so by: callboard context state AGENT idle", style="dim")
        return
    rows = (
        (
            one.agent,
            Text(one.status.value, style=STYLES.get(one.status.value, "green")),
            one.current_task or "",
            age(one.updated_at),
            "yes" if one.is_live else "no",
        )
        for one in found
    )
    yield from table(_STATE_COLUMNS, rows, width)


def _shown(value: Any) -> str:
    return one_line(value if isinstance(value, str) else json_text(value, 500))
