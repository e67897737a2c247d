"""What the engine keeps of locks, as values: holdings, waits, incidents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from callboard.domain.lock import MODE_OF, Incident, LockHolder, LockWait, Resource, WaitEdge
from callboard.domain.task import at_ms

WAITING = frozenset("wr")


def pairs_of(reply: Any) -> Iterable[tuple[bytes, bytes]]:
    """The fields of a hash, in either protocol's shape."""
    return reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)


def holder_of(owner: bytes, raw: bytes) -> LockHolder:
    """A holding: ``mode|mark|count|first|fence|deadline|since|bell|op|agent``."""
    mode, mark, count, _, fence, deadline, since, _, _, agent = raw.decode().split("|")
    return LockHolder(
        owner=owner.decode(),
        agent=agent,
        mode=MODE_OF[mode],
        count=int(count),
        fence=int(fence),
        since=at_ms(int(since)),
        deadline=at_ms(int(deadline)),
        is_handed=mark == "h",
    )


def is_fence_of(raw: bytes, fence: int, now_ms: int) -> bool:
    """Whether a holding was given this fence, was taken up, and its lease still runs."""
    fields = raw.split(b"|")
    first, last, deadline = (int(field) for field in fields[3:6])
    return fields[1] != b"h" and first <= fence <= last and now_ms < deadline


def wait_of(owner: bytes, raw: bytes) -> LockWait | None:
    """A wait for locks; None where it is over, its grant not yet taken up."""
    fields = raw.decode().split("|")
    if fields[0] not in WAITING:
        return None
    return LockWait(
        owner=owner.decode(),
        agent=fields[10],
        mode=MODE_OF[fields[1]],
        resources=tuple(fields[12].split(",")),
        priority=int(fields[3]),
        since=at_ms(int(fields[4]) / 1_000),
        deadline=at_ms(int(fields[6])),
        has_reserved=fields[0] == "r",
    )


def resource_of(row: Sequence[Any]) -> Resource:
    """A row of ``lock_read``: name, hash, how many are in line, the first of them."""
    name, raw, waiting_count, line = row
    holders, limit = [], b""
    for owner, holding in pairs_of(raw):
        if owner == b"~":
            limit = holding.split(b"|")[0]
        else:
            holders.append(holder_of(owner, holding))
    waits = [wait_of(owner, wait) for owner, wait in pairs_of(line) if wait]
    return Resource(
        name=name.decode(),
        holders=tuple(sorted(holders, key=lambda holder: holder.fence)),
        waiting=tuple(wait for wait in waits if wait is not None),
        waiting_count=int(waiting_count),
        limit=int(limit) if limit else None,
    )


def incident_of(entry: Sequence[Any]) -> Incident:
    """An entry of the stream of incidents."""
    entry_id, raw = entry
    fields = {name.decode(): value.decode() for name, value in pairs_of(raw)}

    def lines(name: str) -> tuple[str, ...]:
        return tuple(fields[name].split("\n")) if fields[name] else ()

    return Incident(
        id=entry_id.decode().partition("-")[0],
        at=at_ms(int(fields["at"])),
        victim=fields["victim"],
        reason=fields["reason"],
        cycle=lines("owners"),
        agents=lines("agents"),
        resources=lines("resources"),
        edges=tuple(
            WaitEdge(waiter, owner, what)
            for waiter, what, owner in (line.split("|") for line in lines("edges"))
        ),
    )
