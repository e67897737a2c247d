"""Many processes that choose agents, start and steal at once: one holder, never past the room."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

import callboard
from callboard.domain.task import Requirements, TaskSpec
from tests.chaos.processes import Program
from tests.race.support import all_do, each_does, racing

PROCESSES = 8

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def assigners(valkey_url: str) -> Iterator[list[Program]]:
    with racing("assigner", *[{}] * PROCESSES, url=valkey_url) as programs:
        yield programs


@pytest.fixture
async def cb(
    assigners: list[Program], valkey_url: str, namespace: str
) -> AsyncIterator[callboard.Callboard]:
    async with callboard.connect(valkey_url, namespace=namespace) as cb:
        all_do(assigners, do="open", namespace=namespace)
        yield cb
        all_do(assigners, do="close")


@pytest.mark.parametrize("strategy", ["least_connections", "round_robin", "fewest"])
async def test_eight_processes_give_a_hundred_agents_ten_of_a_thousand_tasks_each(
    cb: callboard.Callboard, assigners: list[Program], strategy: str
) -> None:
    names = [f"agent-{number}" for number in range(100)]
    for name in names:
        await cb.agents.register(name, max_concurrent=10)
    ids = [f"t{number}" for number in range(1_000)]
    await cb.tasks.submit_many(TaskSpec(kind="work", id=task) for task in ids)

    shares = [ids[number::PROCESSES] for number in range(PROCESSES)]
    one = {"do": "assign", "strategy": strategy, "at_once": 5 if strategy != "fewest" else 1_000}
    answers = each_does(assigners, [{**one, "ids": share} for share in shares])

    given = [tuple(row) for answer in answers for row in answer if row[2] == "ok"]
    if strategy == "fewest":  # It may be overtaken ten times over, and then says so.
        late = [task for answer in answers for task, _, status in answer if status == "changed"]
        (mine,) = each_does(assigners[:1], [{**one, "ids": late}])
        given += [tuple(row) for row in mine]
    assert Counter(status for _, _, status in given) == {"ok": 1_000}
    assert Counter(agent for _, agent, _ in given) == dict.fromkeys(names, 10)
    assert {agent: (await cb.agents.get(agent)).reserved for agent in names[:5]} == (
        dict.fromkeys(names[:5], 10)
    )


async def test_what_is_reserved_is_started_or_stolen_by_one_that_can_never_both_or_neither(
    cb: callboard.Callboard, assigners: list[Program]
) -> None:
    owners, thieves, unable = ["o1", "o2", "o3"], ["x1", "x2", "x3"], ["u1", "u2"]
    for name in owners:
        await cb.agents.register(name, capabilities=["fly"], max_concurrent=1_000)
    for name in thieves:
        await cb.agents.register(name, capabilities=["fly"], max_concurrent=1_000, status="busy")
    for name in unable:
        await cb.agents.register(name, max_concurrent=1_000)
    await cb.scheduler.set_strategy("round_robin")
    needs = Requirements(capabilities=("fly",))
    ids = [f"t{number}" for number in range(900)]
    await cb.tasks.submit_many(TaskSpec(kind="work", id=i, requirements=needs) for i in ids)
    assert (await cb.boards.get("default")).counts.assigned == 900

    agents = [*owners, *thieves, *unable]
    messages = [{"do": "claim", "agent": name, "calls": 150, "limit": 3} for name in agents]
    granted = dict(zip(agents, each_does(assigners, messages), strict=True))

    taken = Counter(task for tasks in granted.values() for task in tasks)
    assert set(taken.values()) == {1}
    assert [granted[name] for name in unable] == [[], []]
    assert all(granted[name] for name in owners), "the owners started nothing"
    assert any(granted[name] for name in thieves), "nothing was ever stolen"
    counts = (await cb.boards.get("default")).counts
    assert (counts.held, counts.held + counts.assigned + counts.pending) == (len(taken), 900)
    left = [await cb.tasks.get(task) for task in set(ids) - set(taken)]
    assert {task.agent for task in left} <= set(owners)
