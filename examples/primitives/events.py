"""Follow what happens on a board, stop, and go on where you stopped, with nothing missed.

Three agents do ten tasks. One program follows their events and keeps its cursor; it is
stopped in the middle, while the agents go on, and another one takes up the cursor. What the
two saw, one after the other, is every event once and in order, and it is enough to say what
each agent did.

    python examples/primitives/events.py
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter

import callboard

TASKS = 10
AGENTS = ("ada", "mira", "noor")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = None if "CALLBOARD_URL" in os.environ else folder
        async with callboard.connect(data=data, namespace="events-example", adopt=True) as cb:
            await tell(cb)


async def tell(cb: callboard.Callboard) -> None:
    for agent in AGENTS:
        await cb.agents.register(agent)
    start = await cb.events.cursor()
    await cb.tasks.submit_many([callboard.TaskSpec(kind="count", payload=n) for n in range(TASKS)])
    print(f"{TASKS} tasks wait.")

    first = asyncio.create_task(follow(cb, str(start), until=3))
    await work(cb)
    seen, cursor = await first
    print(f"The first reader was stopped after {len(seen)} events, while the agents went on.")

    rest, _ = await follow(cb, cursor, until=TASKS - done(seen))
    numbers = [event.n for event in [*seen, *rest]]
    missed = set(range(numbers[0], numbers[-1] + 1)) - set(numbers)
    print(f"The second went on from its cursor: {len(missed)} events missed, none seen twice.")

    by_agent = Counter(
        fact.holder.partition("/")[0]
        for event in [*seen, *rest]
        if event.type == "task:completed"
        for fact in event.facts
    )
    for agent in AGENTS:
        print(f"  {agent} completed {by_agent[agent]}")


async def work(cb: callboard.Callboard) -> None:
    """Each agent claims a task and completes it, until there is none."""

    async def one(agent: str) -> None:
        while claims := (await cb.tasks.claim(agent)).tasks:
            for task in claims:
                await cb.tasks.complete(task.id, fence=task.fence, result="counted")

    await asyncio.gather(*(one(agent) for agent in AGENTS))


async def follow(
    cb: callboard.Callboard, cursor: str, *, until: int
) -> tuple[list[callboard.Event], str]:
    """The events behind *cursor*, up to the one that completes the *until*-th task."""
    seen: list[callboard.Event] = []
    async for event in cb.events.follow(cursor):
        if isinstance(event, callboard.Gap):
            raise SystemExit(f"events {event.first} to {event.last} are gone: {event.reason}")
        seen.append(event)
        if done(seen) >= until:
            return seen, event.cursor
    raise SystemExit("the stream ended")


def done(events: list[callboard.Event]) -> int:
    return sum(len(event.facts) for event in events if event.type == "task:completed")


if __name__ == "__main__":
    asyncio.run(main())
