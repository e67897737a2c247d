"""Many callers of one component in several processes: no more probes than the breaker allows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import callboard
from callboard import BreakerPolicy
from tests.chaos.processes import Program, Stage

PROGRAMS = Path(__file__).parent / "programs"
API = "external-api"
CALLERS, EACH = 4, 25

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def cb(valkey_url: str, namespace: str) -> AsyncIterator[callboard.Callboard]:
    async with callboard.connect(valkey_url, namespace=namespace) as opened:
        yield opened


@pytest.fixture
def callers(cb: callboard.Callboard, valkey_url: str, namespace: str) -> Iterator[list[Program]]:
    """Processes that have opened the test's namespace."""
    stage = Stage(PROGRAMS)
    try:
        for _ in range(CALLERS):
            stage.start("caller", url=valkey_url, namespace=namespace)
        for program in stage.programs:
            assert program.hear() == "ready"
        yield stage.programs
    finally:
        stage.close()


def all_do(callers: list[Program], **message: Any) -> list[Any]:
    for caller in callers:
        caller.tell(**message)
    return [part for caller in callers for part in caller.hear()]


@pytest.mark.parametrize("limit", [1, 2])
async def test_of_a_hundred_callers_in_four_processes_the_limit_passes_each_time(
    cb: callboard.Callboard, callers: list[Program], limit: int
) -> None:
    policy = BreakerPolicy(half_open_limit=limit, success_threshold=3 * limit)
    await cb.breakers.configure(API, policy)
    await cb.breakers.force(API, "half-open")

    for round_ in range(3):
        given = all_do(callers, do="storm", component=API, calls=EACH)
        assert len(given) == len(set(given)) == limit
        assert (await cb.breakers.metrics(API)).half_open_requests == limit
        assert (await cb.breakers.get(API)).successes == round_ * limit
        assert all_do(callers, do="record", outcome="success") == [True] * limit

    found = await cb.breakers.get(API)
    assert (found.state, found.total_requests) == ("closed", 3 * limit)
    assert found.rejected_requests == 3 * (CALLERS * EACH - limit)


async def test_failures_of_all_processes_open_one_breaker_once(
    cb: callboard.Callboard, callers: list[Program]
) -> None:
    await cb.breakers.configure(API, BreakerPolicy(failure_threshold=100))
    given = all_do(callers, do="storm", component=API, calls=50)
    assert len(given) == 200

    counted = all_do(callers, do="record", outcome="failure")

    assert sum(counted) == 100
    found = await cb.breakers.get(API)
    assert (found.state, found.failures) == ("open", 100)
    assert all_do(callers, do="storm", component=API, calls=5) == []
    events, _ = await cb.events.read()
    told = [e for e in events if e.type == "circuitbreaker:state-change"]
    assert len(told) == 1
