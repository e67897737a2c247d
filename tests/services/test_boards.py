"""Boards: made by their first task or setting, counted from what holds the tasks, paused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import callboard
from callboard import BoardSettings, Callboard
from callboard.exceptions import AgentFull, BoardNotFound, BoardPaused, InvalidArgument, Refused

pytestmark = pytest.mark.every_engine


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[Callboard]:
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        await opened.agents.register("mira", max_concurrent=2)
        yield opened


async def test_a_board_that_nobody_made_is_not_found_by_name(cb: Callboard) -> None:
    with pytest.raises(BoardNotFound, match="'nowhere'.*first task"):
        await cb.boards.get("nowhere")
    with pytest.raises(BoardNotFound):
        await cb.boards.pause("nowhere")

    assert await cb.boards.list() == []


async def test_boards_are_listed_by_pages_oldest_first(cb: Callboard) -> None:
    for name in ("a", "b", "c"):
        await cb.board(name).tasks.submit("work")

    first = await cb.boards.list(limit=2)
    rest = await cb.boards.list(limit=2, skip=2)

    assert [[one.name for one in page] for page in (first, rest)] == [["a", "b"], ["c"]]
    with pytest.raises(InvalidArgument):
        await cb.boards.list(limit=1_001)


async def test_counts_say_where_each_task_stands(cb: Callboard) -> None:
    await cb.tasks.submit("work", id="a")
    await cb.tasks.submit("work", id="b", depends_on=["a"])
    await cb.tasks.submit("work", id="c", delay=60)
    await cb.tasks.submit("work", id="d")
    (first,) = (await cb.tasks.claim("mira")).tasks

    counts = (await cb.boards.get("default")).counts

    assert first.id == "a"
    assert (counts.total, counts.held, counts.blocked) == (4, 1, 1)
    assert (counts.scheduled, counts.pending, counts.unfinished) == (1, 1, 4)


async def test_nothing_is_claimed_from_a_paused_board_and_all_of_it_after(cb: Callboard) -> None:
    await cb.tasks.submit("work", id="a")
    await cb.boards.pause("default")

    with pytest.raises(BoardPaused, match="callboard boards resume default"):
        await cb.tasks.claim("mira")
    await cb.boards.resume("default")
    claims = await cb.tasks.claim("mira")

    assert [task.id for task in claims.tasks] == ["a"]


async def test_a_paused_kind_is_passed_over(cb: Callboard) -> None:
    await cb.tasks.submit("slow", id="a")
    await cb.tasks.submit("quick", id="b")
    await cb.boards.pause("default", kinds=["slow"])

    claims = await cb.tasks.claim("mira", limit=2)

    assert [task.id for task in claims.tasks] == ["b"]
    assert (await cb.tasks.why("a")).code == "kind_paused"


async def test_a_paused_namespace_lets_nothing_be_claimed(cb: Callboard) -> None:
    await cb.tasks.submit("work", id="a")
    await cb.boards.pause_all()

    with pytest.raises(BoardPaused):
        await cb.tasks.claim("mira")
    await cb.boards.resume_all()

    assert len((await cb.tasks.claim("mira")).tasks) == 1


async def test_settings_out_of_bounds_are_refused_and_named(cb: Callboard) -> None:
    with pytest.raises(InvalidArgument, match="limit is 0"):
        await cb.boards.configure("default", BoardSettings(limit=0))
    with pytest.raises(InvalidArgument, match="events_kept is 5"):
        await cb.boards.configure_namespace(events_kept=5)

    assert await cb.boards.list() == []


async def test_the_step_of_a_board_is_fixed_by_its_first_task(cb: Callboard) -> None:
    await cb.tasks.submit("work")

    with pytest.raises(Refused, match="60 s, which cannot be changed"):
        await cb.boards.configure("default", BoardSettings(step=1.0))
    other = await cb.boards.configure("other", BoardSettings(step=1.0, limit=10))

    assert (other.settings.step, other.settings.limit) == (1.0, 10)


async def test_channels_that_are_switched_off_are_silent(cb: Callboard) -> None:
    await cb.boards.configure_namespace(channels=False, grace=1.0, events_kept=5_000)
    subscription = await cb.namespace.connection.subscribe_plain(
        cb.namespace.keys.completed_channel()
    )
    await cb.tasks.submit("work", id="quiet")
    (quiet,) = (await cb.tasks.claim("mira")).tasks
    await cb.tasks.complete("quiet", fence=quiet.fence)
    await cb.boards.configure_namespace(channels=True)
    await cb.tasks.submit("work", id="loud")
    (loud,) = (await cb.tasks.claim("mira")).tasks
    await cb.tasks.complete("loud", fence=loud.fence)

    bell = await subscription.get(10)
    while bell is not None and not bell[1]:
        bell = await subscription.get(10)

    assert bell is not None
    assert b'"taskId":"loud"' in bell[1]


async def test_a_full_agent_is_told_so(cb: Callboard) -> None:
    for number in range(3):
        await cb.tasks.submit("work", number)
    await cb.tasks.claim("mira", limit=2)

    with pytest.raises(AgentFull, match="'mira' holds as many tasks"):
        await cb.tasks.claim("mira")


async def test_lanes_say_what_waits_by_kind(cb: Callboard) -> None:
    for number in range(3):
        await cb.tasks.submit("slow", id=f"s{number}")
    await cb.tasks.submit("quick", id="q")

    lanes = await cb.tasks.lanes(per_lane=2)

    assert [(lane.kind, lane.waiting, lane.next) for lane in lanes] == [
        ("slow", 3, ("s0", "s1")),
        ("quick", 1, ("q",)),
    ]
