"""What was measured, kept by workload and contender, run by run."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A figure that a workload yields.

    Attributes:
        key: Its name in the JSON output.
        title: Its column heading, unit included.
        higher_is_better: ``None`` for figures that are only facts (no ratio is printed).
        digits: Digits after the point.
    """

    key: str
    title: str
    higher_is_better: bool | None
    digits: int = 0


@dataclass(frozen=True)
class Summary:
    """Median, least and greatest of the runs of one figure."""

    median: float
    least: float
    greatest: float
    runs: int


@dataclass
class Results:
    """Every figure of a benchmark run, plus what was skipped, noted or wrong."""

    facts: dict[str, Any] = field(default_factory=dict)
    values: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    foreign: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, metric: Metric, contender: str, value: float) -> None:
        """Keep one run's figure."""
        self.values[metric.key][contender].append(value)

    def note(self, text: str) -> None:
        """Keep a remark for the end of the report, once."""
        if text not in self.notes:
            self.notes.append(text)

    def summary(self, key: str, contender: str) -> Summary | None:
        """Median and range over the runs, ``None`` if there is no such figure."""
        runs = self.values.get(key, {}).get(contender)
        if not runs:
            return None
        return Summary(statistics.median(runs), min(runs), max(runs), len(runs))

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain JSON values."""
        return {
            "facts": self.facts,
            "versions": self.versions,
            "figures": {key: dict(by_name) for key, by_name in self.values.items()},
            "cores_used_by_others": dict(self.foreign),
            "notes": self.notes,
        }
