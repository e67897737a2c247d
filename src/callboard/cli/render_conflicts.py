"""How conflicts look to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from rich.text import Text

from callboard.cli.render import (
    Column,
    age,
    clock,
    fields,
    heading,
    json_text,
    one_line,
    table,
    when,
)
from callboard.domain.conflict import Ballot, Conflict, ConflictStats, Party, Resolution

_COLUMNS: Final = (
    Column("CONFLICT"),
    Column("STATUS"),
    Column("OVER", shrinks=True),
    Column("PARTIES", shrinks=True),
    Column("SINCE", drop=1, right=True),
    Column("VERDICT", drop=2, shrinks=True),
)


def listing(found: Sequence[Conflict], width: int) -> Iterator[str | Text]:
    """Conflicts, a line each."""
    if not found:
        yield "No such conflicts. Report one: callboard conflicts report KIND SUBJECT PARTY PARTY"
        return
    rows = (
        (
            one.id,
            one.status,
            _over(one),
            ", ".join(one.agents),
            age(one.timestamp),
            _verdict(one),
        )
        for one in found
    )
    yield from table(_COLUMNS, rows, width)


def reported(conflict: Conflict) -> Iterator[str | Text]:
    """What was reported, and what can be done about it."""
    yield f"Conflict {conflict.id} over {_over(conflict)}: {', '.join(conflict.agents)}."
    yield Text(f"Decide it: callboard conflicts resolve {conflict.id}", style="dim")


def whole(conflict: Conflict, width: int) -> Iterator[str | Text]:
    """All of one conflict."""
    yield from fields(
        [
            ("conflict", conflict.id),
            ("over", _over(conflict)),
            ("board", conflict.board),
            ("status", conflict.status),
            ("why", conflict.reason),
            ("reported", when(conflict.timestamp)),
            ("by", conflict.reported_by),
            ("arbiter", conflict.arbiter),
            ("until", when(conflict.deadline)),
            ("context", json_text(conflict.context) if conflict.context is not None else ""),
        ]
    )
    if conflict.resolution is not None:
        yield heading("Verdict")
        yield from fields(_lines_of(conflict.resolution))
    yield heading("Parties")
    yield from fields((f"  {party.name}", _brought(party)) for party in conflict.parties)
    if conflict.ballot is not None:
        yield from _ballot(conflict.ballot, conflict.electorate)
    yield heading("Trail")
    for entry in conflict.trail:
        line = Text().append(f"  {clock(entry.at)}", style="dim").append(f"  {entry.what}")
        line.append(f"  {one_line(entry.by)}" if entry.by else "")
        if entry.inputs is not None:
            line.append(f"  {one_line(json_text(entry.inputs, 200))}", style="dim")
        yield line


def verdict(conflict: str, resolution: Resolution) -> Iterator[str | Text]:
    """What was decided, and what was done about it."""
    yield f"Conflict {conflict}: {resolution.winner or 'nobody'} wins, by {resolution.type}."
    yield from fields([("because", resolution.reason), ("done", resolution.enforced)])


def stats(found: ConflictStats) -> Iterator[str | Text]:
    """How many there are."""
    yield from fields(
        [
            ("conflicts", f"{found.total:,}"),
            ("open", f"{found.active:,}"),
            ("resolved", f"{found.resolved:,}"),
            ("by type", _counts(found.by_type)),
            ("by strategy", _counts(found.by_strategy)),
        ]
    )


def _ballot(ballot: Ballot, electorate: Sequence[str]) -> Iterator[str | Text]:
    share = f", {ballot.threshold:g} of all confidence" if ballot.rule == "consensus" else ""
    yield heading(
        "Ballot",
        f"{ballot.rule}{share}: {len(ballot.votes)} of {ballot.members} voted, "
        f"{ballot.quorum} have to; a tie: {ballot.tie}",
    )
    yield from fields(
        (f"  {one.voter}", f"{one.candidate or 'none'} ({one.confidence:g})")
        for one in ballot.votes
    )
    left = sorted({*electorate} - {one.voter for one in ballot.votes})
    if left:
        yield Text(f"  not yet: {', '.join(left[:20])}{' …' if len(left) > 20 else ''}", "dim")


def _lines_of(resolution: Resolution) -> Iterator[tuple[str, object]]:
    yield "  winner", resolution.winner or "nobody"
    yield "  strategy", resolution.type
    yield "  because", one_line(resolution.reason)
    yield "  done", resolution.enforced
    yield "  at", when(resolution.timestamp)
    yield "  by", resolution.by


def _over(conflict: Conflict) -> str:
    about = f" ({conflict.about})" if conflict.about else ""
    return one_line(f"{conflict.type} {conflict.subject}{about}")


def _verdict(conflict: Conflict) -> str:
    if conflict.resolution is not None:
        return f"{conflict.resolution.winner or 'nobody'} by {conflict.resolution.type}"
    return f"lies with {conflict.arbiter}" if conflict.arbiter else conflict.reason


def _brought(party: Party) -> str:
    facts = []
    if party.priority is not None:
        facts.append(f"priority {party.priority:g}")
    if party.requested_at is not None:
        facts.append(f"asked {clock(party.requested_at)}")
    if party.rev is not None:
        facts.append(f"revision {party.rev}")
    if party.owner is not None:
        facts.append(f"owner {party.owner}")
    if party.value is not msgspec.UNSET:
        facts.append(f"value {one_line(json_text(party.value, 200))}")
    return ", ".join(facts) or "brings nothing"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
