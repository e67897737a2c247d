"""Spare a service that is down, probe it with few calls, and go on when it is well again.

Eight agents look up forty cities in a service that has just gone down. After five failures in
a row the breaker is open for all of them: they call no more, and their tasks wait without
spending a retry. Then two probes at a time are let through; as three succeed, the breaker
closes, and all forty are done. At last a kind of task is isolated by hand: nothing of it is
claimed, and `why` says so, until the breaker is reset.

    python examples/primitives/breakers.py
"""

from __future__ import annotations

import asyncio
import os
import tempfile

import callboard
from callboard import BreakerPolicy, RetryPolicy, TaskSpec

CITIES = 40
AGENTS = 8
API = "weather-api"


class Service:
    """What the agents call: down until it is mended."""

    def __init__(self) -> None:
        self.is_up = False
        self.calls_while_down = 0
        self.probes = self.probes_most = 0

    async def ask(self, permit: callboard.Permit) -> str:
        self.probes += permit.is_probe
        self.probes_most = max(self.probes_most, self.probes)
        try:
            await asyncio.sleep(0.02)
            if not self.is_up:
                self.calls_while_down += 1
                raise ConnectionError("503")
            return "sunny"
        finally:
            self.probes -= permit.is_probe


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = None if "CALLBOARD_URL" in os.environ else folder
        async with callboard.connect(data=data, namespace="breakers-example", adopt=True) as cb:
            await tell(cb)


async def tell(cb: callboard.Callboard) -> None:
    service = Service()
    policy = BreakerPolicy(
        failure_threshold=5, open_for=0.3, half_open_limit=2, success_threshold=3
    )
    await cb.breakers.configure(API, policy)
    await cb.breakers.reset(API)
    since = await cb.events.cursor()

    worker = callboard.Worker(agent="weather", concurrency=AGENTS)

    @worker.handles("look_up")
    async def look_up(city: int) -> str:
        async with cb.breakers.guard(API, timeout=5) as permit:
            return await service.ask(permit)

    @worker.handles("publish")
    async def publish(page: int) -> str:
        return f"page {page} is out"

    working = asyncio.create_task(worker.run(cb, handle_signals=False))
    again = RetryPolicy(max_retries=5, base=0.05)
    handles = await cb.tasks.submit_many(
        [TaskSpec(kind="look_up", payload=n, retry=again) for n in range(CITIES)]
    )
    print(f"{API} is down: open after {await reason(cb, since, 'open')}.")

    service.is_up = True
    await asyncio.gather(*(handle.result(timeout=30) for handle in handles))
    breaker = await cb.breakers.get(API)
    print(f"All {CITIES} cities are looked up, and the breaker is {breaker.state}.")
    down, rejected = service.calls_while_down, breaker.rejected_requests
    print(f"Calls while it was down: {down}. Calls spared: {rejected}.")
    print(f"Probes at a time, at most: {service.probes_most}.")
    assert down < CITIES and service.probes_most <= 2

    await cb.breakers.configure("kind:publish", gates=True)
    await cb.breakers.isolate("kind:publish", reason="the editor is out")
    handle = await cb.tasks.submit("publish", 1)
    print(f"Why does {(await handle.task()).kind} wait? {(await cb.tasks.why(handle.id)).text}")
    await cb.breakers.reset("kind:publish")
    print(f"Reset: {await handle.result(timeout=30)}.")
    worker.stop()
    await working


async def reason(cb: callboard.Callboard, since: object, state: str) -> str:
    """Wait until an event tells that the breaker is in this state; why it is."""
    async for event in cb.events.follow(str(since), types=["circuitbreaker:state-change"]):
        for fact in getattr(event, "facts", ()):
            if fact.state == state:
                return str(fact.extra.partition("|")[2])
    raise AssertionError("events are followed for ever")


if __name__ == "__main__":
    asyncio.run(main())
