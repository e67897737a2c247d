"""The coordination metrics at one moment: their shape, and how they follow from the facts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from callboard.domain.metric import percentiles

# What is read


class BoardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine says of one board.

    Attributes:
        counts: Tasks by where they stand, and ``minute_done`` and the like: ended in the
            last 60 seconds.
        durations: Of the newest done tasks: kind, ms of the accepted attempt, ms from the
            submission to its begin.
    """

    counts: Mapping[str, int]
    kinds: Mapping[str, int]
    priorities: Mapping[str, int]
    pending: Mapping[str, int]
    durations: Sequence[tuple[str, float, float]]


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured from outside: the call's milliseconds, the engine's bytes and load."""

    latency: float
    memory: int
    cpu: float | None


# What follows


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """How long accepted attempts took, in milliseconds, of the newest done tasks."""

    mean: float
    p50: float
    p95: float
    p99: float
    tasks: int


class TaskMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks that are there, and how they end.

    Attributes:
        task_throughput: Tasks done in the last 60 seconds, all of them counted.
        avg_task_duration: Milliseconds, of the newest done tasks, at most 1,000 a board.
        tasks_by_priority: Of the tasks looked at, by priority.
        tasks_by_type: Of the tasks looked at, by kind.
        tasks_looked_at: How many those two are of: all unfinished and finished tasks of small
            boards; of large ones the newest finished, and those next in line.
        pending_by_type: Tasks that may be claimed, by kind, all of them.
        durations_by_type: Of the newest done tasks, by kind.
        failed_last_minute: Tasks that ended as failed in the last 60 seconds. An attempt that
            is tried again is none.
        retrying: Tasks that wait for their next attempt.
    """

    total_tasks: int = 0
    active_tasks: int = 0
    completed_tasks: int = 0
    failed_tasks: int = 0
    cancelled_tasks: int = 0
    avg_task_duration: float = 0.0
    task_throughput: int = 0
    tasks_by_priority: dict[str, int] = {}
    tasks_by_type: dict[str, int] = {}
    pending_tasks: int = 0
    blocked_tasks: int = 0
    retrying: int = 0
    dead_letters: int = 0
    failed_last_minute: int = 0
    pending_by_type: dict[str, int] = {}
    durations: Durations | None = None
    durations_by_type: dict[str, Durations] = {}
    tasks_looked_at: int = 0


class AgentMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Who is there, and how busy.

    Attributes:
        agent_utilization: Held tasks per declared capacity of those active, in per cent.
    """

    total_agents: int = 0
    active_agents: int = 0
    idle_agents: int = 0
    busy_agents: int = 0
    agent_utilization: float = 0.0
    avg_tasks_per_agent: float = 0.0
    agents_by_type: dict[str, int] = {}


class ResourceMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """The resources that locks are about: those that are locked, or waited for.

    Attributes:
        resource_utilization: Locked ones in per cent of those known.
        avg_lock_duration: Milliseconds that the locks now held are held for.
        lock_contention: Owners that wait for a lock.
        deadlock_count: Deadlocks that were found and are kept.
    """

    total_resources: int = 0
    locked_resources: int = 0
    free_resources: int = 0
    resource_utilization: float = 0.0
    avg_lock_duration: float = 0.0
    lock_contention: int = 0
    deadlock_count: int = 0


class CoordinationMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What agents say to each other and quarrel about.

    Attributes:
        messages_sent: Messages that are kept, whoever has read them.
        messages_received: Of those, how many their agents have read.
        message_latency: Milliseconds that the oldest unread message of each inbox waits, the
            mean of the inboxes looked at.
        work_stealing_events: Thefts in the newest 1,000 events.
        circuit_breaker_trips: Trips in the newest 1,000 events.
    """

    messages_sent: int = 0
    messages_received: int = 0
    message_latency: float = 0.0
    conflicts_detected: int = 0
    conflicts_resolved: int = 0
    work_stealing_events: int = 0
    circuit_breaker_trips: int = 0
    open_breakers: int = 0


class PerformanceMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What it costs.

    Attributes:
        coordination_latency: Milliseconds that the call for this snapshot took, both ways.
        scheduling_latency: Milliseconds from when a task was submitted to when its accepted
            attempt began, the mean of the newest done tasks.
        memory_usage: Bytes that the engine uses.
        cpu_usage: Per cent of one core that the engine used since this client's last
            snapshot; None in its first.
        error_rate: Of the tasks that ended in the last 60 seconds, the share that failed.
    """

    coordination_latency: float = 0.0
    scheduling_latency: float = 0.0
    memory_usage: int = 0
    cpu_usage: float | None = None
    error_rate: float = 0.0


_GROUPS: Final = ("task", "agent", "resource", "coordination", "performance")


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The coordination metrics at one moment, each derived from the structures of the fact.

    Attributes:
        board: Whose tasks they are of; empty for all boards.
        is_partial: There are more boards or agents than were looked at.
    """

    at: datetime
    task_metrics: TaskMetrics
    agent_metrics: AgentMetrics
    resource_metrics: ResourceMetrics
    coordination_metrics: CoordinationMetrics
    performance_metrics: PerformanceMetrics
    board: str = ""
    is_partial: bool = False

    def to_source(self) -> dict[str, Any]:
        """The documented shape: five groups in camelCase, as plain JSON values."""
        source: dict[str, Any] = {"timestamp": self.at.isoformat(timespec="milliseconds")}
        source["timestamp"] = source["timestamp"].replace("+00:00", "Z")
        for group in _GROUPS:
            values = msgspec.to_builtins(getattr(self, f"{group}_metrics"))
            source[f"{group}Metrics"] = {_camel(name): value for name, value in values.items()}
        return source

    def numbers(self) -> dict[str, float]:
        """Each number by its field's name, ``task_throughput`` and so on; durations in parts."""
        found: dict[str, float] = {}
        for group in _GROUPS:
            values = msgspec.to_builtins(getattr(self, f"{group}_metrics"))
            for name, value in values.items():
                if isinstance(value, int | float):
                    found[name] = float(value)
        durations = self.task_metrics.durations
        if durations is not None:
            for part in ("p50", "p95", "p99"):
                found[f"task_duration_{part}"] = getattr(durations, part)
        return found


def _number_names() -> frozenset[str]:
    found = {f"task_duration_{part}" for part in ("p50", "p95", "p99")}
    for group in msgspec.structs.fields(Snapshot):
        if group.name.endswith("_metrics"):
            found |= {
                field.name
                for field in msgspec.structs.fields(group.type)
                if field.type in (int, float, float | None)
            }
    return frozenset(found)


NUMBERS: Final = _number_names()
"""All names that a snapshot may have numbers by."""


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def source_name(name: str) -> str:
    """A field's name for one as the source writes it: ``taskThroughput`` is ``task_throughput``."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: "_" + m[1].lower(), name)


def durations_of(values: Sequence[float]) -> Durations | None:
    """Mean and percentiles; None of nothing."""
    found = percentiles(values)
    if found is None:
        return None
    mean = math.fsum(values) / len(values)
    return Durations(mean=mean, p50=found.p50, p95=found.p95, p99=found.p99, tasks=len(values))


# How it follows


def snapshot_of(
    at: datetime,
    boards: Sequence[BoardFacts],
    counts: Mapping[str, int],
    agents: Sequence[str],
    cost: Cost,
    *,
    board: str = "",
    is_partial: bool = False,
) -> Snapshot:
    """Put a snapshot together.

    Args:
        counts: What the engine counted of the namespace.
        agents: A row an agent: type, 1 where it may claim, tasks held, capacity, with bars.
    """
    tasks = _tasks(boards)
    return Snapshot(
        at=at,
        board=board,
        task_metrics=tasks,
        agent_metrics=_agents(counts, agents),
        resource_metrics=_resources(counts),
        coordination_metrics=_coordination(counts),
        performance_metrics=_performance(boards, tasks, cost),
        is_partial=is_partial,
    )


def _tasks(boards: Sequence[BoardFacts]) -> TaskMetrics:
    counts = _summed(board.counts for board in boards)
    took = [(kind, ms) for board in boards for kind, ms, _ in board.durations]
    of_kind: dict[str, list[float]] = {}
    for kind, ms in took:
        of_kind.setdefault(kind, []).append(ms)
    durations = durations_of([ms for _, ms in took])
    by_kind = {kind: durations_of(values) for kind, values in sorted(of_kind.items())}
    return TaskMetrics(
        total_tasks=counts.get("total", 0),
        active_tasks=counts.get("leases", 0),
        completed_tasks=counts.get("done", 0),
        failed_tasks=counts.get("failed", 0),
        cancelled_tasks=counts.get("cancelled", 0),
        avg_task_duration=durations.mean if durations else 0.0,
        task_throughput=counts.get("minute_done", 0),
        tasks_by_priority=dict(sorted(_summed(board.priorities for board in boards).items())),
        tasks_by_type=dict(sorted(_summed(board.kinds for board in boards).items())),
        pending_tasks=counts.get("pending", 0),
        blocked_tasks=counts.get("blocked", 0),
        retrying=counts.get("retry", 0),
        dead_letters=counts.get("dead", 0),
        failed_last_minute=counts.get("minute_failed", 0),
        pending_by_type=dict(sorted(_summed(board.pending for board in boards).items())),
        durations=durations,
        durations_by_type={k: v for k, v in by_kind.items() if isinstance(v, Durations)},
        tasks_looked_at=counts.get("looked_at", 0),
    )


def _agents(counts: Mapping[str, int], rows: Sequence[str]) -> AgentMetrics:
    split = [row.split("|") for row in rows]
    active = [(kind, int(held), int(float(limit))) for kind, on, held, limit in split if on == "1"]
    by_type: dict[str, int] = {}
    for kind, *_ in split:
        by_type[kind or "worker"] = by_type.get(kind or "worker", 0) + 1
    held, limit = sum(held for _, held, _ in active), sum(limit for *_, limit in active)
    busy = sum(held > 0 for _, held, _ in active)
    return AgentMetrics(
        total_agents=counts["agents"],
        active_agents=len(active),
        idle_agents=len(active) - busy,
        busy_agents=busy,
        agent_utilization=held / limit * 100 if limit else 0.0,
        avg_tasks_per_agent=held / len(active) if active else 0.0,
        agents_by_type=dict(sorted(by_type.items())),
    )


def _resources(counts: Mapping[str, int]) -> ResourceMetrics:
    total, locked = counts["resources"], counts["locked"]
    return ResourceMetrics(
        total_resources=total,
        locked_resources=locked,
        free_resources=total - locked,
        resource_utilization=locked / total * 100 if total else 0.0,
        avg_lock_duration=float(counts["lock_ms"]),
        lock_contention=counts["waiting"],
        deadlock_count=counts["deadlocks"],
    )


def _coordination(counts: Mapping[str, int]) -> CoordinationMetrics:
    return CoordinationMetrics(
        messages_sent=counts["sent"],
        messages_received=counts["read"],
        message_latency=float(counts["message_ms"]),
        conflicts_detected=counts["conflicts"],
        conflicts_resolved=counts["resolved"],
        work_stealing_events=counts["steals"],
        circuit_breaker_trips=counts["trips"],
        open_breakers=counts["breakers_open"],
    )


def _performance(
    boards: Sequence[BoardFacts], tasks: TaskMetrics, cost: Cost
) -> PerformanceMetrics:
    waits = [wait for board in boards for *_, wait in board.durations]
    ended = tasks.task_throughput + tasks.failed_last_minute
    return PerformanceMetrics(
        coordination_latency=cost.latency,
        scheduling_latency=sum(waits) / len(waits) if waits else 0.0,
        memory_usage=cost.memory,
        cpu_usage=cost.cpu,
        error_rate=tasks.failed_last_minute / ended if ended else 0.0,
    )


def _summed(tables: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for table in tables:
        for name, value in table.items():
            total[name] = total.get(name, 0) + value
    return total
