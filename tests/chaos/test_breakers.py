"""Who probes a component is killed: its place is free again, for callers and for claims."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import callboard
from callboard import BreakerPolicy, Event
from callboard.exceptions import CircuitOpen
from tests.chaos.processes import PATIENCE, Program, Stage

PROGRAMS = Path(__file__).parents[1] / "race" / "programs"
API, KIND = "external-api", "kind:work"
POLICY = BreakerPolicy(
    failure_threshold=1,
    success_threshold=1,
    half_open_limit=1,
    open_for=0.1,
    permit_lease=1,
)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def cb(valkey_url: str, namespace: str) -> AsyncIterator[callboard.Callboard]:
    async with callboard.connect(valkey_url, namespace=namespace) as opened:
        janitor = opened.janitor(interval=0.1)
        janitor.start()
        yield opened
        await janitor.stop()


@pytest.fixture
def doomed(cb: callboard.Callboard, valkey_url: str, namespace: str) -> Iterator[Program]:
    stage = Stage(PROGRAMS)
    try:
        program = stage.start("caller", url=valkey_url, namespace=namespace)
        assert program.hear() == "ready"
        yield program
    finally:
        stage.close()


async def test_a_killed_probe_frees_its_place_and_a_living_one_keeps_it(
    cb: callboard.Callboard, doomed: Program
) -> None:
    await cb.breakers.configure(API, POLICY)
    await cb.breakers.force(API, "half-open")
    doomed.tell(do="probe", component=API)
    assert await asyncio.to_thread(doomed.hear) is True
    async with asyncio.timeout(PATIENCE):
        for _ in range(30):  # three leases: it is renewed
            with pytest.raises(CircuitOpen):
                await cb.breakers.admit(API)
            await _pause(0.1)

    doomed.kill()

    permit = await _admitted(cb)
    assert permit.is_probe
    assert await cb.breakers.record(permit)
    assert (await cb.breakers.get(API)).state == "closed"


async def test_a_killed_claimer_counts_against_its_kind_and_others_go_on(
    cb: callboard.Callboard, doomed: Program
) -> None:
    await cb.agents.register("mira", heartbeat_interval=3_600)
    await cb.breakers.configure(KIND, POLICY, gates=True)
    await cb.breakers.force(KIND, "half-open")
    await cb.tasks.submit("work", id="first")
    await cb.tasks.submit("work", id="second")
    doomed.tell(do="claim", agent="mira", lease=1)
    assert await asyncio.to_thread(doomed.hear) == ["first"]
    assert (await cb.tasks.claim("mira")).tasks == ()
    assert (await cb.tasks.why("second")).code == "breaker_open"

    doomed.kill()

    async with asyncio.timeout(PATIENCE):
        while not (claims := await cb.tasks.claim("mira")).tasks:
            await _pause(0.05)
    events, _ = await cb.events.read()
    told = [
        (fact.state, fact.extra)
        for event in events
        if isinstance(event, Event) and event.type == "circuitbreaker:state-change"
        for fact in event.facts
    ]
    assert told[-2:] == [("open", "half-open|a probe failed"), ("half-open", "open|open time over")]
    (task,) = claims.tasks
    await cb.tasks.complete(task.id, fence=task.fence)
    assert (await cb.breakers.get(KIND)).state == "closed"


async def _admitted(cb: callboard.Callboard) -> callboard.Permit:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await cb.breakers.admit(API)
            except CircuitOpen:
                await _pause(0.05)


async def _pause(seconds: float) -> None:
    """Let real time pass, which leases are made of, before looking again."""
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)
