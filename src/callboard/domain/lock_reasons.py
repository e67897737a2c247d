"""Why a resource is not to be had, or an owner waits: in words."""

from __future__ import annotations

from collections.abc import Sequence

from callboard.domain.lock import LockHolder, LockReasons, Resource, WaitGraph

LINE_SHOWN = 10


def of_resource(found: Resource) -> LockReasons:
    """Who holds it, and who is in line."""
    reasons = [_holding(holder) for holder in found.holders]
    for place, wait in enumerate(found.waiting[:LINE_SHOWN], 1):
        others = [name for name in wait.resources if name != found.name]
        reasons.append(
            f"{place}. in line: {wait.owner}, {wait.mode}, priority {wait.priority}, since "
            f"{wait.since:%H:%M:%S} UTC"
            + (f", who also wants {', '.join(others)}" if others else "")
            + (", and is not overtaken any more" if wait.has_reserved else "")
        )
    if found.waiting_count > LINE_SHOWN:
        reasons.append(f"{found.waiting_count} are in line in all.")
    blockers = tuple(holder.owner for holder in found.holders)
    return LockReasons(subject=found.name, reasons=tuple(reasons), blockers=blockers)


def of_covered(name: str, others: Sequence[Resource]) -> LockReasons:
    """Nobody holds or wants it under this name: what else that is held overlaps it."""
    held = [(other.name, holder) for other in others for holder in other.holders]
    reasons = [f"{other} overlaps it: {_holding(holder)}" for other, holder in held]
    return LockReasons(
        subject=name,
        reasons=tuple(reasons) or (f"{name} is free, and waits for nobody.",),
        blockers=tuple(holder.owner for _, holder in held),
    )


def of_owner(token: str, graph: WaitGraph) -> LockReasons:
    """Whom it waits for, over what, and whether that one waits itself."""
    waiting = {edge.waiter for edge in graph.edges}
    edges = [edge for edge in graph.edges if edge.waiter == token]
    reasons = [
        f"{token} waits for {edge.resource or 'a task'}: {edge.owner} has it"
        + (" (any one of several would do)" if edge.is_any else "")
        + (", and waits itself" if edge.owner in waiting else "")
        for edge in edges
    ]
    return LockReasons(
        subject=token,
        reasons=tuple(reasons) or (f"{token} waits for nobody.",),
        blockers=tuple(edge.owner for edge in edges),
    )


def _holding(holder: LockHolder) -> str:
    agent = f" (agent {holder.agent})" if holder.agent else ""
    handed = ", handed over and not taken up yet" if holder.is_handed else ""
    return (
        f"{holder.owner}{agent} holds it {holder.mode}, since {holder.since:%H:%M:%S} until "
        f"{holder.deadline:%H:%M:%S} UTC{handed}"
    )
