"""Circuit breakers: who may call, what opens and closes them, and the claims that they gate."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from callboard.domain.breaker import BreakerPolicy, Permit
from callboard.domain.task import Requirements, at_ms
from callboard.domain.why import Why, explain
from callboard.exceptions import (
    BreakerNotFound,
    CircuitOpen,
    EngineError,
    InvalidArgument,
    LeaseLost,
)
from callboard.services.breakers import Breakers
from tests.functions.support import BOARD, MIRA, NOOR, START_US, Stage, changed, spec, types_of

pytestmark = pytest.mark.every_engine

API = "external-api"
QUICK = BreakerPolicy(failure_threshold=2, success_threshold=2, open_for=10, half_open_limit=1)


@pytest.fixture
def breakers(stage: Stage) -> Breakers:
    return Breakers(stage.namespace)


async def fail(breakers: Breakers, times: int, component: str = API) -> None:
    for _ in range(times):
        await breakers.record(await breakers.admit(component), "failure")


async def state(breakers: Breakers, component: str = API) -> str:
    return (await breakers.get(component)).state


# Refusals


@pytest.mark.parametrize(
    "wrong",
    ["", "a b", "x" * 161, 'a"b', "a|b", "a\nb", None, 5],
    ids=repr,
)
async def test_what_names_no_component_is_refused(
    stage: Stage, breakers: Breakers, wrong: Any
) -> None:
    before = await stage.dump()

    for call in (
        breakers.configure(wrong),
        breakers.admit(wrong),
        breakers.isolate(wrong),
        breakers.get(wrong),
        breakers.record(Permit(component=wrong, number=1)),
    ):
        with pytest.raises(InvalidArgument):
            await call

    assert await stage.dump() == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_threshold": 0},
        {"failure_threshold": True},
        {"failure_threshold": None},
        {"failure_rate": 0},
        {"failure_rate": 1.1},
        {"failure_rate": float("nan")},
        {"window": 0},
        {"volume": 0},
        {"open_for": 0},
        {"open_for": float("inf")},
        {"half_open_limit": 0},
        {"half_open_limit": 101},
        {"success_threshold": 0},
        {"permit_lease": -1},
    ],
    ids=str,
)
def test_what_is_no_policy_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        BreakerPolicy(**wrong)


@pytest.mark.parametrize("component", [API, "agent:", "kind:a b", "agents:mira"])
async def test_only_agents_and_kinds_gate(stage: Stage, breakers: Breakers, component: str) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await breakers.configure(component, gates=True)

    assert await stage.dump() == before


async def test_a_component_without_a_breaker_has_none_to_look_at(
    stage: Stage, breakers: Breakers
) -> None:
    before = await stage.dump()

    for call in (
        breakers.get(API),
        breakers.metrics(API),
        breakers.reset(API),
        breakers.force(API, "open"),
        breakers.remove(API),
    ):
        with pytest.raises(BreakerNotFound, match="external-api"):
            await call

    assert await stage.dump() == before
    assert await breakers.list() == []


async def test_a_foreign_value_stops_a_breakers_function_before_its_first_write(
    stage: Stage, breakers: Breakers
) -> None:
    for key in (f"circuit_breakers:{API}", "breakers", "breakers:gates"):
        await stage.raw("DEL", f"circuit_breakers:{API}", stage.keys.prefix + "breakers")
        await stage.raw("SET", key, "not ours")
        before = await stage.dump()

        for call in (
            breakers.configure(API),
            breakers.admit(API, policy="documented"),
            breakers.isolate(API),
        ):
            with pytest.raises(EngineError, match="wrong type"):
                await call

        assert changed(before, await stage.dump()) == set()
        await stage.raw("DEL", key)


async def test_a_foreign_value_under_a_gates_name_stops_no_claim(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure("kind:other", gates=True)
    await stage.raw("SET", "circuit_breakers:kind:work", "not ours")
    await stage.raw("SET", "circuit_breakers:agent:mira", "not ours")
    await stage.submit("t")

    fence = await stage.held("t")

    assert await stage.complete("t", fence) == "ok"
    assert await stage.raw("GET", "circuit_breakers:kind:work") == b"not ours"


async def test_a_foreign_value_stops_neither_the_sweep_nor_the_list(
    stage: Stage, breakers: Breakers
) -> None:
    for component in ("one", "two", "three"):
        await breakers.admit(component, policy="documented")
    await stage.raw("DEL", "circuit_breakers:one")
    await stage.raw("SET", "circuit_breakers:one", "not ours")

    assert [breaker.component for breaker in await breakers.list()] == ["three", "two"]
    await stage.advance(8 * 86_400)
    assert not await breakers.sweep()

    assert await breakers.list() == []
    assert await stage.raw("ZCARD", "breakers") == 0
    assert await stage.raw("GET", "circuit_breakers:one") == b"not ours"


# Off


async def test_without_a_breaker_every_call_goes_ahead_and_nothing_is_kept(
    stage: Stage, breakers: Breakers
) -> None:
    before = await stage.dump()

    for _ in range(20):
        permit = await breakers.admit(API)
        assert permit == Permit(component=API)
        assert not await breakers.record(permit, "failure")

    await breakers.renew(permit)
    assert await stage.dump() == before


async def test_a_policy_in_the_call_makes_a_breaker_and_never_changes_one(
    breakers: Breakers,
) -> None:
    await breakers.admit(API, policy=QUICK)
    await breakers.admit(API, policy="documented")

    found = await breakers.get(API)

    assert found.policy == QUICK
    assert not found.is_configured
    await breakers.configure(API, "pattern")
    assert (await breakers.get(API)).is_configured
    assert (await breakers.get(API)).policy == BreakerPolicy(
        failure_threshold=1, success_threshold=1, open_for=300, half_open_limit=1
    )


# Closed to open


async def test_it_opens_at_so_many_failures_in_a_row(stage: Stage, breakers: Breakers) -> None:
    await breakers.configure(API)
    await fail(breakers, 4)
    await breakers.record(await breakers.admit(API), "success")
    await fail(breakers, 4)
    assert await state(breakers) == "closed"

    await fail(breakers, 1)

    found = await breakers.get(API)
    assert (found.state, found.failures, found.total_requests) == ("open", 5, 10)
    with pytest.raises(CircuitOpen, match="Try again in 60.0 s") as caught:
        await breakers.admit(API)
    assert caught.value.details == {
        "component": API,
        "state": "open",
        "retry_after": 60.0,
        "probes": 0,
    }
    assert (await breakers.metrics(API)).rejected_requests == 1


async def test_what_is_ignored_counts_for_nothing(breakers: Breakers) -> None:
    await breakers.configure(API, QUICK)
    await fail(breakers, 1)

    for _ in range(5):
        assert await breakers.record(await breakers.admit(API), "ignored")

    assert (await breakers.get(API)).failures == 1
    await fail(breakers, 1)
    assert await state(breakers) == "open"


RATE = BreakerPolicy(failure_threshold=None, failure_rate=0.5, window=10, volume=10)


async def test_the_rate_opens_nothing_below_its_volume(breakers: Breakers) -> None:
    await breakers.configure(API, RATE)

    await fail(breakers, 9)

    assert await state(breakers) == "closed"
    await fail(breakers, 1)
    assert await state(breakers) == "open"


async def test_the_rate_opens_at_its_share_of_the_window_whatever_the_order(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(API, RATE)
    for outcome in ("failure", "success") * 4:
        await breakers.record(await breakers.admit(API), outcome)
    await breakers.record(await breakers.admit(API), "failure")
    assert await state(breakers) == "closed"

    await breakers.record(await breakers.admit(API), "success")

    assert await state(breakers) == "open"
    events = [event for event in await stage.news() if event.type == "circuitbreaker:state-change"]
    assert [fact.extra for event in events for fact in event.facts] == [
        "closed|5 of 10 calls failed"
    ]


async def test_failures_that_left_the_window_open_nothing(stage: Stage, breakers: Breakers) -> None:
    await breakers.configure(API, RATE)
    await fail(breakers, 9)
    await stage.advance(10)

    await fail(breakers, 9)

    assert await state(breakers) == "closed"
    await stage.advance(9)
    await fail(breakers, 1)
    assert await state(breakers) == "open"


# Open to half-open to closed


async def test_the_documented_breaker_closes_after_three_good_probes(
    stage: Stage, breakers: Breakers
) -> None:
    """5 failures, 3 successes, 60 s, 2 probes: more successes are asked than probes are out."""
    await breakers.configure(API, "documented")
    await fail(breakers, 5)
    await stage.advance(59.9)
    with pytest.raises(CircuitOpen):
        await breakers.admit(API)
    await stage.advance(0.2)

    first, second = await breakers.admit(API), await breakers.admit(API)

    assert first.is_probe
    assert first.lease == 30
    with pytest.raises(CircuitOpen, match="half-open, with 2 probes under way"):
        await breakers.admit(API)
    await breakers.record(first)
    third = await breakers.admit(API)
    await breakers.record(second)
    assert await state(breakers) == "half-open"
    await breakers.record(third)
    assert await state(breakers) == "closed"
    assert (await breakers.get(API)).opened_at is None


async def test_the_pattern_goes_through_half_open_after_300_seconds(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(API, "pattern")
    await fail(breakers, 1)
    seen = []
    for _ in range(700):
        await stage.advance(1)
        try:
            permit = await breakers.admit(API)
        except CircuitOpen:
            pass
        else:
            seen.append(stage.now - START_US)
            await breakers.record(permit, "success")
            break

    events = [event for event in await stage.news() if event.type == "circuitbreaker:state-change"]
    assert seen == [300_000_000]
    assert [(fact.id, fact.state, fact.extra) for event in events for fact in event.facts] == [
        (API, "open", "closed|1 failure"),
        (API, "half-open", "open|open time over"),
        (API, "closed", "half-open|recovery_successful"),
    ]


async def test_a_failed_probe_opens_it_for_another_time(stage: Stage, breakers: Breakers) -> None:
    await breakers.configure(API, QUICK)
    await fail(breakers, 2)
    await stage.advance(10)
    await breakers.record(await breakers.admit(API))

    await fail(breakers, 1)

    with pytest.raises(CircuitOpen) as caught:
        await breakers.admit(API)
    assert caught.value.details["retry_after"] == 10
    await stage.advance(10)
    for _ in range(2):
        await breakers.record(await breakers.admit(API))
    assert await state(breakers) == "closed"


async def test_of_a_hundred_callers_at_once_the_limit_passes(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(API)
    await fail(breakers, 5)
    await stage.advance(60)

    answers = await asyncio.gather(
        *(breakers.admit(API) for _ in range(100)), return_exceptions=True
    )

    passed = [answer for answer in answers if isinstance(answer, Permit)]
    assert len(passed) == 2
    assert len({permit.number for permit in passed}) == 2
    assert (await breakers.metrics(API)).half_open_requests == 2
    assert (await breakers.metrics(API)).rejected_requests == 98


async def test_an_ignored_probe_frees_its_place(stage: Stage, breakers: Breakers) -> None:
    await breakers.configure(API, QUICK)
    await fail(breakers, 2)
    await stage.advance(10)

    for _ in range(5):
        assert await breakers.record(await breakers.admit(API), "ignored")

    assert await state(breakers) == "half-open"


# Leases


async def test_a_probe_that_was_not_heard_of_frees_its_place(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(API, QUICK)
    await fail(breakers, 2)
    await stage.advance(10)
    lost = await breakers.admit(API)
    await stage.advance(29.9)
    with pytest.raises(CircuitOpen) as caught:
        await breakers.admit(API)
    assert caught.value.details["retry_after"] == pytest.approx(0.1)
    await stage.advance(0.2)

    permit = await breakers.admit(API)

    assert not await breakers.record(lost, "failure")
    with pytest.raises(LeaseLost):
        await breakers.renew(lost)
    assert await state(breakers) == "half-open"
    assert await breakers.record(permit)


async def test_a_late_probe_counts_while_nobody_has_its_place(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(API, QUICK)
    await fail(breakers, 2)
    await stage.advance(10)
    late = await breakers.admit(API)
    await stage.advance(60)

    assert await breakers.record(late, "failure")

    assert await state(breakers) == "open"


async def test_a_renewed_probe_keeps_its_place(stage: Stage, breakers: Breakers) -> None:
    await breakers.configure(API, QUICK)
    await fail(breakers, 2)
    await stage.advance(10)
    permit = await breakers.admit(API, lease=5)
    for _ in range(10):
        await stage.advance(4)
        await breakers.renew(permit, lease=5)

    with pytest.raises(CircuitOpen):
        await breakers.admit(API)
    assert await breakers.record(permit)


async def test_a_suspended_engine_takes_no_probes_place(stage: Stage, breakers: Breakers) -> None:
    await breakers.configure(API, QUICK)
    await fail(breakers, 2)
    await stage.advance(10)
    permit = await breakers.admit(API)

    stage.now += 3_600_000_000

    with pytest.raises(CircuitOpen):
        await breakers.admit(API)
    assert await breakers.record(permit)


# Stale outcomes


async def test_an_outcome_from_before_the_trip_changes_nothing(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(API, QUICK)
    slow = [await breakers.admit(API) for _ in range(4)]
    await fail(breakers, 2)
    before = await breakers.get(API)

    assert not await breakers.record(slow[0], "failure")
    assert not await breakers.record(slow[1], "success")
    assert await breakers.get(API) == before
    await stage.advance(10)
    probe = await breakers.admit(API)
    assert not await breakers.record(slow[2], "failure")
    assert await state(breakers) == "half-open"
    await breakers.record(probe)
    await breakers.record(await breakers.admit(API))
    assert await state(breakers) == "closed"
    assert not await breakers.record(slow[3], "failure")
    assert (await breakers.get(API)).failures == 0


async def test_an_outcome_counts_once(stage: Stage, breakers: Breakers) -> None:
    await breakers.configure(API, QUICK)
    await fail(breakers, 2)
    await stage.advance(10)
    permit = await breakers.admit(API)

    assert await breakers.record(permit)
    assert not await breakers.record(permit)

    assert (await breakers.get(API)).successes == 1


async def test_a_permit_counts_once_on_a_closed_breaker(breakers: Breakers) -> None:
    await breakers.configure(API, BreakerPolicy(failure_threshold=3))
    permit = await breakers.admit(API)

    first = await breakers.record(permit, "failure")
    again = [await breakers.record(permit, "failure") for _ in range(5)]

    assert first
    assert not any(again)
    assert ((await breakers.get(API)).failures, await state(breakers)) == (1, "closed")


async def test_a_probe_counts_no_second_time_after_it_closed_the_breaker(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(API, BreakerPolicy(failure_threshold=1, success_threshold=1))
    await breakers.force(API, "half-open")
    permit = await breakers.admit(API)
    assert await breakers.record(permit)

    assert not await breakers.record(permit, "failure")
    assert await state(breakers) == "closed"


async def test_a_permit_that_was_never_given_counts_for_nothing(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(API, BreakerPolicy(failure_threshold=1))
    before = await stage.dump()

    assert not await breakers.record(Permit(component=API, number=2**53 - 1), "failure")
    assert await stage.dump() == before


async def test_no_more_than_a_hundred_recorded_permits_are_remembered(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(API)
    permits = [await breakers.admit(API) for _ in range(102)]
    for permit in permits:
        await breakers.record(permit)

    kept = (await stage.raw("HGET", f"circuit_breakers:{API}", "recorded")).decode().split(",")

    assert kept == [str(permit.number) for permit in reversed(permits[2:])]


@pytest.mark.parametrize("wrong", [None, 5, "p"], ids=repr)
async def test_what_is_no_permit_cannot_be_recorded(breakers: Breakers, wrong: Any) -> None:
    for call in (breakers.record(wrong), breakers.renew(wrong)):
        with pytest.raises(InvalidArgument, match="no permit"):
            await call


# By hand


async def test_an_isolated_breaker_is_open_until_somebody_resets_it(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(API, QUICK)
    permit = await breakers.admit(API)

    await breakers.isolate(API, reason="a | b\nc", by="ann")

    await stage.advance(86_400)
    with pytest.raises(CircuitOpen, match="isolated") as caught:
        await breakers.admit(API)
    assert caught.value.details["retry_after"] is None
    assert not await breakers.record(permit, "success")
    found = await breakers.get(API)
    assert (found.is_isolated, found.reason, found.retry_at) == (True, "a | b\nc", None)
    await breakers.reset(API)
    assert not (await breakers.admit(API)).is_probe
    found = await breakers.get(API)
    assert (found.total_requests, found.rejected_requests, found.is_isolated) == (1, 0, False)


async def test_isolating_what_has_no_breaker_leaves_nothing_once_it_is_reset(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.isolate(API)
    with pytest.raises(CircuitOpen):
        await breakers.admit(API)

    await breakers.reset(API)

    assert (await breakers.admit(API)).number == 0
    assert await stage.raw("EXISTS", f"circuit_breakers:{API}", stage.keys.prefix + "breakers") == 0


@pytest.mark.parametrize("to", ["open", "half-open", "closed"])
async def test_a_forced_breaker_goes_on_from_there(
    stage: Stage, breakers: Breakers, to: Any
) -> None:
    await breakers.configure(API, QUICK)
    before = await breakers.admit(API)

    await breakers.force(API, to)

    assert await state(breakers) == to
    assert not await breakers.record(before, "failure")
    await stage.advance(10)
    permit = await breakers.admit(API)
    assert permit.is_probe == (to != "closed")
    assert await breakers.record(permit)


async def test_reset_all_passes_over_one_that_was_removed_meanwhile(
    stage: Stage, breakers: Breakers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await breakers.configure(API)
    await breakers.configure("other")
    listed = await breakers.list()
    await breakers.remove("other")

    async def stale_list() -> list[Any]:
        return listed

    monkeypatch.setattr(breakers, "list", stale_list)

    assert await breakers.reset_all() == 1


async def test_reset_all_closes_each(breakers: Breakers) -> None:
    for component in ("a", "b"):
        await breakers.configure(component, QUICK)
        await breakers.force(component, "open")

    assert await breakers.reset_all() == 2

    assert [(b.component, b.state) for b in await breakers.list()] == [
        ("a", "closed"),
        ("b", "closed"),
    ]


async def test_a_new_policy_keeps_state_and_counts(stage: Stage, breakers: Breakers) -> None:
    assert await breakers.configure(API, QUICK)
    await fail(breakers, 2)

    assert not await breakers.configure(API, BreakerPolicy(open_for=20))

    found = await breakers.get(API)
    assert (found.state, found.failures) == ("open", 2)
    assert found.retry_at is not None
    assert found.opened_at is not None
    assert (found.retry_at - found.opened_at).total_seconds() == 20


# What is told


async def test_each_change_is_published_as_documented(stage: Stage, breakers: Breakers) -> None:
    channel = stage.keys.breaker_channel()
    subscription = await stage.connection.subscribe_plain(channel)
    await breakers.configure(API, QUICK)
    await fail(breakers, 2)
    await stage.advance(10)
    for _ in range(2):
        await breakers.record(await breakers.admit(API))
    await breakers.isolate(API, reason='say "no"')

    heard = [await subscription.get(10) for _ in range(4)]

    head = b'{"type":"circuit_breaker_'
    assert [bell[1] for bell in heard if bell] == [
        head + b'opened","component":"external-api","reason":"2 failures in a row",'
        b'"timestamp":"2027-01-15T08:00:00.000Z"}',
        head + b'half_open","component":"external-api","timestamp":"2027-01-15T08:00:10.000Z"}',
        head + b'closed","component":"external-api","reason":"recovery_successful",'
        b'"timestamp":"2027-01-15T08:00:10.000Z"}',
        head + b'opened","component":"external-api","reason":"say \\"no\\"",'
        b'"timestamp":"2027-01-15T08:00:10.000Z"}',
    ]


async def test_no_channel_is_used_where_they_are_switched_off(
    stage: Stage, breakers: Breakers
) -> None:
    subscription = await stage.connection.subscribe_plain(stage.keys.breaker_channel())
    await stage.call("namespace_configure", "channels", "0")
    await breakers.configure(API, QUICK)

    await fail(breakers, 2)

    assert types_of(await stage.news())[-1] == "circuitbreaker:state-change"
    await stage.call("namespace_configure", "channels", "1")
    await breakers.reset(API)
    first = await subscription.get(10)
    assert first is not None
    assert b"circuit_breaker_closed" in first[1]


async def test_the_documented_fields_are_plain_in_the_hash(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(API, QUICK)
    await fail(breakers, 2)

    raw = await stage.raw("HMGET", f"circuit_breakers:{API}", "state", "opened_at")

    assert raw == [b"open", b"1800000000000"]


# Two connections


async def test_two_nodes_agree(stage: Stage, breakers: Breakers, engine_url: str) -> None:
    other = await Stage.open(engine_url, stage.name)
    theirs = Breakers(other.namespace)
    await breakers.configure(API, QUICK)
    await fail(breakers, 1)

    await fail(theirs, 1)

    with pytest.raises(CircuitOpen):
        await breakers.admit(API)
    with pytest.raises(CircuitOpen):
        await theirs.admit(API)
    await other.connection.close()


# What is forgotten


async def test_what_nobody_configured_is_forgotten_after_seven_days_without_use(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.admit("used", policy=QUICK)
    await breakers.admit("unused", policy=QUICK)
    await breakers.configure("configured", QUICK)
    await breakers.isolate("isolated")
    await stage.advance(4 * 86_400)
    await breakers.admit("used")
    await stage.advance(4 * 86_400)

    while await breakers.sweep(limit=1):
        pass

    assert [b.component for b in await breakers.list()] == ["configured", "isolated", "used"]
    await stage.advance(8 * 86_400)
    await breakers.sweep()
    assert [b.component for b in await breakers.list()] == ["configured", "isolated"]
    await breakers.remove("configured")
    await breakers.reset("isolated")
    assert {name for name in await stage.key_names() if "breaker" in name} == set()


# Claims: breakers that gate


GATE = BreakerPolicy(failure_threshold=2, success_threshold=3, open_for=10, half_open_limit=2)
KIND, AGENT = "kind:work", "agent:mira"


@pytest.fixture(params=[KIND, AGENT])
async def gate(request: pytest.FixtureRequest, breakers: Breakers) -> str:
    """A breaker that gates the claims, two failures from open."""
    await breakers.configure(request.param, GATE, gates=True)
    name: str = request.param
    return name


async def trip(stage: Stage, breakers: Breakers, gate: str) -> None:
    await stage.submit("bad1", "bad2")
    for name in ("bad1", "bad2"):
        await stage.fail(name, await stage.held(name), delay_ms=3_600_000)
    assert await state(breakers, gate) == "open"


async def test_without_gates_a_claim_costs_no_command_more(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(KIND, GATE)
    await breakers.configure("kind:other", GATE, gates=True)
    await breakers.configure("kind:other", GATE)
    await stage.submit("t")

    fence = await stage.held("t")

    assert (await stage.record("t")).flags == ""
    assert await stage.raw("HGET", "callboard:format", "gated") is None
    await stage.fail("t", fence)
    assert (await breakers.get(KIND)).failures == 0


async def test_a_breaker_that_does_not_gate_leaves_claims_alone_beside_one_that_does(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure("kind:other", GATE, gates=True)
    await breakers.configure(KIND, GATE)
    await breakers.isolate(KIND)
    await stage.submit("t")

    assert (await stage.claim()).ids == ["t"]

    assert (await stage.record("t")).flags == ""


async def test_failed_claims_open_the_breaker_that_gates_them(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await trip(stage, breakers, gate)
    await stage.submit("t")
    before = await stage.dump()

    grant = await stage.claim()
    taken = await stage.take("t")

    assert grant.status == ("empty" if gate == KIND else "breaker_open")
    assert (taken.status, taken.facts[:2]) == ("breaker_open", [gate, "open"])
    assert int(taken.facts[2]) == 10_000
    if gate == AGENT:
        assert (await stage.step(limit=1))[2].status == "breaker_open"
        assert await stage.dump() == before
        assert (await stage.claim(NOOR)).ids == ["t"]


async def test_a_kinds_breaker_leaves_other_kinds_alone(stage: Stage, breakers: Breakers) -> None:
    await breakers.configure(KIND, GATE, gates=True)
    await trip(stage, breakers, KIND)
    await stage.submit("t", spec("other", kind="other"))

    assert (await stage.claim(limit=10)).ids == ["other"]


async def test_a_half_open_gate_lets_as_many_claims_through_as_probes(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await trip(stage, breakers, gate)
    await stage.submit(*(f"t{i}" for i in range(6)), spec("other", kind="other"))
    await stage.advance(10)

    grant = await stage.claim(limit=6)

    assert grant.ids == ["t0", "t1"] + (["other"] if gate == KIND else [])
    probes = grant.tasks[:2]
    assert (await breakers.metrics(gate)).half_open_requests == 2
    assert (await stage.claim(limit=6)).ids == []
    assert await stage.complete(probes[0].id, probes[0].fence) == "ok"
    assert (await stage.claim(limit=6)).ids == ["t2"]


async def test_a_gate_that_is_taken_away_gives_up_the_probes_of_its_claims(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await breakers.configure(gate, QUICK, gates=True)
    await breakers.force(gate, "half-open")
    await stage.submit("t")
    fence = await stage.held("t")
    assert (await breakers.get(gate)).probes == 1

    await breakers.configure(gate, QUICK, gates=False)

    assert (await breakers.get(gate)).probes == 0
    assert await stage.complete("t", fence) == "ok"
    assert (await breakers.admit(gate)).is_probe


async def test_lanes_of_one_kind_share_its_probes(stage: Stage, breakers: Breakers) -> None:
    await breakers.configure(KIND, GATE, gates=True)
    await stage.agent("able", capabilities=["a", "b"])
    await breakers.force(KIND, "half-open")
    for index, able in enumerate(("", "a", "b", "", "a", "b")):
        needs = Requirements(capabilities=(able,) if able else ())
        stage.now += 1_000
        await stage.submit(spec(f"t{index}", requirements=needs))

    assert (await stage.claim("able", limit=6)).ids == ["t0", "t1"]


async def test_ones_own_reservations_take_no_more_than_the_gate_allows(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await stage.wait_as(MIRA, wants=4)
    await stage.submit("t0", "t1", "t2", "t3")
    assert await stage.status("t3") == "assigned"
    await breakers.force(gate, "half-open")

    assert (await stage.claim(limit=4)).ids == ["t0", "t1"]


async def test_three_completed_probes_close_the_gate(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await trip(stage, breakers, gate)
    await stage.submit(*(f"t{i}" for i in range(8)))
    await stage.advance(10)

    for _ in range(3):
        (task,) = (await stage.claim()).tasks
        await stage.step(done=[(task.id, task.fence, "1")])

    assert await state(breakers, gate) == "closed"
    assert len((await stage.claim(limit=10)).ids) == 5


async def test_completing_and_claiming_goes_on_with_the_place_that_it_freed(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await breakers.configure(gate, QUICK, gates=True)
    await trip(stage, breakers, gate)
    await stage.submit("t0", "t1")
    await stage.advance(10)
    (task,) = (await stage.claim()).tasks

    answers, _, grant = await stage.step(done=[(task.id, task.fence, "1")], limit=1)

    assert (answers, grant.ids) == (["ok"], ["t1"])


@pytest.mark.parametrize(
    ("how", "failures"),
    [
        ("complete", 0),
        ("fail", 2),
        ("fail for good", 1),
        ("fail when asked to stop", 1),
        ("timeout", 2),
        ("lease loss", 2),
        ("loss before its start", 1),
        ("release", 1),
        ("handoff", 1),
        ("ask", 1),
        ("split", 1),
        ("cancel", 1),
    ],
)
async def test_each_end_of_a_claim_is_recorded_as_it_should(
    stage: Stage, breakers: Breakers, gate: str, how: str, failures: int
) -> None:
    """One failure stands: success sets it to zero, a failure adds one, all else leaves it."""
    await breakers.configure(gate, BreakerPolicy(failure_threshold=3), gates=True)
    await stage.submit("first", spec("t", timeout=5 if how == "timeout" else None))
    await stage.fail("first", await stage.held("first"), retryable=True, delay_ms=3_600_000)
    ahead = how == "loss before its start"
    (task,) = (await stage.claim(started=0 if ahead else None)).tasks
    assert "O" in (await stage.record("t")).flags

    match how:
        case "complete":
            await stage.complete("t", task.fence)
        case "fail":
            await stage.fail("t", task.fence)
        case "fail for good":
            await stage.fail("t", task.fence, retryable=False)
        case "fail when asked to stop":
            await stage.cancel("t")
            await stage.fail("t", task.fence)
        case "timeout" | "lease loss" | "loss before its start":
            await stage.after(40)
        case "release":
            await stage.release("t", task.fence)
        case "handoff":
            await stage.handoff("t", task.fence)
        case "ask":
            await stage.ask("t", task.fence)
        case "split":
            await stage.split("t", task.fence, spec("child"))
        case "cancel":
            await stage.cancel("t", task.fence)

    assert (await breakers.get(gate)).failures == failures
    assert "O" not in (await stage.record("t")).flags


async def test_a_probe_whose_holder_died_frees_its_place_with_its_lease(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await breakers.configure(gate, QUICK, gates=True)
    await trip(stage, breakers, gate)
    await stage.submit("t0", "t1")
    await stage.advance(10)
    await stage.claim()
    assert (await breakers.metrics(gate)).half_open_requests == 1

    await stage.after(40)

    assert await state(breakers, gate) == "open"
    assert (await breakers.metrics(gate)).half_open_requests == 0


async def test_a_claim_from_before_the_trip_neither_closes_nor_opens(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await stage.submit("slow1", "slow2")
    slow = (await stage.claim(limit=2, lease_ms=3_600_000)).tasks
    await trip(stage, breakers, gate)
    await stage.submit("t")
    await stage.advance(10)
    (probe,) = (await stage.claim()).tasks

    await stage.fail(slow[0].id, slow[0].fence)
    await stage.complete(slow[1].id, slow[1].fence)

    assert await state(breakers, gate) == "half-open"
    assert (await breakers.get(gate)).successes == 0
    await stage.complete(probe.id, probe.fence)
    assert (await breakers.get(gate)).successes == 1


async def test_work_is_offered_to_nobody_whose_gate_is_not_closed(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await stage.wait_as(MIRA)
    await stage.submit("before")
    assert (await stage.claim()).ids == ["before"]
    await stage.wait_as(MIRA)
    await breakers.force(gate, "half-open")

    await stage.submit("t")

    assert await stage.status("t") == "pending"
    await breakers.force(gate, "closed")
    await stage.submit("u")
    assert await stage.status("u") == "assigned"


async def test_a_reservation_is_not_taken_up_while_the_gate_is_open(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await stage.wait_as(MIRA, wants=3)
    await stage.submit("t0", "t1", "t2")
    await breakers.force(gate, "open")
    accept = ("task_accept", BOARD, MIRA, "i1", 30_000, 0, 0, 0, 3, "t0", "t1", "t2")

    assert (await stage.call(*accept)).status == "empty"

    await stage.advance(10)
    taken = await stage.call(*accept)
    assert taken.status == "ok"
    assert await stage.statuses("t0", "t1", "t2") == ["claimed", "claimed", "assigned"]


async def test_an_isolated_gate_lets_nothing_through(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await stage.submit("t")
    await breakers.isolate(gate)
    await stage.advance(86_400)

    reply = await stage.take("t")

    assert (reply.status, reply.facts) == ("breaker_open", [gate, "open", "-1", "0"])
    await breakers.reset(gate)
    assert (await stage.claim()).ids == ["t"]


async def test_a_breaker_that_was_removed_gates_nothing(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await trip(stage, breakers, gate)
    await stage.submit("t")
    fence = await stage.held("t", NOOR) if gate == AGENT else 0

    await breakers.remove(gate)

    assert await stage.raw("HGET", "callboard:format", "gated") is None
    fence = fence or await stage.held("t")
    assert await stage.complete("t", fence) == "ok"


async def test_a_thief_takes_no_more_than_the_gate_allows(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await stage.wait_as(NOOR, wants=8)
    await stage.submit(*(f"t{i}" for i in range(8)))
    assert await stage.status("t7") == "assigned"
    await breakers.force(gate, "half-open")

    grant = await stage.claim(limit=8)

    assert len(grant.ids) == 2
    assert (await breakers.metrics(gate)).half_open_requests == 2


# Why


async def why(stage: Stage, task: str = "t") -> Why:
    return explain(BOARD, task, (await stage.call("task_why", BOARD, task)).raw)


async def test_why_names_the_open_breaker_of_the_kind(stage: Stage, breakers: Breakers) -> None:
    await breakers.configure(KIND, GATE, gates=True)
    await trip(stage, breakers, KIND)
    await stage.submit("t", "u", "v")

    found = await why(stage)

    assert (found.code, found.text) == (
        "breaker_open",
        "The breaker kind:work is open; it is tried again in 10.0 s.",
    )
    assert found.until == at_ms(START_US / 1_000 + 10_000)
    await stage.advance(10)
    assert (await why(stage)).code == "claimable"
    await stage.claim(limit=2)
    assert (await why(stage, "v")).text.startswith(
        "The breaker kind:work is half-open, with 2 probes under way."
    )
    await breakers.isolate(KIND)
    assert "kind:work is isolated" in (await why(stage, "v")).text


async def test_why_names_the_agents_whose_breakers_are_open(
    stage: Stage, breakers: Breakers
) -> None:
    for name in (MIRA, NOOR):
        await breakers.configure(f"agent:{name}", GATE, gates=True)
    await breakers.isolate("agent:mira")
    await stage.submit("t")
    assert (await why(stage)).code == "claimable"
    await breakers.isolate("agent:noor")

    found = await why(stage)

    assert found.code == "breaker_open"
    assert found.agents == {"breaker_open": (MIRA, NOOR)}


# Agents


async def test_an_agent_whose_gate_is_open_is_less_healthy(
    stage: Stage, breakers: Breakers
) -> None:
    async def health() -> float:
        reply = await stage.call("agent_read", MIRA, "", "", "", "", "", "", 0, 1)
        return float(reply.raw[3][0])

    await breakers.configure(AGENT, GATE)
    await breakers.force(AGENT, "open")
    assert await health() == 1
    await breakers.configure(AGENT, GATE, gates=True)
    assert await health() == 0.5
    await stage.advance(10)
    assert await health() == 1
    await breakers.isolate(AGENT)
    assert await health() == 0.5


async def test_a_task_that_asks_for_health_may_close_the_agents_breaker(
    stage: Stage, breakers: Breakers
) -> None:
    await breakers.configure(AGENT, QUICK, gates=True)
    await breakers.force(AGENT, "open")
    await stage.submit(
        *(spec(f"t{i}", requirements=Requirements(min_health_score=0.9)) for i in range(3))
    )
    await stage.advance(10)

    for _ in range(2):
        (task,) = (await stage.claim()).tasks
        await stage.complete(task.id, task.fence)

    assert await state(breakers, AGENT) == "closed"


async def test_a_reservation_that_a_breaker_kept_from_being_taken_up_is_not_held_against_the_agent(
    stage: Stage, breakers: Breakers, gate: str
) -> None:
    await stage.wait_as(MIRA)
    await stage.submit("t")
    await breakers.isolate(gate)

    await stage.after(6)

    assert await stage.status("t") == "pending"
    assert await stage.raw("HGET", "agent:mira", "lapsed") is None
