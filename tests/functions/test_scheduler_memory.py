"""What choices remember of agents: always what is true, and read again only where it changed."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from callboard.domain.record import Claimed
from callboard.domain.strategy import STRATEGIES, Decision
from callboard.domain.task import Requirements
from callboard.engine.library import Library, library
from callboard.services.scheduler import Scheduler
from tests.functions.support import BOARD, MIRA, NOOR, START_US, Stage, spec

pytestmark = pytest.mark.every_engine

THEIRS = "0123456789"
FLYING = Requirements(capabilities=("fly",))
HEALTHY = Requirements(capabilities=("fly",), min_health_score=0.9)


@pytest.fixture
def scheduler(stage: Stage) -> Scheduler:
    return Scheduler(stage.namespace)


async def decide(
    stage: Stage, scheduler: Scheduler, strategy: str = "least_connections", **fields: Any
) -> Decision:
    """One task of its own for those that fly, and who is given it."""
    fields.setdefault("requirements", FLYING)
    stage.now += 1_000
    task = f"t{stage.now - START_US}"
    await stage.submit(spec(task, **fields))
    (decision,) = await scheduler.assign(task, strategy=strategy, take_up=3_600, board=BOARD)
    return decision


async def commands(stage: Stage, act: Callable[[], Awaitable[Any]]) -> int:
    """How many commands the engine ran for it, functions' own included."""

    async def count() -> int:
        raw = (await stage.connection.call("INFO", "commandstats")).decode()
        lines = [line.partition("calls=")[2] for line in raw.splitlines() if "calls=" in line]
        return sum(int(line.partition(",")[0]) for line in lines)

    before = await count()
    await act()
    return await count() - before - 1


async def fly(stage: Stage, *names: str, limit: int = 100) -> None:
    for name in names:
        await stage.agent(name, capabilities=("fly",), limit=limit)


async def remembered(stage: Stage, scheduler: Scheduler) -> None:
    """Ann and bob have a task each, and nothing of ann changed since she was looked at."""
    await fly(stage, "ann", "bob")
    given = [(await decide(stage, scheduler)).agent for _ in range(2)]
    assert given == ["ann", "bob"]


async def full(stage: Stage, scheduler: Scheduler) -> list[Claimed]:
    """The only task of ann and that of bob: both have no room, and that was looked at."""
    await fly(stage, "ann", "bob", limit=1)
    given = [(await decide(stage, scheduler)).agent for _ in range(2)]
    assert given == ["ann", "bob"]
    tasks = [task for name in given for task in (await stage.claim(name)).tasks]
    assert [(await decide(stage, scheduler)).status for _ in range(2)] == ["no_agent"] * 2
    return tasks


async def heard(stage: Stage, name: str, load: str = "") -> None:
    await stage.call("agent_heartbeat", 1, name, "", load)


async def lose(stage: Stage, name: str, *others: str) -> None:
    for _ in range(4):
        await stage.advance(9)
        for other in (*others, MIRA, NOOR):
            await heard(stage, other)
        await stage.call("agent_sweep", 100)


Change = Callable[[Stage], Awaitable[Any]]
CHANGES: dict[str, Change] = {
    "its profile": lambda s: s.agent("ann", capabilities=("walk",), limit=100),
    "its capacity": lambda s: s.agent("ann", capabilities=("fly",), limit=1),
    "busy": lambda s: s.call("agent_set_status", "ann", "busy", "x", ""),
    "draining": lambda s: s.call("agent_set_status", "ann", "draining", "x", ""),
    "maintenance": lambda s: s.call("agent_set_status", "ann", "maintenance", "x", ""),
    "left": lambda s: s.call("agent_leave", "ann", ""),
    "deregistered": lambda s: s.call("agent_deregister", "ann", "x"),
    "lost": lambda s: lose(s, "ann", "bob"),
    "tasks held": lambda s: s.held("other", "ann"),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_the_next_choice_sees_what_changed_of_an_agent(
    stage: Stage, scheduler: Scheduler, name: str
) -> None:
    await stage.submit("other")
    await remembered(stage, scheduler)

    await CHANGES[name](stage)

    assert (await decide(stage, scheduler)).agent == "bob"


async def test_the_next_choice_sees_an_agent_that_came(stage: Stage, scheduler: Scheduler) -> None:
    await fly(stage, "ann")
    await decide(stage, scheduler)

    await fly(stage, "bob")

    assert (await decide(stage, scheduler)).agent == "bob"


async def test_an_agent_that_was_forgotten_and_comes_back_is_chosen_by_what_it_is_now(
    stage: Stage, scheduler: Scheduler
) -> None:
    await fly(stage, "ann", "bob", limit=10)
    await decide(stage, scheduler, "predictive")
    await stage.call("agent_deregister", "ann", "x")
    await stage.call("agent_sweep", 100)
    assert (await decide(stage, scheduler)).agent == "bob"

    await fly(stage, "ann", limit=1)

    given = [(await decide(stage, scheduler)).agent for _ in range(3)]
    assert given == ["ann", "bob", "bob"]


async def test_the_next_choice_sees_what_was_reported_by_a_heartbeat(
    stage: Stage, scheduler: Scheduler
) -> None:
    await remembered(stage, scheduler)

    await heard(stage, "ann", "cpu=0.5,memory=0.25")

    decision = await decide(stage, scheduler, "resource_based")
    assert {one.agent: one.score for one in decision.candidates} == {"bob": 100.0, "ann": 39.06}


async def test_the_next_choice_sees_health_where_the_task_asks_for_it(
    stage: Stage, scheduler: Scheduler
) -> None:
    await fly(stage, "ann", "bob")
    chosen = [(await decide(stage, scheduler, requirements=HEALTHY)).agent for _ in range(2)]
    assert chosen == ["ann", "bob"]

    await heard(stage, "ann", "cpu=0.95")
    await stage.advance(11)
    await heard(stage, "bob")
    await stage.call("agent_set_status", "ann", "active", "x", "")

    assert (await decide(stage, scheduler)).agent == "ann"
    decision = await decide(stage, scheduler, requirements=HEALTHY)
    assert (decision.agent, decision.considered) == ("bob", 1)


async def test_the_next_choice_sees_a_reservation_that_lapsed_and_a_claim_that_forgives_it(
    stage: Stage, scheduler: Scheduler
) -> None:
    await fly(stage, "ann", "bob")
    await scheduler.set_strategy("least_connections", board=BOARD)
    await stage.submit(spec("a", requirements=FLYING))
    assert (await stage.record("a")).holder == "ann"
    await stage.after(5.1)

    barred = [(await decide(stage, scheduler)).agent for _ in range(2)]
    await stage.claim("ann")
    forgiven = await decide(stage, scheduler)

    assert barred == ["bob", "bob"]
    assert forgiven.agent == "ann"


async def test_the_next_choice_sees_tasks_that_were_done_and_given_back(
    stage: Stage, scheduler: Scheduler
) -> None:
    mine, other = await full(stage, scheduler)

    await stage.complete(mine.id, mine.fence)
    after_done = await decide(stage, scheduler)
    await stage.each("task_release", (other.id, other.fence, 3_600_000, ""))
    after_release = await decide(stage, scheduler)

    assert after_done.agent == "ann"
    assert after_release.agent == "bob"


async def test_the_next_choice_sees_how_the_last_run_went(
    stage: Stage, scheduler: Scheduler
) -> None:
    await remembered(stage, scheduler)
    (task,) = (await stage.claim("ann")).tasks
    for _ in range(2):
        await decide(stage, scheduler, "predictive")
    await stage.advance(8)

    await stage.complete(task.id, task.fence)

    decision = await decide(stage, scheduler, "least_response_time")
    assert {one.agent: one.score for one in decision.candidates} == {"bob": 0.0, "ann": -8_002.0}


async def test_what_one_call_changes_counts_for_its_next_choice(
    stage: Stage, scheduler: Scheduler
) -> None:
    await fly(stage, "ann", "bob", limit=3)
    await decide(stage, scheduler)
    await stage.submit(*(spec(f"m{i}", requirements=FLYING) for i in range(8)))

    found = await scheduler.assign(
        *(f"m{i}" for i in range(8)), strategy="least_connections", board=BOARD
    )

    assert [one.agent for one in found] == ["bob", "ann", "bob", "ann", "bob", "", "", ""]


async def test_what_is_written_past_the_functions_never_makes_an_agent_take_more_than_its_room(
    stage: Stage, scheduler: Scheduler
) -> None:
    await fly(stage, "ann", "bob", limit=2)
    assert (await decide(stage, scheduler)).agent == "ann"
    held = stage.keys.prefix + "held:bob"
    await stage.connection.call("ZADD", held, 1, f"{BOARD}:x", 2, f"{BOARD}:y")

    decision = await decide(stage, scheduler)

    assert (decision.agent, decision.considered) == ("ann", 1)


async def test_a_namespace_that_was_flushed_and_made_again_remembers_nobody(
    stage: Stage, scheduler: Scheduler
) -> None:
    await fly(stage, "ann", "bob")
    await decide(stage, scheduler)
    keys = await stage.connection.call("KEYS", stage.keys.prefix + "*")
    await stage.connection.call("UNLINK", *keys)
    await stage.call("namespace_open", "replication", "incarnation2")

    assert (await decide(stage, scheduler)).status == "no_agent"
    await fly(stage, "bob")
    assert (await decide(stage, scheduler)).agent == "bob"


def other_release(name: str) -> Library:
    """The same functions under other names, with a memory of their own."""
    ours = library()
    old, new = ours.name.removeprefix("callboard_"), name
    text = ours.text.replace(old.encode(), new.encode())
    names = {key: value.replace(old, new) for key, value in ours.function_names.items()}
    return Library(ours.name.replace(old, new), text, ours.headers, names)


@pytest.fixture
async def theirs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """The same namespace, used by another release."""
    other = other_release(THEIRS)
    with monkeypatch.context() as patch:
        patch.setattr("callboard.engine.functions.library", lambda: other)
        stage_of_theirs = Stage(stage.connection, stage.name)
    assert other.name != library().name
    await stage.connection.call("FUNCTION", "LOAD", "REPLACE", other.text)
    yield stage_of_theirs
    await stage.connection.call("FUNCTION", "DELETE", other.name)


async def test_of_two_releases_one_sees_what_the_other_was_told_of_an_agents_load(
    stage: Stage, scheduler: Scheduler, theirs: Stage
) -> None:
    await remembered(stage, scheduler)
    theirs.now = stage.now

    await heard(theirs, "ann", "cpu=0.5,memory=0.25")  # no event, and no fence is taken

    decision = await decide(stage, scheduler, "resource_based")
    assert {one.agent: one.score for one in decision.candidates} == {"bob": 100.0, "ann": 39.06}


async def test_of_two_releases_one_sees_what_was_done_by_the_other(
    stage: Stage, scheduler: Scheduler, theirs: Stage
) -> None:
    mine, other = await full(stage, scheduler)
    theirs.now = stage.now

    await theirs.complete(mine.id, mine.fence)
    assert (await decide(stage, scheduler)).agent == "ann"
    theirs.now = stage.now
    await theirs.complete(other.id, other.fence)
    assert (await decide(theirs, Scheduler(theirs.namespace))).agent == "bob"


async def test_what_was_put_back_from_a_backup_is_what_the_next_choice_sees(
    stage: Stage, scheduler: Scheduler
) -> None:
    await fly(stage, "ann", limit=1)
    assert (await stage.call("task_submit", BOARD, 0, "tests", "")).status == "ok"
    names = await stage.connection.call("KEYS", stage.keys.prefix + "*")
    backup = [(name, await stage.connection.call("DUMP", name)) for name in names]
    given = [await decide(stage, scheduler) for _ in range(3)]
    assert [one.agent for one in given] == ["ann", "", ""]
    since = await stage.connection.call("KEYS", stage.keys.prefix + "*")
    await stage.connection.call("UNLINK", *since)
    for name, value in backup:
        await stage.connection.call("RESTORE", name, 0, value)

    assert (await decide(stage, scheduler)).agent == "ann"


async def test_a_library_that_was_loaded_anew_remembers_nobody_and_chooses_well(
    stage: Stage, scheduler: Scheduler
) -> None:
    await fly(stage, "ann", "bob")
    await decide(stage, scheduler)
    await stage.connection.call("FUNCTION", "LOAD", "REPLACE", library().text)

    assert (await decide(stage, scheduler)).agent == "bob"


@pytest.mark.parametrize("strategy", ["least_connections", "predictive", "hybrid", "round_robin"])
async def test_a_choice_among_many_reads_those_that_changed_and_no_others(
    stage: Stage, scheduler: Scheduler, strategy: str
) -> None:
    await asyncio.gather(*(stage.agent(f"a{i}", capabilities=("fly",)) for i in range(200)))
    await decide(stage, scheduler, strategy)

    alone = await commands(stage, lambda: decide(stage, scheduler, strategy))
    for i in range(10):
        await heard(stage, f"a{i}", "cpu=0.1")
    after = await commands(stage, lambda: decide(stage, scheduler, strategy))

    assert alone < 100
    assert after - alone <= 3 * 10


@pytest.mark.parametrize("strategy", [None, "least_connections"])
async def test_claims_and_completions_cost_no_more_once_agents_are_remembered(
    stage: Stage, scheduler: Scheduler, strategy: str | None
) -> None:
    await stage.submit_all(spec(f"w{i}") for i in range(3))

    async def work() -> None:
        (task,) = (await stage.claim(NOOR)).tasks
        await stage.complete(task.id, task.fence)

    await work()
    before = await commands(stage, work)
    if strategy:
        await fly(stage, "ann")
        await decide(stage, scheduler, strategy)

    assert await commands(stage, work) <= before


async def _beside(stage: Stage) -> Stage:
    """Another namespace, with the functions of this one."""
    beside = Stage(stage.connection, f"beside-{uuid.uuid4().hex[:8]}")
    beside.functions._library = stage.functions._library
    beside.functions._names = stage.functions._names
    await beside.call("namespace_open", "replication", "incarnation1")
    return beside


async def _something(stage: Stage, dice: random.Random) -> None:
    """One of the things that happen to agents, the same for the same dice."""
    name = f"a{dice.randrange(12):02}"
    match dice.randrange(7):
        case 0:
            await heard(stage, name, f"cpu={dice.random():.2f},memory={dice.random():.2f}")
        case 1:
            status = dice.choice(["active", "active", "active", "busy"])
            await stage.call("agent_set_status", name, status, "x", "")
        case 2:
            await fly(stage, name, limit=dice.randrange(1, 9))
        case 3:
            await stage.advance(dice.choice([0.3, 3]))
        case 4:
            await stage.claim(name, wait=dice.choice([0, 60]))
        case _:
            for task in (await stage.claim(name, 2)).tasks:
                await stage.advance(dice.random())
                if dice.random() < 0.7:
                    await stage.complete(task.id, task.fence)
                else:
                    await stage.each("task_release", (task.id, task.fence, 3_600_000, ""))


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "best_idle"])
async def test_choices_are_those_of_one_that_remembers_nothing(
    stage: Stage, scheduler: Scheduler, theirs: Stage, strategy: str
) -> None:
    # The same things happen in two namespaces; in the second each choice is the first that
    # its library ever makes.
    forgetful = await _beside(theirs)
    other = other_release(THEIRS)
    both = (stage, forgetful)
    for one in both:
        for i in range(12):
            await fly(one, f"a{i:02}", limit=1 + i % 4)
    decisions = []
    for turn in range(25):
        seed = f"{strategy} {turn}"
        for one in both:
            dice = random.Random(seed)
            for _ in range(3):
                await _something(one, dice)
        assert stage.now == forgetful.now
        await stage.connection.call("FUNCTION", "LOAD", "REPLACE", other.text)
        mine = await decide(stage, scheduler, strategy)
        plain = await decide(forgetful, Scheduler(forgetful.namespace), strategy)
        assert mine == plain
        decisions.append(mine)
    await forgetful.connection.call(
        "UNLINK", *await forgetful.connection.call("KEYS", forgetful.keys.prefix + "*")
    )
    assert len({one.agent for one in decisions}) > 3


async def test_of_equal_scores_the_documented_order_decides_by_what_is_true_now(
    stage: Stage, scheduler: Scheduler
) -> None:
    await fly(stage, "ann", limit=2)
    await fly(stage, "bob", limit=10)

    given = [(await decide(stage, scheduler)).agent for _ in range(5)]

    # The earlier one, who has fewer, the smaller share of its room, who has fewer, who has room.
    assert given == ["ann", "bob", "bob", "ann", "bob"]


async def test_of_equal_scores_who_waits_longer_by_now_is_chosen(
    stage: Stage, scheduler: Scheduler
) -> None:
    await fly(stage, "ann", "bob")
    await scheduler.set_strategy("predictive", board=BOARD)
    for task, agent in (("x1", "ann"), ("x2", "bob")):
        await stage.submit(spec(task, requirements=FLYING))
        assert (await stage.claim(agent)).ids == [task]
    await stage.wait_as("bob")
    await stage.advance(1)
    await stage.wait_as("ann")

    await stage.submit(spec("x3", requirements=FLYING))

    assert (await stage.record("x3")).holder == "bob"
