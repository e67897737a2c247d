"""Watch a team's errors turn into groups, counters, and one warning of a cascade.

Four agents do sixty tasks against a database that has gone away. Their failures differ in ids,
addresses and times, yet they are three groups. Within five minutes three types of errors
have come up, which is told once, on the documented channel, however many follow.

    python examples/primitives/errors.py
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid

import callboard

TASKS = 60
AGENTS = ("ada", "mira", "noor", "omar")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = None if "CALLBOARD_URL" in os.environ else folder
        async with callboard.connect(data=data, namespace="errors-example", adopt=True) as cb:
            await tell(cb)


async def tell(cb: callboard.Callboard) -> None:
    await cb.errors.clear()
    for agent in AGENTS:
        await cb.agents.register(agent)
    since = await cb.events.cursor()
    await cb.tasks.submit_many(
        [
            callboard.TaskSpec(kind="load", payload=n, retry=callboard.RetryPolicy(max_retries=0))
            for n in range(TASKS)
        ]
    )
    await asyncio.gather(*(work(cb, agent) for agent in AGENTS))

    groups = await cb.errors.groups()
    counters = await cb.errors.counters()
    print(f"{sum(counters.values())} attempts failed; they are {len(groups)} groups:")
    for name in sorted(counters):
        group = next(group for group in groups if group.name == name)
        print(f"  {name}: {group.count} times, {group.severity}")

    told, _ = await cb.events.read(since, types=["error:cascade"])
    (cascade,) = await cb.errors.correlations(limit=1)
    print(f"Cascades told: {len(told)}, of {', '.join(cascade.error_types)}.")

    refused = next(group for group in groups if group.name == "ConnectionRefusedError")
    await cb.errors.resolve(refused.fingerprint, by="ann", note="the database is back")
    await cb.errors.record(ConnectionRefusedError(failure(0)[1]), agent="ada")
    again = await cb.errors.group(refused.fingerprint)
    print(f"Resolved, and it came again: {again.state}, reopened {again.reopened} time.")


async def work(cb: callboard.Callboard, agent: str) -> None:
    """The agent claims a task and fails at it, until there is none."""
    while claims := (await cb.tasks.claim(agent)).tasks:
        for task in claims:
            kind, message = failure(task.payload_as(int))
            error = callboard.Failure(kind, message, retryable=False)
            await cb.tasks.fail(task.id, fence=task.fence, error=error)


def failure(number: int) -> tuple[str, str]:
    """What goes wrong with a task: one of three things, each time with other ids in it."""
    return (
        ("ConnectionRefusedError", f"10.0.{number}.7:5432 refused after {number * 1.7:.2f} s"),
        ("QueryTimeout", f"query {uuid.uuid4()} took longer than {30 + number} s"),
        ("CacheMiss", f"no /var/cache/{number}/page-{number * 31:x}.bin"),
    )[number % 3]


if __name__ == "__main__":
    asyncio.run(main())
