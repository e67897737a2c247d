"""W11: how long a decision takes, by strategy, among 100 and 1,000 agents with room.

One task a call, one call at a time: what a caller waits for. And fifty callers at once, each
with a task of its own: what the last of them waits for.
"""

from __future__ import annotations

import asyncio
import time

import callboard
from benchmarks.engine import EngineOptions, running_engine
from benchmarks.primitives.samples import Samples
from benchmarks.report import figure, rows
from benchmarks.results import Results
from callboard import TaskSpec

KEY = "W11"
AGENTS = (100, 1_000)
STRATEGIES = ("least_connections", "round_robin", "predictive", "consistent_hash", "affinity")
AT_ONCE = 50


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add the figures of every strategy."""
    times = 50 if quick else 500
    for _ in range(runs):
        for agents in AGENTS:
            for strategy in STRATEGIES:
                with running_engine(options) as engine:
                    asyncio.run(_measure(engine.url, agents, strategy, times, results))


def render(results: Results) -> str:
    """The table."""
    return rows(results, KEY, "A decision which agent gets a task", "strategy, agents")


async def _measure(url: str, agents: int, strategy: str, times: int, results: Results) -> None:
    async with callboard.connect(url, adopt=True) as cb:
        for n in range(agents):
            await cb.agents.register(f"agent-{n}", capabilities=["read"], max_concurrent=100)
        alone, crowded = Samples(), Samples()
        for task in await _tasks(cb, times):
            alone.add(await _assign(cb, task, strategy))
        for _ in range(max(1, times // AT_ONCE)):
            tasks = await _tasks(cb, AT_ONCE)
            for seconds in await asyncio.gather(*(_assign(cb, task, strategy) for task in tasks)):
                crowded.add(seconds)
    row = f"{strategy}, {agents:,}"
    figure(results, KEY, row, "p50, ms", alone.ms(50), 2)
    figure(results, KEY, row, "p99, ms", alone.ms(99), 2)
    figure(results, KEY, row, f"of {AT_ONCE} at once, p99, ms", crowded.ms(99), 1)


async def _tasks(cb: callboard.Callboard, count: int) -> list[str]:
    specs = [TaskSpec(kind="read") for _ in range(count)]
    return [handle.id for handle in await cb.tasks.submit_many(specs)]


async def _assign(cb: callboard.Callboard, task: str, strategy: str) -> float:
    started = time.perf_counter()
    [decision] = await cb.scheduler.assign(task, strategy=strategy, take_up=60)
    seconds = time.perf_counter() - started
    if not decision.agent:
        raise RuntimeError(f"nobody was chosen: {decision}")
    return seconds
