"""Dispatch with very many agents: all have their turn, and no call reads too much."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from callboard.domain.task import Requirements
from callboard.engine.library import Library
from tests.functions.support import Stage, spec
from tests.functions.test_dispatch_functions import (
    URL,
    Bell,
    Round,
    dispatch,
    register_many,
    retire,
)
from tests.functions.test_scheduler_memory import commands, other_release

RARE = Requirements(capabilities=("rare",))
SMALL = {
    b"looked_at = 1000": b"looked_at = 10",
    b"dispatched_to = 20000": b"dispatched_to = 80",
    b"readings_most = 5000": b"readings_most = 25",
    b"namespaces_most = 256": b"namespaces_most = 2",
    b"grouped_most = 100000": b"grouped_most = 100",
}


def small_release() -> Library:
    """The same functions with bounds that a few agents reach."""
    other = other_release("5mall00000")
    text = other.text
    for usual, small in SMALL.items():
        assert text.count(usual) == 1
        text = text.replace(usual, small)
    return Library(other.name, text, other.headers, other.function_names)


@pytest.fixture
async def small(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A stage whose functions have small bounds."""
    release = small_release()
    monkeypatch.setattr("callboard.engine.functions.library", lambda: release)
    opened = Stage(stage.connection, stage.name)
    await stage.connection.call("FUNCTION", "LOAD", "REPLACE", release.text)
    await retire(opened)
    await opened.configure()
    yield opened
    await stage.connection.call("FUNCTION", "DELETE", release.name)


async def all_given(stage: Stage) -> list[Round]:
    rounds = [await dispatch(stage), await dispatch(stage)]
    while rounds[-1].more and len(rounds) < 20:
        rounds.append(await dispatch(stage))
    return rounds


async def test_of_six_thousand_agents_the_youngest_is_given_work(stage: Stage) -> None:
    await retire(stage)
    for start in range(0, 6_000, 500):
        await asyncio.gather(*(stage.agent(f"a{i}", push=URL) for i in range(start, start + 500)))
    await stage.agent("late", push=URL, capabilities=["rare"])
    await stage.submit(spec("t", requirements=RARE), "other")

    rounds = await all_given(stage)

    given = sum((one.pushed for one in rounds), Counter[str]())
    assert (given["late"], given.total()) == (1, 2)


@pytest.mark.every_engine
async def test_no_call_reads_more_agents_than_it_may_and_the_next_goes_on(small: Stage) -> None:
    await register_many(small, 60)
    await small.submit_all(spec(f"t{i}") for i in range(60))
    rounds: list[Round] = []

    async def look() -> None:
        rounds.append(await dispatch(small))

    read = await commands(small, look)
    assert (rounds[0].more, len(rounds[0].pushed)) == (False, 35)
    assert read < 700
    assert [(await dispatch(small)).more for _ in range(3)] == [True, True, False]
    await small.submit_all(spec(f"u{i}") for i in range(60))
    given = [one.pushed for one in await all_given(small)]

    assert sorted(sum(given, rounds[0].pushed).values()) == [2] * 60


@pytest.mark.every_engine
async def test_of_more_agents_than_are_looked_at_all_have_their_turn(small: Stage) -> None:
    await register_many(small, 100)
    await small.agent("late", push=URL, capabilities=["rare"])
    await small.submit(spec("t", requirements=RARE))
    assert sum(len(one.ids) for one in await all_given(small)) == 0
    seconds = 0

    while not sum(len(one.ids) for one in await all_given(small)) and seconds < 60:
        await small.after(5)
        seconds += 5

    assert seconds == 10
    assert (await small.record("t")).holder == "late"


@pytest.mark.every_engine
async def test_where_more_are_than_are_looked_at_a_task_that_nobody_seems_to_fit_rings(
    small: Stage,
) -> None:
    await register_many(small, 30)
    assert not await rings(small, "first")
    await asyncio.gather(*(small.agent(f"b{i:04}", push=URL) for i in range(60)))
    await all_given(small)

    assert await rings(small, "second")


async def rings(stage: Stage, task: str) -> bool:
    """Whether another task that nobody was found for rings."""
    await stage.submit(spec(f"{task}0", requirements=RARE))
    await all_given(stage)
    async with Bell(stage) as rung:
        await stage.submit(spec(f"{task}1", requirements=RARE))
        return await rung(0.05) is not None


@pytest.mark.every_engine
async def test_lanes_that_ask_for_health_are_served_by_the_healthy_however_many_there_are(
    stage: Stage,
) -> None:
    await retire(stage)
    await register_many(stage, 6)
    ill = [f"a{i:04}" for i in range(3)]
    for name in ill:
        await stage.connection.call(
            "HSET", f"{stage.keys.prefix}agent:{name}", "health_score", "0.5"
        )
    wanted = [Requirements(min_health_score=least) for least in (0.9, 0.4)]
    await stage.submit_all(
        spec(f"t{i}", kind=f"k{i}", requirements=wanted[i % 2]) for i in range(300)
    )

    given = [one.pushed for one in [await dispatch(stage, most=1_000, each=1_000)]]

    by_agent = sum(given, Counter[str]())
    assert by_agent.total() == 300
    assert sum(by_agent[name] for name in ill) > 0
    for name in ill:
        held = await stage.connection.call("ZRANGE", f"{stage.keys.prefix}held:{name}", 0, -1)
        assert {int(one.decode().removeprefix("b:t")) % 2 for one in held} <= {1}


@pytest.mark.every_engine
async def test_lists_of_healthy_agents_are_made_anew_once_they_are_too_many(small: Stage) -> None:
    await register_many(small, 20)
    wanted = [Requirements(min_health_score=(i + 1) / 100) for i in range(90)]
    await small.submit_all(spec(f"t{i}", requirements=one) for i, one in enumerate(wanted))

    rounds = await all_given(small)

    assert sum(len(one.ids) for one in rounds) == 90


@pytest.mark.every_engine
async def test_of_too_many_namespaces_the_one_that_chose_the_longest_ago_is_forgotten(
    small: Stage,
) -> None:
    opened = [small]
    for name in ("second", "third"):
        other = Stage(small.connection, f"{small.name}-{name}")
        await other.call("namespace_open", "replication", "incarnation1")
        await other.configure()
        opened.append(other)
    for one in opened:
        await register_many(one, 8)
    first, second, third = opened

    async def cost(stage: Stage) -> int:
        return await commands(stage, lambda: dispatch(stage))

    for one in (first, second, first, third):
        await dispatch(one)

    assert await cost(first) < 20
    assert await cost(third) < 20
    assert await cost(second) > 20
