"""What is left when all work is over and its retention has passed: a short list of keys."""

from __future__ import annotations

import pytest

from tests.functions.scenario import Life
from tests.functions.support import NOOR, Stage, spec

pytestmark = pytest.mark.every_engine

# Namespace and boards stand for ever, agents until they deregister, events and decisions by
# their count.
PERMANENT = {
    "callboard:format",
    "boards",
    "boards:due",
    "events",
    "tasks:b:board",
    "agent:mira",
    "agent:noor",
    "scheduler:decisions",
    "scheduler:counters",
}
DAY = 86_400


def is_of_the_roster(name: str) -> bool:
    return name.startswith("agents:")


def has_a_lifetime(name: str) -> bool:
    """What the engine itself deletes: remembered requests and operations, errors, metrics."""
    return name.startswith(("requests:", "operations:", "errors:", "metrics:", "lockreleased:"))


async def left(stage: Stage) -> set[str]:
    names = await stage.key_names()
    return {n for n in names if not is_of_the_roster(n) and not has_a_lifetime(n)} - PERMANENT


async def pass_retention(stage: Stage) -> None:
    """Finished tasks are kept a day, dead letters 30 days, outcomes 7 days more."""
    await stage.after(DAY + 1)
    await stage.after(30 * DAY)
    await stage.after(7 * DAY + 1)
    await stage.sweep()


@pytest.mark.parametrize("seed", range(8))
async def test_a_long_mixed_life_leaves_only_the_permanent_keys(stage: Stage, seed: int) -> None:
    life = Life(stage, seed)
    for _ in range(250):
        await life.step()
    await life.settle()
    assert await stage.all_states()

    await pass_retention(stage)

    assert await left(stage) == set()
    for name in await stage.key_names():
        if has_a_lifetime(name):
            assert await stage.raw("PTTL", name) > 0


async def test_purged_tasks_leave_only_id_and_outcome_for_a_week(stage: Stage) -> None:
    await stage.submit(
        spec("t", payload="x" * 40_000, unique="u", metadata=None), spec("next", "t"), "held"
    )
    fence = await stage.held("t")
    await stage.note("t")
    await stage.progress("t", fence)
    await stage.fail("t", fence, retryable=False)

    assert await stage.purge("t", "next") == ["ok", "ok"]

    held = {"tasks:b", "tasks:b:state", "tasks:b:heads", "tasks:b:lane:work;;;;"}
    outcomes = {"tasks:b:outcomes", "tasks:b:outcome_times"}
    assert await left(stage) == held | outcomes
    await stage.cancel("held")
    await stage.purge("held")
    await stage.after(7 * DAY - 60)
    assert await left(stage) == outcomes
    await stage.after(120)
    assert await left(stage) == set()


@pytest.mark.parametrize("policy", ["fail", "skip", "run"])
@pytest.mark.parametrize("given_up", [True, False])
async def test_a_reference_never_seen_leaves_nothing(
    stage: Stage, policy: str, given_up: bool
) -> None:
    if given_up:
        await stage.configure(unresolved_after=1_000)
    await stage.submit(spec("t", "nowhere", on_dependency_failure=policy))
    await stage.after(2)
    await stage.cancel("t")
    await stage.purge("t")

    await pass_retention(stage)

    assert await left(stage) == set()


@pytest.mark.parametrize("end", ["done", "failed"])
async def test_a_dependency_that_was_purged_before_leaves_nothing(stage: Stage, end: str) -> None:
    await stage.submit("root")
    fence = await stage.held("root")
    if end == "done":
        await stage.complete("root", fence)
    else:
        await stage.fail("root", fence, retryable=False)
    await stage.purge("root")
    await stage.submit(spec("t", "root"))
    await stage.cancel("t")

    await pass_retention(stage)

    assert await left(stage) == set()


async def test_finished_tasks_leave_by_count(stage: Stage) -> None:
    await stage.configure(finished_most=10)
    await stage.submit_all(spec(f"t{i}") for i in range(60))
    for task in (await stage.claim(limit=50)).tasks:
        stage.now += 1_000
        await stage.complete(task.id, task.fence)

    await stage.sweep(limit=7)

    counts = await stage.counts()
    assert (counts["done"], counts["pending"]) == (10, 10)
    assert sorted(await stage.all_states()) == sorted(f"t{i}" for i in range(40, 60))


async def test_dead_letters_do_not_hide_what_may_leave(stage: Stage) -> None:
    """Kept longer than other failed tasks, they stand before them in the order of time."""
    await stage.submit_all(spec(f"dead{i}") for i in range(50))
    for task in (await stage.claim(limit=50)).tasks:
        await stage.fail(task.id, task.fence, retryable=False)
    stage.now += 1_000
    await stage.submit("root", *(spec(f"t{i}", "root") for i in range(20)))
    await stage.cancel("root")
    await stage.advance(DAY + 1)

    for _ in range(20):
        await stage.sweep(limit=10)

    states = await stage.all_states()
    assert len(states) == 50
    assert all(name.startswith("dead") for name in states)
    await stage.advance(30 * DAY)
    for _ in range(20):
        await stage.sweep(limit=10)
    assert await stage.all_states() == {}


async def test_each_outcome_is_kept_for_a_week(stage: Stage) -> None:
    await stage.submit("a", "b")
    for name in "ab":
        await stage.cancel(name)
    await stage.purge("a")
    await stage.after(1)
    await stage.purge("b")

    assert await stage.raw("HLEN", "tasks:b:outcomes") == 2
    await stage.after(7 * DAY - 0.5)
    assert await stage.raw("HLEN", "tasks:b:outcomes") == 1
    await stage.after(1)
    assert await stage.raw("EXISTS", "tasks:b:outcomes") == 0


async def test_events_are_kept_by_count(stage: Stage) -> None:
    await stage.call("namespace_configure", "retain", "100")
    for i in range(600):
        await stage.submit(f"t{i}")

    assert await stage.raw("XLEN", "events") < 400
    assert (await stage.claim(NOOR)).ids == ["t0"]
