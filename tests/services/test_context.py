"""Contexts and conflicts as the janitor keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from callboard import Party, testing
from callboard.exceptions import ContextNotFound
from callboard.testing import ThrowawayBoard


@pytest.fixture
async def board() -> AsyncIterator[ThrowawayBoard]:
    async with testing.board() as throwaway:
        yield throwaway


async def test_a_context_goes_when_its_time_is_over(board: ThrowawayBoard) -> None:
    cb = board.cb
    await cb.context.set("p", {"n": 1}, ttl=60)

    await board.clock.advance(61)

    with pytest.raises(ContextNotFound):
        await cb.context.get("p")
    assert await cb.context.list() == []
    raw = await cb.namespace.connection.call("EXISTS", cb.namespace.keys.context("p"))
    assert raw == 0


async def test_a_ballot_is_counted_when_its_deadline_has_passed(board: ThrowawayBoard) -> None:
    cb = board.cb
    parties = [Party(name="a", value=1), Party(name="b", value=2)]
    conflict = await cb.conflicts.report("context", "p", parties, about="n")
    await cb.conflicts.open_vote(conflict.id, members=["m1", "m2", "m3"], deadline=60)
    await cb.conflicts.vote(conflict.id, "m1", "b")
    await cb.conflicts.vote(conflict.id, "m2", None)

    await board.clock.advance(61)

    assert (await cb.context.get("p")).fields == {"n": 2}
    assert (await cb.conflicts.history())[0].id == conflict.id
