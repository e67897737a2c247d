"""Many processes at one board at once: each task to one of them, each outcome once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

import callboard
from callboard.domain.task import Status, TaskSpec
from tests.chaos.processes import Program
from tests.race.support import all_do, events_of, racing

PROCESSES = 20

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def racers(valkey_url: str) -> Iterator[list[Program]]:
    """Twenty processes that do what they are told, for all tests here."""
    names = [{"name": f"racer-{number}"} for number in range(PROCESSES)]
    with racing("racer", *names, url=valkey_url) as programs:
        yield programs


@pytest.fixture
async def cb(
    racers: list[Program], valkey_url: str, namespace: str
) -> AsyncIterator[callboard.Callboard]:
    """The test's own connection, to a namespace that all racers have opened."""
    async with callboard.connect(valkey_url, namespace=namespace) as cb:
        all_do(racers, do="open", namespace=namespace)
        yield cb
        all_do(racers, do="close")


async def facts_of(cb: callboard.Callboard, kind: str) -> list[tuple[str, int]]:
    """Task and fence of each fact of this type of event."""
    events = await events_of(cb)
    return [(fact.id, fact.fence) for event in events if event.type == kind for fact in event.facts]


async def test_twenty_processes_complete_each_of_5000_tasks_exactly_once(
    cb: callboard.Callboard, racers: list[Program]
) -> None:
    ids = {f"task-{number}" for number in range(5_000)}
    await cb.tasks.submit_many(TaskSpec(kind=f"k{int(task[5:]) % 7}", id=task) for task in ids)

    answers = all_do(racers, do="drain", most=20)
    accepted = [tuple(one) for answer in answers for one in answer]

    assert Counter(task for task, _ in accepted) == dict.fromkeys(ids, 1)
    assert sum(bool(answer) for answer in answers) > 1, "there was no race"
    assert sorted(await facts_of(cb, "task:completed")) == sorted(accepted)
    claimed = await facts_of(cb, "task:claimed")
    assert len({fence for _, fence in claimed}) == len(claimed) == 5_000
    counts = (await cb.boards.get("default")).counts
    assert (counts.done, counts.total, counts.held) == (5_000, 5_000, 0)
    everyone = [await cb.agents.get(f"racer-{number}") for number in range(PROCESSES)]
    assert sum(agent.held for agent in everyone) == 0


async def test_submitters_racing_with_the_same_ids_add_each_task_once(
    cb: callboard.Callboard, racers: list[Program]
) -> None:
    ids = [f"task-{number}" for number in range(1_000)]

    added = all_do(racers, do="submit", ids=ids)

    assert sum(added) == 1_000
    assert Counter(task for task, _ in await facts_of(cb, "task:created")) == dict.fromkeys(ids, 1)
    assert (await cb.boards.get("default")).counts.pending == 1_000


async def test_of_two_fences_only_the_newer_one_completes_and_only_once(
    cb: callboard.Callboard, racers: list[Program]
) -> None:
    await cb.tasks.submit_many(TaskSpec(kind="x", id=f"task-{number}") for number in range(50))
    await cb.agents.register("first", max_concurrent=50)
    await cb.agents.register("second", max_concurrent=50)
    old = {task.id: task.fence for task in (await cb.tasks.claim("first", limit=50)).tasks}
    await cb.tasks.release_many(list(old.items()))
    new = {task.id: task.fence for task in (await cb.tasks.claim("second", limit=50)).tasks}

    answers = all_do(racers, do="complete", claims=[*old.items(), *new.items()])

    said = Counter(
        (task, "new" if fence == new[task] else "old", status)
        for answer in answers
        for task, fence, status in answer
    )
    for task in new:
        assert said[task, "new", "ok"] == 1
        assert said[task, "new", "replayed"] == PROCESSES - 1
        assert said[task, "old", "lease_lost"] == PROCESSES
    assert sorted(await facts_of(cb, "task:completed")) == sorted(new.items())


async def test_twenty_processes_requeue_a_dead_letter_once(
    cb: callboard.Callboard, racers: list[Program]
) -> None:
    ids = [f"task-{number}" for number in range(20)]
    await cb.tasks.submit_many(TaskSpec(kind="x", id=task) for task in ids)
    await cb.agents.register("clumsy", max_concurrent=20)
    for claimed in (await cb.tasks.claim("clumsy", limit=20)).tasks:
        await cb.tasks.fail(claimed.id, fence=claimed.fence, error="broken", retryable=False)
    assert await cb.dead_letters.count() == 20

    answers = all_do(racers, do="retry", ids=ids)

    said = Counter((task, status) for answer in answers for task, status in answer)
    for task in ids:
        assert said[task, "ok"] == 1
        assert said[task, "illegal_state"] == PROCESSES - 1
    assert Counter(task for task, _ in await facts_of(cb, "task:revived")) == dict.fromkeys(ids, 1)
    assert await cb.dead_letters.count() == 0
    assert (await cb.boards.get("default")).counts.pending == 20


async def test_twenty_janitors_expire_each_lease_once(
    cb: callboard.Callboard, racers: list[Program]
) -> None:
    await cb.tasks.submit_many(TaskSpec(kind="x", id=f"task-{number}") for number in range(500))
    await cb.agents.register("gone", max_concurrent=500, heartbeat_interval=3_600)
    claims = await cb.tasks.claim("gone", instance="1", limit=500, lease=0.1)
    held = [(task.id, task.fence) for task in claims.tasks]
    assert len(held) == 500

    swept = all_do(racers, do="sweep")

    assert sum(swept) > 0
    assert sorted(await facts_of(cb, "task:lease_lost")) == sorted(held)
    found = [await cb.tasks.get(f"task-{number}") for number in range(0, 500, 25)]
    assert {(task.status, task.crashes) for task in found} == {(Status.PENDING, 1)}
    assert (await cb.boards.get("default")).counts.pending == 500


async def test_reservations_raced_by_thieves_go_to_one_of_them_and_none_is_lost(
    cb: callboard.Callboard, racers: list[Program]
) -> None:
    total = 1_200
    waiting, thieves, submitting = racers[:8], racers[8:17], racers[17:]
    for racer in waiting:
        racer.tell(do="wait_and_work", total=total)
    for racer in thieves:
        racer.tell(do="steal", total=total)

    for racer in submitting:
        racer.tell(do="trickle", prefix=f"from-{racer.pid}", count=total // len(submitting))
    for racer in submitting:
        racer.hear()
    accepted = [tuple(one) for racer in [*waiting, *thieves] for one in racer.hear(120)]

    created = [task for task, _ in await facts_of(cb, "task:created")]
    assert len(set(created)) == total
    assert Counter(task for task, _ in accepted) == dict.fromkeys(created, 1)
    assert sorted(await facts_of(cb, "task:completed")) == sorted(accepted)
    assert len(await facts_of(cb, "task:assigned")) > 0, "nothing was ever reserved"
    assert len(await facts_of(cb, "workstealing:request")) > 0, "nothing was ever stolen"
    counts = (await cb.boards.get("default")).counts
    assert (counts.done, counts.unfinished, counts.assigned) == (total, 0, 0)
