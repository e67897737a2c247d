"""Limits and ticks under many processes that are killed at random: never passed, never leaked."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

import callboard
from callboard.domain.event import Event
from callboard.domain.task import TaskSpec
from tests.chaos.processes import Stage
from tests.race.support import events_of
from tests.waiting import until

ENDS = {
    "task:completed",
    "task:released",
    "task:retry_scheduled",
    "task:failed",
    "task:lease_lost",
    "task:cancelled",
}

pytestmark = pytest.mark.timeout(180)


def claims_of(events: list[Event], prefix: str) -> tuple[int, list[int]]:
    """How many of these tasks were held at once at most, and when (ms) each was claimed."""
    held: set[str] = set()
    most, times = 0, []
    for event in events:
        for fact in event.facts:
            if not fact.id.startswith(prefix):
                continue
            if event.type in ENDS:
                held.discard(fact.id)
            elif event.type == "task:claimed":
                held.add(fact.id)
                times.append(round(event.at.timestamp() * 1_000))
        most = max(most, len(held))
    return most, times


async def test_fifty_processes_under_kills_never_pass_a_limit_and_leak_no_slot(
    cb: callboard.Callboard, stage: Stage, valkey_url: str, namespace: str
) -> None:
    await cb.boards.configure("default", callboard.BoardSettings(poison=100, crashes=1_000))
    await cb.flow.limit("few", concurrency=3)
    await cb.flow.limit("tenant-*", concurrency=2)
    await cb.flow.limit("api", rate=40, per=1, burst=5)
    specs = [TaskSpec(kind="x", id=f"few-{i}", concurrency_key="few") for i in range(1_500)]
    specs += [
        TaskSpec(kind=f"y{i % 3}", id=f"tenant-{i % 4}-{i}", concurrency_key=f"tenant-{i % 4}")
        for i in range(1_500)
    ]
    specs += [TaskSpec(kind="z", id=f"api-{i}", rate_key="api") for i in range(1_500)]
    specs += [
        TaskSpec(kind="w", id=f"fair-{i % 2}-{i}", fairness_key=f"f{i % 2}", rate_key="api")
        for i in range(500)
    ]
    await cb.tasks.submit_many(specs)

    crowd = stage.start(
        "crowd", url=valkey_url, namespace=namespace, do="claim", count=50, kills=60
    )
    assert crowd.hear() == "ready"
    janitor = cb.janitor(interval=0.1)
    janitor.start()
    killed = await asyncio.to_thread(crowd.hear, 90)
    # All are gone: their leases run out, and then nothing may hold a slot.
    keys = ["few", *(f"tenant-{i}" for i in range(4))]

    async def is_nothing_held() -> bool:
        return (await cb.boards.get("default")).counts.held == 0

    await until(is_nothing_held)
    await janitor.stop()

    assert killed == 60
    assert [one.running for one in await cb.flow.get_many(keys)] == [0] * 5
    events = await events_of(cb)
    lost = sum(len(event.facts) for event in events if event.type == "task:lease_lost")
    assert lost > 2, "nobody was killed while it held a task"
    most, claimed = claims_of(events, "few-")
    assert (most, len(claimed) > 100) == (3, True)
    for i in range(4):
        most, claimed = claims_of(events, f"tenant-{i}-")
        assert (most, len(claimed) > 50) == (2, True)
    times = sorted(claims_of(events, "api-")[1] + claims_of(events, "fair-")[1])
    assert len(times) > 100
    interval_ms, burst = 25, 5
    for i, first in enumerate(times):
        for count, last in enumerate(times[i : i + 200], start=1):
            assert count <= burst + (last - first + 1) / interval_ms, (i, count)


async def test_processes_under_kills_fire_each_tick_exactly_once(
    cb: callboard.Callboard, stage: Stage, valkey_url: str, namespace: str
) -> None:
    names = [f"r{i}" for i in range(30)]
    for name in names:
        await cb.recurring.create(name, "x", every=1, catch_up="all")

    crowd = stage.start("crowd", url=valkey_url, namespace=namespace, do="fire", count=8, kills=50)
    assert crowd.hear() == "ready"
    killed = await asyncio.to_thread(crowd.hear, 90)
    while await cb.recurring.sweep():
        pass

    assert killed == 50
    tasks = [summary.id async for summary in cb.tasks.iterate()]
    by_name = Counter(task.partition("-")[0] for task in tasks)
    fired = Counter(
        fact.id
        for event in await events_of(cb)
        if event.type == "recurring:fired"
        for fact in event.facts
        if fact.state == "fired"
    )
    assert by_name == fired
    assert min(by_name.values()) >= 3
    for one in await cb.recurring.list():
        assert one.last_at is not None
        first = one.last_at - timedelta(seconds=one.fired - 1)
        ticks = [first + timedelta(seconds=i) for i in range(one.fired)]
        assert {f"{one.name}-{tick:%Y%m%dT%H%M%S}Z" for tick in ticks} <= set(tasks)
