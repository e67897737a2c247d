"""Share three workers between three customers, and never ask a provider too often.

One customer sends sixty tasks at once, then two others send five each. The small ones do
not wait for the big one; no customer has more than two tasks at work; and all together call the
provider at most forty times a second, over all workers.

    python examples/primitives/flow.py
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter

import callboard

PROVIDER = "provider:api"
RATE = 40
WORKERS = ("ada", "mira", "noor")
COUNTS = {"big": 60, "birch": 5, "cedar": 5}

order: list[str] = []  # of the tasks, as they began
at_once: Counter[str] = Counter()
most_at_once: Counter[str] = Counter()
calls: list[float] = []


async def call(payload: dict[str, str]) -> None:
    """The handler: a call of the provider for a customer."""
    customer = payload["customer"]
    calls.append(time.monotonic())
    order.append(customer)
    at_once[customer] += 1
    most_at_once[customer] = max(most_at_once[customer], at_once[customer])
    await asyncio.sleep(0.02)
    at_once[customer] -= 1


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = None if "CALLBOARD_URL" in os.environ else folder
        async with callboard.connect(data=data, namespace="flow-example", adopt=True) as cb:
            await tell(cb)


async def tell(cb: callboard.Callboard) -> None:
    await cb.flow.limit("customer:*", concurrency=2)
    await cb.flow.limit(PROVIDER, rate=RATE, per=1, burst=2)
    await cb.flow.weight("customer:cedar", 2)

    handles: list[callboard.TaskHandle] = []
    for customer in COUNTS:
        key = f"customer:{customer}"
        handles += await cb.tasks.submit_many(
            callboard.TaskSpec(
                kind="call",
                payload={"customer": customer},
                concurrency_key=key,
                rate_key=PROVIDER,
                fairness_key=key,
            )
            for _ in range(COUNTS[customer])
        )

    await work(cb, handles)

    small = [place for place, customer in enumerate(order) if customer != "big"]
    print(f"{sum(COUNTS.values())} calls; the last of a small customer was number {small[-1] + 1}.")
    print(f"At most at once for one customer: {max(most_at_once.values())}.")
    worst = max(sum(first <= at < first + 1 for at in calls) for first in calls)
    # What is late on its way to the handler comes close to the next.
    print(f"Never over {RATE} calls a second: {worst <= RATE * 1.25}.")
    big = await cb.flow.get("customer:big")
    print(f"Slots still taken: {big.running}.")


async def work(cb: callboard.Callboard, handles: list[callboard.TaskHandle]) -> None:
    """Three workers, until all is done."""
    workers = [callboard.Worker(agent=name, concurrency=3) for name in WORKERS]
    for worker in workers:
        worker.handles("call")(call)
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(one.run(cb, handle_signals=False)) for one in workers]
        await asyncio.gather(*(handle.result() for handle in handles))
        for one in running:
            one.cancel()


if __name__ == "__main__":
    asyncio.run(main())
