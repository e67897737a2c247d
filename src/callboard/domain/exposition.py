"""What Prometheus scrapes: the coordination metrics in its text format, version 0.0.4."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from callboard.domain.metric import number_text, percentiles, series_id
from callboard.domain.snapshot import BoardFacts, Snapshot


class Family(msgspec.Struct, frozen=True):
    """A metric of the exposition: its samples are labels with a value."""

    name: str
    kind: Literal["gauge", "counter"]
    about: str
    samples: list[tuple[dict[str, str], float]]


def exposition(families: Iterable[Family]) -> str:
    """The text that Prometheus scrapes; families without samples are left out."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        about = family.about.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"# HELP {family.name} {about}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, value in family.samples:
            inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(
                f"{family.name}{{{inner}}} {number_text(value)}"
                if inner
                else f"{family.name} {number_text(value)}"
            )
    return "\n".join(lines) + "\n" if lines else ""


def label_name(text: str) -> str:
    """A tag's name as Prometheus allows one."""
    plain = re.sub(r"[^a-zA-Z0-9_]", "_", text)
    return plain if not plain[:1].isdigit() else f"_{plain}"


def series_samples(
    rows: Iterable[tuple[str, Mapping[str, str], float]],
) -> list[tuple[dict[str, str], float]]:
    """Samples of series by name and tags, no two with the same labels.

    Tags as ``a-b`` and ``a.b`` are one label to Prometheus. Where it could not tell two
    series apart, or two tags of one, the label ``series`` says which each is.
    """
    found = [
        (
            series_id(name, tags),
            {"name": name, **{label_name(f"tag_{k}"): v for k, v in tags.items()}},
            value,
            len(tags) + 1,
        )
        for name, tags, value in rows
    ]
    seen = Counter(tuple(sorted(labels.items())) for _, labels, *_ in found)
    return [
        (
            labels
            if len(labels) == expected and seen[tuple(sorted(labels.items()))] == 1
            else {**labels, "series": series},
            value,
        )
        for series, labels, value, expected in found
    ]


def _series_labels(name: str, tags: Mapping[str, str]) -> dict[str, str]:
    return {"name": name, **{label_name(f"tag_{key}"): text for key, text in tags.items()}}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# What is told

_STATUSES: Final = (
    ("pending", "pending"),
    ("blocked", "blocked"),
    ("scheduled", "scheduled"),
    ("retry", "retrying"),
    ("reserved", "assigned"),
    ("leases", "held"),
    ("input", "input_required"),
    ("done", "done"),
    ("failed", "failed"),
    ("cancelled", "cancelled"),
)


def task_families(boards: Mapping[str, BoardFacts], totals: Mapping[str, int]) -> list[Family]:
    """Of tasks: by board, and by status or kind."""
    ended = [
        ({"board": name, "status": status}, float(totals.get(f"{status}:{name}", 0)))
        for name in sorted({*boards, *(field.partition(":")[2] for field in totals)} - {""})
        for status in ("done", "failed", "cancelled")
    ]
    quantiles: list[tuple[dict[str, str], float]] = []
    for name, board in boards.items():
        by_kind: dict[str, list[float]] = {}
        for kind, ms, _ in board.durations:
            by_kind.setdefault(kind, []).append(ms / 1_000)
        for kind, values in sorted(by_kind.items()):
            found = percentiles(values)
            assert found is not None
            for q, value in (("0.5", found.p50), ("0.95", found.p95), ("0.99", found.p99)):
                quantiles.append(({"board": name, "kind": kind, "quantile": q}, value))
    return [
        Family(
            "callboard_tasks",
            "gauge",
            "Tasks by board and status.",
            [
                ({"board": name, "status": shown}, board.counts.get(status, 0))
                for name, board in boards.items()
                for status, shown in _STATUSES
            ],
        ),
        Family("callboard_tasks_ended_total", "counter", "Tasks that ended, by outcome.", ended),
        Family(
            "callboard_tasks_ended_last_minute",
            "gauge",
            "Tasks that ended in the last 60 seconds, by outcome.",
            [
                ({"board": name, "status": status}, board.counts.get(f"minute_{status}", 0))
                for name, board in boards.items()
                for status in ("done", "failed", "cancelled")
            ],
        ),
        Family(
            "callboard_tasks_pending",
            "gauge",
            "Tasks that may be claimed, by board and kind.",
            [
                ({"board": name, "kind": kind}, n)
                for name, board in boards.items()
                for kind, n in sorted(board.pending.items())
            ],
        ),
        Family(
            "callboard_dead_letters",
            "gauge",
            "Dead letters by board.",
            [({"board": name}, board.counts.get("dead", 0)) for name, board in boards.items()],
        ),
        Family(
            "callboard_task_duration_seconds",
            "gauge",
            "Quantiles of how long the newest done tasks took, by board and kind.",
            quantiles,
        ),
    ]


def snapshot_families(found: Snapshot, totals: Mapping[str, int]) -> list[Family]:
    """Of all else that a snapshot says."""
    agents, locks, talk = found.agent_metrics, found.resource_metrics, found.coordination_metrics
    cost = found.performance_metrics

    def one(name: str, about: str, value: float | None) -> Family:
        samples: list[tuple[dict[str, str], float]] = [] if value is None else [({}, value)]
        return Family(f"callboard_{name}", "gauge", about, samples)

    return [
        Family(
            "callboard_agents",
            "gauge",
            "Agents by what they do.",
            [
                ({"state": "busy"}, agents.busy_agents),
                ({"state": "idle"}, agents.idle_agents),
                ({"state": "away"}, agents.total_agents - agents.active_agents),
            ],
        ),
        one("agent_utilization_ratio", "Held tasks per capacity.", agents.agent_utilization / 100),
        one("locked_resources", "Resources that are locked.", locks.locked_resources),
        one("lock_waiters", "Owners that wait for a lock.", locks.lock_contention),
        one("deadlocks", "Deadlocks that were found and are kept.", locks.deadlock_count),
        one("messages", "Messages that are kept.", talk.messages_sent),
        one("conflicts", "Conflicts that are kept.", talk.conflicts_detected),
        one("conflicts_resolved", "Of those, resolved ones.", talk.conflicts_resolved),
        one("breakers_open", "Breakers that are not closed.", talk.open_breakers),
        one("engine_memory_bytes", "Bytes that the engine uses.", cost.memory_usage),
        one(
            "engine_cpu_ratio",
            "Of one core.",
            None if cost.cpu_usage is None else cost.cpu_usage / 100,
        ),
        Family(
            "callboard_steals_total",
            "counter",
            "Thefts of unstarted reservations.",
            [({}, float(totals.get("steals", 0)))],
        ),
        Family(
            "callboard_breaker_trips_total",
            "counter",
            "Times that a breaker opened.",
            [({}, float(totals.get("trips", 0)))],
        ),
    ]
