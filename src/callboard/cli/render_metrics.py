"""How metrics look to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.text import Text

from callboard.cli.render import Column, age, clock, fields, heading, size, table
from callboard.domain.metric import Series, Top
from callboard.domain.snapshot import Durations, Snapshot

_SERIES_COLUMNS: Final = (
    Column("SERIES"),
    Column("TAGS", shrinks=True),
    Column("LAST", right=True),
)
_TOP_COLUMNS: Final = (
    Column("SERIES"),
    Column("TAGS", shrinks=True),
    Column("POINTS", right=True),
    Column("LAST", right=True),
    Column("MEAN", right=True),
)
_POINT_COLUMNS: Final = (Column("AT"), Column("STEP", right=True), Column("VALUE", right=True))
_DURATION_COLUMNS: Final = (
    Column("KIND", shrinks=True),
    Column("DONE", right=True),
    Column("MEAN", right=True),
    Column("P50", right=True),
    Column("P95", right=True),
    Column("P99", right=True),
)
_SPARK: Final = "▁▂▃▄▅▆▇█"
SPARK_WIDTH: Final = 60


def snapshot(found: Snapshot, width: int) -> Iterator[str | Text]:
    """The coordination metrics, group by group."""
    tasks, agents = found.task_metrics, found.agent_metrics
    locks, talk, cost = (
        found.resource_metrics,
        found.coordination_metrics,
        found.performance_metrics,
    )
    if not tasks.total_tasks and not agents.total_agents:
        yield "Nothing to measure yet: no tasks, no agents."
        yield Text("Add a task: callboard tasks add greet", style="dim")
        return
    yield heading("Tasks", found.board or "all boards")
    yield from fields(
        [
            ("  done last minute", f"{tasks.task_throughput:,}"),
            ("  failed last minute", f"{tasks.failed_last_minute:,}"),
            ("  pending", f"{tasks.pending_tasks:,}"),
            ("  held", f"{tasks.active_tasks:,}"),
            ("  blocked", f"{tasks.blocked_tasks:,}"),
            ("  retrying", f"{tasks.retrying:,}"),
            ("  done", f"{tasks.completed_tasks:,}"),
            ("  failed", f"{tasks.failed_tasks:,} ({tasks.dead_letters:,} dead letters)"),
            ("  cancelled", f"{tasks.cancelled_tasks:,}"),
            ("  by priority", _counts(tasks.tasks_by_priority)),
            ("  by kind", _counts(tasks.tasks_by_type)),
        ]
    )
    if tasks.durations is not None:
        rows = [("all", tasks.durations), *tasks.durations_by_type.items()]
        yield heading("Durations", "milliseconds, of the newest done")
        yield from table(_DURATION_COLUMNS, (_duration(*row) for row in rows), width)
    yield heading("Agents")
    yield from fields(
        [
            ("  busy", f"{agents.busy_agents} of {agents.active_agents} that may claim"),
            ("  utilization", f"{agents.agent_utilization:.0f} %"),
            ("  by type", _counts(agents.agents_by_type)),
        ]
    )
    yield heading("Coordination")
    yield from fields(
        [
            ("  locked", f"{locks.locked_resources:,} of {locks.total_resources:,} resources"),
            ("  waiting for locks", f"{locks.lock_contention:,}"),
            ("  deadlocks kept", f"{locks.deadlock_count:,}"),
            ("  messages", f"{talk.messages_sent:,} kept, {talk.messages_received:,} read"),
            ("  conflicts", f"{talk.conflicts_detected:,}, {talk.conflicts_resolved:,} resolved"),
            ("  thefts", f"{talk.work_stealing_events:,}"),
            ("  breakers", f"{talk.open_breakers:,} open, {talk.circuit_breaker_trips:,} trips"),
        ]
    )
    yield heading("Cost")
    yield from fields(
        [
            ("  call", f"{cost.coordination_latency:.1f} ms"),
            ("  wait to start", f"{cost.scheduling_latency:.0f} ms"),
            ("  engine memory", size(cost.memory_usage)),
            ("  error rate", f"{cost.error_rate:.1%}"),
        ]
    )


def series(found: Sequence[Series], width: int) -> Iterator[str | Text]:
    """Series, a line each."""
    if not found:
        yield "No series yet. Record a point: callboard metrics record latency 0.35"
        return
    rows = ((each.name, _tags(each.tags), age(each.last_at)) for each in found)
    yield from table(_SERIES_COLUMNS, rows, width)


def top(found: Sequence[Top], width: int) -> Iterator[str | Text]:
    """The busiest series, a line each."""
    if not found:
        yield "No points lately. Record one: callboard metrics record latency 0.35"
        return
    rows = (
        (each.name, _tags(each.tags), each.points, f"{each.last:g}", f"{each.mean:g}")
        for each in found
    )
    yield from table(_TOP_COLUMNS, rows, width)


def points(name: str, found: Sequence[Any], width: int) -> Iterator[str | Text]:
    """Points, or what spans come to, with a line that shows their course."""
    if not found:
        yield f"No points of {name!r}, as far as this asks. See callboard metrics series."
        return
    yield spark([point.value for point in found][-min(width, SPARK_WIDTH) :])
    rows = (
        (
            clock(point.at),
            "" if (step := getattr(point, "step", None)) is None else step,
            f"{point.value:g}",
        )
        for point in found
    )
    yield from table(_POINT_COLUMNS, rows, width)


def spark(values: Sequence[float]) -> str:
    """The course of values as blocks, the highest a full one."""
    low, high = min(values), max(values)
    room = len(_SPARK) - 1
    return "".join(
        _SPARK[round((value - low) / (high - low) * room) if high > low else room // 2]
        for value in values
    )


def _duration(kind: str, found: Durations) -> tuple[object, ...]:
    numbers = (found.mean, found.p50, found.p95, found.p99)
    return (kind, found.tasks, *(f"{ms:,.0f}" for ms in numbers))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def _tags(tags: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in tags.items())
