"""Submit a task by the clock, once a tick, though three schedulers run at once.

Three processes of a real system would each sweep, as every worker does; here they are three
connections. Ticks that passed while nobody swept are made good as the policy says.

    python examples/primitives/recurring.py
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from datetime import UTC, datetime
from functools import partial

import callboard

# What the engine takes for its time: the example moves it, so that hours pass at once.
now = datetime(2027, 3, 27, 0, 30, tzinfo=UTC)


def clock() -> int:
    return round(now.timestamp() * 1_000_000)


def move_to(month: int, day: int, hour: int, minute: int = 0) -> None:
    global now
    now = datetime(2027, month, day, hour, minute, tzinfo=UTC)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = None if "CALLBOARD_URL" in os.environ else folder
        connect = partial(
            callboard.connect, data=data, namespace="recurring-example", adopt=True, clock=clock
        )
        async with connect() as cb, connect() as second, connect() as third:
            await tell(cb, [cb, second, third])


async def tell(cb: callboard.Callboard, schedulers: list[callboard.Callboard]) -> None:
    for one in await cb.recurring.list():
        await cb.recurring.delete(one.name)
    await cb.recurring.create("report", "report", cron="30 2 * * *", timezone="Europe/Berlin")
    await cb.recurring.create("poll", "poll", every=3_600, catch_up="all")

    # In the night of 28 March the clock in Berlin goes from 2:00 to 3:00.
    ticks = await cb.recurring.next("report", 3)
    print("The report, at 2:30 in Berlin, comes at these hours of UTC:")
    for tick in ticks:
        print(f"  {tick:%d %B %H:%M}")

    for hour in (1, 2, 3, 4):
        move_to(3, 27, hour, 31)
        await asyncio.gather(*(one.recurring.sweep() for one in schedulers))
    print(f"Swept by three at once, four times: {await counts(cb)}")

    move_to(3, 27, 10)
    while await cb.recurring.sweep():
        pass
    print(f"After an outage, polls made good: {await counts(cb)}")

    await cb.recurring.pause("poll")
    move_to(3, 27, 20)
    await cb.recurring.sweep()
    found = await cb.recurring.resume("poll")
    print(f"Paused for ten hours, nothing is made good: {await counts(cb)}")
    print(f"The next poll: {found.next_at:%d %B %H:%M}")


async def counts(cb: callboard.Callboard) -> str:
    """How many tasks of each kind were submitted."""
    kinds = Counter([task.kind async for task in cb.tasks.iterate()])
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


if __name__ == "__main__":
    asyncio.run(main())
