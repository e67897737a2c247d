"""What a holder tells as it works: an event, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from callboard.exceptions import InvalidArgument, LeaseLost, TaskNotFound, TooLarge
from callboard.services.claims import Holding
from tests.functions.support import BOARD, NOOR, STALE, Stage, changed

pytestmark = pytest.mark.every_engine


async def test_what_is_told_is_an_event_of_stream_and_journal_and_kept_nowhere_else(
    stage: Stage,
) -> None:
    await stage.configure(journal=1)
    await stage.submit("t")
    fence = await stage.held("t", NOOR, instance="i9")
    cursor = await stage.events.cursor()
    before = await stage.dump()

    await Holding(stage.namespace, BOARD).tell("t", fence=fence, what="token", value="a|b\n")

    (event,) = await stage.news(cursor)
    journal, _ = await stage.events.read(cursor, board=BOARD)
    assert journal == [event]
    assert event.type == "task:output"
    (fact,) = event.facts
    assert (fact.id, fact.state, fact.holder, fact.fence) == ("t", "claimed", "noor/i9", fence)
    assert fact.extra == 'token|"a|b\\n"'
    assert changed(before, await stage.dump()) == {"callboard:format", "events", "tasks:b:journal"}


async def test_json_in_lines_is_told_in_one(stage: Stage) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    cursor = await stage.events.cursor()
    holding = Holding(stage.namespace, BOARD)

    await holding.tell("t", fence=fence, what="log", value=msgspec.Raw(b'{\n"a":\n1}'))

    (event,) = await stage.news(cursor)
    assert [fact.extra for fact in event.facts] == ['log|{ "a": 1}']


async def test_a_stale_fence_tells_nothing(stage: Stage) -> None:
    await stage.submit("t")
    await stage.held("t")
    before = await stage.dump()
    holding = Holding(stage.namespace, BOARD)

    with pytest.raises(LeaseLost):
        await holding.tell("t", fence=STALE, what="tool", value="search")
    with pytest.raises(TaskNotFound):
        await holding.tell("gone", fence=STALE, what="tool", value="search")

    assert await stage.dump() == before


@pytest.mark.parametrize(
    ("what", "value", "error"),
    [
        ("token", "x" * 16_383, TooLarge),
        ("shout", "x", InvalidArgument),
        ("token", float("nan"), InvalidArgument),
    ],
    ids=["too large", "no such thing", "no JSON"],
)
async def test_what_cannot_be_told_is_refused(
    stage: Stage, what: Any, value: Any, error: type[Exception]
) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    cursor = await stage.events.cursor()

    with pytest.raises(error):
        await Holding(stage.namespace, BOARD).tell("t", fence=fence, what=what, value=value)

    assert await stage.news(cursor) == []
