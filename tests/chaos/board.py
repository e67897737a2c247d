"""What a test looks at on the board while others work on it."""

from __future__ import annotations

from collections import Counter

import callboard
from callboard.domain.board import Counts
from callboard.domain.event import Event, Fact
from callboard.exceptions import EngineError
from tests.chaos.processes import PATIENCE
from tests.waiting import until


async def counts_of(cb: callboard.Callboard) -> Counts:
    return (await cb.boards.get("default")).counts


async def until_done(cb: callboard.Callboard, count: int, seconds: float = PATIENCE) -> None:
    """Wait until this many tasks are done."""

    async def is_done() -> bool:
        try:
            return (await counts_of(cb)).done >= count
        except EngineError:  # It was killed just now.
            return False

    await until(is_done, f"{count} tasks are done", seconds)


async def facts_of(cb: callboard.Callboard, *kinds: str) -> list[Fact]:
    """The facts of these types of event, and that no event is missing."""
    found: list[Fact] = []
    number, cursor = 0, None
    while True:
        entries, following = await cb.events.read(cursor)
        for entry in entries:
            assert isinstance(entry, Event), entry
            number += 1
            assert entry.n == number, "an event is missing"
            if entry.type in kinds:
                found += entry.facts
        if following == cursor:
            return found
        cursor = following


async def check_each_was_done_once(cb: callboard.Callboard, ids: list[str]) -> None:
    """Each of these has one accepted completion, and nothing else is left on the board."""
    completed = Counter(fact.id for fact in await facts_of(cb, "task:completed"))
    assert completed == dict.fromkeys(ids, 1)
    counts = await counts_of(cb)
    assert (counts.total, counts.done, counts.unfinished) == (len(ids), len(ids), 0)
