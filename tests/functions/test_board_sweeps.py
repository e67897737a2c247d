"""When boards are swept: each second while they have work, seldom where nothing can be due."""

from __future__ import annotations

from typing import Any

import pytest

from callboard.domain.board import BoardSettings
from tests.functions.support import Stage, spec, types_of

pytestmark = pytest.mark.every_engine

DAY = 86_400


async def due(stage: Stage) -> list[str]:
    """The boards that a janitor would sweep now."""
    return (await stage.call("namespace_tick", 0, 0)).facts[1:]


async def finish(stage: Stage, task: str) -> None:
    await stage.complete(task, await stage.held(task))


async def test_a_board_with_unfinished_tasks_is_due_each_time(stage: Stage) -> None:
    await stage.submit("t")
    for seconds in (0, 1, 1):
        await stage.advance(seconds)
        assert await due(stage) == ["b"]
        await stage.sweep()


@pytest.mark.parametrize("end", ["done", "cancelled", "failed", "none"])
async def test_a_board_without_unfinished_tasks_is_due_after_a_minute(
    stage: Stage, end: str
) -> None:
    if end == "none":
        await stage.configure(limit=5)
    else:
        await stage.submit("t")
        if end == "cancelled":
            await stage.cancel("t")
        elif end == "failed":
            await stage.fail("t", await stage.held("t"), retryable=False)
        else:
            await finish(stage, "t")
    assert await due(stage) == ["b"]
    await stage.sweep()

    await stage.advance(59)
    assert await due(stage) == []
    await stage.advance(1)
    assert await due(stage) == ["b"]


async def submit_one(stage: Stage) -> None:
    await stage.submit(spec("late", deadline=None))


async def submit_dependent(stage: Stage) -> None:
    await stage.submit(spec("late", "unknown"))


async def retry_one(stage: Stage) -> None:
    await stage.retry("t")


async def configure(stage: Stage) -> None:
    await stage.configure(finished_for=1)


@pytest.mark.parametrize("what", [submit_one, submit_dependent, retry_one, configure])
async def test_what_may_make_something_due_wakes_the_board(stage: Stage, what: Any) -> None:
    await stage.submit("t")
    await stage.cancel("t")
    await stage.sweep()
    await stage.advance(2)
    assert await due(stage) == []

    await what(stage)

    assert await due(stage) == ["b"]


async def test_a_cascade_that_revives_tasks_wakes_the_board(stage: Stage) -> None:
    await stage.submit("root")
    await stage.submit_all(spec(f"t{i}", "root") for i in range(700))
    await stage.fail("root", await stage.held("root"), retryable=False)
    await stage.cascade()
    await stage.retry("root")
    await finish(stage, "root")
    for index in range(700):
        await stage.cancel(f"t{index}")
    await stage.call("board_sweep", "b", 200)
    assert await due(stage) == []

    await stage.cascade()

    assert await due(stage) == ["b"]


async def test_retention_makes_a_finished_board_due_in_its_time(stage: Stage) -> None:
    await stage.configure(finished_for=20_000)
    await stage.submit("t")
    await finish(stage, "t")
    await stage.sweep()

    await stage.advance(19)
    assert await due(stage) == []
    await stage.advance(1)
    assert await due(stage) == ["b"]
    await stage.sweep()
    assert await stage.status("t") == "gone"


async def test_of_many_boards_500_are_due_the_most_overdue_first(stage: Stage) -> None:
    for index in range(510):
        await stage.submit("t", board=f"b{index}")
        stage.now += 1_000

    first = await due(stage)
    assert first == [f"b{index}" for index in range(500)]
    for name in first[:50]:
        await stage.call("board_sweep", name, 10)

    assert (await due(stage))[:2] == ["b50", "b51"]
    assert "b509" in await due(stage)


async def test_boards_that_an_older_release_made_are_due(stage: Stage) -> None:
    await stage.submit("t")
    await stage.submit("t", board="c")
    await stage.sweep()
    await stage.raw("DEL", "boards:due")

    await due(stage)

    assert sorted(await due(stage)) == ["b", "c"]


# Boards that nobody needs any more


async def forget_all(stage: Stage) -> None:
    """Time passes until nothing is left of the board's tasks."""
    await stage.after(DAY + 60)
    await stage.after(7 * DAY + 60)
    assert await stage.counts() != {}


async def test_a_board_that_was_empty_for_a_week_is_removed(stage: Stage) -> None:
    await stage.submit("t")
    await finish(stage, "t")
    await forget_all(stage)
    await stage.after(7 * DAY)
    assert "tasks:b:board" in await stage.key_names()
    cursor = await stage.events.cursor()

    await stage.after(60)

    assert types_of(await stage.news(cursor)) == ["board:removed"]
    names = await stage.key_names()
    assert not {name for name in names if "boards" in name or name.startswith("tasks")}
    await stage.submit("t")
    assert await stage.status("t") == "pending"
    assert await due(stage) == ["b"]


@pytest.mark.parametrize(
    "settings", [{"limit": 5}, {"paused": 1}, {"pause_kind": "work"}, {"step": 1_000}]
)
async def test_a_board_that_somebody_configured_stays(
    stage: Stage, settings: dict[str, Any]
) -> None:
    await stage.configure(**settings)
    before = await stage.raw("HGETALL", "tasks:b:board")

    for _ in range(3):
        await stage.after(8 * DAY)

    after = await stage.raw("HGETALL", "tasks:b:board")
    assert set(before) <= set(after)


@pytest.mark.parametrize("use", ["task", "waiter"])
async def test_a_week_counts_from_the_last_use(stage: Stage, use: str) -> None:
    await stage.submit("t")
    await finish(stage, "t")
    await forget_all(stage)
    await stage.after(6 * DAY)
    if use == "task":
        await stage.submit("t2")
    else:
        await stage.wait_as("mira")
    await stage.sweep()

    await stage.after(DAY + 60)
    if use == "task":
        await finish(stage, "t2")

    assert "tasks:b:board" in await stage.key_names()
    await stage.after(6 * DAY)
    assert "tasks:b:board" in await stage.key_names()


def test_no_setting_is_taken_for_the_sweeps_own() -> None:
    own = {"idle", "empty_since", "failed_from", "created"}

    assert not own & set(BoardSettings.__struct_fields__)


@pytest.mark.parametrize(
    ("setting", "counted"),
    [({"paused": 1}, None), ({"paused_kinds": "work"}, None), ({"paused_kinds": "x"}, b"1")],
    ids=["board", "kind", "another kind"],
)
async def test_a_reservation_that_lapses_in_a_pause_is_not_held_against_the_agent(
    stage: Stage, setting: dict[str, Any], counted: bytes | None
) -> None:
    await stage.wait_as("mira")
    await stage.submit("t")
    assert await stage.status("t") == "assigned"
    assert await stage.configure(**setting) == "ok"

    await stage.after(6)

    assert await stage.status("t") == "pending"
    assert await stage.raw("HGET", "agent:mira", "lapsed") == counted
