"""Keys of tasks: how many at once, how often, in which turns; over all boards, exactly."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest

from callboard.domain.flow import FlowHolder, FlowLimits
from callboard.domain.record import parse_record
from callboard.domain.task import Status, TaskSpec, at_ms
from callboard.domain.why import Why, explain
from callboard.exceptions import EngineError, FlowKeyNotFound, InvalidArgument, TooLarge
from callboard.services.flow import Flow
from tests.functions.scenario import Life
from tests.functions.support import BOARD, MIRA, NOOR, START_US, Stage, spec, types_of

pytestmark = pytest.mark.every_engine

START_MS = START_US // 1_000


@pytest.fixture
def flow(stage: Stage) -> Flow:
    return Flow(stage.namespace)


def slotted(*names: str, key: str = "k", **fields: Any) -> list[TaskSpec]:
    return [spec(name, concurrency_key=key, **fields) for name in names]


def rated(count: int, key: str = "r", start: int = 0) -> list[TaskSpec]:
    return [spec(f"r{i}", rate_key=key) for i in range(start, start + count)]


def fair(key: str | None, count: int, **fields: Any) -> list[TaskSpec]:
    return [spec(f"{key or 'plain'}-{i}", fairness_key=key, **fields) for i in range(count)]


async def running(flow: Flow, key: str = "k") -> int:
    return (await flow.get(key)).running


async def why_of(stage: Stage, task: str, board: str = BOARD) -> Why:
    return explain(board, task, (await stage.call("task_why", board, task)).raw)


# Refusals


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"key": "no key", "concurrency": 1},
        {"key": "k|", "concurrency": 1},
        {"key": "a*b", "concurrency": 1},
        {"key": "k" * 129, "concurrency": 1},
        {"concurrency": -1},
        {"concurrency": 1.5},
        {"concurrency": True},
        {"concurrency": 1_000_001},
        {"rate": 0},
        {"rate": -1},
        {"rate": 10_001},
        {"rate": 1e-310},
        {"rate": 10**400},
        {"rate": math.nan},
        {"rate": 1, "per": 0},
        {"rate": 1, "per": 31_536_001},
        {"rate": 0.5, "per": 31_536_000},
        {"rate": 1, "burst": 0},
        {"rate": 1, "burst": 2.0},
        {"burst": 2},
        {"concurrency": 1, "by": 7},
    ],
    ids=str,
)
async def test_what_is_no_limit_is_refused_at_the_edge(
    stage: Stage, flow: Flow, wrong: dict[str, Any]
) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await flow.limit(**{"key": "k", **wrong})

    assert await stage.dump() == before


@pytest.mark.parametrize("keys", ["abc", None, 7], ids=str)
async def test_many_keys_are_read_from_a_list(flow: Flow, keys: Any) -> None:
    with pytest.raises(InvalidArgument):
        await flow.get_many(keys)


@pytest.mark.parametrize("weight", [0, -1, 1_001, math.nan, "1", True], ids=str)
async def test_what_is_no_weight_is_refused_at_the_edge(flow: Flow, weight: Any) -> None:
    with pytest.raises(InvalidArgument):
        await flow.weight("k", weight)


@pytest.mark.parametrize("field", ["concurrency_key", "rate_key", "fairness_key"])
@pytest.mark.parametrize("key", ["", "a b", "a,b", "a;b", "a|b", "k*", 7, "k" * 129], ids=str)
def test_what_is_no_key_of_a_task_is_refused_at_the_edge(field: str, key: Any) -> None:
    from callboard.engine.codec import row_of

    with pytest.raises(InvalidArgument) as caught:
        row_of(spec("t", **{field: key}))

    assert caught.value.details["field"] == field


async def test_a_key_that_nothing_is_set_for_cannot_be_removed(stage: Stage, flow: Flow) -> None:
    await flow.limit("k", concurrency=1)
    before = await stage.dump()

    for key in ("other", "k*"):
        with pytest.raises(FlowKeyNotFound):
            await flow.remove(key)

    assert await stage.dump() == before


@pytest.mark.parametrize(("hash_name", "key"), [("limits", "k"), ("patterns", "k*")])
async def test_past_their_number_no_more_keys_are_set(
    stage: Stage, flow: Flow, hash_name: str, key: str
) -> None:
    most = {"limits": 10_000, "patterns": 100}[hash_name]
    for start in range(0, most, 1_000):
        names = range(start, min(start + 1_000, most))
        pairs = [part for i in names for part in (f"n{i}", "1||||")]
        await stage.raw("HSET", f"flow:{hash_name}", *pairs)
    before = await stage.dump()

    with pytest.raises(TooLarge, match="maximum"):
        await flow.limit(key, concurrency=1)

    assert await stage.dump() == before


async def test_a_task_whose_keys_have_no_room_cannot_be_taken_either(
    stage: Stage, flow: Flow
) -> None:
    await flow.limit("k", concurrency=1)
    await flow.limit("r", rate=1, per=10)
    await stage.submit(*slotted("a", "b"), *rated(2), spec("z", fairness_key="z"))
    await stage.held("a")
    await stage.held("r0")
    await flow.pause("z")
    before = await stage.dump()

    assert (await stage.take("b")).facts == ["concurrency", "k", "0"]
    assert (await stage.take("r1")).facts == ["rate", "r", str(START_MS + 10_000)]
    assert (await stage.take("z")).facts == ["paused", "z", "0"]
    assert await stage.dump() == before


# What is set


async def test_what_is_set_reads_back_and_adds_up(stage: Stage, flow: Flow) -> None:
    await flow.limit("k", concurrency=3)
    await flow.limit("k", rate=10, per=60, burst=4)
    await flow.weight("k", 2.5)
    found = await flow.pause("k")

    own = FlowLimits(concurrency=3, interval=6.0, burst=4, weight=2.5, is_paused=True)
    assert (found.own, found.holds) == (own, own)
    assert (found.running, found.waiting, found.next_at) == (0, 0, None)
    assert [one.key for one in await flow.list()] == ["k"]


async def test_a_key_takes_what_it_does_not_set_from_the_longest_pattern(flow: Flow) -> None:
    await flow.limit("*", concurrency=9, rate=1, per=1, burst=7)
    await flow.limit("acme-*", concurrency=5)
    await flow.limit("acme-eu-1", rate=10, per=1)
    await flow.limit("free", concurrency=math.inf, rate=math.inf)

    holds = {name: (await flow.get(name)).holds for name in ("acme-eu-1", "acme-us", "x", "free")}

    assert holds["acme-eu-1"] == FlowLimits(concurrency=5, interval=0.1, burst=1)
    assert holds["acme-us"] == FlowLimits(concurrency=5, interval=1.0, burst=7)
    assert holds["x"] == FlowLimits(concurrency=9, interval=1.0, burst=7)
    assert holds["free"] == FlowLimits()
    assert [one.key for one in await flow.list()] == ["*", "acme-*", "acme-eu-1", "free"]
    assert [one.key for one in await flow.list(limit=2, skip=1)] == ["acme-*", "acme-eu-1"]


async def test_an_interval_is_rounded_up_to_a_microsecond(flow: Flow) -> None:
    found = await flow.limit("k", rate=3, per=1)

    assert found.own.interval == 0.333334


async def test_each_change_is_an_event(stage: Stage, flow: Flow) -> None:
    _, cursor = await stage.events.read(None)

    await flow.limit("k", concurrency=2, by="ann")
    await flow.pause("k")
    await flow.remove("k", by="ann")

    news = [event for event in await stage.news(cursor) if event.type == "flow:changed"]
    assert [event.by for event in news] == ["ann", "", "ann"]
    facts = [(fact.id, fact.state, fact.extra) for event in news for fact in event.facts]
    assert facts == [
        ("k", "set", "2||||"),
        ("k", "set", "2|||1|"),
        ("k", "removed", "||||"),
    ]


async def test_what_was_paused_alone_leaves_nothing_once_it_goes_on(
    stage: Stage, flow: Flow
) -> None:
    await flow.pause("k")
    assert await stage.raw("HGET", "callboard:format", "limited") == b"1"

    await flow.resume("k")

    assert await flow.list() == []
    assert await stage.raw("HGET", "callboard:format", "limited") == b"0"


async def test_a_key_goes_on_under_a_pattern_that_pauses(stage: Stage, flow: Flow) -> None:
    await stage.submit(*slotted("a", key="c-1"), *slotted("b", key="c-2"))
    await flow.pause("c-*")
    assert (await stage.claim(limit=2)).ids == []

    await flow.resume("c-2")

    assert (await stage.claim(limit=2)).ids == ["b"]


# Concurrency


async def test_no_more_are_claimed_at_once_than_the_key_allows_on_all_boards(
    stage: Stage, flow: Flow
) -> None:
    await flow.limit("k", concurrency=3)
    await stage.submit(*slotted("a", "b", "c", kind="one"), *slotted("d", kind="two"), "plain")
    await stage.submit(*slotted("e", "f"), board="other")

    first = await stage.claim(limit=2)
    second = await stage.claim(NOOR, 9, board="other")
    third = await stage.claim(limit=9)

    assert (first.ids, second.ids, third.ids) == (["a", "b"], ["e"], ["plain"])
    found = await flow.get("k")
    assert (found.running, found.waiting) == (3, 3)
    assert found.holders[0] == FlowHolder("b", "a", first.fences[0])
    assert found.holders[2] == FlowHolder("other", "e", second.fences[0])


async def leave_for_good(stage: Stage) -> None:
    """The agent, with the instance that claimed, is deregistered."""
    who = (MIRA, ";;;;", "", 9, 10_000, "i1", 9, 0, "1", "here")
    assert (await stage.call("agent_register", *who)).status == "ok"
    assert (await stage.call("agent_deregister", MIRA, "ann")).status == "ok"


End = Callable[[Stage, int], Awaitable[Any]]
ENDS: dict[str, End] = {
    "complete": lambda s, fence: s.complete("a", fence),
    "step": lambda s, fence: s.step(done=[("a", fence, "1")]),
    "fail": lambda s, fence: s.fail("a", fence),
    "bury": lambda s, fence: s.fail("a", fence, retryable=False),
    "release": lambda s, fence: s.release("a", fence),
    "defer": lambda s, fence: s.release("a", fence, delay_ms=5_000),
    "cancel": lambda s, fence: s.cancel("a", fence),
    "ask": lambda s, fence: s.ask("a", fence),
    "split": lambda s, fence: s.split("a", fence, spec("child")),
    "handoff": lambda s, fence: s.handoff("a", fence),
    "lease_lost": lambda s, fence: s.after(31),
    "agent_gone": lambda s, fence: leave_for_good(s),
}


@pytest.mark.parametrize("parked", [False, True], ids=["running", "parked"])
@pytest.mark.parametrize("end", ENDS)
async def test_whatever_ends_a_claim_frees_its_slot(
    stage: Stage, flow: Flow, end: str, parked: bool
) -> None:
    await flow.limit("k", concurrency=1)
    await stage.submit(*slotted("a", "b"))
    fence = await stage.held("a")
    if parked:
        await stage.park("a", fence)
    assert (await stage.claim(NOOR)).ids == []
    assert await running(flow) == 1

    await ENDS[end](stage, fence)

    assert await running(flow) == 0
    assert "flow:slots:k" not in await stage.key_names()
    assert (await stage.take("b", NOOR)).status == "ok"
    assert await running(flow) == 1


async def test_a_parked_task_keeps_its_slot(stage: Stage, flow: Flow) -> None:
    await flow.limit("k", concurrency=1)
    await stage.submit(*slotted("a", "b"))
    fence = await stage.held("a")

    await stage.park("a", fence)
    assert (await stage.claim(NOOR)).ids == []
    await stage.park("a", fence, 0)

    assert await running(flow) == 1


async def test_claims_made_before_there_was_a_limit_count(stage: Stage, flow: Flow) -> None:
    await stage.submit(*slotted("a", "b", "c", "d"))
    assert (await stage.claim(limit=2)).ids == ["a", "b"]

    await flow.limit("k", concurrency=3)
    assert (await stage.claim(limit=5)).ids == ["c"]
    await flow.limit("k", concurrency=1)
    assert (await stage.claim(limit=5)).ids == []
    await flow.remove("k")

    assert (await stage.claim(limit=5)).ids == ["d"]


async def test_a_step_goes_on_with_the_slot_that_it_frees(stage: Stage, flow: Flow) -> None:
    await flow.limit("k", concurrency=1)
    await stage.submit(*slotted("a", "b"))
    fence = await stage.held("a")

    _, _, grant = await stage.step(done=[("a", fence, "1")], limit=5)

    assert grant.ids == ["b"]
    assert await running(flow) == 1


async def test_what_keys_hold_back_does_not_hide_what_else_there_is(
    stage: Stage, flow: Flow
) -> None:
    await flow.limit("k*", concurrency=0)
    blocked = [spec(f"t{i}", concurrency_key=f"k{i}") for i in range(600)]
    await stage.submit_all(blocked)
    await stage.submit("plain")

    assert (await stage.claim(limit=3)).ids == ["plain"]


async def test_tasks_with_limits_are_not_claimed_ahead_of_their_start(
    stage: Stage, flow: Flow
) -> None:
    await flow.limit("k", concurrency=9)
    await stage.submit(*slotted("a", "b", "c"), "p", "q")

    grant = await stage.claim(limit=5, started=2)

    assert grant.ids == ["a", "b", "p", "q"]
    assert [one.is_ahead for one in grant.tasks] == [False, False, True, True]


async def test_a_reservation_is_taken_up_only_where_there_is_room(stage: Stage, flow: Flow) -> None:
    await stage.submit(*slotted("a", "b", suggested_worker=MIRA))
    assert await stage.statuses("a", "b") == ["assigned", "assigned"]
    await flow.limit("k", concurrency=1)

    assert (await stage.claim(limit=5)).ids == ["a"]
    accept = (BOARD, MIRA, "i1", 30_000, 0, 0, 0, 1, "b")
    assert (await stage.call("task_accept", *accept)).status == "empty"
    assert (await stage.claim(NOOR, limit=5)).ids == []  # nor is it stolen
    await stage.after(11)

    assert await stage.statuses("a", "b") == ["claimed", "pending"]
    lapsed = await stage.raw("HGET", "agent:mira", "lapsed")
    assert lapsed is None  # it was not mira's fault


async def test_nothing_is_reserved_that_could_not_be_taken_up(stage: Stage, flow: Flow) -> None:
    await flow.limit("k", concurrency=1)
    await stage.submit(*slotted("a"))
    await stage.held("a", NOOR)

    await stage.submit(*slotted("b", suggested_worker=MIRA))

    assert await stage.status("b") == "pending"


# Who is woken


async def bells_of(stage: Stage, *agents: str) -> Any:
    return await stage.connection.subscribe(*(stage.keys.agent_bell(one, "i1") for one in agents))


async def heard(stage: Stage, bells: Any, *agents: str) -> list[tuple[str, bytes]]:
    """What rang before a bell of the test's own."""
    await stage.connection.call("SPUBLISH", stage.keys.agent_bell(agents[0], "i1"), "end")
    found = []
    while (bell := await bells.get(10)) is not None and bell[1] != b"end":
        found.append((bell[0].rpartition("agent:")[2], bell[1]))
    bells.close()
    return sorted(found)


async def test_a_submit_rings_as_many_as_the_key_has_room_for(stage: Stage, flow: Flow) -> None:
    await flow.limit("k", concurrency=1)
    for agent in (MIRA, NOOR):
        await stage.wait_as(agent)
    bells = await bells_of(stage, MIRA, NOOR)

    await stage.submit(*slotted("a", "b", "c"))

    rung = await heard(stage, bells, MIRA, NOOR)
    assert [payload for _, payload in rung] == [b"b"]  # to look, not a reservation
    assert await stage.statuses("a", "b", "c") == ["pending"] * 3


async def test_a_freed_slot_rings_who_waits_on_another_board(stage: Stage, flow: Flow) -> None:
    await flow.limit("k", concurrency=1)
    await stage.submit(*slotted("a"))
    fence = await stage.held("a")
    await stage.submit(*slotted("x", "y"), board="other")
    assert (await stage.claim(NOOR, wait=3_600, board="other")).status == "empty"
    bells = await bells_of(stage, NOOR)

    await stage.complete("a", fence)

    assert await heard(stage, bells, NOOR) == [("noor/i1", b"other")]


CHANGES: dict[str, Callable[[Flow], Awaitable[Any]]] = {
    "raised": lambda f: f.limit("k", concurrency=2),
    "removed": lambda f: f.remove("k"),
    "resumed": lambda f: f.resume("k"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_whoever_waits_hears_that_a_key_lets_more_through(
    stage: Stage, flow: Flow, change: str
) -> None:
    await flow.limit("k", concurrency=9 if change == "resumed" else 1)
    await stage.submit(*slotted("a", "b"))
    await stage.held("a")
    if change == "resumed":
        await flow.pause("k")
    await stage.wait_as(NOOR)
    bells = await bells_of(stage, NOOR)

    await CHANGES[change](flow)

    assert await heard(stage, bells, NOOR) == [("noor/i1", b"b")]
    assert (await stage.claim(NOOR)).ids == ["b"]


# Rates


async def test_one_is_claimed_an_interval_and_a_burst_after_a_quiet_time(
    stage: Stage, flow: Flow
) -> None:
    await flow.limit("r", rate=10, per=1, burst=3)
    await stage.submit(*rated(20))

    took = []
    for _ in range(6):
        took.append(len((await stage.claim(limit=9)).ids))
        await stage.advance(0.05)
    await stage.advance(60)
    took.append(len((await stage.claim(limit=9)).ids))

    assert took == [3, 0, 1, 0, 1, 0, 3]


async def test_a_rate_is_exact_to_the_microsecond(stage: Stage, flow: Flow) -> None:
    await flow.limit("r", rate=3, per=1)
    await stage.submit(*rated(3))
    assert (await stage.claim()).ids == ["r0"]

    stage.now = START_US + 333_333
    assert (await stage.claim()).ids == []
    stage.now = START_US + 333_334
    assert (await stage.claim()).ids == ["r1"]


async def test_every_claim_counts_also_of_what_came_back(stage: Stage, flow: Flow) -> None:
    await flow.limit("r", rate=1, per=10)
    await stage.submit(*rated(1))
    fence = await stage.held("r0")
    await stage.release("r0", fence)

    assert (await stage.claim()).ids == []
    await stage.advance(10)
    assert (await stage.claim()).ids == ["r0"]


@pytest.mark.parametrize("key", ["r", "r*"])
async def test_a_corrected_rate_holds_at_once(stage: Stage, flow: Flow, key: str) -> None:
    await flow.limit(key, rate=1, per=31_536_000)
    await stage.submit(*rated(5))
    assert len((await stage.claim(limit=5)).ids) == 1

    await flow.limit(key, rate=1, per=10)
    stage.now += 10_000_000

    assert len((await stage.claim(limit=5)).ids) == 1
    assert len((await stage.claim(limit=5)).ids) == 0
    assert (await flow.get("r")).next_at == at_ms(stage.now / 1_000) + timedelta(seconds=10)


async def test_a_lower_burst_keeps_nobody_waiting_for_what_the_higher_let_through(
    stage: Stage, flow: Flow
) -> None:
    await flow.limit("r", rate=10, burst=100)
    await stage.submit(*rated(200))
    assert len((await stage.claim(limit=200)).ids) == 100

    found = await flow.limit("r", rate=10, burst=1)

    assert found.next_at == at_ms(stage.now / 1_000) + timedelta(seconds=0.1)


async def test_a_removed_rate_is_forgotten(stage: Stage, flow: Flow) -> None:
    await flow.limit("r", rate=1, per=3_600)
    await stage.submit(*rated(5))
    await stage.claim(limit=1)

    await flow.remove("r")
    await flow.limit("r", rate=1, per=3_600)

    assert len((await stage.claim(limit=5)).ids) == 1


async def test_the_rate_of_a_key_holds_over_boards_and_agents(stage: Stage, flow: Flow) -> None:
    await flow.limit("r", rate=2, per=1, burst=2)
    await stage.submit(*rated(3))
    await stage.submit(*rated(3), board="other")

    took = [
        (await stage.claim(MIRA)).ids,
        (await stage.claim(NOOR, board="other")).ids,
        (await stage.claim(MIRA, 5)).ids,
    ]

    assert took == [["r0"], ["r0"], []]


async def hint(stage: Stage, agent: str = MIRA, wait_ms: int = 5_000) -> str:
    options = ("i1", "", 1, 1, wait_ms, 30_000)
    reply = await stage.call("task_claim", BOARD, agent, *options)
    assert reply.status in ("ok", "empty")
    return reply.facts[0]


async def test_who_finds_nothing_for_a_rate_hears_when_to_ask_again(
    stage: Stage, flow: Flow
) -> None:
    await flow.limit("r", rate=10, per=1)
    await stage.submit(*rated(9))
    assert await hint(stage) == ""
    await stage.advance(0.03)

    assert await hint(stage) == "70"
    assert await hint(stage, NOOR) == "170"  # after mira, an interval later
    await stage.advance(0.07)
    assert await hint(stage) == ""  # and gets one
    assert await hint(stage, NOOR) == "100"


async def test_a_sweep_rings_who_waits_for_a_rate_that_lets_one_through(
    stage: Stage, flow: Flow
) -> None:
    await flow.limit("r", rate=1, per=10)
    await stage.submit(*rated(3))
    await stage.held("r0")
    await stage.wait_as(NOOR)
    bells = await bells_of(stage, NOOR)
    await stage.advance(9.9)
    await stage.call("flow_sweep", 100)
    assert await heard(stage, bells, NOOR) == []
    bells = await bells_of(stage, NOOR)

    await stage.advance(0.2)
    await stage.call("flow_sweep", 100)

    assert await heard(stage, bells, NOOR) == [("noor/i1", b"b")]
    assert (await stage.claim(NOOR)).ids == ["r1"]


async def test_a_quiet_key_leaves_no_rate_behind(stage: Stage, flow: Flow) -> None:
    await flow.limit("r*", rate=1, per=10)
    await stage.submit(*(spec(f"t{i}", rate_key=f"r{i}") for i in range(5)))
    assert len((await stage.claim(limit=9)).ids) == 5

    await stage.advance(11)
    first = await stage.call("flow_sweep", 3)
    second = await stage.call("flow_sweep", 3)

    assert (first.facts, second.facts) == (["more"], [""])
    assert "flow:rates" not in await stage.key_names()


async def test_both_limits_of_a_task_hold(stage: Stage, flow: Flow) -> None:
    await flow.limit("k", concurrency=2)
    await flow.limit("r", rate=1, per=1, burst=3)
    await stage.submit(*(spec(f"t{i}", concurrency_key="k", rate_key="r") for i in range(6)))

    first = await stage.claim(limit=9)
    for task in first.tasks:
        await stage.complete(task.id, task.fence)
    second = await stage.claim(limit=9)

    assert (len(first.ids), len(second.ids)) == (2, 1)
    assert await running(flow) == 1


# Fairness


async def turns(stage: Stage, claims: int, limit: int = 1) -> list[str]:
    """The keys of the tasks in the order of their claims."""
    found = []
    for _ in range(claims):
        grant = await stage.claim(limit=limit)
        found += [one.id.rpartition("-")[0] for one in grant.tasks]
    return found


async def test_one_task_does_not_wait_for_the_hundred_thousand_of_another_key(
    stage: Stage,
) -> None:
    await stage.submit_all(fair("big", 100_000))
    assert await turns(stage, 3, 10) == ["big"] * 30
    await stage.submit(*fair("small", 1))

    assert "small" in await turns(stage, 2)


async def test_keys_take_turns_and_those_without_are_one_too(stage: Stage) -> None:
    await stage.submit(*fair("a", 9), *fair("b", 9), *fair(None, 9))

    assert Counter(await turns(stage, 3, 3)) == {"a": 3, "b": 3, "plain": 3}
    assert Counter(await turns(stage, 6)) == {"a": 2, "b": 2, "plain": 2}
    assert Counter(await turns(stage, 1, 9)) == {"a": 3, "b": 3, "plain": 3}


async def test_tasks_that_waited_before_the_first_key_came_keep_their_turns(stage: Stage) -> None:
    await stage.submit(*fair(None, 5))

    await stage.submit(*fair("a", 5))

    assert Counter(await turns(stage, 4)) == {"a": 2, "plain": 2}
    assert Counter(await turns(stage, 2, 9)) == {"a": 3, "plain": 3}


async def test_a_weight_is_a_share(stage: Stage, flow: Flow) -> None:
    await flow.weight("a", 3)
    await flow.weight("c*", 0.5)
    await stage.submit(*fair("a", 60), *fair("b", 60), *fair("c1", 60))

    assert Counter(await turns(stage, 9, 10)) == {"a": 60, "b": 20, "c1": 10}


@pytest.mark.parametrize("seed", range(5))
async def test_shares_differ_by_no_more_than_a_task_of_each_key_at_any_moment(
    stage: Stage, flow: Flow, seed: int
) -> None:
    chance = random.Random(seed)
    weights = {f"k{i}": chance.choice([0.5, 1, 2, 3]) for i in range(5)}
    for key, weight in weights.items():
        await flow.weight(key, weight)
        await stage.submit_all(fair(key, 200))
    counts = Counter(dict.fromkeys(weights, 0))

    for _ in range(30):
        grant = await stage.claim(chance.choice([MIRA, NOOR]), chance.randint(1, 9))
        counts.update(one.id.rpartition("-")[0] for one in grant.tasks)

        for one, other in combinations(weights, 2):
            difference = counts[one] / weights[one] - counts[other] / weights[other]
            assert abs(difference) <= 1 / weights[one] + 1 / weights[other]
    assert counts.total() > 100


async def test_within_a_key_priority_decides(stage: Stage) -> None:
    await stage.submit(*fair("a", 2), *fair("b", 2), spec("a-urgent", fairness_key="a", priority=9))

    grant = await stage.claim(limit=3)

    assert sorted(grant.ids) == ["a-0", "a-urgent", "b-0"]
    assert grant.ids.index("a-urgent") < grant.ids.index("a-0")


async def test_idling_earns_no_credit(stage: Stage) -> None:
    await stage.submit(*fair("late", 1), *fair("busy", 60))
    assert (await turns(stage, 42))[:2] in (["busy", "late"], ["late", "busy"])

    await stage.submit(*(spec(f"late-x{i}", fairness_key="late") for i in range(20)))

    assert Counter(await turns(stage, 20)) == {"late": 10, "busy": 10}


async def test_coming_back_again_and_again_takes_no_turn_of_others(stage: Stage) -> None:
    await stage.submit(*fair("busy", 20))

    took = []
    for i in range(10):
        await stage.submit(spec(f"again-{i}", fairness_key="again"))
        took += await turns(stage, 1)

    assert Counter(took)["busy"] >= 5


@pytest.mark.parametrize("obstacle", ["unfit", "at_limit", "kind_paused"])
async def test_being_held_back_earns_no_credit(stage: Stage, flow: Flow, obstacle: str) -> None:
    await flow.limit("k", concurrency=0)
    await stage.agent("olga", kinds=["work"])
    options: dict[str, Any] = {"concurrency_key": "k"} if obstacle == "at_limit" else {}
    kind = "work" if obstacle == "at_limit" else "special"
    if obstacle == "kind_paused":
        await stage.agent("olga")
        await stage.configure(pause_kind="special")
    await stage.submit(*fair("held", 40, kind=kind, **options), *fair("busy", 80))
    assert (await stage.claim("olga", 40)).ids == [f"busy-{i}" for i in range(40)]

    await flow.remove("k")
    await stage.configure(resume_kind="special")

    assert Counter(await turns(stage, 20)) == {"held": 10, "busy": 10}


async def test_claims_of_different_agents_share_the_turns(stage: Stage) -> None:
    await stage.submit(*fair("a", 20), *fair("b", 20), *fair("c", 20))

    found: Counter[str] = Counter()
    for i in range(10):
        grant = await stage.claim((MIRA, NOOR)[i % 2], 3)
        found.update(one.id.rpartition("-")[0] for one in grant.tasks)

    assert found == {"a": 10, "b": 10, "c": 10}


async def test_more_keys_than_are_looked_at_in_one_page_all_come_to_their_turn(
    stage: Stage,
) -> None:
    await stage.submit_all(
        [spec(f"k{i}-{n}", fairness_key=f"k{i}") for i in range(300) for n in (0, 1)]
    )

    first = await turns(stage, 30, 10)
    second = await turns(stage, 3, 100)

    assert Counter(first) == {f"k{i}": 1 for i in range(300)}
    assert Counter(second) == {f"k{i}": 1 for i in range(300)}


async def test_keys_that_are_idle_are_forgotten_and_the_board_is_plain_again(stage: Stage) -> None:
    await stage.submit(*fair("a", 3), *fair("b", 3), *fair(None, 1))
    assert "tasks:b:fair" in await stage.key_names()
    for task in (await stage.claim(limit=9)).tasks:
        await stage.complete(task.id, task.fence)

    await stage.sweep()

    names = await stage.key_names()
    assert not {name for name in names if "fair" in name or "heads" in name or "flow" in name}
    assert await stage.raw("HMGET", "tasks:b:board", "fair", "virtual") == [None, None]
    await stage.submit(*fair("c", 2), *fair("d", 2))
    assert Counter(await turns(stage, 2)) == {"c": 1, "d": 1}


async def test_many_keys_of_one_task_each_pile_up_no_longer_than_to_the_next_sweep(
    stage: Stage,
) -> None:
    await stage.submit(*fair("busy", 3))
    for i in range(250):
        await stage.submit(spec(f"k{i}-0", fairness_key=f"k{i}"))
        await stage.claim(limit=1)
    await stage.claim(limit=10)

    await stage.sweep()

    assert "tasks:b:fair" not in await stage.key_names()


async def test_lanes_with_keys_are_listed_and_counted_with_the_others(stage: Stage) -> None:
    await stage.submit(*fair("a", 2), *slotted("s", key="x:1"), *fair(None, 1))

    reply = await stage.call("task_next", BOARD, 10, 5)

    lanes = {name.decode(): waiting for name, waiting, _ in reply.raw[1:]}
    assert lanes == {"work;;;;;;,,a": 2, "work;;;;;;x:1,,": 1, "work;;;;": 1}
    assert (await stage.counts())["lanes"] == 3


async def test_health_and_keys_are_both_asked_for(stage: Stage, flow: Flow) -> None:
    from callboard.domain.task import Requirements

    await flow.limit("k", concurrency=1)
    healthy = Requirements(min_health_score=0.9)
    await stage.submit(*slotted("a", "b", requirements=healthy))
    await stage.raw("HSET", "agent:noor", "health_score", "0.5")

    assert (await stage.claim(NOOR)).ids == []
    assert (await stage.claim(MIRA, 5)).ids == ["a"]
    assert (await stage.record("a")).lane == "work;;;;;0.900;k,,"
    assert (await stage.task("a")).concurrency_key == "k"


# Why


async def test_why_names_the_key_that_holds_a_task_back(stage: Stage, flow: Flow) -> None:
    await flow.limit("k", concurrency=1)
    await flow.limit("r", rate=1, per=60)
    await stage.submit(*slotted("a", "b"), *rated(2), spec("z", fairness_key="z"))
    await stage.held("a")
    await stage.held("r0")
    await flow.pause("z")

    found = {name: await why_of(stage, name) for name in ("b", "r1", "z")}

    assert [found[name].code for name in found] == [
        "concurrency_limited",
        "rate_limited",
        "key_paused",
    ]
    assert (
        "'k' has as many tasks claimed as it may at once (1 of 1, held by b/a)" in found["b"].text
    )
    assert found["r1"].until == at_ms(START_MS + 60_000)
    assert "callboard flow resume z" in found["z"].text
    await flow.remove("k")
    assert (await why_of(stage, "b")).code == "claimable"


# Costs and leftovers


async def commands(stage: Stage, call: Callable[[], Awaitable[Any]]) -> int:
    """How many commands the engine runs for a call, those of its functions included."""
    await stage.connection.call("CONFIG", "RESETSTAT")
    await call()
    info = await stage.connection.call("INFO", "commandstats")
    text = info if isinstance(info, str) else info.decode()
    lines = [line for line in text.splitlines() if line.startswith("cmdstat_")]
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in lines)


async def test_tasks_without_keys_cost_no_command_more_for_the_limits_of_others(
    stage: Stage, flow: Flow
) -> None:
    async def life() -> None:
        await stage.submit("t1", "t2")
        grant = await stage.claim(limit=2)
        for task in grant.tasks:
            await stage.complete(task.id, task.fence)
        await stage.purge("t1", "t2")
        stage.now += 1_000

    await life()
    before = await commands(stage, life)

    await flow.limit("k", concurrency=1, rate=1, per=1)
    await flow.limit("p*", concurrency=1)

    assert await commands(stage, life) == before


async def test_nothing_is_left_of_keys_once_their_tasks_are_gone(stage: Stage, flow: Flow) -> None:
    await flow.limit("*", concurrency=2, rate=100, per=1, burst=5)
    await stage.submit(
        *(
            spec(f"t{i}", concurrency_key=f"c{i % 3}", rate_key="r", fairness_key=f"f{i % 2}")
            for i in range(30)
        )
    )
    for _ in range(200):
        await stage.advance(0.1)
        for task in (await stage.claim(limit=4)).tasks:
            if len(task.id) == 2:
                await stage.fail(task.id, task.fence, retryable=False)
            else:
                await stage.complete(task.id, task.fence)
    assert set((await stage.all_states()).values()) == {Status.DONE, Status.FAILED}

    await stage.sweep()
    await stage.call("flow_sweep", 100)

    names = await stage.key_names()
    assert {name for name in names if "flow" in name} == {"flow:patterns"}
    assert not {name for name in names if "fair" in name or "heads" in name}


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("flow:slots:k", "claim"),
        ("flow:slots:k", "complete"),
        ("flow:rates", "claim"),
        ("flow:lanes:k", "claim"),
        ("flow:lanes:r", "claim"),
        ("flow:lanes:k", "complete"),
        ("flow:lanes:k", "release"),
        ("flow:lanes:f", "release"),
        ("flow:lanes:k", "submit"),
        ("flow:lanes:k", "change"),
        ("flow:slots:k", "change"),
        ("flow:rates", "change"),
        ("flow:lanes:k", "remove"),
        ("tasks:b:fair", "submit"),
        ("tasks:b:heads:f", "submit"),
        ("flow:limits", "set"),
        ("flow:patterns", "set"),
    ],
)
async def test_a_foreign_value_under_a_key_of_flow_stops_the_call_before_its_first_write(
    stage: Stage, flow: Flow, name: str, act: str
) -> None:
    one: dict[str, Any] = {"concurrency_key": "k", "rate_key": "r", "fairness_key": "f"}
    await flow.limit("r", rate=1, per=1, burst=9)
    await flow.limit("k", concurrency=9)
    await stage.submit(spec("a", **one), spec("b", **one))
    fence = await stage.held("a")
    await stage.raw("DEL", name)
    await stage.raw("SET", name, "not ours")
    before = await stage.dump()
    acts: dict[str, Callable[[], Awaitable[Any]]] = {
        "claim": lambda: stage.take("b"),
        "complete": lambda: stage.complete("a", fence),
        "submit": lambda: stage.submit(spec("n", **one)),
        "release": lambda: stage.release("a", fence),
        "set": lambda: flow.limit("x", concurrency=1),
        "change": lambda: flow.limit("k", concurrency=8),
        "remove": lambda: flow.remove("k"),
    }

    with pytest.raises(EngineError, match="wrong type"):
        await acts[act]()

    assert await stage.dump() == before
    assert "flow:changed" not in types_of(await stage.news())[-1:]


@pytest.mark.parametrize("name", ["flow:slots:k", "flow:lanes:k"])
async def test_a_foreign_value_stops_a_claim_also_where_the_key_has_no_limit(
    stage: Stage, flow: Flow, name: str
) -> None:
    await flow.limit("other", concurrency=1)
    await stage.submit(*slotted("a"))
    await stage.raw("DEL", name)
    await stage.raw("SET", name, "not ours")
    before = await stage.dump()

    with pytest.raises(EngineError, match="wrong type"):
        await stage.claim(limit=1)

    assert await stage.dump() == before


# Many that are held back at once


def held_back(count: int, **fields: Any) -> list[TaskSpec]:
    return [spec(f"h{i}", **{"concurrency_key": f"k{i}", **fields}) for i in range(count)]


async def test_many_lanes_without_room_cost_a_claim_no_look_at_each(
    stage: Stage, flow: Flow
) -> None:
    await flow.limit("k*", concurrency=0)
    await stage.submit_all([*held_back(1_500), *slotted("last", key="other")])

    async def claim() -> None:
        assert (await stage.claim()).ids == []

    assert (await stage.claim()).ids == ["last"]
    assert await commands(stage, claim) < 500
    assert (await stage.counts())["lanes"] == 1_500


@pytest.mark.parametrize("with_fairness", [False, True], ids=["lanes", "keys"])
async def test_what_stood_aside_comes_back_by_itself(
    stage: Stage, flow: Flow, with_fairness: bool
) -> None:
    await flow.limit("k*", concurrency=0)
    tasks = held_back(200)
    if with_fairness:
        for i, one in enumerate(tasks):
            one.fairness_key = f"f{i}"
    await stage.submit_all(tasks)
    assert (await stage.claim()).ids == []

    await flow.remove("k*")  # of a pattern nobody knows which lanes it held back
    first = await stage.claim(limit=1_000)
    await stage.advance(1.1)
    others = [task for _ in range(3) for task in (await stage.claim(limit=1_000)).ids]

    assert len(first.ids) == 64
    assert sorted(first.ids + others) == sorted(f"h{i}" for i in range(200))


@pytest.mark.parametrize("with_fairness", [False, True], ids=["lanes", "keys"])
async def test_what_stood_aside_is_put_back_once_its_key_has_room(
    stage: Stage, flow: Flow, with_fairness: bool
) -> None:
    await flow.limit("k*", concurrency=1)
    await stage.submit_all([spec(f"held{i}", concurrency_key=f"k{i}") for i in range(150)])
    grant = await stage.claim(limit=200)
    assert len(grant.ids) == 150
    tasks = held_back(150)
    if with_fairness:
        for i, one in enumerate(tasks):
            one.fairness_key = f"f{i}"
    await stage.submit_all(tasks)
    assert (await stage.claim()).ids == []

    for task in grant.tasks:
        if task.id in ("held20", "held149"):
            await stage.complete(task.id, task.fence)

    assert sorted((await stage.claim(limit=9)).ids) == ["h149", "h20"]


async def test_lanes_that_stood_aside_are_claimed_in_the_order_of_their_heads(
    stage: Stage, flow: Flow
) -> None:
    await flow.limit("k*", concurrency=0)
    await stage.submit_all(held_back(130))
    assert (await stage.claim()).ids == []
    await flow.remove("k*")
    await stage.advance(1.1)
    await stage.submit("young")

    grant = await stage.claim(limit=1_000)

    assert grant.ids == [*(f"h{i}" for i in range(130)), "young"]


async def test_what_stood_aside_is_not_kept_from_its_turn_by_a_throng_that_is_not(
    stage: Stage, flow: Flow
) -> None:
    await flow.limit("k*", concurrency=0)
    await stage.submit_all(held_back(100))
    assert (await stage.claim()).ids == []
    await stage.submit_all([spec(f"t{i}", kind=f"kind{i % 300}") for i in range(900)])
    await flow.remove("k*")
    await stage.advance(1.1)

    # They are the older ones, so they come first, though the walk ends long before its end.
    grant = await stage.claim(limit=100)

    assert {name[0] for name in grant.ids} == {"h"}


async def test_a_rate_brings_back_what_stood_aside_in_time(stage: Stage, flow: Flow) -> None:
    await flow.limit("k*", rate=10, per=1)
    await stage.submit_all(
        [spec(f"{turn}-{i}", rate_key=f"k{i}") for turn in (1, 2) for i in range(100)]
    )
    assert len((await stage.claim(limit=1_000)).ids) == 100
    assert (await stage.claim()).ids == []

    await stage.advance(0.1)

    assert len((await stage.claim(limit=1_000)).ids) == 100


# One call over several lanes


async def test_a_claim_over_several_lanes_counts_them_together(stage: Stage, flow: Flow) -> None:
    await flow.limit("k", concurrency=3)
    await flow.limit("r", rate=1, per=1, burst=4)
    kinds = ("one", "two", "three")
    await stage.submit(
        *(spec(f"s{i}", kind=kinds[i % 3], concurrency_key="k") for i in range(9)),
        *(spec(f"r{i}", kind=kinds[i % 3], rate_key="r") for i in range(9)),
    )

    grant = await stage.claim(limit=20)

    assert Counter(name[0] for name in grant.ids) == {"s": 3, "r": 4}


async def test_a_reservation_with_limits_is_not_taken_up_ahead_of_its_start(
    stage: Stage, flow: Flow
) -> None:
    await stage.submit(*slotted("a", "b", suggested_worker=MIRA))
    await flow.limit("k", concurrency=9)

    grant = await stage.claim(limit=5, started=1)

    assert grant.ids == ["a"]


# A long mixed life


async def slots_of(stage: Stage, key: str) -> dict[str, int]:
    raw = await stage.raw("ZRANGE", f"flow:slots:{key}", 0, -1, "WITHSCORES")
    return {member.decode(): int(score) for member, score in raw}


async def check_keys(stage: Stage, limits: dict[str, int]) -> None:
    """Slots are the held tasks, in every lane's key; each lane stands in its key's heads."""
    raw = await stage.connection.call("HGETALL", f"{stage.keys.tasks(BOARD)}:state")
    records = {name.decode(): parse_record(line) for name, line in raw.items()}
    held: dict[str, dict[str, int]] = {key: {} for key in limits}
    waiting: dict[str, set[str]] = {}
    for name, one in records.items():
        concurrency, _, fairness = (one.lane.split(";")[6:] or [",,"])[0].split(",")
        if concurrency and one.status.is_held:
            held[concurrency][f"{BOARD}:{name}"] = one.fence
        if one.letter == "p":
            waiting.setdefault(fairness, set()).add(one.lane)
    for key, most in limits.items():
        assert await slots_of(stage, key) == held[key]
        assert len(held[key]) <= most
    is_fair = await stage.raw("HGET", "tasks:b:board", "fair")
    for fairness, lanes in waiting.items() if is_fair else ():
        found = await stage.raw("ZRANGE", f"tasks:b:heads:{fairness}", 0, -1)
        assert {lane.decode() for lane in found} == lanes
        assert await stage.raw("ZSCORE", "tasks:b:fair", fairness) is not None


@pytest.mark.parametrize("seed", range(4))
async def test_through_a_long_mixed_life_slots_are_the_held_tasks(
    stage: Stage, flow: Flow, seed: int
) -> None:
    limits = {"few": 1, "some": 3}
    for key, most in limits.items():
        await flow.limit(key, concurrency=most)
    life = Life(stage, 900 + seed)

    for _ in range(200):
        await life.step()
        await check_keys(stage, limits)
    for key in limits:
        await flow.remove(key)
    await life.settle()

    await check_keys(stage, limits)
    assert {name for name in await stage.key_names() if name.startswith("flow:slots")} == set()
