"""Many processes at one context at once: whole states only, no update lost, one verdict."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import callboard
from tests.chaos.processes import Program
from tests.race.support import racing

PROCESSES = 5

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def sharers(valkey_url: str, namespace: str) -> Iterator[list[Program]]:
    """Five processes that do what they are told."""
    each = [{"namespace": namespace, "who": who} for who in range(PROCESSES)]
    with racing("sharer", *each, url=valkey_url) as programs:
        yield programs


async def test_readers_never_see_half_an_update(
    sharers: list[Program], cb: callboard.Callboard
) -> None:
    await cb.context.set("p", {f"field{n}": "start" for n in range(20)})
    writers, readers = sharers[:2], sharers[2:]

    for program in writers:
        program.tell(do="write", rounds=200)
    for program in readers:
        program.tell(do="read", rounds=200)
    found = [program.hear() for program in readers]
    for program in writers:
        assert program.hear() == 200

    assert [torn for torn, _ in found] == [0, 0, 0]
    assert all(seen > 1 for _, seen in found), "the readers met no writer"


async def test_no_update_by_revision_is_lost(
    sharers: list[Program], cb: callboard.Callboard
) -> None:
    await cb.context.set("p", {"n": 0})

    for program in sharers:
        program.tell(do="add", rounds=40)
    refused = sum(program.hear() for program in sharers)

    assert (await cb.context.get("p"))["n"] == PROCESSES * 40
    assert refused > 0, "they never met"


async def test_of_five_processes_that_decide_a_conflict_one_does(
    sharers: list[Program], cb: callboard.Callboard
) -> None:
    ids = []
    for n in range(30):
        parties = [callboard.Party(name=f"p{who}", value=who) for who in range(PROCESSES)]
        ids.append((await cb.conflicts.report("context", f"c{n}", parties, about="winner")).id)

    for program in sharers:
        program.tell(do="decide", ids=ids)
    decided = [program.hear() for program in sharers]

    assert sorted(conflict for mine in decided for conflict in mine) == sorted(ids)
    for who, mine in enumerate(decided):
        for conflict in mine:
            found = await cb.conflicts.get(conflict)
            assert found.resolution is not None
            assert found.resolution.winner == f"p{who}"
            assert (await cb.context.get(found.subject)).fields == {"winner": who}
    assert sum(bool(mine) for mine in decided) > 1, "one was always first"
