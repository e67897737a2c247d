"""Events as the library offers them: every gap is told, and no cursor reads what is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import callboard
from callboard import Callboard
from callboard.domain.event import Event, Gap
from callboard.exceptions import InvalidArgument

pytestmark = pytest.mark.every_engine


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[Callboard]:
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        yield opened


async def test_what_is_trimmed_while_it_is_read_is_told_as_a_gap(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = await cb.events.cursor()
    incarnation, first = start.split(":")
    for number in range(3):
        await cb.tasks.submit("work", id=f"t{number}")
    last = int((await cb.events.cursor()).split(":")[1])
    call = cb.namespace.connection.call

    async def trimming(*command: Any, timeout: float | None = None) -> Any:
        if command[0] == "XRANGE" and command[2] != "-":
            await call("XTRIM", cb.namespace.keys.events, "MAXLEN", 1)
        return await call(*command, timeout=timeout)

    monkeypatch.setattr(cb.namespace.connection, "call", trimming)

    found, _ = await cb.events.read(start)

    gap, event = found
    assert gap == Gap(int(first) + 1, last - 1, f"{incarnation}:{last - 1}", "retention")
    assert isinstance(event, Event)
    assert event.n == last


async def test_a_stream_trimmed_to_nothing_is_told_as_a_gap(cb: Callboard) -> None:
    start = await cb.events.cursor()
    await cb.tasks.submit("work")
    end = await cb.events.cursor()
    await cb.namespace.connection.call("XTRIM", cb.namespace.keys.events, "MAXLEN", 0)

    found, cursor = await cb.events.read(start)
    again, _ = await cb.events.read(cursor)

    assert [(type(gap), gap.cursor) for gap in found] == [(Gap, end)]
    assert cursor == end
    assert again == []


async def test_a_cursor_ahead_of_the_stream_is_refused(cb: Callboard) -> None:
    await cb.tasks.submit("work")
    incarnation, last = (await cb.events.cursor()).split(":")

    with pytest.raises(InvalidArgument, match=f"ahead of the stream, .* newest event is {last}"):
        await cb.events.read(f"{incarnation}:{int(last) + 1}")


@pytest.mark.parametrize("types", ["task:complete", ["task:*", "task:complete"]])
async def test_a_type_that_no_event_has_is_refused(cb: Callboard, types: Any) -> None:
    """Whoever waited for it would wait for ever."""
    with pytest.raises(InvalidArgument, match="Did you mean task:completed"):
        await cb.events.read(types=types)
    with pytest.raises(InvalidArgument, match="Did you mean task:completed"):
        await anext(aiter(cb.events.follow(types=types)))


@pytest.mark.parametrize(
    "arguments", [{"cursor": 5}, {"cursor": "x"}, {"limit": "5"}, {"limit": 0}, {"limit": 1_001}]
)
async def test_wrong_arguments_are_refused(cb: Callboard, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        await cb.events.read(**arguments)
