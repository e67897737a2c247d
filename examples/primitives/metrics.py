"""Measure a team at work: true throughput, percentiles by kind, own series, and one training.

Four agents do four hundred tasks of two kinds, every tenth attempt at a slow one failing once.
What the board says of itself then follows from the board: each completion counted, a retried
attempt no failed task. An agent's own series and a training's steps stand beside it.

    python examples/primitives/metrics.py
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time

import callboard
from callboard import Metric

TASKS = 400
AGENTS = ("ada", "mira", "noor", "omar")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = None if "CALLBOARD_URL" in os.environ else folder
        async with callboard.connect(data=data, namespace="metrics-example", adopt=True) as cb:
            await tell(cb)


async def tell(cb: callboard.Callboard) -> None:
    board = cb.board(f"metrics-{time.time_ns()}")
    await cb.metrics.clear()
    for agent in AGENTS:
        await cb.agents.register(agent)
    await board.tasks.submit_many(
        [
            callboard.TaskSpec(
                kind="slow" if n % 2 else "quick",
                payload=n,
                priority="high" if n % 4 == 0 else 0,
                retry=callboard.RetryPolicy(base=0),
            )
            for n in range(TASKS)
        ]
    )
    await asyncio.gather(*(work(cb, board, agent) for agent in AGENTS))

    found = (await cb.metrics.snapshot(board.name)).task_metrics
    print(f"{found.task_throughput} tasks done in the last minute, {found.failed_tasks} failed.")
    print(f"By kind: {found.tasks_by_type}; by priority: {found.tasks_by_priority}.")
    slow, quick = found.durations_by_type["slow"], found.durations_by_type["quick"]
    print(f"The p95 of slow ones is above that of quick ones: {slow.p95 > quick.p95}.")

    attempts = await cb.metrics.percentiles("attempt", tags={"kind": "slow"})
    assert attempts is not None
    print(f"The agents' own series has {attempts.points} attempts at slow tasks.")

    for step in (1, 2, 4, 3, 4):
        await cb.metrics.record_training("proj-1", step, {"loss": 1 / step}, learning_rate=0.001)
    means = await cb.metrics.training_average("proj-1", window=2)
    said = ", ".join(f"step {mean.step}: {mean.mean:.2f} of {mean.points}" for mean in means)
    print(f"The training's average loss: {said}.")

    lines = (await cb.metrics.prometheus()).splitlines()
    done = f'callboard_tasks_ended_total{{board="{board.name}",status="done"}} {TASKS}'
    print(f"Prometheus is told of each completion: {done in lines}.")


async def work(cb: callboard.Callboard, board: callboard.BoardView, agent: str) -> None:
    """The agent does tasks, a few at a time, until none is unfinished."""
    while True:
        claims = await board.tasks.claim(agent, limit=5)
        if not claims.tasks:
            if not (await cb.boards.get(board.name)).counts.unfinished:
                return
            await asyncio.sleep(0.01)
            continue
        points = []
        for task in claims.tasks:
            begin = time.perf_counter()
            number = task.payload_as(int)
            await asyncio.sleep(0.008 if task.kind == "slow" else 0)
            if number % 20 == 19 and task.attempt == 1:
                await board.tasks.fail(task.id, fence=task.fence, error="no answer")
            else:
                await board.tasks.complete(task.id, fence=task.fence, result=number)
            took = time.perf_counter() - begin
            points.append(Metric(name="attempt", value=took, tags={"kind": task.kind}))
        await cb.metrics.record_many(points)


if __name__ == "__main__":
    asyncio.run(main())
