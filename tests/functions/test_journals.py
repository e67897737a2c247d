"""A board's journal: its own events, under the namespace's numbers, as long as it stands."""

from __future__ import annotations

import pytest

from callboard.domain.event import Event, Gap
from callboard.domain.task import at_ms
from callboard.exceptions import BoardClosed, BoardNotFound, BoardPaused, EngineError
from callboard.services.boards import Boards
from callboard.services.claims import Holding
from tests.functions.support import BOARD, MIRA, Stage, spec, types_of

pytestmark = pytest.mark.every_engine


async def journal(stage: Stage, board: str = BOARD, cursor: str | None = None) -> list[Event]:
    found, _ = await stage.events.read(cursor, board=board)
    assert not [event for event in found if isinstance(event, Gap)]
    return [event for event in found if isinstance(event, Event)]


async def test_a_journal_holds_the_same_events_as_the_stream_and_only_its_boards(
    stage: Stage,
) -> None:
    await stage.configure(journal=1)
    await stage.submit("elsewhere", board="other")
    await stage.submit("t", spec("next", "t"))
    await stage.submit("elsewhere2", board="other")
    await stage.complete("t", await stage.held("t"))

    kept = await journal(stage)

    assert types_of(kept) == ["task:created", "task:claimed", "task:completed", "task:ready"]
    assert kept == [event for event in await stage.news() if event.board == BOARD][2:]


async def test_boards_without_the_setting_have_no_journal(stage: Stage) -> None:
    await stage.submit("t")

    assert "tasks:b:journal" not in await stage.key_names()
    with pytest.raises(BoardNotFound, match="no board 'b' with a journal"):
        await stage.events.read(board=BOARD)


async def test_what_is_given_back_when_an_agent_goes_is_in_the_journal(stage: Stage) -> None:
    await stage.configure(journal=1)
    await stage.submit("t")
    await stage.held("t", instance="")

    await stage.call("agent_leave", MIRA, "")

    assert types_of(await journal(stage))[-1] == "task:released"


async def test_a_journal_outlives_the_retention_of_the_stream(stage: Stage) -> None:
    await stage.call("namespace_configure", "retain", "100")
    await stage.configure(journal=1)
    start = await stage.events.cursor(board=BOARD)
    for i in range(600):
        await stage.submit(f"t{i}")

    kept = await journal(stage, cursor=start)

    assert await stage.raw("XLEN", "events") < 400
    assert [event.facts[0].id for event in kept] == [f"t{i}" for i in range(600)]


async def test_a_cursor_in_the_journal_skips_other_boards_without_a_gap(stage: Stage) -> None:
    await stage.configure(journal=1)
    await stage.submit("a")
    cursor = (await journal(stage))[-1].cursor
    for i in range(5):
        await stage.submit(f"x{i}", board="other")
    await stage.submit("b")

    page, after = await stage.events.read(cursor, board=BOARD)

    assert [event.facts[0].id for event in page if isinstance(event, Event)] == ["b"]
    assert await journal(stage, cursor=after) == []


async def test_pages_of_a_journal_join_without_loss(stage: Stage) -> None:
    await stage.configure(journal=1)
    for i in range(7):
        await stage.submit(f"t{i}")
        await stage.submit(f"x{i}", board="other")
    found: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        page, cursor = await stage.events.read(cursor, board=BOARD, limit=2)
        found += [event.facts[0].id for event in page if isinstance(event, Event)]

    assert found == [f"t{i}" for i in range(7)]


async def test_a_trimmed_journal_tells_of_the_gap_only_to_whom_it_concerns(stage: Stage) -> None:
    await stage.configure(journal=1)
    for i in range(10):
        await stage.submit(f"t{i}")
    events = await journal(stage)
    await stage.raw("XTRIM", "tasks:b:journal", "MAXLEN", 4)

    behind, _ = await stage.events.read(events[1].cursor, board=BOARD)
    beyond, _ = await stage.events.read(events[6].cursor, board=BOARD)

    gap = behind[0]
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last, gap.reason) == (events[1].n + 1, events[6].n - 1, "retention")
    assert behind[1:] == events[6:]
    assert beyond == events[7:]


async def test_a_cursor_from_before_the_board_misses_nothing(stage: Stage) -> None:
    await stage.submit("elsewhere", board="other")
    cursor = await stage.events.cursor()
    await stage.submit("elsewhere2", board="other")
    await stage.configure(journal=1)
    await stage.submit("t")

    assert types_of(await journal(stage, cursor=cursor)) == ["task:created"]


async def test_a_cursor_from_elsewhere_behind_the_trimmed_entries_misses_nothing(
    stage: Stage,
) -> None:
    await stage.configure(journal=1)
    for i in range(6):
        await stage.submit(f"t{i}")
    await stage.submit("elsewhere", board="other")
    cursor = await stage.events.cursor()
    await stage.submit("elsewhere2", board="other")
    await stage.submit("t6")
    await stage.raw("XTRIM", "tasks:b:journal", "MAXLEN", 3)

    assert [e.facts[0].id for e in await journal(stage, cursor=cursor)] == ["t6"]


async def test_a_moment_is_found_in_a_journal(stage: Stage) -> None:
    await stage.configure(journal=1)
    for i in range(9):
        stage.now += 1_000_000
        await stage.submit(f"t{i}")
        await stage.submit(f"x{i}", board="other")
    moment = (await journal(stage))[6].at

    cursor = await stage.events.cursor_at(moment, board=BOARD)

    assert [e.facts[0].id for e in await journal(stage, cursor=cursor)] == ["t6", "t7", "t8"]
    later = at_ms(stage.now / 1_000 + 1)
    assert await journal(stage, cursor=await stage.events.cursor_at(later, board=BOARD)) == []


async def test_a_board_bell_rings_followers_of_the_journal_alone(stage: Stage) -> None:
    await stage.configure(journal=1)
    bells = await stage.connection.subscribe(stage.keys.board_bell(BOARD))
    await stage.submit("x", board="other")

    await stage.submit("t")

    channel, payload = await bells.get(10) or ("", b"")
    assert channel == stage.keys.board_bell(BOARD)
    assert int(payload) == (await journal(stage))[-1].n
    bells.close()


async def test_a_follower_of_a_journal_hears_what_comes(stage: Stage) -> None:
    await stage.configure(journal=1)
    await stage.submit("before")
    follower = stage.events.follow(
        await stage.events.cursor(board=BOARD), board=BOARD, types="task:created"
    )
    await stage.submit("t")

    event = await anext(follower)

    assert isinstance(event, Event)
    assert event.facts[0].id == "t"
    await stage.raw("DEL", "tasks:b:journal", f"{stage.keys.prefix}tasks:b:board")
    with pytest.raises(BoardNotFound):
        await anext(follower)


@pytest.mark.parametrize("name", ["start", "progress", "note", "complete"])
async def test_a_foreign_value_under_the_journals_name_changes_nothing(
    stage: Stage, name: str
) -> None:
    await stage.configure(journal=1)
    await stage.submit("t")
    fence = await stage.held("t")
    await stage.raw("DEL", "tasks:b:journal")
    await stage.raw("SET", "tasks:b:journal", "not ours")
    before = await stage.dump()
    acts = {
        "start": lambda: stage.start("t", fence),
        "progress": lambda: stage.progress("t", fence),
        "note": lambda: stage.note("t"),
        "complete": lambda: stage.complete("t", fence),
    }

    with pytest.raises(EngineError, match="wrong type"):
        await acts[name]()

    assert await stage.dump() == before


# Closed boards


async def test_a_closed_board_takes_no_new_task_and_gives_none_out(stage: Stage) -> None:
    await stage.submit("t", "held")
    fence = await stage.held("held")
    await stage.configure(closed=1)
    namespace = stage.namespace
    holding = Holding(namespace, BOARD)

    with pytest.raises(BoardPaused, match="the run that it belongs to has ended"):
        await holding.claim(MIRA)
    with pytest.raises(BoardPaused, match="the run that it belongs to has ended"):
        await holding.take("t", MIRA)
    with pytest.raises(BoardClosed, match="callboard runs retry b"):
        await holding.split("held", [spec("child")], fence=fence)
    assert (await stage.submit("new")).status == "board_closed"
    assert (await Boards(namespace).get(BOARD)).is_closed


async def test_on_a_closed_board_held_work_ends_and_a_submit_may_be_repeated(stage: Stage) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    await stage.configure(closed=1)

    assert (await stage.submit("t")).status == "ok"
    assert await stage.complete("t", fence) == "ok"


async def test_an_opened_board_goes_on_where_it_was(stage: Stage) -> None:
    await stage.submit("t")
    await stage.configure(closed=1)

    await stage.configure(closed="")

    assert (await stage.claim()).ids == ["t"]
    assert (await stage.submit("new")).status == "ok"
