"""How locks, waits and deadlocks look to people."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from callboard.cli.render import Column, age, clock, fields, heading, table, when
from callboard.domain.lock import Incident, Lock, LockHolder, LockWait, Resource, WaitGraph

_COLUMNS: Final = (
    Column("RESOURCE"),
    Column("MODE", drop=3),
    Column("HELD BY", shrinks=True),
    Column("AGENT", drop=5, shrinks=True),
    Column("SINCE", drop=4, right=True),
    Column("UNTIL", drop=2, right=True),
    Column("WAITING", drop=1, right=True),
)
_HOLDERS: Final = (
    Column("OWNER"),
    Column("AGENT", drop=3, shrinks=True),
    Column("MODE", drop=2),
    Column("TIMES", drop=5, right=True),
    Column("FENCE", right=True),
    Column("SINCE", drop=4, right=True),
    Column("UNTIL", drop=1, right=True),
)
_LINE: Final = (
    Column("OWNER"),
    Column("AGENT", drop=3, shrinks=True),
    Column("MODE", drop=2),
    Column("PRIORITY", drop=4, right=True),
    Column("SINCE", right=True),
    Column("GIVES UP", drop=1, right=True),
)
_WAITS: Final = (
    Column("OWNER"),
    Column("AGENT", drop=3, shrinks=True),
    Column("MODE", drop=2),
    Column("WANTS", shrinks=True),
    Column("PRIORITY", drop=4, right=True),
    Column("SINCE", right=True),
    Column("GIVES UP", drop=1, right=True),
)
_EDGES: Final = (
    Column("WAITS", shrinks=True),
    Column("FOR", shrinks=True),
    Column("OVER", drop=1, shrinks=True),
    Column("", drop=2),
)
_ACQUIRE: Final = "callboard locks acquire db:users --lease 10m"


def granted(lock: Lock) -> Iterator[str | Text]:
    """What was acquired, and how it is given back."""
    names = ", ".join(lock.resources)
    yield f"Locked {names} until {clock(lock.deadline)}, under fence {lock.fence}."
    words = shlex.join(lock.resources)
    yield Text(
        f"Give back: callboard locks release {words} --owner {lock.owner}",
        style="dim",
    )


def listing(found: Sequence[Resource], prefix: str, width: int) -> Iterator[str | Text]:
    """Resources, a line each."""
    if not found:
        behind = f" of what begins with {prefix}" if prefix else ""
        yield f"Nothing{behind} is locked or waited for."
        yield Text(f"Lock something: {_ACQUIRE}", style="dim")
        return
    yield from table(_COLUMNS, map(_row, found), width)


def _row(resource: Resource) -> tuple[object, ...]:
    holders, waiting = resource.holders, resource.waiting_count or ""
    if not holders:
        return (resource.name, "", Text("nobody", style="dim"), "", "", "", waiting)
    first = holders[0]
    owner, agent = first.owner, first.agent
    if len(holders) > 1 or resource.limit:
        most = f" of {resource.limit}" if resource.limit else ""
        owner, agent = f"{len(holders)}{most}: {owner}" + (", …" if holders[1:] else ""), ""
    until = max(holder.deadline for holder in holders)
    since = min(holder.since for holder in holders)
    return (resource.name, first.mode, owner, agent, age(since), clock(until), waiting)


def whole(resource: Resource, width: int) -> Iterator[str | Text]:
    """Holders of one resource, and its line."""
    if not resource.holders and not resource.waiting:
        yield f"Nobody holds {resource.name}, and nobody waits for it under this name."
        command = shlex.join(["callboard", "locks", "why", resource.name])
        yield Text(f"A pattern may cover it: {command}", style="dim")
        return
    permits = f"{len(resource.holders)} of {resource.limit} taken" if resource.limit else ""
    yield from fields([("resource", resource.name), ("permits", permits)])
    yield heading("Held by", "" if resource.holders else "nobody")
    if resource.holders:
        yield from table(_HOLDERS, map(_holder, resource.holders), width)
    if resource.waiting:
        more = resource.waiting_count - len(resource.waiting)
        yield heading("In line", f"{more:,} more behind these" if more else "")
        rows = (_in_line(wait) for wait in resource.waiting)
        yield from table(_LINE, rows, width)


def _holder(holder: LockHolder) -> tuple[object, ...]:
    until = f"{clock(holder.deadline)}{' not taken up' if holder.is_handed else ''}"
    return (
        holder.owner,
        holder.agent,
        holder.mode,
        holder.count,
        holder.fence,
        age(holder.since),
        until,
    )


def _in_line(wait: LockWait) -> tuple[object, ...]:
    since = f"{age(wait.since)}{' reserved' if wait.has_reserved else ''}"
    return (
        wait.owner,
        wait.agent,
        wait.mode,
        wait.priority,
        since,
        clock(wait.deadline),
    )


def waits(found: Sequence[LockWait], width: int) -> Iterator[str | Text]:
    """Waits, a line each."""
    if not found:
        yield "Nobody waits for a lock."
        yield Text("What is held: callboard locks list", style="dim")
        return
    rows = (
        (
            wait.owner,
            wait.agent,
            wait.mode,
            ", ".join(wait.resources),
            wait.priority,
            f"{age(wait.since)}{' reserved' if wait.has_reserved else ''}",
            clock(wait.deadline),
        )
        for wait in found
    )
    yield from table(_WAITS, rows, width)


def graph(found: WaitGraph, owner: str | None, width: int) -> Iterator[str | Text]:
    """Edges, a line each."""
    if not found.edges:
        yield f"{owner} waits for nobody." if owner else "Nobody waits for anybody."
        yield Text("Deadlocks that were found: callboard locks incidents", style="dim")
        return
    rows = (
        (edge.waiter, edge.owner, edge.resource, "any of several" if edge.is_any else "")
        for edge in found.edges
    )
    yield from table(_EDGES, rows, width)
    if not found.is_whole:
        yield Text("There are more: give an owner, or a higher --limit.", style="yellow")


def incidents(found: Sequence[Incident]) -> Iterator[str | Text]:
    """Deadlocks, a block each."""
    if not found:
        yield "No deadlock was found in the last seven days."
        yield Text("Who waits for whom: callboard locks graph", style="dim")
        return
    for incident in found:
        yield heading(f"Incident {incident.id}", when(incident.at))
        yield from fields(
            [
                ("  cycle", " -> ".join([*incident.cycle, *incident.cycle[:1]])),
                ("  over", ", ".join(incident.resources)),
                ("  agents", ", ".join(incident.agents)),
                ("  victim", incident.victim),
                ("  reason", "two upgrades" if incident.reason == "upgrade" else ""),
            ]
        )
