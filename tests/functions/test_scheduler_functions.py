"""Choosing agents on the engine: the gate, the room, what is learned, decided and told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from callboard.domain.strategy import STRATEGIES, Assignment, Decision
from callboard.domain.task import Requirements
from callboard.engine.choices import assignment_of
from callboard.exceptions import BoardPaused, InvalidArgument, StrategyFailed
from callboard.services import scheduler as services
from callboard.services.scheduler import Scheduler
from tests.functions.support import BOARD, MIRA, NOOR, Stage, spec

pytestmark = pytest.mark.every_engine

PUSHING = tuple(name for name in STRATEGIES if name != "best_idle")


@pytest.fixture
def scheduler(stage: Stage) -> Scheduler:
    return Scheduler(stage.namespace)


async def crew(stage: Stage, count: int, *, limit: int = 10, **profile: Any) -> list[str]:
    """Agents a000, a001, …, and nobody else who would take anything."""
    names = [f"a{i:03}" for i in range(count)]
    await asyncio.gather(*(stage.agent(name, limit=limit, **profile) for name in names))
    for other in (MIRA, NOOR):
        await stage.agent(other, kinds=["nothing"])
    return names


def given(decisions: list[Decision]) -> Counter[str]:
    return Counter(decision.agent for decision in decisions if decision.status == "ok")


class Picks:
    """A strategy of one's own: a function of the assignment; remembers what it was asked."""

    def __init__(self, pick: Callable[[Assignment], Any]) -> None:
        self.pick = pick
        self.asked: list[Assignment] = []

    def choose(self, assignment: Assignment) -> Any:
        self.asked.append(assignment)
        return self.pick(assignment)


# Refusals


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: s.assign(board=BOARD), "Give task ids, or most"),
        (lambda s: s.assign("t", most=1, board=BOARD), "Give task ids, or most"),
        (lambda s: s.assign(most=0, board=BOARD), "most is 0"),
        (lambda s: s.assign(most=1_001, board=BOARD), "most is 1001"),
        (lambda s: s.assign("no name", board=BOARD), "task id 'no name'"),
        (lambda s: s.assign("t", take_up=0.01, board=BOARD), "take_up"),
        (lambda s: s.assign("t", strategy="round_robbin", board=BOARD), "Did you mean round_robin"),
        (lambda s: s.assign("t", strategy="best", board=BOARD), "Known are: best_idle, least_conn"),
        (lambda s: s.set_strategy("mine", board=BOARD), "cannot be a board's"),
        (lambda s: s.decisions(0), "limit is 0"),
        (lambda s: s.decisions(1_001), "limit is 1001"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_asked_is_refused_and_changes_nothing(
    stage: Stage, scheduler: Scheduler, call: Callable[[Scheduler], Any], said: str
) -> None:
    await stage.submit("t")
    before = await stage.dump()

    with pytest.raises(InvalidArgument, match=said):
        await call(scheduler)

    assert await stage.dump() == before


@pytest.mark.parametrize("name", ["round_robin", "Least-Loaded", "best_idle"])
async def test_a_strategy_of_ones_own_cannot_take_the_name_of_a_built_in_one(
    scheduler: Scheduler, name: str
) -> None:
    with pytest.raises(InvalidArgument, match="one of Callboard's own"):
        scheduler.register(name, Picks(lambda _: None))


async def test_nothing_is_assigned_on_a_paused_board(stage: Stage, scheduler: Scheduler) -> None:
    scheduler.register("mine", Picks(lambda _: MIRA))
    await stage.submit("t")
    await stage.configure(paused=1)

    for strategy in (None, "round_robin", "mine"):
        with pytest.raises(BoardPaused):
            await scheduler.assign("t", strategy=strategy, board=BOARD)

    assert await stage.status("t") == "pending"


@pytest.mark.parametrize("strategy", ["round_robin", "mine"])
async def test_each_task_that_cannot_be_given_says_why(
    stage: Stage, scheduler: Scheduler, strategy: str
) -> None:
    scheduler.register("mine", Picks(lambda asked: asked.candidates[0].id))
    await stage.submit("held", spec("after", "held"), spec("odd", kind="odd"))
    await stage.submit(spec("unfit", requirements=Requirements(capabilities=("fly",))), "free")
    await stage.held("held")
    await stage.configure(pause_kind="odd")

    ids = ("held", "after", "odd", "unfit", "gone", "free", "free")
    found = await scheduler.assign(*ids, strategy=strategy, board=BOARD)

    assert [(d.task, d.status, d.agent, d.reason) for d in found[:5]] == [
        ("held", "not_ready", "", "it is claimed, so it waits for no agent"),
        ("after", "not_ready", "", "it is blocked, so it waits for no agent"),
        ("odd", "kind_paused", "", "tasks of kind odd are paused on the board"),
        ("unfit", "no_agent", "", "no agent that fits has room"),
        ("gone", "task_not_found", "", "there is no such task on the board"),
    ]
    assert [(d.status, d.agent) for d in found[5:]] == [("ok", MIRA), ("reserved", MIRA)]
    assert await stage.statuses("unfit", "odd", "free") == ["pending", "pending", "assigned"]


async def test_a_boards_limit_holds_for_assignments_too(stage: Stage, scheduler: Scheduler) -> None:
    await stage.configure(concurrency=2)
    await stage.submit("a", "b", "c")
    await stage.held("a")

    found = await scheduler.assign("b", "c", strategy="round_robin", board=BOARD)

    assert [(d.status, d.reason) for d in found] == [
        ("ok", "is the first in turn"),
        ("at_limit", "the board's limit concurrency leaves no room"),
    ]


# The gate and the room


async def test_a_thousand_concurrent_assignments_over_a_hundred_idle_agents_give_ten_each(
    stage: Stage, scheduler: Scheduler
) -> None:
    names = await crew(stage, 100)
    await stage.submit_all(spec(f"t{i}") for i in range(1_001))

    calls = (
        scheduler.assign(f"t{i}", strategy="least_connections", board=BOARD) for i in range(1_001)
    )
    found = [decision for (decision,) in await asyncio.gather(*calls)]

    assert given(found) == dict.fromkeys(names, 10)
    (last,) = [d for d in found if d.status == "no_agent"]
    assert last.reason == "no agent that fits has room"
    loads = await scheduler.load(BOARD)
    assert (loads.avg_agent_load, {loads.loads[name] for name in names}) == (1_000 / 102, {10})


@pytest.mark.parametrize("name", PUSHING)
async def test_by_every_strategy_nobody_is_given_more_than_there_is_room_for(
    stage: Stage, scheduler: Scheduler, name: str
) -> None:
    names = await crew(stage, 20, limit=5)
    await stage.submit_all(spec(f"t{i}") for i in range(110))

    calls = [
        scheduler.assign(*(f"t{i}" for i in range(at, at + 11)), strategy=name, board=BOARD)
        for at in range(0, 110, 11)
    ]
    found = [decision for batch in await asyncio.gather(*calls) for decision in batch]

    assert given(found) == dict.fromkeys(names, 5)
    assert [d.status for d in found].count("no_agent") == 10


@pytest.mark.parametrize(
    "name", ["round_robin", "least_connections", "capability_based", "hybrid", "work_stealing"]
)
async def test_idle_agents_that_are_alike_are_given_as_much_each(
    stage: Stage, scheduler: Scheduler, name: str
) -> None:
    names = await crew(stage, 10, limit=100)
    await stage.submit_all(spec(f"t{i}") for i in range(100))

    found = await scheduler.assign(most=100, strategy=name, board=BOARD)

    assert given(found) == dict.fromkeys(names, 10)


async def unfit(stage: Stage) -> None:
    """One agent for each reason that an agent may not be chosen, and one that may."""
    await crew(stage, 0)
    for name in ("plain", "away", "busy", "drains", "full", "left", "off", "fits"):
        skills = () if name == "plain" else ("fly",)
        limit = 1 if name == "full" else 100
        await stage.agent(name, capabilities=skills, limit=limit)
    await stage.submit(spec("first", requirements=Requirements(capabilities=("fly",))))
    await stage.held("first", "full")
    for name, status in (("busy", "busy"), ("drains", "draining"), ("off", "maintenance")):
        await stage.call("agent_set_status", name, status, "ann", "")
    await stage.call("agent_leave", "left", "")
    for _ in range(4):  # All but one are heard, and that one is lost.
        await stage.advance(9)
        rest = ("busy", "drains", "full", "off", "fits", "plain", MIRA, NOOR)
        await stage.call("agent_heartbeat", len(rest), *(v for n in rest for v in (n, "", "")))
        await stage.call("agent_sweep", 100)


@pytest.mark.parametrize("name", PUSHING)
async def test_only_a_live_willing_capable_agent_with_room_is_ever_chosen(
    stage: Stage, scheduler: Scheduler, name: str
) -> None:
    await unfit(stage)
    flying = Requirements(capabilities=("fly",))
    await stage.submit(*(spec(f"t{i}", requirements=flying) for i in range(20)))

    found = await scheduler.assign(*(f"t{i}" for i in range(20)), strategy=name, board=BOARD)

    assert given(found) == {"fits": 20}
    assert {d.considered for d in found} == {1}


async def test_what_a_strategy_of_ones_own_is_asked_about_is_who_may_be_chosen(
    stage: Stage, scheduler: Scheduler
) -> None:
    await unfit(stage)
    mine = Picks(lambda asked: asked.candidates[0].id)
    scheduler.register("mine", mine)
    requires = Requirements(capabilities=("fly",))
    await stage.submit(spec("t", requirements=requires, priority=3, affinity_key="repo-7"))

    (decision,) = await scheduler.assign("t", strategy="mine", board=BOARD, by="ann")

    (asked,) = mine.asked
    assert [candidate.id for candidate in asked.candidates] == ["fits"]
    assert (asked.task, asked.board, asked.kind, asked.key) == ("t", BOARD, "work", "repo-7")
    assert (asked.priority, asked.required) == (3, 1)
    assert (decision.agent, decision.strategy, decision.by) == ("fits", "mine", "ann")
    assert (await stage.record("t")).holder == "fits"
    assert await scheduler.why_this_agent("t", board=BOARD) == decision


async def test_the_documented_settings_of_an_agent_bear_on_the_choice(
    stage: Stage, scheduler: Scheduler
) -> None:
    await crew(stage, 0)
    fields = ["weight", "3", "priority", "7"]
    for name, more in (("heavy", fields), ("light", [])):
        profile = ("worker;;;;", "", 1_000, 10_000, "", 1_000, 0, "1", "here")
        await stage.call("agent_register", name, *profile, *more)
    await stage.submit_all(spec(f"t{i}") for i in range(81))

    first = await scheduler.assign("t80", strategy="work_stealing", board=BOARD)
    found = await scheduler.assign(most=80, strategy="weighted_round_robin", board=BOARD)

    assert given(first) == {"heavy": 1}
    assert first[0].candidates[0].score == pytest.approx(100 + 5 * 7 + 20)
    assert given(found) == {"heavy": 60, "light": 20}
    assert (await scheduler.load(BOARD)).agent_weights == 1


async def test_reported_cpu_and_memory_bear_on_the_choice(
    stage: Stage, scheduler: Scheduler
) -> None:
    await crew(stage, 2)
    await stage.call("agent_heartbeat", 1, "a000", "", "cpu=0.5,memory=0.25")
    await stage.submit("t")

    (decision,) = await scheduler.assign("t", strategy="resource_based", board=BOARD)

    scores = {one.agent: one.score for one in decision.candidates}
    # (50 + 75) / 2 × the mean of .5 and .75
    assert (decision.agent, scores) == ("a001", {"a001": 100.0, "a000": 39.06})


# What is learned of an agent


async def ran(stage: Stage, task: str, agent: str, seconds: float, **fields: Any) -> int:
    """One task of its own kind, done by the agent in so many seconds."""
    await stage.submit(spec(task, **fields))
    fence = await stage.held(task, agent)
    await stage.advance(seconds)
    assert await stage.complete(task, fence) == "ok"
    return fence


async def test_runs_and_failures_are_counted_and_times_are_averaged(
    stage: Stage, scheduler: Scheduler
) -> None:
    mine = Picks(lambda _: None)
    scheduler.register("mine", mine)
    for i, seconds in enumerate((1.0, 2.0, 6.0)):
        await ran(stage, f"t{i}", MIRA, seconds)
    await ran(stage, "other", MIRA, 11.0, kind="other")
    await stage.submit("bad")
    await stage.fail("bad", await stage.held("bad", MIRA))
    await ran(stage, "marked", NOOR, 5.0, unique="u", timeout=20.0)
    await stage.submit("lost", "ask")
    await stage.started("lost", NOOR)
    await stage.after(31)

    await scheduler.assign("ask", strategy="mine", board=BOARD)

    by_name = {candidate.id: candidate for candidate in mine.asked[0].candidates}
    mira, noor = by_name[MIRA], by_name[NOOR]
    assert (mira.runs, mira.run_time, mira.response_time) == (3, 3.0, 5.0)
    assert (mira.done, mira.failed, mira.recent_done, mira.recent_failed) == (4, 1, 4, 1)
    assert (noor.runs, noor.run_time, noor.done, noor.failed) == (1, 5.0, 1, 1)
    assert (mira.usual_time, noor.usual_time) == (4.0, 4.0)
    assert (mira.was_last, noor.was_last) == (False, True)


async def test_the_last_ten_outcomes_are_remembered(stage: Stage, scheduler: Scheduler) -> None:
    mine = Picks(lambda _: None)
    scheduler.register("mine", mine)
    for i in range(4):
        await stage.submit(f"bad{i}")
        await stage.fail(f"bad{i}", await stage.held(f"bad{i}", MIRA), retryable=False)
    for i in range(8):
        await ran(stage, f"t{i}", MIRA, 1)
    await stage.submit("ask")

    await scheduler.assign("ask", strategy="mine", board=BOARD)

    mira = next(one for one in mine.asked[0].candidates if one.id == MIRA)
    assert (mira.done, mira.failed, mira.recent_done, mira.recent_failed) == (8, 4, 8, 2)


async def test_the_runs_of_a_hundred_kinds_are_kept_and_the_oldest_gives_way(
    stage: Stage,
) -> None:
    for i in range(103):
        await ran(stage, f"t{i}", MIRA, 1, kind=f"kind-{i}")

    kept = await stage.raw("HKEYS", "agents:runs:mira")

    names = {name.decode() for name in kept}
    assert len(names) == 101
    assert names >= {"*", "kind-3", "kind-102"}
    assert names.isdisjoint({"kind-0", "kind-1", "kind-2"})


async def test_what_was_learned_goes_with_the_agent_or_a_week_after_its_last_run(
    stage: Stage,
) -> None:
    await ran(stage, "t", MIRA, 1)
    assert 0 < await stage.raw("PTTL", "agents:runs:mira") <= 7 * 86_400_000

    await stage.call("agent_deregister", MIRA, "ann")
    await stage.call("agent_sweep", 100)

    assert await stage.key_names() & {"agent:mira", "agents:runs:mira"} == set()


FOREIGN = ("scheduler:decisions", "scheduler:counters", "agents:runs:mira")


@pytest.mark.parametrize("key", FOREIGN)
async def test_a_foreign_value_where_advice_is_kept_stops_no_work(
    stage: Stage, scheduler: Scheduler, key: str
) -> None:
    await stage.raw("SET", key, "not ours")
    await stage.wait_as(MIRA, wants=2)
    await stage.wait_as(NOOR, wants=2)

    await stage.submit("a", "b", "c", "d", "e")
    assert await stage.statuses("a", "b", "c", "d", "e") == ["assigned"] * 4 + ["pending"]
    hers = (await stage.claim(MIRA, 2)).tasks
    assert await stage.complete(hers[0].id, hers[0].fence) == "ok"
    assert await stage.fail(hers[1].id, hers[1].fence) == "retry_scheduled"
    (decision,) = await scheduler.assign("e", strategy="predictive", board=BOARD)
    assert decision.is_ok
    await stage.after(6)
    assert await stage.status("e") == "pending"

    assert await stage.raw("GET", key) == b"not ours"
    assert (await scheduler.load(BOARD)).strategy == "best_idle"


# The best idle agent


async def test_of_waiting_agents_the_one_that_is_quicker_with_the_kind_is_given_the_task(
    stage: Stage, scheduler: Scheduler
) -> None:
    for i in range(4):
        await ran(stage, f"m{i}", MIRA, 4)
        await ran(stage, f"n{i}", NOOR, 1)
        await ran(stage, f"o{i}", MIRA, 1, kind="other")
        await ran(stage, f"p{i}", NOOR, 4, kind="other")
    await stage.wait_as(MIRA, wants=2)
    await stage.wait_as(NOOR, wants=2)

    await stage.submit("t", spec("u", kind="other"))

    assert [(await stage.record(task)).holder for task in ("t", "u")] == [NOOR, MIRA]
    decision = await scheduler.why_this_agent("t", board=BOARD)
    assert decision is not None
    assert decision.reason == "waits for work; expected at 0.50 of the usual time"
    # (4 × 1000/2500 + 2 × .7) / 6 = .5, and (4 × 4000/2500 + 2 × .7) / 6 = 1.3
    scores = [(one.agent, one.score) for one in decision.candidates]
    assert scores == [(NOOR, -0.5), (MIRA, pytest.approx(-1.3, abs=1e-3))]


async def test_an_agent_that_fails_at_once_is_not_given_the_next_for_being_idle(
    stage: Stage,
) -> None:
    for i in range(3):
        await ran(stage, f"n{i}", NOOR, 20)
        await stage.submit(f"bad{i}")
        await stage.fail(f"bad{i}", await stage.held(f"bad{i}", MIRA), retryable=False)
    await stage.wait_as(MIRA)
    await stage.wait_as(NOOR)

    await stage.submit("t")

    assert (await stage.record("t")).holder == NOOR


async def test_the_only_one_that_waits_is_given_it_and_that_is_told(
    stage: Stage, scheduler: Scheduler
) -> None:
    await stage.wait_as(NOOR)

    await stage.submit("t", "u")

    assert await stage.statuses("t", "u") == ["assigned", "pending"]
    decision = await scheduler.why_this_agent("t", board=BOARD)
    assert decision is not None
    assert (decision.agent, decision.considered) == (NOOR, 1)
    assert decision.text == (
        "Agent 'noor', by best_idle: it is the only one that fits and waits for work."
    )
    assert await scheduler.why_this_agent("u", board=BOARD) is None


async def test_by_best_idle_only_who_waits_is_assigned_anything(
    stage: Stage, scheduler: Scheduler
) -> None:
    await stage.submit("t")

    (none,) = await scheduler.assign("t", board=BOARD)

    assert (none.status, none.reason) == ("no_agent", "no agent waits for work")
    assert await stage.status("t") == "pending"


# A board's strategy


async def test_a_boards_strategy_reserves_what_becomes_ready_at_once(
    stage: Stage, scheduler: Scheduler
) -> None:
    await crew(stage, 3)
    assert await scheduler.strategy(BOARD) == "best_idle"

    assert await scheduler.set_strategy("round-robin", board=BOARD, by="ann") == "round_robin"
    await stage.submit("a", "b", spec("c", delay=2), spec("d", "a"))
    assert await stage.statuses("a", "b", "c", "d") == [*["assigned"] * 2, "scheduled", "blocked"]
    await stage.after(3)
    await stage.complete("a", (await stage.claim("a000")).fences[0])

    assert await scheduler.strategy(BOARD) == "round_robin"
    holders = [(await stage.record(task)).holder for task in "bcd"]
    assert holders == ["a001", "a002", "a000"]
    assert (await scheduler.load(BOARD)).strategy == "round_robin"
    event = next(e for e in await stage.news() if e.type == "board:changed")
    (fact,) = event.facts
    assert (event.by, fact.state, fact.extra) == ("ann", "strategy", "round_robin")


async def test_where_nobody_has_room_a_task_waits_in_its_lane_and_is_taken_from_there(
    stage: Stage, scheduler: Scheduler
) -> None:
    await crew(stage, 2, limit=1)
    await scheduler.set_strategy("least_connections", board=BOARD)

    await stage.submit("a", "b", "c")

    assert await stage.statuses("a", "b", "c") == ["assigned", "assigned", "pending"]
    fence = (await stage.claim("a000")).fences[0]
    words, _, grant = await stage.step("a000", done=[("a", fence, "1")], limit=1)
    assert (words, grant.ids) == (["ok"], ["c"])


async def test_under_best_idle_again_tasks_wait_in_their_lanes(
    stage: Stage, scheduler: Scheduler
) -> None:
    await scheduler.set_strategy("random", board=BOARD)
    await scheduler.set_strategy("best_idle", board=BOARD)

    await stage.submit("t")

    assert await stage.status("t") == "pending"


async def test_what_is_not_taken_up_in_5_s_goes_to_its_lane_and_counts_against_the_agent(
    stage: Stage, scheduler: Scheduler
) -> None:
    await crew(stage, 2)
    await scheduler.set_strategy("round_robin", board=BOARD)
    await stage.submit("a")

    await stage.after(5.1)
    await stage.submit("b")
    await stage.submit("c")

    assert await stage.status("a") == "pending"
    assert [(await stage.record(task)).holder for task in ("b", "c")] == ["a001", "a001"]
    loads = await scheduler.load(BOARD)
    assert (loads.total_assignments, loads.failed_assignments) == (3, 1)
    assert loads.successful_assignments == 2
    assert loads.success_rate == pytest.approx(2 / 3)
    # Once it claims it is asked again.
    assert (await stage.claim("a000")).ids == ["a"]
    await stage.submit("d")
    assert (await stage.record("d")).holder == "a000"


async def test_an_agent_that_waits_is_rung_for_what_a_strategy_gives_it(
    stage: Stage, scheduler: Scheduler
) -> None:
    await crew(stage, 2)
    await stage.wait_as("a001", wants=1)
    await scheduler.set_strategy("consistent_hash", board=BOARD)

    await stage.submit_all(spec(f"t{i}", affinity_key="same") for i in range(2))

    holders = [(await stage.record(f"t{i}")).holder for i in range(2)]
    waiting = await stage.raw("ZCARD", f"tasks:{BOARD}:waiters")
    assert waiting == (0 if "a001" in holders else 1)


async def test_tasks_with_one_affinity_key_go_to_one_agent(
    stage: Stage, scheduler: Scheduler
) -> None:
    await crew(stage, 5, limit=1_000)
    await scheduler.set_strategy("consistent_hash", board=BOARD)
    await stage.submit_all(spec(f"fill{i}") for i in range(300))

    await stage.submit_all(spec(f"t{i}", affinity_key="repo-7") for i in range(5))

    assert len({(await stage.record(f"t{i}")).holder for i in range(5)}) == 1
    assert (await stage.task("t0")).affinity_key == "repo-7"


async def test_a_call_compares_200_000_pairs_and_leaves_the_other_tasks_in_their_lanes(
    stage: Stage, scheduler: Scheduler
) -> None:
    await crew(stage, 300, limit=1_000)
    await scheduler.set_strategy("random", board=BOARD)

    await stage.submit(*(spec(f"t{i}") for i in range(1_000)))

    counts = await stage.counts()
    assert (counts["assigned"], counts["pending"]) == (667, 333)


async def test_a_suggested_worker_comes_before_the_boards_strategy(
    stage: Stage, scheduler: Scheduler
) -> None:
    await scheduler.set_strategy("round_robin", board=BOARD)

    await stage.submit(spec("a", suggested_worker=NOOR), spec("b", suggested_worker=NOOR))

    assert [(await stage.record(task)).holder for task in "ab"] == [NOOR, NOOR]


# Assigning


async def test_without_ids_what_would_be_claimed_next_is_assigned(
    stage: Stage, scheduler: Scheduler
) -> None:
    await stage.submit(spec("low", priority=-5), spec("odd", kind="odd"), "next")
    await stage.submit(spec("urgent", priority=30))
    await stage.configure(pause_kind="odd")

    found = await scheduler.assign(most=2, strategy="round_robin", board=BOARD)
    rest = await scheduler.assign(most=9, strategy="round_robin", board=BOARD)

    assert [d.task for d in found + rest] == ["urgent", "next", "low"]


async def test_what_was_assigned_is_out_of_a_thiefs_reach_for_half_of_its_time(
    stage: Stage, scheduler: Scheduler
) -> None:
    await crew(stage, 2)
    await stage.submit("a", "b")
    scheduler.register("mine", Picks(lambda _: "a000"))
    await scheduler.assign("a", strategy="mine", board=BOARD, take_up=10)
    await scheduler.assign("b", strategy="mine", board=BOARD, take_up=10)

    await stage.advance(4.9)
    early = await stage.claim("a001")
    await stage.advance(0.2)
    late = await stage.claim("a001")

    assert (early.status, late.ids) == ("empty", ["b"])


async def test_more_than_a_thousand_ids_are_sent_in_several_calls(
    stage: Stage, scheduler: Scheduler
) -> None:
    ids = [f"t{i}" for i in range(1_005)]
    await stage.submit_all(spec(task) for task in ids)

    found = await scheduler.assign(*ids, strategy="round_robin", board=BOARD)

    assert [d.task for d in found] == ids
    assert all(d.is_ok for d in found)


@pytest.mark.parametrize(
    ("settings", "stolen"),
    [
        ({}, ["c", "d"]),
        ({"steal_most": 1}, ["d"]),
        ({"steal_most": 0}, []),
        ({"steal_threshold": 4}, ["c", "d"]),
        ({"steal_threshold": 5}, []),
    ],
    ids=str,
)
async def test_a_board_says_how_much_is_stolen_and_from_whom(
    stage: Stage, settings: dict[str, int], stolen: list[str]
) -> None:
    await crew(stage, 1)
    await stage.configure(strategy="least_connections", **settings)
    await stage.submit("a", "b", "c", "d")
    await stage.agent("thief", limit=9)

    grant = await stage.claim("thief", 9)

    assert sorted(grant.ids) == stolen
    assert await stage.statuses("a", "b") == ["assigned", "assigned"]


# One's own strategies


@pytest.mark.parametrize(
    "pick", [lambda _: 1 / 0, lambda _: "nobody", lambda _: 7], ids=["throws", "unknown", "number"]
)
async def test_a_strategy_that_fails_is_named_and_its_task_stays_where_it_was(
    stage: Stage, scheduler: Scheduler, pick: Callable[[Assignment], Any]
) -> None:
    scheduler.register("mine", Picks(lambda a: MIRA if a.task == "a" else pick(a)))
    await stage.submit("a", "b", "c")

    with pytest.raises(StrategyFailed, match="'mine'.*task b") as caught:
        await scheduler.assign("a", "b", "c", strategy="mine", board=BOARD)

    assert caught.value.details["task"] == "b"
    assert await stage.statuses("a", "b", "c") == ["assigned", "pending", "pending"]
    assert (await stage.claim(NOOR, 5)).ids == ["b", "c"]


async def test_a_strategy_that_wants_nobody_leaves_the_task(
    stage: Stage, scheduler: Scheduler
) -> None:
    scheduler.register("mine", Picks(lambda _: None))
    await stage.submit("t")

    (decision,) = await scheduler.assign("t", strategy="mine", board=BOARD)

    assert (decision.status, decision.considered) == ("no_agent", 2)
    assert decision.reason == "the strategy wants none of those with room"
    assert await stage.status("t") == "pending"


async def test_a_choice_that_was_overtaken_is_made_again_from_what_is_true_then(
    stage: Stage, scheduler: Scheduler
) -> None:
    await crew(stage, 2, limit=1)
    rival = Scheduler(stage.namespace)
    mine = Picks(lambda asked: asked.candidates[0].id)
    scheduler.register("mine", mine)
    await stage.submit("t", "other")
    original = stage.functions.call

    async def overtaken(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "task_reserve" and len(mine.asked) == 1:
            await rival.assign("other", strategy="least_connections", board=BOARD)
        return await original(name, *arguments, **more)

    stage.functions.call = overtaken  # type: ignore[method-assign]
    (decision,) = await scheduler.assign("t", strategy="mine", board=BOARD)

    assert [[c.id for c in asked.candidates] for asked in mine.asked] == [
        ["a000", "a001"],
        ["a001"],
    ]
    assert (decision.agent, (await stage.record("other")).holder) == ("a001", "a000")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("full", "agent_full"),
        ("drains", "agent_draining"),
        ("unfit", "does_not_fit"),
        ("gone", "agent_not_found"),
    ],
)
async def test_a_strategy_is_asked_ten_times_at_most(
    stage: Stage, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, how: str, reason: str
) -> None:
    await crew(stage, 1, limit=1)
    mine = Picks(lambda asked: asked.candidates[0].id)
    scheduler.register("mine", mine)
    await stage.submit("t", "other")
    seen = assignment_of(BOARD, "t", (await stage.call("task_candidates", BOARD, "t")).raw)
    if how == "full":
        await stage.held("other", "a000")
    elif how == "drains":
        await stage.call("agent_set_status", "a000", "draining", "ann", "")
    elif how == "unfit":
        await stage.agent("a000", kinds=["nothing"])
    else:
        await stage.raw("DEL", "agent:a000")
    # Whatever the engine says by now, the strategy sees what it saw at first.
    monkeypatch.setattr(services, "assignment_of", lambda *_: seen)
    original = stage.functions.call

    async def stale(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "task_candidates":
            return [b"ok", 0, b"ok", b"", [], []]
        return await original(name, *arguments, **more)

    stage.functions.call = stale  # type: ignore[method-assign]
    (decision,) = await scheduler.assign("t", strategy="mine", board=BOARD)

    assert len(mine.asked) == 10
    assert (decision.status, decision.agent) == ("changed", "")
    assert decision.reason.endswith(f"could not be given it any more: {reason}")
    assert await stage.status("t") == "pending"


async def test_many_that_choose_for_themselves_at_once_never_pass_the_room(
    stage: Stage,
) -> None:
    names = await crew(stage, 5, limit=4)
    await stage.submit_all(spec(f"t{i}") for i in range(30))

    async def one(number: int) -> list[Decision]:
        scheduler = Scheduler(stage.namespace)
        scheduler.register("mine", Picks(lambda asked: asked.candidates[0].id))
        ids = [f"t{i}" for i in range(number, 30, 5)]
        return await scheduler.assign(*ids, strategy="mine", board=BOARD)

    found = [d for batch in await asyncio.gather(*(one(n) for n in range(5))) for d in batch]

    reserved = [await stage.raw("ZCARD", f"reserved:{name}") for name in names]
    assert all(count <= 4 for count in reserved)
    assert sum(reserved) == sum(given(found).values())


# Decisions


async def test_decisions_are_told_newest_first_by_task_agent_and_board(
    stage: Stage, scheduler: Scheduler
) -> None:
    await stage.submit("a", "b", "c")
    for task in "abc":
        await scheduler.assign(task, strategy="round_robin", board=BOARD, by="ann")

    found = await scheduler.decisions()

    assert [(d.task, d.agent, d.by) for d in found] == [
        ("c", MIRA, "ann"),
        ("b", NOOR, "ann"),
        ("a", MIRA, "ann"),
    ]
    assert found[0].at.timestamp() == stage.now / 1e6
    assert [d.task for d in await scheduler.decisions(1, agent=MIRA)] == ["c"]
    assert [d.task for d in await scheduler.decisions(task="b")] == ["b"]
    assert await scheduler.decisions(board="other") == []


async def test_a_thousand_decisions_are_kept_with_at_most_32_candidates_each(
    stage: Stage, scheduler: Scheduler
) -> None:
    await crew(stage, 40, limit=1_000)
    await stage.submit_all(spec(f"t{i}") for i in range(1_400))

    await scheduler.assign(*(f"t{i}" for i in range(1_400)), strategy="random", board=BOARD)

    found = await scheduler.decisions(1_000)
    assert [d.task for d in found] == [f"t{i}" for i in range(1_399, 399, -1)]
    assert {len(d.candidates) for d in found} == {32}
    assert all(d.candidates[0].agent == d.agent and d.considered == 40 for d in found)
    assert await stage.raw("XLEN", "scheduler:decisions") <= 1_100
    assert (await scheduler.load(BOARD)).total_assignments == 1_400
