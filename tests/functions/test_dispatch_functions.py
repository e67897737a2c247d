"""Dispatch on the engine: who is given what, what a delivery's end does, what is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from callboard.domain.record import Claimed
from callboard.domain.task import Requirements, TaskSpec
from callboard.domain.why import explain
from callboard.engine import codec
from callboard.services.scheduler import Scheduler
from tests.functions.support import BOARD, MIRA, NOOR, PUSH_MS, TAKE_UP_MS, Reply, Stage, spec

pytestmark = pytest.mark.every_engine

URL = "http://localhost:9002"


@dataclass(frozen=True)
class Push:
    """What one agent is to be pushed."""

    agent: str
    url: str
    is_tried: bool
    tasks: list[Claimed]


@dataclass(frozen=True)
class Round:
    """What one call of ``task_dispatch`` brought."""

    more: bool
    reserved: int
    pushes: list[Push]

    @property
    def pushed(self) -> Counter[str]:
        return Counter({push.agent: len(push.tasks) for push in self.pushes})

    @property
    def tasks(self) -> list[Claimed]:
        return [task for push in self.pushes for task in push.tasks]

    @property
    def ids(self) -> list[str]:
        return [task.id for task in self.tasks]


def round_of(reply: Reply) -> Round:
    assert reply.status == "ok", reply
    pushes = [
        Push(row[0].decode(), row[1].decode(), row[2] == 1, codec.claimed_of(BOARD, row[3:]))
        for row in reply.raw[4]
    ]
    return Round(reply.raw[2] == 1, reply.raw[3], pushes)


async def dispatch(stage: Stage, **options: Any) -> Round:
    return round_of(await stage.dispatch(**options))


async def retire(stage: Stage) -> None:
    """Have mira and noor serve nothing that the tests submit."""
    for name in (MIRA, NOOR):
        await stage.agent(name, kinds=["nothing"])


async def pushed_one(stage: Stage, agent: str = "p") -> Claimed:
    """One task that was claimed for an agent with an address."""
    await retire(stage)
    await stage.agent(agent, push=URL)
    await stage.submit("t")
    return (await dispatch(stage)).tasks[0]


async def counts(stage: Stage) -> dict[str, int]:
    names = ("distributed", "timed", "waited", "returned", "done", "failed")
    raw = (await stage.call("task_distribution", BOARD)).raw[2:8]
    return {name: int(value) for name, value in zip(names, raw, strict=True)}


# Who is given what


async def test_a_task_is_claimed_ahead_for_the_agent_with_an_address(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    await stage.submit(spec("t", payload={"a": 1}))

    given = await dispatch(stage)

    (push,) = given.pushes
    assert (push.agent, push.url, push.is_tried) == ("p", URL, False)
    assert [(task.id, task.attempt) for task in push.tasks] == [("t", 1)]
    assert b'{"a":1}' in bytes(push.tasks[0].body)
    record = await stage.record("t")
    assert (record.letter, record.holder, record.fence) == ("k", "p", push.tasks[0].fence)
    assert [event.type for event in await stage.news()][-2:] == ["task:assigned", "task:claimed"]


async def test_for_an_agent_without_an_address_a_task_is_reserved(stage: Stage) -> None:
    await stage.submit("t")

    given = await dispatch(stage)

    assert (given.reserved, given.pushes) == (1, [])
    assert await stage.status("t") == "assigned"
    assert (await stage.claim(MIRA)).ids == ["t"]


async def test_an_agent_that_runs_instances_is_left_to_pull(stage: Stage) -> None:
    await retire(stage)
    await stage.call("agent_register", "sdk", ";;;;", "", 5, 10_000, "i1", 5, 0, "1", "here")
    await stage.submit("t")

    given = await dispatch(stage)

    assert (given.reserved, given.pushes) == (0, [])
    assert await stage.status("t") == "pending"


async def test_thirty_tasks_go_to_three_agents_in_tens(stage: Stage) -> None:
    await retire(stage)
    for name in "abc":
        await stage.agent(name, push=URL)
    await stage.submit(*(f"t{i}" for i in range(30)))

    given = await dispatch(stage)

    assert given.pushed == {"a": 10, "b": 10, "c": 10}


async def test_agents_that_are_done_at_once_are_given_tasks_in_turns(stage: Stage) -> None:
    await retire(stage)
    for name in "abc":
        await stage.agent(name, push=URL)
    seen: Counter[str] = Counter()
    for i in range(9):
        await stage.submit(f"t{i}")
        given = await dispatch(stage)
        seen += given.pushed
        await stage.complete(given.ids[0], given.tasks[0].fence)

    assert seen == {"a": 3, "b": 3, "c": 3}


@pytest.mark.parametrize(
    "strategy",
    ["affinity", "round_robin", "consistent_hash", "weighted_round_robin", "predictive", "random"],
)
async def test_every_strategy_dispatches_all_of_them(stage: Stage, strategy: str) -> None:
    await retire(stage)
    for name in "abc":
        await stage.agent(name, push=URL)
    await stage.submit(*(f"t{i}" for i in range(30)))

    given = await dispatch(stage, strategy=strategy)

    assert sorted(given.ids) == sorted(f"t{i}" for i in range(30))


async def test_no_agent_is_given_more_than_it_has_room_for(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", limit=2, push=URL)
    await stage.submit("t1", "t2", "t3")

    first = await dispatch(stage)
    second = await dispatch(stage)

    assert (first.ids, second.ids) == (["t1", "t2"], [])
    assert await stage.statuses("t1", "t2", "t3") == ["claimed", "claimed", "pending"]


async def test_no_agent_is_pushed_more_than_the_caller_can_push_to_it(stage: Stage) -> None:
    await retire(stage)
    for name in "ab":
        await stage.agent(name, push=URL)
    await stage.submit(*(f"t{i}" for i in range(30)))

    given = await dispatch(stage, each=5, busy=[("a", 2)])

    assert given.pushed == {"a": 2, "b": 5}
    assert not given.more
    assert (await dispatch(stage, each=5, busy=[("a", 0)])).pushed == {"b": 5}


async def test_no_more_than_so_many_are_reserved_ahead_for_one_without_an_address(
    stage: Stage,
) -> None:
    await stage.agent(NOOR, kinds=["nothing"])
    await stage.submit(*(f"t{i}" for i in range(30)))

    assert (await dispatch(stage, reserve=4)).reserved == 4
    assert (await dispatch(stage, reserve=4)).reserved == 0
    await stage.claim(MIRA, limit=3)
    assert (await dispatch(stage, reserve=4)).reserved == 3


async def test_more_says_that_the_batch_was_full(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    await stage.submit(*(f"t{i}" for i in range(30)))

    assert (await dispatch(stage, most=20)).more
    assert not (await dispatch(stage, most=20)).more


async def test_a_thousand_tasks_go_to_a_thousand_agents_one_each(stage: Stage) -> None:
    await retire(stage)
    await asyncio.gather(*(stage.agent(f"a{i:04}", push=URL) for i in range(998)))
    await stage.submit_all([spec(f"t{i}") for i in range(998)])
    seen: Counter[str] = Counter()
    for _ in range(10):
        seen += (await dispatch(stage)).pushed

    assert seen == {f"a{i:04}": 1 for i in range(998)}


async def test_lanes_that_nobody_takes_do_not_hide_the_others(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    unfit = [
        spec(f"x{i}", kind=f"k{i}", requirements=Requirements(services=("none",)))
        for i in range(300)
    ]
    await stage.submit_all([*unfit, spec("t")])

    given = await dispatch(stage)

    assert given.ids == ["t"]


def unfit(count: int) -> list[TaskSpec]:
    """Tasks that nobody serves, each with a lane of its own."""
    nobody = Requirements(services=("none",))
    return [spec(f"x{i}", kind=f"k{i}", requirements=nobody) for i in range(count)]


async def register_many(stage: Stage, count: int, **options: Any) -> None:
    await asyncio.gather(*(stage.agent(f"a{i:04}", push=URL, **options) for i in range(count)))


async def test_who_registered_after_a_thousand_others_is_given_work(stage: Stage) -> None:
    await retire(stage)
    await register_many(stage, 1_000)
    await stage.agent("late", push=URL, capabilities=["rare"])
    await stage.submit(spec("t", requirements=Requirements(capabilities=("rare",))))

    given = await dispatch(stage)

    assert given.pushed == {"late": 1}


async def test_those_that_can_be_given_work_are_listed_and_nobody_else(stage: Stage) -> None:
    async def listed() -> list[bytes]:
        return list(await stage.raw("ZRANGE", "agents:alone", 0, -1))

    await stage.call("agent_register", "sdk", ";;;;", "", 5, 10_000, "i1", 5, 0, "1", "here")
    for name in ("p", "q", "r"):
        await stage.agent(name, push=URL)
    assert await listed() == [b"mira", b"noor", b"p", b"q", b"r"]
    await stage.call("agent_set_status", "p", "maintenance", "", "")
    await stage.call("agent_deregister", "q", "")
    await stage.call("agent_register", "r", ";;;;", "", 5, 10_000, "i1", 5, 0, "1", "here")
    assert await listed() == [b"mira", b"noor"]
    await stage.call("agent_set_status", "p", "active", "", "")
    assert await listed() == [b"mira", b"noor", b"p"]

    await stage.after(60)
    await stage.call("agent_sweep", 100)
    assert await listed() == []
    await stage.call("agent_heartbeat", 1, "noor", "", "")
    assert await listed() == [b"noor"]


async def test_an_agent_that_was_listed_by_nobody_is_listed_by_a_sweep(stage: Stage) -> None:
    await stage.raw("DEL", "agents:alone")

    await stage.after(11)
    await stage.call("agent_heartbeat", 2, MIRA, "", "", NOOR, "", "")
    await stage.call("agent_sweep", 100)

    assert await stage.raw("ZRANGE", "agents:alone", 0, -1) == [b"mira", b"noor"]


async def test_with_many_agents_unserved_lanes_do_not_hide_the_others(stage: Stage) -> None:
    await retire(stage)
    await register_many(stage, 400)
    await stage.submit_all([*unfit(600), spec("t")])

    assert (await dispatch(stage)).ids == ["t"]


async def test_what_one_agent_can_do_hides_nothing_that_another_can(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL, kinds=["first"])
    await stage.agent("q", push=URL, kinds=["last"])
    await stage.submit_all([spec("t1", kind="first"), *unfit(900), spec("t2", kind="last")])

    assert (await dispatch(stage)).pushed == {"p": 1, "q": 1}


async def test_of_very_many_profiles_the_next_call_compares_the_rest(stage: Stage) -> None:
    await retire(stage)
    await stage.submit(spec("x", kind="x"))
    await dispatch(stage)
    await asyncio.gather(
        *(stage.agent(f"a{i:03}", push=URL, capabilities=[f"c{i}"]) for i in range(150))
    )
    wanted = [Requirements(services=("none",)), Requirements(capabilities=("c149",))]
    await stage.submit_all(
        spec(f"t{i}", kind=f"k{i}", requirements=wanted[i == 99]) for i in range(100)
    )
    rounds = [await dispatch(stage)]
    while rounds[-1].more and len(rounds) < 20:
        rounds.append(await dispatch(stage))

    assert rounds[0].more
    assert not rounds[-1].more
    assert sum((given.pushed for given in rounds), Counter()) == {"a000": 1, "a149": 1}


async def test_who_fits_is_known_anew_as_agents_come_change_and_go(stage: Stage) -> None:
    await retire(stage)
    rare = Requirements(capabilities=("rare",))

    async def given_to() -> dict[str, int]:
        await stage.submit(spec(f"t{stage.now}", requirements=rare))
        given = await dispatch(stage)
        for task in given.tasks:
            await stage.complete(task.id, task.fence)
        await stage.advance(0.001)
        return dict(given.pushed)

    assert await given_to() == {}
    await stage.agent("p", push=URL, capabilities=["rare"])
    assert await given_to() == {"p": 2}
    await stage.agent("p", push=URL)
    assert await given_to() == {}
    await stage.agent("q", push=URL, capabilities=["rare", "more"])
    assert await given_to() == {"q": 2}
    await stage.agent("p", push=URL, capabilities=["rare"])
    await stage.call("agent_deregister", "q", "")
    assert await given_to() == {"p": 1}


async def test_the_tasks_of_all_lanes_are_taken_in_order(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    kinds = ["one", "two", "three"]
    await stage.submit(*(spec(f"t{i}", kind=kinds[i % 3]) for i in range(9)))
    await stage.submit(spec("urgent", kind="four", priority=30))

    given = await dispatch(stage, most=4)

    assert given.ids == ["urgent", "t0", "t1", "t2"]


async def test_whoever_is_not_named_is_given_nothing_where_the_node_has_no_place_for_it(
    stage: Stage,
) -> None:
    await retire(stage)
    for name in ("named", "other"):
        await stage.agent(name, push=URL)
    await stage.submit(*(f"t{i}" for i in range(4)))

    given = await dispatch(stage, each=0, busy=[("named", 2)])

    assert given.pushed == {"named": 2}


async def test_fairness_keys_take_turns(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    await stage.submit(*(spec(f"a{i}", fairness_key="a") for i in range(10)))
    await stage.submit(*(spec(f"b{i}", fairness_key="b") for i in range(10)))

    given = await dispatch(stage, most=6)

    assert Counter(name[0] for name in given.ids) == {"a": 3, "b": 3}


async def test_a_turn_that_nobody_could_use_is_given_back(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL, limit=1)
    await stage.submit(*(spec(f"a{i}", fairness_key="a") for i in range(10)))
    await stage.submit(*(spec(f"b{i}", fairness_key="b") for i in range(10)))
    seen = []
    for _ in range(6):
        given = await dispatch(stage)
        seen += given.ids
        await stage.complete(given.ids[0], given.tasks[0].fence)

    assert Counter(name[0] for name in seen) == {"a": 3, "b": 3}


async def test_the_limits_of_the_board_and_of_keys_hold(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    await stage.configure(concurrency=2)
    await stage.submit("t1", "t2", "t3")

    assert (await dispatch(stage)).ids == ["t1", "t2"]
    assert (await dispatch(stage)).ids == []


async def test_nothing_is_given_out_on_a_paused_board(stage: Stage) -> None:
    await stage.agent("p", push=URL)
    await stage.submit("t")
    await stage.configure(paused=1)

    assert (await stage.dispatch()).status == "paused"
    await stage.configure(paused="", pause_kind="work")
    assert (await dispatch(stage)).ids == []


async def test_a_board_that_is_not_there_is_not_made(stage: Stage) -> None:
    assert (await stage.dispatch(board="none")).status == "board_not_found"


async def test_what_was_handed_to_an_agent_with_an_address_is_claimed_for_it(stage: Stage) -> None:
    await stage.agent("p", push=URL)
    await stage.submit("t")
    fence = await stage.held("t")
    assert await stage.handoff("t", fence, "p") == "ok"

    given = await dispatch(stage)

    assert given.pushed == {"p": 1}
    assert (await stage.record("t")).holder == "p"


async def test_what_the_boards_strategy_reserved_is_claimed_too(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    await stage.configure(strategy="round_robin")
    await stage.submit("t")
    assert await stage.status("t") == "assigned"

    given = await dispatch(stage)

    assert given.ids == ["t"]


async def test_a_lease_of_its_own_does_not_end_before_the_delivery(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    await stage.submit(spec("t", lease=1.0))

    await dispatch(stage)
    await stage.after(5)

    assert await stage.status("t") == "claimed"


async def test_large_payloads_are_pushed_whole_and_not_too_many_at_once(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("a", push=URL)
    await stage.agent("b", push=URL)
    await stage.submit_all([spec(f"t{i}", payload="x" * 900_000) for i in range(12)])

    first = await dispatch(stage)
    decided = [decision.task for decision in await Scheduler(stage.namespace).decisions()]
    rest = [await dispatch(stage) for _ in range(3)]

    assert first.more
    assert 1 <= len(first.ids) < 12
    assert sorted(decided) == sorted(first.ids)
    assert sorted(first.ids + [i for r in rest for i in r.ids]) == sorted(
        f"t{i}" for i in range(12)
    )
    assert all(len(task.body) < 10_000 for task in first.tasks)
    assert (await counts(stage))["distributed"] == 12


# When it is looked for again


async def test_the_bell_rings_for_what_makes_a_dispatch_possible(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL, limit=1)
    await stage.submit("first")
    first = (await dispatch(stage)).tasks[0]
    async with Bell(stage) as rung:
        await stage.submit("t")
        assert await rung() == BOARD
        await stage.complete("first", first.fence)
        assert await rung() == BOARD
        await stage.agent("late", push=URL)
        assert await rung() == ""
        await stage.call("agent_set_status", "late", "maintenance", "", "")
        await stage.call("agent_set_status", "late", "active", "", "")
        assert await rung() == ""
        await stage.configure(pause_kind="other")
        assert await rung() == BOARD


async def test_nobody_is_rung_where_nobody_dispatches(stage: Stage) -> None:
    async with Bell(stage) as rung:
        await stage.submit("t")
        await stage.agent("p")
        assert await rung() == ""
        await stage.claim(MIRA)
        assert await rung(0.05) is None


async def test_what_nobody_fits_rings_nobody_until_one_comes(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    rare = Requirements(capabilities=("rare",))
    async with Bell(stage) as rung:
        await stage.submit(spec("t1", requirements=rare))
        await dispatch(stage)
        await stage.submit(spec("t2", requirements=rare))
        assert await rung(0.05) is None
        await stage.submit("plain")
        assert await rung() == BOARD
        await stage.agent("late", push=URL, capabilities=["rare"])
        assert await rung() == ""
        await stage.submit(spec("t3", requirements=rare))
        assert await rung() == BOARD

    given = await dispatch(stage)

    assert {"t1", "t2", "t3"} <= set(given.ids)


async def test_what_an_agent_with_instances_does_rings_nobody(stage: Stage) -> None:
    await stage.call("agent_register", "sdk", ";;;;", "", 5, 10_000, "i1", 5, 0, "1", "here")
    await stage.submit("t")
    (fence,) = (await stage.claim("sdk")).fences
    await dispatch(stage)
    async with Bell(stage) as rung:
        await stage.complete("t", fence)
        assert await rung(0.05) is None


# How deliveries end


async def test_an_accepted_delivery_starts_the_task_under_the_lease(stage: Stage) -> None:
    task = await pushed_one(stage)

    assert await stage.deliver("t", task.fence) == "ok"

    assert await stage.status("t") == "in_progress"
    await stage.after(PUSH_MS / 1_000 + 1)
    assert await stage.status("t") == "in_progress"
    assert await stage.complete("t", task.fence) == "ok"


async def test_it_counts_as_a_heartbeat_of_the_agent(stage: Stage) -> None:
    task = await pushed_one(stage)
    for _ in range(4):
        await stage.advance(9)
        assert await stage.deliver("t", task.fence) == "ok"
        await stage.call("agent_sweep", 100)

    assert (await stage.raw("HGET", "agent:p", "status")) == b"active"
    assert (await stage.raw("HGET", "agent:mira", "status")) == b"inactive"


async def test_a_lease_that_the_agent_renewed_is_not_shortened(stage: Stage) -> None:
    task = await pushed_one(stage)
    await stage.renew("t", task.fence, lease_ms=500_000)

    await stage.deliver("t", task.fence, lease_ms=1_000)
    await stage.after(400)

    assert await stage.status("t") == "in_progress"


@pytest.mark.parametrize("report", [Stage.deliver, Stage.undeliver])
async def test_under_a_stale_fence_nothing_changes(stage: Stage, report: Any) -> None:
    task = await pushed_one(stage)
    await stage.after(PUSH_MS / 1_000 + 1)
    again = (await dispatch(stage)).tasks[0]

    assert await report(stage, "t", task.fence) == "lease_lost"

    record = await stage.record("t")
    assert (record.letter, record.fence) == ("k", again.fence)


async def test_a_node_that_died_before_the_agent_accepted_costs_nothing(stage: Stage) -> None:
    for _ in range(6):
        await retire(stage)
        await stage.agent("p", push=URL)
        await stage.submit("t")
        await dispatch(stage)
        await stage.after(PUSH_MS / 1_000 + 1)

    record = await stage.record("t")
    assert (record.status.value, record.crashes, record.failures) == ("pending", 0, 0)


async def test_what_could_not_be_delivered_goes_back_unharmed_after_a_delay(stage: Stage) -> None:
    task = await pushed_one(stage)

    assert await stage.undeliver("t", task.fence) == "ok"

    record = await stage.record("t")
    assert (record.status.value, record.failures, record.crashes) == ("scheduled", 0, 0)
    await stage.after(0.9)
    assert (await dispatch(stage)).ids == []
    await stage.after(0.2)
    assert (await dispatch(stage)).ids == ["t"]


async def test_the_last_of_the_deliveries_is_a_failed_attempt(stage: Stage) -> None:
    task = await pushed_one(stage)
    for delay in (1, 2):
        assert await stage.undeliver("t", task.fence, rest_after=100) == "ok"
        await stage.after(delay)
        (task,) = (await dispatch(stage)).tasks

    assert await stage.undeliver("t", task.fence, rest_after=100) == "retry_scheduled"

    record = await stage.record("t")
    assert (record.status.value, record.failures) == ("scheduled", 1)


async def test_a_task_that_nobody_takes_ends_as_a_dead_letter(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    await stage.submit("t")
    words: list[str] = []
    while await stage.status("t") != "failed" and len(words) < 100:
        given = await dispatch(stage)
        words += [await stage.undeliver("t", t.fence, rest_after=100) for t in given.tasks]
        await stage.after(8)

    assert words == [*(["ok", "ok", "retry_scheduled"] * 3), "ok", "ok", "failed"]
    assert await stage.raw("ZCARD", f"retry:dead_letter_queue:{BOARD}") == 1


async def test_an_agent_that_fails_rests_and_is_tried_with_one_task(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    await stage.submit(*(f"t{i}" for i in range(10)))
    failing = (await dispatch(stage, most=5)).tasks

    for task in failing:
        await stage.undeliver(task.id, task.fence)

    assert (await dispatch(stage)).ids == []
    await stage.advance(2.1)
    tried = await dispatch(stage)
    assert len(tried.ids) == 1
    assert tried.pushes[0].is_tried
    assert (await dispatch(stage)).ids == []
    await stage.undeliver(tried.ids[0], tried.tasks[0].fence)
    await stage.advance(2.1)
    assert (await dispatch(stage)).ids == []
    await stage.advance(2)
    tried = await dispatch(stage)
    assert len(tried.ids) == 1
    await stage.deliver(tried.ids[0], tried.tasks[0].fence)
    assert len((await dispatch(stage)).ids) > 1


async def test_an_agent_that_asks_for_it_rests_at_once_and_as_long(stage: Stage) -> None:
    task = await pushed_one(stage)
    await undelivered_twice(stage, task)

    await stage.after(9)
    assert (await dispatch(stage)).ids == []
    await stage.after(2)
    assert len((await dispatch(stage)).ids) == 1


async def undelivered_twice(stage: Stage, task: Claimed) -> None:
    await stage.submit("other")
    (other,) = (await dispatch(stage)).tasks
    await stage.undeliver("t", task.fence, asked_ms=2_000)
    await stage.undeliver("other", other.fence, asked_ms=10_000)


async def test_a_delivery_that_the_agent_puts_off_never_counts_against_the_task(
    stage: Stage,
) -> None:
    task = await pushed_one(stage)
    for _ in range(10):
        assert await stage.undeliver("t", task.fence, asked_ms=1_000) == "ok"
        await stage.after(2.1)
        (task,) = (await dispatch(stage)).tasks

    record = await stage.record("t")
    assert (record.failures, record.crashes) == (0, 0)
    assert await stage.undeliver("t", task.fence, most=2, rest_after=100) == "ok"


async def test_a_rest_that_an_agent_asks_for_takes_the_place_of_the_doubled_one(
    stage: Stage,
) -> None:
    task = await pushed_one(stage)
    for _ in range(6):
        await stage.undeliver("t", task.fence, most=100, rest_after=1)
        await stage.after(61)
        (task,) = (await dispatch(stage)).tasks

    await stage.undeliver("t", task.fence, most=100, asked_ms=1_000)

    await stage.submit("other")
    assert (await dispatch(stage)).ids == []
    await stage.after(1.1)
    assert (await dispatch(stage)).ids == ["other"]


async def test_an_agent_that_registers_anew_rests_no_longer(stage: Stage) -> None:
    task = await pushed_one(stage)
    await stage.undeliver("t", task.fence, rest_after=1)
    await stage.submit("next")
    assert (await dispatch(stage)).ids == []

    await stage.agent("p", push=f"{URL}/elsewhere")

    given = await dispatch(stage)
    assert given.ids == ["next"]
    assert not given.pushes[0].is_tried


async def test_a_trial_that_nobody_reported_is_followed_by_another(stage: Stage) -> None:
    task = await pushed_one(stage)
    await stage.undeliver("t", task.fence, rest_after=1)
    await stage.after(2.1)
    assert (await dispatch(stage)).ids == ["t"]

    await stage.after(PUSH_MS / 1_000 + 1)

    assert (await dispatch(stage)).ids == ["t"]


async def test_a_resting_agent_gives_back_what_others_reserved_for_it(stage: Stage) -> None:
    task = await pushed_one(stage)
    await stage.undeliver("t", task.fence, rest_after=1)
    await stage.configure(strategy="least_connections")
    await stage.submit("next")
    assert await stage.status("next") == "assigned"

    given = await dispatch(stage)

    assert given.ids == []
    assert await stage.status("next") == "pending"


async def test_a_healthy_agent_gets_what_the_resting_one_does_not(stage: Stage) -> None:
    task = await pushed_one(stage, "bad")
    await stage.undeliver("t", task.fence, rest_after=1)
    await stage.agent("good", push=URL)
    await stage.submit(*(f"t{i}" for i in range(10)))

    assert (await dispatch(stage)).pushed == {"good": 10}


async def test_lapsed_reservations_do_not_bar_an_agent_with_an_address(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    await stage.configure(strategy="least_connections")
    await stage.submit("t")
    await stage.after(6)
    assert await stage.raw("HGET", "agent:p", "lapsed") == b"1"

    given = await dispatch(stage)

    assert given.ids == ["t"]
    await stage.deliver("t", given.tasks[0].fence)
    assert await stage.raw("HGET", "agent:p", "lapsed") is None


async def test_one_without_that_lets_a_reservation_lapse_gets_no_more_until_it_claims(
    stage: Stage,
) -> None:
    await stage.agent(NOOR, kinds=["nothing"])
    await stage.submit("t")
    assert (await dispatch(stage)).reserved == 1
    await stage.after(TAKE_UP_MS / 1_000 + 1)

    assert (await dispatch(stage)).reserved == 0
    assert (await stage.claim(MIRA)).ids == ["t"]
    await stage.submit("next")
    assert (await dispatch(stage)).reserved == 1


async def test_cancelled_while_it_was_delivered_it_ends_as_it_comes_back(stage: Stage) -> None:
    task = await pushed_one(stage)
    await stage.cancel("t")

    assert await stage.undeliver("t", task.fence) == "cancelled"


async def test_the_same_report_again_is_known(stage: Stage) -> None:
    task = await pushed_one(stage)
    await stage.undeliver("t", task.fence)

    assert await stage.undeliver("t", task.fence) == "replayed"


# What is counted


async def test_the_counts_say_what_was_given_out_and_what_became_of_it(stage: Stage) -> None:
    await retire(stage)
    await stage.agent("p", push=URL)
    await stage.submit("t1", "t2", "t3")
    await dispatch(stage, most=1)
    await stage.advance(2)
    later = await dispatch(stage)
    assert later.ids == ["t2", "t3"]
    await stage.complete("t2", later.tasks[0].fence)
    await stage.undeliver("t3", later.tasks[1].fence)

    assert await counts(stage) == {
        "distributed": 3, "timed": 3, "waited": 4_000, "returned": 1, "done": 1, "failed": 0,
    }  # fmt: skip


async def test_what_an_agent_claims_by_itself_on_a_served_board_counts_too(stage: Stage) -> None:
    await stage.submit("early")
    await stage.claim(MIRA)
    assert (await counts(stage))["distributed"] == 0
    await dispatch(stage)
    await stage.submit("t")

    await stage.claim(MIRA)

    assert (await counts(stage))["distributed"] == 1


async def test_what_was_purged_stays_counted(stage: Stage) -> None:
    task = await pushed_one(stage)
    await stage.complete("t", task.fence)
    await stage.purge("t")

    assert (await counts(stage))["done"] == 1


# Support


class Bell:
    """Hears the dispatch bell."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def __aenter__(self) -> Any:
        self._bells = await self._stage.connection.subscribe(self._stage.keys.dispatch_bell)

        async def rung(timeout: float = 5.0) -> str | None:
            bell = await self._bells.get(timeout)
            return None if bell is None else bell[1].decode()

        return rung

    async def __aexit__(self, *_: object) -> None:
        self._bells.close()


# What is turned down


async def retired_but(stage: Stage, *agents: str) -> None:
    await retire(stage)
    await stage.configure()
    for agent in agents:
        await stage.agent(agent, push=URL)


async def test_what_one_gives_back_goes_to_another_that_has_more_to_do(stage: Stage) -> None:
    await retired_but(stage, "a", "b")
    await stage.submit("first", "second")
    first, second = (await dispatch(stage)).tasks
    assert await stage.release("first", first.fence) == "ok"
    assert await stage.deliver("second", second.fence) == "ok"

    given = await dispatch(stage)

    assert (given.ids, given.pushed) == (["first"], {"b": 1})


async def test_what_one_asks_time_for_goes_to_others_although_it_has_rested(stage: Stage) -> None:
    await retired_but(stage, "a", "b", "c")
    await stage.submit("t", "busy", "busy_too")
    t, busy, _ = (await dispatch(stage)).tasks
    seen = ["a"]
    for _ in range(2):
        await stage.undeliver("t", t.fence, asked_ms=10)
        await stage.after(1.1)
        (push,) = (await dispatch(stage)).pushes
        (t,) = push.tasks
        seen.append(push.agent)
    assert seen == ["a", "b", "c"]

    await stage.undeliver("t", t.fence, asked_ms=10)
    await stage.complete("busy", busy.fence)
    await stage.after(1.1)

    assert (await dispatch(stage)).ids == ["t"]  # all did, so all are as good


@pytest.mark.parametrize("strategy", ["least_connections", "consistent_hash"])
async def test_a_board_of_a_strategy_of_its_own_gives_it_to_another_too(
    stage: Stage, strategy: str
) -> None:
    await retired_but(stage, "a", "b")
    await stage.configure(strategy=strategy)
    await dispatch(stage)
    await stage.submit("t")
    (push,) = (await dispatch(stage)).pushes

    await stage.release("t", push.tasks[0].fence)

    (again,) = (await dispatch(stage)).pushes
    assert {push.agent, again.agent} == {"a", "b"}


async def test_whom_it_was_suggested_to_is_given_it_once(stage: Stage) -> None:
    await retired_but(stage, "a", "b")
    await dispatch(stage)
    await stage.submit(spec("t", suggested_worker="b"))
    (push,) = (await dispatch(stage)).pushes
    assert push.agent == "b"

    await stage.undeliver("t", push.tasks[0].fence, asked_ms=10)
    await stage.after(1.1)

    assert (await dispatch(stage)).pushed == {"a": 1}


async def give_back(stage: Stage, task: Claimed) -> None:
    assert await stage.release("t", task.fence) == "ok"


async def accept_and_give_back(stage: Stage, task: Claimed) -> None:
    assert await stage.deliver("t", task.fence) == "ok"
    assert await stage.release("t", task.fence) == "ok"


async def hand_to_itself(stage: Stage, task: Claimed) -> None:
    assert await stage.handoff("t", task.fence, "p") == "ok"


async def go_and_come(stage: Stage, _: Claimed) -> None:
    await stage.call("agent_deregister", "p", "ann")
    await stage.agent("p", push=URL)


@pytest.mark.parametrize(
    "turn_down",
    [give_back, accept_and_give_back, hand_to_itself, go_and_come],
    ids=["gives_back", "accepts_and_gives_back", "hands_to_itself", "goes_and_comes"],
)
async def test_what_is_turned_down_again_and_again_is_pushed_ever_more_seldom(
    stage: Stage, turn_down: Callable[[Stage, Claimed], Awaitable[None]]
) -> None:
    task = await pushed_one(stage)
    for _ in range(8):
        await turn_down(stage, task)
        (task,) = (await dispatch(stage)).tasks

    for waits in (1, 2, 4, 8, 16, 30, 30):
        await turn_down(stage, task)
        await stage.after(waits - 0.1)
        assert (await dispatch(stage)).ids == []
        await stage.after(0.2)
        (task,) = (await dispatch(stage)).tasks

    assert (await stage.record("t")).failures == 0


async def test_who_pulls_gives_back_at_once_however_often(stage: Stage) -> None:
    await retired_but(stage, "p")
    await dispatch(stage)
    await stage.submit(spec("t", kind="nothing"))
    for _ in range(20):
        fence = await stage.held("t", instance="")
        assert await stage.release("t", fence) == "ok"

    assert await stage.status("t") == "pending"


async def test_what_is_given_back_by_those_who_push_it_was_turned_down_by_nobody(
    stage: Stage,
) -> None:
    task = await pushed_one(stage)
    for _ in range(9):
        assert await stage.release("t", task.fence, delay_ms=-1) == "ok"
        (task,) = (await dispatch(stage)).tasks

    assert await stage.release("t", task.fence, delay_ms=-1) == "ok"

    why = explain(BOARD, "t", (await stage.call("task_why", BOARD, "t")).raw)
    assert why.code == "claimable"
    assert "turned down" not in why.text


async def test_why_says_who_turned_it_down(stage: Stage) -> None:
    task = await pushed_one(stage)
    await stage.release("t", task.fence)
    why = explain(BOARD, "t", (await stage.call("task_why", BOARD, "t")).raw)
    assert why.code == "claimable"
    assert why.text.endswith("It was turned down once (p); others go before.")
    (task,) = (await dispatch(stage)).tasks

    await stage.undeliver("t", task.fence, asked_ms=10)

    why = explain(BOARD, "t", (await stage.call("task_why", BOARD, "t")).raw)
    assert (why.code, why.agent) == ("turned_down", "p")
    assert "it is given out again in 1.0 s. It was turned down 2 times (p)" in why.text
    await stage.after(1.1)
    (task,) = (await dispatch(stage)).tasks
    await stage.undeliver("t", task.fence)
    why = explain(BOARD, "t", (await stage.call("task_why", BOARD, "t")).raw)
    assert why.code == "undelivered"
    assert "Deliveries that failed since its last attempt: 1." in why.text
