"""W12: how well agents are chosen, simulated: each strategy's p95 as a multiple of an oracle's.

Nothing is timed, so the figures are the same on every machine. docs/reference/simulator.md
says what the loads are, and what the oracle knows.
"""

from __future__ import annotations

import os

from benchmarks.engine import EngineOptions
from benchmarks.report import spread, table
from benchmarks.results import Metric, Results
from callboard.domain.strategy import STRATEGIES
from callboard.simulator.comparison import Settings, compare
from callboard.simulator.loads import LOADS

OURS = "callboard"
SEEDS = 6
REFERENCE = tuple(load.name for load in LOADS.values() if load.is_reference)
ROWS = (
    ("", STRATEGIES, True),
    ("without stealing", tuple(name for name in STRATEGIES if name != "best_idle"), False),
)


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add the figures to *results*; no engine is started, and each run would be the same."""
    for note, strategies, steals in ROWS:
        settings = Settings(
            seeds=1 if quick else SEEDS,
            tasks=800 if quick else 8_000,
            steals=steals,
            processes=os.cpu_count(),
        )
        for found in compare(REFERENCE, strategies, settings):
            ideal, *rows = found.rows
            for row in rows:
                for own, best in zip(row.seeds, ideal.seeds, strict=True):
                    results.add(_metric(found.load, row.strategy, note), OURS, own.p95 / best.p95)


def render(results: Results) -> str:
    """The table: strategies by loads."""
    body = []
    for note, strategies, _ in ROWS:
        for strategy in strategies:
            summaries = [
                results.summary(_metric(load, strategy, note).key, OURS) for load in REFERENCE
            ]
            if any(summaries):
                name = f"{strategy}, {note}" if note else strategy
                body.append([name, *(spread(found, 2) for found in summaries)])
    if not body:
        return ""
    return (
        "## W12: Choosing agents, simulated: p95 ÷ the oracle's\n\n"
        + table(["strategy", *REFERENCE], body)
        + "\n\n40 agents, 8,000 tasks, 6 seeds; median (least–greatest) of them."
    )


def _metric(load: str, strategy: str, note: str) -> Metric:
    return Metric(f"simulated/{load}/{strategy}/{note}", "p95 ÷ the oracle's", None, 2)
