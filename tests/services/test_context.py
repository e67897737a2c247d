"""Contexts and conflicts as the janitor keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from callboard import Party, testing
from callboard.exceptions import AlreadyResolved, ConflictBusy, ContextNotFound
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


async def test_a_write_that_names_its_fields_in_another_order_is_the_same(
    board: ThrowawayBoard,
) -> None:
    cb = board.cb
    first = await cb.context.set(
        "p",
        {"a": {"x": 1, "y": 2}, "b": 2},
        increment={"n": 1, "m": 5},
        remove=["c", "d"],
        request_id="r",
    )

    again = await cb.context.set(
        "p",
        {"b": 2, "a": {"y": 2, "x": 1}},
        increment={"m": 5, "n": 1},
        remove=["d", "c"],
        request_id="r",
    )
    other = await cb.context.set("p", {"a": {"x": 2, "y": 1}}, request_id="r")

    assert (first.sums, again) == ({"n": 1, "m": 5}, first)
    assert other.rev > first.rev
    assert (await cb.context.get("p")).fields["n"] == 1


async def test_what_a_conflict_is_told_differs_by_all_that_is_said(board: ThrowawayBoard) -> None:
    cb = board.cb
    parties = [Party(name=one, value=one) for one in ("a", "b")]
    for one in ("ballot", "verdict"):
        await cb.conflicts.report("context", "p", parties, about="n", id=one)
    rules: dict[str, Any] = {"members": ["m1", "m2"], "request_id": "r"}
    inputs = {"priorities": {"a": 2, "b": 1}}

    await cb.conflicts.open_vote("ballot", **rules)
    await cb.conflicts.open_vote("ballot", **{**rules, "members": ["m2", "m1"]})
    for said in ({"quorum": 1.0}, {"threshold": 0.9}, {"tie": "first"}, {"revisable": True}):
        with pytest.raises(ConflictBusy):
            await cb.conflicts.open_vote("ballot", **rules, **said)
    await cb.conflicts.resolve("verdict", inputs=inputs, request_id="r")
    turned = {"priorities": {"b": 1, "a": 2}}
    again = await cb.conflicts.resolve("verdict", inputs=turned, request_id="r")
    with pytest.raises(AlreadyResolved):
        await cb.conflicts.resolve(
            "verdict", inputs={"priorities": {"a": 1, "b": 2}}, request_id="r"
        )

    assert again.winner == "a"


async def test_a_referral_with_other_inputs_is_another(board: ThrowawayBoard) -> None:
    cb = board.cb
    await cb.conflicts.report("resource", "file:a", ["a", "b"], id="c-1")
    asked: dict[str, Any] = {"fallback": "priority", "request_id": "r"}
    for priorities in ({"a": 2, "b": 1}, {"b": 1, "a": 2}):
        await cb.conflicts.refer("c-1", "lena", inputs={"priorities": priorities}, **asked)

    with pytest.raises(ConflictBusy):
        await cb.conflicts.refer("c-1", "lena", inputs={"priorities": {"a": 1, "b": 2}}, **asked)


async def test_a_note_of_another_author_is_another(board: ThrowawayBoard) -> None:
    cb = board.cb
    await cb.tasks.submit("greet", id="t")

    for author in ("mira", "noor", "mira"):
        await cb.tasks.note("t", "seen", author=author, request_id="r")

    assert [one.author for one in await cb.tasks.notes("t")] == ["mira", "noor"]
