"""W6: what a claim and its completion cost, by waiting tasks and by lanes.

A lane is a set of tasks with the same kind and requirements; here each lane is a
kind of its own, and tasks are submitted round-robin over the lanes, so that the
best next task is always in another lane: the dearest order there is.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import callboard
from benchmarks.engine import Engine, EngineOptions, running_engine
from benchmarks.peers.protocol import PAYLOAD
from benchmarks.report import spread, table
from benchmarks.results import Metric, Results, Summary
from callboard import TaskSpec

OURS = "callboard"
AGENT = "bench"
#: Refilled after each such step, so that the board never holds less than half of what it says.
STEP = 50

#: The figures, each for one task claimed and completed.
CLAIM_FIGURES = {
    "function": "in functions, µs/task",
    "engine": "engine thread, µs/task",
    "wall": "wall, µs/task",
}


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    waiting: int
    lanes: int
    batch: int

    def metric(self, what: str) -> Metric:
        """The figure *what* of this case."""
        return Metric(f"claim/{self.waiting}/{self.lanes}/{self.batch}/{what}", what, None, 1)


CASES = tuple(
    Case(waiting, lanes, batch)
    for batch in (1, 10)
    for waiting, lanes in ((100, 1), (10_000, 1), (100_000, 1), (10_000, 64), (10_000, 512))
)


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add the figures of every case to *results*."""
    pairs = 200 if quick else 2_000
    for _ in range(runs):
        for case in CASES:
            if quick and case.waiting > 10_000:
                continue
            with running_engine(options) as engine:
                asyncio.run(_measure(engine, case, pairs, results))


def render(results: Results) -> str:
    """The table: rows by waiting tasks, lanes and tasks a call."""
    rows: dict[tuple[int, int, int], dict[str, Summary | None]] = {}
    for key in results.values:
        if key.startswith("claim/"):
            _, waiting, lanes, batch, what = key.split("/")
            case = (int(waiting), int(lanes), int(batch))
            rows.setdefault(case, {})[what] = results.summary(key, OURS)
    if not rows:
        return ""
    head = ["waiting, lanes, tasks a call", *CLAIM_FIGURES.values()]
    body = [
        [f"{waiting:,}, {lanes}, {batch}"] + [spread(found.get(what), 1) for what in CLAIM_FIGURES]
        for (waiting, lanes, batch), found in rows.items()
    ]
    return "## W6: A claim and its completion, Callboard\n\n" + table(head, body)


async def _measure(engine: Engine, case: Case, pairs: int, results: Results) -> None:
    async with callboard.connect(engine.url) as board:
        await register(board)
        specs = _specs(case.lanes)
        await _submit(board, specs, case.waiting)
        await _step(board, case.batch)  # Warms caches and connection.
        await _submit(board, specs, STEP)
        wall, thread, function = 0.0, 0.0, 0.0
        for _ in range(0, pairs, STEP):
            function -= _function_seconds(engine)
            thread -= _thread_seconds(engine)
            wall -= time.monotonic()
            await _step(board, case.batch)
            wall += time.monotonic()
            thread += _thread_seconds(engine)
            function += _function_seconds(engine)
            await _submit(board, specs, STEP)
    for what, seconds in (("function", function), ("engine", thread), ("wall", wall)):
        results.add(case.metric(what), OURS, seconds / pairs * 1e6)


def _specs(lanes: int) -> Iterator[TaskSpec]:
    return (TaskSpec(kind=f"kind-{n % lanes}", payload=PAYLOAD) for n in itertools.count())


async def _submit(board: callboard.Callboard, specs: Iterator[TaskSpec], count: int) -> None:
    for start in range(0, count, 1_000):
        batch = list(itertools.islice(specs, min(1_000, count - start)))
        await board.tasks.submit_many(batch)


async def _step(board: callboard.Callboard, batch: int) -> None:
    for _ in range(0, STEP, batch):
        await claim_and_complete(board, batch)


def _function_seconds(engine: Engine) -> float:
    """Time inside FCALL so far, as the engine counts it."""
    stats = engine.info("commandstats").get("cmdstat_fcall", {"usec": 0})
    return float(stats["usec"]) / 1e6


def _thread_seconds(engine: Engine) -> float:
    """CPU time of the engine's main thread so far: functions, protocol, sockets and log.

    From the kernel's account, which costs the engine nothing; ``INFO cpu`` where
    there is none.
    """
    try:
        nanoseconds = Path(f"/proc/{engine.pid}/schedstat").read_text().split()[0]
    except OSError:
        return engine.cpu().total
    return int(nanoseconds) / 1e9


# The only lines that know how claims are made.


async def register(board: callboard.Callboard) -> None:
    """Make the agent known that claims."""
    await board.agents.register(AGENT, max_concurrent=1_000)


async def claim_and_complete(board: callboard.Callboard, batch: int) -> None:
    """Claim *batch* tasks and complete them: one call each."""
    claims = await board.tasks.claim(AGENT, limit=batch)
    await board.tasks.complete_many(
        [callboard.Completion(task.id, task.fence) for task in claims.tasks]
    )
