"""Choose which agent is given which task, by the engine's own counts, and see why it was.

First a thousand assignments at once over a hundred idle agents: ten each, although all of
them were decided at the same moment. Then three workers, one of them four times as quick as
the slowest: the board learns that, and gives a task to whoever will be done first. Then tasks
about the same repository go to the same agent, which has it at hand. Last a strategy of
one's own, first with a mistake in it.

    python examples/primitives/scheduler.py
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter

import callboard
from callboard import Assignment, TaskSpec
from callboard.exceptions import StrategyFailed

AGENTS = 100
TASKS = 1_000
SPEEDS = {"quick": 0.01, "usual": 0.02, "slow": 0.04}
"""Seconds that each worker takes for a page."""


class Cheapest:
    """A strategy of one's own: whoever costs least, as long as it is not half full."""

    def __init__(self, prices: dict[str, int]) -> None:
        self.prices = prices

    def choose(self, assignment: Assignment) -> str | None:
        free = [one for one in assignment.candidates if one.load < one.limit / 2]
        return min(free, key=lambda one: self.prices[one.id]).id if free else None


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = None if "CALLBOARD_URL" in os.environ else folder
        async with callboard.connect(data=data, namespace="scheduler-example", adopt=True) as cb:
            await spread(cb)
            await learn(cb)
            await keep_together(cb)
            await choose_oneself(cb)


async def spread(cb: callboard.Callboard) -> None:
    names = [f"agent-{n}" for n in range(AGENTS)]
    await asyncio.gather(
        *(cb.agents.register(name, kinds=["thousand"], max_concurrent=10) for name in names)
    )
    tasks = cb.board("thousand").tasks
    ids = [handle.id for handle in await tasks.submit_many([TaskSpec(kind="thousand")] * TASKS)]
    calls = (
        cb.scheduler.assign(*ids[n : n + 20], strategy="least_connections", board="thousand")
        for n in range(0, TASKS, 20)
    )
    given = Counter(one.agent for found in await asyncio.gather(*calls) for one in found)
    counts = sorted(set(given.values()))
    print(f"{TASKS:,} tasks, assigned all at once to {len(given)} agents: {counts} each.")
    await asyncio.gather(*(cb.agents.deregister(name) for name in names))


async def learn(cb: callboard.Callboard) -> None:
    workers = [worker_of(name, seconds) for name, seconds in SPEEDS.items()]
    working = [asyncio.create_task(one.run(cb, handle_signals=False)) for one in workers]
    pages = cb.board("pages").tasks
    done: Counter[str] = Counter()
    for _ in range(40):  # One at a time, so that all of them wait for it.
        handle = await pages.submit("page")
        await handle.result(timeout=10)
        done[(await handle.task()).agent] += 1
    decision = await cb.scheduler.why_this_agent(handle.id, board="pages")
    print(f"Of 40 pages, one after the other, most went to {done.most_common(1)[0][0]!r}.")
    if decision is not None:
        print(f"The last one: {decision.text}")
    for worker in workers:
        worker.stop()
    await asyncio.gather(*working)


def worker_of(name: str, seconds: float) -> callboard.Worker:
    worker = callboard.Worker(agent=name, board="pages", concurrency=1)

    @worker.handles("page")
    async def page() -> None:
        await asyncio.sleep(seconds)

    return worker


async def keep_together(cb: callboard.Callboard) -> None:
    for name in ("north", "south", "west"):
        await cb.agents.register(name, kinds=["review"], max_concurrent=100)
    await cb.scheduler.set_strategy("consistent_hash", board="reviews")
    tasks = cb.board("reviews").tasks
    specs = [TaskSpec(kind="review", affinity_key=f"repo-{n % 12}") for n in range(36)]
    handles = await tasks.submit_many(specs)
    owners: dict[str, set[str]] = {}
    for spec, handle in zip(specs, handles, strict=True):
        task = await handle.task()
        owners.setdefault(str(spec.affinity_key), set()).add(task.agent)
    whole = sum(len(agents) == 1 for agents in owners.values())
    print(f"Of 12 repositories, {whole} have all their reviews with one agent.")


async def choose_oneself(cb: callboard.Callboard) -> None:
    handle = await cb.board("reviews-2").tasks.submit("review")
    prices = {"north": 3, "south": 1}
    cb.scheduler.register("cheapest", Cheapest(prices))
    try:
        await cb.scheduler.assign(handle.id, strategy="cheapest", board="reviews-2")
    except StrategyFailed as error:
        print(f"A mistake of one's own is told: {error.message}")
    prices["west"] = 2
    (decision,) = await cb.scheduler.assign(handle.id, strategy="cheapest", board="reviews-2")
    print(f"Put right, the cheapest has it: {decision.agent}.")


if __name__ == "__main__":
    asyncio.run(main())
