"""Many callers of one component in several processes: no more probes than the breaker allows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

import callboard
from callboard import BreakerPolicy
from tests.chaos.processes import Program
from tests.race import support

API = "external-api"
CALLERS, EACH = 4, 25

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def callers(cb: callboard.Callboard, valkey_url: str, namespace: str) -> Iterator[list[Program]]:
    """Processes that have opened the test's namespace."""
    each = [{"namespace": namespace}] * CALLERS
    with support.racing("caller", *each, url=valkey_url) as programs:
        yield programs


def all_do(callers: list[Program], **message: Any) -> list[Any]:
    return list(chain.from_iterable(support.all_do(callers, **message)))


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
