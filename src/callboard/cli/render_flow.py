"""How keys of tasks look to people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from callboard.cli.failures import counted
from callboard.cli.render import Column, fields, heading, span, table, when
from callboard.domain.flow import FlowKey, FlowLimits

_COLUMNS: Final = (
    Column("KEY", shrinks=True),
    Column("RUNNING", right=True),
    Column("AT ONCE", right=True),
    Column("RATE", right=True),
    Column("WAITING", right=True),
    Column("WEIGHT", drop=2, right=True),
    Column("STATE", drop=1),
)
HOLDERS_SHOWN: Final = 10


def listing(keys: Sequence[FlowKey], width: int) -> Iterator[str | Text]:
    """A line a key."""
    if not keys:
        yield "Nothing is set for any key. Limit one: callboard flow limit KEY --concurrency 5"
        yield Text(
            "Tasks name their keys: callboard tasks add KIND PAYLOAD --concurrency-key KEY",
            style="dim",
        )
        return
    rows = (
        (
            key.key,
            "" if key.is_pattern else key.running,
            _slots(key.own),
            _rate(key.own),
            "" if key.is_pattern else key.waiting,
            "" if key.own.weight is None else f"{key.own.weight:g}",
            "paused" if key.own.is_paused else "each" if key.is_pattern else "open",
        )
        for key in keys
    )
    yield from table(_COLUMNS, rows, width)


def whole(key: FlowKey) -> Iterator[str | Text]:
    """What holds for one key, and who has it."""
    holds = key.holds
    state = "paused" if holds.is_paused else "open"
    yield heading(key.key, "each key that begins so" if key.is_pattern else state)
    if holds.is_paused:
        yield f"Nothing with it is claimed. Resume it: callboard flow resume {key.key}"
    yield from fields(
        [
            ("at once", _slots(holds) or "no limit"),
            ("rate", _rate(holds) or "no limit"),
            ("burst", holds.burst if holds.interval else None),
            ("weight", 1 if holds.weight is None else f"{holds.weight:g}"),
            ("running", None if key.is_pattern else key.running),
            ("waiting", None if key.is_pattern else key.waiting),
            ("next claim", None if key.next_at is None else when(key.next_at)),
        ]
    )
    if key.holders:
        yield heading("Held by", counted(key.running, "task"))
        for holder in key.holders[:HOLDERS_SHOWN]:
            yield f"  {holder.board}/{holder.task}"
        if key.running > HOLDERS_SHOWN:
            yield f"  and {key.running - HOLDERS_SHOWN} more"


def _slots(limits: FlowLimits) -> str:
    if limits.concurrency is None:
        return ""
    return "unlimited" if limits.concurrency == math.inf else f"{limits.concurrency:,.0f}"


def _rate(limits: FlowLimits) -> str:
    if limits.interval is None:
        return ""
    if limits.interval == 0:
        return "unlimited"
    if limits.interval < 1:
        return f"{1 / limits.interval:.4g} a second"
    return f"1 in {span(limits.interval)}"
