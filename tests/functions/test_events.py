"""The event stream: numbered without a gap, enough to rebuild the board, and the channels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callboard.domain.event import Event, Gap
from tests.functions.scenario import Life
from tests.functions.support import MIRA, NOOR, Stage, spec, types_of

pytestmark = pytest.mark.every_engine


def fold(states: dict[str, str], events: list[Event]) -> None:
    """Rebuild the statuses of a board from what its events say."""
    for event in events:
        for fact in event.facts:
            if not event.type.startswith("task:"):
                continue
            if event.type == "task:purged":
                states.pop(fact.id)
            else:
                states[fact.id] = fact.state


@pytest.mark.parametrize("seed", range(6))
async def test_the_events_rebuild_the_board_after_every_call(stage: Stage, seed: int) -> None:
    life = Life(stage, 100 + seed)
    rebuilt: dict[str, str] = {}
    cursor = await stage.events.cursor()
    last = int(cursor.split(":")[1])
    for step in range(200):
        await life.step()
        events = await stage.news(cursor)
        cursor = events[-1].cursor if events else cursor

        assert [event.n for event in events] == list(range(last + 1, last + 1 + len(events)))
        last += len(events)
        fold(rebuilt, events)
        real = {name: status.value for name, status in (await stage.all_states()).items()}
        assert rebuilt == real, (step, types_of(events))


async def test_a_call_makes_one_entry_a_kind_in_a_fixed_order(stage: Stage) -> None:
    await stage.submit("a", "b", "c", spec("d", "a"), spec("e", "b"))
    fences = [await stage.held(name) for name in "ab"]
    await stage.advance(29)
    await stage.held("c")
    cursor = await stage.events.cursor()

    await stage.step(NOOR, done=[("a", fences[0], "1"), ("b", fences[1], "1")], limit=2)

    events = await stage.news(cursor)
    assert types_of(events) == ["task:completed", "task:ready", "task:claimed"]
    assert [[fact.id for fact in event.facts] for event in events] == [
        ["a", "b"],
        ["d", "e"],
        ["d", "e"],
    ]


async def test_an_entry_tells_who_what_and_under_which_fence(stage: Stage) -> None:
    await stage.submit("t")
    cursor = await stage.events.cursor()
    fence = await stage.held("t", NOOR, instance="i9")

    event = (await stage.news(cursor))[0]

    assert (event.type, event.board, event.by) == ("task:claimed", "b", "noor/i9")
    fact = event.facts[0]
    assert (fact.id, fact.state, fact.holder, fact.fence) == ("t", "claimed", "noor/i9", fence)
    assert fact.extra == "1"


async def test_renewals_and_reads_are_no_events(stage: Stage) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    cursor = await stage.events.cursor()

    await stage.renew("t", fence)
    await stage.park("t", fence)
    await stage.status("t")
    await stage.claim()

    assert await stage.news(cursor) == []


async def test_a_reader_behind_the_retention_hears_of_the_gap(stage: Stage) -> None:
    cursor = await stage.events.cursor()
    await stage.call("namespace_configure", "retain", "100")
    for i in range(600):
        await stage.submit(f"t{i}")

    found, _ = await stage.events.read(cursor)

    gap = found[0]
    assert isinstance(gap, Gap)
    assert gap.reason == "retention"
    assert isinstance(found[1], Event)
    assert found[1].n == gap.last + 1


async def test_a_cursor_of_another_incarnation_hears_of_the_gap(stage: Stage) -> None:
    await stage.submit("t")
    cursor = await stage.events.cursor()
    assert (await stage.call("namespace_open", "another server", "incarnation2")).facts[2] == (
        "incarnation2"
    )

    found, _ = await stage.events.read(cursor)

    assert [gap.reason for gap in found if isinstance(gap, Gap)] == ["incarnation"]


async def test_the_incarnation_stays_while_the_server_does(stage: Stage) -> None:
    assert (await stage.call("namespace_open", "replication", "other")).facts[2] == "incarnation1"


# The documented channels


async def heard(stage: Stage, act: Any, *channels: str) -> list[tuple[str, Any]]:
    """What the channels carry while *act* runs."""
    names = [stage.keys.prefix + channel for channel in channels]
    bells = await stage.connection.subscribe_plain(*names)
    await act()
    await stage.connection.call("PUBLISH", names[0], '"end"')
    messages: list[tuple[str, Any]] = []
    while (bell := await bells.get(10)) is not None:
        channel, payload = bell
        value = json.loads(payload)
        if value == "end":
            break
        messages.append((channel.removeprefix(stage.keys.prefix), value))
    bells.close()
    return messages


CHANNELS = [
    "events:tasks:completed",
    "events:errors:retry_scheduled",
    "events:errors:retry_success",
    "events:errors:retry_exhausted",
]


async def one_of_each(stage: Stage) -> None:
    await stage.submit("t", "bad")
    await stage.fail("t", await stage.held("t"), unit=1)
    await stage.fail("bad", await stage.held("bad"), retryable=False)
    await stage.after(2)
    await stage.complete("t", await stage.held("t"), '{"answer": [42, []]}')


async def test_the_documented_channels_carry_the_documented_payloads(stage: Stage) -> None:
    messages = await heard(stage, lambda: one_of_each(stage), *CHANNELS)

    assert messages == [
        (
            "events:errors:retry_scheduled",
            {
                "type": "retry_scheduled",
                "taskId": "t",
                "attempt": 1,
                "delayMs": 1_000,
                "timestamp": "2027-01-15T08:00:00.000Z",
            },
        ),
        (
            "events:errors:retry_exhausted",
            {
                "type": "retry_exhausted",
                "taskId": "bad",
                "projectId": "b",
                "attempts": 1,
                "timestamp": "2027-01-15T08:00:00.000Z",
            },
        ),
        (
            "events:tasks:completed",
            {
                "projectId": "b",
                "taskId": "t",
                "agent": MIRA,
                "completedAt": "2027-01-15T08:00:02.000Z",
                "result": {"answer": [42, []]},
            },
        ),
        (
            "events:errors:retry_success",
            {
                "type": "retry_success",
                "taskId": "t",
                "attempt": 1,
                "timestamp": "2027-01-15T08:00:02.000Z",
            },
        ),
    ]


async def test_the_channels_can_be_switched_off(stage: Stage) -> None:
    await stage.call("namespace_configure", "channels", "0")

    assert await heard(stage, lambda: one_of_each(stage), *CHANNELS) == []


async def test_a_bell_tells_followers_that_there_is_news(stage: Stage) -> None:
    bells = await stage.connection.subscribe(stage.keys.events_bell)

    await stage.submit("t")

    channel, payload = await bells.get(10) or ("", b"")
    assert channel == stage.keys.events_bell
    assert int(payload) == (await stage.news())[-1].n
    bells.close()
