"""Between candidates and decisions and the rows and replies of the functions that choose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from callboard.domain.strategy import Assignment, Candidate, Decision, recorded, scored
from callboard.domain.task import at_ms

REASONS: Final[Mapping[str, str]] = {
    "task_not_found": "there is no such task on the board",
    "not_ready": "it is {fact}, so it waits for no agent",
    "kind_paused": "tasks of kind {fact} are paused on the board",
    "at_limit": "the board's limit {fact} leaves no room",
    "changed": "whoever was chosen could not be given it any more: {fact}",
}


def assignment_of(board: str, task: str, reply: Sequence[Any]) -> Assignment:
    """What a strategy is asked, from a reply of ``task_candidates``."""
    kind, key, priority, required = reply[4]
    return Assignment(
        task=task,
        board=board,
        kind=kind.decode(),
        key=key.decode(),
        priority=int(priority),
        required=int(required),
        candidates=tuple(_candidate(*row) for row in reply[5]),
        at=at_ms(float(reply[1])),
    )


def _candidate(agent: bytes, *values: Any) -> Candidate:
    held, reserved, limit, ready, health, waiting, waited, runs, mean, usual = values[:10]
    done, failed, recent_done, recent_failed, response = values[10:15]
    cpu, memory, weight, priority, was_last = values[15:]
    return Candidate(
        id=agent.decode(),
        held=int(held),
        reserved=int(reserved),
        limit=int(limit),
        ready=int(ready),
        health=float(health),
        waiting=bool(waiting),
        waited=float(waited) / 1_000,
        run_time=_seconds(mean),
        usual_time=_seconds(usual),
        runs=int(runs),
        done=int(done),
        failed=int(failed),
        recent_done=int(recent_done),
        recent_failed=int(recent_failed),
        cpu=float(cpu),
        memory=float(memory),
        response_time=_seconds(response),
        weight=float(weight),
        priority=int(float(priority)),
        was_last=bool(was_last),
    )


def _seconds(ms: bytes) -> float | None:
    return float(ms) / 1_000 if ms else None


def decision_of(
    board: str, strategy: str, values: Sequence[Any], now_ms: float, by: str
) -> Decision:
    """A decision from the six values that ``task_assign`` answers for a task."""
    task, status, agent, fact, considered, scores = (
        v.decode() if isinstance(v, bytes) else v for v in values
    )
    if status == "reserved":
        agent, fact = fact, ""
    return Decision(
        task=task,
        board=board,
        agent=agent,
        status=status,
        strategy=strategy,
        reason=REASONS.get(status, "{fact}").format(fact=fact),
        considered=int(considered),
        candidates=scored(scores),
        at=at_ms(now_ms),
        by=by,
    )


def decisions_of(entries: Iterable[Any], wanted: Mapping[str, str]) -> list[Decision]:
    """The decisions in a reply of XREVRANGE that have all of these values."""
    found = [recorded(fields) for _, fields in entries]
    return [d for d in found if all(getattr(d, name) == value for name, value in wanted.items())]
