"""Removing a board: only where nothing is unfinished, and then all of it."""

from __future__ import annotations

import pytest

from callboard.exceptions import BoardNotFound, Refused
from callboard.services.boards import Boards
from tests.functions.scenario import Life
from tests.functions.support import BOARD, MIRA, Stage, changed, spec, types_of

pytestmark = pytest.mark.every_engine


async def names_of_the_board(stage: Stage) -> list[str]:
    return sorted(
        name
        for name in await stage.key_names()
        if name.startswith("tasks:b") or name.endswith((":b", "queue"))
    )


@pytest.mark.parametrize("seed", range(4))
async def test_after_a_long_mixed_life_nothing_of_the_board_is_left(
    stage: Stage, seed: int
) -> None:
    await stage.configure(journal=1, concurrency=4, claims_most=10_000, unresolved_after=1_000)
    life = Life(stage, 500 + seed)
    for _ in range(200):
        await life.step()
    await life.settle()

    await Boards(stage.namespace).remove(BOARD)

    assert await names_of_the_board(stage) == []
    assert await stage.raw("ZSCORE", "boards", BOARD) is None
    assert await stage.raw("ZSCORE", "boards:due", BOARD) is None


async def test_a_board_with_unfinished_tasks_stays_as_it_is(stage: Stage) -> None:
    await stage.submit("done", "open", "held")
    await stage.complete("done", await stage.held("done"))
    await stage.held("held")
    before = await stage.dump()

    with pytest.raises(Refused, match="2 unfinished tasks") as caught:
        await Boards(stage.namespace).remove(BOARD)

    assert caught.value.details["unfinished"] == 2
    assert changed(before, await stage.dump()) == set()


async def test_each_call_removes_no_more_than_it_may(stage: Stage) -> None:
    await stage.submit(*(f"t{i}" for i in range(7)))
    await stage.cancel("t0")
    for task in (await stage.claim(limit=7)).tasks:
        await stage.complete(task.id, task.fence)

    answers = []
    for _ in range(3):
        answers.append((await stage.call("board_remove", BOARD, "ann", 3)).facts)
        answers.append([str(len(await stage.all_states()))])
        assert "tasks:b:outcomes" not in await stage.key_names()
        assert "tasks:b:outcome_times" not in await stage.key_names()

    assert answers == [["more"], ["4"], ["more"], ["1"], [""], ["0"]]


async def test_a_removal_waits_for_dependents_that_have_yet_to_hear(stage: Stage) -> None:
    await stage.submit("root", *(spec(f"t{i}", "root") for i in range(700)))
    await stage.cancel("root")
    await stage.cascade()
    await stage.retry("root")
    await stage.submit("other", board="other")
    await stage.raw("RPUSH", "cascades", "b:root:0")
    for name in await stage.all_states():
        await stage.cancel(name)

    await Boards(stage.namespace).remove(BOARD)

    assert await names_of_the_board(stage) == []
    assert (await stage.call("board_read", "other")).status == "ok"


async def test_a_removal_is_told_and_the_name_begins_anew(stage: Stage) -> None:
    await stage.configure(journal=1)
    await stage.submit("t")
    await stage.complete("t", await stage.held("t"))
    bells = await stage.connection.subscribe(stage.keys.board_bell(BOARD))
    cursor = await stage.events.cursor()

    await Boards(stage.namespace).remove(BOARD, by="ann")

    events = await stage.news(cursor)
    assert types_of(events) == ["board:removed", "task:purged"]
    assert {event.by for event in events} == {"ann"}
    assert await bells.get(10) == (stage.keys.board_bell(BOARD), b"removed")
    bells.close()
    with pytest.raises(BoardNotFound):
        await stage.events.read(board=BOARD)
    assert (await stage.submit("t")).facts[0] == "c"
    assert await stage.status("t") == "pending"


async def test_a_board_that_is_not_there_is_not_removed(stage: Stage) -> None:
    with pytest.raises(BoardNotFound):
        await Boards(stage.namespace).remove(BOARD)


async def test_boards_with_a_journal_are_not_removed_for_being_empty(stage: Stage) -> None:
    await stage.configure(journal=1)
    await stage.submit("t")
    await stage.complete("t", await stage.held("t"))

    for _ in range(12):
        await stage.after(4 * 86_400)

    assert await stage.all_states() == {}
    assert await stage.raw("EXISTS", "tasks:b:journal") == 1
    assert await stage.raw("ZSCORE", "boards", BOARD) is not None


async def test_who_waits_at_a_board_that_is_not_there_is_forgotten_in_time(stage: Stage) -> None:
    await stage.agent(MIRA)
    await stage.claim(limit=5, wait=5, board="nowhere")
    assert 0 < int(await stage.raw("PTTL", "tasks:nowhere:waiters")) <= 65_000

    await stage.submit(spec("a", kind="other"), board="nowhere")

    assert int(await stage.raw("PTTL", "tasks:nowhere:waiters")) == -1
